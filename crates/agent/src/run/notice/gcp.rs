//! Google Cloud: `instance/preempted` becomes `TRUE` about 30 seconds before the machine is stopped.

use hyper::{Method, StatusCode};

use super::{Asker, Look, Notice};

const PREEMPTED: &str = "/computeMetadata/v1/instance/preempted";

pub(super) async fn look(asker: &mut Asker) -> Look {
    match asker.ask(Method::GET, PREEMPTED, ("Metadata-Flavor", "Google")).await {
        Ok((StatusCode::OK, body)) => match body.trim() {
            "TRUE" => Look::Notice(Notice {
                cloud: "gcp".to_owned(),
                action: "preempt".to_owned(),
                at: None,
            }),
            "FALSE" => Look::Nothing,
            _ => Look::NoAnswer,
        },
        _ => Look::NoAnswer,
    }
}
