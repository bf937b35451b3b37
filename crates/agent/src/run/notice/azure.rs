//! Azure: scheduled events, at least 30 seconds before a spot machine is evicted (`Preempt`), and
//! minutes before it is deleted or moved (`Terminate`, `Redeploy`, `Reboot`).

use hyper::{Method, StatusCode};
use serde::Deserialize;

use super::{Asker, Look, Notice};

const EVENTS: &str = "/metadata/scheduledevents?api-version=2020-07-01";
/// The events are of all machines of a scale set or an availability set.
const NAME: &str = "/metadata/instance/compute/name?api-version=2021-02-01&format=text";
const HEADER: (&str, &str) = ("Metadata", "true");

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Events {
    events: Vec<Event>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    event_type: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    not_before: Option<String>,
}

pub(super) async fn look(asker: &mut Asker) -> Look {
    let Ok((StatusCode::OK, body)) = asker.ask(Method::GET, EVENTS, HEADER).await else {
        return Look::NoAnswer;
    };
    let Ok(Events { events }) = serde_json::from_str(&body) else { return Look::NoAnswer };
    if events.is_empty() {
        return Look::Nothing;
    }
    if asker.azure_name.is_none()
        && let Ok((StatusCode::OK, name)) = asker.ask(Method::GET, NAME, HEADER).await
    {
        asker.azure_name = Some(name.trim().to_owned());
    }
    let is_ours = |event: &Event| {
        // Where nobody tells our name, one checkpoint too many is the better mistake.
        let name = asker.azure_name.as_ref();
        name.is_none_or(|name| {
            event.resources.iter().any(|resource| resource.ends_with(name.as_str()))
        })
    };
    let ends = |event: &Event| {
        matches!(&*event.event_type, "Preempt" | "Terminate" | "Redeploy" | "Reboot")
    };
    match events.into_iter().find(|event| ends(event) && is_ours(event)) {
        Some(event) => Look::Notice(Notice {
            cloud: "azure".to_owned(),
            action: event.event_type.to_lowercase(),
            at: event.not_before.filter(|at| !at.is_empty()),
        }),
        None => Look::Nothing,
    }
}
