//! NumPy's array files, versions 1 to 3
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

use bytes::Bytes;
use half::f16;
use miette::miette;
use trainyard_serving::tensor::{Data, element_count};
use trainyard_serving::{DataType, Tensor};

use super::super::element::{Element, Elements};
use super::super::metadata::Declared;

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// More than any array's header; numpy itself refuses to parse long ones.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// An array as its file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Array {
    kind: Kind,
    /// Bytes of one element.
    size: usize,
    big_endian: bool,
    /// The first dimension varies fastest.
    fortran: bool,
    shape: Vec<usize>,
    data: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Int,
    Uint,
    Float,
    /// Bytes, padded with zeros.
    Bytes,
    /// Code points of four bytes, padded with zeros.
    Unicode,
    /// Bytes without meaning, as which numpy writes bfloat16.
    Void,
}

pub(super) fn parse(content: &Bytes) -> Result<Array, String> {
    let cut = || "the file is cut off in its header".to_owned();
    let version = *content.get(6).ok_or_else(cut)?;
    let (start, length): (usize, usize) = match version {
        1 => {
            let bytes: [u8; 2] =
                content.get(8..10).and_then(|it| it.try_into().ok()).ok_or_else(cut)?;
            (10, usize::from(u16::from_le_bytes(bytes)))
        }
        2 | 3 => {
            let bytes: [u8; 4] =
                content.get(8..12).and_then(|it| it.try_into().ok()).ok_or_else(cut)?;
            (12, usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX))
        }
        other => {
            return Err(format!("it has version {other} of the .npy format, known are 1 to 3"));
        }
    };
    if !content.starts_with(MAGIC) {
        return Err("this is no .npy file".to_owned());
    }
    if length > MAX_HEADER_BYTES {
        return Err(format!("its header has {length} bytes, more than {MAX_HEADER_BYTES}"));
    }
    let end = start.saturating_add(length);
    let header = content.get(start..end).ok_or_else(cut)?;
    let header = String::from_utf8_lossy(header);
    let (kind, size, big_endian) = descr(&header)?;
    let fortran = match entry(&header, "fortran_order")?.split([',', '}']).next().map(str::trim) {
        Some("True") => true,
        Some("False") => false,
        _ => return Err(format!("its header cannot be read: {}", header.trim())),
    };
    let shape = shape(&header)?;
    let data = content.slice(end..);
    let needed = element_count(&shape).and_then(|count| count.checked_mul(size));
    match needed {
        Some(needed) if needed == data.len() => {}
        Some(needed) => {
            return Err(format!(
                "shape {shape:?} needs {needed} bytes of data, the file has {}",
                data.len()
            ));
        }
        None => return Err(format!("shape {shape:?} is too large")),
    }
    Ok(Array { kind, size, big_endian, fortran, shape, data })
}

/// What follows `'KEY':` in the header, which is a Python dictionary.
fn entry<'a>(header: &'a str, key: &str) -> Result<&'a str, String> {
    ['\'', '"']
        .iter()
        .find_map(|quote| {
            let (_, rest) = header.split_once(&format!("{quote}{key}{quote}"))?;
            Some(rest.trim_start().strip_prefix(':')?.trim_start())
        })
        .ok_or_else(|| format!("its header has no `{key}`"))
}

