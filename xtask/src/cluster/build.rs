//! Building the cluster's programs from Go modules, once: the result is cached by what went in.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use super::settings::Version;
use crate::paths;
use crate::run::run;

/// What one folder of `tests/cluster/build` makes.
#[derive(Debug, Clone)]
pub(crate) struct Build {
    /// Name in the cache and in messages.
    name: String,
    /// The folder below `tests/cluster/build`, with `go.mod` and `go.sum`.
    module: String,
    /// Go packages to build, each a program named after its last part.
    packages: Vec<String>,
}

impl Build {
    fn new(name: &str, packages: &[&str]) -> Self {
        let packages = packages.iter().map(|it| (*it).to_owned()).collect();
        Self { name: name.to_owned(), module: name.to_owned(), packages }
    }

    /// The control plane, the kubelet, kube-proxy and kubectl.
    pub(crate) fn kubernetes(version: &Version) -> Self {
        let packages = [
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-proxy",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            "k8s.io/kubernetes/cmd/kubectl",
            "k8s.io/kubernetes/cmd/kubelet",
        ];
        Self::new(&version.folder(), &packages)
    }

    pub(crate) fn etcd() -> Self {
        Self::new("etcd", &["."])
    }

    pub(crate) fn cni() -> Self {
        Self::new(
            "cni",
            &[
                "github.com/containernetworking/plugins/plugins/main/loopback",
                "github.com/containernetworking/plugins/plugins/main/ptp",
                "github.com/containernetworking/plugins/plugins/ipam/host-local",
                "github.com/containernetworking/plugins/plugins/meta/portmap",
            ],
        )
    }

    /// The process that holds a pod's namespaces.
    pub(crate) fn pause() -> Self {
        Self::new("pause", &["."])
    }

    pub(crate) fn coredns() -> Self {
        Self::new("coredns", &["github.com/coredns/coredns"])
    }

    pub(crate) fn metrics_server() -> Self {
        Self::new("metrics-server", &["sigs.k8s.io/metrics-server/cmd/metrics-server"])
    }

    pub(crate) fn local_path_provisioner() -> Self {
        Self::new("local-path-provisioner", &["github.com/rancher/local-path-provisioner"])
    }

    pub(crate) fn minio() -> Self {
        Self::new("minio", &["github.com/minio/minio"])
    }

    pub(crate) fn kwok() -> Self {
        Self::new("kwok", &["sigs.k8s.io/kwok/cmd/kwok"])
    }

    pub(crate) fn kueue() -> Self {
        Self::new("kueue", &["sigs.k8s.io/kueue/cmd/kueue"])
    }

    fn kubeconform() -> Self {
        Self::new("kubeconform", &["github.com/yannh/kubeconform/cmd/kubeconform"])
    }

    /// The linter that `bench lint` compares with.
    pub(crate) fn kube_score() -> Self {
        Self::new("kube-score", &["github.com/zegl/kube-score/cmd/kube-score"])
    }

    /// Our NetworkPolicy enforcer.
    pub(crate) fn netpol() -> Self {
        Self::new("netpol", &["."])
    }

    /// Upstream's cases for such enforcers.
    fn netpol_e2e() -> Self {
        Self::new("netpol-e2e", &["."])
    }

    /// Our device plugin.
    pub(crate) fn fake_gpu() -> Self {
        Self::new("fake-gpu", &["."])
    }

    /// Upstream's test image: a server and a client of many protocols.
    pub(crate) fn agnhost() -> anyhow::Result<Self> {
        let module = Version::MAIN.parse::<Version>()?.folder();
        let packages = vec!["k8s.io/kubernetes/test/images/agnhost".to_owned()];
        Ok(Self { name: "agnhost".to_owned(), module, packages })
    }

    /// What every cluster needs.
    pub(crate) fn core(version: &Version) -> anyhow::Result<Vec<Self>> {
        Ok(vec![
            Self::cni(),
            Self::pause(),
            Self::etcd(),
            Self::coredns(),
            Self::kubernetes(version),
        ])
    }

    /// A build by its name, for `cluster build` and for other chores.
    pub(crate) fn named(name: &str) -> anyhow::Result<Self> {
        let others = [
            Self::etcd(),
            Self::cni(),
            Self::pause(),
            Self::coredns(),
            Self::metrics_server(),
            Self::local_path_provisioner(),
            Self::minio(),
            Self::kwok(),
            Self::kueue(),
            Self::kubeconform(),
            Self::kube_score(),
            Self::netpol(),
            Self::netpol_e2e(),
            Self::fake_gpu(),
            Self::agnhost()?,
        ];
        if let Some(version) = name.strip_prefix("kubernetes-") {
            return Ok(Self::kubernetes(&version.parse()?));
        }
        let names: Vec<_> = others.iter().map(|it| it.name.clone()).collect();
        match others.into_iter().find(|it| it.name == name) {
            Some(found) => Ok(found),
            None => bail!("nothing is called `{name}`; there are {}", names.join(", ")),
        }
    }

