//! Containers.

use std::borrow::Cow;

use crate::quantity::Quantity;
use crate::yaml::Node;

use super::args::{self, Flag, Word};
use super::device::{self, Device, DeviceKind};
use super::framework::{self, Framework, FrameworkKind};
use super::image::Image;
use super::weights::{self, Weights};

/// A container of a pod template, or what stands for one (KServe's `model`, OME's `runner`).
#[derive(Debug, Clone)]
pub struct Container<'b> {
    pub node: Node<'b>,
    /// `name`; of what has none, the key before it.
    pub name: &'b str,
    /// Missing if an operator will choose the image.
    pub image_node: Node<'b>,
    pub image: Option<Image<'b>>,
    /// Whether it runs before the others and ends (a sidecar with `restartPolicy: Always` does not).
    pub init: bool,
    pub words: Vec<Word<'b>>,
    pub env: Vec<Env<'b>>,
    /// Whether variables come from ConfigMaps or Secrets as a whole, so that not all are known.
    pub env_from: bool,
    /// Accelerators it asks for.
    pub devices: Vec<Device<'b>>,
    /// The ML software that it runs, where its image or command shows it.
    pub framework: Option<Framework<'b>>,
}

/// An environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Env<'b> {
    pub name: &'b str,
    /// The list's item.
    pub node: Node<'b>,
    /// Its literal; missing if it comes from elsewhere.
    pub value: Node<'b>,
}

impl Env<'_> {
    /// Whether it comes from a Secret, a ConfigMap or a field.
    #[must_use]
    pub fn is_reference(&self) -> bool {
        self.node.get("valueFrom").exists()
    }

    /// Whether it comes from a Secret.
    #[must_use]
    pub fn from_secret(&self) -> bool {
        self.node.path("valueFrom.secretKeyRef").exists()
    }
}

/// A port that a container declares.
#[derive(Debug, Clone, Copy)]
pub struct Port<'b> {
    pub node: Node<'b>,
    pub name: &'b str,
    pub number: Option<i64>,
}

impl<'b> Container<'b> {
    pub(super) fn read(node: Node<'b>, init: bool) -> Self {
        let name = node.get("name").text().unwrap_or_else(|| node.key());
        let image_node = node.get("image");
        let image = image_node.text().and_then(Image::parse);
        let words = args::words(node.get("command"), node.get("args"));
        let env = read_env(node.get("env"));
        let devices = device::read(node.get("resources"));
        let env_from = !node.get("envFrom").is_empty();
        let init = init && !node.get("restartPolicy").is("Always");
        let mut container = Self {
            node,
            name,
            image_node,
            image,
            init,
            words,
            env,
            env_from,
            devices,
            framework: None,
        };
        container.framework = framework::detect(&container);
        container
    }

