//! CSV (RFC 4180) with a header, or only numbers.

use miette::miette;
use trainyard_serving::{DataType, Tensor};

use super::super::element::{Elements, from_text};
use super::super::metadata::{Declared, Metadata};

/// Rows of equally many cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Csv {
    /// Absent where the first line holds numbers only.
    header: Option<Vec<String>>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    /// Of its first cell, from 1.
    line: usize,
    cells: Vec<String>,
}

pub(super) fn parse(content: &[u8]) -> Result<Csv, String> {
    let text = std::str::from_utf8(content)
        .map_err(|error| format!("this is no text: byte {} is not UTF-8", error.valid_up_to()))?;
    let mut rows = split(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    let Some(first) = rows.first() else { return Err("it holds no row".to_owned()) };
    let width = first.cells.len();
    if let Some(row) = rows.iter().find(|row| row.cells.len() != width) {
        return Err(format!(
            "line {} has {} cells, the first line has {width}",
            row.line,
            row.cells.len()
        ));
    }
    let is_header = !first.cells.iter().all(|cell| cell.trim().parse::<f64>().is_ok());
    let header = is_header.then(|| rows.remove(0).cells);
    if rows.is_empty() {
        return Err("it holds a header and no row".to_owned());
    }
    let header = header.map(|names| names.iter().map(|name| name.trim().to_owned()).collect());
    Ok(Csv { header, rows })
}

/// Rows with at least one character; line ends inside quotes belong to the cell.
fn split(text: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let mut row = Row { line: 1, cells: Vec::new() };
    let mut cell = String::new();
    let (mut line, mut quoted_at, mut was_quoted) = (1usize, None, false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\n' {
            line = line.saturating_add(1);
        }
        match (character, quoted_at) {
            ('"', Some(_)) if characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            ('"', Some(_)) => quoted_at = None,
            ('"', None) if cell.is_empty() && !was_quoted => {
                quoted_at = Some(line);
                was_quoted = true;
            }
            (',', None) => {
                row.cells.push(std::mem::take(&mut cell));
                was_quoted = false;
            }
            ('\r', None) if characters.peek() == Some(&'\n') => {}
            ('\n', None) => {
                let is_blank = row.cells.is_empty() && cell.trim().is_empty() && !was_quoted;
                row.cells.push(std::mem::take(&mut cell));
                let next = Row { line, cells: Vec::new() };
                let ended = std::mem::replace(&mut row, next);
                if !is_blank {
                    rows.push(ended);
                }
                was_quoted = false;
            }
            (character, _) => cell.push(character),
        }
    }
    if let Some(line) = quoted_at {
        return Err(format!("the quote in line {line} is not closed"));
    }
    if !row.cells.is_empty() || !cell.trim().is_empty() || was_quoted {
        row.cells.push(cell);
        rows.push(row);
    }
    Ok(rows)
}

impl Csv {
    /// Columns named as the inputs become one input each; else all columns are the rows of the one
    /// input.
    pub(super) fn bind(
        &self,
        tensor: Option<&str>,
        metadata: &Metadata,
    ) -> miette::Result<Vec<(String, Tensor)>> {
        if let Some(name) = tensor {
            return Ok(vec![self.matrix(metadata.input(name)?)?]);
        }
        let Some(header) = &self.header else {
            return Ok(vec![self.matrix(metadata.only_input()?)?]);
        };
        let named = header.iter().filter(|name| metadata.input(name).is_ok()).count();
        if named == 0 && metadata.inputs.len() == 1 {
            return Ok(vec![self.matrix(metadata.only_input()?)?]);
        }
        if named < header.len() {
            let unknown = header.iter().find(|name| metadata.input(name).is_err());
            return Err(miette!(
                help = "each column of the header must be an input of the model",
                "model `{}` has no input `{}`; it takes {}",
                metadata.name,
                unknown.map(String::as_str).unwrap_or_default(),
                metadata.input_names()
            ));
        }
        let columns = header.iter().enumerate();
        columns.map(|(at, name)| self.column(at, metadata.input(name)?)).collect()
    }

    fn matrix(&self, declared: &Declared) -> miette::Result<(String, Tensor)> {
        let width = self.rows.first().map_or(0, |row| row.cells.len());
        let mut shape = vec![self.rows.len(), width];
        // A model of one value a row may not say that there is one.
        if declared.shape.len() == 1 && width == 1 {
            shape.pop();
        }
        self.build(declared, shape, 0..width)
    }

