//! Several arrays in one file: a ZIP archive of .npy files.

use bytes::Bytes;
use miette::miette;
use trainyard_serving::Tensor;

use super::super::metadata::Metadata;
use super::npy::{self, Array};
use super::zip;

/// Arrays by name.
pub(super) fn parse(content: &Bytes) -> Result<Vec<(String, Array)>, String> {
    zip::read(content)?
        .into_iter()
        .map(|(name, content)| {
            let array = npy::parse(&content).map_err(|problem| format!("`{name}`: {problem}"))?;
            Ok((name.strip_suffix(".npy").unwrap_or(&name).to_owned(), array))
        })
        .collect()
}

/// Arrays named as inputs; a single array, or the one that `tensor` names, may have any name.
pub(super) fn bind(
    arrays: Vec<(String, Array)>,
    tensor: Option<&str>,
    metadata: &Metadata,
) -> miette::Result<Vec<(String, Tensor)>> {
    if let Some(name) = tensor {
        let array = match arrays.as_slice() {
            [(_, only)] => only,
            several => match several.iter().find(|(known, _)| known == name) {
                Some((_, array)) => array,
                None => return Err(miette!("it holds no array `{name}`")),
            },
        };
        return Ok(vec![array.bind(metadata.input(name)?)?]);
    }
    // What `numpy.savez(file, array)` writes has the name `arr_0`.
    if let [(name, only)] = arrays.as_slice()
        && metadata.input(name).is_err()
    {
        return Ok(vec![only.bind(metadata.only_input()?)?]);
    }
    arrays.iter().map(|(name, array)| array.bind(metadata.input(name)?)).collect()
}

#[test]
fn arrays_are_found_by_name() {
    use super::tests::model;
    let (one, two) = (npy::write("|u1", &[1], b"a"), npy::write("|u1", &[1], b"b"));
    let archive = zip::tests::archive(&[("x.npy", &one), ("y.npy", &two)], true);
    let arrays = parse(&archive.into()).unwrap();
    let metadata = model(&[("y", "UINT8", &[-1]), ("x", "UINT8", &[-1])]);
    let bound = bind(arrays.clone(), None, &metadata).unwrap();
    assert_eq!(bound.iter().map(|it| it.0.as_str()).collect::<Vec<_>>(), ["x", "y"]);
    let bound = bind(arrays, Some("y"), &metadata).unwrap();
    assert_eq!(bound[0].1.fixed().unwrap(), b"b".as_slice());
    let single = zip::tests::archive(&[("arr_0.npy", &one)], false);
    let arrays = parse(&single.into()).unwrap();
    let bound = bind(arrays, None, &model(&[("input", "UINT8", &[-1])])).unwrap();
    assert_eq!(bound[0].0, "input");
}
