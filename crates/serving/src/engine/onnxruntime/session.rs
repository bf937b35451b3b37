//! One loaded model.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::Path;
use std::sync::Arc;

use ort::sys;
use smallvec::SmallVec;

use super::api::{Failure, Handle, api, check};
use super::environment::Environment;
use super::memory::{self, GiveBack};
use super::value::{Input, read_output};
use crate::engine::{EngineError, Session};
use crate::onnx::{Facts, element};
use crate::signature::{Signature, TensorSpec};
use crate::tensor::Tensor;

/// A session and what running it needs, prepared once.
pub(super) struct OnnxSession {
    loaded: Arc<Loaded>,
    environment: &'static Environment,
    signature: Signature,
    input_names: Vec<CString>,
    output_names: Vec<CString>,
}

/// The library's session; outputs that live in its memory keep it alive.
struct Loaded {
    session: Handle<sys::OrtSession>,
    _memory: GiveBack,
}

// SAFETY: of a session, only `Run` is called after it was made, which ONNX Runtime documents as safe
// to call from several threads at once.
unsafe impl Sync for Loaded {}

/// Where a session's model comes from.
pub(super) enum Source<'a> {
    File(&'a Path),
    Memory(&'a [u8]),
}

impl OnnxSession {
    /// Creates a session and reads its signature.
    pub(super) fn create(
        environment: &'static Environment,
        source: Source<'_>,
        options: &Handle<sys::OrtSessionOptions>,
        facts: &Facts,
    ) -> Result<Self, String> {
        let session =
            create(environment, source, options).map_err(|failure| with_cure(failure.message))?;
        let reader = Reader { session: &session, environment, facts };
        let (inputs, input_names) = reader.inputs()?;
        let (outputs, output_names) = reader.outputs()?;
        Ok(Self {
            loaded: Arc::new(Loaded { session, _memory: GiveBack }),
            environment,
            signature: Signature { inputs, outputs },
            input_names,
            output_names,
        })
    }
}

/// Adds what to do about a reason that the library gives but does not explain.
///
/// `StringNormalizer`, which text pipelines of scikit-learn become, asks the system for its locale.
/// Its default is `en_US`, which slim images lack; the library then says "Failed to construct locale
/// with name:en_US.UTF-8".
fn with_cure(message: String) -> String {
    if !message.contains("locale") {
        return message;
    }
    format!(
        "{message}; the model asks for a locale that this system lacks: install it (on Debian, \
         package `locales` and `locale-gen en_US.UTF-8`), or export the model with `locale=\"C\"` \
         on its StringNormalizer nodes"
    )
}

/// Creates the library's session only.
pub(super) fn create(
    environment: &Environment,
    source: Source<'_>,
    options: &Handle<sys::OrtSessionOptions>,
) -> Result<Handle<sys::OrtSession>, Failure> {
    let (api, env) = (api(), environment.as_ptr());
    match source {
        Source::File(path) => {
            let path = path_string(path);
            // SAFETY: environment, path and options live through the call.
            unsafe {
                Handle::create(|out| (api.CreateSession)(env, path.as_ptr(), options.as_ptr(), out))
            }
        }
        // SAFETY: the library copies what it needs of the model before it returns.
        Source::Memory(model) => unsafe {
            Handle::create(|out| {
                let (start, length) = (model.as_ptr().cast(), model.len());
                (api.CreateSessionFromArray)(env, start, length, options.as_ptr(), out)
            })
        },
    }
}

/// Ends at a NUL, which no path that was opened contains.
fn path_string(path: &Path) -> CString {
    let bytes = path.as_os_str().as_encoded_bytes();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    CString::new(bytes.get(..end).unwrap_or_default()).expect("cut before the first NUL")
}

impl Session for OnnxSession {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(
        &self,
        inputs: &[Option<&Tensor>],
        outputs: &[usize],
    ) -> Result<Vec<Tensor>, EngineError> {
        self.run_with(std::ptr::null(), inputs, outputs)
    }

    fn settle(&self, inputs: &[Option<&Tensor>]) {
        let api = api();
        // SAFETY: the options are alive and the strings are copied.
        let options = unsafe {
            Handle::create(|out| (api.CreateRunOptions)(out)).and_then(|options| {
                let (key, value) = (c"memory.enable_memory_arena_shrinkage", c"cpu:0");
                let pointer = options.as_ptr();
                check((api.AddRunConfigEntry)(pointer, key.as_ptr(), value.as_ptr()))?;
                Ok(options)
            })
        };
        let settled = options.map_err(|failure| failure.message).and_then(|options| {
            let ran = self.run_with(options.as_ptr(), inputs, &[0]);
            ran.map(drop).map_err(|error| error.to_string())
        });
        if let Err(reason) = settled {
            tracing::debug!(reason, "working memory was not given back");
        }
        memory::give_back();
    }
}

impl OnnxSession {
    /// Runs with options of the library; null is its defaults.
    fn run_with(
        &self,
        options: *const sys::OrtRunOptions,
        inputs: &[Option<&Tensor>],
        outputs: &[usize],
    ) -> Result<Vec<Tensor>, EngineError> {
        if inputs.len() != self.input_names.len() {
            return Err(EngineError::Input(format!(
                "the model has {} inputs, got {}",
                self.input_names.len(),
                inputs.len()
            )));
        }
        let mut given: SmallVec<[Option<Input<'_>>; 4]> = SmallVec::new();
        let mut input_names: SmallVec<[*const c_char; 8]> = SmallVec::new();
        let mut input_values: SmallVec<[*const sys::OrtValue; 8]> = SmallVec::new();
        for (name, tensor) in self.input_names.iter().zip(inputs) {
            let Some(tensor) = tensor else { continue };
            let input = Input::new(self.environment, tensor)?;
            input_names.push(name.as_ptr());
            input_values.push(input.as_ptr());
            given.push(Some(input));
        }
        let output_names: SmallVec<[*const c_char; 8]> = outputs
            .iter()
            .map(|index| self.output_names.get(*index).map(|name| name.as_ptr()))
            .collect::<Option<_>>()
            .ok_or_else(|| EngineError::Run(format!("no such output among {outputs:?}")))?;
        let mut results: SmallVec<[*mut sys::OrtValue; 8]> = SmallVec::new();
        results.resize(outputs.len(), std::ptr::null_mut());

        // SAFETY: names and values have the lengths passed and live through the call; the session
        // allows concurrent runs; the options are null or alive; null results are allocated.
        let status = unsafe {
            (api().Run)(
                self.loaded.session.as_ptr(),
                options,
                input_names.as_ptr(),
                input_values.as_ptr(),
                input_values.len(),
                output_names.as_ptr(),
                output_names.len(),
                results.as_mut_ptr(),
            )
        };
        // Owned before anything can fail, so that an error leaks none.
        let results: SmallVec<[_; 8]> = results
            .into_iter()
            // SAFETY: what a run writes belongs to the caller; what it did not write is null.
            .map(|value| unsafe { Handle::from_raw(value) })
            .collect();
        check(status).map_err(|failure| {
            if failure.is_invalid_argument() {
                EngineError::Input(failure.message)
            } else {
                EngineError::Run(failure.message)
            }
        })?;

        let mut tensors = Vec::with_capacity(outputs.len());
        for (value, index) in results.into_iter().zip(outputs) {
            let value = value.map_err(|failure| EngineError::Run(failure.message))?;
            let Some(spec) = self.signature.outputs.get(*index) else { continue };
            let tensor =
                read_output(self.environment, value, spec.data_type, &given, &self.loaded)?;
            tensors.push(tensor);
        }
        Ok(tensors)
    }
}

/// Reads a session's declared inputs and outputs.
struct Reader<'a> {
    session: &'a Handle<sys::OrtSession>,
    environment: &'a Environment,
    facts: &'a Facts,
}

type Count = unsafe extern "system" fn(*const sys::OrtSession, *mut usize) -> sys::OrtStatusPtr;
type Name = unsafe extern "system" fn(
    *const sys::OrtSession,
    usize,
    *mut sys::OrtAllocator,
    *mut *mut c_char,
) -> sys::OrtStatusPtr;
type TypeInfo = unsafe extern "system" fn(
    *const sys::OrtSession,
    usize,
    *mut *mut sys::OrtTypeInfo,
) -> sys::OrtStatusPtr;

impl Reader<'_> {
    fn inputs(&self) -> Result<(Vec<TensorSpec>, Vec<CString>), String> {
        let api = api();
        let (mut specs, mut names) = self.list(
            api.SessionGetInputCount,
            api.SessionGetInputName,
            api.SessionGetInputTypeInfo,
            Role::Input { optional: false },
        )?;
        // Inputs with a default in the file.
        let (optional, optional_names) = self.list(
            api.SessionGetOverridableInitializerCount,
            api.SessionGetOverridableInitializerName,
            api.SessionGetOverridableInitializerTypeInfo,
            Role::Input { optional: true },
        )?;
        specs.extend(optional);
        names.extend(optional_names);
        Ok((specs, names))
    }

    fn outputs(&self) -> Result<(Vec<TensorSpec>, Vec<CString>), String> {
        let api = api();
        self.list(
            api.SessionGetOutputCount,
            api.SessionGetOutputName,
            api.SessionGetOutputTypeInfo,
            Role::Output,
        )
    }

    fn list(
        &self,
        count: Count,
        name: Name,
        type_info: TypeInfo,
        role: Role,
    ) -> Result<(Vec<TensorSpec>, Vec<CString>), String> {
        let message = |failure: Failure| failure.message;
        let mut length = 0;
        // SAFETY: the session is alive.
        check(unsafe { count(self.session.as_ptr(), &mut length) }).map_err(message)?;
        let mut specs = Vec::with_capacity(length);
        let mut names = Vec::with_capacity(length);
        for index in 0..length {
            let name = self.name(name, index).map_err(message)?;
            // SAFETY: the session is alive and the index below the count.
            let info = unsafe {
                Handle::create(|out| type_info(self.session.as_ptr(), index, out))
                    .map_err(message)?
            };
            specs.push(self.spec(&name.to_string_lossy(), &info, role)?);
            names.push(name);
        }
        Ok((specs, names))
    }

    fn name(&self, read: Name, index: usize) -> Result<CString, Failure> {
        let allocator = self.environment.allocator();
        let mut name = std::ptr::null_mut();
        // SAFETY: the session is alive; the name is a string from this allocator, copied and freed.
        unsafe {
            check(read(self.session.as_ptr(), index, allocator, &mut name))?;
            let owned = CStr::from_ptr(name).to_owned();
            check((api().AllocatorFree)(allocator, name.cast()))?;
            Ok(owned)
        }
    }

    fn spec(
        &self,
        name: &str,
        info: &Handle<sys::OrtTypeInfo>,
        role: Role,
    ) -> Result<TensorSpec, String> {
        let (values, optional) = match role {
            Role::Input { optional } => (&self.facts.inputs, optional),
            Role::Output => (&self.facts.outputs, false),
        };
        let declared = values.iter().find(|value| value.name == name);
        let refused = || {
            let (kind, type_name) = (role.as_str(), declared.map_or("unknown", |it| &it.type_name));
            format!(
                "{kind} {name:?} is of type {type_name}, which no protocol carries; export the \
                 model with tensors there"
            )
        };
        let shape = read_type(info, role).map_err(|failure| failure.message)?;
        let Some((number, mut dims)) = shape else { return Err(refused()) };
        let data_type = element::from_number(number).ok_or_else(refused)?;
        let labels = match role {
            Role::Output => self.facts.labels(name),
            Role::Input { .. } => &[],
        };
        if dims.is_empty() && declared.is_some_and(|value| value.dims.is_none()) {
            // The rank is unknown, which the library tells like a scalar. Rows of classes where the
            // labels say so, else one dimension of any extent.
            dims = vec![None];
            if !labels.is_empty() {
                dims.push(Some(labels.len()));
            }
        }
        Ok(TensorSpec { name: name.to_owned(), data_type, dims, optional, labels: labels.to_vec() })
    }
}

