//! All objects of all texts, and how to find one from another.

use std::collections::HashMap;

use crate::yaml::{Documents, Node};

use super::find;
use super::object::{Object, may_be_same_namespace};
use super::pod::{Manager, Pod, Purpose};
use super::reference::Autoscaler;
use super::selector::Selector;
use super::{Sureness, device};

/// What one lookup answers at most. More than this, nothing new is learnt, and a bundle in which
/// everything selects everything would cost the square of its size.
const MOST_ANSWERS: usize = 256;

/// Everything that is checked together.
///
/// Lookups prefer what is near: texts of many origins are often checked in one run, and a name or
/// label that is there twice means the one in the same file, then in the same folder.
#[derive(Debug)]
pub struct Bundle<'b> {
    pub objects: Vec<Object<'b>>,
    /// In the order of `objects`.
    pub pods: Vec<Pod<'b>>,
    by_kind: HashMap<&'b str, Vec<usize>>,
    by_name: HashMap<(&'b str, &'b str), Vec<usize>>,
    pods_by_object: HashMap<usize, Vec<usize>>,
    pods_by_label: HashMap<(&'b str, &'b str), Vec<usize>>,
    /// Labels of Services' selectors, of the one label that fewest Services share.
    services_by_label: HashMap<(&'b str, &'b str), Vec<usize>>,
    /// Budgets, by the one label of their selectors that fewest budgets share.
    budgets_by_label: HashMap<(&'b str, &'b str), Vec<usize>>,
    by_namespace: HashMap<(&'b str, &'b str), Vec<usize>>,
    /// Whether a Node here has GPUs and no taint.
    has_untainted_gpu_node: bool,
    /// Autoscalers by kind and name of their targets.
    autoscalers: HashMap<(&'b str, &'b str), Vec<Autoscaler<'b>>>,
    /// Folders of files, as numbers that are equal for equal folders.
    folders: Vec<usize>,
    /// Where objects of each file start in `objects`.
    object_starts: Vec<usize>,
}

impl<'b> Bundle<'b> {
    /// Takes time and memory in proportion to the documents.
    #[must_use]
    pub fn new(documents: &'b Documents) -> Self {
        let mut bundle = Self {
            objects: Vec::new(),
            pods: Vec::new(),
            by_kind: HashMap::new(),
            by_name: HashMap::new(),
            pods_by_object: HashMap::new(),
            pods_by_label: HashMap::new(),
            services_by_label: HashMap::new(),
            budgets_by_label: HashMap::new(),
            by_namespace: HashMap::new(),
            has_untainted_gpu_node: false,
            autoscalers: HashMap::new(),
            folders: Vec::new(),
            object_starts: vec![0],
        };
        let mut numbers = HashMap::new();
        for file in &documents.files {
            let folder = file.name.rsplit_once(['/', '\\']).map_or("", |(folder, _)| folder);
            let next = numbers.len();
            bundle.folders.push(*numbers.entry(folder).or_insert(next));
        }
        let mut file = 0;
        for root in documents.roots() {
            while file < root.file().index {
                bundle.object_starts.push(bundle.objects.len());
                file += 1;
            }
            bundle.add(root, 0);
        }
        for object in &bundle.objects {
            let before = bundle.pods.len();
            find::pods(object, &mut bundle.pods);
            if bundle.pods.len() > before {
                bundle.pods_by_object.insert(object.index, (before..bundle.pods.len()).collect());
            }
        }
        bundle.index();
        bundle.guess_servers();
        bundle
    }

    /// Adds an object; of a `List`, the objects in it.
    fn add(&mut self, root: Node<'b>, depth: usize) {
        // A list in a list is what nothing writes; hostile ones stop here.
        if depth < 4 && root.get("kind").str().ends_with("List") && root.get("items").is_list() {
            for item in root.get("items").items() {
                self.add(item, depth + 1);
            }
            return;
        }
        if let Some(object) = Object::read(self.objects.len(), root) {
            self.objects.push(object);
        }
    }

    fn index(&mut self) {
        for object in &self.objects {
            self.by_kind.entry(object.kind).or_default().push(object.index);
            self.by_name.entry((object.kind, object.name)).or_default().push(object.index);
            let place = (object.kind, object.namespace);
            self.by_namespace.entry(place).or_default().push(object.index);
            if let Some(autoscaler) = Autoscaler::read(*object) {
                let key = (autoscaler.target_kind(), autoscaler.target_name());
                self.autoscalers.entry(key).or_default().push(autoscaler);
            }
        }
        for pod in &self.pods {
            for label in pod.labels().entries() {
                let key = (label.key, label.value.str());
                self.pods_by_label.entry(key).or_default().push(pod.index);
            }
        }
        self.services_by_label = self
            .by_rarest_label("Service", |service| Selector::plain(service.spec().get("selector")));
        self.budgets_by_label = self.by_rarest_label("PodDisruptionBudget", |budget| {
            Selector::structured(budget.spec().get("selector"))
        });
        self.has_untainted_gpu_node = self.of_kind("Node").any(|node| {
            node.root.path("status.allocatable").get("nvidia.com/gpu").exists()
                && node.spec().get("taints").is_empty()
        });
    }

