//! A node: namespaces, containerd, kubelet, kube-proxy, and what was asked for beside them.
//!
//! Its mount namespace gives the usual folders (`/var/lib/kubelet`, `/run/containerd`, `/opt`, …)
//! a content of its own, so that several kubelets can share one machine and device plugins, CSI
//! drivers and `hostPath` volumes find what they find on a real node.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::addons::{gpus, netpol};
use super::cgroup;
use super::control_plane::proxy_config;
use super::layout::{DNS, NodeLayout};
use super::process::{Daemon, Place, search_path, wait_for};
use super::settings::Settings;
use crate::run::run;

/// Folders that every node has to itself, and what each is called in the node's folder.
const OWN_FOLDERS: [(&str, &str); 8] = [
    ("/var/lib/kubelet", "kubelet"),
    ("/var/lib/containerd", "containerd"),
    ("/run/containerd", "run-containerd"),
    ("/var/log/pods", "pod-logs"),
    ("/var/log/containers", "container-logs"),
    ("/var/lib/cni", "cni-state"),
    ("/etc/cni/net.d", "cni-net.d"),
    ("/opt", "opt"),
];

const CONTAINERD_PATIENCE: Duration = Duration::from_secs(60);

/// Prepares a node's folders and namespaces and starts its daemons.
pub(crate) fn start(node: &NodeLayout, settings: &Settings) -> anyhow::Result<()> {
    for (_, own) in OWN_FOLDERS {
        fs::create_dir_all(node.folder().join(own))?;
    }
    configure(node, settings)?;
    create_mount_namespace(node)?;
    cgroup::create(&node.pods_cgroup())?;
    let (layout, place) = (&node.cluster, Place::node(node));

    let config = node.folder().join("containerd.toml");
    let arguments = ["--config".into(), config.into_os_string()];
    let containerd = Daemon::new(format!("{}-containerd", node.name()), "containerd", arguments);
    containerd.start(layout, &place)?;
    wait_for("containerd", &containerd.log(layout), CONTAINERD_PATIENCE, || {
        let output = ctr(node).arg("version").stdin(Stdio::null()).output();
        output.is_ok_and(|it| it.status.success())
    })?;

    let pki = layout.pki();
    let arguments = [
        format!("--config={}", node.folder().join("kubelet.json").display()),
        format!("--kubeconfig={}", pki.join(format!("{}.kubeconfig", node.name())).display()),
        format!("--hostname-override={}", node.name()),
        format!("--node-ip={}", node.address()),
    ];
    let program = settings.kubernetes.join("kubelet");
    // It ends where containerd answers before it is ready for it.
    let name = format!("{}-kubelet", node.name());
    Daemon::kept_running(name, program, arguments).start(layout, &place)?;

    let arguments = [format!("--config={}", node.folder().join("proxy.json").display())];
    let program = settings.kubernetes.join("kube-proxy");
    Daemon::new(format!("{}-kube-proxy", node.name()), program, arguments).start(layout, &place)?;

    netpol::start(node, settings)?;
    gpus::start(node, settings)
}

/// Ends all that runs on a node at once, as if its processes had been killed.
pub(crate) fn kill(node: &NodeLayout) -> anyhow::Result<()> {
    // The daemons first, so that none of them starts a container again.
    cgroup::kill(&node.daemons_cgroup())?;
    cgroup::kill(&node.pods_cgroup())
}

