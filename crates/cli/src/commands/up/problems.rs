//! What is wrong with targets, drawn with the place where it stands.

use std::sync::Arc;

use miette::{IntoDiagnostic, LabeledSpan, MietteDiagnostic, NamedSource, Report, miette};
use trainyard_api::manifest::{ManifestErrors, Problem};
use trainyard_local::target::TargetError;

/// One report for all; the last is given back, so that `main` prints it.
pub(in crate::commands) fn report(errors: Vec<TargetError>) -> Report {
    let mut reports: Vec<Report> = errors.into_iter().flat_map(reports).collect();
    let last = reports.pop().unwrap_or_else(|| miette!("the targets cannot be read"));
    for report in reports {
        eprintln!("{report:?}");
    }
    last
}

fn reports(error: TargetError) -> Vec<Report> {
    match error {
        TargetError::Manifest(errors) => manifest(&errors),
        other => vec![Err::<(), _>(other).into_diagnostic().expect_err("it is an error")],
    }
}

fn manifest(errors: &ManifestErrors) -> Vec<Report> {
    let text: Arc<str> = errors.source.text.as_str().into();
    let source = NamedSource::new(&errors.source.name, text);
    errors.problems.iter().map(|problem| draw(problem).with_source_code(source.clone())).collect()
}

fn draw(problem: &Problem) -> Report {
    let marks = std::iter::once(&problem.at).chain(&problem.also);
    let labels = marks.map(|mark| {
        let label = (!mark.label.is_empty()).then(|| mark.label.clone());
        LabeledSpan::new(label, mark.place.span.start, mark.place.span.len())
    });
    let mut diagnostic = MietteDiagnostic::new(&problem.message)
        .with_code(problem.kind.as_str())
        .with_labels(labels);
    if let Some(help) = &problem.help {
        diagnostic = diagnostic.with_help(help);
    }
    Report::new(diagnostic)
}
