//! Google Cloud Storage.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::gcp::GoogleCloudStorageBuilder;

use super::store::{client_options, no_retries, text};
use super::variable;

/// A bucket with Google's application default credentials, or `GOOGLE_SERVICE_ACCOUNT`.
/// `STORAGE_EMULATOR_HOST` names another endpoint, as in Google's own clients; it gets no
/// credentials.
pub(super) fn open(bucket: &str) -> Result<Arc<dyn ObjectStore>, String> {
    let mut builder =
        GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(no_retries());
    let mut client = client_options();
    if let Some(endpoint) = endpoint() {
        client = client.with_allow_http(endpoint.starts_with("http://"));
        builder = builder.with_base_url(&endpoint).with_skip_signature(true);
    }
    let store = builder.with_client_options(client).build().map_err(|error| text(&error))?;
    Ok(Arc::new(store))
}

pub(super) fn endpoint() -> Option<String> {
    let host = variable("STORAGE_EMULATOR_HOST")?;
    let url = if host.contains("://") { host } else { format!("http://{host}") };
    Some(url.trim_end_matches('/').to_owned())
}
