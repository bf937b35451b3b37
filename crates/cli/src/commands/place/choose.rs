//! Decides whether a command acts on this machine or on a cluster.

/// What is known before anything is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Known {
    /// `--context`, `--kubeconfig`, `-n` or `-A` was said, or kubectl runs this program.
    pub(super) names_cluster: bool,
    /// `--state-dir` was said.
    pub(super) names_folder: bool,
    /// `TRAINYARD_STATE_DIR` is set.
    pub(super) has_folder_in_environment: bool,
    /// A supervisor runs with the state folder.
    pub(super) supervisor_runs: bool,
    /// The state folder has a history.
    pub(super) supervisor_was_here: bool,
    /// A kubeconfig has a current context, or this is a pod.
    pub(super) has_cluster: bool,
    /// The command changes something.
    pub(super) changes: bool,
}

/// Where to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    Here { said: bool },
    Cluster { said: bool },
}

/// Why it is not clear where to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unclear {
    /// There is neither.
    Nothing,
    /// A change could be meant for either: the supervisor that ran here may only have been killed.
    Either,
}

/// What was said decides; else a supervisor that runs here, since it is nearest; else the cluster.
pub(super) fn choose(known: &Known) -> Result<Choice, Unclear> {
    if known.names_folder {
        return Ok(Choice::Here { said: true });
    }
    if known.names_cluster {
        return Ok(Choice::Cluster { said: true });
    }
    if known.has_folder_in_environment {
        return Ok(Choice::Here { said: true });
    }
    if known.supervisor_runs {
        return Ok(Choice::Here { said: false });
    }
    match (known.has_cluster, known.supervisor_was_here) {
        (true, true) if known.changes => Err(Unclear::Either),
        (true, _) => Ok(Choice::Cluster { said: false }),
        // What was is still told.
        (false, true) => Ok(Choice::Here { said: false }),
        (false, false) => Err(Unclear::Nothing),
    }
}

#[test]
fn table() {
    let check = |what: &str, known: Known, expected| assert_eq!(choose(&known), expected, "{what}");
    let none = Known::default;
    let here = |said| Ok(Choice::Here { said });
    let cluster = |said| Ok(Choice::Cluster { said });
    check("nothing", none(), Err(Unclear::Nothing));
    check("a kubeconfig", Known { has_cluster: true, ..none() }, cluster(false));
    check("a supervisor", Known { supervisor_runs: true, ..none() }, here(false));
    let both = Known {
        supervisor_runs: true,
        supervisor_was_here: true,
        has_cluster: true,
        changes: true,
        ..none()
    };
    check("both", both.clone(), here(false));
    check(
        "both, and the cluster is said",
        Known { names_cluster: true, ..both.clone() },
        cluster(true),
    );
    check("both, and the folder is said", Known { names_folder: true, ..both.clone() }, here(true));
    let dead = Known { supervisor_runs: false, ..both };
    check("a change after a crash", dead.clone(), Err(Unclear::Either));
    check("a look after a crash", Known { changes: false, ..dead.clone() }, cluster(false));
    check("a crash without a cluster", Known { has_cluster: false, ..dead.clone() }, here(false));
    let environment = Known { has_folder_in_environment: true, ..dead };
    check("a folder in the environment", environment.clone(), here(true));
    check("flags win over it", Known { names_cluster: true, ..environment }, cluster(true));
}
