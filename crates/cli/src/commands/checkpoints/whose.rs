//! Whose checkpoints a command is for: those of a store, by its address, or those of a job.

use std::path::Path;
use std::process::ExitCode;

use miette::miette;
use trainyard_checkpoint::Store;
use trainyard_operator::console::{Console, JobStore, Kind};
use trainyard_storage::Credentials;

use super::{Output, Stop};
use crate::commands::cluster_args::default_image;
use crate::commands::output::ServiceName;
use crate::commands::place::{Intent, Place, PlaceArgs, PlaceError};
use crate::print::print_line;

/// How a claim's store begins.
const CLAIM: &str = "pvc://";

/// What was named.
#[derive(Debug, PartialEq, Eq)]
enum Named<'a> {
    Store(&'a str),
    Job(String),
}

/// A store, or where one is that only pods reach.
pub(super) enum Whose {
    Store(Store),
    Claim { console: Console, job: String, uri: String },
}

impl Whose {
    pub(super) async fn find(name: &str, place: &PlaceArgs, intent: Intent) -> Result<Self, Stop> {
        let job = match named(name, |path| path.exists())? {
            Named::Store(uri) => {
                return Ok(Self::Store(Store::open(uri, &Credentials::default())?));
            }
            Named::Job(job) => job,
        };
        let open = place.open(intent).await;
        let place = open.map_err(|error| match name.contains('/') {
            true => error,
            false => miette!(
                help = format!(
                    "a store is an address such as s3://BUCKET/FOLDER, or a folder: `./{name}`"
                ),
                "there is no folder `{name}`, and no job can be looked for: {error}"
            ),
        })?;
        let without = || {
            miette!(
                help = "set `checkpoint.uri`, and its whole checkpoints are brought there",
                "the job `{job}` has no store of checkpoints"
            )
        };
        match place {
            Place::Here(here) => {
                let (folder, store) = here.store(&job)?.ok_or_else(without)?;
                let uri = absolute(&store.uri, &folder);
                Ok(Self::Store(Store::open(&uri, &store.variables.into_iter().collect())?))
            }
            Place::Cluster(console) => {
                let store = console.store(&job).await.map_err(PlaceError::from);
                let store = store.map_err(miette::Report::from)?.ok_or_else(without)?;
                let JobStore { uri, variables } = store;
                if uri.starts_with(CLAIM) {
                    return Ok(Self::Claim { console, job, uri });
                }
                let opened = Store::open(&uri, &variables.into_iter().collect());
                Ok(Self::Store(opened?))
            }
        }
    }

    /// The store; else the same command, in these words, runs in a pod that has the claim, and this is
    /// how it ended. Without words there is none that a pod could run.
    pub(super) async fn or_in_a_pod(
        self,
        words: &[&str],
        output: Output,
    ) -> Result<Result<Store, ExitCode>, Stop> {
        let (console, job, uri) = match self {
            Self::Store(store) => return Ok(Ok(store)),
            Self::Claim { console, job, uri } => (console, job, uri),
        };
        let (claim, folder) =
            uri.strip_prefix(CLAIM).and_then(|it| it.split_once('/')).unwrap_or((&uri, ""));
        let [command, rest @ ..] = words else {
            return Err(miette!(
                help = format!(
                    "`ls`, `verify` and `prune` work from here; for the files mount the claim `{claim}` in a pod of your own"
                ),
                "the checkpoints of `{job}` are on a volume, `{uri}`, which only pods reach"
            )
            .into());
        };
        let mut all =
            vec!["checkpoints".to_owned(), (*command).to_owned(), format!("{{}}/{folder}")];
        all.extend(rest.iter().map(|word| (*word).to_owned()));
        if output == Output::Json {
            all.extend(["--output".to_owned(), "json".to_owned()]);
        }
        let ran = console.run_on_claim(&job, claim, &default_image(), &all).await;
        let ran = ran.map_err(PlaceError::from).map_err(miette::Report::from)?;
        let (told, printed) = apart(&ran.printed, output);
        eprint!("{told}");
        if !printed.is_empty() {
            print_line(printed.trim_end())?;
        }
        Ok(Err(ExitCode::from(u8::try_from(ran.exit_code).unwrap_or(1))))
    }
}

