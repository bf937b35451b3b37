//! Bodies of the fuzz targets (`fuzz/targets`): whatever the bytes are, nothing panics, and memory and
//! time stay in proportion.

use std::io::Cursor;

use crate::manifest::Manifest;
use crate::recognise::{safetensors, tensorflow, torch_zip};

/// A manifest that is read can be written and read again.
pub fn checkpoint_manifest(data: &[u8]) {
    // The body alone too, or every change would end at the hash.
    let mut whole = format!("trainyard-checkpoint 1 sha256:{}\n", crate::chunk::sha256(data));
    let mut bytes = std::mem::take(&mut whole).into_bytes();
    bytes.extend_from_slice(data);
    for bytes in [data, &bytes] {
        if let Ok(manifest) = Manifest::parse(bytes) {
            let again = Manifest::parse(&manifest.to_bytes());
            assert_eq!(again.as_ref(), Ok(&manifest));
            assert!(manifest.slices().all(|it| it.bytes <= manifest.chunk_bytes && it.bytes > 0));
        }
    }
}

pub fn safetensors(data: &[u8]) {
    // The verdicts are tested elsewhere; here it is that there are any.
    let _ = safetensors::check_file(data, data.len() as u64);
    let _ = safetensors::named_files(data);
}

pub fn torch_zip(data: &[u8]) {
    let _ = torch_zip::check_file(&mut Cursor::new(data), data.len() as u64);
}

pub fn tensorflow_index(data: &[u8]) {
    let _ = tensorflow::read_index(&mut Cursor::new(data), data.len() as u64);
}
