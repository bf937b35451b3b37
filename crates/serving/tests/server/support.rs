//! What the tests of the server share.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use trainyard_serving::engine::EnginePreference;
use trainyard_serving::request::VersionChoice;
use trainyard_serving::server::{ModelControl, ServerOptions, VersionState};
use trainyard_serving::{DataType, InferError, InferRequest, InferResponse, Server, Tensor};

/// One target on the built-in engine.
pub(crate) fn options(target: PathBuf) -> ServerOptions {
    ServerOptions {
        targets: vec![target],
        name: None,
        control: ModelControl::None,
        engine: EnginePreference::Tract,
        threads: Some(2),
        max_batch: None,
        max_delay: None,
        max_queue: None,
        version: None,
        gpu_memory_limit: None,
    }
}

pub(crate) fn explicit(target: PathBuf, load: &[&str]) -> ServerOptions {
    let load = load.iter().map(|name| (*name).to_owned()).collect();
    ServerOptions { control: ModelControl::Explicit { load }, ..options(target) }
}

/// Starts a server and waits until all its models serve.
pub(crate) async fn started(options: ServerOptions) -> Server {
    let server = Server::start(options).expect("starts");
    server.loaded().await.expect("loads");
    assert!(server.is_ready());
    server
}

pub(crate) fn floats(shape: &[usize], value: f32) -> Tensor {
    let elements = vec![value; shape.iter().product()];
    Tensor::from_vec(DataType::Fp32, shape.iter().copied().collect(), elements).expect("fits")
}

pub(crate) fn request(model: &str, rows: usize) -> InferRequest {
    InferRequest {
        model: model.to_owned(),
        inputs: vec![("x".to_owned(), floats(&[rows, 2], 1.0))],
        ..InferRequest::default()
    }
}

/// The first number of an output.
pub(crate) fn number(response: &InferResponse, output: &str) -> f32 {
    let (_, tensor) =
        response.outputs.iter().find(|(name, _)| &**name == output).expect("it was answered");
    let bytes = tensor.fixed().expect("numbers").get(..4).expect("one at least");
    f32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

/// What a model's `y` is for 1.
pub(crate) async fn answer(
    server: &Server,
    model: &str,
    version: VersionChoice,
) -> Result<f32, InferError> {
    let request = InferRequest { version, ..request(model, 1) };
    server.infer(request).await.map(|response| number(&response, "y"))
}

pub(crate) async fn latest(server: &Server, model: &str) -> Result<f32, InferError> {
    answer(server, model, VersionChoice::Latest).await
}

/// State and reason of one version in the index.
pub(crate) fn state(server: &Server, model: &str, version: u64) -> Option<(VersionState, String)> {
    let index = server.index();
    let entry = index.into_iter().find(|it| it.name == model && it.version == Some(version))?;
    Some((entry.state, entry.reason))
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
    std::fs::write(path, content).expect("written");
}