/// A folder or an address is a store; another name is a job's, as `tj/NAME` always is.
fn named(name: &str, exists: impl Fn(&Path) -> bool) -> miette::Result<Named<'_>> {
    match name.split_once('/') {
        // A folder of that name is called `./tj/…`.
        Some((kind, _)) if !exists(Path::new(kind)) && !name.contains("://") => {
            match name.parse() {
                Ok(ServiceName(job, Some(Kind::TrainingJob))) => Ok(Named::Job(job)),
                Ok(ServiceName(..)) => {
                    Err(miette!("`{name}` is no training job: services have no checkpoints"))
                }
                Err(_) => Ok(Named::Store(name)),
            }
        }
        None if !name.starts_with('.') && !exists(Path::new(name)) => {
            Ok(Named::Job(name.to_owned()))
        }
        _ => Ok(Named::Store(name)),
    }
}

/// What a path of a manifest means, which is below the manifest's folder.
fn absolute(uri: &str, folder: &Path) -> String {
    match uri.strip_prefix("file://").unwrap_or(uri) {
        path if path.contains("://") => uri.to_owned(),
        path => folder.join(path).display().to_string(),
    }
}

/// A log has all that was printed in one: what is for people, and what is for programs.
fn apart(log: &str, output: Output) -> (String, String) {
    if output == Output::Table {
        return (String::new(), log.to_owned());
    }
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.iter().position(|line| *line == "{").unwrap_or(lines.len());
    let to = lines.iter().rposition(|line| *line == "}").map_or(from, |at| at.saturating_add(1));
    let text = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let (before, rest) = lines.split_at(from);
    let (json, after) = rest.split_at(to.saturating_sub(from));
    (text(before) + &text(after), text(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_job_s_unless_there_is_a_folder() {
        let of = |name| named(name, |path| path == Path::new("there")).unwrap();
        assert_eq!(of("s3://bucket/run"), Named::Store("s3://bucket/run"));
        assert_eq!(of("/var/run"), Named::Store("/var/run"));
        assert_eq!(of("./run"), Named::Store("./run"));
        assert_eq!(of("."), Named::Store("."));
        assert_eq!(of("there"), Named::Store("there"));
        assert_eq!(of("there/run"), Named::Store("there/run"));
        assert_eq!(of("elsewhere/run"), Named::Store("elsewhere/run"));
        assert_eq!(of("run"), Named::Job("run".to_owned()));
        assert_eq!(of("tj/run"), Named::Job("run".to_owned()));
        assert_eq!(of("trainingjob.trainyard.dev/run"), Named::Job("run".to_owned()));
        assert!(named("ms/digits", |_| false).is_err());
    }

    #[test]
    fn what_a_pod_told_and_what_it_printed_are_told_apart() {
        let log = "warning: x\n{\n  \"a\": {\n  }\n}\nlater\n";
        assert_eq!(
            apart(log, Output::Json),
            ("warning: x\nlater\n".to_owned(), "{\n  \"a\": {\n  }\n}\n".to_owned())
        );
        assert_eq!(apart("error: y\n", Output::Json), ("error: y\n".to_owned(), String::new()));
        assert_eq!(apart(log, Output::Table).1, log);
    }

    #[test]
    fn paths_are_below_the_manifest_s_folder() {
        let of = |uri| absolute(uri, Path::new("/home/me"));
        assert_eq!(of("store"), "/home/me/store");
        assert_eq!(of("file:///data/store"), "/data/store");
        assert_eq!(of("file://./store"), "/home/me/./store");
        assert_eq!(of("s3://bucket/store"), "s3://bucket/store");
    }
}
