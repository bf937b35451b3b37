use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;

/// A file of `torch.save`: stored members, a directory, an end record.
pub(crate) fn torch_file(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    for (name, data) in members {
        let at = file.len() as u32;
        let (crc, bytes) = (crc32fast::hash(data), data.len() as u32);
        let mut common = Vec::new();
        // Version, flags, method, time, date.
        for short in [0u16, 0, 0, 0, 0] {
            common.extend(short.to_le_bytes());
        }
        for word in [crc, bytes, bytes] {
            common.extend(word.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend(0u16.to_le_bytes());
        file.extend(0x0403_4b50u32.to_le_bytes());
        file.extend(&common);
        file.extend(name.bytes());
        file.extend(*data);
        directory.extend(0x0201_4b50u32.to_le_bytes());
        directory.extend(0u16.to_le_bytes());
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.bytes());
    }
    let (at, bytes) = (file.len() as u32, directory.len() as u32);
    file.extend(directory);
    file.extend(0x0605_4b50u32.to_le_bytes());
    file.extend([0; 4]);
    for count in [members.len() as u16; 2] {
        file.extend(count.to_le_bytes());
    }
    file.extend(bytes.to_le_bytes());
    file.extend(at.to_le_bytes());
    file.extend(0u16.to_le_bytes());
    file
}

pub(crate) fn safetensors_file(tensors: &[(&str, usize)]) -> Vec<u8> {
    let mut at = 0;
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), serde_json::json!({"format": "pt"}));
    for (name, bytes) in tensors {
        let offsets = [at, at + bytes];
        at += bytes;
        let tensor = serde_json::json!({"dtype": "U8", "shape": [bytes], "data_offsets": offsets});
        header.insert((*name).to_owned(), tensor);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend((0..at).map(|n| n as u8));
    file
}

/// An index of one block, as TensorFlow's table writer makes it. `(shard, offset, size)`.
pub(crate) fn tensorflow_index(shards: u8, tensors: &[(u8, u8, u8)]) -> Vec<u8> {
    let mut block = Vec::new();
    let mut entry = |key: &[u8], value: &[u8]| {
        block.extend([0, key.len() as u8, value.len() as u8]);
        block.extend(key);
        block.extend(value);
    };
    entry(b"", &[0x08, shards, 0x1a, 2, 0x08, 1]);
    for (n, (shard, offset, size)) in tensors.iter().enumerate() {
        entry(&[b'a' + n as u8], &[0x08, 1, 0x18, *shard, 0x20, *offset, 0x28, *size]);
    }
    block.extend(0u32.to_le_bytes());
    block.extend(1u32.to_le_bytes());
    let mut table = block.clone();
    table.extend([0; 5]);
    let index_at = table.len() as u8;
    let mut index = vec![0, 1, 2, b'z', 0, block.len() as u8];
    index.extend(0u32.to_le_bytes());
    index.extend(1u32.to_le_bytes());
    let index_bytes = index.len() as u8;
    table.extend(index);
    table.extend([0; 5]);
    let mut footer = vec![0, 0, index_at, index_bytes];
    footer.resize(40, 0);
    footer.extend(0xdb47_7524_8b80_fb57u64.to_le_bytes());
    table.extend(footer);
    assert!(block.len() < 128 && table.len() < 256, "lengths are one byte here");
    table
}

fn judged(files: &[(&str, Vec<u8>)]) -> Verdict {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    judge(&Tree::read(folder.path()).unwrap())
}

