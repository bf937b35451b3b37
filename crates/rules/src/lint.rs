//! Runs rules over a bundle.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::context::Context;
use crate::custom;
use crate::edit::Edit;
use crate::ignore::{self, Comment};
use crate::model::{Bundle, Object, Pod};
use crate::parallel::map_runs;
use crate::registry;
use crate::report::{Draft, Report};
use crate::rule::{Check, Level, Rule};
use crate::settings::Settings;
use crate::yaml::{Documents, Place, Span};

/// Something that a rule found.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub rule: String,
    pub level: Level,
    /// The source's name.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// `Deployment/namespace/name`, without the namespace where none is set.
    pub object: String,
    /// What will happen, and why here.
    pub message: String,
    /// How to mend it; empty where there is no single way.
    pub fix: String,
    /// The path in the object, `spec.template.spec.containers[0]`.
    #[serde(skip)]
    pub path: String,
    #[serde(skip)]
    pub file_index: usize,
    #[serde(skip)]
    pub span: Span,
    /// Where it ends.
    #[serde(skip)]
    pub end: Place,
    /// Changes that mend it, all or none; empty if no change is known to be safe.
    #[serde(skip)]
    pub edits: Vec<Edit>,
}

/// A reason that is missing in a suppression, so that it is not honoured.
pub const NO_REASON: &str = "LINT01";
/// A suppression of a rule that does not exist.
pub const UNKNOWN_RULE: &str = "LINT02";

/// Pods that one thread checks without help, other objects, and findings that it writes.
const FEW_PODS: usize = 64;
const FEW_OBJECTS: usize = 512;
const FEW_DRAFTS: usize = 512;

/// Runs all rules that the settings choose. The order is that of files and places in them.
#[must_use]
pub fn lint(documents: &Documents, settings: &Settings) -> Vec<Finding> {
    let bundle = Bundle::new(documents);
    lint_bundle(documents, &bundle, settings)
}

/// Runs rules over a bundle that was built before.
#[must_use]
pub fn lint_bundle(
    documents: &Documents,
    bundle: &Bundle<'_>,
    settings: &Settings,
) -> Vec<Finding> {
    let rules: Vec<&'static Rule> =
        registry::all().iter().copied().filter(|rule| settings.runs(rule.id)).collect();
    let context = Context { bundle, profile: settings.profile.unwrap_or_default() };
    let mut drafts = run(&context, &rules);
    drafts.extend(custom::run(&context, settings));
    let comments: Vec<Vec<Comment>> = documents.files.iter().map(ignore::comments).collect();
    let runs = map_runs(&drafts, FEW_DRAFTS, |drafts| {
        let heard = drafts.iter().filter(|draft| !is_silenced(draft, documents, bundle, &comments));
        heard.map(|draft| finish(draft, documents, bundle, settings)).collect::<Vec<_>>()
    });
    let mut findings: Vec<Finding> = runs.into_iter().flatten().collect();
    findings.extend(odd_comments(documents, bundle, &comments, settings));
    findings.extend(odd_annotations(bundle, settings));
    findings.sort_by(|a, b| {
        (a.file_index, a.span, &a.rule, &a.message).cmp(&(
            b.file_index,
            b.span,
            &b.rule,
            &b.message,
        ))
    });
    findings.dedup_by(|a, b| {
        (a.file_index, a.span, &a.rule, &a.message) == (b.file_index, b.span, &b.rule, &b.message)
    });
    findings
}

fn run(context: &Context<'_>, rules: &[&'static Rule]) -> Vec<Draft> {
    let by_kind = by_kind(rules);
    let bundle = context.bundle;
    let none = || -> Vec<Report> { rules.iter().map(|rule| Report::new(rule)).collect() };
    let mut parts = map_runs(&bundle.pods, FEW_PODS, |pods| {
        let mut reports = none();
        check_pods(context, pods, &mut reports);
        reports
    });
    parts.extend(map_runs(&bundle.objects, FEW_OBJECTS, |objects| {
        let mut reports = none();
        check_objects(context, objects, &by_kind, &mut reports);
        reports
    }));
    let least = if bundle.objects.len() < FEW_OBJECTS { rules.len() } else { 1 };
    parts.extend(map_runs(rules, least, |rules| {
        rules
            .iter()
            .filter_map(|rule| {
                let Check::Bundle(check) = &rule.check else { return None };
                let mut report = Report::new(rule);
                check(context, &mut report);
                Some(report)
            })
            .collect()
    }));
    parts.into_iter().flatten().flat_map(|report| report.drafts).collect()
}

