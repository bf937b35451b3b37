//! The listener over real connections, with a model on the built-in engine.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{HttpOptions, serve};
use crate::Server;
use crate::onnx::fixtures;
use crate::protocol::grpc::health_v1::{HealthCheckRequest, HealthCheckResponse};
use crate::server::ModelControl;

/// Longer than anything here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);

const BODY: &str =
    r#"{"id":"7","inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1.5,NaN]}]}"#;

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    _models: tempfile::TempDir,
}

impl Running {
    async fn start(options: HttpOptions) -> Self {
        let models = tempfile::tempdir().expect("a folder");
        let path = models.path().join("identity.onnx");
        std::fs::write(&path, fixtures::identity(fixtures::FLOAT)).expect("can be written");
        let server = Server::on_tract(vec![path], ModelControl::None).await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("is bound");
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(server, listener, options, stop.clone()));
        Self { address, stop, serving, _models: models }
    }

    async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.expect("connects");
        Client { stream, read: Vec::new() }
    }

    /// Tells the server to stop and waits for it.
    async fn stop(self) {
        self.stop.cancel();
        let served = tokio::time::timeout(PATIENCE, self.serving).await.expect("ends");
        served.expect("no panic").expect("no error");
    }
}

/// A client that sends exactly what it is told to.
struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("is JSON")
    }
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("sends");
    }

    async fn post(&mut self, path: &str, headers: &str, body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        self.send([head.as_bytes(), body].concat()).await;
        self.answer().await
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        self.answer().await
    }

    async fn answer(&mut self) -> Answer {
        loop {
            if let Some(answer) = self.parse() {
                return answer;
            }
            assert!(self.read_some().await > 0, "closed without an answer: {:?}", self.read);
        }
    }

    /// Waits until the server closes the connection; what it still sends is returned.
    async fn closed(mut self) -> Vec<u8> {
        while self.read_some().await > 0 {}
        self.read
    }

    async fn read_some(&mut self) -> usize {
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer));
        // A connection that is reset is closed as well.
        let count = read.await.expect("in time").unwrap_or(0);
        self.read.extend_from_slice(&buffer[..count]);
        count
    }

    fn parse(&mut self) -> Option<Answer> {
        let end = self.read.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&self.read[..end]).expect("text");
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status");
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            let name = HeaderName::from_bytes(name.as_bytes()).expect("valid");
            Some((name, HeaderValue::from_str(value).expect("valid")))
        };
        let headers: HeaderMap = lines.filter_map(header).collect();
        let length = headers
            .get("content-length")
            .map_or(0, |value| value.to_str().expect("text").parse::<usize>().expect("a length"));
        let body = self.read.get(end..end + length)?.to_vec();
        self.read.drain(..end + length);
        Some(Answer { status, headers, body })
    }
}

