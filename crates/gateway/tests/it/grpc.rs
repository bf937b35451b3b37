//! gRPC calls, with hyper's HTTP/2 as client and as replica.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::sync::CancellationToken;
use trainyard_gateway::table::Service;

use crate::replica::{Replica, ok};
use crate::support::{eventually, iris, quick, service, start, table};

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

type Frames = futures_util::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

fn framed(message: &[u8]) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
    bytes.extend_from_slice(message);
    bytes.into()
}

fn named(model: &str) -> Bytes {
    let mut message = vec![0x0a, model.len() as u8];
    message.extend_from_slice(model.as_bytes());
    framed(&message)
}

fn trailers(code: &'static str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse().unwrap());
    trailers.insert("x-own", "1".parse().unwrap());
    Frame::trailers(trailers)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    /// Each message back, as it comes, then trailers.
    Echo,
    /// Trailers only.
    Status(&'static str),
    /// A message, then the connection ends.
    BreakOff,
    Hang,
    /// No gRPC at all.
    Plain(u16),
}

#[derive(Clone)]
struct GrpcReplica {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<HeaderMap>>>,
    kill: CancellationToken,
}

impl GrpcReplica {
    async fn start(act: Act) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let replica = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            kill: CancellationToken::new(),
        };
        tokio::spawn({
            let replica = replica.clone();
            async move {
                loop {
                    let stream = tokio::select! {
                        accepted = listener.accept() => accepted.unwrap().0,
                        () = replica.kill.cancelled() => return,
                    };
                    let connection = replica.clone();
                    let kill = replica.kill.clone();
                    let service = hyper::service::service_fn(move |request| {
                        let replica = connection.clone();
                        async move { Ok::<_, Infallible>(replica.answer(request, act).await) }
                    });
                    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service);
                    tokio::spawn(kill.run_until_cancelled_owned(connection));
                }
            }
        });
        replica
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    async fn answer(&self, request: Request<Incoming>, act: Act) -> Response<StreamBody<Frames>> {
        self.seen.lock().unwrap().push(request.headers().clone());
        let mut response = Response::builder().header("content-type", "application/grpc");
        let (tx, rx) = tokio::sync::mpsc::channel(4);
        let mut body = request.into_body();
        match act {
            Act::Echo => {
                tokio::spawn(async move {
                    while let Some(Ok(frame)) = body.frame().await {
                        if tx.send(Ok(frame)).await.is_err() {
                            return;
                        }
                    }
                    let _ = tx.send(Ok(trailers("0"))).await;
                });
            }
            Act::Status(code) => response = response.header("grpc-status", code),
            Act::BreakOff => {
                let kill = self.kill.clone();
                tokio::spawn(async move {
                    let _ = tx.send(Ok(Frame::data(framed(b"part")))).await;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    kill.cancel();
                    std::future::pending::<()>().await;
                });
            }
            Act::Hang => std::future::pending().await,
            Act::Plain(status) => {
                response = Response::builder().status(status);
            }
        }
        let frames =
            futures_util::stream::unfold(rx, |mut rx| async { Some((rx.recv().await?, rx)) });
        let frames: Frames = Box::pin(frames);
        response.body(StreamBody::new(frames)).unwrap()
    }
}

struct Answer {
    headers: HeaderMap,
    status: u16,
    body: Bytes,
    trailers: HeaderMap,
}

impl Answer {
    fn code(&self) -> &str {
        let value = self.headers.get("grpc-status").or_else(|| self.trailers.get("grpc-status"));
        value.expect("no grpc-status").to_str().unwrap()
    }

    fn message(&self) -> String {
        let value = self.headers.get("grpc-message").or_else(|| self.trailers.get("grpc-message"));
        value.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }
}

async fn connect<B>(address: SocketAddr) -> hyper::client::conn::http2::SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

async fn call(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
    call_host(address, "gateway", path, headers, body).await
}

