//! ONNX Runtime, loaded at run time.
//!
//! All sessions share one environment with one pool of threads. A session runs requests from any
//! number of threads at once; inputs are handed over without a copy.

mod api;
mod element;
mod environment;
mod memory;
mod options;
mod pool;
mod session;
mod value;

use std::path::Path;
use std::sync::Arc;

use self::api::Failure;
use self::environment::Environment;
use self::session::{OnnxSession, Source};
use super::library::Library;
use super::{Engine, EngineError, EngineInfo, Session, SessionOptions};
use crate::onnx::{Facts, ModelFile, OperatorUse};

/// The engine that ONNX Runtime's library gives.
pub struct OnnxRuntime {
    threads: Option<usize>,
    info: EngineInfo,
    cuda: bool,
}

impl OnnxRuntime {
    /// Starts the engine with a library that was verified, and a pool of this many threads (`None`
    /// follows the CPUs that the process may use). A process has one ONNX Runtime: later calls go on
    /// with the first call's library and pool.
    pub fn start(library: &Library, threads: Option<usize>) -> Result<Self, EngineError> {
        let failed =
            |reason: String| EngineError::Load { path: library.path.display().to_string(), reason };
        ort::init_from(&library.path).map_err(|error| failed(error.to_string()))?;
        let cuda = has_cuda(threads).map_err(|failure| failed(failure.message))?;
        let info = EngineInfo {
            name: "onnxruntime",
            version: library.version.clone(),
            device: if cuda { "cuda" } else { "cpu" }.to_owned(),
            threads: environment::threads(threads),
            library: Some(library.path.clone()),
        };
        Ok(Self { threads, info, cuda })
    }

    /// The library's environment, made for the first model: it holds some ten megabytes of operator
    /// schemas that a server without a model can do without.
    fn environment(&self) -> Result<&'static Environment, Failure> {
        Environment::shared(self.threads)
    }

    fn create(
        &self,
        source: Source<'_>,
        file: &ModelFile,
        options: &SessionOptions,
        cuda: bool,
    ) -> Result<OnnxSession, String> {
        let folder = match source {
            Source::Memory(_) => file.path.parent(),
            Source::File(_) => None,
        };
        let environment = self.environment().map_err(|failure| failure.message)?;
        let options =
            options::session_options(options, folder, cuda).map_err(|failure| failure.message)?;
        let session = OnnxSession::create(environment, source, &options, &file.facts);
        // The file's parsed form and the weights as they were before they were laid out anew.
        memory::give_back();
        session
    }
}

impl Engine for OnnxRuntime {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn load(
        &self,
        model: &Path,
        options: &SessionOptions,
    ) -> Result<Arc<dyn Session>, EngineError> {
        let file = ModelFile::read(model)?;
        let rewritten = file.without_zip_maps();
        let file = file.without_bytes();
        let source = || match &rewritten {
            Some(bytes) => Source::Memory(bytes),
            None => Source::File(model),
        };
        if self.cuda {
            match self.create(source(), &file, options, true) {
                Ok(session) => return Ok(Arc::new(session)),
                Err(reason) => tracing::warn!(
                    model = %model.display(), reason,
                    "the model does not load on CUDA; trying the CPU"
                ),
            }
        }
        let session = self
            .create(source(), &file, options, false)
            .map_err(|reason| EngineError::Load { path: model.display().to_string(), reason })?;
        Ok(Arc::new(session))
    }

    fn missing_operators(&self, facts: &Facts) -> Vec<OperatorUse> {
        let options = options::session_options(&SessionOptions::default(), None, false);
        let (Ok(environment), Ok(options)) = (self.environment(), options) else {
            return Vec::new();
        };
        let is_local = |operator: &OperatorUse| {
            facts
                .functions
                .iter()
                .any(|(domain, name)| *domain == operator.domain && *name == operator.name)
        };
        facts
            .operators
            .iter()
            .filter(|operator| !is_local(operator))
            .filter(|operator| lacks(environment, operator, facts, &options))
            .cloned()
            .collect()
    }
}

/// The library has no list of its operators, so it is asked to load a model of that one. The model
/// is wrong in most other ways, but an unknown operator is what it complains of first.
fn lacks(
    environment: &Environment,
    operator: &OperatorUse,
    facts: &Facts,
    options: &api::Handle<ort::sys::OrtSessionOptions>,
) -> bool {
    let domain = if operator.domain == "ai.onnx" { "" } else { &operator.domain };
    let opset = facts.opset(&operator.domain).unwrap_or(1);
    let model = crate::onnx::one_node_model(domain, &operator.name, opset);
    match session::create(environment, Source::Memory(&model), options) {
        Ok(_) => false,
        Err(failure) => {
            failure.message.contains("is not a registered function/op")
                || failure.message.contains("No Op registered for")
        }
    }
}

/// Whether the library was built with CUDA and finds a device.
fn has_cuda(threads: Option<usize>) -> Result<bool, Failure> {
    if !offers_cuda() {
        return Ok(false);
    }
    let environment = Environment::shared(threads)?;
    // Only making a session touches the driver.
    let tried =
        options::session_options(&SessionOptions::default(), None, true).and_then(|options| {
            let model = crate::onnx::one_node_model("", "Identity", 13);
            session::create(environment, Source::Memory(&model), &options)
        });
    Ok(match tried {
        Ok(_) => true,
        Err(failure) => {
            tracing::warn!(
                reason = failure.message,
                "the ONNX Runtime library offers CUDA, but no device can be used; running on the CPU"
            );
            false
        }
    })
}

fn offers_cuda() -> bool {
    let api = api::api();
    let mut names = std::ptr::null_mut();
    let mut length = 0;
    // SAFETY: the call hands out an array of `length` NUL-terminated strings, which is given back.
    unsafe {
        if api::check((api.GetAvailableProviders)(&mut names, &mut length)).is_err() {
            return false;
        }
        let count = usize::try_from(length).unwrap_or(0);
        let found = std::slice::from_raw_parts(names, count)
            .iter()
            .any(|name| std::ffi::CStr::from_ptr(*name) == c"CUDAExecutionProvider");
        let released = api::check((api.ReleaseAvailableProviders)(names, length));
        found && released.is_ok()
    }
}
