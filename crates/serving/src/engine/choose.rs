//! Which engine serves.

use std::sync::Arc;

use super::{Engine, EngineError, OnnxRuntime, Tract, library};

/// What the person who starts the server wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EnginePreference {
    /// ONNX Runtime where its library is found, else tract.
    #[default]
    Auto,
    OnnxRuntime,
    Tract,
}

/// The engine that will serve, and why it is that one.
#[derive(Clone)]
pub struct Choice {
    pub engine: Arc<dyn Engine>,
    /// Sentences for the start message and the models' metadata.
    pub notes: Vec<String>,
}

/// Starts the engine to use. Loads a library, and may start the active Python to ask where it has
/// one: not for a runtime thread.
pub fn choose(preference: EnginePreference) -> Result<Choice, EngineError> {
    choose_with_threads(preference, None)
}

/// As [`choose`], with this many threads for the engine's pool; `None` follows the CPUs that the
/// process may use. A process has one pool: only its first engine decides.
pub fn choose_with_threads(
    preference: EnginePreference,
    threads: Option<usize>,
) -> Result<Choice, EngineError> {
    if preference == EnginePreference::Tract {
        let notes = vec!["the built-in engine was asked for".to_owned()];
        return Ok(Choice { engine: Arc::new(Tract::default()), notes });
    }
    let search = library::find();
    let mut notes: Vec<String> = search
        .rejected
        .iter()
        .map(|it| format!("{} was skipped: {}", it.path.display(), it.reason))
        .collect();
    for library in &search.usable {
        match OnnxRuntime::start(library, threads) {
            Ok(engine) => {
                let origin = library.origin.as_str();
                notes.push(format!("ONNX Runtime {} was found ({origin})", library.version));
                return Ok(Choice { engine: Arc::new(engine), notes });
            }
            Err(error) => notes.push(error.to_string()),
        }
    }
    if preference == EnginePreference::OnnxRuntime {
        return Err(EngineError::Unavailable { notes });
    }
    notes.push(
        "ONNX Runtime was not found, so the built-in engine runs, which is slower and knows fewer \
         operators; `trainyard engine install` gets it"
            .to_owned(),
    );
    Ok(Choice { engine: Arc::new(Tract::default()), notes })
}
