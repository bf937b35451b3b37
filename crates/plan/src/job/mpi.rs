//! MPI: the agent of the first worker runs `mpirun`, which starts the processes. On one machine they
//! all have one host. In a cluster mpirun starts a daemon on each other worker by a remote shell, and
//! that is the agent's own ([`Mpirun`]): the image needs no ssh.
//!
//! Names: Open MPI 4 reads `OMPI_MCA_…` (`plm_rsh_component.c`, `orte_globals.c`), Open MPI 5
//! `PRTE_MCA_…` of its runtime PRRTE (`plm_ssh_component.c`, `prte_mca_params.c`); MPICH's Hydra reads
//! `HYDRA_…` (`bsci_init.c.in`, `get_parameters.c`), and Intel's `I_MPI_HYDRA_…` (its reference of
//! environment variables).

use std::collections::BTreeMap;

use trainyard_api::training_job::Framework;

use super::gang::{Gang, texts};
use crate::workload::Value;

/// Names of the launcher.
const LAUNCHERS: [&str; 4] = ["mpirun", "mpiexec", "mpiexec.hydra", "mpirun.openmpi"];
/// Interfaces that reach no other pod.
const LOOPBACK: &str = "lo";

/// What `mpirun` needs to start processes on other workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mpirun {
    /// All in one folder of their own.
    pub files: Vec<LaunchFile>,
    /// Variables of every process, unless the manifest says otherwise.
    pub variables: BTreeMap<String, String>,
}

/// A file that the agent writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchFile {
    pub name: &'static str,
    pub content: String,
    /// A program, not a list.
    pub is_run: bool,
}

/// Hosts as Open MPI reads them, and as Hydra does.
const OPEN_MPI_HOSTS: &str = "hosts";
const HYDRA_HOSTS: &str = "hosts.hydra";
/// The remote shell, for who takes one path.
const SHELL: &str = "rsh";

impl Gang {
    /// Whether processes of one MPI program are started on several workers, from the first of them.
    pub fn is_mpi_of_several(&self) -> bool {
        self.framework == Framework::Mpi && self.workers.len() > 1
    }

    /// What mpirun finds, where its files are in `folder` and the words of `shell`, followed by a host
    /// and a command, run that command there. Neither has a space: Open MPI splits at those.
    pub fn mpirun(&self, folder: &str, shell: &[String]) -> Mpirun {
        let hosts = |line: &dyn Fn(&str) -> String| -> String {
            self.workers.iter().map(|worker| line(&worker.host)).collect()
        };
        let (slots, shell) = (self.processes, shell.join(" "));
        let file = |name, content| LaunchFile { name, content, is_run: false };
        let files = vec![
            file(OPEN_MPI_HOSTS, hosts(&|host| format!("{host} slots={slots}\n"))),
            file(HYDRA_HOSTS, hosts(&|host| format!("{host}:{slots}\n"))),
            LaunchFile {
                name: SHELL,
                content: format!("#!/bin/sh\nexec {shell} \"$@\"\n"),
                is_run: true,
            },
        ];
        let path = |name: &str| format!("{folder}/{name}");
        let mut variables = texts([
            ("OMPI_MCA_plm_rsh_agent", shell.clone()),
            ("OMPI_MCA_orte_default_hostfile", path(OPEN_MPI_HOSTS)),
            ("PRTE_MCA_plm_ssh_agent", shell),
            ("PRTE_MCA_prte_default_hostfile", path(OPEN_MPI_HOSTS)),
            // `rsh` is given a host and a command, `ssh` options as well.
            ("HYDRA_LAUNCHER", "rsh".to_owned()),
            ("HYDRA_LAUNCHER_EXEC", path(SHELL)),
            ("HYDRA_HOST_FILE", path(HYDRA_HOSTS)),
            // Each process has what its own worker has, and not what the first one has.
            ("HYDRA_ENV", "none".to_owned()),
            ("I_MPI_HYDRA_BOOTSTRAP", "rsh".to_owned()),
            ("I_MPI_HYDRA_BOOTSTRAP_EXEC", path(SHELL)),
            ("I_MPI_HYDRA_HOST_FILE", path(HYDRA_HOSTS)),
            // Open MPI speaks to a remote shell as to the user's own, and the user of a pod has none to look
            // up. It names the dialect; none is run.
            ("SHELL", "/bin/bash".to_owned()),
        ]);
        // Without one they take every interface but loopback, which is what a pod needs.
        if let Some(interface) = self.interface.clone().filter(|it| it != LOOPBACK) {
            variables.extend(texts([
                ("OMPI_MCA_btl_tcp_if_include", interface.clone()),
                ("OMPI_MCA_oob_tcp_if_include", interface.clone()),
                ("PRTE_MCA_prte_if_include", interface.clone()),
                ("HYDRA_IFACE", interface.clone()),
                ("I_MPI_HYDRA_IFACE", interface),
            ]));
        }
        Mpirun { files, variables }
    }
}

