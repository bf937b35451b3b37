//! Tensors to and from ONNX Runtime's values.

use std::borrow::Cow;
use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use bytes::Bytes;
use ort::sys;
use smallvec::SmallVec;

use super::api::{Failure, Handle, api, check};
use super::element;
use super::environment::Environment;
use crate::engine::EngineError;
use crate::onnx::element as onnx_element;
use crate::tensor::{Data, DataType, Shape, Tensor, element_count};

/// Outputs up to this many bytes are copied: an allocation and a short copy cost less than an
/// owner that keeps the library's value (and its arena's block) alive.
const COPY_UP_TO: usize = 16 << 10;

/// An input as ONNX Runtime sees it, borrowing the tensor's bytes where they are aligned.
pub(super) struct Input<'a> {
    value: Handle<sys::OrtValue>,
    /// The memory that the value points to; nothing for strings, which the value owns.
    memory: Cow<'a, [u8]>,
    /// Keeps an aligned copy alive.
    _aligned: Option<Box<[u64]>>,
}

impl<'a> Input<'a> {
    pub(super) fn new(environment: &Environment, tensor: &'a Tensor) -> Result<Self, EngineError> {
        let shape: SmallVec<[i64; 6]> = tensor
            .shape()
            .iter()
            .map(|extent| i64::try_from(*extent))
            .collect::<Result<_, _>>()
            .map_err(|_| EngineError::Input(format!("shape {:?} is too large", tensor.shape())))?;
        match tensor.data() {
            Data::Fixed(bytes) => Self::fixed(environment, tensor.data_type(), &shape, bytes),
            Data::Bytes(elements) => Self::strings(environment, &shape, elements),
        }
    }

    pub(super) fn as_ptr(&self) -> *const sys::OrtValue {
        self.value.as_ptr()
    }

    /// Whether an output that starts here lives in this input's memory, as happens when a graph
    /// hands an input through.
    pub(super) fn owns(&self, start: *const u8) -> bool {
        self.memory.as_ptr_range().contains(&start)
    }

    fn fixed(
        environment: &Environment,
        data_type: DataType,
        shape: &[i64],
        bytes: &'a [u8],
    ) -> Result<Self, EngineError> {
        // The library reads these as C++ `bool`, for which other values are undefined behaviour.
        if data_type == DataType::Bool && bytes.iter().any(|byte| *byte > 1) {
            return Err(EngineError::Input("a BOOL element is neither 0 nor 1".to_owned()));
        }
        let element = data_type.size().unwrap_or(1);
        let mut aligned = None;
        let start = if bytes.as_ptr().addr().is_multiple_of(element) {
            bytes.as_ptr()
        } else {
            let mut copy = vec![0u64; bytes.len().div_ceil(size_of::<u64>())].into_boxed_slice();
            bytemuck::cast_slice_mut::<u64, u8>(&mut copy)
                .get_mut(..bytes.len())
                .expect("rounded up")
                .copy_from_slice(bytes);
            let start = copy.as_ptr().cast::<u8>();
            aligned = Some(copy);
            start
        };
        // SAFETY: the memory holds `bytes.len()` bytes, aligned for the element, and outlives the
        // value, which this struct owns beside it. The library takes a mutable pointer but never
        // writes to an input.
        let value = unsafe {
            Handle::create(|out| {
                (api().CreateTensorWithDataAsOrtValue)(
                    environment.cpu_memory(),
                    start.cast_mut().cast::<c_void>(),
                    bytes.len(),
                    shape.as_ptr(),
                    shape.len(),
                    element::from_data_type(data_type),
                    out,
                )
            })
        };
        let value = value.map_err(|failure| EngineError::Input(failure.message))?;
        Ok(Self { value, memory: Cow::Borrowed(bytes), _aligned: aligned })
    }

    fn strings(
        environment: &Environment,
        shape: &[i64],
        elements: &[Bytes],
    ) -> Result<Self, EngineError> {
        let api = api();
        let failed = |failure: Failure| EngineError::Input(failure.message);
        // SAFETY: the allocator is the library's own; each buffer it returns has the length asked
        // for, and the indices are those of the elements that the shape says.
        unsafe {
            let value = Handle::create(|out| {
                (api.CreateTensorAsOrtValue)(
                    environment.allocator(),
                    shape.as_ptr(),
                    shape.len(),
                    element::from_data_type(DataType::Bytes),
                    out,
                )
            })
            .map_err(failed)?;
            // Not FillStringTensor: it ends a string at its first NUL.
            for (index, element) in elements.iter().enumerate() {
                let mut buffer = std::ptr::null_mut::<c_char>();
                check((api.GetResizedStringTensorElementBuffer)(
                    value.as_ptr(),
                    index,
                    element.len(),
                    &mut buffer,
                ))
                .map_err(failed)?;
                std::ptr::copy_nonoverlapping(element.as_ptr(), buffer.cast(), element.len());
            }
            Ok(Self { value, memory: Cow::Borrowed(&[]), _aligned: None })
        }
    }
}