/// Places of rules about objects by kind, so that an object costs only those that look at it.
fn by_kind(rules: &[&'static Rule]) -> BTreeMap<&'static str, Vec<usize>> {
    let mut by_kind: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, rule) in rules.iter().enumerate() {
        if let Check::Objects(kinds, _) = &rule.check {
            for kind in *kinds {
                by_kind.entry(kind).or_default().push(at);
            }
        }
    }
    by_kind
}

fn check_objects(
    context: &Context<'_>,
    objects: &[Object<'_>],
    by_kind: &BTreeMap<&str, Vec<usize>>,
    reports: &mut [Report],
) {
    for object in objects {
        for &at in by_kind.get(object.kind).map(Vec::as_slice).unwrap_or_default() {
            if let Some(report) = reports.get_mut(at)
                && let Check::Objects(_, check) = &report.rule.check
            {
                check(context, object, report);
            }
        }
    }
}

fn check_pods(context: &Context<'_>, pods: &[Pod<'_>], reports: &mut [Report]) {
    for pod in pods {
        for report in &mut *reports {
            report.pod = Some(pod.index);
            match &report.rule.check {
                Check::Pod(check) => check(context, pod, report),
                Check::Container(check) => {
                    for container in &pod.containers {
                        check(context, pod, container, report);
                    }
                }
                Check::Objects(..) | Check::Bundle(_) => {}
            }
        }
    }
}

fn is_silenced(
    draft: &Draft,
    documents: &Documents,
    bundle: &Bundle<'_>,
    comments: &[Vec<Comment>],
) -> bool {
    let Some(file) = documents.files.get(draft.file) else { return false };
    let in_file = comments.get(draft.file).map(Vec::as_slice).unwrap_or_default();
    if !in_file.is_empty() {
        let line = file.place(draft.span.start).line;
        if ignore::silenced(in_file, &draft.rule, line) {
            return true;
        }
    }
    let pod = draft.pod.and_then(|index| bundle.pods.get(index));
    let object = bundle.object_at(draft.file, draft.span.start);
    let annotations = [
        object.map(|object| object.metadata().get("annotations")),
        pod.map(|pod| pod.object.metadata().get("annotations")),
        pod.map(|pod| pod.metadata.get("annotations")),
    ];
    annotations.into_iter().flatten().any(|annotations| {
        annotations.entries().any(|entry| {
            entry.key.strip_prefix(ignore::ANNOTATION).is_some_and(|name| {
                crate::settings::names(name, &draft.rule) && !entry.value.str().trim().is_empty()
            })
        })
    })
}

fn finish(
    draft: &Draft,
    documents: &Documents,
    bundle: &Bundle<'_>,
    settings: &Settings,
) -> Finding {
    let own = registry::find(&draft.rule).map_or(Level::Warning, |rule| rule.level);
    let object = match draft.pod.and_then(|index| bundle.pods.get(index)) {
        Some(pod) => Some(&pod.object),
        None => bundle.object_at(draft.file, draft.span.start),
    };
    let reference = object.map(Object::reference).unwrap_or_default();
    let mut finding = at(documents, draft.file, draft.span);
    finding.level = settings.level(&draft.rule, draft.level.unwrap_or(own));
    finding.rule = draft.rule.clone().into_owned();
    finding.object = reference;
    finding.message.clone_from(&draft.message);
    finding.fix.clone_from(&draft.fix);
    finding.path.clone_from(&draft.path);
    finding.edits.clone_from(&draft.edits);
    finding
}

/// A finding of which only the place is known.
pub(crate) fn at(documents: &Documents, index: usize, span: Span) -> Finding {
    let file = documents.files.get(index);
    let start = file.map_or(Place { line: 1, column: 1 }, |file| file.place(span.start));
    let end = file.map_or(start, |file| file.place(span.end));
    Finding {
        rule: String::new(),
        level: Level::Warning,
        file: file.map(|file| file.name.clone()).unwrap_or_default(),
        line: start.line,
        column: start.column,
        object: String::new(),
        message: String::new(),
        fix: String::new(),
        path: String::new(),
        file_index: index,
        span,
        end,
        edits: Vec::new(),
    }
}

/// Comments that are not honoured, or silence nothing that exists.
fn odd_comments(
    documents: &Documents,
    bundle: &Bundle<'_>,
    comments: &[Vec<Comment>],
    settings: &Settings,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for (file, comments) in comments.iter().enumerate() {
        for comment in comments {
            let span = Span { start: comment.at, end: comment.at + 1 };
            let object = bundle.object_at(file, comment.at).map(Object::reference);
            let mut tell = |rule: &str, message: String, fix: &str| {
                found.push(Finding {
                    rule: rule.to_owned(),
                    object: object.clone().unwrap_or_default(),
                    message,
                    fix: fix.to_owned(),
                    ..at(documents, file, span)
                });
            };
            if comment.reason.is_empty() {
                let message = "this comment gives no reason, so it silences nothing".to_owned();
                tell(NO_REASON, message, "write why: `# trainyard:ignore GPU07 our nodes have it`");
            }
            for name in comment.rules.iter().filter(|name| !is_known(name, settings)) {
                let message = format!("there is no rule or group `{}`", short(name));
                tell(UNKNOWN_RULE, message, "`trainyard lint --explain all` lists the rules");
            }
        }
    }
    found
}

/// Annotations that are not honoured, or silence nothing that exists.
fn odd_annotations(bundle: &Bundle<'_>, settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let of_objects = bundle.objects.iter().map(|object| (object, object.metadata()));
    let of_pods = bundle.pods.iter().map(|pod| (&pod.object, pod.metadata));
    for (object, metadata) in of_objects.chain(of_pods) {
        for entry in metadata.get("annotations").entries() {
            let Some(name) = entry.key.strip_prefix(ignore::ANNOTATION) else { continue };
            let file = entry.value.file();
            if !seen.insert((file.index, entry.key_span)) {
                continue;
            }
            let start = file.place(entry.key_span.start);
            let mut tell = |rule: &str, message: String, fix: &str| {
                found.push(Finding {
                    rule: rule.to_owned(),
                    level: Level::Warning,
                    file: file.name.clone(),
                    line: start.line,
                    column: start.column,
                    object: object.reference(),
                    message,
                    fix: fix.to_owned(),
                    path: String::new(),
                    file_index: file.index,
                    span: entry.key_span,
                    end: file.place(entry.key_span.end),
                    edits: Vec::new(),
                });
            };
            if entry.value.str().trim().is_empty() {
                let message = "this annotation gives no reason, so it silences nothing".to_owned();
                tell(NO_REASON, message, "write why as its value");
            }
            if !is_known(name, settings) {
                let message = format!("there is no rule or group `{}`", short(name));
                tell(UNKNOWN_RULE, message, "`trainyard lint --explain all` lists the rules");
            }
        }
    }
    found
}

fn is_known(name: &str, settings: &Settings) -> bool {
    let own = settings.rules.iter().map(|rule| rule.id.as_str());
    let built_in = registry::all().iter().map(|rule| rule.id);
    built_in.chain(own).any(|id| crate::settings::names(name, id))
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{LOOKUPS, Source};

    /// Servers that all have one label, and as many Services, policies, budgets and monitors, each
    /// of which selects all of them.
    fn crowd(servers: usize) -> Documents {
        let one = |n: usize| {
            let selects = "selector: {matchLabels: {app: server}}";
            format!(
                "\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: server-{n}}}
spec:
  {selects}
  template:
    metadata: {{labels: {{app: server, team: t-{n}}}}}
    spec:
      containers:
      - name: server
        image: vllm/vllm-openai:v0.9.0
        args: [--model=org/model]
        ports: [{{name: http, containerPort: 8000}}]
        resources: {{limits: {{nvidia.com/gpu: 1}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: server-{n}, labels: {{app: server}}}}
spec:
  selector: {{app: server}}
  ports: [{{port: 80, targetPort: http}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: server-{n}}}
spec:
  podSelector: {{matchLabels: {{app: server}}}}
  policyTypes: [Ingress, Egress]
  ingress: [{{ports: [{{port: 9000}}]}}]
  egress: [{{ports: [{{port: 443}}]}}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: server-{n}}}
spec: {{maxUnavailable: 1, {selects}}}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {{name: server-{n}}}
spec: {{{selects}, endpoints: [{{port: http}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: server-{n}}}
spec: {{rules: [{{backendRefs: [{{name: server-{n}, port: 80}}]}}]}}
"
            )
        };
        let text = (0..servers).map(one).collect::<Vec<_>>().join("---\n");
        Documents::read(vec![Source { name: "crowd.yaml".to_owned(), text }])
    }

    /// One pod that trains in so many containers, as JSON in one line.
    fn wide(containers: usize) -> Documents {
        let one = |n| {
            format!(
                r#"{{"name": "c{n}", "image": "a:1", "env": [{{"name": "E", "value": "x"}}], "resources": {{"limits": {{"nvidia.com/gpu": 1}}}}, "volumeMounts": [{{"name": "v", "mountPath": "/m"}}]}}"#
            )
        };
        let all = (0..containers).map(one).collect::<Vec<_>>().join(", ");
        let text = format!(
            r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "a"}}, "spec": {{"containers": [{all}], "volumes": [{{"name": "v", "emptyDir": {{}}}}]}}}}"#
        );
        Documents::read(vec![Source { name: "wide.json".to_owned(), text }])
    }

    /// Keys and words that the rules look for.
    fn lookups(documents: &Documents) -> u64 {
        let bundle = Bundle::new(documents);
        let context = Context { bundle: &bundle, profile: Default::default() };
        let rules = registry::all();
        let mut reports: Vec<Report> = rules.iter().map(|rule| Report::new(rule)).collect();
        let before = LOOKUPS.with(std::cell::Cell::get);
        check_pods(&context, &bundle.pods, &mut reports);
        check_objects(&context, &bundle.objects, &by_kind(rules), &mut reports);
        for (rule, report) in rules.iter().zip(&mut reports) {
            if let Check::Bundle(check) = &rule.check {
                check(&context, report);
            }
        }
        LOOKUPS.with(std::cell::Cell::get) - before
    }

    #[test]
    fn what_all_share_costs_in_proportion_to_the_objects() {
        let (some, more) = (lookups(&crowd(300)), lookups(&crowd(900)));
        assert!(more < some * 7 / 2, "{some} look-ups became {more} with thrice the objects");
        // A webhook is asked about whatever somebody applies.
        let (some, more) = (lookups(&wide(100)), lookups(&wide(300)));
        assert!(more < some * 7 / 2, "{some} look-ups became {more} with thrice the containers");
    }
}
