//! Generated manifests: many applications whose objects refer to one another.

use std::fmt::Write;

/// Applications that share a namespace in [`Shape::Teams`].
const PER_NAMESPACE: usize = 20;

/// What an application consists of, and where it lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Ten kinds of objects, and a namespace for each 20 applications.
    Teams,
    /// Only the five kinds that find one another by labels or names (Deployment, Service,
    /// PodDisruptionBudget, HorizontalPodAutoscaler, NetworkPolicy), all in one namespace: each
    /// could mean any other.
    Crowd,
}

impl Shape {
    /// Documents of one application.
    fn documents(self) -> usize {
        match self {
            Self::Teams => 10,
            Self::Crowd => 5,
        }
    }
}

/// At least this many documents, as one text: model servers with all that belongs to one. The same
/// number gives the same text.
pub(crate) fn generate(documents: usize, shape: Shape) -> String {
    let mut text = String::with_capacity(documents * 800);
    for app in 0..documents.div_ceil(shape.documents()) {
        if app > 0 {
            text.push_str("---\n");
        }
        application(app, shape, &mut text);
    }
    text
}

/// One application. Some leave out what a linter should miss, so that rules have work to do.
fn application(app: usize, shape: Shape, into: &mut String) {
    let team = if shape == Shape::Teams { app / PER_NAMESPACE } else { 0 };
    let (name, namespace) = (format!("server-{app}"), format!("team-{team}"));
    let model = ["Qwen/Qwen2.5-7B-Instruct", "mistralai/Mistral-7B-Instruct-v0.3", "org/model-13b"];
    let model = model[app % 3];
    let gpus = 1 + app % 4;
    let probe = if app.is_multiple_of(3) {
        ""
    } else {
        "
          startupProbe:
            httpGet: {path: /health, port: http}
            failureThreshold: 120
            periodSeconds: 10
          readinessProbe:
            httpGet: {path: /health, port: http}"
    };
    let dns = if app.is_multiple_of(5) {
        ""
    } else {
        "
    - to:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: kube-system
      ports:
        - protocol: UDP
          port: 53
        - protocol: TCP
          port: 53"
    };
    let labels = format!("{{app: {name}, team: {namespace}, app.kubernetes.io/name: {name}}}");
    let write = write!(
        into,
        "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  namespace: {namespace}
  labels: {labels}
spec:
  replicas: 2
  strategy:
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  selector:
    matchLabels:
      app: {name}
  template:
    metadata:
      labels: {labels}
      annotations:
        checksum/config: \"{app:016x}\"
    spec:
      serviceAccountName: {name}
      terminationGracePeriodSeconds: 120
      nodeSelector:
        nvidia.com/gpu.product: NVIDIA-A100-SXM4-80GB
      tolerations:
        - key: nvidia.com/gpu
          operator: Exists
          effect: NoSchedule
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              app: {name}
      containers:
        - name: server
          image: vllm/vllm-openai:v0.9.{patch}
          args:
            - --model={model}
            - --served-model-name={name}
            - --max-model-len=8192
            - --gpu-memory-utilization=0.9
            - --tensor-parallel-size={gpus}
          env:
            - name: HF_TOKEN
              valueFrom:
                secretKeyRef: {{name: hub, key: token}}
            - name: LOG_LEVEL
              valueFrom:
                configMapKeyRef: {{name: {name}-settings, key: LOG_LEVEL}}
          ports:
            - name: http
              containerPort: 8000
          resources:
            requests:
              cpu: \"8\"
              memory: 64Gi
            limits:
              memory: 64Gi
              nvidia.com/gpu: {gpus}{probe}
          volumeMounts:
            - name: shm
              mountPath: /dev/shm
            - name: cache
              mountPath: /root/.cache/huggingface
      volumes:
        - name: shm
          emptyDir: {{medium: Memory, sizeLimit: 8Gi}}
        - name: cache
          persistentVolumeClaim: {{claimName: {name}-cache}}
---
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: {namespace}
  labels: {labels}
spec:
  selector:
    app: {name}
  ports:
    - name: http
      port: 80
      targetPort: http
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {name}
  namespace: {namespace}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      app: {name}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {name}
  namespace: {namespace}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {name}
  minReplicas: 2
  maxReplicas: 8
  metrics:
    - type: Pods
      pods:
        metric: {{name: vllm_num_requests_waiting}}
        target: {{type: AverageValue, averageValue: \"4\"}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {name}
  namespace: {namespace}
spec:
  podSelector:
    matchLabels:
      app: {name}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - namespaceSelector: {{}}
      ports:
        - port: 8000
  egress:
    - ports:
        - port: 443{dns}
",
        patch = app % 3,
    );
    write.expect("a String takes all that is written");
    if shape == Shape::Crowd {
        return;
    }
    let write = write!(
        into,
        "\
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {name}
  namespace: {namespace}
  labels: {labels}
automountServiceAccountToken: false
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {name}-settings
  namespace: {namespace}
data:
  LOG_LEVEL: info
  chat-template.jinja: |
    {{% for message in messages %}}
    <|{{{{ message.role }}}}|> {{{{ message.content }}}}
    {{% endfor %}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {name}-cache
  namespace: {namespace}
spec:
  accessModes: [ReadWriteMany]
  resources:
    requests:
      storage: 200Gi
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: {name}
  namespace: {namespace}
spec:
  selector:
    matchLabels:
      app: {name}
  podMetricsEndpoints:
    - port: http
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: {name}
  namespace: {namespace}
spec:
  parentRefs:
    - name: gateway
      namespace: gateways
  hostnames: [{name}.example.org]
  rules:
    - backendRefs:
        - name: {name}
          port: 80
"
    );
    write.expect("a String takes all that is written");
}

#[test]
fn the_bundle_is_read_in_full() {
    for (shape, documents) in [(Shape::Teams, 100), (Shape::Crowd, 95)] {
        let text = generate(95, shape);
        let source = trainyard_rules::Source { name: "bundle.yaml".to_owned(), text };
        let documents_read = trainyard_rules::Documents::read(vec![source]);
        assert!(documents_read.errors.is_empty(), "{:?}", documents_read.errors);
        assert_eq!(documents_read.roots().count(), documents);
    }
}
