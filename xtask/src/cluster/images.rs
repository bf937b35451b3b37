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
    /// The program's name is put before these.
    pub(crate) arguments: &'a [&'a str],
}

impl ProgramImage<'_> {
    /// The archive; made if no earlier run has.
    pub(crate) fn archive(&self) -> anyhow::Result<PathBuf> {
        let folder = self.build.folder()?;
        program_image(&folder.join(self.program), &folder, self.name, self.arguments)
    }
}

/// The image of the helper pods of the storage provisioner: a shell with the usual commands.
pub(crate) fn busybox() -> anyhow::Result<PathBuf> {
    let folder = crate::paths::cache().join("cluster");
    let path = folder.join("busybox.tar");
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
    let mut image = Image::new(BUSYBOX);
    image.entrypoint = vec!["sh".to_owned()];
    image.environment = vec!["PATH=/bin".to_owned()];
    image.layers = vec![layer];
    image.write(&path)?;
    Ok(path)
}

/// The name of [`busybox`].
pub(crate) const BUSYBOX: &str = "localhost/busybox:1";

fn program_image(
    program: &Path,
    folder: &Path,
    name: &str,
    arguments: &[&str],
) -> anyhow::Result<PathBuf> {
    let file = program.file_name().and_then(|it| it.to_str()).context("a program has a name")?;
    // An archive has its image's name in it, so one of another name is another.
    let path = folder.join(format!("{}.tar", name.replace(['/', ':'], "_")));
    if path.exists() {
        return Ok(path);
    }
    let content =
        fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let mut layer = Layer::default();
    layer.add(Entry::program(file, content));
    layer.add(Entry::folder("tmp", 0o1777));
    let mut image = Image::new(name);
    image.entrypoint = vec![format!("/{file}")];
    image.entrypoint.extend(arguments.iter().map(|it| (*it).to_owned()));
    image.environment = vec!["PATH=/".to_owned()];
    image.layers = vec![layer];
    image.write(&path)?;
    Ok(path)
}