    fn column(&self, at: usize, declared: &Declared) -> miette::Result<(String, Tensor)> {
        let mut shape = vec![self.rows.len()];
        if declared.shape.len() == 2 {
            shape.push(1);
        }
        self.build(declared, shape, at..at.saturating_add(1))
    }

    fn build(
        &self,
        declared: &Declared,
        shape: Vec<usize>,
        columns: std::ops::Range<usize>,
    ) -> miette::Result<(String, Tensor)> {
        let data_type = declared.data_type()?;
        let mut elements = Elements::new(data_type);
        for row in &self.rows {
            for at in columns.clone() {
                let text = row.cells.get(at).map(String::as_str).unwrap_or_default();
                push(&mut elements, text, data_type).map_err(|problem| {
                    let name = self.header.as_ref().and_then(|header| header.get(at));
                    let column = name.map_or_else(
                        || at.saturating_add(1).to_string(),
                        |name| format!("`{name}`"),
                    );
                    miette!("line {}, column {column}: {problem}", row.line)
                })?;
            }
        }
        let shape = declared.fit(&shape)?;
        let tensor = Tensor::new(data_type, shape.into(), elements.into_data());
        let tensor = tensor.map_err(|error| miette!("input `{}`: {error}", declared.name))?;
        Ok((declared.name.clone(), tensor))
    }
}

fn push(elements: &mut Elements, text: &str, data_type: DataType) -> Result<(), String> {
    elements.push(from_text(text, data_type)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::model;
    use super::*;

    #[test]
    fn rows_and_quotes() {
        let check = |text: &str, header: Option<&[&str]>, rows: &[&[&str]]| {
            let csv = parse(text.as_bytes()).unwrap();
            assert_eq!(
                csv.header.as_deref(),
                header.map(|it| it.iter().map(|it| it.to_string()).collect::<Vec<_>>()).as_deref()
            );
            let cells: Vec<_> = csv.rows.iter().map(|row| row.cells.clone()).collect();
            assert_eq!(cells, rows, "{text}");
        };
        check("a,b\n1,2\n", Some(&["a", "b"]), &[&["1", "2"]]);
        check("\u{feff}a\r\n1\r\n\r\n2", Some(&["a"]), &[&["1"], &["2"]]);
        check("1,2\n3,4", None, &[&["1", "2"], &["3", "4"]]);
        check("t\n\"a,\"\"b\"\"\nc\"\n", Some(&["t"]), &[&["a,\"b\"\nc"]]);
        check("t,u\n\"\",x\n", Some(&["t", "u"]), &[&["", "x"]]);
    }

    #[test]
    fn mistakes_have_their_line() {
        let error = |text: &str| parse(text.as_bytes()).unwrap_err();
        assert_eq!(error("a,b\n1\n"), "line 2 has 1 cells, the first line has 2");
        assert_eq!(error("a\n\"b\n"), "the quote in line 2 is not closed");
        assert_eq!(error("a,b\n"), "it holds a header and no row");
        assert_eq!(error(""), "it holds no row");
        let csv = parse(b"a,b\n1,2\n3,x\n").unwrap();
        let error = csv.bind(None, &model(&[("x", "FP32", &[-1, 2])])).unwrap_err();
        assert_eq!(error.to_string(), "line 3, column `b`: \"x\" is no FP32");
    }

    #[test]
    fn columns_or_a_matrix() {
        let csv = parse(b"a,b\n1,2\n3,4\n5,6\n").unwrap();
        let shapes = |inputs: &[(&str, &str, &[i64])]| {
            let bound = csv.bind(None, &model(inputs)).unwrap();
            bound.iter().map(|(name, it)| format!("{name}{:?}", it.shape())).collect::<Vec<_>>()
        };
        assert_eq!(shapes(&[("x", "FP32", &[-1, 2])]), ["x[3, 2]"]);
        assert_eq!(shapes(&[("a", "INT64", &[-1]), ("b", "FP32", &[-1, 1])]), ["a[3]", "b[3, 1]"]);
        let error = csv.bind(None, &model(&[("a", "INT64", &[-1]), ("c", "INT64", &[-1])]));
        assert!(error.unwrap_err().to_string().contains("no input `b`"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a1,\"\r\n ]{0,30}") {
            if let Ok(csv) = parse(text.as_bytes()) {
                let width = csv.rows[0].cells.len();
                prop_assert!(csv.rows.iter().all(|row| row.cells.len() == width));
            }
        }
    }
}
