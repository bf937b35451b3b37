//! How much memory a message may come to take beyond its own size.

use crate::error::InferError;
use crate::tensor::DataType;

/// Counts what short forms in one request expand to: one value that stands for a whole tensor, or a
/// context that is part of every example. Without a limit, a hundred bytes could ask for terabytes.
#[derive(Debug)]
pub(crate) struct Expansion {
    left: usize,
    limit: usize,
}

impl Expansion {
    /// Allows `limit` bytes, which is the size that a request in its long form may have.
    pub(crate) fn new(limit: usize) -> Self {
        Self { left: limit, limit }
    }

    /// Takes the bytes of this many elements.
    pub(crate) fn add(&mut self, elements: usize, data_type: DataType) -> Result<(), InferError> {
        // A string costs its handle, whatever it holds.
        let size = data_type.size().unwrap_or(size_of::<bytes::Bytes>());
        let left = elements.checked_mul(size).and_then(|bytes| self.left.checked_sub(bytes));
        self.left = left.ok_or_else(|| {
            InferError::TooLarge(format!(
                "{elements} repeated elements of {size} bytes make the request larger than the \
                 limit of {} bytes",
                self.limit
            ))
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let mut expansion = Expansion::new(16);
        assert!(expansion.add(3, DataType::Fp32).is_ok());
        assert!(expansion.add(2, DataType::Fp32).is_err(), "4 bytes are left");
        assert!(expansion.add(usize::MAX, DataType::Fp64).is_err(), "an overflow");
        assert!(expansion.add(1, DataType::Fp32).is_ok(), "a refusal takes nothing");
        assert!(expansion.add(0, DataType::Fp64).is_ok());
    }
}
