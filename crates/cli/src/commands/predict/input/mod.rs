//! What a person gives, as tensors that the model takes.

mod csv;
mod json;
mod npy;
mod npz;
mod zip;

use std::convert::Infallible;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use clap::ValueEnum;
use miette::miette;
use trainyard_serving::Tensor;

use super::metadata::Metadata;
use csv::Csv;
use npy::Array;
pub(super) use npy::write as write_npy;

/// A file, and the one input that it is for, if it is not for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    tensor: Option<String>,
    /// `None` is standard input.
    path: Option<PathBuf>,
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (tensor, file) = match text.split_once('=') {
            // A file whose own name has the sign.
            Some(_) if Path::new(text).exists() => (None, text),
            Some((tensor, file)) => (Some(tensor.to_owned()), file),
            None => (None, text),
        };
        Ok(Self { tensor, path: (file != "-").then(|| PathBuf::from(file)) })
    }
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// By the first bytes, then by the name
    #[default]
    Auto,
    Json,
    Csv,
    Npy,
    Npz,
}

/// Data that was read, not yet of the model's types.
#[derive(Debug)]
pub(super) struct Given {
    tensor: Option<String>,
    /// For errors.
    from: String,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Json(serde_json::Value),
    Csv(Csv),
    Array(Array),
    Arrays(Vec<(String, Array)>),
}

/// Reads and parses every source.
pub(super) fn read(sources: &[Source], format: Format) -> miette::Result<Vec<Given>> {
    if sources.len() > 1 && sources.iter().any(|source| source.tensor.is_none()) {
        return Err(miette!(
            help = "write each as `--input TENSOR=FILE`",
            "several inputs are given, and not all say which tensor they are for"
        ));
    }
    sources.iter().map(|source| read_one(source, format)).collect()
}

fn read_one(source: &Source, format: Format) -> miette::Result<Given> {
    let from = match &source.path {
        Some(path) => path.display().to_string(),
        None => "standard input".to_owned(),
    };
    let content = match &source.path {
        Some(path) => std::fs::read(path),
        None => {
            let mut content = Vec::new();
            std::io::stdin().lock().read_to_end(&mut content).map(|_| content)
        }
    };
    let content = Bytes::from(content.map_err(|error| miette!("cannot read {from}: {error}"))?);
    let data = parse(&content, sniff(&content, source.path.as_deref(), format));
    let data = data.map_err(|problem| miette!("{from}: {problem}"))?;
    Ok(Given { tensor: source.tensor.clone(), from, data })
}

fn sniff(content: &[u8], path: Option<&Path>, asked: Format) -> Format {
    if asked != Format::Auto {
        return asked;
    }
    if content.starts_with(npy::MAGIC) {
        return Format::Npy;
    }
    if content.starts_with(b"PK\x03\x04") {
        return Format::Npz;
    }
    match path.and_then(Path::extension).and_then(|extension| extension.to_str()) {
        Some("csv") => return Format::Csv,
        Some("json") => return Format::Json,
        _ => {}
    }
    let first = content.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_some_and(|byte| matches!(byte, b'{' | b'[')) { Format::Json } else { Format::Csv }
}

fn parse(content: &Bytes, format: Format) -> Result<Data, String> {
    match format {
        Format::Npy => npy::parse(content).map(Data::Array),
        Format::Npz => npz::parse(content).map(Data::Arrays),
        Format::Csv => csv::parse(content).map(Data::Csv),
        Format::Json | Format::Auto => serde_json::from_slice(content)
            .map(Data::Json)
            .map_err(|error| format!("this is no JSON: {error}")),
    }
}

