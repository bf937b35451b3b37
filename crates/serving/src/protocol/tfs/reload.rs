//! `HandleReloadConfigRequest`: the list of models that shall be served from now on.
//!
//! Where models are and how each is served is written in the repository, so a request can choose
//! among the repository's models and no more. One that agrees with the repository is carried out:
//! the models it names are loaded and all others unloaded, if the server was started with explicit
//! model control. One that does not is refused before anything changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::Server;
use crate::error::InferError;
use crate::protocol::grpc::config;
use crate::protocol::grpc::inference::{self, model_version_policy};
use crate::protocol::grpc::tensorflow::serving::file_system_storage_path_source_config::{
    ServableVersionPolicy, servable_version_policy::PolicyChoice,
};
use crate::protocol::grpc::tensorflow::serving::model_server_config::Config;
use crate::protocol::grpc::tensorflow::serving::{ModelConfig, ReloadConfigRequest};
use crate::server::{IndexEntry, LoadOptions, VersionState};

/// How models are controlled instead, at the end of each refusal.
const CONTROL: &str = "change the repository instead (the server follows it with `--model-control \
                       poll`), or load and unload its models by name (`--model-control explicit`)";

/// Carries out a request, or refuses it as a whole.
pub(crate) async fn reload(
    server: &Server,
    request: ReloadConfigRequest,
) -> Result<(), InferError> {
    let wanted = wanted(request)?;
    let index = server.index();
    for model in &wanted {
        agrees(server, model, &index)?;
    }
    let names: BTreeSet<&str> = wanted.iter().map(|model| model.name.as_str()).collect();
    let Changes { load, unload } = changes(&names, &index);
    // Loading comes first, as a failure then leaves everything that was served.
    for name in load {
        server.load(&name, LoadOptions::default()).await?;
    }
    for name in unload {
        server.unload(&name).await?;
    }
    Ok(())
}

/// The models of a request, each named once.
pub(crate) fn wanted(request: ReloadConfigRequest) -> Result<Vec<ModelConfig>, InferError> {
    let models = match request.config.and_then(|config| config.config) {
        Some(Config::ModelConfigList(list)) => list.config,
        Some(Config::CustomModelConfig(_)) => {
            return Err(refusal("custom_model_config is not known"));
        }
        None => return Err(InferError::Invalid("the request has no model_config_list".to_owned())),
    };
    let mut names = BTreeSet::new();
    for model in &models {
        if model.name.is_empty() {
            return Err(InferError::Invalid("a model in model_config_list has no name".to_owned()));
        }
        if !names.insert(model.name.as_str()) {
            return Err(InferError::Invalid(format!(
                "Illegal to list model {} multiple times in config",
                model.name
            )));
        }
    }
    Ok(models)
}

/// Checks that a model is one of the repository, and is to be served as the repository says.
fn agrees(server: &Server, model: &ModelConfig, index: &[IndexEntry]) -> Result<(), InferError> {
    let name = &model.name;
    if !index.iter().any(|entry| entry.name == *name) {
        return Err(refusal(&format!("there is no model '{name}' in the repository")));
    }
    if !path_fits(model) {
        return Err(refusal(&format!(
            "the model '{name}' cannot be moved to base_path '{}'",
            model.base_path
        )));
    }
    if !model.version_labels.is_empty() && labels(server, name)? != model.version_labels {
        return Err(refusal(&format!("version_labels of '{name}' differ from the repository's")));
    }
    let Some(policy) = &model.model_version_policy else { return Ok(()) };
    let Ok(configured) = server.config(name) else {
        return Err(refusal(&format!(
            "model_version_policy of '{name}' cannot be compared before the model is loaded"
        )));
    };
    let configured = config::from_json(configured)?;
    if same_policy(policy, configured.version_policy.as_ref()) {
        return Ok(());
    }
    Err(refusal(&format!("model_version_policy of '{name}' differs from the repository's")))
}

/// A base path can only be the folder that has the model's name, wherever the repository is.
fn path_fits(model: &ModelConfig) -> bool {
    let folder = Path::new(&model.base_path).file_name();
    model.base_path.is_empty() || folder.is_some_and(|folder| *folder == *model.name)
}

fn labels(server: &Server, model: &str) -> Result<BTreeMap<String, i64>, InferError> {
    let signed = |version| i64::try_from(version).unwrap_or(i64::MAX);
    let labels = server.labels(model)?.into_iter();
    Ok(labels.map(|(label, version)| (label, signed(version))).collect())
}

