//! Names of GPU models.

use std::collections::BTreeMap;

use crate::request::{Model, ModelSet};

/// The most models that one cluster and its workload may name: one bit each in a [`ModelSet`].
pub const MAX_MODELS: usize = 63;

/// There are more than [`MAX_MODELS`] names of models.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is one GPU model more than the {MAX_MODELS} that are told apart")]
pub struct TooManyModels {
    name: String,
}

/// The names of GPU models, each of which gets a [`Model`].
#[derive(Clone, Debug, Default)]
pub struct Models {
    names: Vec<String>,
    aliases: BTreeMap<String, String>,
}

impl Models {
    /// From now on `name` means the model that is called `same_as`.
    pub fn alias(&mut self, name: &str, same_as: &str) {
        self.aliases.insert(name.to_owned(), same_as.to_owned());
    }

    /// The model of this name, which is new or was named before.
    pub fn model(&mut self, name: &str) -> Result<Model, TooManyModels> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        let at = match self.names.iter().position(|known| known == name) {
            Some(at) => at,
            None if self.names.len() >= MAX_MODELS => {
                return Err(TooManyModels { name: name.to_owned() });
            }
            None => {
                self.names.push(name.to_owned());
                self.names.len() - 1
            }
        };
        Ok(Model(u8::try_from(at).expect("fewer than MAX_MODELS")))
    }

    /// The models of `A|B|…`, where nothing means every model.
    pub fn set(&mut self, names: &str) -> Result<ModelSet, TooManyModels> {
        let mut set = ModelSet::EMPTY;
        for name in names.split('|').map(str::trim).filter(|name| !name.is_empty()) {
            set = set.with(self.model(name)?);
        }
        Ok(if set == ModelSet::EMPTY { ModelSet::ANY } else { set })
    }

    /// The name of a model.
    pub fn name(&self, model: Model) -> &str {
        self.names.get(usize::from(model.0)).map_or("", String::as_str)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.names.len()
    }
}

#[test]
fn sets_of_models() {
    let mut models = Models::default();
    let t4 = models.model("T4").expect("room");
    let a10 = models.model("A10").expect("room");
    assert_eq!(models.set(""), Ok(ModelSet::ANY));
    assert_eq!(models.set("|"), Ok(ModelSet::ANY));
    models.alias("A10G", "A10");
    assert_eq!(models.model("A10G"), Ok(a10));
    let some = models.set("A10|P100|A10").expect("room");
    assert!(some.allows(Some(a10)) && !some.allows(Some(t4)) && !some.allows(None));
    assert!(ModelSet::ANY.allows(None));
    for name in 0..MAX_MODELS - 3 {
        models.model(&name.to_string()).expect("room");
    }
    assert_eq!(models.count(), MAX_MODELS);
    let error = models.set("T4|one more").expect_err("too many");
    assert_eq!(
        error.to_string(),
        "`one more` is one GPU model more than the 63 that are told apart"
    );
}
