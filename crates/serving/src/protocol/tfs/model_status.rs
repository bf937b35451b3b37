//! The states of a model's versions in TensorFlow Serving's terms.

use tonic::Code;

use super::model_spec::Target;
use crate::Server;
use crate::error::InferError;
use crate::protocol::grpc::tensorflow::serving::model_version_status::State;
use crate::protocol::grpc::tensorflow::serving::{ModelVersionStatus, StatusProto};
use crate::request::VersionChoice;
use crate::server::{IndexEntry, VersionState};

/// Why a version is not loaded, if that was asked for.
const UNLOADED: &str = "unloaded";

/// The states of all versions of a model that are known, loaded or not, newest first; of one version
/// if the target names one.
pub(crate) fn model_status(
    server: &Server,
    target: &Target,
) -> Result<Vec<ModelVersionStatus>, InferError> {
    let wanted = match &target.version {
        VersionChoice::Latest => None,
        VersionChoice::Number(number) => Some(*number),
        VersionChoice::Label(label) => {
            let labels = server.labels(&target.model).map_err(|error| target.reword(error))?;
            let Some(version) = labels.get(label) else {
                return Err(target.reword(InferError::UnknownLabel {
                    model: target.model.clone(),
                    label: label.clone(),
                    known: labels.into_keys().collect(),
                }));
            };
            Some(*version)
        }
    };
    statuses(&target.model, wanted, &server.index())
}

fn statuses(
    model: &str,
    wanted: Option<u64>,
    index: &[IndexEntry],
) -> Result<Vec<ModelVersionStatus>, InferError> {
    let known = index.iter().filter(|entry| entry.name == model);
    let mut found: Vec<(u64, &IndexEntry)> = known
        .filter_map(|entry| Some((entry.version?, entry)))
        .filter(|(version, _)| wanted.is_none_or(|wanted| *version == wanted))
        .collect();
    if found.is_empty() {
        return Err(InferError::NotFound(match wanted {
            None => format!("Could not find any versions of model {model}"),
            Some(version) => format!("Could not find version {version} of model {model}"),
        }));
    }
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    Ok(found.into_iter().map(|(version, entry)| status(version, entry)).collect())
}

fn status(version: u64, entry: &IndexEntry) -> ModelVersionStatus {
    let state = match entry.state {
        VersionState::Loading => State::Loading,
        VersionState::Ready => State::Available,
        VersionState::Unloading => State::Unloading,
        VersionState::Unavailable => State::End,
    };
    let failed = state == State::End && !entry.reason.is_empty() && entry.reason != UNLOADED;
    let (code, message) =
        if failed { (Code::Unknown, entry.reason.clone()) } else { (Code::Ok, String::new()) };
    ModelVersionStatus {
        version: i64::try_from(version).unwrap_or(i64::MAX),
        state: state.into(),
        status: Some(StatusProto { error_code: code.into(), error_message: message }),
    }
}

/// Upper-case name of the canonical code with this number.
pub(crate) fn code_name(number: i32) -> &'static str {
    match Code::from_i32(number) {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(version: Option<u64>, state: VersionState, reason: &str) -> IndexEntry {
        IndexEntry { name: "m".to_owned(), version, state, reason: reason.to_owned() }
    }

    #[test]
    fn table() {
        let index = [
            entry(Some(1), VersionState::Unavailable, "unloaded"),
            entry(Some(3), VersionState::Ready, ""),
            entry(Some(2), VersionState::Unavailable, "cannot load the model"),
            entry(Some(4), VersionState::Loading, ""),
            entry(Some(0), VersionState::Unloading, ""),
        ];
        let all: Vec<(i64, State, i32)> = statuses("m", None, &index)
            .expect("known")
            .iter()
            .map(|one| (one.version, one.state(), one.status.as_ref().expect("given").error_code))
            .collect();
        let expected = [
            (4, State::Loading, 0),
            (3, State::Available, 0),
            (2, State::End, 2),
            (1, State::End, 0),
            (0, State::Unloading, 0),
        ];
        assert_eq!(all, expected);
        assert_eq!(statuses("m", Some(3), &index).expect("known").len(), 1);

        let error =
            |model, version| statuses(model, version, &index).expect_err("unknown").to_string();
        assert_eq!(error("x", None), "Could not find any versions of model x");
        assert_eq!(error("m", Some(9)), "Could not find version 9 of model m");
        let unloaded = [entry(None, VersionState::Unavailable, "unloaded")];
        assert!(statuses("m", None, &unloaded).is_err());
    }
}