async fn call_host(
    address: SocketAddr,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Answer {
    let mut sender = connect(address).await;
    let mut request = Request::post(format!("http://{host}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::new(body)).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    Answer { headers: head.headers, status: head.status.as_u16(), body: body.to_bytes(), trailers }
}

#[tokio::test]
async fn calls_pass_with_their_trailers() {
    let replica = GrpcReplica::start(Act::Echo).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let answer =
        call(running.address, INFER, &[("x-a", "1"), ("grpc-timeout", "5S")], named("iris")).await;
    assert_eq!((answer.code(), answer.status, &answer.body), ("0", 200, &named("iris")));
    assert_eq!(answer.trailers["x-own"], "1");
    let seen = replica.seen.lock().unwrap()[0].clone();
    assert_eq!((seen["x-a"].as_bytes(), seen["te"].as_bytes()), (&b"1"[..], &b"trailers"[..]));
    assert_eq!(seen["x-forwarded-for"], "127.0.0.1");
    let left = seen["grpc-timeout"].to_str().unwrap();
    let micros: u64 = left.strip_suffix('u').unwrap().parse().unwrap();
    assert!((4_000_000..5_000_000).contains(&micros), "{left}");
    let seen = running.gateway.observe_revision("iris", "r1").unwrap();
    assert_eq!((seen.requests, seen.failures), (1, 0));
    eventually("counted out", || running.gateway.observe("iris").unwrap().in_flight == 0).await;
}

#[tokio::test]
async fn tensorflow_serving_calls_are_routed_by_model_spec() {
    let (a, b) = (GrpcReplica::start(Act::Echo).await, GrpcReplica::start(Act::Echo).await);
    let both = [("a", service("a", &[a.address])), ("b", service("b", &[b.address]))];
    let running = start(quick(), &table(both)).await;
    let spec = framed(b"\x0a\x03\x0a\x01b\x12\x00");
    let path = "/tensorflow.serving.PredictionService/Predict";
    assert_eq!(call(running.address, path, &[], spec).await.code(), "0");
    assert_eq!((a.count(), b.count()), (0, 1));
    let unknown = call(running.address, path, &[], framed(b"\x0a\x06\x0a\x04half")).await;
    assert_eq!(unknown.code(), "5");
    assert_eq!(unknown.message(), "Servable not found for request: Latest(half)");
}

#[tokio::test]
async fn the_authority_tells_services_with_the_same_model_apart() {
    let (a, b) = (GrpcReplica::start(Act::Echo).await, GrpcReplica::start(Act::Echo).await);
    let hosted = |host: &str, replica: &GrpcReplica| Service {
        hosts: vec![host.to_owned()],
        ..service("iris", &[replica.address])
    };
    let both = [("a", hosted("iris.a", &a)), ("b", hosted("iris.b", &b))];
    let running = start(quick(), &table(both)).await;
    let answer = call_host(running.address, "iris.b:80", INFER, &[], named("iris")).await;
    assert_eq!(answer.code(), "0");
    assert_eq!((a.count(), b.count()), (0, 1));
    let answer = call(running.address, INFER, &[], named("iris")).await;
    assert_eq!(answer.code(), "5");
    assert!(answer.message().contains("iris.a, iris.b"), "{}", answer.message());
}

#[tokio::test]
async fn streams_run_in_both_directions_at_once() {
    let replica = GrpcReplica::start(Act::Echo).await;
    let other = GrpcReplica::start(Act::Echo).await;
    let both =
        [("iris", service("iris", &[replica.address])), ("b", service("b", &[other.address]))];
    let running = start(quick(), &table(both)).await;
    let (tx, rx) = tokio::sync::mpsc::channel::<Bytes>(4);
    let frames = futures_util::stream::unfold(rx, |mut rx| async {
        Some((Ok::<_, Infallible>(Frame::data(rx.recv().await?)), rx))
    });
    let frames: Frames = Box::pin(frames);
    let mut sender = connect(running.address).await;
    let request = Request::post("http://g/inference.GRPCInferenceService/ModelStreamInfer")
        .header("content-type", "application/grpc")
        .body(StreamBody::new(frames))
        .unwrap();
    tx.send(named("iris")).await.unwrap();
    let response = sender.send_request(request).await.unwrap();
    let mut body = response.into_body();
    for number in 0..5u8 {
        let frame = body.frame().await.unwrap().unwrap();
        let expected = if number == 0 { named("iris") } else { framed(&[number]) };
        assert_eq!(frame.into_data().unwrap(), expected);
        tx.send(framed(&[number + 1])).await.unwrap();
    }
    drop(tx);
    let rest = body.collect().await.unwrap();
    assert_eq!(rest.trailers().unwrap()["grpc-status"], "0");
    assert_eq!((replica.count(), other.count()), (1, 0));
}

#[tokio::test]
async fn errors_are_trailers() {
    let replica = GrpcReplica::start(Act::Echo).await;
    let key = trainyard_gateway::table::ApiKey {
        name: "ann".to_owned(),
        sha256: sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix("ann"))
            .into(),
    };
    let guarded = Service {
        access: trainyard_gateway::table::Access { api_keys: vec![key] },
        ..service("iris", &[replica.address])
    };
    let running = start(quick(), &table([("iris", guarded)])).await;
    let refused = call(running.address, INFER, &[], named("iris")).await;
    assert_eq!((refused.code(), refused.status), ("16", 200));
    let allowed = call(running.address, INFER, &[("x-api-key", "ann")], named("iris")).await;
    assert_eq!(allowed.code(), "0");
    assert!(!replica.seen.lock().unwrap()[0].contains_key("x-api-key"));
    let unknown = call(running.address, INFER, &[], named("half")).await;
    assert_eq!(unknown.code(), "5");
    assert!(unknown.message().contains("Request for unknown model: 'half'"));
    let load = "/inference.GRPCInferenceService/RepositoryModelLoad";
    assert_eq!(call(running.address, load, &[], framed(b"")).await.code(), "9");
}

#[tokio::test]
async fn calls_are_repeated_elsewhere() {
    for act in [Act::Status("14"), Act::Plain(503)] {
        let busy = GrpcReplica::start(act).await;
        let healthy = GrpcReplica::start(Act::Echo).await;
        let running = start(quick(), &iris(&[busy.address, healthy.address])).await;
        for _ in 0..10 {
            let answer = call(running.address, INFER, &[], named("iris")).await;
            assert_eq!((answer.code(), &answer.body), ("0", &named("iris")), "{act:?}");
        }
        assert_eq!(healthy.count(), 10);
    }
}

#[tokio::test]
async fn a_kill_in_the_middle_of_calls_loses_none() {
    let dying = GrpcReplica::start(Act::Hang).await;
    let healthy = GrpcReplica::start(Act::Echo).await;
    let running = start(quick(), &iris(&[dying.address, healthy.address])).await;
    let address = running.address;
    let calls: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn(
                async move { call(address, INFER, &[], named("iris")).await.code().to_owned() },
            )
        })
        .collect();
    eventually("some hang", || dying.count() > 0 && dying.count() + healthy.count() >= 20).await;
    dying.kill.cancel();
    for call in calls {
        assert_eq!(call.await.unwrap(), "0");
    }
}

