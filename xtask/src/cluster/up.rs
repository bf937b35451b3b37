//! `cluster up`.

use std::fs::{self, File};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use super::addons::gpus::GpuSpec;
use super::addons::{dns, kueue, kwok, metrics_server, minio, netpol, storage};
use super::build::Build;
use super::images::{self, PAUSE, ProgramImage};
use super::kubectl::Kubectl;
use super::layout::{Layout, MAX_NODES};
use super::settings::{Settings, Version};
use super::{control_plane, down, host, network, node, pki};

/// How long all nodes may take to be ready; seconds on an idle machine.
const NODES_READY: Duration = Duration::from_secs(180);

#[derive(Args)]
pub(crate) struct Up {
    /// How many nodes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_NODES)))]
    nodes: u8,
    /// Kubernetes' version: one that is pinned, or `newest`
    #[arg(long, default_value = Version::MAIN, env = "TRAINYARD_TEST_KUBERNETES")]
    version: Version,
    /// Serve resource metrics, for `kubectl top` and HorizontalPodAutoscalers
    #[arg(long)]
    metrics_server: bool,
    /// Provision volumes: a default StorageClass on the nodes' disks
    #[arg(long)]
    storage: bool,
    /// Run MinIO, an S3 store, as minio.minio.svc:9000
    #[arg(long)]
    minio: bool,
    /// Run Kueue, for Jobs that name one of its queues
    #[arg(long)]
    kueue: bool,
    /// Add so many simulated nodes
    #[arg(long, value_name = "N", default_value_t = 0)]
    kwok: u32,
    /// Give nodes fake GPUs: NODE=COUNT[,product=NAME][,memory=SIZE][,shared=REPLICAS][,mig=PROFILE:COUNT][,claims=none]
    #[arg(long, value_name = "SPEC")]
    gpus: Vec<GpuSpec>,
    /// Enforce NetworkPolicies
    #[arg(long)]
    netpol: bool,
    /// Import upstream's image for tests as localhost/agnhost:2.56
    #[arg(long)]
    agnhost: bool,
    /// Log every write to the API server in log/audit.log
    #[arg(long)]
    audit: bool,
    /// End a cluster of that name first, if one runs
    #[arg(long)]
    replace: bool,
}

impl Up {
    pub(crate) fn run(self, layout: &Layout) -> anyhow::Result<()> {
        if let Some(reason) = host::missing() {
            bail!("this machine cannot run a cluster: {reason}");
        }
        host::install()?;
        let _lock = lock(layout)?;
        if !self.replace && layout.complete().exists() && answers(layout) {
            bail!(
                "the cluster `{}` runs already; end it with `cargo xtask cluster down`, replace it \
                 with --replace, or start another with --name",
                layout.name
            );
        }
        for spec in &self.gpus {
            spec.check_nodes(self.nodes)?;
        }
        let built = Built::new(&self)?;
        // Whatever a run that was killed has left goes first.
        down::clean(layout)?;
        let start = Instant::now();
        let result = self.start(layout, &built);
        if let Err(error) = result {
            // Logs stay for whoever looks into it; processes and mounts do not.
            down::stop(layout)?;
            return Err(error);
        }
        fs::write(layout.complete(), "")?;
        eprintln!("the cluster `{}` is up, in {:.1} s", layout.name, start.elapsed().as_secs_f64());
        eprintln!("KUBECONFIG={}", layout.kubeconfig().display());
        Ok(())
    }

