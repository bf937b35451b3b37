//! S3, and stores that speak its protocol.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

use super::aws_files::{self, Profile};
use super::store::{client_options, no_retries, text};
use crate::credentials::Credentials;

/// Names that the endpoint is read by, the first that is set.
const ENDPOINT: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];

/// A bucket with the credentials and the endpoint that the AWS tools would use, or with those that
/// were given.
///
/// Of the environment, variables come first, then the profile's files. Without any, the machine's own role; with
/// `AWS_EC2_METADATA_DISABLED=true` there is no such role, and requests are not signed, which is
/// enough for public buckets.
pub(super) fn open(
    bucket: &str,
    credentials: &Credentials,
) -> Result<Arc<dyn ObjectStore>, String> {
    let profile = aws_files::profile(credentials);
    let variable = |name: &str| credentials.variable(name);
    let mut builder = match credentials.are_given() {
        false => AmazonS3Builder::from_env(),
        true => {
            let settings = credentials.settings::<AmazonS3ConfigKey>("AWS_", &ENDPOINT)?;
            settings.into_iter().fold(AmazonS3Builder::new(), |builder, (key, value)| {
                builder.with_config(key, value)
            })
        }
    };
    builder = builder.with_bucket_name(bucket).with_retry(no_retries());
    let mut client = client_options()?;
    let endpoint = endpoint_of(&profile, credentials);
    if variable("AWS_UNSIGNED_PAYLOAD").is_none() {
        builder = builder.with_unsigned_payload(is_guarded(endpoint.as_deref()));
    }
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
    if !named && !credentials.are_given() {
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

/// Whether TLS guards what is sent. Then a signature that covers it, too, would only take another SHA-256 of
/// every byte, here and at the store.
fn is_guarded(endpoint: Option<&str>) -> bool {
    endpoint.is_none_or(|endpoint| endpoint.starts_with("https://"))
}

/// The endpoint in place of Amazon's.
pub(super) fn endpoint(credentials: &Credentials) -> Option<String> {
    endpoint_of(&aws_files::profile(credentials), credentials)
}

fn endpoint_of(profile: &Profile, credentials: &Credentials) -> Option<String> {
    let named = ENDPOINT.iter().find_map(|name| credentials.variable(name));
    named.or_else(|| profile.endpoint_url.clone())
}

#[test]
fn what_goes_without_tls_is_signed() {
    assert!(is_guarded(None) && is_guarded(Some("https://s3.example.com")));
    assert!(!is_guarded(Some("http://minio:9000")) && !is_guarded(Some("minio:9000")));
}
