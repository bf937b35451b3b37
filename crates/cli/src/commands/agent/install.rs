//! `trainyard agent install`: brings the agent where any image can run it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use miette::{Context, IntoDiagnostic, miette};
use trainyard_storage::authorities;

/// Copy this program with its loader and libraries into a folder, to be run there by images that
/// have none of them: FOLDER/ld.so --library-path FOLDER FOLDER/trainyard agent run …
///
/// The certificates of authorities that are here come with it, for images that have none.
#[derive(Args)]
pub(super) struct Install {
    /// The folder; it is made
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
}

/// What the loader is called there, on every kind of processor.
pub(super) const LOADER: &str = "ld.so";
/// Where Debian and its like have the certificates of authorities, and Trainyard's image too.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

impl Install {
    pub(super) fn run(self) -> miette::Result<ExitCode> {
        let maps = fs::read_to_string("/proc/self/maps").into_diagnostic();
        let libraries = libraries(&maps.wrap_err("cannot tell which libraries this program uses")?);
        if !libraries.iter().any(|path| is_loader(path)) {
            return Err(miette!(
                "this build of Trainyard uses no loader, so that there is none to copy; use Trainyard's own image, whose build does"
            ));
        }
        let program = std::env::current_exe().into_diagnostic().wrap_err("cannot find itself")?;
        fs::create_dir_all(&self.to)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot make `{}`", self.to.display()))?;
        copy(&program, &self.to.join("trainyard"))?;
        for path in &libraries {
            let name = path.file_name().unwrap_or_default();
            copy(path, &self.to.join(if is_loader(path) { LOADER.as_ref() } else { name }))?;
        }
        let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let certificates = named.unwrap_or_else(|| CERTIFICATES.into());
        match certificates.exists() {
            true => copy(&certificates, &self.to.join(authorities::FILE))?,
            false => eprintln!(
                "trainyard: there is no `{}` to bring, so that images without certificates of their own reach no store",
                certificates.display()
            ),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The shared objects that a process has in memory, by what the kernel says of it.
fn libraries(maps: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = maps
        .lines()
        .filter_map(|line| line.find('/').and_then(|at| line.get(at..)))
        .map(PathBuf::from)
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(".so") || name.contains(".so.")
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

fn is_loader(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("ld-"))
}

fn copy(from: &Path, to: &Path) -> miette::Result<()> {
    let told = || format!("cannot copy `{}` to `{}`", from.display(), to.display());
    // Whoever runs the one that is there goes on with it.
    let staged = to.with_extension("new");
    fs::copy(from, &staged).into_diagnostic().wrap_err_with(told)?;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&staged, mode).into_diagnostic().wrap_err_with(told)?;
    fs::rename(&staged, to).into_diagnostic().wrap_err_with(told)
}

#[test]
fn what_a_process_has_in_memory() {
    let maps = "55d0 r-xp 00000000 08:01 12 /usr/bin/trainyard\n\
                7f00 r-xp 00000000 08:01 13 /usr/lib/libc.so.6\n\
                7f01 r--p 00000000 08:01 13 /usr/lib/libc.so.6\n\
                7f02 r-xp 00000000 08:01 14 /lib64/ld-linux-x86-64.so.2\n\
                7f03 rw-p 00000000 00:00 0 [stack]\n";
    let found = libraries(maps);
    assert_eq!(found, ["/lib64/ld-linux-x86-64.so.2", "/usr/lib/libc.so.6"].map(PathBuf::from));
    assert!(is_loader(&found[0]) && !is_loader(&found[1]));
}