fn write(root: &Path, files: &[(&str, Vec<u8>)]) {
    for (path, bytes) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[track_caller]
fn complete(layout: Layout, files: &[(&str, Vec<u8>)]) {
    assert_eq!(judged(files), Verdict::Complete(layout));
}

#[track_caller]
fn incomplete(part: &str, files: &[(&str, Vec<u8>)]) {
    match judged(files) {
        Verdict::Incomplete(reason) => assert!(reason.contains(part), "{reason}"),
        other => panic!("{other:?} in place of {part}"),
    }
}

fn some() -> Vec<u8> {
    b"some bytes".to_vec()
}

#[test]
fn layouts() {
    let torch = || torch_file(&[("a/data.pkl", b"pickle"), ("a/version", b"3\n")]);
    let safe = || safetensors_file(&[("w", 5), ("b", 3)]);
    complete(Layout::Torch, &[("model.pt", torch())]);
    complete(Layout::Safetensors, &[("model.safetensors", safe())]);
    complete(Layout::Safetensors, &[("model.safetensors", safe()), ("optimizer.pt", torch())]);
    complete(Layout::Marker, &[("x", some()), ("_SUCCESS", Vec::new())]);
    complete(Layout::Marker, &[("x", some()), ("SHA256SUMS", b"00  x\n".to_vec())]);
    complete(Layout::Marker, &[("d/x", some()), ("commit_success.txt", Vec::new())]);
    complete(
        Layout::Orbax,
        &[("_CHECKPOINT_METADATA", some()), ("default/manifest.ocdbt", some())],
    );
    complete(Layout::TorchDistributed, &[(".metadata", some()), ("__0_0.distcp", some())]);
    let state = || b"{\"global_step\": 10}".to_vec();
    complete(
        Layout::HuggingFace,
        &[("trainer_state.json", state()), ("model.safetensors", safe())],
    );
    let index = || tensorflow_index(2, &[(0, 0, 4), (1, 2, 8)]);
    let shards = [("c.data-00000-of-00002", some()), ("c.data-00001-of-00002", some())];
    let mut files = vec![("c.index", index())];
    files.extend(shards.clone());
    complete(Layout::TensorFlow, &files);
    // Nothing says anything.
    assert_eq!(judged(&[("x", some())]), Verdict::Unknown);
    assert_eq!(judged(&[("old.pt", b"\x80\x02pickle".to_vec())]), Verdict::Unknown);
    // A second worker's shards, whose metadata the first one writes on its own disk.
    assert_eq!(judged(&[("__1_0.distcp", some())]), Verdict::Unknown);
}

#[test]
fn what_is_missing_is_told() {
    let torch = torch_file(&[("a/data.pkl", b"pickle"), ("a/version", b"3\n")]);
    let safe = safetensors_file(&[("w", 5), ("b", 3)]);
    incomplete("no file", &[]);
    incomplete("is being written", &[("a.orbax-checkpoint-tmp-7/x", some())]);
    incomplete("is being written", &[("x", some()), ("y.tmp", some())]);
    incomplete("cut short", &[("m.pt", torch[..torch.len() - 1].to_vec())]);
    incomplete("cut short", &[("m.pt", Vec::new())]);
    let mut flipped = torch.clone();
    let at = flipped.windows(6).position(|it| it == b"pickle").unwrap();
    flipped[at] ^= 1;
    incomplete("checksum", &[("m.pt", flipped)]);
    incomplete("header tells of 8", &[("m.safetensors", safe[..safe.len() - 1].to_vec())]);
    incomplete("does not fit", &[("m.safetensors", safe[..20].to_vec())]);
    incomplete("shorter than", &[("m.safetensors", Vec::new())]);
    let index = br#"{"weight_map": {"w": "m-1.safetensors", "b": "m-2.safetensors"}}"#;
    incomplete(
        "`m-2.safetensors`, which is not there",
        &[("m.safetensors.index.json", index.to_vec()), ("m-1.safetensors", safe.clone())],
    );
    incomplete("`x`, which is not there", &[("SHA256SUMS", b"00  x\n".to_vec())]);
    incomplete(".metadata", &[("__0_0.distcp", some()), ("__1_0.distcp", some())]);
    incomplete("is empty", &[("__0_0.distcp", some()), (".metadata", Vec::new())]);
    incomplete("trainer_state.json", &[("optimizer.pt", torch.clone()), ("scheduler.pt", torch)]);
    incomplete("cut short", &[("trainer_state.json", b"{\"log\": [".to_vec())]);
    let index = || tensorflow_index(2, &[(0, 0, 4), (1, 2, 9)]);
    let first = ("c.data-00000-of-00002", some());
    incomplete("of-00002` is not there", &[("c.index", index()), first.clone()]);
    let short = ("c.data-00001-of-00002", some());
    incomplete("its tensors take 11", &[("c.index", index()), first.clone(), short]);
    incomplete("`c.index`", std::slice::from_ref(&first));
    incomplete("cut short", &[("c.index", index()[..60].to_vec()), first]);
}

#[test]
fn a_writer_without_checksums_is_believed() {
    let members: [(&str, &[u8]); 2] = [("a/data.pkl", b"pickle"), ("a/version", b"3\n")];
    let mut file = torch_file(&members);
    for (_, data) in members {
        let crc = crc32fast::hash(data).to_le_bytes();
        while let Some(at) = file.windows(4).position(|it| it == crc) {
            file[at..at + 4].copy_from_slice(&[0; 4]);
        }
    }
    complete(Layout::Torch, &[("m.pt", file)]);
}

#[test]
fn temporary_names() {
    for name in [
        "100.orbax-checkpoint-tmp-1700000000",
        "model.pt.tmp",
        "tmp-checkpoint-100",
        ".tmp123",
        "x.part",
        "ckpt.data-00000-of-00001.tempstate99",
        "a.tmp.123",
        "ckpt_temp",
    ] {
        assert!(is_temporary(name), "{name}");
    }
    for name in ["step-100", "tmpl.pt", "model.pt", "part-0", "template", ".metadata", "attempt"] {
        assert!(!is_temporary(name), "{name}");
    }
}

proptest! {
    /// Of a whole file, no part that is shorter is taken for whole.
    #[test]
    fn what_is_cut_is_never_complete(cut in 0.0f64..1.0, kind in 0usize..3, seed in 1usize..60) {
        let data = vec![7; seed];
        let (name, whole) = match kind {
            0 => ("m.pt", torch_file(&[("a/data.pkl", &data), ("a/version", b"3\n")])),
            1 => ("m.safetensors", safetensors_file(&[("w", seed), ("b", 3)])),
            _ => ("c.index", tensorflow_index(1, &[(0, 0, 4)])),
        };
        let length = (whole.len() as f64 * cut) as usize;
        let mut files = vec![(name, whole[..length].to_vec())];
        if kind == 2 {
            files.push(("c.data-00000-of-00001", some()));
        }
        let verdict = judged(&files);
        // A file of less than four bytes may be anything of that name, and is none of these.
        prop_assert!(!matches!(verdict, Verdict::Complete(_)), "{:?}", verdict);
    }

    #[test]
    fn anything_is_answered(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        crate::fuzzing::checkpoint_manifest(&data);
        crate::fuzzing::safetensors(&data);
        crate::fuzzing::torch_zip(&data);
        crate::fuzzing::tensorflow_index(&data);
    }
}
