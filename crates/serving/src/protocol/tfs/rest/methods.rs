//! `:classify` and `:regress`.

use super::answer::refusal;
use super::{examples, json, target};
use crate::error::InferError;
use crate::http::payload::Answer;
use crate::http::route::Call;
use crate::protocol::json::Writer;
use crate::protocol::tfs::classify::Classifier;
use crate::protocol::tfs::methods::{self, ExampleRequest, Reader};
use crate::protocol::tfs::regress::Regressor;
use crate::signature::Signature;

pub(super) async fn classify(call: Call) -> Answer {
    let result = run(call, Classifier::of).await.map(|result| {
        results(&result.classifications, |writer, row| {
            writer.begin_array();
            for class in &row.classes {
                writer.begin_array();
                writer.string(&class.label);
                writer.f32(class.score);
                writer.end_array();
            }
            writer.end_array();
        })
    });
    result.unwrap_or_else(|error| refusal(&error))
}

pub(super) async fn regress(call: Call) -> Answer {
    let result = run(call, Regressor::of).await.map(|result| {
        results(&result.regressions, |writer, regression| writer.f32(regression.value))
    });
    result.unwrap_or_else(|error| refusal(&error))
}

async fn run<R: Reader>(
    call: Call,
    reader: impl FnOnce(&Signature) -> Result<R, InferError>,
) -> Result<R::Result, InferError> {
    let request = ExampleRequest {
        target: target(&call)?,
        input: Some(examples::parse(&call.body)?),
        max_bytes: call.app.options.max_body_bytes,
        deadline: call.deadline,
    };
    Ok(methods::run(&call.app.server, request, reader).await?.result)
}

/// One entry for each example.
fn results<T>(rows: &[T], write: impl Fn(&mut Writer, &T)) -> Answer {
    let mut writer = Writer::default();
    writer.begin_object();
    writer.key("results");
    writer.begin_array();
    for row in rows {
        write(&mut writer, row);
    }
    writer.end_array();
    writer.end_object();
    json(writer.finish())
}