fn descr(header: &str) -> Result<(Kind, usize, bool), String> {
    let value = entry(header, "descr")?;
    if value.starts_with('[') {
        return Err("it holds records; give one array for each input".to_owned());
    }
    let quoted = value.trim_start_matches(['\'', '"']);
    let text = quoted.split(['\'', '"']).next().unwrap_or_default();
    let unknown = || format!("it has the data type `{text}`, which no model takes");
    let mut characters = text.chars();
    let order = characters.next().ok_or_else(unknown)?;
    let (order, rest) = match order {
        '<' | '>' | '|' | '=' => (order, characters.as_str()),
        _ => ('|', text),
    };
    let mut characters = rest.chars();
    let code = characters.next().ok_or_else(unknown)?;
    if code == 'O' {
        return Err("it holds Python objects, and reading those would run code; save numbers or \
                    fixed-width strings (dtype `S` or `U`)"
            .to_owned());
    }
    let number: usize = characters.as_str().parse().map_err(|_| unknown())?;
    let (kind, size) = match (code, number) {
        ('b', 1) => (Kind::Bool, 1),
        ('i', 1 | 2 | 4 | 8) => (Kind::Int, number),
        ('u', 1 | 2 | 4 | 8) => (Kind::Uint, number),
        ('f', 2 | 4 | 8) => (Kind::Float, number),
        ('S' | 'a', _) => (Kind::Bytes, number),
        ('U', _) => (Kind::Unicode, number.checked_mul(4).ok_or_else(unknown)?),
        ('V', 2) => (Kind::Void, 2),
        _ => return Err(unknown()),
    };
    let native_big = cfg!(target_endian = "big");
    Ok((kind, size, order == '>' || order == '=' && native_big))
}

fn shape(header: &str) -> Result<Vec<usize>, String> {
    let wrong = || format!("its header cannot be read: {}", header.trim());
    let value = entry(header, "shape")?;
    let inside =
        value.strip_prefix('(').and_then(|rest| rest.split(')').next()).ok_or_else(wrong)?;
    inside
        .split(',')
        .map(str::trim)
        .filter(|extent| !extent.is_empty())
        // Python 2 wrote long integers with an L.
        .map(|extent| extent.trim_end_matches('L').parse().map_err(|_| wrong()))
        .collect()
}

impl Array {
    /// The array as one input's tensor; its values are converted where the model's type differs
    /// and can hold them.
    pub(super) fn bind(&self, declared: &Declared) -> miette::Result<(String, Tensor)> {
        let data_type = declared.data_type()?;
        let shape = declared.fit(&self.shape)?;
        let wrong = |problem: String| miette!("input `{}`: {problem}", declared.name);
        let is_flat = self.shape.iter().filter(|extent| **extent != 1).count() < 2;
        let in_order = !self.fortran || is_flat;
        let data = if in_order && !self.big_endian && self.native() == Some(data_type) {
            Data::Fixed(self.data.clone())
        } else if self.kind == Kind::Void && data_type != DataType::Bf16 {
            return Err(wrong(format!(
                "the array holds raw bytes (bfloat16?), the model takes {}",
                declared.datatype
            )));
        } else {
            self.convert(data_type).map_err(wrong)?
        };
        let tensor = Tensor::new(data_type, shape.into(), data);
        Ok((declared.name.clone(), tensor.map_err(|error| wrong(error.to_string()))?))
    }

    /// The type whose bytes the file has.
    fn native(&self) -> Option<DataType> {
        Some(match (self.kind, self.size) {
            (Kind::Bool, _) => DataType::Bool,
            (Kind::Int, 1) => DataType::Int8,
            (Kind::Int, 2) => DataType::Int16,
            (Kind::Int, 4) => DataType::Int32,
            (Kind::Int, 8) => DataType::Int64,
            (Kind::Uint, 1) => DataType::Uint8,
            (Kind::Uint, 2) => DataType::Uint16,
            (Kind::Uint, 4) => DataType::Uint32,
            (Kind::Uint, 8) => DataType::Uint64,
            (Kind::Float, 2) => DataType::Fp16,
            (Kind::Float, 4) => DataType::Fp32,
            (Kind::Float, 8) => DataType::Fp64,
            (Kind::Void, _) => DataType::Bf16,
            _ => return None,
        })
    }

    fn convert(&self, data_type: DataType) -> Result<Data, String> {
        let mut elements = Elements::new(data_type);
        let count = element_count(&self.shape).unwrap_or(0);
        let mut index = vec![0usize; self.shape.len()];
        for at in 0..count {
            let place = if self.fortran { self.fortran_place(&index) } else { at };
            let start = place.saturating_mul(self.size);
            let bytes = self.data.get(start..start.saturating_add(self.size)).unwrap_or_default();
            elements.push(self.element(bytes)?)?;
            advance(&mut index, &self.shape);
        }
        Ok(elements.into_data())
    }

