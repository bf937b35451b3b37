//! The data that a program reads, brought to this machine before it starts.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trainyard_storage::{FetchOptions, Fetched, Progress, Source, StorageError, in_full};

use super::course::Cause;

/// First pause after a store did not answer; it doubles up to [`LONGEST`].
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// What a shell leaves with that cannot run a program: it would do no better the next time.
const CANNOT_START: u8 = 126;

/// Data that the program reads.
#[derive(Debug, Clone)]
pub struct DataSet {
    pub name: String,
    /// The variable that tells the program its path.
    pub variable: String,
    /// A path of this machine, or where to fetch it from.
    pub uri: String,
    /// What its file must hash to, in hexadecimal.
    pub sha256: Option<String>,
}

/// Where data sets are on this machine.
#[derive(Debug, Clone, Default)]
pub struct Data {
    pub sets: Vec<DataSet>,
    /// The folder of what is fetched, which agents share; none is the user's own.
    pub cache: Option<PathBuf>,
}

impl Data {
    /// Makes all of them available, and gives the variables that say where they are; or how the
    /// attempt ended, and why.
    ///
    /// A store that does not answer is asked again and again, as that of checkpoints is.
    pub(super) async fn gather(&self) -> Result<Vec<(OsString, OsString)>, (Cause, String)> {
        let mut variables = Vec::new();
        for set in &self.sets {
            let fetched = self.fetch(set).await.map_err(|error| {
                let name = &set.name;
                let message = format!("the data `{name}` cannot be had: {}", in_full(&error));
                (Cause::NotStarted(CANNOT_START), message)
            })?;
            if fetched.source == Source::Remote {
                eprintln!("trainyard: fetched the data `{}`, {} bytes", set.name, fetched.bytes);
            }
            variables.push((set.variable.clone().into(), fetched.path.into()));
        }
        Ok(variables)
    }

    async fn fetch(&self, set: &DataSet) -> Result<Fetched, StorageError> {
        let options = FetchOptions {
            cache: self.cache.clone(),
            sha256: set.sha256.clone(),
            ..FetchOptions::default()
        };
        let (mut pause, cancel) = (PAUSE, CancellationToken::new());
        loop {
            let fetch = trainyard_storage::fetch(&set.uri, &options, &|_: Progress| {}, &cancel);
            match fetch.await {
                Err(error) if error.is_transient() => {
                    eprintln!(
                        "trainyard: the data `{}` cannot be had now, and is asked for again in {} s: {}",
                        set.name,
                        pause.as_secs(),
                        in_full(&error)
                    );
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(LONGEST);
                }
                other => return other,
            }
        }
    }
}

/// A command with the paths of data in place of `$(VARIABLE)`, which back ends leave as it is.
pub(super) fn expanded(command: &[OsString], variables: &[(OsString, OsString)]) -> Vec<OsString> {
    let expand = |argument: &OsString| {
        let Some(text) = argument.to_str() else { return argument.clone() };
        let known = variables
            .iter()
            .filter_map(|(name, value)| Some((format!("$({})", name.to_str()?), value.to_str()?)));
        known.fold(text.to_owned(), |text, (name, value)| text.replace(&name, value)).into()
    };
    command.iter().map(expand).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_data() {
        let variables = [("TRAINYARD_DATA_A".into(), "/x/a".into())];
        let command =
            ["t", "--in=$(TRAINYARD_DATA_A)/b", "$(TRAINYARD_DATA_B)"].map(OsString::from);
        assert_eq!(expanded(&command, &variables), ["t", "--in=/x/a/b", "$(TRAINYARD_DATA_B)"]);
    }
}
