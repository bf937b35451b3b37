//! Against a small server on loopback that answers as the clouds' documentation says.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;

/// One request as it came: method, path, and the header that says who asks.
type Answers = Arc<Mutex<dyn FnMut(&str, &str, &hyper::HeaderMap) -> (u16, String) + Send>>;

/// Starts a metadata service; it ends with the runtime.
async fn service(
    answer: impl FnMut(&str, &str, &hyper::HeaderMap) -> (u16, String) + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let answers: Answers = Arc::new(Mutex::new(answer));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answers = answers.clone();
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let path = request.uri().path_and_query().map_or("", |path| path.as_str());
                let mut answer = answers.lock().unwrap();
                let (status, body) = answer(request.method().as_str(), path, request.headers());
                let mut response = Response::new(Full::new(Bytes::from(body)));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                std::future::ready(Ok::<_, Infallible>(response))
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

fn asker(metadata: SocketAddr) -> Asker {
    Asker { metadata, aws_token: None, azure_name: None }
}

fn no_such() -> (u16, String) {
    (404, "not found".to_owned())
}

fn is(headers: &hyper::HeaderMap, name: &str, value: &str) -> bool {
    headers.get(name).is_some_and(|header| header == value)
}

fn notice(cloud: &str, action: &str, at: Option<&str>) -> Look {
    let (cloud, action) = (cloud.to_owned(), action.to_owned());
    Look::Notice(Notice { cloud, action, at: at.map(str::to_owned) })
}

#[tokio::test]
async fn aws_with_its_token() {
    let mut tokens = 0;
    let mut looks = 0;
    let address = service(move |method, path, headers| match (method, path) {
        ("PUT", "/latest/api/token") => {
            assert!(headers.contains_key("x-aws-ec2-metadata-token-ttl-seconds"));
            tokens += 1;
            (200, format!("token-{tokens}"))
        }
        ("GET", "/latest/meta-data/spot/instance-action") => {
            looks += 1;
            match looks {
                1 => no_such(),
                // The first token expires.
                2 => (401, String::new()),
                _ if !is(headers, "x-aws-ec2-metadata-token", "token-2") => (401, String::new()),
                3 => no_such(),
                _ => (200, r#"{"action": "terminate", "time": "2026-09-18T08:22:00Z"}"#.to_owned()),
            }
        }
        _ => no_such(),
    })
    .await;
    let mut asker = asker(address);
    for _ in 0..3 {
        assert_eq!(aws::look(&mut asker).await, Look::Nothing);
    }
    let expected = notice("aws", "terminate", Some("2026-09-18T08:22:00Z"));
    assert_eq!(aws::look(&mut asker).await, expected);
}

#[tokio::test]
async fn gcp_with_its_header() {
    let mut looks = 0;
    let address = service(move |_, path, headers| {
        if path != "/computeMetadata/v1/instance/preempted"
            || !is(headers, "metadata-flavor", "Google")
        {
            return (403, String::new());
        }
        looks += 1;
        (200, if looks < 2 { "FALSE" } else { "TRUE" }.to_owned())
    })
    .await;
    let mut asker = asker(address);
    assert_eq!(gcp::look(&mut asker).await, Look::Nothing);
    assert_eq!(gcp::look(&mut asker).await, notice("gcp", "preempt", None));
}

#[tokio::test]
async fn azure_of_this_machine_only() {
    let mut looks = 0;
    let address = service(move |_, path, headers| {
        if !is(headers, "metadata", "true") {
            return (400, String::new());
        }
        if path.starts_with("/metadata/instance/compute/name?") {
            return (200, "spot_3".to_owned());
        }
        if path != "/metadata/scheduledevents?api-version=2020-07-01" {
            return no_such();
        }
        looks += 1;
        let event = |kind: &str, machine: &str| {
            format!(
                r#"{{"DocumentIncarnation": 1, "Events": [{{"EventId": "1", "EventType": "{kind}",
                "ResourceType": "VirtualMachine", "Resources": ["{machine}"],
                "EventStatus": "Scheduled", "NotBefore": "Mon, 19 Sep 2026 18:29:47 GMT"}}]}}"#
            )
        };
        let body = match looks {
            1 => r#"{"DocumentIncarnation": 0, "Events": []}"#.to_owned(),
            2 => event("Preempt", "spot_4"),
            3 => event("Freeze", "spot_3"),
            _ => event("Preempt", "spot_3"),
        };
        (200, body)
    })
    .await;
    let mut asker = asker(address);
    for _ in 0..3 {
        assert_eq!(azure::look(&mut asker).await, Look::Nothing);
    }
    let expected = notice("azure", "preempt", Some("Mon, 19 Sep 2026 18:29:47 GMT"));
    assert_eq!(azure::look(&mut asker).await, expected);
}

#[tokio::test]
async fn whichever_cloud_answers_is_asked_from_then_on() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let address = service(move |method, path, headers| {
        seen.lock().unwrap().push(format!("{method} {path}"));
        match path == "/computeMetadata/v1/instance/preempted"
            && is(headers, "metadata-flavor", "Google")
        {
            true => (200, "TRUE".to_owned()),
            false => no_such(),
        }
    })
    .await;
    let (tell, mut told) = watch::channel(None);
    look(Cloud::Any, address, tell).await;
    let notice = told.borrow_and_update().clone().unwrap();
    assert_eq!(notice.to_string(), "notice of gcp: preempt");
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked, ["PUT /latest/api/token", "GET /computeMetadata/v1/instance/preempted"]);
}

#[tokio::test]
async fn what_makes_no_sense_is_no_notice() {
    let address = service(|_, _, _| (200, "<html>welcome</html>".to_owned())).await;
    let mut one = asker(address);
    assert_eq!(aws::look(&mut one).await, Look::NoAnswer);
    assert_eq!(gcp::look(&mut one).await, Look::NoAnswer);
    assert_eq!(azure::look(&mut one).await, Look::NoAnswer);
    // Nobody listens.
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    assert_eq!(gcp::look(&mut asker(nobody)).await, Look::NoAnswer);
}