    /// The folder with the programs; builds them if no earlier run has.
    pub(crate) fn folder(&self) -> anyhow::Result<PathBuf> {
        let source = self.source();
        let inputs = self.inputs(&source)?;
        let cache = paths::cache().join("cluster");
        fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        let folder = cache.join(format!("{}-{inputs}", self.name));
        if folder.exists() {
            return Ok(folder);
        }
        // One builds, the others wait for it.
        let lock = File::create(cache.join(format!("{}.lock", self.name)))?;
        lock.lock()?;
        if folder.exists() {
            return Ok(folder);
        }
        eprintln!("building {} (once; kept in {})", self.name, folder.display());
        let staging = tempfile::Builder::new().prefix(".staging-").tempdir_in(&cache)?;
        let mut command = Command::new("go");
        command.current_dir(&source).arg("build").args(FLAGS);
        command.arg("-ldflags").arg(self.linker_flags(&source)?);
        // A program of ours is called after its module, not after a temporary folder.
        if self.packages == ["."] {
            command.arg("-o").arg(staging.path().join(&self.name));
        } else {
            let mut folder = staging.path().as_os_str().to_owned();
            folder.push("/");
            command.arg("-o").arg(folder);
        }
        command.args(&self.packages);
        for (name, value) in ENVIRONMENT {
            command.env(name, value);
        }
        run(&mut command).with_context(|| {
            format!("cannot build {}; it needs Go 1.26 or newer and the module proxy", self.name)
        })?;
        fs::rename(staging.keep(), &folder)?;
        Ok(folder)
    }

    /// The program of this name; builds it if no earlier run has.
    pub(crate) fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        Ok(self.folder()?.join(name))
    }

    /// The folder of a module that this is built from; fetches it if it is not there any more.
    pub(crate) fn module_folder(&self, module: &str) -> anyhow::Result<PathBuf> {
        let mut command = Command::new("go");
        command.current_dir(self.source()).args(["mod", "download", "-json", module]);
        for (name, value) in ENVIRONMENT {
            command.env(name, value);
        }
        let output = command.output().context("cannot start `go`")?;
        let told: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`go mod download` does not say where {module} is"))?;
        match told["Dir"].as_str() {
            Some(folder) => Ok(folder.into()),
            None => bail!("cannot fetch {module}: {}", told["Error"]),
        }
    }

    fn source(&self) -> PathBuf {
        paths::root().join("tests/cluster/build").join(&self.module)
    }

    /// A short hash of everything that the programs are made from.
    fn inputs(&self, source: &Path) -> anyhow::Result<String> {
        let version = Command::new("go").arg("version").output().context("cannot start `go`")?;
        let mut hash = Sha256::new().chain_update(version.stdout);
        for part in FLAGS.iter().chain(ENVIRONMENT.iter().flat_map(|(name, value)| [name, value])) {
            hash.update(part);
            hash.update([0]);
        }
        for part in &self.packages {
            hash.update(part);
            hash.update([0]);
        }
        let mut files: Vec<_> = fs::read_dir(source)
            .with_context(|| format!("cannot read {}", source.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        for file in files {
            hash.update(
                file.file_name().expect("an entry of a folder has a name").as_encoded_bytes(),
            );
            hash.update([0]);
            hash.update(Sha256::digest(fs::read(&file)?));
        }
        Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    /// Without symbols; Kubernetes' programs say their version, which clients check.
    fn linker_flags(&self, source: &Path) -> anyhow::Result<String> {
        let mut flags = "-s -w".to_owned();
        if self.module.starts_with("kubernetes-") {
            let module = fs::read_to_string(source.join("go.mod"))?;
            let version = required_version(&module, "k8s.io/kubernetes")
                .context("go.mod requires no k8s.io/kubernetes")?;
            let mut parts = version.trim_start_matches('v').split('.');
            let (major, minor) = (parts.next().unwrap_or("1"), parts.next().unwrap_or("0"));
            for (name, value) in [("gitVersion", version), ("gitMajor", major), ("gitMinor", minor)]
            {
                flags.push_str(&format!(" -X k8s.io/component-base/version.{name}={value}"));
            }
        }
        Ok(flags)
    }
}

const FLAGS: [&str; 3] = ["-trimpath", "-mod=readonly", "-buildvcs=false"];
/// Static programs, and no settings of the caller's that change them.
const ENVIRONMENT: [(&str, &str); 3] = [("CGO_ENABLED", "0"), ("GOFLAGS", ""), ("GOWORK", "off")];

/// The version that a `go.mod` requires of a module, as in `v1.34.4`.
fn required_version<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next()? == module).then(|| words.next())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_either_form() {
        let single = "module x\n\nrequire k8s.io/kubernetes v1.34.4\n";
        let block =
            "require (\n\tk8s.io/kubelet v0.34.4\n\tk8s.io/kubernetes v1.29.6 // indirect\n)";
        assert_eq!(required_version(single, "k8s.io/kubernetes"), Some("v1.34.4"));
        assert_eq!(required_version(block, "k8s.io/kubernetes"), Some("v1.29.6"));
        assert_eq!(required_version("module k8s.io/kubernetes", "k8s.io/kubernetes"), None);
    }

    #[test]
    fn every_folder_has_a_build() {
        let root = paths::root().join("tests/cluster/build");
        for entry in fs::read_dir(root).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let build = Build::named(&name).unwrap();
            assert!(build.source().join("go.mod").exists(), "{name} has no go.mod");
        }
    }
}
