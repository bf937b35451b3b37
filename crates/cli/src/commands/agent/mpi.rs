//! What an mpirun finds that starts processes on several workers: files, variables, and the agent as
//! its remote shell.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use miette::{Context, IntoDiagnostic, miette};
use trainyard_agent::run::{Process, Remote, Role, Token};
use trainyard_plan::Gang;

use super::install::LOADER;

/// Tells the remote shell where the token is.
pub(super) const TOKEN_FILE: &str = "TRAINYARD_TOKEN_FILE";
/// What the program is called in mpirun's folder.
const PROGRAM: &str = "trainyard";
/// Tries to find a name for a folder that nobody has.
const MOST_TRIES: u32 = 1000;

/// It is deleted with its files when it is dropped.
pub(super) struct Launch {
    folder: PathBuf,
    /// What processes find in their environment, unless they find something else already.
    pub(super) variables: Vec<(OsString, OsString)>,
    token: Token,
}

impl Launch {
    pub(super) fn of(gang: &Gang, token: Option<&Path>) -> miette::Result<Self> {
        let missing = || {
            miette!(
                "--token-file is missing: the {} workers of `{}` run commands for each other, and need a secret by which they know each other, the same for each; make one with `openssl rand -hex 32`",
                gang.workers.len(),
                gang.job
            )
        };
        let token_file = std::path::absolute(token.ok_or_else(missing)?).into_diagnostic()?;
        let token = Token::read(&token_file).into_diagnostic()?;
        let program = std::env::current_exe().into_diagnostic().wrap_err("cannot find itself")?;
        let folder = make_folder().into_diagnostic().wrap_err("cannot make a folder for mpirun")?;
        let mut made = Self { folder, variables: Vec::new(), token };
        let written = made.write(gang, &program).into_diagnostic();
        written.wrap_err_with(|| format!("cannot write into `{}`", made.folder.display()))?;
        made.variables.push((TOKEN_FILE.into(), token_file.into()));
        Ok(made)
    }

    fn write(&mut self, gang: &Gang, program: &Path) -> io::Result<()> {
        // By a path without spaces, at which Open MPI splits, wherever the program is.
        let link = self.folder.join(PROGRAM);
        std::os::unix::fs::symlink(program, &link)?;
        let mpirun = gang.mpirun(&text(&self.folder)?, &shell(program, &link)?);
        for file in mpirun.files {
            let path = self.folder.join(file.name);
            fs::write(&path, file.content)?;
            if file.is_run {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
            }
        }
        let unset = mpirun.variables.into_iter().filter(|it| std::env::var_os(&it.0).is_none());
        self.variables = unset.map(|(name, value)| (name.into(), value.into())).collect();
        Ok(())
    }

    /// What this worker is to the others. One that follows has no process of its own any more.
    pub(super) fn remote(
        &self,
        gang: &Gang,
        index: u32,
        processes: &mut Vec<Process>,
    ) -> miette::Result<Remote> {
        let at = |worker: &trainyard_plan::Address| (worker.host.clone(), worker.port);
        let own = usize::try_from(index).ok().and_then(|index| gang.workers.get(index));
        let own = own.map(at).ok_or_else(|| miette!("there is no worker {index}"))?;
        let first = processes.first().map(|process| process.variables.clone());
        let commands = Process { rank: index, variables: first.unwrap_or_default() };
        let role = match index {
            0 => Role::Leads(gang.workers.iter().skip(1).map(at).collect()),
            _ => {
                processes.clear();
                Role::Follows
            }
        };
        Ok(Remote { token: self.token.clone(), own, commands, role })
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// One that is ours alone, and new.
fn make_folder() -> io::Result<PathBuf> {
    let home = std::path::absolute(std::env::temp_dir())?;
    let name = format!("trainyard-mpi-{}", std::process::id());
    for number in 0..MOST_TRIES {
        let folder = home.join(format!("{name}-{number}"));
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The words that start the remote shell, of a program that may have been started by its loader.
fn shell(program: &Path, link: &Path) -> io::Result<Vec<String>> {
    let mut words = vec![text(link)?];
    if program.file_name().is_some_and(|name| name == LOADER) {
        let folder = program.parent().unwrap_or(Path::new("/"));
        let itself = folder.join(PROGRAM);
        words = vec![text(program)?, "--library-path".to_owned(), text(folder)?, text(&itself)?];
    }
    words.extend(["agent", "rsh"].map(str::to_owned));
    Ok(words)
}

fn text(path: &Path) -> io::Result<String> {
    let text = path.to_str().filter(|text| !text.contains(char::is_whitespace));
    let wrong = || {
        let why =
            format!("mpirun takes no path like `{}`; set TMPDIR to one of letters", path.display());
        io::Error::new(io::ErrorKind::InvalidInput, why)
    };
    text.map(str::to_owned).ok_or_else(wrong)
}

#[test]
fn words_of_the_shell() {
    let of =
        |program: &str| shell(Path::new(program), Path::new("/tmp/m/trainyard")).unwrap().join(" ");
    assert_eq!(of("/home/a b/trainyard"), "/tmp/m/trainyard agent rsh");
    assert_eq!(
        of("/opt/trainyard/bin/ld.so"),
        "/opt/trainyard/bin/ld.so --library-path /opt/trainyard/bin /opt/trainyard/bin/trainyard agent rsh"
    );
}
