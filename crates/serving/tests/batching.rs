//! Which real models may be batched. Needs ONNX Runtime's library (`cargo xtask test` provides it).

use std::path::{Path, PathBuf};
use std::process::Command;

use trainyard_serving::engine::{Engine, EnginePreference, SessionOptions, choose};
use trainyard_serving::scheduler::{BatchingVerdict, Verification, verify_batching};

fn engine() -> Option<std::sync::Arc<dyn Engine>> {
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        eprintln!("skipped: ORT_DYLIB_PATH is not set");
        return None;
    }
    Some(choose(EnginePreference::OnnxRuntime).expect("the library loads").engine)
}

/// `None` for a model that the library cannot load on this machine.
fn verify(engine: &dyn Engine, model: &Path) -> Option<Verification> {
    let session = match engine.load(model, &SessionOptions::default()) {
        Ok(session) => session,
        // ONNX Runtime's StringNormalizer wants the system's locale `en_US.UTF-8`.
        Err(error) if error.to_string().contains("locale") => {
            eprintln!("skipped: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let verification = verify_batching(&*session);
    println!("{}: {verification:?}", model.display());
    Some(verification)
}

/// The folder of models that the clients' suites serve.
fn zoo() -> Option<PathBuf> {
    let Some(python) = std::env::var_os("TRAINYARD_TEST_PYTHON") else {
        eprintln!("skipped: TRAINYARD_TEST_PYTHON is not set");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/zoo.py");
    let made =
        Command::new(python).arg(script).arg(env!("CARGO_TARGET_TMPDIR")).output().expect("runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(PathBuf::from(String::from_utf8(made.stdout).expect("a path").trim()))
}

#[test]
fn iris_may_be_batched() {
    let Some(engine) = engine() else { return };
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/iris/model.onnx");
    let verification = verify(&*engine, &model).expect("needs no locale");
    assert_eq!(verification.batching, BatchingVerdict::Safe);
    let single = verification.single_run.expect("it ran");
    assert_eq!(single.elements, 4);
}

#[test]
fn the_zoo_is_told_apart() {
    let (Some(engine), Some(zoo)) = (engine(), zoo()) else { return };
    let mut models: Vec<_> = std::fs::read_dir(&zoo)
        .expect("is a folder")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    models.sort();
    for model in models {
        let name = model.file_stem().and_then(|stem| stem.to_str()).expect("ours").to_owned();
        // A fixed shape, and a recurrent state whose first dimension is its layers.
        let is_safe = !matches!(name.as_str(), "total" | "silero_vad");
        let Some(verification) = verify(&*engine, &model) else { continue };
        assert_eq!(verification.batching == BatchingVerdict::Safe, is_safe, "{name}");
    }
}
