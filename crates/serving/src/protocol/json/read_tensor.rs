//! Reads the elements of a tensor, flat or nested, straight into a typed vector.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use half::{bf16, f16};
use smallvec::SmallVec;

use super::element::{Element, flag};
use super::error::JsonError;
use super::reader::{Kind, Reader};
use crate::tensor::{Data, DataType, Shape, Tensor, TensorError};

/// How elements of [`DataType::Bytes`] are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BytesForm {
    /// As strings.
    Text,
    /// As strings, or as `{"b64": "…"}` where they are not text.
    TextOrBase64,
}

/// Collects the elements of one tensor.
#[derive(Debug)]
pub(crate) struct TensorReader {
    data_type: DataType,
    bytes: BytesForm,
    values: Values,
    nesting: Nesting,
    rows: usize,
}

#[derive(Debug)]
enum Values {
    Bool(Vec<u8>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp16(Vec<f16>),
    Bf16(Vec<bf16>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Bytes(Vec<Bytes>),
}

/// The same expression for the vector of any type.
macro_rules! each {
    ($values:expr, $elements:ident => $all:expr) => {
        each!($values, $elements => $all, $elements => $all, $elements => $all)
    };
    (
        $values:expr,
        $elements:ident => $numbers:expr,
        $flags:ident => $booleans:expr,
        $texts:ident => $strings:expr
    ) => {
        match $values {
            Values::Bool($flags) => $booleans,
            Values::Uint8($elements) => $numbers,
            Values::Uint16($elements) => $numbers,
            Values::Uint32($elements) => $numbers,
            Values::Uint64($elements) => $numbers,
            Values::Int8($elements) => $numbers,
            Values::Int16($elements) => $numbers,
            Values::Int32($elements) => $numbers,
            Values::Int64($elements) => $numbers,
            Values::Fp16($elements) => $numbers,
            Values::Bf16($elements) => $numbers,
            Values::Fp32($elements) => $numbers,
            Values::Fp64($elements) => $numbers,
            Values::Bytes($texts) => $strings,
        }
    };
}

impl TensorReader {
    pub(crate) fn new(data_type: DataType, bytes: BytesForm) -> Self {
        let values = match data_type {
            DataType::Bool => Values::Bool(Vec::new()),
            DataType::Uint8 => Values::Uint8(Vec::new()),
            DataType::Uint16 => Values::Uint16(Vec::new()),
            DataType::Uint32 => Values::Uint32(Vec::new()),
            DataType::Uint64 => Values::Uint64(Vec::new()),
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Fp16 => Values::Fp16(Vec::new()),
            DataType::Bf16 => Values::Bf16(Vec::new()),
            DataType::Fp32 => Values::Fp32(Vec::new()),
            DataType::Fp64 => Values::Fp64(Vec::new()),
            DataType::Bytes => Values::Bytes(Vec::new()),
        };
        Self { data_type, bytes, values, nesting: Nesting::default(), rows: 0 }
    }

    /// Reads the whole tensor: an array of any nesting, or one bare element.
    pub(crate) fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        self.read_at(reader, 0)
    }

    /// Reads one row of the first dimension, of which there are as many as there are calls.
    pub(crate) fn read_row(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        self.rows = self.rows.saturating_add(1);
        match self.nesting.extents.first_mut() {
            Some(outermost) => *outermost = Some(self.rows),
            None => self.nesting.extents.push(Some(self.rows)),
        }
        self.read_at(reader, 1)
    }

    /// The shape that the nesting has: none for a bare element.
    pub(crate) fn shape(&self) -> Shape {
        self.nesting.extents.iter().map(|extent| extent.unwrap_or(0)).collect()
    }

    /// Number of elements read.
    pub(crate) fn len(&self) -> usize {
        each!(&self.values, elements => elements.len())
    }

    /// Makes the tensor, with the shape of the nesting or any other that fits.
    pub(crate) fn finish(self, shape: Shape) -> Result<Tensor, TensorError> {
        let actual = self.len();
        let expected = crate::tensor::element_count(&shape)
            .ok_or_else(|| TensorError::TooLarge { shape: shape.to_vec() })?;
        if actual != expected {
            return Err(TensorError::ElementCount { shape: shape.to_vec(), expected, actual });
        }
        let data_type = self.data_type;
        each!(
            self.values,
            elements => Tensor::from_vec(data_type, shape, elements),
            flags => Tensor::from_vec(data_type, shape, flags),
            elements => Tensor::new(data_type, shape, Data::Bytes(elements))
        )
    }

    fn read_at(&mut self, reader: &mut Reader<'_>, level: usize) -> Result<(), JsonError> {
        let nesting = &mut self.nesting;
        each!(
            &mut self.values,
            elements => nesting.collect(reader, level, elements, Element::read),
            flags => nesting.collect(reader, level, flags, flag),
            elements => match self.bytes {
                BytesForm::Text => nesting.collect(reader, level, elements, text),
                BytesForm::TextOrBase64 => nesting.collect(reader, level, elements, text_or_base64),
            }
        )
    }
}

/// The shape that was seen so far.
#[derive(Debug, Default)]
struct Nesting {
    /// Length of the arrays at each level, once one has ended.
    extents: SmallVec<[Option<usize>; 6]>,
    /// The level that elements are at, once one was seen.
    leaves: Option<usize>,
}

impl Nesting {
    #[inline]
    fn collect<T>(
        &mut self,
        reader: &mut Reader<'_>,
        level: usize,
        values: &mut Vec<T>,
        element: impl Fn(&mut Reader<'_>) -> Result<T, JsonError> + Copy,
    ) -> Result<(), JsonError> {
        if !reader.is_array() {
            if self.leaves != Some(level) {
                self.first_leaf(reader, level)?;
            }
            values.push(element(reader)?);
            return Ok(());
        }
        if self.leaves.is_some_and(|leaves| leaves <= level) {
            return Err(reader.unexpected("an element, as deep as those before"));
        }
        if self.extents.len() <= level {
            self.extents.push(None);
        }
        let start = reader.offset();
        let count = reader
            .array(|reader, _| self.collect(reader, level.saturating_add(1), values, element))?;
        match self.extents.get_mut(level) {
            Some(Some(extent)) if *extent != count => Err(JsonError::new(
                start,
                format!("expected {extent} elements, as in the arrays before, found {count}"),
            )),
            Some(extent) => {
                *extent = Some(count);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Notes the level of the first element; an element at another level is an error.
    #[cold]
    fn first_leaf(&mut self, reader: &Reader<'_>, level: usize) -> Result<(), JsonError> {
        if self.leaves.is_some() || self.extents.len() > level {
            return Err(reader.unexpected("an array, as deep as those before"));
        }
        self.leaves = Some(level);
        Ok(())
    }
}

fn text(reader: &mut Reader<'_>) -> Result<Bytes, JsonError> {
    Ok(Bytes::from(reader.string()?.into_owned()))
}

fn text_or_base64(reader: &mut Reader<'_>) -> Result<Bytes, JsonError> {
    if reader.peek()? != Kind::Object {
        return text(reader);
    }
    let start = reader.offset();
    let mut decoded = None;
    reader.object(|reader, key| {
        if key != "b64" {
            return Err(reader.unexpected("only the key 'b64'"));
        }
        let start = reader.offset();
        let bytes = STANDARD.decode(reader.string()?.as_bytes());
        let bytes = bytes.map_err(|error| JsonError::new(start, format!("not base64: {error}")))?;
        decoded = Some(Bytes::from(bytes));
        Ok(())
    })?;
    decoded.ok_or_else(|| JsonError::new(start, "expected an object with the one key 'b64'"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{TensorText, Writer};
    use super::*;

    fn read(data_type: DataType, text: &str) -> Result<Tensor, String> {
        let mut reader = Reader::new(text.as_bytes()).map_err(|error| error.to_string())?;
        let mut tensor = TensorReader::new(data_type, BytesForm::TextOrBase64);
        tensor.read(&mut reader).map_err(|error| error.to_string())?;
        reader.finish().map_err(|error| error.to_string())?;
        let shape = tensor.shape();
        tensor.finish(shape).map_err(|error| error.to_string())
    }

    #[test]
    fn shapes() {
        for (text, shape) in [
            ("7", &[][..]),
            ("[]", &[0]),
            ("[1, 2]", &[2]),
            ("[[1], [2], [3]]", &[3, 1]),
            ("[[], []]", &[2, 0]),
            ("[[[1, 2]], [[3, 4]]]", &[2, 1, 2]),
        ] {
            assert_eq!(read(DataType::Int32, text).expect(text).shape(), shape, "{text}");
        }
        for (text, says) in [
            (
                "[[1, 2], [3]]",
                "[1]: expected 2 elements, as in the arrays before, found 1 at byte 9",
            ),
            ("[1, [2]]", "[1]: expected an element, as deep as those before, found an array"),
            ("[[1], 2]", "[1]: expected an array, as deep as those before, found 2"),
            ("[[], 2]", "[1]: expected an array"),
            ("[[], [[1]]]", "[1]: expected 0 elements"),
            ("[1, \"two\"]", "[1]: expected a whole number, found a string at byte 4"),
            ("[null]", "[0]: expected a whole number, found null"),
        ] {
            let error = read(DataType::Int32, text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn rows_may_be_read_one_by_one() {
        let mut tensor = TensorReader::new(DataType::Fp32, BytesForm::Text);
        for row in ["[1, 2]", "[3, 4]", "[5, 6]"] {
            tensor.read_row(&mut Reader::new(row.as_bytes()).expect("text")).expect(row);
        }
        assert_eq!(tensor.shape()[..], [3, 2]);
        let mut scalars = TensorReader::new(DataType::Fp32, BytesForm::Text);
        scalars.read_row(&mut Reader::new(b"1").expect("text")).expect("reads");
        scalars.read_row(&mut Reader::new(b"2").expect("text")).expect("reads");
        assert_eq!(scalars.shape()[..], [2]);
        let error = scalars.read_row(&mut Reader::new(b"[3]").expect("text")).expect_err("ragged");
        assert!(error.to_string().contains("as deep as those before"), "{error}");
    }

    #[test]
    fn each_type_has_its_range() {
        for (data_type, text, expected) in [
            (DataType::Uint8, "[256]", Err("from 0 to 255, found 256")),
            (DataType::Uint8, "[-1]", Err("from 0 to 255, found -1")),
            (DataType::Int8, "[-128, 127]", Ok("[-128,127]")),
            (
                DataType::Int32,
                "[1.5]",
                Err("a whole number from -2147483648 to 2147483647, found 1.5"),
            ),
            (DataType::Int32, "[NaN]", Err("found NaN")),
            (DataType::Int64, "[-9223372036854775808]", Ok("[-9223372036854775808]")),
            (DataType::Int64, "[9007199254740993]", Ok("[9007199254740993]")),
            (DataType::Uint64, "[18446744073709551615]", Ok("[18446744073709551615]")),
            (DataType::Uint64, "[18446744073709551616]", Err("found 18446744073709551616")),
            (DataType::Fp32, "[1, 2.5, 0.1, -0, 1e-45]", Ok("[1.0,2.5,0.1,-0.0,1e-45]")),
            (
                DataType::Fp32,
                "[NaN, Infinity, -Infinity, Inf]",
                Ok("[NaN,Infinity,-Infinity,Infinity]"),
            ),
            (DataType::Fp32, "[3.4028234663852886e38]", Ok("[3.4028235e+38]")),
            (DataType::Fp32, "[1e39]", Err("1e39 is beyond 3.4028235e38")),
            (DataType::Fp64, "[1e39, 0.1]", Ok("[1e+39,0.1]")),
            (DataType::Fp64, "[1e400]", Err("1e400 is beyond")),
            (DataType::Fp16, "[0.5, NaN]", Ok("[0.5,NaN]")),
            (DataType::Fp16, "[1e5]", Err("100000 is beyond 65504")),
            (DataType::Bf16, "[0.5]", Ok("[0.5]")),
            (DataType::Bool, "[true, false, 0, 1]", Ok("[true,false,false,true]")),
            (DataType::Bool, "[2]", Err("expected true, false, 0 or 1, found 2")),
            (DataType::Bytes, r#"["a\u00e9", {"b64": "aGk="}, ""]"#, Ok(r#"["aé","hi",""]"#)),
            (DataType::Bytes, r#"[{"b64": "*"}]"#, Err("not base64")),
            (DataType::Bytes, r#"[{"b65": "aGk="}]"#, Err("only the key 'b64'")),
            (DataType::Bytes, "[{}]", Err("the one key 'b64'")),
            (DataType::Bytes, "[1]", Err("expected a string, found 1")),
        ] {
            match (read(data_type, text), expected) {
                (Ok(tensor), Ok(expected)) => assert_eq!(written(&tensor), expected, "{text}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (read, expected) => panic!("{data_type:?} {text}: {read:?}, expected {expected:?}"),
            }
        }
    }

    fn written(tensor: &Tensor) -> String {
        let mut writer = Writer::default();
        TensorText::new(tensor, BytesForm::Text).expect("is text").flat(&mut writer);
        String::from_utf8(writer.finish()).expect("is text")
    }

    #[test]
    fn base64_only_where_it_is_asked_for() {
        let mut tensor = TensorReader::new(DataType::Bytes, BytesForm::Text);
        let mut reader = Reader::new(br#"[{"b64": "aGk="}]"#).expect("text");
        let error = tensor.read(&mut reader).expect_err("an object").to_string();
        assert!(error.contains("expected a string, found an object"), "{error}");
    }

    /// Any tensor of a data type, from its bits.
    fn bits(data_type: DataType) -> impl Strategy<Value = Tensor> {
        let size = data_type.size().unwrap_or(1);
        (1usize..4, 1usize..4, proptest::collection::vec(any::<u8>(), 9 * size)).prop_map(
            move |(rows, columns, mut bytes)| {
                bytes.truncate(rows * columns * size);
                if data_type == DataType::Bool {
                    bytes.iter_mut().for_each(|byte| *byte &= 1);
                }
                let shape = smallvec::smallvec![rows, columns];
                Tensor::new(data_type, shape, Data::Fixed(Bytes::from(bytes))).expect("fits")
            },
        )
    }

    proptest! {
        #[test]
        fn numbers_are_written_so_that_they_read_back(
            tensor in proptest::sample::select(DataType::ALL[..13].to_vec()).prop_flat_map(bits)
        ) {
            let mut writer = Writer::default();
            TensorText::new(&tensor, BytesForm::Text).expect("numbers").nested(&mut writer);
            let text = String::from_utf8(writer.finish()).expect("is text");
            let back = read(tensor.data_type(), &text).expect("reads");
            prop_assert_eq!(back.shape(), tensor.shape());
            // The payload of NaN has no text; all else keeps its bits.
            let mut again = Writer::default();
            TensorText::new(&back, BytesForm::Text).expect("numbers").nested(&mut again);
            prop_assert_eq!(&String::from_utf8(again.finish()).expect("is text"), &text);
            if !text.contains("NaN") {
                prop_assert_eq!(back, tensor);
            }
        }

        #[test]
        fn strings_are_written_so_that_they_read_back(words: Vec<String>) {
            let data = Data::Bytes(words.iter().map(|word| Bytes::from(word.clone())).collect());
            let tensor = Tensor::new(DataType::Bytes, smallvec::smallvec![words.len()], data)
                .expect("fits");
            prop_assert_eq!(read(DataType::Bytes, &written(&tensor)), Ok(tensor));
        }
    }
}
