use crate::context::Context;
use crate::model::{Container, Image, Pod, Purpose};
use crate::report::Report;
use crate::rule::Level;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// Image that may change under the same name
    ///
    /// ## What it does
    /// Looks at images of pods that serve, train or ask for accelerators. `latest` and no tag are a
    /// warning; another tag without a digest is hygiene. Images that an operator chooses are left out,
    /// and so are names that stand for another: those that a kustomization replaces (`images`), and
    /// placeholders (`IMAGE_NAME`, `:replace`).
    ///
    /// ## Why it matters
    /// What runs depends on when a node pulled the image. Two replicas may run two versions, a restart
    /// may bring a new one that does not load the old model, and a roll-back brings nothing back.
    ///
    /// ## How to fix it
    /// Name a version, and pin it by digest: `image:v1.2@sha256:…`.
    SRV16, Warning,
    evidence: "kubernetes/website, docs/concepts/containers/images, image names",
    check: Check::Container(check),
    examples: [
        Example::bad("latest", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:latest
", &[7]),
        Example::bad("no tag", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai
", &[7]),
        Example::bad("a tag without a digest", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
", &[7]),
        Example::good("a digest", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai@sha256:6b4e0b9d4a9d1f6c4a1d4c8b5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f
"),
        Example::good("a kustomization has the version", "\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [pod.yaml]
images:
  - {name: model-server, newName: vllm/vllm-openai, newTag: v0.9.0}
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: model-server:latest
      resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("placeholders", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: IMAGE_NAME
      resources: {limits: {nvidia.com/gpu: 1}}
    - name: second
      image: model-server:replace
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let concerns_models =
        matches!(pod.purpose, Purpose::Serving | Purpose::Training | Purpose::Notebook)
            || (pod.purpose != Purpose::System && pod.has_accelerator());
    let Some(image) = container.image.filter(|image| image.digest.is_none()) else { return };
    let stands_for_another =
        is_placeholder(image) || is_replaced(context, container.image_node, image);
    if !concerns_models || stands_for_another {
        return;
    }
    match image.tag {
        None | Some("latest") => {
            let said =
                if image.tag.is_none() { "no tag means `latest`, and it" } else { "`latest`" };
            report
                .at(
                    container.image_node,
                    format!("two replicas may run two versions, and a roll-back brings nothing back: {said} is whatever was pushed last"),
                )
                .fix("name a version and its digest");
        }
        Some(tag) => {
            report
                .at(
                    container.image_node,
                    format!("the image may change under the tag `{tag}`: nothing pins its content"),
                )
                .fix(format!("pin it by digest: `{}@sha256:…`", image.text))
                .level(Level::Hygiene);
        }
    }
}

/// Whether a name is there to be replaced. Names of images are in lower case.
fn is_placeholder(image: Image<'_>) -> bool {
    const TAGS: [&str; 6] = ["replace", "tag", "version", "placeholder", "changeme", "todo"];
    let name = image.name();
    let shouts = name.contains(|c: char| c.is_ascii_uppercase())
        && !name.contains(|c: char| c.is_ascii_lowercase());
    let says_so = ["replace", "placeholder", "override"].iter().any(|word| name.contains(word));
    shouts
        || says_so
        || image.tag.is_some_and(|tag| TAGS.iter().any(|word| tag.eq_ignore_ascii_case(word)))
}

/// Whether a kustomization gives it another name, tag or digest: one beside it, or, where no
/// version is named here, one anywhere.
fn is_replaced(context: &Context<'_>, place: Node<'_>, image: Image<'_>) -> bool {
    let name = image.name();
    context.bundle.replaces_image(name)
        && (matches!(image.tag, None | Some("latest"))
            || context.bundle.near("Kustomization", place).any(|kustomization| {
                let mut images = kustomization.root.get("images").items();
                images.any(|image| image.get("name").is(name))
            }))
}