    /// A variable; of several with one name the last, as Kubernetes does it.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<&Env<'b>> {
        self.env.iter().rev().find(|env| env.name == name)
    }

    /// A variable's literal with `$(OTHER)` replaced; `None` if it is not known from here.
    #[must_use]
    pub fn env_value(&self, name: &str) -> Option<Cow<'b, str>> {
        self.resolve(Cow::Borrowed(self.env(name)?.value.text()?))
    }

    /// The first of these flags that is there; later ones are older or shorter names of it. The
    /// last use of a flag counts, as nearly all programs do it.
    #[must_use]
    pub fn flag(&self, names: &[&str]) -> Option<Flag<'b>> {
        names.iter().find_map(|name| {
            let at = (0..self.words.len()).rev().find(|&at| {
                self.words.get(at).is_some_and(|word| {
                    if !word.text.starts_with('-') {
                        return false;
                    }
                    let bare = word.text.split(['=', ' ']).next().unwrap_or_default();
                    args::is_flag(bare) && args::same_flag(bare, name)
                })
            })?;
            let mut flag = args::flag_at(&self.words, at)?;
            flag.value = flag.value.and_then(|value| self.resolve(value));
            Some(flag)
        })
    }

    /// All flags, in order, with values as written.
    pub fn flags(&self) -> impl Iterator<Item = Flag<'b>> {
        (0..self.words.len()).filter_map(|at| args::flag_at(&self.words, at))
    }

    /// Replaces `$(NAME)`, `$NAME` and `${NAME}` by literals of this container. `None` if a
    /// variable is left that only the running container knows.
    #[must_use]
    pub fn resolve(&self, text: Cow<'b, str>) -> Option<Cow<'b, str>> {
        if !text.contains('$') {
            return Some(text);
        }
        let mut done = String::new();
        let mut rest = &*text;
        while let Some(at) = rest.find('$') {
            done.push_str(rest.get(..at)?);
            let tail = rest.get(at + 1..)?;
            let (name, after) = match tail.bytes().next()? {
                b'(' => tail.get(1..)?.split_once(')')?,
                b'{' => tail.get(1..)?.split_once('}')?,
                _ => {
                    let end = tail
                        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                        .unwrap_or(tail.len());
                    tail.split_at(end)
                }
            };
            let value = self.env(name)?.value.text()?;
            // One level is what people write; more could go round in circles.
            if value.contains('$') {
                return None;
            }
            done.push_str(value);
            rest = after;
        }
        done.push_str(rest);
        Some(Cow::Owned(done))
    }

    /// Whether the command line runs a program, such as `torchrun`; paths do not matter. Several
    /// words (`vllm serve`) must follow one another.
    #[must_use]
    pub fn runs(&self, program: &str) -> bool {
        self.find_command(program).is_some()
    }

    /// The word that starts a program's words, see [`Container::runs`].
    #[must_use]
    pub fn find_command(&self, program: &str) -> Option<&Word<'b>> {
        self.words.get(self.place_of(program)?.start)
    }

    /// Where a program's words are.
    fn place_of(&self, program: &str) -> Option<std::ops::Range<usize>> {
        #[cfg(test)]
        crate::yaml::LOOKUPS.with(|count| count.set(count.get() + 1));
        let length = 1 + program.bytes().filter(|&byte| byte == b' ').count();
        let is = |word: &Word<'_>, wanted: &str| {
            word.text.strip_suffix(wanted).is_some_and(|folder| {
                folder.is_empty() || folder.ends_with('/') && !wanted.contains('/')
            })
        };
        self.words
            .windows(length)
            .position(|words| match words {
                [word] => is(word, program),
                words => {
                    words.iter().zip(program.split(' ')).all(|(word, wanted)| is(word, wanted))
                }
            })
            .map(|at| at..at + length)
    }

    /// The words after the first word of a program's words.
    #[must_use]
    pub fn after_command(&self, program: &str) -> Option<&[Word<'b>]> {
        self.words.get(self.place_of(program)?.end..)
    }

    /// Whether it runs this software.
    #[must_use]
    pub fn is(&self, framework: FrameworkKind) -> bool {
        self.framework.is_some_and(|found| found.kind == framework)
    }

    #[must_use]
    pub fn resources(&self) -> Node<'b> {
        self.node.get("resources")
    }

    /// `resources.requests`, or the limit, which Kubernetes takes for a missing request.
    #[must_use]
    pub fn request(&self, resource: &str) -> Option<Quantity> {
        let requested = self.resources().get("requests").get(resource);
        if requested.is_set() { requested.quantity() } else { self.limit(resource) }
    }

    #[must_use]
    pub fn limit(&self, resource: &str) -> Option<Quantity> {
        self.resources().get("limits").get(resource).quantity()
    }

    /// GPUs that it asks for, shares and slices counted as one each.
    #[must_use]
    pub fn gpus(&self) -> i64 {
        self.devices
            .iter()
            .filter(|device| device.is_gpu())
            .filter_map(|device| device.count)
            .fold(0, i64::saturating_add)
    }

    /// Whether it asks for an accelerator of any kind, fractions too.
    #[must_use]
    pub fn has_accelerator(&self) -> bool {
        self.devices.iter().any(|device| device.count != Some(0))
    }

    /// The device of a kind that it asks for.
    #[must_use]
    pub fn device(&self, kind: DeviceKind) -> Option<&Device<'b>> {
        self.devices.iter().find(|device| device.kind == kind && device.count != Some(0))
    }

    pub fn ports(&self) -> impl Iterator<Item = Port<'b>> + use<'b> {
        self.node.get("ports").items().map(|node| Port {
            node,
            name: node.get("name").str(),
            number: node.get("containerPort").int(),
        })
    }

    /// A probe: `startupProbe`, `livenessProbe` or `readinessProbe`; missing if unset.
    #[must_use]
    pub fn probe(&self, name: &str) -> Node<'b> {
        self.node.get(name)
    }

    /// The mount whose path holds a path, the deepest one: `(mount, volume name)`.
    #[must_use]
    pub fn mount_of(&self, path: &str) -> Option<(Node<'b>, &'b str)> {
        self.node
            .get("volumeMounts")
            .items()
            .filter(|mount| is_below(path, mount.get("mountPath").str()))
            .max_by_key(|mount| mount.get("mountPath").str().len())
            .map(|mount| (mount, mount.get("name").str()))
    }

    /// The model that it loads, where its command line or variables name one.
    #[must_use]
    pub fn weights(&self) -> Option<Weights<'b>> {
        weights::of(self)
    }
}

/// Whether a path is a folder or lies below it.
pub(crate) fn is_below(path: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    !folder.is_empty()
        && path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn read_env<'b>(list: Node<'b>) -> Vec<Env<'b>> {
    list.items()
        .filter_map(|node| {
            let name = node.get("name").text()?;
            Some(Env { name, node, value: node.get("value") })
        })
        .collect()
}
