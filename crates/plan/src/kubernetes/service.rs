//! The Service in front of a track's pods.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Context, Object, ObjectsError};

/// Ports of every model server's Service, whatever its pods listen on: REST at HTTP's own port, and
/// gRPC where Triton has it.
pub(super) const HTTP: i32 = 80;
const GRPC: i32 = 8001;

/// A Service for each track, so that a gateway can weigh them; who calls without a gateway reaches
/// the stable one only.
pub(super) fn service(ctx: &Context<'_>) -> Result<Object, ObjectsError> {
    let workload = &ctx.plan.workload;
    let http = &ctx.plan.service.port;
    ctx.port("`service.port`", http)?;
    let mut ports = vec![port("http", HTTP, http, "http")];
    if let Some(grpc) = &workload.grpc {
        ctx.port("`grpc`", grpc)?;
        // HTTP/2 without TLS, as KEP-3726 calls it.
        ports.push(port("grpc", GRPC, grpc, "kubernetes.io/h2c"));
    }
    Ok(Object::new(&Service {
        metadata: ctx.metadata(ctx.name(), ctx.labels()),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(ctx.track_selector()),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        status: None,
    }))
}

fn port(name: &str, number: i32, target: &str, protocol: &str) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: number,
        target_port: Some(IntOrString::String(target.to_owned())),
        protocol: Some("TCP".to_owned()),
        app_protocol: Some(protocol.to_owned()),
        ..ServicePort::default()
    }
}
