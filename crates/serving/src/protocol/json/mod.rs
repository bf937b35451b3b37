//! JSON as the REST protocols use it for tensors.
//!
//! The reader takes what servers of these protocols take: RFC 8259, plus bare `NaN`, `Infinity` and
//! `-Infinity`. Integers are exact over the whole range of their type, numbers go straight into
//! typed vectors, and strings without escapes are slices of the input. Every error says where, what
//! was expected and what came. The writer gives the shortest text that reads back to the same
//! number, with the same three tokens.

mod element;
mod error;
mod read_tensor;
mod reader;
mod value;
mod write_tensor;
mod writer;

pub(crate) use error::{JsonError, excerpt};
pub(crate) use read_tensor::{BytesForm, TensorReader};
pub(crate) use reader::{Kind, Reader};
pub(crate) use value::Value;
pub(crate) use write_tensor::TensorText;
pub(crate) use writer::Writer;
