//! Which services a request may reach: all, or the one that its host names.

use std::sync::Arc;

use http::HeaderMap;
use http::header::HOST;
use http::uri::Authority;

use crate::state::{Named, Routing, ServiceState};

/// The services that one request sees, for as long as it is looked up.
#[derive(Debug, Clone)]
pub(crate) enum Scope {
    All(Arc<Routing>),
    /// The service of the request's host.
    One(Arc<ServiceState>),
}

/// Why a name leads to no service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotFound {
    Unknown,
    /// Several services have a model of that name. What to do about it.
    Ambiguous(String),
}

impl Scope {
    pub(crate) fn of(routing: Arc<Routing>, host: Option<&str>) -> Self {
        match host.and_then(|host| routing.by_host(host)) {
            Some(service) => Self::One(service.clone()),
            None => Self::All(routing),
        }
    }

    /// The only service, if there is just one.
    pub(crate) fn only(&self) -> Option<&Arc<ServiceState>> {
        match self {
            Self::All(routing) => routing.only(),
            Self::One(service) => Some(service),
        }
    }

    /// The service that has a model of that name.
    pub(crate) fn find(&self, model: &str) -> Result<Arc<ServiceState>, NotFound> {
        match self {
            Self::One(service) => {
                let config = service.config.load();
                let has = config.models.iter().any(|known| known == model);
                if has { Ok(service.clone()) } else { Err(NotFound::Unknown) }
            }
            Self::All(routing) => match routing.by_model.get(model) {
                None => Err(NotFound::Unknown),
                Some(Named::One(service)) => Ok(service.clone()),
                Some(Named::Several(services)) => Err(NotFound::Ambiguous(ambiguous(services))),
            },
        }
    }

    pub(crate) fn services(&self) -> Vec<Arc<ServiceState>> {
        match self {
            Self::All(routing) => routing.services.values().cloned().collect(),
            Self::One(service) => vec![service.clone()],
        }
    }
}

fn ambiguous(services: &[Arc<ServiceState>]) -> String {
    let names: Vec<&str> = services.iter().map(|service| &*service.name).collect();
    let hosts: Vec<String> = services
        .iter()
        .filter_map(|service| service.config.load().hosts.first().cloned())
        .collect();
    format!(
        "several services have a model of this name ({}); say which by the request's host, one of: {}",
        names.join(", "),
        hosts.join(", ")
    )
}

/// The host that a request names, as it stands there.
pub(crate) fn host<'a>(
    headers: &'a HeaderMap,
    authority: Option<&'a Authority>,
) -> Option<&'a str> {
    authority
        .map(Authority::as_str)
        .or_else(|| headers.get(HOST).and_then(|host| host.to_str().ok()))
}

/// The names that a host may be known by, the longest first: itself in lower case without its port,
/// then without its last label, and so on. `iris.team.svc.cluster.local` is also `iris.team`.
pub(crate) fn candidates(host: &str) -> impl Iterator<Item = String> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    std::iter::successors(Some(name), |name| {
        name.rsplit_once('.').map(|(shorter, _)| shorter.to_owned())
    })
    // More labels than a name of DNS can have are nobody's service.
    .take(128)
}

#[test]
fn a_host_is_known_by_its_first_labels() {
    let names = |host: &str| candidates(host).collect::<Vec<_>>();
    assert_eq!(names("Iris.Team.svc:8080"), ["iris.team.svc", "iris.team", "iris"]);
    assert_eq!(names("iris.team."), ["iris.team", "iris"]);
    assert_eq!(names("[::1]:80"), ["[::1]"]);
    assert_eq!(names(""), [""]);
    assert_eq!(names("a".repeat(300).replace('a', "a.").as_str()).len(), 128);
}
