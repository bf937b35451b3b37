//! What an installation consists of.

use serde_json::{Value, json};
use trainyard_api::model_service::{MODEL_NAME, model_name_rules};
use trainyard_plan::kubernetes::ParentGateway;

use crate::lint::configuration_name;
use crate::names::{
    GATEWAY, GATEWAY_REPORT, LINT, MANAGED_BY_LABEL, NAME_LABEL, OPERATOR, REPORT_PORT_NAME,
};
use crate::rbac;
use crate::settings::Scope;

/// What to install.
#[derive(Debug, Clone)]
pub struct Installation {
    pub namespace: String,
    /// Trainyard's image, for the operator, the gateway and the services.
    pub image: String,
    /// Kubernetes' name of the pull policy.
    pub image_pull_policy: &'static str,
    pub scope: Scope,
    /// Further arguments of the operator, such as `--profile=eks`.
    pub operator_args: Vec<String>,
    /// The oldest Kubernetes that objects are written for, such as `1.34`; without it, the oldest
    /// that Trainyard works on. An argument in `operator_args` goes first.
    pub kubernetes_version: Option<String>,
    /// Pods of the operator and of the gateway; of the operators one acts.
    pub operators: u32,
    pub gateways: u32,
    /// Whether the operator may label and taint nodes of GPU pools.
    pub manage_gpu_nodes: bool,
    /// What routes to the gateway from outside the cluster.
    pub route: Option<ParentGateway>,
    /// The lint rules as a webhook, if wanted.
    pub lint: Option<Lint>,
}

/// What the lint webhook does in namespaces that do not say it by the label [`LINT_LABEL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lint {
    /// Nothing.
    Labelled,
    /// It warns.
    Audit,
    /// It refuses what will not work.
    Enforce,
}

/// A namespace's own word: `audit`, `enforce` or `off`.
const LINT_LABEL: &str = "trainyard.dev/lint";
/// The operator's argument for the oldest Kubernetes of a cluster.
const VERSION_ARGUMENT: &str = "--kubernetes-version";
/// Namespaces of what makes a cluster work.
const SYSTEM_NAMESPACES: [&str; 3] = ["kube-node-lease", "kube-public", "kube-system"];
/// Groups and resources that rules look at. What controllers make of them is left out, since who
/// could mend it does not see the answer.
const LINTED: [(&str, &[&str]); 14] = [
    ("", &["persistentvolumeclaims", "pods", "services"]),
    ("apps", &["daemonsets", "deployments", "replicasets", "statefulsets"]),
    ("argoproj.io", &["cronworkflows", "rollouts", "workflows", "workflowtemplates"]),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("batch", &["cronjobs", "jobs"]),
    ("batch.volcano.sh", &["jobs"]),
    ("jobset.x-k8s.io", &["jobsets"]),
    ("keda.sh", &["scaledjobs", "scaledobjects"]),
    ("kubeflow.org", &["*"]),
    ("leaderworkerset.x-k8s.io", &["leaderworkersets"]),
    ("machinelearning.seldon.io", &["seldondeployments"]),
    ("policy", &["poddisruptionbudgets"]),
    ("ray.io", &["*"]),
    ("serving.kserve.io", &["*"]),
];

/// What every object of an installation is marked with, and [`SELECTOR`] finds it by.
const INSTALLER: &str = "trainyard-install";
/// Selects the objects of installations.
pub(crate) const SELECTOR: &str = "app.kubernetes.io/managed-by=trainyard-install";
/// What the admission policy is called, after the installation's namespace.
const POLICY: &str = "modelservices.trainyard.dev";
/// The user that the image is made for.
const USER: u32 = 65_532;
const OPERATOR_PORT: u16 = 8081;
/// Where the operator is asked as the lint webhook.
const LINT_PORT: u16 = 9443;
const LINT_PORT_NAME: &str = "lint";
const GATEWAY_PORT: u16 = 8080;
/// Where the operator hears what a gateway counts.
const REPORT_PORT: u16 = 8082;
/// New connections come for a while after a pod was told to end: five seconds of them, thirty for
/// the requests in flight, and some to spare.
const GATEWAY_GRACE_SECONDS: u32 = 45;
/// The operator finishes what it has begun within 15 s.
const OPERATOR_GRACE_SECONDS: u32 = 30;

