//! ONNX Runtime for the replicas: found once, or fetched once, before the first of them starts.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use trainyard_api::model_service::RuntimeName;
use trainyard_local::target::Declared;
use trainyard_serving::engine::library::{find, install};

/// The library that replicas are told to use.
#[derive(Debug, Clone, Default)]
pub(super) struct Engine {
    library: Option<PathBuf>,
}

/// What `trainyard serve` and other users of the `ort` crate look at first.
const VARIABLE: &str = "ORT_DYLIB_PATH";

impl Engine {
    /// Spares each replica the search.
    pub(super) fn env(&self) -> Vec<(String, OsString)> {
        let library = self.library.iter();
        library.map(|path| (VARIABLE.to_owned(), path.clone().into_os_string())).collect()
    }
}

/// Looks for the library, and fetches it where there is none. Without it replicas use the built-in
/// engine, which is said here.
pub(super) fn prepare(services: &[Declared], offline: bool) -> Engine {
    let needs_one = services.iter().any(|service| {
        let runtime = service.manifest.spec.runtime.as_ref();
        runtime.is_none_or(|runtime| runtime.name == RuntimeName::Onnx)
    });
    // A person's own choice is each replica's to judge, and to complain about.
    if !needs_one || std::env::var_os(VARIABLE).is_some_and(|path| !path.is_empty()) {
        return Engine::default();
    }
    if let Some(library) = find().usable.into_iter().next() {
        return Engine { library: Some(library.path) };
    }
    let bar = ProgressBar::new(0);
    bar.set_style(
        ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.enable_steady_tick(Duration::from_millis(200));
    let result = install(offline, &mut |progress| {
        bar.set_message(progress.stage);
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.done_bytes);
    });
    bar.finish_and_clear();
    match result {
        Ok(library) => Engine { library: Some(library.path) },
        Err(error) => {
            eprintln!("note: {error}");
            eprintln!(
                "note: models run on the built-in engine, which is slower and lacks some operators"
            );
            Engine::default()
        }
    }
}
