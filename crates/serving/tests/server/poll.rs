use std::time::Duration;

use trainyard_serving::Server;
use trainyard_serving::request::VersionChoice;
use trainyard_serving::server::{ModelControl, ServerOptions, VersionState};

use crate::models;
use crate::support::{latest, options, started, state, until, write};

const INTERVAL: Duration = Duration::from_millis(50);

async fn polling(target: &std::path::Path, interval: Duration) -> Server {
    let control = ModelControl::Poll(interval);
    started(ServerOptions { control, ..options(target.to_owned()) }).await
}

fn versions(server: &Server) -> Vec<u64> {
    server.metadata("a", &VersionChoice::Latest).map(|it| it.versions).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follows_the_repository() {
    let folder = tempfile::tempdir().expect("a folder");
    models::write(&folder.path().join("a/1/model.onnx"), 1.0, None);
    let server = polling(folder.path(), INTERVAL).await;

    models::write(&folder.path().join("a/2/model.onnx"), 2.0, None);
    until("a new version serves", async || versions(&server) == [2]).await;
    assert_eq!(latest(&server, "a").await.expect("answers"), 3.0);

    write(&folder.path().join("a/config.pbtxt"), "version_policy { all { } }");
    until("a changed configuration is followed", async || versions(&server) == [1, 2]).await;

    // The same version with other content; another length is seen even within the clock's tick.
    let mut longer = models::bytes(9.0, None);
    longer.extend_from_slice(&[0x12, 0x01, b'x']); // The name of the producer.
    std::fs::write(folder.path().join("a/2/model.onnx"), longer).expect("written");
    until("changed files are followed", async || latest(&server, "a").await.ok() == Some(10.0))
        .await;

    models::write(&folder.path().join("b/1/model.onnx"), 4.0, None);
    until("a new model serves", async || latest(&server, "b").await.ok() == Some(5.0)).await;

    std::fs::remove_dir_all(folder.path().join("a/2")).expect("removed");
    until("a version that is gone is unloaded", async || versions(&server) == [1]).await;
    std::fs::remove_dir_all(folder.path().join("b")).expect("removed");
    until("a model that is gone is unloaded", async || latest(&server, "b").await.is_err()).await;
    assert!(server.is_ready());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_no_model_leaves_the_old_one() {
    let folder = tempfile::tempdir().expect("a folder");
    models::write(&folder.path().join("a/1/model.onnx"), 1.0, None);
    let server = polling(folder.path(), INTERVAL).await;
    write(&folder.path().join("a/2/model.onnx"), "half a model");
    until("the failure is shown", async || {
        state(&server, "a", 2).is_some_and(|(state, _)| state == VersionState::Unavailable)
    })
    .await;
    assert_eq!(latest(&server, "a").await.expect("still answers"), 2.0);
    models::write(&folder.path().join("a/2/model.onnx"), 2.0, None);
    until("once it is whole it serves", async || versions(&server) == [2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_still_being_copied_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    models::write(&folder.path().join("a/1/model.onnx"), 1.0, None);
    // Long beside the writer's pauses, also on a busy machine.
    let interval = Duration::from_millis(400);
    let server = polling(folder.path(), interval).await;
    // A file that grows all the time is never tried, or it would show as a failure.
    let content = models::bytes(2.0, None);
    let path = folder.path().join("a/2/model.onnx");
    write(&path, "");
    for end in 1..content.len() {
        std::fs::write(&path, &content[..end]).expect("written");
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(state(&server, "a", 2), None, "tried after {end} bytes");
    }
    std::fs::write(&path, &content).expect("written");
    until("the whole file is served", async || versions(&server) == [2]).await;
}
