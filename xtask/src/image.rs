//! `cargo xtask image`: the product's container image, made without a container engine.
//!
//! It holds the binary, ONNX Runtime's library, the C library that both need, and certificates; no
//! shell and no package manager. Equal inputs give an equal digest: see [`crate::oci`].

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use crate::oci::{Entry, Image, Layer};
use crate::paths;
use crate::run::{cargo, run};

/// The user and group that distroless images call `nonroot`.
const USER: u32 = 65_532;
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Make the product's container image, without a container engine
#[derive(Args)]
pub(crate) struct ImageArgs {
    /// How to build the binary; `dev` is for tests
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
    /// Pack this binary, and build none
    #[arg(long, conflicts_with = "profile")]
    binary: Option<PathBuf>,
    /// Name and tag that the image has after an import
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
    /// Where to write the archive [default: image.tar in cargo's target folder]
    #[arg(long)]
    output: Option<PathBuf>,
    /// Write the image's files into this folder instead, which the Containerfile copies
    #[arg(long, conflicts_with = "output")]
    rootfs: Option<PathBuf>,
}

/// Of the version that is built; `localhost` is nobody's registry.
pub(crate) const DEFAULT_NAME: &str = concat!("localhost/trainyard:", env!("CARGO_PKG_VERSION"));

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Profile {
    Release,
    Dev,
}

impl ImageArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if let Some(folder) = &self.rootfs {
            for layer in layers(&self.binary()?)? {
                unpack(&layer, folder)?;
            }
            println!("{}", folder.display());
            return Ok(());
        }
        let binary = self.binary()?;
        let path = self.output.unwrap_or_else(|| paths::target().join("image.tar"));
        let digest = write(&binary, &self.name, &path)?;
        println!("{}", path.display());
        println!("{}@{digest}", self.name);
        Ok(())
    }

    fn binary(&self) -> anyhow::Result<PathBuf> {
        match &self.binary {
            Some(binary) => Ok(binary.clone()),
            None => build(self.profile),
        }
    }
}

/// Writes the image with this binary and returns its digest.
pub(crate) fn write(binary: &Path, name: &str, path: &Path) -> anyhow::Result<String> {
    let layers = layers(binary)?;
    let mut image = Image::new(name);
    image.entrypoint = vec!["/trainyard".to_owned()];
    image.environment = vec![
        "PATH=/".to_owned(),
        // The one folder that can be written, where a pod mounts nothing else.
        "HOME=/tmp".to_owned(),
        format!("SSL_CERT_FILE=/{CERTIFICATES}"),
        format!("ORT_DYLIB_PATH=/{ONNXRUNTIME}"),
    ];
    image.user = format!("{USER}:{USER}");
    image.labels = labels();
    image.layers = layers;
    image.write(path)
}

fn labels() -> BTreeMap<String, String> {
    [
        ("title", "Trainyard"),
        ("description", "ML platform for Kubernetes in one binary"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("licenses", "Apache-2.0"),
        ("source", env!("CARGO_PKG_REPOSITORY")),
    ]
    .into_iter()
    .map(|(name, value)| (format!("org.opencontainers.image.{name}"), value.to_owned()))
    .collect()
}

/// Folder of the engine's library.
const ONNXRUNTIME: &str = "usr/lib/onnxruntime";

/// What changes least comes first, so that an upgrade transfers only the binary.
fn layers(binary: &Path) -> anyhow::Result<Vec<Layer>> {
    let engine = onnxruntime(binary)?;

    let mut base = Layer::default();
    for path in shared_libraries(&[binary, &engine])? {
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        base.add(Entry::program(inside(&path)?, content));
    }
    let certificates = Path::new("/").join(CERTIFICATES);
    let content = fs::read(&certificates).with_context(|| {
        format!(
            "cannot read {}; on Debian: apt-get install ca-certificates",
            certificates.display()
        )
    })?;
    base.add(Entry::file(CERTIFICATES, content));
    let passwd = format!(
        "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/tmp:/sbin/nologin\n"
    );
    base.add(Entry::file("etc/passwd", passwd));
    base.add(Entry::file("etc/group", format!("root:x:0:\nnonroot:x:{USER}:\n")));
    // Without it the C library looks names up in DNS before /etc/hosts, which kubelet fills.
    base.add(Entry::file("etc/nsswitch.conf", "hosts: files dns\n"));
    base.add(Entry::folder("tmp", 0o1777));

    let mut runtime = Layer::default();
    let folder = engine.parent().context("the library lies in a folder")?;
    for name in ["LICENSE", "ThirdPartyNotices.txt"] {
        if let Ok(content) = fs::read(folder.join(name)) {
            runtime.add(Entry::file(&format!("{ONNXRUNTIME}/{name}"), content));
        }
    }
    let name = engine.file_name().and_then(|it| it.to_str()).context("a library has a name")?;
    runtime.add(Entry::program(&format!("{ONNXRUNTIME}/{name}"), fs::read(&engine)?));

    let mut product = Layer::default();
    product.add(Entry::program("trainyard", stripped(binary)?));
    Ok(vec![base, runtime, product])
}

fn build(profile: Profile) -> anyhow::Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--locked", "--quiet", "--package", "trainyard-cli"]);
    if profile == Profile::Dev {
        run(&mut command)?;
        return Ok(paths::target().join("debug/trainyard"));
    }
    // Where the sources and cargo's downloads lie is no input: the digest must not depend on it.
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let mut flags = format!("--remap-path-prefix={}=/trainyard", paths::root().display());
    if let Some(home) = home {
        flags.push_str(&format!("\x1f--remap-path-prefix={}=/cargo", home.display()));
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", flags);
    run(command.arg("--release"))?;
    Ok(paths::target().join("release/trainyard"))
}

/// The binary without symbols for debuggers, which are most of a development build.
fn stripped(binary: &Path) -> anyhow::Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("trainyard");
    let stripped =
        Command::new("strip").arg("--strip-debug").arg("-o").arg(&copy).arg(binary).status();
    let path = match stripped {
        Ok(status) if status.success() => &copy,
        _ => bail!("`strip` is missing or failed; on Debian: apt-get install binutils"),
    };
    Ok(fs::read(path)?)
}