/// Gives a killed node what a reboot gives: no mounts, no control groups, and nothing in `/run`.
pub(crate) fn forget_boot(node: &NodeLayout) -> anyhow::Result<()> {
    // Kubelet looks for 3 s at each one that is left of a container that is gone.
    cgroup::remove(&node.pods_cgroup())?;
    release_mount_namespace(&node.mount_namespace())?;
    // Kubelet removes these sockets when it starts. A device plugin, which is no pod here and starts at the
    // same time, would find the one of the kubelet before and make its own too early.
    let sockets = node.folder().join("kubelet/device-plugins");
    for folder in [node.folder().join("run-containerd"), sockets] {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A client of a node's containerd, in the namespace of Kubernetes' containers.
pub(crate) fn ctr(node: &NodeLayout) -> Command {
    let mut command = Command::new("ctr");
    command.env("PATH", search_path());
    command.arg("--address").arg(node.containerd()).args(["--namespace", "k8s.io"]);
    command
}

/// The folder that holds mount namespaces has to be a mount that is not shared.
pub(crate) fn prepare_mount_namespaces(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    run(Command::new("mount").args(["--bind"]).arg(folder).arg(folder))?;
    run(Command::new("mount").args(["--make-private"]).arg(folder))
}

fn create_mount_namespace(node: &NodeLayout) -> anyhow::Result<()> {
    let file = node.mount_namespace();
    fs::write(&file, "").with_context(|| format!("cannot create {}", file.display()))?;
    // Mounts of the host arrive, the node's never leave; among themselves they are shared, which
    // kubelet and container runtimes count on.
    let mut script = "set -e; mount --make-rshared /\n".to_owned();
    for (usual, own) in OWN_FOLDERS {
        fs::create_dir_all(usual).with_context(|| format!("cannot create {usual}"))?;
        let own = node.folder().join(own);
        script.push_str(&format!("mount --bind '{}' '{usual}'\n", own.display()));
    }
    let output = Command::new("unshare")
        .arg(format!("--mount={}", file.display()))
        .args(["--propagation", "slave", "--", "sh", "-c", &script])
        .stdin(Stdio::null())
        .output()
        .context("cannot start unshare")?;
    anyhow::ensure!(
        output.status.success(),
        "cannot make the mount namespace of {}: {}",
        node.name(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Lets go of a mount namespace; its mounts vanish with the last process in it.
pub(crate) fn release_mount_namespace(file: &Path) -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let is_mounted = |line: &str| line.split(' ').nth(1) == Some(&file.to_string_lossy());
    // Seen more than once where an interrupted run mounted over what was there.
    for _ in mounts.lines().filter(|line| is_mounted(line)) {
        run(Command::new("umount").arg(file))?;
    }
    Ok(())
}

fn configure(node: &NodeLayout, settings: &Settings) -> anyhow::Result<()> {
    let (folder, pki) = (node.folder(), node.cluster.pki());
    let pki_file = |name: String| pki.join(name).display().to_string();
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write("containerd.toml", containerd_config(&settings.cni))?;
    // Upstream name servers for pods: none, nothing outside can be asked.
    write("resolv.conf", String::new())?;

    let network = json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            // Each pod on a cable of its own, so that all its traffic is routed, and can be filtered.
            {
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": node.pods()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    write("cni-net.d/10-pods.conflist", format!("{network:#}"))?;

    let mut kubelet = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki_file("ca.crt".into())},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", node.pods_cgroup()),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "failSwapOn": false,
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "resolvConf": folder.join("resolv.conf"),
        "tlsCertFile": pki_file(format!("{}.crt", node.name())),
        "tlsPrivateKeyFile": pki_file(format!("{}.key", node.name())),
        // The disk is the host's: how full it is says nothing about this node.
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "enforceNodeAllocatable": [],
        "nodeStatusUpdateFrequency": "2s",
        "serializeImagePulls": false,
    });
    // Older kubelets do not know the field, and refuse what they do not know.
    if settings.version.minor >= 31 {
        kubelet["failCgroupV1"] = json!(false);
    }
    if settings.version.hides_health_of_devices() {
        kubelet["featureGates"] = json!({"ResourceHealthStatus": true});
    }
    write("kubelet.json", format!("{kubelet:#}"))?;

    write("proxy.json", proxy_config(&node.cluster, settings, &node.name()))
}

fn containerd_config(cni: &Path) -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # A host without CAP_SYS_RESOURCE cannot lower the score of a sandbox.
  restrict_oom_score_adj = true
  # In the node's mount namespace, so that they go with it.
  netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{cni}"
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"#,
        pause = super::images::PAUSE,
        cni = cni.display(),
    )
}