    fn fortran_place(&self, index: &[usize]) -> usize {
        let pairs = index.iter().zip(&self.shape).rev();
        pairs.fold(0usize, |place, (at, extent)| place.saturating_mul(*extent).saturating_add(*at))
    }

    fn element(&self, bytes: &[u8]) -> Result<Element, String> {
        let mut eight = [0u8; 8];
        // Little-endian and widened, whatever the file has.
        for (at, byte) in eight.iter_mut().enumerate().take(self.size) {
            let from = if self.big_endian {
                self.size.saturating_sub(1).checked_sub(at)
            } else {
                Some(at)
            };
            *byte = from.and_then(|from| bytes.get(from)).copied().unwrap_or(0);
        }
        let raw = u64::from_le_bytes(eight);
        Ok(match self.kind {
            Kind::Bool => Element::Bool(raw != 0),
            Kind::Uint => Element::Int(i128::from(raw)),
            Kind::Int => {
                let unused =
                    64u32.saturating_sub(u32::try_from(self.size).unwrap_or(8).saturating_mul(8));
                Element::Int(i128::from((raw << unused) as i64 >> unused))
            }
            Kind::Float => Element::Float(match self.size {
                2 => f16::from_bits(raw as u16).to_f64(),
                4 => f64::from(f32::from_bits(raw as u32)),
                _ => f64::from_bits(raw),
            }),
            Kind::Void => Element::Float(half::bf16::from_bits(raw as u16).to_f64()),
            Kind::Bytes => {
                let length =
                    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at.saturating_add(1));
                Element::Bytes(Bytes::copy_from_slice(bytes.get(..length).unwrap_or_default()))
            }
            Kind::Unicode => Element::Bytes(self.text(bytes)?.into()),
        })
    }

    fn text(&self, bytes: &[u8]) -> Result<String, String> {
        let mut text = String::new();
        for point in bytes.chunks_exact(4).filter_map(|four| four.try_into().ok()) {
            let point =
                if self.big_endian { u32::from_be_bytes(point) } else { u32::from_le_bytes(point) };
            text.push(char::from_u32(point).ok_or_else(|| format!("{point:#x} is no character"))?);
        }
        Ok(text.trim_end_matches('\0').to_owned())
    }
}

/// The next index, the last dimension fastest.
fn advance(index: &mut [usize], shape: &[usize]) {
    for (at, extent) in index.iter_mut().zip(shape).rev() {
        *at = at.saturating_add(1);
        if *at < *extent {
            return;
        }
        *at = 0;
    }
}