/// Reads an output. `keep` lives as long as memory that is not copied (weights handed out as an
/// output belong to the session).
pub(super) fn read_output<K: Send + Sync + 'static>(
    environment: &Environment,
    value: Handle<sys::OrtValue>,
    declared: DataType,
    inputs: &[Option<Input<'_>>],
    keep: &Arc<K>,
) -> Result<Tensor, EngineError> {
    match kind(&value)? {
        Kind::Tensor => read_tensor(value, inputs, keep),
        Kind::Sequence => stack(declared, read_sequence(environment, &value, inputs, keep)?),
        Kind::Other => Err(EngineError::Run(
            "an output is neither a tensor nor a sequence of tensors".to_owned(),
        )),
    }
}

enum Kind {
    Tensor,
    Sequence,
    Other,
}

fn kind(value: &Handle<sys::OrtValue>) -> Result<Kind, EngineError> {
    let mut number: c_int = 0;
    // SAFETY: the value is alive; a C enum is written as an int, which spares us the undefined
    // behaviour of a number that our enum lacks.
    let status = unsafe { (api().GetValueType)(value.as_ptr(), (&raw mut number).cast()) };
    check(status).map_err(run_failed)?;
    Ok(match number {
        tensor if tensor == sys::ONNXType::ONNX_TYPE_TENSOR as c_int => Kind::Tensor,
        sequence if sequence == sys::ONNXType::ONNX_TYPE_SEQUENCE as c_int => Kind::Sequence,
        _ => Kind::Other,
    })
}

fn read_tensor<K: Send + Sync + 'static>(
    value: Handle<sys::OrtValue>,
    inputs: &[Option<Input<'_>>],
    keep: &Arc<K>,
) -> Result<Tensor, EngineError> {
    let (data_type, shape) = type_and_shape(&value)?;
    let data = match data_type.size() {
        None => Data::Bytes(read_strings(&value, &shape)?),
        Some(size) => {
            let length = element_count(&shape)
                .and_then(|elements| elements.checked_mul(size))
                .ok_or_else(|| EngineError::Run(format!("output shape {shape:?} is too large")))?;
            Data::Fixed(read_fixed(value, length, inputs, keep)?)
        }
    };
    Tensor::new(data_type, shape, data).map_err(|error| EngineError::Run(error.to_string()))
}

fn type_and_shape(value: &Handle<sys::OrtValue>) -> Result<(DataType, Shape), EngineError> {
    let api = api();
    let mut number: c_int = 0;
    let mut dims: SmallVec<[i64; 6]> = SmallVec::new();
    // SAFETY: the value is a live tensor, and `dims` has room for as many extents as are asked for.
    unsafe {
        let info = Handle::create(|out| (api.GetTensorTypeAndShape)(value.as_ptr(), out))
            .map_err(run_failed)?;
        check((api.GetTensorElementType)(info.as_ptr(), (&raw mut number).cast()))
            .map_err(run_failed)?;
        let mut rank = 0;
        check((api.GetDimensionsCount)(info.as_ptr(), &mut rank)).map_err(run_failed)?;
        dims.resize(rank, 0);
        check((api.GetDimensions)(info.as_ptr(), dims.as_mut_ptr(), rank)).map_err(run_failed)?;
    }
    let data_type = onnx_element::from_number(number).ok_or_else(|| {
        let name = onnx_element::name(number);
        EngineError::Run(format!("an output holds {name}, which no protocol carries"))
    })?;
    let shape = dims
        .iter()
        .map(|extent| usize::try_from(*extent))
        .collect::<Result<Shape, _>>()
        .map_err(|_| EngineError::Run(format!("an output has the shape {dims:?}")))?;
    Ok((data_type, shape))
}

fn read_fixed<K: Send + Sync + 'static>(
    value: Handle<sys::OrtValue>,
    length: usize,
    inputs: &[Option<Input<'_>>],
    keep: &Arc<K>,
) -> Result<Bytes, EngineError> {
    if length == 0 {
        return Ok(Bytes::new());
    }
    let mut start = std::ptr::null_mut::<c_void>();
    // SAFETY: the value is a live tensor of a fixed-size type.
    check(unsafe { (api().GetTensorMutableData)(value.as_ptr(), &mut start) })
        .map_err(run_failed)?;
    let start = start.cast_const().cast::<u8>();
    if start.is_null() {
        return Err(EngineError::Run("an output has no memory".to_owned()));
    }
    let owner = Owner { start, length, _value: value, _keep: Arc::clone(keep) };
    if length <= COPY_UP_TO || inputs.iter().flatten().any(|input| input.owns(start)) {
        return Ok(Bytes::copy_from_slice(owner.as_ref()));
    }
    Ok(Bytes::from_owner(owner))
}

