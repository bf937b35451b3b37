//! Google Cloud Storage.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

use super::store::{client_options, no_retries, text};
use crate::credentials::Credentials;

/// A bucket with Google's application default credentials, or `GOOGLE_SERVICE_ACCOUNT` (a file) or
/// `GOOGLE_SERVICE_ACCOUNT_KEY` (its content).
/// `STORAGE_EMULATOR_HOST` names another endpoint, as in Google's own clients; it gets no
/// credentials.
pub(super) fn open(
    bucket: &str,
    credentials: &Credentials,
) -> Result<Arc<dyn ObjectStore>, String> {
    let mut builder = match credentials.are_given() {
        false => GoogleCloudStorageBuilder::from_env(),
        true => {
            let settings = credentials.settings::<GoogleConfigKey>("GOOGLE_", &[])?;
            settings.into_iter().fold(GoogleCloudStorageBuilder::new(), |builder, (key, value)| {
                builder.with_config(key, value)
            })
        }
    };
    builder = builder.with_bucket_name(bucket).with_retry(no_retries());
    let mut client = client_options()?;
    if let Some(endpoint) = endpoint(credentials) {
        client = client.with_allow_http(endpoint.starts_with("http://"));
        builder = builder.with_base_url(&endpoint).with_skip_signature(true);
    }
    let store = builder.with_client_options(client).build().map_err(|error| text(&error))?;
    Ok(Arc::new(store))
}

pub(super) fn endpoint(credentials: &Credentials) -> Option<String> {
    let host = credentials.variable("STORAGE_EMULATOR_HOST")?;
    let url = if host.contains("://") { host } else { format!("http://{host}") };
    Some(url.trim_end_matches('/').to_owned())
}
