//! MPI: the agent runs `mpirun`, which starts the processes. On one machine they all have one host.

use std::collections::BTreeMap;

use super::gang::texts;
use crate::workload::Value;

/// Names of the launcher.
const LAUNCHERS: [&str; 4] = ["mpirun", "mpiexec", "mpiexec.hydra", "mpirun.openmpi"];

/// A command that starts `world` processes: one that is a launcher already stays as it is.
pub(super) fn command(command: Vec<Value>, world: u32) -> Vec<Value> {
    let program = command.first().and_then(Value::as_text).and_then(|it| it.rsplit('/').next());
    if program.is_some_and(|program| LAUNCHERS.contains(&program)) {
        return command;
    }
    let launcher = ["mpirun".to_owned(), "-n".to_owned(), world.to_string()];
    launcher.into_iter().map(Value::Text).chain(command).collect()
}

/// Settings of Open MPI 4 (`OMPI_MCA_…`) and 5 (`PRTE_MCA_…`, of its runtime PRRTE): more processes
/// than cores are what the manifest says, and so is their user, which is root in most containers.
/// MPICH needs to be told neither.
pub(super) fn defaults() -> BTreeMap<String, String> {
    texts([
        ("OMPI_MCA_rmaps_base_oversubscribe", "true".to_owned()),
        ("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe".to_owned()),
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