/// An output's memory, which goes back to the library's arena with the last `Bytes` that shows it.
struct Owner<K> {
    start: *const u8,
    length: usize,
    _value: Handle<sys::OrtValue>,
    _keep: Arc<K>,
}

// SAFETY: the memory is only read, and values may be released from any thread.
unsafe impl<K: Send + Sync> Send for Owner<K> {}

impl<K> AsRef<[u8]> for Owner<K> {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the value, which lives as long as `self`, has this many initialised bytes here.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

fn read_strings(value: &Handle<sys::OrtValue>, shape: &Shape) -> Result<Vec<Bytes>, EngineError> {
    let count = element_count(shape).unwrap_or(0);
    if count == 0 {
        return Ok(Vec::new());
    }
    let api = api();
    let mut total = 0;
    let mut offsets = vec![0usize; count];
    // SAFETY: the value is a live string tensor; the buffers have the lengths that are passed.
    let content = unsafe {
        check((api.GetStringTensorDataLength)(value.as_ptr(), &mut total)).map_err(run_failed)?;
        let mut content = vec![0u8; total];
        check((api.GetStringTensorContent)(
            value.as_ptr(),
            content.as_mut_ptr().cast(),
            total,
            offsets.as_mut_ptr(),
            count,
        ))
        .map_err(run_failed)?;
        Bytes::from(content)
    };
    let ends = offsets.iter().skip(1).copied().chain([total]);
    Ok(offsets.iter().copied().zip(ends).map(|(start, end)| content.slice(start..end)).collect())
}

fn read_sequence<K: Send + Sync + 'static>(
    environment: &Environment,
    value: &Handle<sys::OrtValue>,
    inputs: &[Option<Input<'_>>],
    keep: &Arc<K>,
) -> Result<Vec<Tensor>, EngineError> {
    let api = api();
    let mut count = 0;
    // SAFETY: the value is a live sequence.
    check(unsafe { (api.GetValueCount)(value.as_ptr(), &mut count) }).map_err(run_failed)?;
    let mut elements = Vec::with_capacity(count);
    for index in 0..count {
        let index = c_int::try_from(index)
            .map_err(|_| EngineError::Run(format!("a sequence of {count} elements")))?;
        // SAFETY: the index is below the count; the element handed out is a new value of ours.
        let element = unsafe {
            Handle::create(|out| {
                (api.GetValue)(value.as_ptr(), index, environment.allocator(), out)
            })
        }
        .map_err(run_failed)?;
        let Kind::Tensor = kind(&element)? else {
            return Err(EngineError::Run(
                "an output is a sequence of maps or sequences, which no protocol carries"
                    .to_owned(),
            ));
        };
        elements.push(read_tensor(element, inputs, keep)?);
    }
    Ok(elements)
}

/// Joins tensors of one type and shape along a new first dimension, or says which two differ.
/// An empty sequence becomes an empty vector of the declared type.
fn stack(declared: DataType, elements: Vec<Tensor>) -> Result<Tensor, EngineError> {
    let (data_type, inner) = elements
        .first()
        .map_or((declared, Vec::new()), |first| (first.data_type(), first.shape().to_vec()));
    if let Some((index, other)) = elements
        .iter()
        .enumerate()
        .find(|(_, other)| other.shape() != inner || other.data_type() != data_type)
    {
        return Err(EngineError::Run(format!(
            "an output is a sequence of tensors that differ (element 0 is {data_type:?} {inner:?}, \
             element {index} is {:?} {:?}), which cannot be answered as one tensor",
            other.data_type(),
            other.shape()
        )));
    }
    let shape: Shape = std::iter::once(elements.len()).chain(inner).collect();
    let mut fixed = Vec::new();
    let mut strings = Vec::new();
    for element in elements {
        match element.into_data() {
            Data::Fixed(bytes) => fixed.extend_from_slice(&bytes),
            Data::Bytes(bytes) => strings.extend(bytes),
        }
    }
    let data = match data_type.size() {
        Some(_) => Data::Fixed(fixed.into()),
        None => Data::Bytes(strings),
    };
    Tensor::new(data_type, shape, data).map_err(|error| EngineError::Run(error.to_string()))
}

fn run_failed(failure: Failure) -> EngineError {
    EngineError::Run(failure.message)
}
