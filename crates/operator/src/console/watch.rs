//! Services as they change.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures_util::stream::{Stream, StreamExt};
use kube_client::core::DynamicObject;
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{Config, Error, Event, watcher};
use serde_json::Value;

use super::services::{Key, Selection, key, value};
use super::{Console, ConsoleError, Kind};

type Events = Pin<Box<dyn Stream<Item = Result<Event<DynamicObject>, Error>> + Send>>;

/// Services, again at each change.
pub struct Watch {
    events: Events,
    kind: Kind,
    names: Vec<String>,
    services: BTreeMap<Key, Value>,
    /// A list that is not complete yet.
    listed: BTreeMap<Key, Value>,
    is_complete: bool,
}

impl Console {
    /// Watches services; those that are not there yet are waited for.
    pub fn watch(&self, selection: &Selection) -> Watch {
        let mut config = Config::default();
        config.label_selector.clone_from(&selection.labels);
        if let [only] = selection.names.as_slice() {
            config = config.fields(&format!("metadata.name={only}"));
        }
        let api = if selection.names.is_empty() { self.resources() } else { self.resource() };
        Watch {
            kind: self.kind,
            events: Box::pin(watcher(api, config).default_backoff()),
            names: selection.names.clone(),
            services: BTreeMap::new(),
            listed: BTreeMap::new(),
            is_complete: false,
        }
    }
}

impl Watch {
    /// The next state: first as it is, then after each change. A connection that is lost is made
    /// again; an error ends the watch. Cancel-safe.
    pub async fn next(&mut self) -> Result<&BTreeMap<Key, Value>, ConsoleError> {
        while let Some(event) = self.events.next().await {
            match event {
                Ok(Event::Init) => self.listed.clear(),
                Ok(Event::InitApply(object)) => {
                    insert(&mut self.listed, self.kind, &self.names, object)
                }
                Ok(Event::InitDone) => {
                    self.services = std::mem::take(&mut self.listed);
                    self.is_complete = true;
                    return Ok(&self.services);
                }
                Ok(Event::Apply(object)) => {
                    insert(&mut self.services, self.kind, &self.names, object);
                    return Ok(&self.services);
                }
                Ok(Event::Delete(object)) => {
                    self.services.remove(&key(&value(self.kind, object)));
                    return Ok(&self.services);
                }
                Err(error) => {
                    if let Some(error) = final_error(error, self.is_complete) {
                        return Err(error);
                    }
                }
            }
        }
        Ok(&self.services)
    }
}

fn insert(
    services: &mut BTreeMap<Key, Value>,
    kind: Kind,
    names: &[String],
    object: DynamicObject,
) {
    let service = value(kind, object);
    let key = key(&service);
    if names.is_empty() || names.contains(&key.1) {
        services.insert(key, service);
    }
}

/// What ends a watch: a refusal, or a server that was never reached.
fn final_error(error: Error, was_reached: bool) -> Option<ConsoleError> {
    let what = "watch the services";
    let error = match error {
        Error::InitialListFailed(error)
        | Error::WatchStartFailed(error)
        | Error::WatchFailed(error) => ConsoleError::of(what, error),
        Error::WatchError(status) => ConsoleError::of_status(what.to_owned(), &status),
        Error::NoResourceVersion => return None,
    };
    let is_refusal = matches!(error, ConsoleError::Forbidden { .. } | ConsoleError::NotInstalled);
    (is_refusal || !was_reached).then_some(error)
}
