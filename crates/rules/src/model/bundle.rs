//! All objects of all texts, and how to find one from another.

use std::collections::{HashMap, HashSet};

use crate::parallel::{both, map_runs};
use crate::yaml::{Documents, Node};

use super::container::Container;
use super::find;
use super::kustomize::Overlaid;
use super::namespace_index::NamespaceIndex;
use super::object::Object;
use super::pod::{Manager, Pod, Purpose};
use super::policy::Policy;
use super::reference::Autoscaler;
use super::route::{ROUTES, backends};
use super::selector::Selector;
use super::selector_index::SelectorIndex;
use super::{Sureness, device};

/// What one lookup answers at most. More than this, nothing new is learnt, and a bundle in which
/// everything selects everything would cost the square of its size.
pub(super) const MOST_ANSWERS: usize = 256;

/// Objects that one thread searches and files without help.
const FEW_OBJECTS: usize = 512;

/// Services before one pod that are told of. Few pods have more than two.
const MOST_SERVICES: usize = 16;

/// Pods that are told of for one selector, and what is looked at of what selects one pod (Services,
/// budgets, monitors), before the nearest of them are chosen.
const MOST_SELECTED: usize = 64;

/// What one look-up looks at most, where it drops what does not fit.
const MOST_SEEN: usize = 16 * MOST_ANSWERS;

/// Ports by which people work on a machine: SSH, its usual substitute, RDP and VNC.
const CONSOLES: [i64; 5] = [22, 2222, 3389, 5900, 5901];

/// Kinds that have metrics read from pods, which they select by labels: of the Prometheus operator,
/// Google's managed Prometheus, and VictoriaMetrics.
const POD_MONITORS: [&str; 4] =
    ["PodMonitor", "PodMonitoring", "ClusterPodMonitoring", "VMPodScrape"];
