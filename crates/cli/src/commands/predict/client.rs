//! One question to the server.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use miette::miette;
use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;
use trainyard_api::model_service::path_segment;
use trainyard_telemetry::Secret;

use super::metadata::Metadata;
use super::wire::{self, Answer, HEADER, Request};
use crate::failure::failure;

/// Which model, and how to reach it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Without a slash at its end.
    pub(super) url: String,
    pub(super) model: String,
    pub(super) version: Option<String>,
    pub(super) api_key: Option<Secret>,
    pub(super) timeout: Duration,
}

impl Target {
    /// `/v2/models/NAME[/versions/VERSION]`
    pub(super) fn model_url(&self) -> String {
        let mut url = format!("{}/v2/models/{}", self.url, path_segment(&self.model));
        if let Some(version) = &self.version {
            url.push_str(&format!("/versions/{}", path_segment(version)));
        }
        url
    }

    pub(super) fn infer_url(&self) -> String {
        format!("{}/infer", self.model_url())
    }
}

pub(super) struct Client<'a> {
    target: &'a Target,
    http: reqwest::Client,
}

impl<'a> Client<'a> {
    pub(super) fn new(target: &'a Target) -> miette::Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(target.timeout)
            .user_agent(concat!("trainyard/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(failure)?;
        Ok(Self { target, http })
    }

    pub(super) async fn metadata(&self) -> miette::Result<Metadata> {
        let (_, body) = self.send(self.http.get(self.target.model_url())).await?;
        serde_json::from_slice(&body).map_err(|error| {
            miette!(
                help = "is this the address of a model server?",
                "{} does not answer with a model's metadata: {error}",
                self.target.model_url()
            )
        })
    }

    pub(super) async fn infer(&self, request: &Request) -> miette::Result<Answer> {
        let builder = self
            .http
            .post(self.target.infer_url())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(HEADER, request.json_bytes)
            .body(request.body.clone());
        let (json_bytes, body) = self.send(builder).await?;
        wire::decode(body, json_bytes)
            .map_err(|problem| miette!("the answer cannot be read: {problem}"))
    }

    /// The body of an answer with status 200, and the length of its JSON if it is binary.
    async fn send(&self, mut request: RequestBuilder) -> miette::Result<(Option<usize>, Bytes)> {
        if let Some(key) = &self.target.api_key {
            request = request.header(AUTHORIZATION, format!("Bearer {}", key.expose()));
        }
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let passes = response.headers().contains_key(RETRY_AFTER);
        let json_bytes =
            response.headers().get(HEADER).and_then(|it| it.to_str().ok()?.parse().ok());
        let body = response.bytes().await.map_err(|error| self.unreachable(error))?;
        if status == StatusCode::OK {
            Ok((json_bytes, body))
        } else {
            Err(refused(status, &body, passes))
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> miette::Report {
        let url = &self.target.url;
        if error.is_connect() {
            return miette!(
                help =
                    "start it with `trainyard up`, or say where it is with --url or TRAINYARD_URL",
                "no server answers at {url}"
            );
        }
        miette!("{url}: {}", failure(error.without_url()))
    }
}

/// The server's own words. `passes` says that it named a time to come back.
fn refused(status: StatusCode, body: &[u8], passes: bool) -> miette::Report {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let said = serde_json::from_slice::<Refusal>(body).map(|refusal| refusal.error);
    let said = said.unwrap_or_else(|_| {
        String::from_utf8_lossy(body).lines().next().unwrap_or_default().to_owned()
    });
    let help = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "give a key of this service with --api-key or TRAINYARD_API_KEY"
        }
        _ if passes => "try again in a moment",
        _ => return miette!("the server answered {status}: {said}"),
    };
    miette!(help = help, "the server answered {status}: {said}")
}

#[test]
fn urls() {
    let mut target = Target {
        url: "http://h".to_owned(),
        model: "my model/ä".to_owned(),
        version: None,
        api_key: None,
        timeout: Duration::ZERO,
    };
    assert_eq!(target.infer_url(), "http://h/v2/models/my%20model%2F%C3%A4/infer");
    target.version = Some("3".to_owned());
    assert!(target.model_url().ends_with("/versions/3"));
}