/// Writes an array of version 1, C order.
pub(crate) fn write(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let extents: String = shape.iter().map(|extent| format!("{extent}, ")).collect();
    let mut header = format!(
        "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}",
        extents.trim_end()
    );
    // The data begins at a multiple of 64 bytes, and the header ends in a line end.
    let unpadded = header.len().saturating_add(11);
    header.push_str(&" ".repeat(unpadded.next_multiple_of(64).saturating_sub(unpadded)));
    header.push('\n');
    let length = u16::try_from(header.len()).unwrap_or(u16::MAX);
    [MAGIC, &[1, 0], &length.to_le_bytes(), header.as_bytes(), data].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::model;
    use super::*;

    fn file(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Bytes {
        let fortran = if fortran { "True" } else { "False" };
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let length = (header.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0], &length, header.as_bytes(), data].concat().into()
    }

    #[track_caller]
    fn check(file: Bytes, datatype: &str, dims: &[i64], expected: Result<(&[usize], &[u8]), &str>) {
        let metadata = model(&[("x", datatype, dims)]);
        let declared = metadata.only_input().unwrap();
        let got = parse(&file).and_then(|array| {
            array.bind(declared).map_err(|error| error.to_string()).map(|(_, tensor)| {
                let bytes = match tensor.data() {
                    Data::Fixed(bytes) => bytes.to_vec(),
                    Data::Bytes(all) => all.join(&b'|'),
                };
                (tensor.shape().to_vec(), bytes)
            })
        });
        let got = got.as_ref().map(|(shape, bytes)| (shape.as_slice(), bytes.as_slice()));
        assert_eq!(got.map_err(String::as_str), expected);
    }

    #[test]
    fn types_and_orders() {
        check(file("|u1", false, "(2, 2)", b"abcd"), "UINT8", &[-1, 2], Ok((&[2, 2], b"abcd")));
        check(file("|u1", true, "(2, 2)", b"abcd"), "UINT8", &[-1, 2], Ok((&[2, 2], b"acbd")));
        check(file("|u1", true, "(2, 3)", b"abcdef"), "UINT8", &[2, 3], Ok((&[2, 3], b"acebdf")));
        check(
            file(">i2", false, "(2,)", &[0, 1, 255, 255]),
            "INT16",
            &[-1],
            Ok((&[2], &[1, 0, 255, 255])),
        );
        check(
            file("<f8", false, "(1,)", &1.5f64.to_le_bytes()),
            "FP32",
            &[-1],
            Ok((&[1], &1.5f32.to_le_bytes())),
        );
        check(
            file("|i1", false, "(1,)", &[254]),
            "FP32",
            &[-1],
            Ok((&[1], &(-2f32).to_le_bytes())),
        );
        check(file("|b1", false, "()", &[1]), "BOOL", &[], Ok((&[], &[1])));
        check(file("|S3", false, "(2,)", b"ab\0c\0\0"), "BYTES", &[-1], Ok((&[2], b"ab|c")));
        check(
            file("<U2", false, "(1,)", b"\xe4\0\0\0\0\0\0\0"),
            "BYTES",
            &[-1],
            Ok((&[1], "ä".as_bytes())),
        );
        check(file("<V2", false, "(1,)", &[128, 63]), "BF16", &[-1], Ok((&[1], &[128, 63])));
        check(file("<f4", false, "(0, 2)", b""), "FP32", &[-1, 2], Ok((&[0, 2], b"")));
    }

    #[test]
    fn mistakes() {
        let float = file("<f4", false, "(1,)", &1.5f32.to_le_bytes());
        check(float.clone(), "INT32", &[-1], Err("input `x`: 1.5 is no INT32"));
        check(
            float,
            "FP32",
            &[-1, 2],
            Err("input `x` takes FP32 of shape [-1, 2], but the data has shape [1]"),
        );
        check(
            file("<f4", false, "(2,)", &[0; 4]),
            "FP32",
            &[-1],
            Err("shape [2] needs 8 bytes of data, the file has 4"),
        );
        let huge = format!("({}, {})", usize::MAX, 2);
        assert!(parse(&file("<f4", false, &huge, b"")).unwrap_err().contains("too large"));
        assert!(parse(&file("|O", false, "(1,)", b"x")).unwrap_err().contains("run code"));
        assert!(parse(&file("<c8", false, "(1,)", b"x")).unwrap_err().contains("`<c8`"));
        assert!(
            parse(&Bytes::from_static(b"\x93NUMPY\x01\x00\xff\xff{"))
                .unwrap_err()
                .contains("cut off")
        );
        assert!(
            parse(&Bytes::from_static(b"\x93NUMPY\x09\x00")).unwrap_err().contains("version 9")
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(shape in proptest::collection::vec(0usize..4, 0..4)) {
            let count: usize = shape.iter().product();
            let data: Vec<u8> = (0..count * 2).map(|byte| byte as u8).collect();
            let written = write("<i2", &shape, &data);
            prop_assert_eq!((written.len() - data.len()) % 64, 0);
            let array = parse(&written.into()).unwrap();
            prop_assert_eq!((array.shape, array.data.to_vec()), (shape, data));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&[MAGIC, &[1, 0], bytes.as_slice()].concat().into());
        }
    }
}
