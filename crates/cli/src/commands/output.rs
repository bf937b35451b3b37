//! How answers look that people and programs read.

use clap::ValueEnum;
use serde_json::{Value, json};
use trainyard_operator::console::{Kind, Summary, key};

use super::jobs;
use super::time::ago;
use crate::failure::failure;
use crate::table::table;
use crate::yaml;

/// As kubectl's `-o`.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    /// A table with more columns
    Wide,
    Json,
    Yaml,
    /// Names only, one a line
    Name,
}

impl Format {
    /// A program reads it.
    pub(crate) fn is_for_machines(self) -> bool {
        matches!(self, Self::Json | Self::Yaml | Self::Name)
    }
}

/// How a table is drawn.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    pub(crate) with_namespace: bool,
    pub(crate) wide: bool,
    pub(crate) headers: bool,
}

/// What kubectl prints before a name.
pub(crate) const SINGULAR: &str = "modelservice.trainyard.dev";

/// The name of a service or a job as an argument: `NAME`, or as kubectl's users may write it,
/// `ms/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceName(pub(crate) String, pub(crate) Option<Kind>);

impl std::str::FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            None => (None, text),
            Some((kind, name)) => {
                let is_plural = |it: &Kind| it.full_name() == kind;
                let found = match kind {
                    "ms" | "modelservice" | "modelservices" | SINGULAR => Some(Kind::ModelService),
                    "tj" | "trainingjob" | "trainingjobs" | jobs::SINGULAR => {
                        Some(Kind::TrainingJob)
                    }
                    _ => Kind::ALL.into_iter().find(is_plural),
                };
                let unknown = || format!("`{kind}` is no kind that Trainyard knows");
                (Some(found.ok_or_else(unknown)?), name)
            }
        };
        if name.is_empty() {
            return Err("expected the name of a service".to_owned());
        }
        Ok(Self(name.to_owned(), kind))
    }
}

/// What kubectl prints before a name of that kind.
pub(crate) fn singular(kind: Kind) -> &'static str {
    match kind {
        Kind::ModelService => SINGULAR,
        Kind::TrainingJob => jobs::SINGULAR,
    }
}

/// The names themselves.
pub(crate) fn plain(names: &[ServiceName]) -> Vec<String> {
    names.iter().map(|name| name.0.clone()).collect()
}

/// Resources for programs. One that was asked for by name is printed alone, several as a list, as
/// kubectl does.
pub(crate) fn resources(
    services: &[Value],
    is_one: bool,
    format: Format,
) -> miette::Result<String> {
    let whole = match services {
        [only] if is_one => only.clone(),
        all => json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": all}),
    };
    match format {
        Format::Yaml => Ok(yaml::document(&whole)?.trim_end().to_owned()),
        Format::Name => Ok(names(services)),
        Format::Table | Format::Wide | Format::Json => {
            serde_json::to_string_pretty(&whole).map_err(failure)
        }
    }
}

/// `modelservice.trainyard.dev/NAME`, one a line.
pub(crate) fn names(services: &[Value]) -> String {
    let names = services.iter().map(|service| {
        let is_job = service["kind"] == "TrainingJob";
        let kind = if is_job { jobs::SINGULAR } else { SINGULAR };
        format!("{kind}/{}", key(service).1)
    });
    names.collect::<Vec<_>>().join("\n")
}

/// The columns that `kubectl get modelservices` prints.
pub(crate) fn list(services: &[Value], columns: Columns) -> String {
    let rows = services.iter().map(|service| row(service, columns));
    table(&header(columns), rows)
}

fn header(columns: Columns) -> Vec<&'static str> {
    if !columns.headers {
        return Vec::new();
    }
    let mut header = Vec::new();
    header.extend(columns.with_namespace.then_some("NAMESPACE"));
    header.extend(["NAME", "READY", "REPLICAS", "REVISION", "URL"]);
    header.extend(columns.wide.then_some("MODEL"));
    header.push("AGE");
    header
}

fn row(service: &Value, columns: Columns) -> Vec<String> {
    let summary = Summary::of(service);
    let mut row = Vec::new();
    row.extend(columns.with_namespace.then_some(summary.namespace));
    row.extend([summary.name, summary.ready, summary.ready_replicas.to_string()]);
    row.extend([summary.revision, summary.url]);
    row.extend(columns.wide.then_some(summary.model));
    row.push(age(summary.created_ms));
    row
}

/// How old something is; kubectl's word where nobody knows.
pub(crate) fn age(since_ms: Option<i64>) -> String {
    since_ms.map_or_else(|| "<unknown>".to_owned(), ago)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_kubectls_users_write_them() {
        let of = |text: &str| text.parse::<ServiceName>().map(|name| name.0);
        assert_eq!(of("iris").as_deref(), Ok("iris"));
        assert_eq!(of("ms/iris").as_deref(), Ok("iris"));
        assert_eq!(of("modelservices.trainyard.dev/iris").as_deref(), Ok("iris"));
        assert_eq!(of("tj/digits").as_deref(), Ok("digits"));
        assert_eq!(
            "tj/digits".parse::<ServiceName>().map(|name| name.1),
            Ok(Some(Kind::TrainingJob))
        );
        assert!(of("pod/iris").is_err() && of("ms/").is_err() && of("").is_err());
    }

    #[test]
    fn one_by_name_and_lists() {
        let service = json!({"kind": "ModelService", "metadata": {"name": "iris"}});
        let of = |services: &[Value], is_one| -> Value {
            serde_json::from_str(&resources(services, is_one, Format::Json).unwrap()).unwrap()
        };
        assert_eq!(of(std::slice::from_ref(&service), true), service);
        assert_eq!(of(std::slice::from_ref(&service), false)["items"][0], service);
        assert_eq!(of(&[], false)["kind"], "List");
        let yaml = resources(std::slice::from_ref(&service), true, Format::Yaml).unwrap();
        assert_eq!(yaml, "kind: ModelService\nmetadata:\n  name: iris");
        assert_eq!(names(&[service]), "modelservice.trainyard.dev/iris");
    }

    #[test]
    fn tables() {
        let service = json!({
            "metadata": {"name": "iris", "namespace": "a"}, "spec": {"model": {"uri": "s3://m"}},
            "status": {"url": "http://g", "revision": "iris-1", "readyReplicas": 2,
                "conditions": [{"type": "Ready", "status": "True"}]},
        });
        let columns = Columns { with_namespace: true, wide: true, headers: true };
        insta::assert_snapshot!(list(&[service], columns));
    }
}
