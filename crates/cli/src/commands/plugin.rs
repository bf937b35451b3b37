//! Trainyard as a plugin of kubectl: a copy of the program, or a link to it, whose name is
//! `kubectl-trainyard`, so that `kubectl trainyard …` runs it.

use std::path::Path;

/// What kubectl looks for on the path.
const NAME: &str = "kubectl-trainyard";
/// What a person types.
pub(crate) const TYPED: &str = "kubectl trainyard";
/// Commands about this machine, which make no sense there.
const OF_THIS_MACHINE: [&str; 7] = ["up", "down", "restart", "inspect", "engine", "agent", "plan"];

/// Whether kubectl runs this process.
pub(crate) fn is_plugin() -> bool {
    std::env::args_os().next().is_some_and(|program| names_plugin(Path::new(&program)))
}

fn names_plugin(program: &Path) -> bool {
    program.file_stem().is_some_and(|name| name == NAME)
}

/// The command line as kubectl's users know it: usage says what they type, and there is nothing that
/// acts on this machine.
pub(crate) fn adapt(mut command: clap::Command) -> clap::Command {
    command = command.name(NAME).bin_name(TYPED).display_name(NAME);
    let names: Vec<String> = command.get_subcommands().map(|it| it.get_name().to_owned()).collect();
    for name in names.iter().filter(|name| OF_THIS_MACHINE.contains(&name.as_str())) {
        command = command.mut_subcommand(name, |it| it.hide(true));
    }
    command
}

/// Whether a command is refused there.
pub(crate) fn is_of_this_machine(command: &str) -> bool {
    OF_THIS_MACHINE.contains(&command)
}

#[test]
fn the_plugins_name_decides() {
    assert!(names_plugin(Path::new("/usr/local/bin/kubectl-trainyard")));
    assert!(!names_plugin(Path::new("/opt/kubectl-trainyard/trainyard")));
    assert!(!names_plugin(Path::new("trainyard")));
}