#[derive(Clone, Copy)]
enum Role {
    Input { optional: bool },
    Output,
}

impl Role {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Input { .. } => "input",
            Self::Output => "output",
        }
    }
}

/// The library's number of the element type, and the extents.
type TensorType = (i32, Vec<Option<usize>>);

/// Element number and dims of a tensor or, for outputs, of the tensor that a sequence is stacked to.
/// `None` for other types.
fn read_type(info: &Handle<sys::OrtTypeInfo>, role: Role) -> Result<Option<TensorType>, Failure> {
    let api = api();
    let mut kind: c_int = 0;
    // SAFETY: the type information is alive, and so are the parts that the casts point into.
    unsafe {
        check((api.GetOnnxTypeFromTypeInfo)(info.as_ptr(), (&raw mut kind).cast()))?;
        if kind == sys::ONNXType::ONNX_TYPE_TENSOR as c_int {
            return read_tensor_type(info).map(Some);
        }
        let is_sequence = kind == sys::ONNXType::ONNX_TYPE_SEQUENCE as c_int;
        if !is_sequence || matches!(role, Role::Input { .. }) {
            return Ok(None);
        }
        let mut sequence = std::ptr::null();
        check((api.CastTypeInfoToSequenceTypeInfo)(info.as_ptr(), &mut sequence))?;
        let element = Handle::create(|out| (api.GetSequenceElementType)(sequence, out))?;
        check((api.GetOnnxTypeFromTypeInfo)(element.as_ptr(), (&raw mut kind).cast()))?;
        if kind != sys::ONNXType::ONNX_TYPE_TENSOR as c_int {
            return Ok(None);
        }
        let (number, dims) = read_tensor_type(&element)?;
        Ok(Some((number, std::iter::once(None).chain(dims).collect())))
    }
}

fn read_tensor_type(info: &Handle<sys::OrtTypeInfo>) -> Result<TensorType, Failure> {
    let api = api();
    let mut number: c_int = 0;
    let mut dims = Vec::new();
    // SAFETY: the cast points into `info`, which is alive; `dims` is as long as the call is told.
    unsafe {
        let mut tensor = std::ptr::null();
        check((api.CastTypeInfoToTensorInfo)(info.as_ptr(), &mut tensor))?;
        check((api.GetTensorElementType)(tensor, (&raw mut number).cast()))?;
        let mut rank = 0;
        check((api.GetDimensionsCount)(tensor, &mut rank))?;
        dims.resize(rank, 0i64);
        check((api.GetDimensions)(tensor, dims.as_mut_ptr(), rank))?;
    }
    // Negative is any extent.
    Ok((number, dims.into_iter().map(|extent| usize::try_from(extent).ok()).collect()))
}

#[test]
fn a_missing_locale_comes_with_its_cure() {
    let message = with_cure("Failed to construct locale with name:en_US.UTF-8".to_owned());
    assert!(message.starts_with("Failed to construct locale") && message.contains("locale-gen"));
    assert_eq!(with_cure("No such file".to_owned()), "No such file");
}
