//! The ResourceClaimTemplate of what claims its devices.

use k8s_openapi::api::core::v1::{PodResourceClaim, ResourceClaim as ContainerClaim};
use k8s_openapi::api::resource::v1::{
    CELDeviceSelector, DeviceClaim, DeviceRequest as Request, DeviceSelector, DeviceSubRequest,
    ExactDeviceRequest, ResourceClaimSpec, ResourceClaimTemplate, ResourceClaimTemplateSpec,
};
use sha2::{Digest, Sha256};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Object;
use crate::workload::{DeviceRequest, Gpu};

/// What the claim is called in a pod, and the request in the claim.
const GPU: &str = "gpu";

/// The template for the pods of `owner`; none where they claim nothing. `metadata` is of an object
/// of that name.
pub(super) fn template(
    owner: &str,
    gpu: Option<&Gpu>,
    metadata: impl FnOnce(String) -> ObjectMeta,
) -> Option<Object> {
    let spec = spec(gpu)?;
    Some(Object::new(&ResourceClaimTemplate {
        metadata: metadata(name(owner, &spec)),
        spec: ResourceClaimTemplateSpec { metadata: None, spec },
    }))
}

/// What a pod says of it.
pub(super) fn of_pod(owner: &str, gpu: Option<&Gpu>) -> Option<Vec<PodResourceClaim>> {
    let spec = spec(gpu)?;
    Some(vec![PodResourceClaim {
        name: GPU.to_owned(),
        resource_claim_name: None,
        resource_claim_template_name: Some(name(owner, &spec)),
    }])
}

/// What the container says of it.
pub(super) fn of_container(gpu: Option<&Gpu>) -> Option<Vec<ContainerClaim>> {
    spec(gpu).map(|_| vec![ContainerClaim { name: GPU.to_owned(), request: None }])
}

/// A template cannot be changed: another content has another name. Both tracks share one.
fn name(owner: &str, spec: &ResourceClaimSpec) -> String {
    let text = serde_json::to_vec(spec).unwrap_or_default();
    let digest = Sha256::digest(text);
    let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{owner}-{digits}")
}

fn spec(gpu: Option<&Gpu>) -> Option<ResourceClaimSpec> {
    let device = gpu?.device.as_ref()?;
    let DeviceRequest::Claim { device_class, count, memory } = &device.request else { return None };
    let of_type =
        |kind: &str| selector(format!("device.attributes['gpu.nvidia.com'].type == '{kind}'"));
    let request = match memory {
        None => Request {
            name: GPU.to_owned(),
            exactly: Some(ExactDeviceRequest {
                device_class_name: device_class.clone(),
                allocation_mode: Some("ExactCount".to_owned()),
                count: Some((*count).into()),
                selectors: Some(vec![of_type("gpu")]),
                ..ExactDeviceRequest::default()
            }),
            first_available: None,
        },
        // A part of a GPU before a whole one.
        Some(memory) => {
            let one = |name: &str, kind: &str| DeviceSubRequest {
                name: name.to_owned(),
                device_class_name: device_class.clone(),
                allocation_mode: Some("ExactCount".to_owned()),
                count: Some(1),
                selectors: Some(vec![
                    of_type(kind),
                    selector(format!(
                        "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('{memory}')) >= 0"
                    )),
                ]),
                ..DeviceSubRequest::default()
            };
            Request {
                name: GPU.to_owned(),
                exactly: None,
                first_available: Some(vec![one("instance", "mig"), one("whole", "gpu")]),
            }
        }
    };
    Some(ResourceClaimSpec {
        devices: Some(DeviceClaim { requests: Some(vec![request]), ..DeviceClaim::default() }),
    })
}

fn selector(expression: String) -> DeviceSelector {
    DeviceSelector { cel: Some(CELDeviceSelector { expression }) }
}
