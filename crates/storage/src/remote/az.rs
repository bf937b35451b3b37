//! Azure Blob Storage.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::azure::MicrosoftAzureBuilder;

use super::store::{client_options, no_retries, text};
use super::variable;

/// A container of the account that the environment names, with any of Azure's credentials:
/// `AZURE_STORAGE_CONNECTION_STRING`, or `AZURE_STORAGE_ACCOUNT_NAME` with a key, a SAS token, a
/// client secret, a federated token or the machine's identity.
pub(super) fn open(container: &str) -> Result<Arc<dyn ObjectStore>, String> {
    let connection = ConnectionString::from_variable();
    if account(&connection).is_none() {
        return Err("the URI does not say which account; set AZURE_STORAGE_ACCOUNT_NAME or \
                    AZURE_STORAGE_CONNECTION_STRING"
            .to_owned());
    }
    let mut builder =
        MicrosoftAzureBuilder::from_env().with_container_name(container).with_retry(no_retries());
    if let Some(account) = account(&connection) {
        builder = builder.with_account(account);
    }
    if let Some(key) = connection.key {
        builder = builder.with_access_key(key);
    }
    if let Some(sas) = connection.sas {
        let token = object_store::azure::AzureConfigKey::SasKey;
        builder = builder.with_config(token, sas);
    }
    let mut client = client_options();
    if let Some(endpoint) = endpoint() {
        client = client.with_allow_http(endpoint.starts_with("http://"));
        builder = builder.with_endpoint(endpoint);
    }
    let store = builder.with_client_options(client).build().map_err(|error| text(&error))?;
    Ok(Arc::new(store))
}

/// The endpoint in place of the account's own, or else the account: either tells containers of one
/// name apart.
pub(super) fn identity() -> Option<String> {
    endpoint().or_else(|| account(&ConnectionString::from_variable()))
}

fn endpoint() -> Option<String> {
    variable("AZURE_STORAGE_ENDPOINT").or_else(|| ConnectionString::from_variable().endpoint)
}

fn account(connection: &ConnectionString) -> Option<String> {
    connection
        .account
        .clone()
        .or_else(|| variable("AZURE_STORAGE_ACCOUNT_NAME"))
        // The name that Azure's command line reads.
        .or_else(|| variable("AZURE_STORAGE_ACCOUNT"))
}

/// Parts of Azure's connection string. Not `Debug`: it holds secrets.
#[derive(Default)]
struct ConnectionString {
    account: Option<String>,
    key: Option<String>,
    sas: Option<String>,
    endpoint: Option<String>,
}

impl ConnectionString {
    fn from_variable() -> Self {
        variable("AZURE_STORAGE_CONNECTION_STRING").map(|it| Self::parse(&it)).unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in text.split(';').filter_map(|part| part.split_once('=')) {
            let field = match name.trim() {
                "AccountName" => &mut parsed.account,
                "AccountKey" => &mut parsed.key,
                "SharedAccessSignature" => &mut parsed.sas,
                "BlobEndpoint" => &mut parsed.endpoint,
                _ => continue,
            };
            *field = Some(value.trim().to_owned());
        }
        parsed.endpoint = parsed.endpoint.map(|it| it.trim_end_matches('/').to_owned());
        parsed
    }
}

#[test]
fn connection_strings() {
    let text = "DefaultEndpointsProtocol=http;AccountName=dev;AccountKey=a+b/c==;\
                BlobEndpoint=http://127.0.0.1:10000/dev/;";
    let parsed = ConnectionString::parse(text);
    assert_eq!(parsed.account.as_deref(), Some("dev"));
    assert_eq!(parsed.key.as_deref(), Some("a+b/c=="));
    assert_eq!(parsed.endpoint.as_deref(), Some("http://127.0.0.1:10000/dev"));
    assert!(parsed.sas.is_none());
}