/// Tensors by name, in the model's order. The model's optional inputs may be missing; whether one
/// is optional only the server knows.
pub(super) fn bind(
    given: Vec<Given>,
    metadata: &Metadata,
) -> miette::Result<Vec<(String, Tensor)>> {
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    for one in given {
        let from = one.from;
        let bound = match (one.data, one.tensor) {
            (Data::Json(value), tensor) => json::bind(&value, tensor.as_deref(), metadata),
            (Data::Csv(csv), tensor) => csv.bind(tensor.as_deref(), metadata),
            (Data::Array(array), Some(name)) => array.bind(metadata.input(&name)?).map(one_tensor),
            (Data::Array(array), None) => array.bind(metadata.only_input()?).map(one_tensor),
            (Data::Arrays(arrays), tensor) => npz::bind(arrays, tensor.as_deref(), metadata),
        };
        let bound = bound.map_err(|error| {
            let help = error.help().map(|help| help.to_string());
            match help {
                Some(help) => miette!(help = help, "{from}: {error}"),
                None => miette!("{from}: {error}"),
            }
        })?;
        for (name, tensor) in bound {
            if tensors.iter().any(|(known, _)| *known == name) {
                return Err(miette!("input `{name}` is given twice"));
            }
            tensors.push((name, tensor));
        }
    }
    let place = |name: &str| metadata.inputs.iter().position(|input| input.name == name);
    tensors.sort_by_key(|(name, _)| place(name));
    Ok(tensors)
}

fn one_tensor(tensor: (String, Tensor)) -> Vec<(String, Tensor)> {
    vec![tensor]
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::metadata::Declared;
    use super::*;

    /// A model with these inputs: name, type, shape.
    pub(super) fn model(inputs: &[(&str, &str, &[i64])]) -> Metadata {
        let inputs = inputs.iter().map(|(name, datatype, shape)| Declared {
            name: (*name).to_owned(),
            datatype: (*datatype).to_owned(),
            shape: shape.to_vec(),
        });
        Metadata { name: "m".to_owned(), inputs: inputs.collect(), outputs: Vec::new() }
    }

    #[test]
    fn sources_and_formats() {
        let source = |text: &str| text.parse::<Source>().unwrap();
        let expected = |tensor: Option<&str>, path: Option<&str>| Source {
            tensor: tensor.map(str::to_owned),
            path: path.map(PathBuf::from),
        };
        assert_eq!(source("a.npy"), expected(None, Some("a.npy")));
        assert_eq!(source("-"), expected(None, None));
        assert_eq!(source("X=-"), expected(Some("X"), None));
        assert_eq!(source("X=a=b"), expected(Some("X"), Some("a=b")));

        let check = |content: &[u8], name: Option<&str>, expected| {
            assert_eq!(sniff(content, name.map(Path::new), Format::Auto), expected);
        };
        check(b"\x93NUMPY\x01\x00", Some("a.csv"), Format::Npy);
        check(b"PK\x03\x04", None, Format::Npz);
        check(b" \n[1]", None, Format::Json);
        check(b"a,b\n1,2", None, Format::Csv);
        check(b"1,2", Some("x.json"), Format::Json);
        assert_eq!(sniff(b"[", None, Format::Csv), Format::Csv);
    }

    #[test]
    fn several_files_are_put_in_the_models_order() {
        let metadata = model(&[("a", "INT64", &[-1]), ("b", "INT64", &[-1])]);
        let given = |tensor: &str, text: &str| Given {
            tensor: Some(tensor.to_owned()),
            from: "file".to_owned(),
            data: Data::Json(serde_json::from_str(text).unwrap()),
        };
        let bound = bind(vec![given("b", "[1]"), given("a", "[2]")], &metadata).unwrap();
        assert_eq!(bound.iter().map(|it| it.0.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let error = bind(vec![given("a", "[1]"), given("a", "[2]")], &metadata).unwrap_err();
        assert_eq!(error.to_string(), "input `a` is given twice");
        let error = bind(vec![given("c", "[1]")], &metadata).unwrap_err();
        assert_eq!(error.to_string(), "file: model `m` has no input `c`; it takes `a`, `b`");
    }
}
