//! The process back end of `trainyard up`.
