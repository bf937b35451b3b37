//! Model formats that are not ONNX: their names, and whether loading one is safe.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use crate::size::size;
use crate::table::table;

/// What is known of a format.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) name: &'static str,
    is_safe: bool,
    note: &'static str,
    extensions: &'static [&'static str],
    /// First bytes.
    magic: &'static [&'static [u8]],
}

const EXPORT: &str = "export the model to ONNX to serve it here";

/// The first that matches counts: by content where a format shows itself, else by extension.
static FORMATS: [Format; 7] = [
    Format {
        name: "Python pickle",
        is_safe: false,
        note: "unsafe: it runs code when it is loaded; load only what you made yourself",
        extensions: &["pkl", "pickle", "joblib", "cloudpickle", "dill"],
        // Protocols 2 to 5 begin so.
        magic: &[b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"],
    },
    Format {
        name: "PyTorch",
        is_safe: false,
        note: "unsafe: it holds a pickle, which runs code when it is loaded without weights_only",
        extensions: &["pt", "pth", "ckpt"],
        magic: &[],
    },
    Format {
        name: "Keras",
        is_safe: false,
        note: "unsafe: Lambda layers run code when it is loaded without safe_mode",
        extensions: &["keras", "h5", "hdf5"],
        magic: &[b"\x89HDF\r\n\x1a\n"],
    },
    Format {
        name: "TensorFlow SavedModel",
        is_safe: false,
        note: "its graph can read and write files when it runs; serve it in a sandbox",
        extensions: &["pb"],
        magic: &[],
    },
    Format {
        name: "safetensors",
        is_safe: true,
        note: "weights only, no code; the program that made them has to come with them",
        extensions: &["safetensors"],
        magic: &[],
    },
    Format {
        name: "GGUF",
        is_safe: true,
        note: "weights and settings for llama.cpp, no code",
        extensions: &["gguf"],
        magic: &[b"GGUF"],
    },
    Format {
        name: "TensorFlow Lite",
        is_safe: true,
        note: "a graph and its weights, no code",
        extensions: &["tflite"],
        magic: &[],
    },
];

/// The format of a file, if it is one of these.
pub(super) fn recognise(path: &Path) -> Option<&'static Format> {
    let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
    let mut head = Vec::new();
    // A file that cannot be read is told about by who opens it next.
    let _ = File::open(path).and_then(|file| file.take(16).read_to_end(&mut head));
    let by_content = FORMATS.iter().find(|it| it.magic.iter().any(|magic| head.starts_with(magic)));
    let by_name = || FORMATS.iter().find(|it| it.extensions.contains(&extension));
    by_content.or_else(by_name)
}

pub(super) fn as_text(path: &Path, format: &Format) -> String {
    let rows = [
        ("model", path.display().to_string()),
        ("format", format.name.to_owned()),
        ("size", size(bytes(path))),
        ("safety", format.note.to_owned()),
        ("serving", EXPORT.to_owned()),
    ];
    table(&[], rows.map(|(name, value)| vec![name.to_owned(), value]))
}

pub(super) fn as_json(path: &Path, format: &Format) -> Value {
    json!({
        "path": path,
        "format": format.name,
        "bytes": bytes(path),
        "safety": {"runs_code_at_load": !format.is_safe, "note": format.note},
    })
}

fn bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

#[test]
fn content_counts_more_than_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &[u8], expected: Option<&str>| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        assert_eq!(recognise(&path).map(|it| it.name), expected, "{name}");
    };
    check("harmless.onnx", b"\x80\x04\x95", Some("Python pickle"));
    check("model.onnx", b"\x08\x07", None);
    check("weights.safetensors", b"{}", Some("safetensors"));
    check("net.pt", b"PK\x03\x04", Some("PyTorch"));
    check("notes.txt", b"hello", None);
}