const INFER: &str = "/v2/models/identity/infer";

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let running = Running::start(HttpOptions::default()).await;
    let mut client = running.connect().await;
    for _ in 0..3 {
        let answer = client.post(INFER, "X-Request-Id: abc\r\n", BODY).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = String::from_utf8(answer.body.clone()).expect("text");
        let expected = concat!(
            r#"{"id":"7","model_name":"identity","model_version":"1","outputs":"#,
            r#"[{"name":"y","datatype":"FP32","shape":[1,2],"data":[1.5,NaN]}]}"#
        );
        assert_eq!(text, expected);
        assert_eq!(answer.header("x-request-id"), "abc");
        assert_eq!(answer.header("x-trainyard-batch-size"), "1");
        assert!(!answer.header("x-trainyard-queue-us").is_empty());
    }
    let health = client.get("/v2/health/ready").await;
    assert_eq!((health.status, &health.body[..]), (200, &br#"{"ready":true}"#[..]));
    assert_eq!(health.header("x-request-id").len(), 16);
    assert_eq!(client.get("/readyz").await.status, 200);
    assert_eq!(client.get("/health").await.status, 200);
    assert_eq!(client.get("/openapi.json").await.json()["openapi"], "3.1.0");

    let wrong = client.get(INFER).await;
    assert_eq!((wrong.status, wrong.json()["error"].as_str()), (405, Some("Method Not Allowed")));
    let nothing = client.get("/nothing").await;
    assert_eq!((nothing.status, nothing.json()["error"].as_str()), (404, Some("Not Found")));

    let metrics = client.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    let text = String::from_utf8(metrics.body).expect("text");
    let counted = format!(
        "trainyard_http_requests_total{{protocol=\"oip\",route=\"{}\",method=\"POST\",code=\"200\"}} 3",
        "/v2/models/{model}/infer"
    );
    assert!(text.contains(&counted), "{text}");
    assert!(text.contains("route=\"unmatched\""), "{text}");
    drop(client);
    running.stop().await;
}

#[tokio::test]
async fn binary_tensors_go_both_ways() {
    let running = Running::start(HttpOptions::default()).await;
    let mut client = running.connect().await;
    let floats: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let json = concat!(
        r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":"#,
        r#"{"binary_data_size":8}}],"parameters":{"binary_data_output":true}}"#
    );
    let length = format!("Inference-Header-Content-Length: {}\r\n", json.len());
    let body = [json.as_bytes(), &floats].concat();
    let answer = client.post(INFER, &length, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let length: usize = answer.header("inference-header-content-length").parse().expect("given");
    assert_eq!(answer.body[length..], floats);

    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&body).expect("compresses");
    let headers =
        format!("Inference-Header-Content-Length: {}\r\nContent-Encoding: gzip\r\n", json.len());
    let answer = client.post(INFER, &headers, encoder.finish().expect("compresses")).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let raw = client.post(INFER, "Inference-Header-Content-Length: 0\r\n", &floats).await;
    assert_eq!(raw.status, 200, "{raw:?}");
    let length: usize = raw.header("inference-header-content-length").parse().expect("given");
    assert_eq!(raw.body[length..], floats);

    let answer = client.post(INFER, "Content-Encoding: br\r\n", BODY).await;
    assert_eq!((answer.status, answer.header("accept-encoding")), (501, "gzip, deflate"));
    running.stop().await;
}

#[tokio::test]
async fn large_json_goes_both_ways() {
    let running = Running::start(HttpOptions::default()).await;
    let mut client = running.connect().await;
    let numbers: Vec<String> = (0..50_000).map(|number| format!("{number}.5")).collect();
    let data = numbers.join(",");
    let body = format!(
        r#"{{"inputs":[{{"name":"x","shape":[1,50000],"datatype":"FP32","data":[{data}]}}]}}"#
    );
    let answer = client.post(INFER, "", &body).await;
    assert_eq!(answer.status, 200);
    assert!(String::from_utf8(answer.body).expect("text").contains(&data), "the same numbers");
    let wrong = client.post(INFER, "", body.replace("49999.5", "x")).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.json()["error"].as_str().expect("text").contains("data[49999]"));
    let rows = format!(r#"{{"instances":[[{data}]]}}"#);
    let answer = client.post("/v1/models/identity:predict", "", &rows).await;
    assert_eq!(answer.status, 200);
    assert!(String::from_utf8(answer.body).expect("text").contains(&data), "the same numbers");
    running.stop().await;
}

#[tokio::test]
async fn bodies_that_are_too_large_are_refused() {
    let options = HttpOptions { max_body_bytes: 100, ..HttpOptions::default() };
    let running = Running::start(options).await;
    let mut declared = running.connect().await;
    declared.send(format!("POST {INFER} HTTP/1.1\r\nContent-Length: 2147483648\r\n\r\n")).await;
    let answer = declared.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (413, "close"));
    let said = answer.json()["error"].to_string();
    assert!(said.contains("2147483648"), "{said}");
    assert!(declared.closed().await.is_empty());

    let mut growing = running.connect().await;
    growing.send(format!("POST {INFER} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    for _ in 0..3 {
        growing.send([&b"28\r\n"[..], &[b' '; 40], b"\r\n"].concat()).await;
    }
    assert_eq!(growing.answer().await.status, 413);
    running.stop().await;
}

#[tokio::test]
async fn clients_that_keep_others_waiting_are_closed() {
    let short = Duration::from_millis(200);
    let options = HttpOptions {
        header_timeout: short,
        body_timeout: short,
        idle_timeout: short * 3,
        ..HttpOptions::default()
    };
    let running = Running::start(options).await;

    let mut slow_body = running.connect().await;
    slow_body.send(format!("POST {INFER} HTTP/1.1\r\nContent-Length: 9\r\n\r\n{{")).await;
    let answer = slow_body.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (408, "close"));

    let mut slow_head = running.connect().await;
    let began = Instant::now();
    slow_head.send("GET /v2/health/live HTT").await;
    assert!(slow_head.closed().await.is_empty());
    assert!(began.elapsed() >= short);

    let idle = running.connect().await;
    let mut used = running.connect().await;
    assert_eq!(used.get("/health").await.status, 200);
    let began = Instant::now();
    assert!(idle.closed().await.is_empty());
    assert!(used.closed().await.is_empty());
    assert!(began.elapsed() >= short * 2, "not at once");
    running.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let options = HttpOptions { max_connections: 1, ..HttpOptions::default() };
    let running = Running::start(options).await;
    let mut first = running.connect().await;
    assert_eq!(first.get("/health").await.status, 200);
    let mut second = running.connect().await;
    second.send("GET /health HTTP/1.1\r\n\r\n").await;
    let early = tokio::time::timeout(Duration::from_millis(200), second.answer()).await;
    assert!(early.is_err(), "the first holds the only place");
    drop(first);
    assert_eq!(second.answer().await.status, 200);
    drop(second);
    running.stop().await;
}

