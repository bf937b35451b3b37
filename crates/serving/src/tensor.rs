//! Tensors as they travel between protocols, the batcher and engines.

use bytes::Bytes;
use smallvec::SmallVec;

/// Extent of each dimension, outermost first. An empty shape is a scalar.
pub type Shape = SmallVec<[usize; 6]>;

/// Element type, named as in the Open Inference Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DataType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    /// A string or any other run of bytes, one per element.
    Bytes,
}

impl DataType {
    /// Every type, in the order of the protocol's table.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// Bytes per element, or `None` where elements differ in size.
    pub const fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// The Open Inference Protocol's name, such as `FP32`.
    pub const fn oip_name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The type of this Open Inference Protocol name.
    pub fn from_oip_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|data_type| data_type.oip_name() == name)
    }
}

/// The elements of a tensor, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Little-endian elements of a fixed-size type without padding. The buffer need not be aligned
    /// to the element: an engine that needs alignment copies when it is not.
    Fixed(Bytes),
    /// Elements of [`DataType::Bytes`].
    Bytes(Vec<Bytes>),
}

/// An owned, row-major tensor whose data always has as many elements as its shape says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    data_type: DataType,
    shape: Shape,
    data: Data,
}

/// Why data and shape do not make a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    #[error("shape {shape:?} holds more elements than can be addressed")]
    TooLarge { shape: Vec<usize> },
    #[error("shape {shape:?} of {data_type:?} needs {expected} bytes, got {actual}")]
    ByteCount { shape: Vec<usize>, data_type: DataType, expected: usize, actual: usize },
    #[error("shape {shape:?} needs {expected} elements, got {actual}")]
    ElementCount { shape: Vec<usize>, expected: usize, actual: usize },
    #[error("{data_type:?} data was given as {given}")]
    WrongStorage { data_type: DataType, given: &'static str },
}

/// Number of elements of a shape, or `None` on overflow.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, extent| product.checked_mul(*extent))
}

impl Tensor {
    /// Makes a tensor, checking that data and shape agree.
    pub fn new(data_type: DataType, shape: Shape, data: Data) -> Result<Self, TensorError> {
        let expected =
            element_count(&shape).ok_or_else(|| TensorError::TooLarge { shape: shape.to_vec() })?;
        match (&data, data_type.size()) {
            (Data::Fixed(bytes), Some(size)) => {
                let needed = expected
                    .checked_mul(size)
                    .ok_or_else(|| TensorError::TooLarge { shape: shape.to_vec() })?;
                if bytes.len() != needed {
                    return Err(TensorError::ByteCount {
                        shape: shape.to_vec(),
                        data_type,
                        expected: needed,
                        actual: bytes.len(),
                    });
                }
            }
            (Data::Bytes(elements), None) => {
                if elements.len() != expected {
                    return Err(TensorError::ElementCount {
                        shape: shape.to_vec(),
                        expected,
                        actual: elements.len(),
                    });
                }
            }
            (Data::Fixed(_), None) => {
                return Err(TensorError::WrongStorage { data_type, given: "fixed-size elements" });
            }
            (Data::Bytes(_), Some(_)) => {
                return Err(TensorError::WrongStorage { data_type, given: "byte strings" });
            }
        }
        Ok(Self { data_type, shape, data })
    }

    /// Makes a tensor from typed elements without copying them; the buffer stays aligned.
    pub fn from_vec<T: bytemuck::Pod + Send + Sync>(
        data_type: DataType,
        shape: Shape,
        elements: Vec<T>,
    ) -> Result<Self, TensorError> {
        struct Owner<T>(Vec<T>);
        impl<T: bytemuck::Pod> AsRef<[u8]> for Owner<T> {
            fn as_ref(&self) -> &[u8] {
                bytemuck::cast_slice(&self.0)
            }
        }
        Self::new(data_type, shape, Data::Fixed(Bytes::from_owner(Owner(elements))))
    }

    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn data(&self) -> &Data {
        &self.data
    }

    pub fn into_data(self) -> Data {
        self.data
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        element_count(&self.shape).expect("checked when the tensor was made")
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The raw little-endian bytes of a fixed-size type.
    pub fn fixed(&self) -> Option<&Bytes> {
        match &self.data {
            Data::Fixed(bytes) => Some(bytes),
            Data::Bytes(_) => None,
        }
    }
}
