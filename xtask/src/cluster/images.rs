//! Container images: made from single programs, and imported into nodes. Nothing is ever pulled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;

use anyhow::{Context, bail};

use super::build::Build;
use super::layout::{Layout, NodeLayout};
use super::node::ctr;
use super::settings::Settings;
use crate::oci::{Entry, Image, Layer};

/// What holds a pod's namespaces.
pub(crate) const PAUSE: &str = "localhost/pause:1";

/// Imports an archive into every node of a cluster.
pub(crate) fn load(layout: &Layout, archive: &Path) -> anyhow::Result<()> {
    let settings = Settings::read(layout)?;
    let nodes: Vec<_> = (1..=settings.nodes).map(|number| layout.node(number)).collect();
    import(&nodes, archive)
}

/// Imports an archive into nodes, at the same time.
pub(crate) fn import(nodes: &[NodeLayout], archive: &Path) -> anyhow::Result<()> {
    if !archive.is_file() {
        bail!("there is no image archive {}", archive.display());
    }
    thread::scope(|scope| {
        let imports: Vec<_> =
            nodes.iter().map(|node| scope.spawn(|| import_one(node, archive))).collect();
        for import in imports {
            import.join().expect("importing does not panic")?;
        }
        Ok(())
    })
}

fn import_one(node: &NodeLayout, archive: &Path) -> anyhow::Result<()> {
    let output = ctr(node)
        .args(["images", "import", "--digests"])
        .arg(archive)
        .stdin(Stdio::null())
        .output()
        .context("cannot start ctr; on Debian: apt-get install containerd")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{} cannot import {}: {}", node.name(), archive.display(), error.trim());
    }
    Ok(())
}

/// An image of one static program, kept beside what it was made from.
pub(crate) struct ProgramImage<'a> {
    pub(crate) build: Build,
    /// The program in the build's folder.
    pub(crate) program: &'a str,
    /// Such as `localhost/coredns:1`.
    pub(crate) name: &'a str,
    /// Whether a shell with the usual commands is beside it.
    pub(crate) shell: bool,
}

impl ProgramImage<'_> {
    /// The archive; made if no earlier run has.
    pub(crate) fn archive(&self) -> anyhow::Result<PathBuf> {
        let folder = self.build.folder()?;
        // An archive has its image's name in it, so one of another name is another.
        let name = self.name.replace(['/', ':'], "_");
        let suffix = if self.shell { "-shell" } else { "" };
        let path = folder.join(format!("{name}{suffix}.tar"));
        if path.exists() {
            return Ok(path);
        }
        let program = folder.join(self.program);
        let content =
            fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
        let mut layer = Layer::default();
        layer.add(Entry::program(self.program, content));
        layer.add(Entry::folder("tmp", 0o1777));
        let mut image = Image::new(self.name);
        image.entrypoint = vec![format!("/{}", self.program)];
        image.environment = vec!["PATH=/:/bin".to_owned()];
        image.layers = vec![layer];
        if self.shell {
            image.layers.push(shell()?);
        }
        image.write(&path)?;
        Ok(path)
    }
}

/// The image of the helper pods of the storage provisioner.
pub(crate) fn busybox() -> anyhow::Result<PathBuf> {
    let folder = crate::paths::cache().join("cluster");
    let path = folder.join("busybox.tar");
    let mut image = Image::new(BUSYBOX);
    image.entrypoint = vec!["sh".to_owned()];
    image.environment = vec!["PATH=/bin".to_owned()];
    image.layers = vec![shell()?];
    image.write(&path)?;
    Ok(path)
}

/// A shell with the usual commands, in `/bin`.
fn shell() -> anyhow::Result<Layer> {
    let mut layer = Layer::default();
    let source =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(Path::new).find(|it| it.exists());
    let source =
        source.context("there is no busybox; on Debian: apt-get install busybox-static")?;
    layer.add(Entry::program("bin/busybox", fs::read(source)?));
    for name in ["sh", "mkdir", "rm", "chmod", "sleep", "cat", "ls", "wget", "nslookup", "nc", "dd"]
    {
        layer.add(Entry::link(&format!("bin/{name}"), "busybox"));
    }
    Ok(layer)
}

/// The name of [`busybox`].
pub(crate) const BUSYBOX: &str = "localhost/busybox:1";
