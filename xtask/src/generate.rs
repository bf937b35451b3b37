//! Generates the Rust side of `crates/serving/proto`, without a protoc on the machine, and the pages
//! of `docs/rules` and `docs/doctor.md` from the rules and diagnoses.
//!
//! The result is committed, so that a plain build neither parses `.proto` files nor depends on
//! their compiler; the test below fails when the two no longer agree.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::paths;

/// Entry points; what they import comes along.
const FILES: [&str; 4] = [
    "health/health.proto",
    "inference/grpc_service.proto",
    "tensorflow/serving/model_service.proto",
    "tensorflow/serving/prediction_service.proto",
];

/// Messages of Triton's model configuration, which are also read from JSON.
const CONFIG_MESSAGES: [&str; 13] = [
    "ModelConfig",
    "ModelDynamicBatching",
    "ModelInput",
    "ModelInstanceGroup",
    "ModelOptimizationPolicy",
    "ModelOutput",
    "ModelParameter",
    "ModelQueuePolicy",
    "ModelResponseCache",
    "ModelTensorReshape",
    "ModelTransactionPolicy",
    "ModelVersionPolicy",
    "ModelWarmup",
];

/// Oneofs among them: in JSON a member stands beside the other fields.
const CONFIG_ONEOFS: [&str; 2] =
    ["ModelVersionPolicy.policy_choice", "ModelWarmup.Input.input_data_type"];

/// Enumerations among them: in JSON a value is a name.
const CONFIG_ENUM_FIELDS: [(&str, &str); 7] = [
    ("ModelInput.data_type", "DataType"),
    ("ModelInput.format", "model_input::Format"),
    ("ModelOutput.data_type", "DataType"),
    ("ModelInstanceGroup.kind", "model_instance_group::Kind"),
    ("ModelQueuePolicy.timeout_action", "model_queue_policy::TimeoutAction"),
    ("ModelOptimizationPolicy.priority", "model_optimization_policy::ModelPriority"),
    ("ModelWarmup.Input.data_type", "DataType"),
];

/// Writes the generated files anew.
pub(crate) fn run() -> anyhow::Result<()> {
    let folder = destination();
    let files = generate()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (name, text) in &files {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    for name in committed(&folder)?.into_keys().filter(|name| !files.contains_key(name)) {
        fs::remove_file(folder.join(&name))?;
    }
    write_pages()?;
    write_diagnoses()
}

/// Writes the table of `docs/doctor.md` anew; `crates/diagnose` tests that it is current.
fn write_diagnoses() -> anyhow::Result<()> {
    let path = paths::root().join("docs/doctor.md");
    let page =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let fresh =
        trainyard_diagnose::pages::renew(&page).context("docs/doctor.md lacks its marks")?;
    fs::write(&path, fresh).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

/// Writes the rules' pages anew; `crates/rules` tests that they are current.
fn write_pages() -> anyhow::Result<()> {
    let folder = paths::root().join("docs/rules");
    let pages = trainyard_rules::pages::pages();
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if !pages.contains_key(&*entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    for (name, text) in pages {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{}", folder.display());
    Ok(())
}

fn destination() -> PathBuf {
    paths::root().join("crates/serving/src/protocol/grpc/generated")
}

/// File names and contents, one file a protobuf package.
fn generate() -> anyhow::Result<BTreeMap<String, String>> {
    let proto = paths::root().join("crates/serving/proto");
    let descriptors = protox::compile(FILES, [&proto])
        .map_err(|error| anyhow::anyhow!("cannot compile the .proto files: {error:?}"))?;
    let out = tempfile::tempdir()?;

    let mut builder = tonic_prost_build::configure()
        .out_dir(out.path())
        // The test suite is a client too; the server needs no transport of tonic's own.
        .build_client(true)
        .build_transport(false)
        // Tensors stay slices of the received message.
        .bytes(".")
        .btree_map(".");
    for message in CONFIG_MESSAGES {
        builder = builder
            .message_attribute(format!(".inference.{message}"), "#[derive(serde::Deserialize)]")
            .message_attribute(format!(".inference.{message}"), "#[serde(default)]");
    }
    for oneof in CONFIG_ONEOFS {
        builder = builder
            .type_attribute(
                format!(".inference.{oneof}"),
                "#[derive(serde::Deserialize)] #[serde(rename_all = \"snake_case\")]",
            )
            // Without the leading dot only the field itself matches, not the oneof's members.
            .field_attribute(oneof, "#[serde(flatten)]");
    }
    for (field, name) in CONFIG_ENUM_FIELDS {
        let attribute = format!(
            "#[serde(deserialize_with = \"crate::protocol::grpc::config::enum_name::<crate::protocol::grpc::inference::{name}, _>\")]"
        );
        builder = builder.field_attribute(format!(".inference.{field}"), attribute);
    }
    builder.compile_fds(descriptors)?;
    committed(out.path())
}

/// The `.rs` files of a folder, empty if there is none.
fn committed(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let Ok(entries) = fs::read_dir(folder) else { return Ok(files) };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".rs") {
            files.insert(name, fs::read_to_string(entry.path())?);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_code_is_current() {
        let fresh = generate().expect("the .proto files compile");
        let committed = committed(&destination()).expect("the folder can be read");
        for (name, text) in &fresh {
            let same = committed.get(name).is_some_and(|old| old == text);
            assert!(same, "{name} is stale: run `cargo xtask generate` and commit the result");
        }
        assert_eq!(fresh.len(), committed.len(), "a file is left over: run `cargo xtask generate`");
    }
}
