//! What a model says it takes and gives.

use miette::miette;
use serde::Deserialize;
use trainyard_serving::DataType;

/// Answer of `GET /v2/models/NAME`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) inputs: Vec<Declared>,
    pub(super) outputs: Vec<Declared>,
}

/// One input or output.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) datatype: String,
    /// -1 is any extent.
    pub(super) shape: Vec<i64>,
}

impl Declared {
    pub(super) fn data_type(&self) -> miette::Result<DataType> {
        DataType::from_oip_name(&self.datatype).ok_or_else(|| {
            miette!("the model's `{}` has the unknown data type {}", self.name, self.datatype)
        })
    }

    /// The shape that the data gets: its own, or with a leading batch of one where just that is
    /// missing.
    pub(super) fn fit(&self, given: &[usize]) -> miette::Result<Vec<usize>> {
        if self.admits(given) {
            return Ok(given.to_vec());
        }
        let one: Vec<usize> = std::iter::once(1).chain(given.iter().copied()).collect();
        if self.admits(&one) {
            return Ok(one);
        }
        Err(miette!(
            help = "-1 stands for any number",
            "input `{}` takes {} of shape {:?}, but the data has shape {given:?}",
            self.name,
            self.datatype,
            self.shape
        ))
    }

    fn admits(&self, given: &[usize]) -> bool {
        self.shape.len() == given.len()
            && self.shape.iter().zip(given).all(|(declared, extent)| {
                *declared < 0 || u64::try_from(*declared).ok() == Some(*extent as u64)
            })
    }
}

impl Metadata {
    pub(super) fn input(&self, name: &str) -> miette::Result<&Declared> {
        let found = self.inputs.iter().find(|input| input.name == name);
        found.ok_or_else(|| {
            miette!("model `{}` has no input `{name}`; it takes {}", self.name, self.input_names())
        })
    }

    /// The input of a model that has just one.
    pub(super) fn only_input(&self) -> miette::Result<&Declared> {
        match self.inputs.as_slice() {
            [only] => Ok(only),
            _ => Err(miette!(
                help = "name them: `--input TENSOR=FILE`, or an object by input name",
                "model `{}` takes several inputs: {}",
                self.name,
                self.input_names()
            )),
        }
    }

    pub(super) fn check_outputs(&self, wanted: &[String]) -> miette::Result<()> {
        for name in wanted {
            if !self.outputs.iter().any(|output| output.name == *name) {
                let names = names(&self.outputs);
                return Err(miette!(
                    "model `{}` has no output `{name}`; it gives {names}",
                    self.name
                ));
            }
        }
        Ok(())
    }

    pub(super) fn input_names(&self) -> String {
        names(&self.inputs)
    }
}

fn names(declared: &[Declared]) -> String {
    let names: Vec<String> = declared.iter().map(|it| format!("`{}`", it.name)).collect();
    names.join(", ")
}

#[test]
fn shapes_fit() {
    let declared = |shape: &[i64]| Declared {
        name: "X".to_owned(),
        datatype: "FP32".to_owned(),
        shape: shape.to_vec(),
    };
    let check = |shape: &[i64], given: &[usize], expected: Option<&[usize]>| {
        assert_eq!(declared(shape).fit(given).ok().as_deref(), expected, "{shape:?} {given:?}");
    };
    check(&[-1, 4], &[3, 4], Some(&[3, 4]));
    check(&[-1, 4], &[4], Some(&[1, 4]));
    check(&[-1, 4], &[4, 3], None);
    check(&[], &[], Some(&[]));
    check(&[-1], &[], Some(&[1]));
    check(&[2, 2], &[2], None);
    let error = declared(&[-1, 4]).fit(&[2, 5]).unwrap_err().to_string();
    assert_eq!(error, "input `X` takes FP32 of shape [-1, 4], but the data has shape [2, 5]");
}
