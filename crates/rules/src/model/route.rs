//! Routes from outside to Services.

use crate::yaml::Node;

use super::object::Object;

/// A Service that a route leads to.
#[derive(Debug, Clone, Copy)]
pub struct Backend<'b> {
    /// Its name.
    pub service: Node<'b>,
    /// Its port, as a number or a name; missing if the route does not say one.
    pub port: Node<'b>,
}

/// Kinds that lead requests from outside of the cluster to Services.
pub(super) const ROUTES: [&str; 3] = ["HTTPRoute", "GRPCRoute", "Ingress"];

/// The Services that an Ingress, HTTPRoute or GRPCRoute leads to.
pub fn backends<'b>(route: &Object<'b>) -> impl Iterator<Item = Backend<'b>> + use<'b> {
    let spec = route.spec();
    let of_ingress = spec
        .get("rules")
        .items()
        .flat_map(|rule| rule.path("http.paths").items())
        .map(|path| path.path("backend.service"))
        .chain([spec.path("defaultBackend.service")])
        .filter(|service| service.is_map())
        .map(|service| {
            let port = service.get("port");
            let number = port.get("number");
            let port = if number.is_set() { number } else { port.get("name") };
            Backend { service: service.get("name"), port }
        });
    let of_gateway = spec
        .get("rules")
        .items()
        .flat_map(|rule| rule.get("backendRefs").items())
        .filter(|backend| backend.get("kind").text().is_none_or(|kind| kind == "Service"))
        .map(|backend| Backend { service: backend.get("name"), port: backend.get("port") });
    of_ingress.chain(of_gateway)
}
