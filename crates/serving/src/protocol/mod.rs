//! Wire protocols, one folder each. Each translates between bytes and [`crate::InferRequest`].