    fn start(&self, layout: &Layout, built: &Built) -> anyhow::Result<()> {
        fs::create_dir_all(layout.logs())?;
        let settings = Settings {
            version: self.version,
            nodes: self.nodes,
            kubernetes: built.kubernetes.clone(),
            cni: built.cni.clone(),
            netpol: built.netpol.clone(),
            fake_gpu: built.fake_gpu.clone(),
            gpus: self.gpus.clone(),
        };
        settings.write(layout)?;
        let ca = pki::create(layout)?;
        let nodes: Vec<_> = (1..=self.nodes).map(|number| layout.node(number)).collect();
        for node in &nodes {
            pki::create_node(&ca, node)?;
        }
        network::create(layout)?;
        node::prepare_mount_namespaces(&layout.mount_namespaces())?;
        control_plane::start(layout, &settings, &built.etcd, self.audit, self.kwok > 0)?;
        for node in &nodes {
            network::create_node(node)?;
        }
        thread::scope(|scope| {
            let starts: Vec<_> =
                nodes.iter().map(|node| scope.spawn(|| node::start(node, &settings))).collect();
            for start in starts {
                start.join().expect("starting a node does not panic")?;
            }
            anyhow::Ok(())
        })?;
        control_plane::start_proxy(layout, &settings)?;
        for archive in &built.images {
            images::import(&nodes, archive)?;
        }

        let kubectl = Kubectl::of(layout)?;
        dns::apply(&kubectl)?;
        if self.metrics_server {
            metrics_server::apply(&kubectl)?;
        }
        if self.storage {
            storage::apply(&kubectl)?;
        }
        if self.minio {
            minio::apply(&kubectl)?;
        }
        if let Some(manifests) = &built.kueue {
            kueue::apply(&kubectl, manifests)?;
        }
        if let Some(program) = &built.kwok {
            kwok::start(layout, &kubectl, program, self.kwok)?;
        }
        wait_for_nodes(&kubectl, nodes.len())?;
        dns::wait(&kubectl)?;
        if self.metrics_server {
            metrics_server::wait(&kubectl)?;
        }
        if self.storage {
            storage::wait(&kubectl)?;
        }
        if self.minio {
            minio::wait(&kubectl)?;
        }
        if self.netpol {
            netpol::wait(&nodes)?;
        }
        if self.kueue {
            kueue::wait(&kubectl, layout)?;
        }
        Ok(())
    }
}

/// Everything that has to be built before anything starts.
struct Built {
    kubernetes: std::path::PathBuf,
    cni: std::path::PathBuf,
    etcd: std::path::PathBuf,
    kwok: Option<std::path::PathBuf>,
    netpol: Option<std::path::PathBuf>,
    fake_gpu: Option<std::path::PathBuf>,
    /// Kueue's own manifests.
    kueue: Option<std::path::PathBuf>,
    /// Archives for every node.
    images: Vec<std::path::PathBuf>,
}

impl Built {
    fn new(up: &Up) -> anyhow::Result<Self> {
        let pause =
            ProgramImage { build: Build::pause(), program: "pause", name: PAUSE, shell: false };
        let mut images = vec![pause.archive()?, dns::image()?];
        if up.metrics_server {
            images.push(metrics_server::image()?);
        }
        if up.storage {
            images.push(storage::image()?);
            images.push(images::busybox()?);
        }
        if up.minio {
            images.push(minio::image()?);
        }
        if up.kueue {
            images.push(kueue::image()?);
        }
        if up.agnhost {
            let name = "localhost/agnhost:2.56";
            let build = Build::agnhost()?;
            images.push(ProgramImage { build, program: "agnhost", name, shell: true }.archive()?);
        }
        let when = |wanted: bool, build: Build, program: &str| {
            wanted.then(|| build.program(program)).transpose()
        };
        Ok(Self {
            kubernetes: Build::kubernetes(&up.version).folder()?,
            cni: Build::cni().folder()?,
            etcd: Build::etcd().program("etcd")?,
            kwok: when(up.kwok > 0, Build::kwok(), "kwok")?,
            netpol: when(up.netpol, Build::netpol(), "netpol")?,
            kueue: up.kueue.then(kueue::manifests).transpose()?,
            fake_gpu: when(!up.gpus.is_empty(), Build::fake_gpu(), "fake-gpu")?,
            images,
        })
    }
}

/// Held for as long as a cluster is changed.
pub(crate) fn lock(layout: &Layout) -> anyhow::Result<File> {
    let path = layout.lock();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another command on the cluster `{}`", layout.name);
        file.lock()?;
    }
    Ok(file)
}

fn answers(layout: &Layout) -> bool {
    let ready = ["get", "--raw", "/readyz", "--request-timeout=5s"];
    Kubectl::of(layout).and_then(|kubectl| kubectl.output(ready)).is_ok()
}

fn wait_for_nodes(kubectl: &Kubectl, nodes: usize) -> anyhow::Result<()> {
    let ready = "jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type==\"Ready\")].status} {end}";
    // Simulated nodes have a label of their own and are not waited for here.
    let arguments = ["get", "nodes", "-l", "type!=kwok", "-o", ready];
    kubectl.until("all nodes ready", NODES_READY, &arguments, |text| {
        text.split_whitespace().filter(|it| it.ends_with("=True")).count() == nodes
    })
}
