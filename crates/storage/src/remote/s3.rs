//! S3, and stores that speak its protocol.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;

use super::aws_files::{self, Profile};
use super::store::{client_options, no_retries, text};
use super::variable;

/// A bucket with the credentials and the endpoint that the AWS tools would use.
///
/// Variables come first, then the profile's files. Without any, the machine's own role; with
/// `AWS_EC2_METADATA_DISABLED=true` there is no such role, and requests are not signed, which is
/// enough for public buckets.
pub(super) fn open(bucket: &str) -> Result<Arc<dyn ObjectStore>, String> {
    let profile = aws_files::profile();
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(no_retries());
    let mut client = client_options();
    let endpoint = endpoint_of(&profile);
    if let Some(endpoint) = &endpoint {
        // Stores that are not Amazon's have no names for buckets, and often no TLS.
        let virtual_hosts =
            variable("AWS_VIRTUAL_HOSTED_STYLE_REQUEST").is_some_and(|it| it == "true");
        builder = builder.with_endpoint(endpoint).with_virtual_hosted_style_request(virtual_hosts);
        client = client.with_allow_http(endpoint.starts_with("http://"));
    }
    builder = builder.with_client_options(client);
    if variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")).is_none()
        && let Some(region) = &profile.region
    {
        builder = builder.with_region(region);
    }
    let named = ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"]
        .into_iter()
        .chain(["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"])
        .any(|name| variable(name).is_some());
    if !named {
        match (&profile.access_key_id, &profile.secret_access_key) {
            (Some(id), Some(secret)) => {
                builder = builder.with_access_key_id(id).with_secret_access_key(secret.as_str());
                if let Some(token) = &profile.session_token {
                    builder = builder.with_token(token.as_str());
                }
            }
            _ if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|it| it == "true") => {
                builder = builder.with_skip_signature(true);
            }
            _ => {}
        }
    }
    Ok(Arc::new(builder.build().map_err(|error| text(&error))?))
}

/// The endpoint in place of Amazon's.
pub(super) fn endpoint() -> Option<String> {
    endpoint_of(&aws_files::profile())
}

fn endpoint_of(profile: &Profile) -> Option<String> {
    variable("AWS_ENDPOINT_URL_S3")
        .or_else(|| variable("AWS_ENDPOINT_URL"))
        .or_else(|| variable("AWS_ENDPOINT"))
        .or_else(|| profile.endpoint_url.clone())
}
