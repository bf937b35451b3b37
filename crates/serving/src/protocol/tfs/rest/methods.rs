//! `:classify` and `:regress`.

use super::answer::refusal;
use super::{examples, json, target};
use crate::error::InferError;
use crate::http::payload::Answer;
use crate::http::route::Call;
use crate::protocol::json::Writer;
use crate::protocol::oip;
use crate::protocol::tfs::classify::Classifier;
use crate::protocol::tfs::methods::{self, Answered, ExampleRequest, Reader};
use crate::protocol::tfs::regress::Regressor;
use crate::signature::Signature;

pub(super) async fn classify(call: Call) -> Answer {
    let answered = run(call, Classifier::of).await;
    answer(answered, |writer, result| {
        for row in &result.classifications {
            writer.begin_array();
            for class in &row.classes {
                writer.begin_array();
                writer.string(&class.label);
                writer.f32(class.score);
                writer.end_array();
            }
            writer.end_array();
        }
    })
}

pub(super) async fn regress(call: Call) -> Answer {
    let answered = run(call, Regressor::of).await;
    answer(answered, |writer, result| {
        for regression in &result.regressions {
            writer.f32(regression.value);
        }
    })
}

async fn run<R: Reader>(
    call: Call,
    reader: impl FnOnce(&Signature) -> Result<R, InferError>,
) -> Result<Answered<R::Result>, InferError> {
    let request = ExampleRequest {
        target: target(&call)?,
        input: Some(examples::parse(&call.body)?),
        max_bytes: call.app.options.max_body_bytes,
        deadline: call.deadline,
    };
    methods::run(&call.app.server, request, reader).await
}

/// An answer whose `results` have one entry for each example, which `write` writes.
fn answer<T>(
    answered: Result<Answered<T>, InferError>,
    write: impl FnOnce(&mut Writer, &T),
) -> Answer {
    let answered = match answered {
        Ok(answered) => answered,
        Err(error) => return refusal(&error),
    };
    let mut writer = Writer::default();
    writer.begin_object();
    writer.key("results");
    writer.begin_array();
    write(&mut writer, &answered.result);
    writer.end_array();
    writer.end_object();
    let mut answer = json(writer.finish());
    oip::describe(&answered.execution, answer.headers_mut());
    answer
}
