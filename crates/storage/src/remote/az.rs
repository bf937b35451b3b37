//! Azure Blob Storage.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::store::{client_options, no_retries, text};
use crate::credentials::Credentials;

/// Names that are read here.
const OURS: [&str; 2] = ["AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT"];

/// A container of the account that the environment or the given credentials name, with any of Azure's credentials:
/// `AZURE_STORAGE_CONNECTION_STRING`, or `AZURE_STORAGE_ACCOUNT_NAME` with a key, a SAS token, a
/// client secret, a federated token or the machine's identity.
pub(super) fn open(
    container: &str,
    credentials: &Credentials,
) -> Result<Arc<dyn ObjectStore>, String> {
    let connection = ConnectionString::from_variable(credentials);
    if account(&connection, credentials).is_none() {
        return Err("the URI does not say which account; set AZURE_STORAGE_ACCOUNT_NAME or \
                    AZURE_STORAGE_CONNECTION_STRING"
            .to_owned());
    }
    let mut builder = match credentials.are_given() {
        false => MicrosoftAzureBuilder::from_env(),
        true => {
            let settings = credentials.settings::<AzureConfigKey>("AZURE_", &OURS)?;
            settings.into_iter().fold(MicrosoftAzureBuilder::new(), |builder, (key, value)| {
                builder.with_config(key, value)
            })
        }
    };
    builder = builder.with_container_name(container).with_retry(no_retries());
    if let Some(account) = account(&connection, credentials) {
        builder = builder.with_account(account);
    }
    if let Some(key) = connection.key {
        builder = builder.with_access_key(key);
    }
    if let Some(sas) = connection.sas {
        builder = builder.with_config(AzureConfigKey::SasKey, sas);
    }
    let mut client = client_options()?;
    if let Some(endpoint) = endpoint(credentials) {
        client = client.with_allow_http(endpoint.starts_with("http://"));
        builder = builder.with_endpoint(endpoint);
    }
    let store = builder.with_client_options(client).build().map_err(|error| text(&error))?;
    Ok(Arc::new(store))
}

/// The endpoint in place of the account's own, or else the account: either tells containers of one
/// name apart.
pub(super) fn identity(credentials: &Credentials) -> Option<String> {
    let connection = || ConnectionString::from_variable(credentials);
    endpoint(credentials).or_else(|| account(&connection(), credentials))
}

fn endpoint(credentials: &Credentials) -> Option<String> {
    let named = credentials.variable("AZURE_STORAGE_ENDPOINT");
    named.or_else(|| ConnectionString::from_variable(credentials).endpoint)
}

fn account(connection: &ConnectionString, credentials: &Credentials) -> Option<String> {
    connection
        .account
        .clone()
        .or_else(|| credentials.variable("AZURE_STORAGE_ACCOUNT_NAME"))
        // The name that Azure's command line reads.
        .or_else(|| credentials.variable("AZURE_STORAGE_ACCOUNT"))
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
    fn from_variable(credentials: &Credentials) -> Self {
        let text = credentials.variable("AZURE_STORAGE_CONNECTION_STRING");
        text.map(|text| Self::parse(&text)).unwrap_or_default()
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