impl Installation {
    /// All objects but the namespace and the resources' definitions, in the order in which they are
    /// applied.
    pub fn objects(&self) -> Vec<Value> {
        let mut objects = vec![self.account(OPERATOR), self.account(GATEWAY)];
        let gateway = Some(self.namespace.as_str());
        objects.extend(rbac::manifests(&rbac::Granted {
            scope: &self.scope,
            namespace: &self.namespace,
            account: OPERATOR,
            lease: OPERATOR,
            gateway,
            manage_gpu_nodes: self.manage_gpu_nodes,
        }));
        objects.extend(rbac::gateway_manifests(&self.scope, &self.namespace, GATEWAY));
        objects.extend([
            self.deployment(&self.operator()),
            self.disruption_budget(OPERATOR),
            self.deployment(&self.gateway()),
            self.disruption_budget(GATEWAY),
            self.gateway_service(),
            self.report_service(),
            self.gateway_policy(),
        ]);
        objects.extend(self.route.as_ref().map(|parent| self.http_route(parent)));
        objects.extend(self.lint.into_iter().flat_map(|default| self.lint_objects(default)));
        objects
    }

    /// What refuses a model's name that cannot be one: the definition's own rules see no annotation.
    ///
    /// Applied where Kubernetes has it (1.30 and newer); the operator tells of it everywhere. It
    /// cannot lock anybody out: what cannot be evaluated is let through, and so is every change that
    /// leaves the name as it is. Named by the installation, since there may be several.
    pub fn admission(&self) -> [Value; 2] {
        let group = "admissionregistration.k8s.io/v1";
        let name = format!("{}.{POLICY}", self.namespace);
        let metadata = json!({"name": name, "labels": labels(POLICY)});
        // Without the annotation any name is right.
        let named = |object: &str| {
            format!("{object}.metadata.?annotations[?'{MODEL_NAME}'].orValue('any')")
        };
        let rules: Vec<Value> = model_name_rules("variables.name")
            .into_iter()
            .map(|(rule, message)| {
                let message = format!("metadata.annotations[{MODEL_NAME}]: the name {message}");
                json!({"expression": rule, "message": message, "reason": "Invalid"})
            })
            .collect();
        let changed = format!("oldObject == null || {} != {}", named("object"), named("oldObject"));
        let resources = json!([{
            "apiGroups": ["trainyard.dev"], "apiVersions": ["*"],
            "operations": ["CREATE", "UPDATE"], "resources": ["modelservices"],
        }]);
        let mut binding = json!({"policyName": name, "validationActions": ["Deny"]});
        if let Scope::Namespaces(names) = &self.scope {
            binding["matchResources"] = json!({"namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "In", "values": names},
            ]}});
        }
        [
            json!({
                "apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": metadata,
                "spec": {
                    "failurePolicy": "Ignore",
                    "matchConstraints": {"resourceRules": resources},
                    "matchConditions": [{"name": "the-name-is-new", "expression": changed}],
                    "variables": [{"name": "name", "expression": named("object")}],
                    "validations": rules,
                },
            }),
            json!({
                "apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding",
                "metadata": metadata, "spec": binding,
            }),
        ]
    }

    /// What the API server asks the operators about; the operators add whom it is to believe.
    ///
    /// It cannot lock anybody out: without an answer an object is let through, and namespaces of
    /// the system and of the installation are not asked about.
    fn lint_configuration(&self, default: Lint) -> Value {
        let webhook = |mode: &str, is_default: bool| {
            let other = if mode == "audit" { "enforce" } else { "audit" };
            let (operator, values) = match is_default {
                true => ("NotIn", json!([other, "off"])),
                false => ("In", json!([mode])),
            };
            let name = "kubernetes.io/metadata.name";
            let spared = [SYSTEM_NAMESPACES.as_slice(), &[&self.namespace]].concat();
            let mut selects = vec![
                json!({"key": LINT_LABEL, "operator": operator, "values": values}),
                json!({"key": name, "operator": "NotIn", "values": spared}),
            ];
            if let Scope::Namespaces(names) = &self.scope {
                selects.push(json!({"key": name, "operator": "In", "values": names}));
            }
            let rules: Vec<Value> = LINTED
                .iter()
                .map(|(group, resources)| {
                    json!({
                        "apiGroups": [group], "apiVersions": ["*"], "resources": resources,
                        "operations": ["CREATE", "UPDATE"], "scope": "Namespaced",
                    })
                })
                .collect();
            json!({
                "name": format!("{mode}.lint.trainyard.dev"),
                "admissionReviewVersions": ["v1"],
                "clientConfig": {"service": {
                    "namespace": self.namespace, "name": LINT,
                    "path": format!("/lint/{mode}"), "port": 443,
                }},
                "failurePolicy": "Ignore",
                "matchPolicy": "Equivalent",
                "sideEffects": "None",
                "timeoutSeconds": 5,
                "namespaceSelector": {"matchExpressions": selects},
                "matchConditions": [
                    // What goes away must be able to: finalizers are taken off by an update.
                    {"name": "is-not-being-deleted",
                     "expression": "!has(object.metadata.deletionTimestamp)"},
                    {"name": "is-made-by-no-controller",
                     "expression": "!has(object.metadata.ownerReferences) || !object.metadata.ownerReferences.exists(it, has(it.controller) && it.controller)"},
                ],
                "rules": rules,
            })
        };
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": configuration_name(&self.namespace), "labels": labels(LINT)},
            "webhooks": [
                webhook("audit", default == Lint::Audit),
                webhook("enforce", default == Lint::Enforce),
            ],
        })
    }

    /// All that the lint webhook needs, its configuration last.
    pub(super) fn lint_objects(&self, default: Lint) -> Vec<Value> {
        let mut objects = rbac::lint_manifests(&self.namespace, OPERATOR);
        objects.extend([
            // The operators fill it.
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": self.metadata(LINT)}),
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": self.metadata(LINT),
                "spec": {
                    "selector": {NAME_LABEL: OPERATOR},
                    "ports": [{"name": LINT_PORT_NAME, "port": 443, "targetPort": LINT_PORT_NAME}],
                },
            }),
            self.lint_configuration(default),
        ]);
        objects
    }

    /// The namespace of the installation. Its pods keep to the restricted Pod Security Standard.
    pub fn namespace(&self) -> Value {
        let mut labels = labels("trainyard");
        for mode in ["enforce", "warn", "audit"] {
            labels[format!("pod-security.kubernetes.io/{mode}")] = json!("restricted");
        }
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": self.namespace, "labels": labels},
        })
    }

    fn metadata(&self, name: &str) -> Value {
        json!({"name": name, "namespace": self.namespace, "labels": labels(name)})
    }

    fn account(&self, name: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": self.metadata(name),
            // The pods that need the token ask for it.
            "automountServiceAccountToken": false,
        })
    }

    fn operator(&self) -> Program {
        let mut args = vec![
            "operator".to_owned(),
            format!("--namespace={}", self.namespace),
            format!("--gateway={}", self.namespace),
            format!("--address=0.0.0.0:{OPERATOR_PORT}"),
            format!("--image={}", self.image),
            format!("--image-pull-policy={}", self.image_pull_policy),
        ];
        args.extend(self.watched().map(|it| format!("--watch-namespace={it}")));
        args.extend(self.lint.map(|_| format!("--lint-address=0.0.0.0:{LINT_PORT}")));
        args.extend(self.manage_gpu_nodes.then(|| "--manage-gpu-nodes".to_owned()));
        let version = self.kubernetes_version.as_ref().map(|it| format!("{VERSION_ARGUMENT}={it}"));
        let is_given = self.operator_args.iter().any(|it| it.starts_with(VERSION_ARGUMENT));
        args.extend(version.filter(|_| !is_given));
        args.extend(self.operator_args.iter().cloned());
        Program {
            name: OPERATOR,
            replicas: self.operators,
            args,
            port: OPERATOR_PORT,
            second: self.lint.map(|_| (LINT_PORT_NAME, LINT_PORT)),
            grace: OPERATOR_GRACE_SECONDS,
            requests: ("50m", "64Mi"),
            memory_limit: "512Mi",
        }
    }

    fn gateway(&self) -> Program {
        let mut args = vec![
            "gateway".to_owned(),
            format!("--port={GATEWAY_PORT}"),
            format!("--report-port={REPORT_PORT}"),
        ];
        args.extend(self.watched().map(|it| format!("--namespace={it}")));
        Program {
            name: GATEWAY,
            replicas: self.gateways,
            args,
            port: GATEWAY_PORT,
            second: Some((REPORT_PORT_NAME, REPORT_PORT)),
            grace: GATEWAY_GRACE_SECONDS,
            requests: ("100m", "64Mi"),
            memory_limit: "1Gi",
        }
    }

    fn watched(&self) -> impl Iterator<Item = &str> {
        match &self.scope {
            Scope::Cluster => [].iter(),
            Scope::Namespaces(names) => names.iter(),
        }
        .map(String::as_str)
    }

    fn deployment(&self, program: &Program) -> Value {
        let Program { name, replicas, port, .. } = program;
        let selector = json!({NAME_LABEL: name});
        let mut ports = vec![json!({"name": "http", "containerPort": port})];
        ports.extend(
            program.second.map(|(name, port)| json!({"name": name, "containerPort": port})),
        );
        let probe = |path: &str, failures: u32| {
            json!({
                "httpGet": {"path": path, "port": "http"},
                "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": failures,
            })
        };
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": self.metadata(name),
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": selector},
                "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {
                    "metadata": {"labels": labels(name)},
                    "spec": {
                        "serviceAccountName": name,
                        "automountServiceAccountToken": true,
                        "terminationGracePeriodSeconds": program.grace,
                        "securityContext": {
                            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER,
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "tolerations": tolerations(),
                        "topologySpreadConstraints": [{
                            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "labelSelector": {"matchLabels": selector},
                        }],
                        "containers": [{
                            "name": name,
                            "image": self.image,
                            "imagePullPolicy": self.image_pull_policy,
                            "args": program.args,
                            "env": [{
                                "name": "POD_NAME",
                                "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
                            }],
                            "ports": ports,
                            "startupProbe": probe("/healthz", 24),
                            "readinessProbe": probe("/readyz", 2),
                            "livenessProbe": probe("/healthz", 6),
                            "resources": {
                                "requests": {
                                    "cpu": program.requests.0, "memory": program.requests.1,
                                },
                                "limits": {"memory": program.memory_limit},
                            },
                            "securityContext": {
                                "allowPrivilegeEscalation": false,
                                "readOnlyRootFilesystem": true,
                                "capabilities": {"drop": ["ALL"]},
                            },
                        }],
                    },
                },
            },
        })
    }

    /// Where the operator finds each gateway.
    fn report_service(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": self.metadata(GATEWAY_REPORT),
            "spec": {
                "clusterIP": "None",
                "selector": {"app.kubernetes.io/name": GATEWAY},
                "ports": [{
                    "name": REPORT_PORT_NAME, "port": REPORT_PORT, "targetPort": REPORT_PORT_NAME,
                }],
            },
        })
    }

    /// Everything that comes to the parent goes to our gateway, which tells services apart by the
    /// model's name and the host, as for all its clients.
    pub(super) fn http_route(&self, parent: &ParentGateway) -> Value {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": self.metadata(GATEWAY),
            "spec": {
                "parentRefs": [{"namespace": parent.namespace, "name": parent.name}],
                "rules": [{
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "backendRefs": [{"name": GATEWAY, "port": 80}],
                }],
            },
        })
    }

    /// Requests from anywhere; figures for the operator only.
    fn gateway_policy(&self) -> Value {
        let operator =
            json!({"podSelector": {"matchLabels": {"app.kubernetes.io/name": OPERATOR}}});
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": self.metadata(GATEWAY),
            "spec": {
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": GATEWAY}},
                "policyTypes": ["Ingress"],
                "ingress": [
                    {"ports": [{"protocol": "TCP", "port": GATEWAY_PORT}]},
                    {"from": [operator], "ports": [{"protocol": "TCP", "port": REPORT_PORT}]},
                ],
            },
        })
    }

    fn disruption_budget(&self, name: &str) -> Value {
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": self.metadata(name),
            "spec": {
                "maxUnavailable": 1,
                // Pods that are not ready anyway must not block a drain.
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": {NAME_LABEL: name}},
            },
        })
    }

    fn gateway_service(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": self.metadata(GATEWAY),
            "spec": {
                "selector": {NAME_LABEL: GATEWAY},
                // One port of the gateway speaks both.
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "http"},
                    {"name": "grpc", "port": 8001, "targetPort": "http",
                     "appProtocol": "kubernetes.io/h2c"},
                ],
            },
        })
    }
}

