//! What a job's program reads, and where it finds it.

use serde::Serialize;
use trainyard_api::defaults::{CompleteData, CompleteJob};
use trainyard_api::scalar::{Bytes, ModelUri};

use super::compile::JobError;
use super::gang::DATA;
use super::storage::hides;
use crate::facts::Target;
use crate::workload::Volume;

/// One data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DataSet {
    pub name: String,
    /// In Kubernetes a volume or something to fetch; on a machine a path or something to fetch.
    pub uri: ModelUri,
    pub sha256: Option<String>,
    pub credentials_secret: Option<String>,
    /// Where a container sees it. A process sees the files where they lie.
    pub mount: String,
    /// Disk that is kept for what is fetched.
    pub limit: Bytes,
}

/// The variable that tells a program the path of its data.
pub fn data_variable(name: &str) -> String {
    format!("{DATA}{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// What each worker needs before its program starts.
pub(super) fn of(
    job: &str,
    spec: &CompleteJob,
    target: &Target,
    volumes: &[Volume],
) -> Result<Vec<DataSet>, JobError> {
    let is_local = matches!(target, Target::Local { .. });
    let mut sets: Vec<DataSet> = Vec::new();
    for data in &spec.data {
        let wrong = |help| JobError::DataUri {
            job: job.to_owned(),
            data: data.name.clone(),
            uri: data.uri.to_string(),
            help,
        };
        match (&data.uri, is_local) {
            (ModelUri::Pvc { .. }, true) => {
                return Err(wrong(
                    "on one machine, which has no claims; name a folder as `file:///FOLDER`",
                ));
            }
            (ModelUri::File(_), false) => {
                return Err(wrong(
                    "in a cluster: it is on another machine; bring it to a store or a volume, and name it as `s3://`, `gs://`, `az://`, `https://` or `pvc://CLAIM/PATH`",
                ));
            }
            _ => {}
        }
        let set = set(job, data, is_local)?;
        // One volume over another hides it.
        let others = sets.iter().map(|other| (&other.name, &other.mount));
        let mut others = others.chain(volumes.iter().map(|other| (&other.name, &other.mount.path)));
        if let Some((other, _)) =
            others.find(|(_, mount)| !is_local && *mount != "/tmp" && meet(mount, &set.mount))
        {
            let why = format!("meets that of `{other}`; give each a folder of its own");
            return Err(JobError::DataMount {
                job: job.to_owned(),
                data: set.name,
                mount: set.mount,
                why,
            });
        }
        sets.push(set);
    }
    Ok(sets)
}

fn set(job: &str, data: &CompleteData, is_local: bool) -> Result<DataSet, JobError> {
    let parts: Vec<&str> =
        data.mount.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let mount = format!("/{}", parts.join("/"));
    let why = if parts.contains(&"..") {
        Some("has `..` in it; write the path without it")
    } else if hides(&mount) {
        Some("would hide a folder that the container needs; choose one of its own, such as `/data`")
    } else {
        None
    };
    if let Some(why) = why.filter(|_| !is_local) {
        return Err(JobError::DataMount {
            job: job.to_owned(),
            data: data.name.clone(),
            mount: data.mount.clone(),
            why: why.to_owned(),
        });
    }
    Ok(DataSet {
        name: data.name.clone(),
        uri: data.uri.clone(),
        sha256: data.sha256.clone(),
        credentials_secret: data.credentials_secret.clone(),
        mount,
        limit: data.size,
    })
}

/// Whether one of two folders is the other, or in it.
fn meet(one: &str, other: &str) -> bool {
    let is_in = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    is_in(one, other) || is_in(other, one)
}