/// The pinned ONNX Runtime, fetched as any user fetches it.
fn onnxruntime(binary: &Path) -> anyhow::Result<PathBuf> {
    run(Command::new(binary).args(["engine", "install"]).stdout(std::process::Stdio::null()))?;
    let output = Command::new(binary).args(["engine", "list", "--json"]).output()?;
    let list: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("`{} engine list --json` prints no JSON", binary.display()))?;
    let installed = list["libraries"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|library| library["origin"] == "installed by trainyard")
        .and_then(|library| library["path"].as_str())
        .with_context(|| {
            format!("`engine install` left nothing that `engine list` finds: {list}")
        })?;
    Ok(installed.into())
}

/// The C library and whatever else programs need of this machine, with the loader.
fn shared_libraries(programs: &[&Path]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for program in programs {
        let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
        let text = String::from_utf8_lossy(&output.stdout);
        found.extend(
            libraries_in(&text).with_context(|| format!("what {} needs", program.display()))?,
        );
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// The paths in what `ldd` prints.
fn libraries_in(text: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let target = line.split_once(" => ").map_or(line, |(_, target)| target);
        if target.starts_with("not found") {
            bail!("a library is missing on this machine: {line}");
        }
        // The kernel's own library (linux-vdso) has no path.
        if target.starts_with('/') {
            let path = target.split_once(" (").map_or(target, |(path, _)| path);
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

/// A path of this machine as a layer names it.
fn inside(path: &Path) -> anyhow::Result<&str> {
    let path = path.to_str().with_context(|| format!("{} is no UTF-8", path.display()))?;
    Ok(path.trim_start_matches('/'))
}

fn unpack(layer: &Layer, folder: &Path) -> anyhow::Result<()> {
    for entry in layer.iter() {
        let path = folder.join(entry.path());
        let context = || format!("cannot write {}", path.display());
        match entry.content() {
            crate::oci::Content::Folder => fs::create_dir_all(&path).with_context(context)?,
            crate::oci::Content::File(content) => {
                fs::write(&path, content).with_context(context)?
            }
            crate::oci::Content::Link(target) => {
                symlink(target, &path).with_context(context)?;
                continue;
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_is_read() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found = libraries_in(text).unwrap();
        let expected = ["/lib/x86_64-linux-gnu/libgcc_s.so.1", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(found, expected.map(PathBuf::from));
        assert!(libraries_in("\tlibx.so.1 => not found\n").is_err());
        assert!(libraries_in("\tstatically linked\n").unwrap().is_empty());
    }

    #[test]
    fn a_layer_can_be_unpacked() {
        let mut layer = Layer::default();
        layer.add(Entry::program("bin/tool", b"x".to_vec()));
        layer.add(Entry::link("bin/other", "tool"));
        layer.add(Entry::folder("tmp", 0o1777));
        let folder = tempfile::tempdir().unwrap();
        unpack(&layer, folder.path()).unwrap();
        assert_eq!(fs::read(folder.path().join("bin/other")).unwrap(), b"x");
        let mode =
            |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode();
        assert_eq!(mode("bin/tool") & 0o7777, 0o755);
        assert_eq!(mode("tmp") & 0o7777, 0o1777);
    }
}
