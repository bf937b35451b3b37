use serde_json::Value;

use crate::diagnosis::diagnosis;
use crate::matching::has_any;
use crate::report::Report;
use crate::view::{Object, View, list, text};

diagnosis! {
    /// No free device meets the pod's ResourceClaim
    ///
    /// ## Signature
    /// The pod is unschedulable, the scheduler says that it cannot allocate claims, and a claim of the
    /// pod has no allocation.
    ///
    /// ## Cause
    /// All devices of the class are allocated, or no device meets the selectors of class and request,
    /// or no driver publishes devices.
    ///
    /// ## How to mend it
    /// Compare the request with the attributes in the ResourceSlices; free a device, or widen the
    /// selector.
    D07, Error,
    needs: [Pods, Resource("resourceclaims.resource.k8s.io"), Resource("resourceslices.resource.k8s.io")],
    rules: ["GPU24", "GPU25"],
    source: "kubernetes/kubernetes, plugin DynamicResources: `cannot allocate all claims`",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for pending in view.pending() {
        let events = view.events_of(pending.pod.object);
        let said =
            events.iter().find(|it| it.reason == "FailedScheduling" && is_about_claims(it.message));
        if !is_about_claims(pending.message()) && said.is_none() {
            continue;
        }
        let claims = claims(view, pending.pod.object);
        let open: Vec<&Object<'_>> =
            claims.iter().filter(|it| it.at("/status/allocation").is_none()).collect();
        let classes: Vec<&str> = open.iter().flat_map(|it| classes(**it)).collect();
        let (devices, taken) = devices(view);
        let object = pending.pod.object;
        let named: Vec<String> = open.iter().map(|it| format!("`{}`", it.name())).collect();
        let of_class = if classes.is_empty() {
            String::new()
        } else {
            format!(" of class `{}`", classes.join("`, `"))
        };
        let state = if devices == 0 {
            "no driver publishes a device".to_owned()
        } else {
            format!("drivers publish {devices} devices, of which {taken} are allocated")
        };
        let claims = if named.is_empty() {
            "a claim".to_owned()
        } else {
            format!("the claim {}", named.join(", "))
        };
        let finding = report
            .at(object.reference(), format!("no free device meets {claims}{of_class}: {state}"));
        finding.unscheduled(object);
        if let Some(event) = said {
            finding.event(event);
        }
        for claim in &open {
            finding.field(**claim, "/spec/devices/requests");
        }
        for class in classes {
            if let Some(class) = view.find("DeviceClass", "", class) {
                finding.field(class, "/spec/selectors");
            }
        }
        for slice in view.of_kind("ResourceSlice").iter().take(3) {
            finding.value(*slice, "spec.devices", slice.list("/spec/devices").len());
        }
        if devices == 0 {
            finding.advise("install the device's DRA driver, or look at its pods");
        } else if taken >= devices {
            finding.run("kubectl get resourceclaims -A");
            finding
                .advise("all devices are allocated: end a pod that holds a claim, or add a node");
        } else {
            finding.run("kubectl get resourceslices -o yaml");
            finding.advise("devices are free: compare their attributes with the selectors of class and request");
        }
    }
}

fn is_about_claims(message: &str) -> bool {
    has_any(message, &["cannot allocate all claims", "resourceclaim"])
}

/// Claims that the pod names, or that were made for it.
fn claims<'a>(view: &View<'a>, pod: Object<'a>) -> Vec<Object<'a>> {
    let named = pod.list("/spec/resourceClaims").iter().map(|it| text(it, "/resourceClaimName"));
    let made =
        pod.list("/status/resourceClaimStatuses").iter().map(|it| text(it, "/resourceClaimName"));
    let names = named.chain(made).filter(|name| !name.is_empty());
    names.filter_map(|name| view.find("ResourceClaim", pod.namespace(), name)).collect()
}

/// Classes of a claim's requests, as `v1` and the versions before it write them.
fn classes<'a>(claim: Object<'a>) -> Vec<&'a str> {
    let requests = claim.list("/spec/devices/requests").iter();
    requests
        .map(|it| match text(it, "/exactly/deviceClassName") {
            "" => text(it, "/deviceClassName"),
            class => class,
        })
        .filter(|it| !it.is_empty())
        .collect()
}

/// How many devices there are, and how many are allocated.
fn devices(view: &View<'_>) -> (usize, usize) {
    let slices = view.of_kind("ResourceSlice").iter();
    let all = slices.map(|slice| slice.list("/spec/devices").len()).sum();
    let results = |claim: &Object<'_>| {
        list(claim.0, "/status/allocation/devices/results")
            .iter()
            .filter(|it| it.get("adminAccess") != Some(&Value::Bool(true)))
            .count()
    };
    (all, view.of_kind("ResourceClaim").iter().map(results).sum())
}