/// Whether both ask for the same versions. Neither saying anything means the newest one.
fn same_policy(
    wanted: &ServableVersionPolicy,
    configured: Option<&inference::ModelVersionPolicy>,
) -> bool {
    use model_version_policy::PolicyChoice as Configured;
    let newest = |count: u32| count.max(1);
    let configured = configured.and_then(|policy| policy.policy_choice.as_ref());
    match (&wanted.policy_choice, configured) {
        (None, None) => true,
        (None, Some(Configured::Latest(latest))) => newest(latest.num_versions) == 1,
        (Some(PolicyChoice::Latest(latest)), None) => newest(latest.num_versions) == 1,
        (Some(PolicyChoice::Latest(wanted)), Some(Configured::Latest(configured))) => {
            newest(wanted.num_versions) == newest(configured.num_versions)
        }
        (Some(PolicyChoice::All(_)), Some(Configured::All(_))) => true,
        (Some(PolicyChoice::Specific(wanted)), Some(Configured::Specific(configured))) => {
            let wanted: BTreeSet<i64> = wanted.versions.iter().copied().collect();
            wanted == configured.versions.iter().copied().collect()
        }
        _ => false,
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Changes {
    load: Vec<String>,
    unload: Vec<String>,
}

/// What is to be done so that these models are served and no others.
fn changes(wanted: &BTreeSet<&str>, index: &[IndexEntry]) -> Changes {
    let serving =
        |entry: &&IndexEntry| matches!(entry.state, VersionState::Ready | VersionState::Loading);
    let served: BTreeSet<&str> =
        index.iter().filter(serving).map(|entry| entry.name.as_str()).collect();
    let owned = |names: Vec<&&str>| names.into_iter().map(|name| (*name).to_owned()).collect();
    Changes {
        load: owned(wanted.difference(&served).collect()),
        unload: owned(served.difference(wanted).collect()),
    }
}

fn refusal(problem: &str) -> InferError {
    InferError::Unsupported(format!("{problem}: {CONTROL}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::grpc::tensorflow::serving::{ModelConfigList, ModelServerConfig};

    fn model(name: &str, base_path: &str) -> ModelConfig {
        ModelConfig {
            name: name.to_owned(),
            base_path: base_path.to_owned(),
            ..ModelConfig::default()
        }
    }

    fn request(config: Option<Config>) -> ReloadConfigRequest {
        ReloadConfigRequest { config: Some(ModelServerConfig { config }), metric_names: Vec::new() }
    }

    #[test]
    fn names() {
        let list =
            |models| request(Some(Config::ModelConfigList(ModelConfigList { config: models })));
        let error = |request| wanted(request).expect_err("wrong").to_string();
        assert_eq!(wanted(list(vec![model("a", "")])).expect("right").len(), 1);
        assert!(wanted(list(vec![])).expect("nothing shall be served").is_empty());
        assert!(error(list(vec![model("", "")])).contains("no name"));
        assert!(error(list(vec![model("a", ""), model("a", "")])).contains("multiple times"));
        assert!(error(request(None)).contains("no model_config_list"));
        let custom = request(Some(Config::CustomModelConfig(prost_types::Any::default())));
        assert!(error(custom).contains("--model-control"));
    }

    #[test]
    fn paths() {
        assert!(path_fits(&model("iris", "")));
        assert!(path_fits(&model("iris", "/models/iris")));
        assert!(path_fits(&model("iris", "/models/iris/")));
        assert!(!path_fits(&model("iris", "/models/other")));
        assert!(!path_fits(&model("iris", "/models/iris/..")));
    }

    #[test]
    fn policies() {
        use crate::protocol::grpc::tensorflow::serving::file_system_storage_path_source_config::servable_version_policy as tfs;
        use model_version_policy::{self as triton, PolicyChoice as Configured};
        let check = |wanted: Option<PolicyChoice>, configured: Option<Configured>, same: bool| {
            let configured = configured
                .map(|choice| inference::ModelVersionPolicy { policy_choice: Some(choice) });
            let wanted = ServableVersionPolicy { policy_choice: wanted };
            assert_eq!(
                same_policy(&wanted, configured.as_ref()),
                same,
                "{wanted:?} {configured:?}"
            );
        };
        let latest = |num_versions| Some(PolicyChoice::Latest(tfs::Latest { num_versions }));
        let specific = |versions: &[i64]| {
            Some(PolicyChoice::Specific(tfs::Specific { versions: versions.to_vec() }))
        };
        let configured = |versions: &[i64]| {
            Some(Configured::Specific(triton::Specific { versions: versions.to_vec() }))
        };
        check(None, None, true);
        check(latest(0), None, true);
        check(latest(2), None, false);
        check(latest(2), Some(Configured::Latest(triton::Latest { num_versions: 2 })), true);
        check(Some(PolicyChoice::All(tfs::All {})), Some(Configured::All(triton::All {})), true);
        check(specific(&[3, 1]), configured(&[1, 3]), true);
        check(specific(&[3]), configured(&[1, 3]), false);
        check(None, configured(&[1]), false);
    }

    #[test]
    fn what_changes() {
        let entry = |name: &str, state| IndexEntry {
            name: name.to_owned(),
            version: Some(1),
            state,
            reason: String::new(),
        };
        let index = [
            entry("a", VersionState::Ready),
            entry("b", VersionState::Ready),
            entry("c", VersionState::Unavailable),
            entry("d", VersionState::Unavailable),
        ];
        let found = changes(&BTreeSet::from(["a", "c"]), &index);
        assert_eq!(found, Changes { load: vec!["c".to_owned()], unload: vec!["b".to_owned()] });
    }
}