#[tokio::test]
async fn what_cannot_be_mended_has_a_status() {
    let plain = GrpcReplica::start(Act::Plain(404)).await;
    let running = start(quick(), &iris(&[plain.address])).await;
    let answer = call(running.address, INFER, &[], named("iris")).await;
    assert_eq!((answer.code(), answer.status), ("14", 200));
    let breaking = GrpcReplica::start(Act::BreakOff).await;
    running.gateway.update(&iris(&[breaking.address]));
    let answer = call(running.address, INFER, &[], named("iris")).await;
    assert_eq!((answer.code(), &answer.body), ("14", &framed(b"part")));
    let hanging = GrpcReplica::start(Act::Hang).await;
    running.gateway.update(&iris(&[hanging.address]));
    let answer = call(running.address, INFER, &[("grpc-timeout", "100m")], named("iris")).await;
    assert_eq!(answer.code(), "4");
    running.gateway.update(&iris(&["127.0.0.1:1".parse().unwrap()]));
    let answer = call(running.address, INFER, &[], named("iris")).await;
    assert_eq!(answer.code(), "14");
    assert_eq!(running.gateway.observe("iris").unwrap().in_flight, 0);
}

#[tokio::test]
async fn the_gateway_answers_for_all_services() {
    let replica = GrpcReplica::start(Act::Echo).await;
    let asleep = Service { scales_to_zero: true, ..service("c", &[]) };
    let both = [("iris", service("iris", &[replica.address])), ("c", asleep)];
    let running = start(quick(), &table(both)).await;
    let oip = async |method: &str| {
        let path = format!("/inference.GRPCInferenceService/{method}");
        let answer = call(running.address, &path, &[], framed(b"")).await;
        assert_eq!(answer.code(), "0", "{method}");
        answer.body
    };
    assert_eq!(oip("ServerLive").await, framed(&[8, 1]));
    assert_eq!(oip("ServerReady").await, framed(&[8, 1]));
    assert!(oip("ServerMetadata").await.windows(9).any(|bytes| bytes == b"trainyard"));
    let index = oip("RepositoryIndex").await;
    assert!(index.windows(11).any(|bytes| bytes == b"UNAVAILABLE"));
    let check = "/grpc.health.v1.Health/Check";
    assert_eq!(call(running.address, check, &[], framed(b"")).await.body, framed(&[8, 1]));
    assert_eq!(call(running.address, check, &[], named("nosuch")).await.code(), "5");
    running.gateway.update(&iris(&[]));
    assert_eq!(call(running.address, check, &[], framed(b"")).await.body, framed(&[8, 2]));
}

