//! etcd, the API server, the controller manager and the scheduler.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::kubectl::Kubectl;
use super::layout::{CONTROL_PLANE, Layout, PODS, SERVICES};
use super::process::{Daemon, Place, wait_for};
use super::settings::Settings;
use crate::paths;

/// How long the API server may take to answer; seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts all four and waits until the API server is ready.
///
/// In a large cluster the controllers and the scheduler make more requests a second than the 20 to
/// 50 that they are held to otherwise, which would be all that a test of scale measures.
pub(crate) fn start(
    layout: &Layout,
    settings: &Settings,
    etcd: &std::path::Path,
    audit: bool,
    is_large: bool,
) -> anyhow::Result<()> {
    let place = Place::control_plane(layout);
    let pki = layout.pki();
    let pki = pki.display();
    let programs = &settings.kubernetes;

    let data = layout.folder().join("etcd");
    // What is lost in a power cut is of no interest here, and a flush takes most of a write's time.
    let arguments = [
        format!("--data-dir={}", data.display()),
        "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--unsafe-no-fsync".to_owned(),
        // Tens of thousands of objects of the scale tests do not fit into the usual 2 GiB.
        "--quota-backend-bytes=8589934592".to_owned(),
    ];
    Daemon::new("etcd", etcd, arguments).start(layout, &place)?;

    let mut arguments = vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--service-cluster-ip-range={SERVICES}"),
        format!("--advertise-address={CONTROL_PLANE}"),
        "--secure-port=6443".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged".to_owned(),
        format!("--client-ca-file={pki}/ca.crt"),
        format!("--tls-cert-file={pki}/apiserver.crt"),
        format!("--tls-private-key-file={pki}/apiserver.key"),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={pki}/service-account.pub"),
        format!("--service-account-signing-key-file={pki}/service-account.key"),
        format!("--kubelet-client-certificate={pki}/admin.crt"),
        format!("--kubelet-client-key={pki}/admin.key"),
        format!("--kubelet-certificate-authority={pki}/ca.crt"),
        // Nodes' names are in no DNS.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        // Webhooks and aggregated APIs are reached at pods' addresses, without a detour.
        "--enable-aggregator-routing=true".to_owned(),
        format!("--requestheader-client-ca-file={pki}/front-proxy-ca.crt"),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={pki}/front-proxy.crt"),
        format!("--proxy-client-key-file={pki}/front-proxy.key"),
    ];
    if settings.version.hides_health_of_devices() {
        arguments.push("--feature-gates=ResourceHealthStatus=true".to_owned());
    }
    if audit {
        let policy = paths::root().join("tests/cluster/manifests/audit-policy.yaml");
        let kept = layout.folder().join("audit-policy.yaml");
        fs::copy(&policy, &kept).with_context(|| format!("cannot copy {}", policy.display()))?;
        arguments.push(format!("--audit-policy-file={}", kept.display()));
        arguments.push(format!("--audit-log-path={}", layout.logs().join("audit.log").display()));
    }
    let apiserver = Daemon::new("kube-apiserver", programs.join("kube-apiserver"), arguments);
    apiserver.start(layout, &place)?;
    let kubectl = Kubectl::of(layout)?;
    wait_for("the API server", &apiserver.log(layout), PATIENCE, || {
        kubectl.output(["get", "--raw", "/readyz"]).is_ok()
    })?;

    let mut arguments = vec![
        format!("--kubeconfig={pki}/controller-manager.kubeconfig"),
        format!("--authentication-kubeconfig={pki}/controller-manager.kubeconfig"),
        format!("--authorization-kubeconfig={pki}/controller-manager.kubeconfig"),
        "--leader-elect=false".to_owned(),
        format!("--service-account-private-key-file={pki}/service-account.key"),
        format!("--root-ca-file={pki}/ca.crt"),
        "--use-service-account-credentials".to_owned(),
        format!("--cluster-signing-cert-file={pki}/ca.crt"),
        format!("--cluster-signing-key-file={pki}/ca.key"),
        format!("--cluster-cidr={PODS}"),
    ];
    let rates = ["--kube-api-qps=500".to_owned(), "--kube-api-burst=1000".to_owned()];
    if is_large {
        arguments.extend(rates.clone());
        let workers = ["deployment", "endpoint", "replicaset", "service-endpoint"];
        arguments.extend(workers.map(|kind| format!("--concurrent-{kind}-syncs=20")));
    }
    let program = programs.join("kube-controller-manager");
    Daemon::new("kube-controller-manager", program, arguments).start(layout, &place)?;

    let mut arguments = vec![
        format!("--kubeconfig={pki}/scheduler.kubeconfig"),
        format!("--authentication-kubeconfig={pki}/scheduler.kubeconfig"),
        format!("--authorization-kubeconfig={pki}/scheduler.kubeconfig"),
        "--leader-elect=false".to_owned(),
    ];
    if is_large {
        arguments.extend(rates);
    }
    Daemon::new("kube-scheduler", programs.join("kube-scheduler"), arguments).start(layout, &place)
}

/// Starts kube-proxy beside the control plane, once there are nodes.
///
/// What runs there (tests, clients, an operator out of the cluster) then reaches Services as a pod
/// does.
pub(crate) fn start_proxy(layout: &Layout, settings: &Settings) -> anyhow::Result<()> {
    let config = layout.folder().join("proxy.json");
    // No node is here, and kube-proxy would wait 30 s for one of a name that does not come; it
    // ends when its node is deleted, and then has to start again.
    let text = proxy_config(layout, settings, &layout.node(1).name());
    fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    let program = settings.kubernetes.join("kube-proxy");
    let arguments = [format!("--config={}", config.display())];
    let proxy = Daemon::kept_running("kube-proxy", program, arguments);
    proxy.start(layout, &Place::control_plane(layout))
}

/// kube-proxy's configuration on a host of this name.
pub(crate) fn proxy_config(layout: &Layout, settings: &Settings, host: &str) -> String {
    let mut proxy = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": PODS,
        "hostnameOverride": host,
        "clientConnection": {"kubeconfig": layout.pki().join("proxy.kubeconfig")},
        // Sizes of the host's tables, which are not this node's to change.
        "conntrack": {"maxPerCore": 0, "min": 0},
    });
    // On by default from 1.31.
    if settings.version.minor < 31 {
        proxy["featureGates"] = json!({"NFTablesProxyMode": true});
    }
    format!("{proxy:#}")
}
