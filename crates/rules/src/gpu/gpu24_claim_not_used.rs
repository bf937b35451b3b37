use crate::admission::Policy;
use crate::context::Context;
use crate::model::Pod;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Resource claim that no container uses, or that is not declared
    ///
    /// ## What it does
    /// Compares `resourceClaims` of a pod with `resources.claims` of its containers, both ways, and
    /// looks for the template that a claim names where the same file defines templates.
    ///
    /// ## Why it matters
    /// A container sees only the claims that it lists. What is declared and not listed is allocated
    /// and stays unused; what is listed and not declared makes the API server refuse the pod; and
    /// without its template the claim is never made, so that the pod stays Pending.
    ///
    /// ## How to fix it
    /// List the claim under `resources.claims` of the container that needs it, by the name that it has
    /// in `resourceClaims`.
    GPU24, Error,
    evidence: "kubernetes/website, docs/concepts/scheduling-eviction/dynamic-resource-allocation",
    check: Check::Pod(check),
    policy: Policy {
        expression: "\
!has(variables.spec.resourceClaims) || variables.spec.resourceClaims.all(claim,
  variables.all.exists(c, has(c.resources) && has(c.resources.claims)
    && c.resources.claims.exists(used, used.name == claim.name)))",
        message: "no container sees a resource claim of this pod: it is allocated and stays unused. Add it to `resources.claims` of the container that needs it",
        // Claims that are not declared are refused by the API server itself.
        misses: &["listed and not declared", "a template that is not there"],
        of_daemons: true,
    },
    examples: [
        Example::bad("declared and not listed", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  resourceClaims:
    - name: gpu
      resourceClaimTemplateName: one
  containers:
    - name: main
      image: a:1
      args: [x]
", &[6]),
        Example::bad("listed and not declared", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        claims:
          - name: gpu
", &[10]),
        Example::bad("a template that is not there", "\
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: one}
spec: {spec: {devices: {requests: []}}}
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  resourceClaims:
    - name: gpu
      resourceClaimTemplateName: two
  containers:
    - name: main
      image: a:1
      resources: {claims: [{name: gpu}]}
", &[12]),
        Example::good("declared and listed", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  resourceClaims:
    - name: gpu
      resourceClaimTemplateName: one
  containers:
    - name: main
      image: a:1
      resources: {claims: [{name: gpu}]}
"),
        Example::good("a claim of the whole workflow", "\
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: a}
spec:
  entrypoint: main
  resourceClaims:
    - {name: gpu, resourceClaimTemplateName: one-gpu}
  templates:
    - name: main
      container:
        image: a:1
        resources: {claims: [{name: gpu}]}
"),
        Example::good("a template that a compute domain makes", "\
apiVersion: resource.nvidia.com/v1beta1
kind: ComputeDomain
metadata: {name: rack}
spec: {numNodes: 2, channel: {resourceClaimTemplate: {name: rack-channel}}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: gpus}
spec: {spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpu.nvidia.com}}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  resourceClaims:
    - {name: channel, resourceClaimTemplateName: rack-channel}
  containers:
    - name: main
      image: a:1
      resources: {claims: [{name: channel}]}
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    if !pod.complete {
        return;
    }
    let declared = pod.spec.get("resourceClaims");
    let listed =
        || pod.containers.iter().flat_map(|container| container.resources().get("claims").items());
    let bundle = context.bundle;
    for claim in declared.items() {
        let name = claim.get("name");
        // Devices of an extended resource that a device class stands for come without a list.
        if name.is_set() && !listed().any(|used| used.get("name").str() == name.str()) {
            report
                .at(
                    name,
                    format!("no container sees the claim `{}`: it is allocated and stays unused, since none lists it under resources.claims", name.str()),
                )
                .fix(format!("add `claims: [{{name: {}}}]` to the resources of the container that needs it", name.str()));
        }
        let template = claim.get("resourceClaimTemplateName");
        let Some(wanted) = template.text() else { continue };
        const KIND: &str = "ResourceClaimTemplate";
        let mut here =
            bundle.in_file(KIND, pod.spec).filter(|object| object.may_share_namespace(&pod.object));
        let found = bundle
            .find(KIND, pod.object.namespace, wanted, pod.spec)
            .is_some_and(|object| bundle.distance(object.root, pod.spec) == 0);
        // NVIDIA's driver makes a template for each ComputeDomain.
        let made = bundle
            .in_file("ComputeDomain", pod.spec)
            .any(|domain| domain.spec().path("channel.resourceClaimTemplate.name").is(wanted));
        if !found && !made && here.next().is_some() {
            report
                .at(
                    template,
                    format!("pods stay Pending unless it exists already: no ResourceClaimTemplate here is called `{wanted}`"),
                )
                .fix("name a template of this file");
        }
    }
    for used in listed() {
        let name = used.get("name");
        if name.is_set() && !declared.items().any(|claim| claim.get("name").str() == name.str()) {
            report
                .at(
                    name,
                    format!("the API server refuses this pod: the claim `{}` is not declared in resourceClaims", name.str()),
                )
                .fix("declare it under `resourceClaims` of the pod");
        }
    }
}