    /// Objects of a kind by one label of their selectors, the one that fewest of them share: so
    /// that a label that all have (`part-of: platform`) does not make look-ups slow. Selectors
    /// without equal labels stand under the empty one.
    fn by_rarest_label(
        &self,
        kind: &str,
        selector: impl Fn(&Object<'b>) -> Selector<'b>,
    ) -> HashMap<(&'b str, &'b str), Vec<usize>> {
        let selectors: Vec<(usize, Selector<'b>)> = self
            .of_kind(kind)
            .map(|object| (object.index, selector(object)))
            .filter(|(_, selector)| !selector.is_empty())
            .collect();
        let mut sharing: HashMap<(&str, &str), usize> = HashMap::new();
        for (_, selector) in &selectors {
            for label in &selector.labels {
                *sharing.entry(*label).or_default() += 1;
            }
        }
        let mut found: HashMap<(&'b str, &'b str), Vec<usize>> = HashMap::new();
        for (index, selector) in selectors {
            let rarest = selector.labels.iter().min_by_key(|label| sharing.get(*label));
            found.entry(rarest.copied().unwrap_or_default()).or_default().push(index);
        }
        found
    }

    /// A Deployment that holds a GPU and is called over the network serves models, whatever
    /// software it is.
    fn guess_servers(&mut self) {
        let servers: Vec<usize> = self
            .pods
            .iter()
            .filter(|pod| pod.purpose == Purpose::Unknown)
            .filter(|pod| {
                matches!(
                    pod.manager,
                    Manager::Deployment | Manager::ReplicaSet | Manager::StatefulSet
                )
            })
            .filter(|pod| pod.has_accelerator())
            .filter(|pod| {
                pod.main_containers().any(|container| container.ports().next().is_some())
                    || self.services_of(pod).next().is_some()
            })
            .map(|pod| pod.index)
            .collect();
        for index in servers {
            if let Some(pod) = self.pods.get_mut(index) {
                pod.purpose = Purpose::Serving;
                pod.purpose_sureness = Sureness::Likely;
            }
        }
    }

    /// Objects of a kind, of any group.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Object<'b>> {
        let found = self.by_kind.get(kind).map(Vec::as_slice).unwrap_or_default();
        found.iter().filter_map(|&index| self.objects.get(index))
    }

    /// Objects of a kind that may be in a namespace: those in it, and those that name none. For a
    /// namespace that is not known, a few hundred of all.
    #[must_use]
    pub fn in_namespace(&self, kind: &str, namespace: &str) -> Vec<&Object<'b>> {
        let place = |namespace| self.by_namespace.get(&(kind, namespace));
        let (own, unset) = if namespace.is_empty() {
            (self.by_kind.get(kind), None)
        } else {
            (place(namespace), place(""))
        };
        let indexes = own.into_iter().chain(unset).flatten().take(MOST_ANSWERS);
        indexes.filter_map(|&index| self.objects.get(index)).collect()
    }

    /// Whether a Node of the bundle has GPUs and no taint, so that pods need no toleration.
    #[must_use]
    pub fn has_untainted_gpu_node(&self) -> bool {
        self.has_untainted_gpu_node
    }