/// A command that starts `world` processes: one that is a launcher already stays as it is.
pub(super) fn command(command: Vec<Value>, world: u32) -> Vec<Value> {
    let program = command.first().and_then(Value::as_text).and_then(|it| it.rsplit('/').next());
    if program.is_some_and(|program| LAUNCHERS.contains(&program)) {
        return command;
    }
    let launcher = ["mpirun".to_owned(), "-n".to_owned(), world.to_string()];
    launcher.into_iter().map(Value::Text).chain(command).collect()
}

/// Settings of Open MPI: more processes than cores are what the manifest says, and so is their user,
/// which is root in most containers. A process is not bound to a core: each mpirun would take the
/// first ones, however many of them share the machine. MPICH needs to be told none of it.
pub(super) fn defaults() -> BTreeMap<String, String> {
    texts([
        ("OMPI_MCA_rmaps_base_oversubscribe", "true".to_owned()),
        // Slot by slot: without a word to that, all processes go to the first host.
        ("PRTE_MCA_rmaps_default_mapping_policy", "slot:oversubscribe".to_owned()),
        ("OMPI_MCA_hwloc_base_binding_policy", "none".to_owned()),
        ("PRTE_MCA_hwloc_default_binding_policy", "none".to_owned()),
        ("OMPI_ALLOW_RUN_AS_ROOT", "1".to_owned()),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1".to_owned()),
    ])
}

#[test]
fn commands() {
    let of = |words: &[&str]| {
        let words = words.iter().map(|word| Value::Text((*word).to_owned())).collect();
        let command = command(words, 4);
        let words: Vec<&str> = command.iter().filter_map(Value::as_text).collect();
        words.join(" ")
    };
    assert_eq!(of(&["python3", "t.py"]), "mpirun -n 4 python3 t.py");
    assert_eq!(of(&["/usr/bin/mpiexec", "-n", "2", "t"]), "/usr/bin/mpiexec -n 2 t");
}

#[test]
fn what_mpirun_is_told() {
    let gang = |interface: Option<&str>| Gang {
        job: "a".to_owned(),
        attempt: 1,
        framework: Framework::Mpi,
        launcher: trainyard_api::training_job::Launcher::Agent,
        processes: 2,
        workers: [0, 1]
            .map(|index| super::gang::Address {
                host: format!("a-1-{index}.a-workers"),
                port: 29500,
            })
            .to_vec(),
        interface: interface.map(str::to_owned),
    };
    let shell = ["/tmp/m/trainyard", "agent", "rsh"].map(str::to_owned);
    let told = gang(None).mpirun("/tmp/m", &shell);
    let files: Vec<_> =
        told.files.iter().map(|it| (it.name, it.content.as_str(), it.is_run)).collect();
    assert_eq!(
        files,
        [
            ("hosts", "a-1-0.a-workers slots=2\na-1-1.a-workers slots=2\n", false),
            ("hosts.hydra", "a-1-0.a-workers:2\na-1-1.a-workers:2\n", false),
            ("rsh", "#!/bin/sh\nexec /tmp/m/trainyard agent rsh \"$@\"\n", true),
        ]
    );
    assert_eq!(told.variables["OMPI_MCA_plm_rsh_agent"], "/tmp/m/trainyard agent rsh");
    assert_eq!(told.variables["PRTE_MCA_plm_ssh_agent"], "/tmp/m/trainyard agent rsh");
    assert_eq!(told.variables["PRTE_MCA_prte_default_hostfile"], "/tmp/m/hosts");
    assert_eq!(told.variables["HYDRA_LAUNCHER_EXEC"], "/tmp/m/rsh");
    assert_eq!(told.variables["HYDRA_HOST_FILE"], "/tmp/m/hosts.hydra");
    // Loopback reaches no other pod.
    let interfaces = |interface| {
        let variables = gang(interface).mpirun("/tmp/m", &shell).variables.into_values();
        variables.filter(|value| value == "lo" || value == "eth1").collect::<Vec<_>>()
    };
    assert!(interfaces(None).is_empty() && interfaces(Some("lo")).is_empty());
    assert_eq!(interfaces(Some("eth1")), ["eth1"; 5]);
}