#[tokio::test]
async fn rest_over_http_2_reaches_http_1_replicas() {
    let replica = Replica::always(ok("x")).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let mut sender = connect(running.address).await;
    let send = |uri: &str| Request::post(uri).body(Full::new(Bytes::from("body"))).unwrap();
    let response = sender.send_request(send("http://h/v2/models/iris/infer?a")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "x");
    let seen = replica.last();
    assert_eq!(
        (seen.line.as_str(), seen.header("host")),
        ("POST /v2/models/iris/infer?a HTTP/1.1", Some("h"))
    );
    assert_eq!(seen.body, b"body");
    let response = sender.send_request(send("http://h/v2/models/half/infer")).await.unwrap();
    assert_eq!(response.status(), 404);
}

#[tokio::test]
async fn http_2_connections_end_with_the_gateway() {
    let replica = GrpcReplica::start(Act::Echo).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    let mut sender = connect::<Full<Bytes>>(running.address).await;
    sender.ready().await.unwrap();
    running.stop.cancel();
    running.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off() {
    let replica = Replica::always(ok(&"y".repeat(32 << 20))).await;
    let settings =
        trainyard_gateway::Settings { stall_timeout: Duration::from_millis(300), ..quick() };
    let running = start(settings, &iris(&[replica.address])).await;
    let mut sender = connect(running.address).await;
    let request = Request::post("http://h/v2/models/iris/infer").body(Full::new(Bytes::new()));
    let response = sender.send_request(request.unwrap()).await.unwrap();
    let load = || running.gateway.observe("iris").unwrap().in_flight;
    assert_eq!(load(), 1);
    eventually("cut off", || load() == 0).await;
    assert!(response.into_body().collect().await.is_err());
}
