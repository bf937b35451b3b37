//! `GET …/stats`.

use http::StatusCode;

use super::infer::version;
use crate::error::InferError;
use crate::http::payload::{Answer, json};
use crate::http::route::Call;
use crate::protocol::json::Writer;
use crate::request::VersionChoice;
use crate::server::{DurationStat, ModelStatistics};

/// Statistics of one version, of all versions of a model, or of all models.
pub(super) fn statistics(call: &Call) -> Result<Answer, InferError> {
    let version = match version(call)? {
        VersionChoice::Number(number) => Some(number),
        VersionChoice::Latest | VersionChoice::Label(_) => None,
    };
    let model = Some(call.parameter("model")).filter(|name| !name.is_empty());
    let models = call.app.server.statistics(model, version)?;
    let mut writer = Writer::default();
    writer.begin_object();
    writer.key("model_stats");
    writer.begin_array();
    models.iter().for_each(|model| write_model(&mut writer, model));
    writer.end_array();
    writer.end_object();
    Ok(json(StatusCode::OK, writer.finish()))
}

fn write_model(writer: &mut Writer, model: &ModelStatistics) {
    writer.begin_object();
    writer.key("name");
    writer.string(&model.name);
    writer.key("version");
    writer.digits_in_quotes(model.version);
    for (key, number) in [
        ("last_inference", model.last_inference_ms),
        ("inference_count", model.inference_count),
        ("execution_count", model.execution_count),
    ] {
        writer.key(key);
        writer.integer(number);
    }
    writer.key("inference_stats");
    writer.begin_object();
    for (key, stat) in [
        ("success", model.success),
        ("fail", model.fail),
        ("queue", model.queue),
        ("compute_input", model.compute_input),
        ("compute_infer", model.compute_infer),
        ("compute_output", model.compute_output),
        // There is no response cache, so these stay at zero; clients expect them to be there.
        ("cache_hit", DurationStat::default()),
        ("cache_miss", DurationStat::default()),
    ] {
        write_duration(writer, key, stat);
    }
    writer.end_object();
    writer.key("response_stats");
    writer.begin_object();
    writer.end_object();
    writer.key("batch_stats");
    writer.begin_array();
    for (batch_size, (input, infer, output)) in &model.batches {
        writer.begin_object();
        writer.key("batch_size");
        writer.integer(*batch_size);
        write_duration(writer, "compute_input", *input);
        write_duration(writer, "compute_infer", *infer);
        write_duration(writer, "compute_output", *output);
        writer.end_object();
    }
    writer.end_array();
    writer.key("memory_usage");
    writer.begin_array();
    writer.end_array();
    writer.end_object();
}

fn write_duration(writer: &mut Writer, key: &str, stat: DurationStat) {
    writer.key(key);
    writer.begin_object();
    writer.key("count");
    writer.integer(stat.count);
    writer.key("ns");
    writer.integer(stat.nanoseconds);
    writer.end_object();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_every_key_that_clients_read() {
        let stat = DurationStat { count: 2, nanoseconds: 900 };
        let model = ModelStatistics {
            name: "m".to_owned(),
            version: 3,
            inference_count: 8,
            execution_count: 2,
            success: stat,
            batches: [(4, (stat, stat, stat))].into(),
            ..Default::default()
        };
        let mut writer = Writer::default();
        write_model(&mut writer, &model);
        let value: serde_json::Value = serde_json::from_slice(&writer.finish()).expect("is JSON");
        assert_eq!(value["version"], "3");
        assert_eq!(value["inference_count"], 8);
        assert_eq!(value["inference_stats"]["success"], serde_json::json!({"count": 2, "ns": 900}));
        assert_eq!(value["inference_stats"]["cache_miss"]["count"], 0);
        assert_eq!(value["batch_stats"][0]["batch_size"], 4);
        assert_eq!(value["batch_stats"][0]["compute_infer"]["ns"], 900);
    }
}
