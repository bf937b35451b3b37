use crate::context::Context;
use crate::model::{Container, Pod, Purpose};
use crate::report::Report;
use crate::rule::Level;
use crate::rule::{Check, Example, rule};

rule! {
    /// Image that may change under the same name
    ///
    /// ## What it does
    /// Looks at images of pods that serve, train or ask for accelerators. `latest` and no tag are a
    /// warning; another tag without a digest is hygiene. Images that an operator chooses are left out.
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
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let concerns_models =
        matches!(pod.purpose, Purpose::Serving | Purpose::Training | Purpose::Notebook)
            || (pod.purpose != Purpose::System && pod.has_accelerator());
    let Some(image) = container.image.filter(|image| image.digest.is_none()) else { return };
    if !concerns_models {
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
