//! The body of `:predict`: tensors by row (`instances`) or by column (`inputs`).
//!
//! Elements go straight from the text into the tensors that the signature declares.

use crate::error::InferError;
use crate::protocol::json::{BytesForm, JsonError, Kind, Reader, TensorReader};
use crate::protocol::tfs::model_spec::check_signature;
use crate::signature::{Signature, TensorSpec};
use crate::tensor::{DataType, Tensor};

/// The form of a request, which its answer takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `instances`, answered with `predictions`.
    Rows,
    /// `inputs`, answered with `outputs`.
    Columns,
}

/// Inputs by name.
type Inputs = Vec<(String, Tensor)>;

/// Reads a body for a model with this signature.
pub(super) fn parse(body: &[u8], signature: &Signature) -> Result<(Inputs, Form), InferError> {
    if body.is_empty() {
        return Err(InferError::Invalid("JSON Parse error: The document is empty".to_owned()));
    }
    let columns = signature.inputs.iter().map(Column::of).collect();
    let mut request = Request { columns, form: None, signature_name: None };
    let read = Reader::new(body).and_then(|mut reader| {
        reader.object(|reader, key| request.member(reader, key))?;
        reader.finish()
    });
    read.map_err(|error| InferError::Invalid(format!("JSON Parse error: {error}")))?;
    check_signature(request.signature_name.as_deref().unwrap_or_default())?;
    let form = request
        .form
        .ok_or_else(|| InferError::Invalid("Missing 'inputs' or 'instances' key".to_owned()))?;
    let present = request.columns.into_iter().filter(|column| column.present);
    let inputs = present.map(Column::finish).collect::<Result<_, _>>()?;
    Ok((inputs, form))
}

/// What was read of a body so far.
struct Request<'a> {
    columns: Vec<Column<'a>>,
    form: Option<Form>,
    signature_name: Option<String>,
}

/// One input of the model.
struct Column<'a> {
    spec: &'a TensorSpec,
    values: TensorReader,
    /// Whether the object that is being read has it.
    present: bool,
}

impl<'a> Column<'a> {
    fn of(spec: &'a TensorSpec) -> Self {
        let values = TensorReader::new(spec.data_type, BytesForm::TextOrBase64);
        Self { spec, values, present: false }
    }

    fn finish(self) -> Result<(String, Tensor), InferError> {
        let shape = self.values.shape();
        let tensor = self
            .values
            .finish(shape)
            .map_err(|error| InferError::Invalid(format!("input '{}': {error}", self.spec.name)))?;
        Ok((self.spec.name.clone(), tensor))
    }
}

impl<'a> Request<'a> {
    fn member(&mut self, reader: &mut Reader<'_>, key: &str) -> Result<(), JsonError> {
        match key {
            "signature_name" => {
                self.signature_name = Some(reader.string()?.into_owned());
                Ok(())
            }
            "instances" => {
                self.begin(reader, Form::Rows)?;
                self.rows(reader)
            }
            "inputs" => {
                self.begin(reader, Form::Columns)?;
                self.columns(reader)
            }
            // Other members are the client's own, as in TensorFlow Serving.
            _ => reader.skip(),
        }
    }

    fn begin(&mut self, reader: &Reader<'_>, form: Form) -> Result<(), JsonError> {
        if self.form.is_some() {
            return Err(JsonError::new(
                reader.offset(),
                "expected only one of 'inputs' or 'instances' keys to exist",
            ));
        }
        self.form = Some(form);
        Ok(())
    }

    fn rows(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        let start = reader.offset();
        let mut named = None;
        let count = reader.array(|reader, index| {
            let object = self.is_named(reader)?;
            if *named.get_or_insert(object) != object {
                let (expected, found) =
                    if object { ("value/list", "object") } else { ("object", "value/list") };
                let problem =
                    format!("expected {expected} as before, found {found} at item {index}");
                return Err(JsonError::new(reader.offset(), problem));
            }
            if object { self.named_row(reader, index) } else { self.bare(reader)?.read_row(reader) }
        })?;
        if count == 0 {
            return Err(JsonError::new(start, "No values in 'instances' array"));
        }
        Ok(())
    }

    /// A row that gives inputs by name. All rows have the same ones.
    fn named_row(&mut self, reader: &mut Reader<'_>, index: usize) -> Result<(), JsonError> {
        let start = reader.offset();
        let mut seen = 0usize;
        reader.object(|reader, key| {
            let column = self.column(reader, key)?;
            if index > 0 && !column.present {
                let problem = "expected the same keys as in the rows before".to_owned();
                return Err(JsonError::new(reader.offset(), problem));
            }
            column.present = true;
            seen = seen.saturating_add(1);
            column.values.read_row(reader)
        })?;
        let expected = self.columns.iter().filter(|column| column.present || !column.spec.optional);
        if expected.count() == seen {
            return Ok(());
        }
        Err(JsonError::new(start, format!("keys must be equal to: {}", self.names().join(","))))
    }

    fn columns(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        if !self.is_named(reader)? {
            return self.bare(reader)?.read(reader);
        }
        let start = reader.offset();
        reader.object(|reader, key| {
            let column = self.column(reader, key)?;
            column.present = true;
            column.values.read(reader)
        })?;
        let missing = self.columns.iter().find(|column| !column.present && !column.spec.optional);
        match missing {
            None => Ok(()),
            Some(column) => {
                let problem = format!("Missing named input: {}", column.spec.name);
                Err(JsonError::new(start, problem))
            }
        }
    }

    /// Whether inputs by name stand next, and not an element.
    fn is_named(&self, reader: &mut Reader<'_>) -> Result<bool, JsonError> {
        Ok(reader.peek()? == Kind::Object && !self.is_base64(reader))
    }

    /// Whether the object that stands next is an element in base64. A model with one input of
    /// strings takes those bare; one whose input is called `b64` must have it named.
    fn is_base64(&self, reader: &Reader<'_>) -> bool {
        let [column] = self.columns.as_slice() else { return false };
        if column.spec.data_type != DataType::Bytes || column.spec.name == "b64" {
            return false;
        }
        let mut found = false;
        // Looks ahead on a copy, and no further than the first key: what follows is read, and any
        // mistake in it found, by the reader of the element.
        let _ = reader.clone().object(|reader, key| {
            found = key == "b64";
            Err(reader.unexpected("one key"))
        });
        found
    }

    /// The input that a value without a name is for: the only one, or the only one required.
    fn bare(&mut self, reader: &Reader<'_>) -> Result<&mut TensorReader, JsonError> {
        let names = self.names().join(",");
        let any_required = self.columns.iter().any(|column| !column.spec.optional);
        let mut candidates =
            self.columns.iter_mut().filter(|column| !column.spec.optional || !any_required);
        match (candidates.next(), candidates.next()) {
            (Some(column), None) => {
                column.present = true;
                Ok(&mut column.values)
            }
            _ => {
                let problem = format!("expected an object with the inputs by name: {names}");
                Err(JsonError::new(reader.offset(), problem))
            }
        }
    }

    fn column(&mut self, reader: &Reader<'_>, name: &str) -> Result<&mut Column<'a>, JsonError> {
        let Some(index) = self.columns.iter().position(|column| column.spec.name == name) else {
            let names = self.names().join(",");
            let problem = format!("the model has no input of that name; its inputs: {names}");
            return Err(JsonError::new(reader.offset(), problem));
        };
        self.columns.get_mut(index).ok_or_else(|| reader.unexpected("an input of the model"))
    }

    fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|column| column.spec.name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests;