#[tokio::test]
async fn a_drain_finishes_what_has_begun_and_nothing_else() {
    let running = Running::start(HttpOptions::default()).await;
    let idle = running.connect().await;
    let mut used = running.connect().await;
    assert_eq!(used.get("/health").await.status, 200);
    // A request whose body is still on its way.
    let mut begun = running.connect().await;
    let (start, end) = BODY.split_at(20);
    let head = format!("POST {INFER} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", BODY.len());
    begun.send(format!("{head}{start}")).await;
    assert_eq!(running.connect().await.get("/health").await.status, 200, "the listener is awake");

    running.stop.cancel();
    assert!(idle.closed().await.is_empty());
    assert!(used.closed().await.is_empty());
    begun.send(end).await;
    let answer = begun.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, "close"), "{answer:?}");
    assert!(begun.closed().await.is_empty());
    let address = running.address;
    running.stop().await;
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn what_outlasts_the_drain_is_cut() {
    let options =
        HttpOptions { drain_timeout: Duration::from_millis(100), ..HttpOptions::default() };
    let running = Running::start(options).await;
    let mut begun = running.connect().await;
    begun.send(format!("POST {INFER} HTTP/1.1\r\nContent-Length: 9\r\n\r\n{{")).await;
    assert_eq!(running.connect().await.get("/health").await.status, 200);
    running.stop().await;
    assert!(begun.closed().await.is_empty());
}

#[tokio::test]
async fn grpc_shares_the_port() {
    let running = Running::start(HttpOptions::default()).await;
    let stream = TcpStream::connect(running.address).await.expect("connects");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("prior knowledge of HTTP/2");
    let driver = tokio::spawn(connection);
    let message = HealthCheckRequest::default().encode_to_vec();
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).expect("short").to_be_bytes());
    frame.extend_from_slice(&message);
    let uri = format!("http://{}/grpc.health.v1.Health/Check", running.address);
    let request = Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(frame)))
        .expect("valid");
    let response = sender.send_request(request).await.expect("answers");
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.expect("complete");
    assert_eq!(body.trailers().expect("given")["grpc-status"], "0");
    let bytes = body.to_bytes();
    let answer = HealthCheckResponse::decode(&bytes[5..]).expect("a message");
    assert_eq!(answer.status, 1, "serving");

    // REST over HTTP/2 on the same connection.
    let uri = format!("http://{}{INFER}", running.address);
    let request = Request::post(uri).body(Full::new(Bytes::from(BODY))).expect("valid");
    assert_eq!(sender.send_request(request).await.expect("answers").status(), 200);
    drop(sender);
    running.stop().await;
    driver.await.expect("no panic").expect("closed in order");
}

#[tokio::test]
async fn the_trace_hook_sees_each_request() {
    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let hook = |_: &tracing::Span, headers: &HeaderMap| {
        let parent = headers.get("traceparent").map(|value| value.to_str().expect("text"));
        SEEN.lock().expect("no panic").push(parent.unwrap_or_default().to_owned());
    };
    let running = Running::start(HttpOptions { trace: Some(hook), ..Default::default() }).await;
    let mut client = running.connect().await;
    client.post(INFER, "traceparent: 00-a-b-01\r\n", BODY).await;
    client.get("/health").await;
    assert_eq!(SEEN.lock().expect("no panic")[..], ["00-a-b-01", ""]);
    drop(client);
    running.stop().await;
}