    /// The object of a kind and name that `from` means; `namespace` is empty for objects without,
    /// and where `from` does not say one.
    #[must_use]
    pub fn find(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        from: Node<'_>,
    ) -> Option<&Object<'b>> {
        let found = self.by_name.get(&(kind, name))?;
        found
            .iter()
            .filter_map(|&index| self.objects.get(index))
            .filter(|object| may_be_same_namespace(object.namespace, namespace))
            .take(MOST_ANSWERS)
            .min_by_key(|object| (self.distance(object.root, from), object.index))
    }

    /// Pod templates of an object.
    pub fn pods_of(&self, object: &Object<'_>) -> impl Iterator<Item = &Pod<'b>> {
        let found = self.pods_by_object.get(&object.index).map(Vec::as_slice).unwrap_or_default();
        found.iter().filter_map(|&index| self.pods.get(index))
    }

    /// Pods that a selector selects in a namespace, only the nearest to `from` if some are nearer
    /// than others. At most a few hundred.
    #[must_use]
    pub fn pods_selected(
        &self,
        selector: &Selector<'_>,
        namespace: &str,
        from: Node<'_>,
    ) -> Vec<&Pod<'b>> {
        let by_label: Option<&Vec<usize>> = selector
            .labels
            .iter()
            .map(|label| self.pods_by_label.get(label))
            .min_by_key(|found| found.map_or(0, Vec::len))
            .flatten();
        let fits = |pod: &&Pod<'b>| {
            may_be_same_namespace(pod.object.namespace, namespace) && selector.matches(pod.labels())
        };
        let found: Vec<&Pod<'b>> = match by_label {
            Some(found) => found
                .iter()
                .filter_map(|&index| self.pods.get(index))
                .filter(fits)
                .take(MOST_ANSWERS)
                .collect(),
            None if selector.labels.is_empty() => {
                self.pods.iter().filter(fits).take(MOST_ANSWERS).collect()
            }
            None => Vec::new(),
        };
        self.nearest(found, from, |pod| pod.spec)
    }

    /// Services that select a pod, in its namespace. Nearest ones only, see
    /// [`Bundle::pods_selected`].
    pub fn services_of(&self, pod: &Pod<'b>) -> impl Iterator<Item = &Object<'b>> {
        let mut found: Vec<&Object<'b>> = pod
            .labels()
            .entries()
            .filter_map(|label| self.services_by_label.get(&(label.key, label.value.str())))
            .flat_map(|found| found.iter().take(MOST_ANSWERS))
            .filter_map(|&index| self.objects.get(index))
            .filter(|service| {
                service.may_share_namespace(&pod.object)
                    && Selector::plain(service.spec().get("selector")).matches(pod.labels())
            })
            .collect();
        found.sort_by_key(|service| service.index);
        found.dedup_by_key(|service| service.index);
        self.nearest(found, pod.spec, |service| service.root).into_iter()
    }

    /// What scales the object that a pod template stands in; the nearest of several.
    #[must_use]
    pub fn autoscaler_of(&self, pod: &Pod<'b>) -> Option<&Autoscaler<'b>> {
        self.autoscalers_of(&pod.object)
            .min_by_key(|found| (self.distance(found.object.root, pod.spec), found.object.index))
    }

    /// All HPAs and ScaledObjects that target an object.
    pub fn autoscalers_of(&self, object: &Object<'b>) -> impl Iterator<Item = &Autoscaler<'b>> {
        let found = self.autoscalers.get(&(object.kind, object.name));
        let namespace = object.namespace;
        found
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .take(MOST_ANSWERS)
            .filter(move |found| may_be_same_namespace(found.object.namespace, namespace))
    }

    /// The fewest pods of a template that run side by side: an autoscaler's minimum, or else the
    /// replicas.
    #[must_use]
    pub fn least_replicas(&self, pod: &Pod<'b>) -> Option<i64> {
        match self.autoscaler_of(pod) {
            Some(autoscaler) => Some(autoscaler.min),
            None => pod.replicas,
        }
    }

    /// The PodDisruptionBudget that protects a pod.
    #[must_use]
    pub fn disruption_budget_of(&self, pod: &Pod<'b>) -> Option<&Object<'b>> {
        let by_label = pod.labels().entries().map(|label| (label.key, label.value.str()));
        by_label
            .chain([("", "")])
            .filter_map(|label| self.budgets_by_label.get(&label))
            .flat_map(|found| found.iter().take(MOST_ANSWERS))
            .filter_map(|&index| self.objects.get(index))
            .filter(|budget| {
                let selector = Selector::structured(budget.spec().get("selector"));
                budget.may_share_namespace(&pod.object) && selector.matches(pod.labels())
            })
            .min_by_key(|budget| (self.distance(budget.root, pod.spec), budget.index))
    }

    /// The object whose text holds a node.
    #[must_use]
    pub fn object_of(&self, node: Node<'_>) -> Option<&Object<'b>> {
        self.object_at(node.file().index, node.span().start)
    }

    /// The object whose text holds a byte of a file.
    #[must_use]
    pub fn object_at(&self, file: usize, at: u32) -> Option<&Object<'b>> {
        let first = self.object_starts.get(file).copied()?;
        let end = self.object_starts.get(file + 1).copied().unwrap_or(self.objects.len());
        let objects = self.objects.get(first..end)?;
        let next = objects.partition_point(|object| object.root.span().start <= at);
        objects.get(next.checked_sub(1)?)
    }

    /// Whether objects that GPU nodes are made of are here (Nodes, NodePools, flavours), so that
    /// labels and taints of nodes are known.
    #[must_use]
    pub fn knows_nodes(&self) -> bool {
        ["Node", "NodePool", "ResourceFlavor"].iter().any(|kind| self.by_kind.contains_key(kind))
    }

    /// Whether a resource name is announced by a Node here: `None` if there are no Nodes.
    #[must_use]
    pub fn announced(&self, resource: &str) -> Option<bool> {
        let mut nodes = self.of_kind("Node").peekable();
        nodes.peek()?;
        Some(nodes.any(|node| node.root.path("status.allocatable").get(resource).exists()))
    }

    /// Whether an extended resource is an accelerator that rules know.
    #[must_use]
    pub fn is_accelerator(resource: &str) -> bool {
        device::classify(resource).is_some()
    }

    /// 0 in one file, 1 in one folder, 2 elsewhere.
    #[must_use]
    pub fn distance(&self, a: Node<'_>, b: Node<'_>) -> u8 {
        let (a, b) = (a.file().index, b.file().index);
        if a == b {
            0
        } else if self.folders.get(a) == self.folders.get(b) {
            1
        } else {
            2
        }
    }

    fn nearest<T>(&self, found: Vec<T>, from: Node<'_>, node: impl Fn(&T) -> Node<'b>) -> Vec<T> {
        let Some(least) = found.iter().map(|item| self.distance(node(item), from)).min() else {
            return found;
        };
        found.into_iter().filter(|item| self.distance(node(item), from) == least).collect()
    }
}
