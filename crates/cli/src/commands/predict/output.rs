//! Showing an answer.

use std::io::IsTerminal;

use clap::ValueEnum;
use miette::miette;
use serde::Serialize;
use trainyard_serving::{DataType, Tensor};

use super::input::write_npy;
use super::values::Values;
use super::wire::{Answer, row_length};
use crate::failure::failure;
use crate::print::{print as print_bytes, print_line};
use crate::table::table;

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Style {
    /// As the Open Inference Protocol has it
    Json,
    /// A row for each row of the data, a column for each output
    Table,
    /// The only output, or the one that --select names, as NumPy file
    Npy,
}

/// More rows or columns than these are for programs, not for eyes.
const MAX_ROWS: usize = 50;
const MAX_VALUES: usize = 8;

pub(super) fn show(answer: &Answer, style: Option<Style>) -> miette::Result<()> {
    let is_terminal = std::io::stdout().is_terminal();
    let style = style.unwrap_or(if is_terminal { Style::Table } else { Style::Json });
    match style {
        Style::Table => print_line(&as_table(answer)),
        Style::Json => print_line(&as_json(answer)?),
        Style::Npy if is_terminal => {
            Err(miette!(help = "redirect it: `> answer.npy`", "this is a terminal"))
        }
        Style::Npy => print_bytes(&as_npy(answer)?),
    }
}

fn as_table(answer: &Answer) -> String {
    let rows = |tensor: &Tensor| tensor.shape().first().copied().unwrap_or(1);
    let count = answer.outputs.iter().map(|(_, tensor)| rows(tensor)).max().unwrap_or(0);
    let columns: Vec<(usize, Values, usize)> = answer
        .outputs
        .iter()
        .map(|(_, tensor)| (rows(tensor), Values::of(tensor), row_length(tensor.shape())))
        .collect();
    let shown = (0..count.min(MAX_ROWS)).map(|row| {
        let cells = columns.iter().map(|(rows, values, length)| {
            if row < *rows { cell(values, row, *length) } else { String::new() }
        });
        std::iter::once(row.to_string()).chain(cells).collect()
    });
    let names: Vec<&str> =
        std::iter::once("").chain(answer.outputs.iter().map(|(name, _)| name.as_str())).collect();
    let mut text = table(&names, shown);
    if count > MAX_ROWS {
        let rest = count.saturating_sub(MAX_ROWS);
        text.push_str(&format!("\nand {rest} more rows; --output json shows all"));
    }
    text
}

fn cell(values: &Values, row: usize, length: usize) -> String {
    let start = row.saturating_mul(length);
    if length == 1 {
        return values.show(start);
    }
    let end = start.saturating_add(length.min(MAX_VALUES));
    let shown: Vec<String> = (start..end).map(|at| values.show(at)).collect();
    let more = if length > MAX_VALUES { format!(", … {length} values") } else { String::new() };
    format!("[{}{more}]", shown.join(", "))
}

fn as_json(answer: &Answer) -> miette::Result<String> {
    #[derive(Serialize)]
    struct Body<'a> {
        model_name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        model_version: Option<&'a str>,
        outputs: Vec<Output<'a>>,
    }
    #[derive(Serialize)]
    struct Output<'a> {
        name: &'a str,
        datatype: &'static str,
        shape: &'a [usize],
        data: Values,
    }
    let outputs = answer.outputs.iter().map(|(name, tensor)| Output {
        name,
        datatype: tensor.data_type().oip_name(),
        shape: tensor.shape(),
        data: Values::of(tensor),
    });
    let body = Body {
        model_name: &answer.model,
        model_version: answer.version.as_deref(),
        outputs: outputs.collect(),
    };
    serde_json::to_string(&body).map_err(failure)
}

