//! A report on one ONNX model.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use trainyard_serving::engine::{Engine, EngineInfo};
use trainyard_serving::onnx::{Dim, Facts, ModelFile, OperatorUse, Value as Declared};

use crate::failure::failure;
use crate::size::{grouped, size};
use crate::table::table;

const SAFETY: &str =
    "ONNX holds no code that runs at load; files that it refers to must lie beside it";

pub(super) struct Report {
    path: PathBuf,
    facts: Facts,
    engine: EngineInfo,
    /// Operators that the engine lacks.
    pub(super) missing: Vec<OperatorUse>,
}

pub(super) fn report(path: &Path, engine: &dyn Engine) -> miette::Result<Report> {
    let facts = ModelFile::read(path).map_err(failure)?.facts;
    let missing = engine.missing_operators(&facts);
    Ok(Report { path: path.to_owned(), facts, engine: engine.info().clone(), missing })
}

impl Report {
    pub(super) fn as_text(&self) -> String {
        let facts = &self.facts;
        let opsets: Vec<String> =
            facts.opsets.iter().map(|it| format!("{} {}", it.domain, it.version)).collect();
        let mut rows = vec![
            ("model", self.path.display().to_string()),
            (
                "format",
                format!("ONNX, IR version {}, opset {}", facts.ir_version, opsets.join(", ")),
            ),
        ];
        let producer = format!("{} {}", facts.producer, facts.producer_version);
        let mut optional = |name, value: &str| {
            if !value.trim().is_empty() {
                rows.push((name, value.trim().to_owned()));
            }
        };
        optional("producer", &producer);
        optional("description", facts.description.lines().next().unwrap_or_default());
        rows.push(("size", self.size()));
        // Tree ensembles keep theirs in attributes, where they are not counted.
        if facts.parameters > 0 {
            rows.push(("parameters", grouped(facts.parameters)));
        }
        rows.push(("operators", self.operators()));
        rows.push(("engine", self.engine()));
        rows.push(("safety", SAFETY.to_owned()));
        let summary =
            table(&[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]));
        let inputs = facts.inputs.iter().map(|input| self.row("input", input));
        let outputs = facts.outputs.iter().map(|output| self.row("output", output));
        let header = ["", "NAME", "TYPE", "SHAPE", ""];
        format!("{summary}\n\n{}", table(&header, inputs.chain(outputs)))
    }

    fn row(&self, kind: &str, value: &Declared) -> Vec<String> {
        let labels = self.facts.labels(&value.name);
        let note = if !labels.is_empty() {
            format!("labels: {}", labels.join(", "))
        } else if value.optional {
            "optional".to_owned()
        } else {
            String::new()
        };
        vec![kind.to_owned(), value.name.clone(), value.type_name.clone(), shape(value), note]
    }

    fn size(&self) -> String {
        let external = &self.facts.external;
        let total = size(self.facts.total_bytes());
        if external.is_empty() {
            return total;
        }
        let files: Vec<String> =
            external.iter().map(|it| format!("{} {}", it.location, size(it.bytes))).collect();
        format!("{total}, of which beside the file: {}", files.join(", "))
    }

    /// The most frequent first.
    fn operators(&self) -> String {
        const SHOWN: usize = 8;
        let mut operators: Vec<&OperatorUse> = self.facts.operators.iter().collect();
        operators.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
        let rest = operators.len().saturating_sub(SHOWN);
        let shown = operators.iter().take(SHOWN).map(|it| format!("{} ×{}", name(it), it.count));
        let mut text = shown.collect::<Vec<_>>().join(", ");
        if rest > 0 {
            text.push_str(&format!(" and {rest} more kinds"));
        }
        text
    }

    fn engine(&self) -> String {
        let EngineInfo { name: engine, version, device, .. } = &self.engine;
        let verdict = if self.missing.is_empty() {
            "has every operator".to_owned()
        } else {
            format!("lacks {}", self.missing.iter().map(name).collect::<Vec<_>>().join(", "))
        };
        format!("{engine} {version} ({device}) {verdict}")
    }

    pub(super) fn as_json(&self) -> Value {
        json!({
            "path": self.path,
            "format": "ONNX",
            "bytes": self.facts.total_bytes(),
            "facts": self.facts,
            "engine": {
                "name": self.engine.name,
                "version": self.engine.version,
                "device": self.engine.device,
                "missing_operators": self.missing,
            },
            "safety": {"runs_code_at_load": false, "note": SAFETY},
        })
    }
}

fn name(operator: &OperatorUse) -> String {
    match operator.domain.as_str() {
        "ai.onnx" => operator.name.clone(),
        domain => format!("{domain}.{}", operator.name),
    }
}

fn shape(value: &Declared) -> String {
    let Some(dims) = &value.dims else { return String::new() };
    let dims: Vec<String> = dims
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(extent) => extent.to_string(),
            Dim::Named(name) => name.clone(),
            Dim::Any => "?".to_owned(),
        })
        .collect();
    format!("[{}]", dims.join(", "))
}

#[cfg(test)]
mod tests {
    use trainyard_serving::onnx::Opset;

    use super::*;

    #[test]
    fn people_see_what_matters() {
        let operator = |domain: &str, name: &str, count| OperatorUse {
            domain: domain.to_owned(),
            name: name.to_owned(),
            count,
        };
        let value = |name: &str, type_name: &str, dims| Declared {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            data_type: None,
            dims,
            optional: false,
        };
        let facts = Facts {
            ir_version: 8,
            producer: "skl2onnx".to_owned(),
            producer_version: "1.19".to_owned(),
            model_version: 0,
            graph: "g".to_owned(),
            description: String::new(),
            opsets: vec![
                Opset { domain: "ai.onnx".to_owned(), version: 17 },
                Opset { domain: "ai.onnx.ml".to_owned(), version: 3 },
            ],
            inputs: vec![value("X", "tensor(float)", Some(vec![Dim::Any, Dim::Fixed(4)]))],
            outputs: vec![value("label", "tensor(int64)", Some(vec![Dim::Named("N".to_owned())]))],
            operators: vec![
                operator("ai.onnx", "Cast", 1),
                operator("ai.onnx.ml", "LinearClassifier", 2),
            ],
            functions: Vec::new(),
            parameters: 12_345,
            file_bytes: 2_000,
            external: Vec::new(),
            metadata: Default::default(),
            zip_maps: Vec::new(),
        };
        let report = Report {
            path: PathBuf::from("iris.onnx"),
            facts,
            engine: EngineInfo {
                name: "tract",
                version: "0.23.9".to_owned(),
                device: "cpu".to_owned(),
                threads: 1,
                library: None,
            },
            missing: vec![operator("ai.onnx.ml", "LinearClassifier", 2)],
        };
        insta::assert_snapshot!(report.as_text(), @r"
        model       iris.onnx
        format      ONNX, IR version 8, opset ai.onnx 17, ai.onnx.ml 3
        producer    skl2onnx 1.19
        size        2.0 KiB
        parameters  12 345
        operators   ai.onnx.ml.LinearClassifier ×2, Cast ×1
        engine      tract 0.23.9 (cpu) lacks ai.onnx.ml.LinearClassifier
        safety      ONNX holds no code that runs at load; files that it refers to must lie beside it

                NAME   TYPE           SHAPE
        input   X      tensor(float)  [?, 4]
        output  label  tensor(int64)  [N]
        ");
        assert_eq!(report.as_json()["engine"]["missing_operators"][0]["name"], "LinearClassifier");
    }
}
