//! Decoding of any body, for the fuzz targets.

use bytes::Bytes;

use super::decode::{Target, decode};
use crate::request::VersionChoice;
use crate::shared_memory::SharedMemory;

/// Reads an infer request whose JSON ends at `json_length`, or is all of it.
pub(crate) fn fuzz(body: &Bytes, json_length: Option<usize>) {
    let target = Target { model: "m".to_owned(), version: VersionChoice::Latest, deadline: None };
    let _ = decode(body, json_length, target, &SharedMemory::default());
}