/// One of the two programs.
struct Program {
    name: &'static str,
    replicas: u32,
    args: Vec<String>,
    port: u16,
    /// Name and number of another port.
    second: Option<(&'static str, u16)>,
    grace: u32,
    /// CPU and memory.
    requests: (&'static str, &'static str),
    memory_limit: &'static str,
}

/// Another pod is made elsewhere half a minute after a node is known to be lost, not five.
fn tolerations() -> Vec<Value> {
    let lost = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].into_iter();
    lost.map(|key| {
        json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30})
    })
    .collect()
}

fn labels(name: &str) -> Value {
    json!({
        NAME_LABEL: name,
        "app.kubernetes.io/part-of": "trainyard",
        MANAGED_BY_LABEL: INSTALLER,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation(scope: Scope) -> Installation {
        Installation {
            namespace: "trainyard".to_owned(),
            image: "example.com/trainyard:1".to_owned(),
            image_pull_policy: "IfNotPresent",
            scope,
            operator_args: vec!["--profile=eks".to_owned()],
            kubernetes_version: None,
            operators: 2,
            gateways: 3,
            manage_gpu_nodes: false,
            route: None,
            lint: None,
        }
    }

    #[test]
    fn the_lint_webhook_is_there_where_it_is_wanted() {
        let mut installation = installation(Scope::Namespaces(vec!["a".into()]));
        let is_webhook = |object: &Value| object["kind"] == "ValidatingWebhookConfiguration";
        assert!(!installation.objects().iter().any(is_webhook));
        installation.lint = Some(Lint::Audit);
        let objects = installation.objects();
        let configuration = objects.last().expect("a configuration");
        assert!(is_webhook(configuration));
        let selects = |at: usize| &configuration["webhooks"][at]["namespaceSelector"];
        let values = |at: usize, expression: usize| {
            let selects = &selects(at)["matchExpressions"][expression];
            format!("{} {}", selects["operator"], selects["values"]).replace('"', "")
        };
        assert_eq!(values(0, 0), "NotIn [enforce,off]");
        assert_eq!(values(1, 0), "In [enforce]");
        assert!(values(0, 1).contains("kube-system,trainyard"));
        assert_eq!(values(0, 2), "In [a]");
        for webhook in configuration["webhooks"].as_array().expect("webhooks") {
            assert_eq!(webhook["failurePolicy"], "Ignore");
            assert!(webhook["clientConfig"]["caBundle"].is_null(), "the operators' own");
        }
        let operator = named(&objects, "Deployment", OPERATOR);
        let container = &operator["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["ports"][1]["containerPort"], LINT_PORT);
        let secret = named(&objects, "Secret", LINT);
        assert!(secret["data"].is_null());
    }

    fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
        let is = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        objects.iter().find(is).unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    #[test]
    fn programs_get_their_scope() {
        let objects = installation(Scope::Namespaces(vec!["a".into(), "b".into()])).objects();
        let args = |name: &str| {
            let args = &named(&objects, "Deployment", name)["spec"]["template"]["spec"];
            args["containers"][0]["args"].as_array().unwrap().clone()
        };
        let operator = args(OPERATOR);
        for argument in
            ["--watch-namespace=a", "--watch-namespace=b", "--gateway=trainyard", "--profile=eks"]
        {
            assert!(operator.contains(&json!(argument)), "{operator:?}");
        }
        assert!(args(GATEWAY).contains(&json!("--namespace=b")));
        assert!(!objects.iter().any(|object| object["kind"] == "ClusterRole"));
        let objects = installation(Scope::Cluster).objects();
        assert_eq!(named(&objects, "Deployment", GATEWAY)["spec"]["replicas"], 3);
        named(&objects, "ClusterRole", GATEWAY);
    }

    #[test]
    fn only_the_operator_may_read_figures() {
        let objects = installation(Scope::Cluster).objects();
        let policy = &named(&objects, "NetworkPolicy", GATEWAY)["spec"]["ingress"];
        assert_eq!(policy[0]["ports"][0]["port"], GATEWAY_PORT);
        assert!(policy[0]["from"].is_null());
        assert_eq!(policy[1]["ports"][0]["port"], REPORT_PORT);
        let from = &policy[1]["from"][0]["podSelector"]["matchLabels"];
        assert_eq!(from["app.kubernetes.io/name"], OPERATOR);
        let role = named(&objects, "Role", "trainyard-operator-figures");
        assert_eq!(role["rules"][0]["resources"][0], "endpointslices");
        let args = &named(&objects, "Deployment", GATEWAY)["spec"]["template"]["spec"];
        let args = args["containers"][0]["args"].as_array().unwrap();
        assert!(args.contains(&json!(format!("--report-port={REPORT_PORT}"))), "{args:?}");
    }

    #[test]
    fn a_route_is_made_where_a_parent_is_named() {
        let with = Installation {
            route: Some(ParentGateway { namespace: "infra".into(), name: "public".into() }),
            ..installation(Scope::Cluster)
        };
        let objects = with.objects();
        let route = &named(&objects, "HTTPRoute", GATEWAY)["spec"];
        assert_eq!(route["parentRefs"], json!([{"namespace": "infra", "name": "public"}]));
        assert_eq!(route["rules"][0]["backendRefs"][0]["name"], GATEWAY);
        let without = installation(Scope::Cluster).objects();
        assert!(without.iter().all(|object| object["kind"] != "HTTPRoute"));
    }

    #[test]
    fn every_object_is_known_as_ours() {
        let installation = installation(Scope::Cluster);
        let others = [vec![installation.namespace()], installation.admission().to_vec()].concat();
        for object in installation.objects().iter().chain(&others) {
            let labels = &object["metadata"]["labels"];
            assert_eq!(labels["app.kubernetes.io/part-of"], "trainyard", "{object}");
        }
    }

    #[test]
    fn the_policy_locks_nobody_out() {
        let [policy, binding] = installation(Scope::Cluster).admission();
        assert_eq!(policy["spec"]["failurePolicy"], "Ignore");
        assert!(binding["spec"]["matchResources"].is_null());
        assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
        let [_, binding] = installation(Scope::Namespaces(vec!["a".into()])).admission();
        let selector = &binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"];
        assert_eq!(selector[0]["values"], json!(["a"]));
    }
}