fn as_npy(answer: &Answer) -> miette::Result<Vec<u8>> {
    let [(name, tensor)] = answer.outputs.as_slice() else {
        let names: Vec<String> =
            answer.outputs.iter().map(|(name, _)| format!("`{name}`")).collect();
        return Err(miette!(
            help = "choose one with --select NAME",
            "an .npy file holds one array, the model gave {}",
            names.join(", ")
        ));
    };
    let descr = match tensor.data_type() {
        DataType::Bool => "|b1",
        DataType::Uint8 => "|u1",
        DataType::Uint16 => "<u2",
        DataType::Uint32 => "<u4",
        DataType::Uint64 => "<u8",
        DataType::Int8 => "|i1",
        DataType::Int16 => "<i2",
        DataType::Int32 => "<i4",
        DataType::Int64 => "<i8",
        DataType::Fp16 => "<f2",
        DataType::Fp32 => "<f4",
        DataType::Fp64 => "<f8",
        // As the package ml_dtypes writes it.
        DataType::Bf16 => "<V2",
        DataType::Bytes => return Ok(texts(tensor)),
    };
    let data = tensor.fixed().ok_or_else(|| miette!("output `{name}` has no numbers"))?;
    Ok(write_npy(descr, tensor.shape(), data))
}

/// Texts as fixed-width bytes, padded with zeros.
fn texts(tensor: &Tensor) -> Vec<u8> {
    let trainyard_serving::tensor::Data::Bytes(elements) = tensor.data() else { return Vec::new() };
    let width = elements.iter().map(bytes::Bytes::len).max().unwrap_or(0).max(1);
    let mut data = Vec::with_capacity(width.saturating_mul(elements.len()));
    for element in elements {
        data.extend_from_slice(element);
        data.resize(data.len().saturating_add(width.saturating_sub(element.len())), 0);
    }
    write_npy(&format!("|S{width}"), tensor.shape(), &data)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use trainyard_serving::tensor::{Data, Shape};

    use super::*;

    fn answer() -> Answer {
        let shape = |extents: &[usize]| Shape::from_slice(extents);
        let labels = Data::Bytes(vec![Bytes::from_static(b"setosa"), Bytes::from_static(b"rose")]);
        let scores = vec![0.97f32, 0.03, 0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0];
        Answer {
            model: "iris".to_owned(),
            version: Some("1".to_owned()),
            outputs: vec![
                ("label".to_owned(), Tensor::new(DataType::Bytes, shape(&[2]), labels).unwrap()),
                (
                    "scores".to_owned(),
                    Tensor::from_vec(DataType::Fp32, shape(&[2, 3]), scores).unwrap(),
                ),
            ],
        }
    }

    #[test]
    fn tables_and_json() {
        insta::assert_snapshot!(as_table(&answer()), @r"
           label   scores
        0  setosa  [0.97, 0.03, 0]
        1  rose    [0.33333, 0.33333, 0.33333]
        ");
        insta::assert_snapshot!(as_json(&answer()).unwrap(), @r#"{"model_name":"iris","model_version":"1","outputs":[{"name":"label","datatype":"BYTES","shape":[2],"data":["setosa","rose"]},{"name":"scores","datatype":"FP32","shape":[2,3],"data":[0.97,0.03,0.0,0.33333334,0.33333334,0.33333334]}]}"#);
    }

    #[test]
    fn numpy_files() {
        let mut answer = answer();
        assert!(as_npy(&answer).unwrap_err().to_string().contains("`label`, `scores`"));
        answer.outputs.pop();
        let file = as_npy(&answer).unwrap();
        assert!(file.ends_with(b"setosarose\0\0"), "{file:?}");
    }

    #[test]
    fn long_answers_are_cut() {
        let wide = Tensor::from_vec(DataType::Int64, Shape::from_slice(&[60, 10]), vec![7i64; 600]);
        let answer = Answer {
            model: "m".to_owned(),
            version: None,
            outputs: vec![("y".to_owned(), wide.unwrap())],
        };
        let text = as_table(&answer);
        assert!(text.contains("[7, 7, 7, 7, 7, 7, 7, 7, … 10 values]"), "{text}");
        assert!(text.ends_with("and 10 more rows; --output json shows all"), "{text}");
    }
}