/// Kinds that bind roles.
const BINDINGS: [&str; 2] = ["RoleBinding", "ClusterRoleBinding"];
/// Kinds that have metrics read from Services, which they select by labels.
const SERVICE_MONITORS: [&str; 2] = ["ServiceMonitor", "VMServiceScrape"];

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
    /// By kind and name.
    by_name: NamespaceIndex<'b, (&'b str, &'b str)>,
    pods_by_object: HashMap<usize, Vec<usize>>,
    all_pods: NamespaceIndex<'b, ()>,
    pods_by_label: NamespaceIndex<'b, (&'b str, &'b str)>,
    /// Pods by the name of their service account.
    pods_by_account: NamespaceIndex<'b, &'b str>,
    services: SelectorIndex<'b>,
    budgets: SelectorIndex<'b>,
    policies: Vec<Policy<'b>>,
    /// Places in `policies` by the pods that they isolate.
    policies_by_pod: SelectorIndex<'b>,
    /// What has metrics read from pods, by labels of pods.
    pod_monitors: SelectorIndex<'b>,
    /// What has metrics read from Services, by labels of Services.
    service_monitors: SelectorIndex<'b>,
    /// Routes by names of the Services that they lead to.
    routes: NamespaceIndex<'b, &'b str>,
    /// Keys of labels that kustomizations add.
    kustomized_labels: HashSet<&'b str>,
    /// Names of images that a kustomization replaces.
    kustomized_images: HashSet<&'b str>,
    overlaid: Overlaid<'b>,
    /// Names of objects of kinds that are not Kubernetes' own.
    custom_names: HashSet<&'b str>,
    /// Namespaces of pods by folder.
    pod_places: HashMap<usize, HashSet<&'b str>>,
    /// Whether a controller of notebooks here stops idle ones.
    culls_notebooks: bool,
    /// Service accounts that have a role bound, with the namespaces of the bindings.
    bound_accounts: HashMap<&'b str, HashSet<&'b str>>,
    /// RoleBindings and ClusterRoleBindings by kind and name of their roles.
    bindings: NamespaceIndex<'b, (&'b str, &'b str)>,
    by_namespace: NamespaceIndex<'b, &'b str>,
    /// By number of the folder and kind.
    by_folder: HashMap<usize, HashMap<&'b str, Vec<usize>>>,
    /// Keys of labels that Nodes, NodePools and flavours here give to nodes.
    node_labels: HashSet<&'b str>,
    /// Resources that Nodes here announce.
    announced: HashSet<&'b str>,
    /// Whether a Node here has GPUs and no taint.
    has_untainted_gpu_node: bool,
    /// Autoscalers by kind and name of their targets.
    autoscalers: NamespaceIndex<'b, (&'b str, &'b str)>,
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
            by_name: NamespaceIndex::default(),
            pods_by_object: HashMap::new(),
            all_pods: NamespaceIndex::default(),
            pods_by_label: NamespaceIndex::default(),
            pods_by_account: NamespaceIndex::default(),
            services: SelectorIndex::default(),
            budgets: SelectorIndex::default(),
            policies: Vec::new(),
            policies_by_pod: SelectorIndex::default(),
            pod_monitors: SelectorIndex::default(),
            service_monitors: SelectorIndex::default(),
            routes: NamespaceIndex::default(),
            culls_notebooks: false,
            bound_accounts: HashMap::new(),
            kustomized_labels: HashSet::new(),
            kustomized_images: HashSet::new(),
            overlaid: Overlaid::default(),
            custom_names: HashSet::new(),
            pod_places: HashMap::new(),
            bindings: NamespaceIndex::default(),
            by_namespace: NamespaceIndex::default(),
            by_folder: HashMap::new(),
            node_labels: HashSet::new(),
            announced: HashSet::new(),
            has_untainted_gpu_node: false,
            autoscalers: NamespaceIndex::default(),
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
        let kustomizations = bundle.objects.iter().filter(|object| {
            object.kind == "Kustomization" || object.group() == "kustomize.config.k8s.io"
        });
        bundle.overlaid = Overlaid::new(kustomizations.copied());
        let overlaid = &bundle.overlaid;
        let parts = map_runs(&bundle.objects, FEW_OBJECTS, |objects| {
            let mut pods = Vec::new();
            for object in objects {
                let before = pods.len();
                find::pods(object, &mut pods);
                if overlaid.patches(object) {
                    let own = pods.get_mut(before..).unwrap_or_default();
                    own.iter_mut().for_each(|pod| pod.complete = false);
                }
            }
            pods
        });
        for mut pod in parts.into_iter().flatten() {
            pod.index = bundle.pods.len();
            bundle.pods_by_object.entry(pod.object.index).or_default().push(pod.index);
            bundle.pods.push(pod);
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
            let folder = self.folders.get(object.root.file().index).copied().unwrap_or_default();
            let here = self.by_folder.entry(folder).or_default();
            here.entry(object.kind).or_default().push(object.index);
            let labels = match object.kind {
                "Node" => Some(object.metadata().get("labels")),
                "NodePool" => Some(object.root.path("spec.template.metadata.labels")),
                "ResourceFlavor" => Some(object.root.path("spec.nodeLabels")),
                _ => None,
            };
            let labels = labels.into_iter().flat_map(|labels| labels.entries());
            self.node_labels.extend(labels.map(|label| label.key));
            if object.kind == "Node" {
                let resources = object.root.path("status.allocatable").entries();
                self.announced.extend(resources.map(|resource| resource.key));
            }
        }
        let all = || self.objects.iter();
        let file_objects = || {
            let named = all().map(|object| {
                ((object.kind, object.name), object.namespace, file_of(object), object.index)
            });
            let placed =
                all().map(|object| (object.kind, object.namespace, file_of(object), object.index));
            (NamespaceIndex::new(named), NamespaceIndex::new(placed))
        };
        let autoscalers = all().filter_map(|object| Autoscaler::read(*object)).map(|scaler| {
            let key = (scaler.target_kind(), scaler.target_name());
            (key, scaler.object.namespace, file_of(&scaler.object), scaler.object.index)
        });
        let routes = all().filter(|object| ROUTES.contains(&object.kind)).flat_map(|route| {
            backends(route).map(|backend| {
                (backend.service.str(), route.namespace, file_of(route), route.index)
            })
        });
        let bindings = all().filter(|object| BINDINGS.contains(&object.kind)).map(|binding| {
            let role = binding.root.get("roleRef");
            let key = (role.get("kind").str(), role.get("name").str());
            (key, binding.namespace, file_of(binding), binding.index)
        });
        let pods = || self.pods.iter();
        let place = |pod: &Pod<'b>| (pod.object.namespace, file_of(&pod.object), pod.index);
        let labelled = pods().flat_map(|pod| {
            let (namespace, file, index) = place(pod);
            let labels = pod.labels().entries();
            labels.map(move |label| ((label.key, label.value.str()), namespace, file, index))
        });
        let any = pods().map(|pod| {
            let (namespace, file, index) = place(pod);
            ((), namespace, file, index)
        });
        let accounts = pods().map(|pod| {
            let (namespace, file, index) = place(pod);
            (pod.service_account(), namespace, file, index)
        });
        let file_others = || {
            let of_objects = (
                NamespaceIndex::new(autoscalers),
                NamespaceIndex::new(routes),
                NamespaceIndex::new(bindings),
            );
            let of_pods = (
                NamespaceIndex::new(labelled),
                NamespaceIndex::new(any),
                NamespaceIndex::new(accounts),
            );
            (of_objects, of_pods)
        };
        let is_worth_a_thread = self.objects.len() >= FEW_OBJECTS;
        let ((by_name, by_namespace), (of_objects, of_pods)) =
            both(is_worth_a_thread, file_objects, file_others);
        let (autoscalers, routes, bindings) = of_objects;
        let (pods_by_label, all_pods, pods_by_account) = of_pods;
        self.by_name = by_name;
        self.by_namespace = by_namespace;
        self.autoscalers = autoscalers;
        self.routes = routes;
        self.bindings = bindings;
        self.pods_by_label = pods_by_label;
        self.all_pods = all_pods;
        self.pods_by_account = pods_by_account;
        for object in &self.objects {
            if object.kind == "Kustomization" {
                let common = object.root.get("commonLabels").entries();
                let pairs =
                    object.root.get("labels").items().flat_map(|item| item.get("pairs").entries());
                self.kustomized_labels.extend(common.chain(pairs).map(|entry| entry.key));
                let images = object.root.get("images").items();
                self.kustomized_images.extend(images.filter_map(|image| image.get("name").text()));
            }
            if object.is_custom() {
                self.custom_names.insert(object.name);
            }
        }
        // The setting of Kubeflow's notebook controller, in its environment or a ConfigMap for it.
        self.culls_notebooks = self
            .of_kind("ConfigMap")
            .any(|config| config.root.get("data").get("ENABLE_CULLING").is("true"))
            || self
                .pods
                .iter()
                .flat_map(|pod| &pod.containers)
                .any(|it| it.env("ENABLE_CULLING").is_some_and(|env| env.value.is("true")));
        for pod in &self.pods {
            let folder = self.folders.get(pod.spec.file().index).copied().unwrap_or_default();
            self.pod_places.entry(folder).or_default().insert(pod.object.namespace);
        }
        for kind in BINDINGS {
            for index in self.by_kind.get(kind).into_iter().flatten() {
                let Some(binding) = self.objects.get(*index) else { continue };
                for subject in binding.root.get("subjects").items() {
                    if subject.get("kind").is("ServiceAccount") {
                        let space = subject.get("namespace").text().unwrap_or(binding.namespace);
                        let name = subject.get("name").str();
                        self.bound_accounts.entry(name).or_default().insert(space);
                    }
                }
            }
        }
        let services = self.of_kind("Service").filter(|object| object.group().is_empty());
        let services = services.map(|object| {
            (object.index, object.namespace, Selector::plain(object.spec().get("selector")))
        });
        // A Service without selector selects nothing, a budget likewise.
        let services = services.filter(|(_, _, selector)| !selector.is_empty());
        let services = SelectorIndex::new(services);
        let budgets = self.of_kind("PodDisruptionBudget").map(|object| {
            let selector = Selector::structured(object.spec().get("selector"));
            (object.index, object.namespace, selector)
        });
        let budgets = SelectorIndex::new(budgets.filter(|(_, _, selector)| !selector.is_empty()));
        let policies: Vec<Policy<'b>> =
            self.of_kind("NetworkPolicy").filter_map(Policy::read).collect();
        let places = policies.iter().enumerate();
        let policies_by_pod = SelectorIndex::new(
            places.map(|(at, policy)| (at, policy.object.namespace, policy.selector.clone())),
        );
        let pod_monitors = SelectorIndex::new(self.monitors(&POD_MONITORS));
        let service_monitors = SelectorIndex::new(self.monitors(&SERVICE_MONITORS));
        let has_untainted_gpu_node = self.of_kind("Node").any(|node| {
            node.root.path("status.allocatable").get("nvidia.com/gpu").exists()
                && node.spec().get("taints").is_empty()
        });
        self.services = services;
        self.budgets = budgets;
        self.policies = policies;
        self.policies_by_pod = policies_by_pod;
        self.pod_monitors = pod_monitors;
        self.service_monitors = service_monitors;
        self.has_untainted_gpu_node = has_untainted_gpu_node;
    }

    /// Monitors of some kinds, with the namespace in which they select; those that choose several
    /// count as any.
    fn monitors(&self, kinds: &[&str]) -> impl Iterator<Item = (usize, &'b str, Selector<'b>)> {
        kinds.iter().flat_map(|kind| self.of_kind(kind)).map(|object| {
            let elsewhere = object.spec().get("namespaceSelector").is_set();
            let namespace = if elsewhere { "" } else { object.namespace };
            let selector = Selector::structured(object.spec().get("selector"));
            (object.index, namespace, selector)
        })
    }

    /// A Deployment that holds a GPU and is called over the network serves models, whatever
    /// software it is; unless it is called by people, by a console's port.
    fn guess_servers(&mut self) {
        let servers: Vec<usize> = self
            .pods
            .iter()
            .filter(|pod| pod.purpose == Purpose::Unknown)
            .filter(|pod| {
                matches!(pod.manager, Manager::Deployment | Manager::ReplicaSet)
                    && !pod.main_containers().any(|container| {
                        container.framework.is_some()
                            || ["sleep", "tail"].iter().any(|idle| container.runs(idle))
                    })
            })
            .filter(|pod| pod.has_accelerator())
            .filter(|pod| {
                let declared = || pod.main_containers().flat_map(Container::ports);
                let is_console =
                    |port: Option<i64>| port.is_some_and(|port| CONSOLES.contains(&port));
                let called = declared().next().is_some() || self.services_of(pod).next().is_some();
                called
                    && !declared().any(|port| is_console(port.number))
                    && !self.services_of(pod).any(|service| {
                        let mut ports = service.spec().get("ports").items();
                        ports.any(|port| is_console(port.get("port").int()))
                    })
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
    pub fn in_namespace(
        &self,
        kind: &str,
        namespace: &str,
        from: Node<'_>,
    ) -> impl Iterator<Item = &Object<'b>> {
        let found = self.by_namespace.get(&kind, namespace, from.file().index, MOST_ANSWERS);
        found.into_iter().filter_map(|index| self.objects.get(index))
    }

    /// Objects of a kind in the same folder as a node; a few hundred at most.
    pub fn near(&self, kind: &str, from: Node<'_>) -> impl Iterator<Item = &Object<'b>> {
        let folder = self.folders.get(from.file().index).copied().unwrap_or_default();
        let found = self.by_folder.get(&folder).and_then(|kinds| kinds.get(kind));
        let found = found.map(Vec::as_slice).unwrap_or_default();
        found.iter().take(MOST_ANSWERS).filter_map(|&index| self.objects.get(index))
    }

    /// Objects of a kind in the same file as a node; a few hundred at most.
    pub fn in_file(&self, kind: &str, from: Node<'_>) -> impl Iterator<Item = &Object<'b>> {
        let file = from.file().index;
        let start = |file: usize| self.object_starts.get(file).copied();
        let range = start(file).unwrap_or(usize::MAX)..start(file + 1).unwrap_or(usize::MAX);
        let found = self.by_kind.get(kind).map(Vec::as_slice).unwrap_or_default();
        let first = found.partition_point(|&index| index < range.start);
        let found = found.get(first..).unwrap_or_default().iter();
        found
            .take_while(move |&&index| index < range.end)
            .take(MOST_ANSWERS)
            .filter_map(|&index| self.objects.get(index))
    }

    /// The number of the folder of a node's file; equal for equal folders.
    #[must_use]
    pub fn folder(&self, node: Node<'_>) -> Option<usize> {
        self.folders.get(node.file().index).copied()
    }

    /// Whether something here gives nodes a label of this key.
    #[must_use]
    pub fn sets_node_label(&self, key: &str) -> bool {
        self.node_labels.contains(key)
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
        let found = self.by_name.get(&(kind, name), namespace, from.file().index, MOST_ANSWERS);
        found
            .into_iter()
            .filter_map(|index| self.objects.get(index))
            .min_by_key(|object| (self.distance(object.root, from), object.index))
    }

    /// Pod templates of an object.
    pub fn pods_of(&self, object: &Object<'_>) -> impl Iterator<Item = &Pod<'b>> {
        let found = self.pods_by_object.get(&object.index).map(Vec::as_slice).unwrap_or_default();
        found.iter().filter_map(|&index| self.pods.get(index))
    }

    /// Pods that a selector selects in a namespace, only the nearest to `from` if some are nearer
    /// than others. A few dozen at most.
    #[must_use]
    pub fn pods_selected(
        &self,
        selector: &Selector<'_>,
        namespace: &str,
        from: Node<'_>,
    ) -> Vec<&Pod<'b>> {
        let file = from.file().index;
        let rarest = selector.labels.iter().min_by_key(|label| self.pods_by_label.count(label));
        let labelled = rarest
            .map(|label| self.pods_by_label.each(label, namespace, file, MOST_SEEN))
            .into_iter()
            .flatten();
        let any = rarest
            .is_none()
            .then(|| self.all_pods.each(&(), namespace, file, MOST_SEEN))
            .into_iter()
            .flatten();
        let mut found: Vec<&Pod<'b>> = labelled
            .chain(any)
            .filter_map(|index| self.pods.get(index))
            .filter(|pod| selector.matches(pod.labels()))
            .take(MOST_SELECTED)
            .collect();
        found.sort_unstable_by_key(|pod| pod.index);
        found.dedup_by_key(|pod| pod.index);
        self.nearest(found, from, |pod| pod.spec)
    }

    /// Services that select a pod, in its namespace. Nearest ones only, see
    /// [`Bundle::pods_selected`], and few of them: rules look at all pods of each.
    pub fn services_of(&self, pod: &Pod<'b>) -> impl Iterator<Item = &Object<'b>> {
        let found = self.selecting(&self.services, pod);
        let found = found.into_iter().filter_map(|index| self.objects.get(index)).collect();
        self.nearest(found, pod.spec, |service| service.root).into_iter().take(MOST_SERVICES)
    }

    /// What scales the object that a pod template stands in; the nearest of several.
    #[must_use]
    pub fn autoscaler_of(&self, pod: &Pod<'b>) -> Option<Autoscaler<'b>> {
        self.autoscalers_of(&pod.object)
            .min_by_key(|found| (self.distance(found.object.root, pod.spec), found.object.index))
    }

    /// All HPAs and ScaledObjects that target an object.
    pub fn autoscalers_of(&self, object: &Object<'b>) -> impl Iterator<Item = Autoscaler<'b>> {
        let key = (object.kind, object.name);
        let found = self.autoscalers.get(&key, object.namespace, file_of(object), MOST_ANSWERS);
        found
            .into_iter()
            .filter_map(|index| self.objects.get(index))
            .filter_map(|object| Autoscaler::read(*object))
    }

    /// The autoscaler that an object is.
    #[must_use]
    pub fn autoscaler(&self, object: &Object<'b>) -> Option<Autoscaler<'b>> {
        Autoscaler::read(*object)
    }

    /// What an autoscaler scales. `None` if it is not here, or if only objects elsewhere have its
    /// kind and name and there are several of them.
    #[must_use]
    pub fn target_of(&self, autoscaler: &Autoscaler<'b>) -> Option<&Object<'b>> {
        let (kind, name) = (autoscaler.target_kind(), autoscaler.target_name());
        let from = autoscaler.object.root;
        let found = self.find(kind, autoscaler.object.namespace, name, from)?;
        let only = self.by_name.count(&(kind, name)) == 1;
        (only || self.distance(found.root, from) <= 1).then_some(found)
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
        let found = self.selecting(&self.budgets, pod);
        found
            .into_iter()
            .filter_map(|index| self.objects.get(index))
            .min_by_key(|budget| (self.distance(budget.root, pod.spec), budget.index))
    }

    /// NetworkPolicies that isolate a pod. Policies add up, so those of any file count; `None` if
    /// they are too many to be told of, as what some forbid the others may allow.
    #[must_use]
    pub fn policies_of(&self, pod: &Pod<'b>) -> Option<Vec<&Policy<'b>>> {
        self.policies_on(pod.labels(), pod.object.namespace, pod.spec)
    }

    /// Policies that isolate all pods which a policy isolates, itself among them; `None` if they
    /// are too many to be told of.
    #[must_use]
    pub fn policies_covering(&self, policy: &Policy<'b>) -> Option<Vec<&Policy<'b>>> {
        // What selects a pod with just these labels selects all that have them, and more.
        let labels = policy.selector.node.get("matchLabels");
        self.policies_on(labels, policy.object.namespace, policy.object.root)
    }

    fn policies_on(
        &self,
        labels: Node<'_>,
        namespace: &str,
        from: Node<'_>,
    ) -> Option<Vec<&Policy<'b>>> {
        let file = from.file().index;
        let found = self.policies_by_pod.matching(labels, namespace, file, MOST_ANSWERS);
        (found.len() < MOST_ANSWERS)
            .then(|| found.into_iter().filter_map(|at| self.policies.get(at)).collect())
    }

    /// Numbers of what selects a pod, near it if they are many.
    fn selecting(&self, index: &SelectorIndex<'b>, pod: &Pod<'b>) -> Vec<usize> {
        let file = pod.spec.file().index;
        index.matching(pod.labels(), pod.object.namespace, file, MOST_SELECTED)
    }

    /// Routes that lead to a Service: Ingresses, HTTPRoutes, GRPCRoutes.
    pub fn routes_to(&self, service: &Object<'b>) -> impl Iterator<Item = &Object<'b>> {
        let (name, namespace) = (service.name, service.namespace);
        let found = self.routes.get(&name, namespace, file_of(service), MOST_ANSWERS);
        found.into_iter().filter_map(|index| self.objects.get(index))
    }

    /// Whether a kustomization here adds a label of this key to what it builds.
    #[must_use]
    pub fn sets_label_later(&self, key: &str) -> bool {
        self.kustomized_labels.contains(key)
    }

    /// Whether a kustomization here adds a label of such a key.
    pub fn adds_label_later(&self, is: impl Fn(&str) -> bool) -> bool {
        self.kustomized_labels.iter().any(|key| is(key))
    }

    /// Whether a kustomization here gives an image of this name (without tag) another name, tag or
    /// digest.
    #[must_use]
    pub fn replaces_image(&self, name: &str) -> bool {
        self.kustomized_images.contains(name)
    }

    /// Whether a kustomization here gives an object another name.
    #[must_use]
    pub fn is_renamed(&self, object: &Object<'b>) -> bool {
        self.overlaid.renames(object)
    }

    /// Whether a controller of notebooks here stops idle ones.
    #[must_use]
    pub fn culls_notebooks(&self) -> bool {
        self.culls_notebooks
    }

    /// Whether an object of a kind that is not Kubernetes' own has this name: its operator may
    /// give it to pods as a label's value.
    #[must_use]
    pub fn is_name_of_custom_object(&self, name: &str) -> bool {
        self.custom_names.contains(name)
    }

    /// Whether pods stand in the same file or folder that may be in an object's namespace.
    #[must_use]
    pub fn has_pods_near(&self, object: &Object<'_>) -> bool {
        let folder = self.folders.get(object.root.file().index);
        folder.and_then(|folder| self.pod_places.get(folder)).is_some_and(|places| {
            object.namespace.is_empty() || places.contains("") || places.contains(object.namespace)
        })
    }

    /// What has the metrics of a pod read: PodMonitors and the like that select it, and
    /// ServiceMonitors that select one of its Services.
    #[must_use]
    pub fn monitors_of(&self, pod: &Pod<'b>) -> Vec<&Object<'b>> {
        let mut found = self.selecting(&self.pod_monitors, pod);
        for service in self.services_of(pod) {
            let labels = service.metadata().get("labels");
            let file = file_of(service);
            let of_service =
                self.service_monitors.matching(labels, service.namespace, file, MOST_SERVICES);
            found.extend(of_service);
        }
        found.sort_unstable();
        found.dedup();
        found
            .into_iter()
            .filter_map(|index| self.objects.get(index))
            .filter(|monitor| {
                let chosen = monitor.spec().path("namespaceSelector.matchNames");
                let namespace = pod.object.namespace;
                chosen.is_empty()
                    || namespace.is_empty()
                    || chosen.items().any(|name| name.is(namespace))
            })
            .collect()
    }

    /// Bindings of a Role or ClusterRole.
    pub fn bindings_of(&self, role: &Object<'b>) -> impl Iterator<Item = &Object<'b>> {
        // A ClusterRole is bound in any namespace.
        let namespace = if role.kind == "ClusterRole" { "" } else { role.namespace };
        let key = (role.kind, role.name);
        let found = self.bindings.get(&key, namespace, file_of(role), MOST_ANSWERS);
        found.into_iter().filter_map(|index| self.objects.get(index))
    }

    /// Whether a role is bound to a service account.
    #[must_use]
    pub fn is_bound(&self, namespace: &str, account: &str) -> bool {
        self.bound_accounts.get(account).is_some_and(|spaces| {
            namespace.is_empty() || spaces.contains("") || spaces.contains(namespace)
        })
    }

    /// Pods that run as a service account. At most a few hundred.
    pub fn pods_of_account(
        &self,
        namespace: &str,
        name: &str,
        from: Node<'_>,
    ) -> impl Iterator<Item = &Pod<'b>> {
        let file = from.file().index;
        let found = self.pods_by_account.get(&name, namespace, file, MOST_ANSWERS);
        found.into_iter().filter_map(|index| self.pods.get(index))
    }

    /// Pods that may be in a namespace, in the same folder as a node. A few thousand at most.
    pub fn pods_near(&self, namespace: &str, from: Node<'_>) -> impl Iterator<Item = &Pod<'b>> {
        self.all_pods
            .each(&(), namespace, from.file().index, MOST_SEEN)
            .filter_map(|index| self.pods.get(index))
            .filter(move |pod| self.distance(pod.spec, from) <= 1)
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
        self.of_kind("Node").next()?;
        Some(self.announced.contains(resource))
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

/// The number of an object's file.
fn file_of(object: &Object<'_>) -> usize {
    object.root.file().index
}
