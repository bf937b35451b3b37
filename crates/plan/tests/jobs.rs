//! Jobs as plans, and what each of their processes is told of the others.

use proptest::prelude::*;
use trainyard_api::TrainingJob;
use trainyard_api::manifest;
use trainyard_api::scalar::{Bytes, Millicores};
use trainyard_plan::{Address, Gang, GangError, JobPlan, Target, compile_job};

fn job(spec: &str) -> TrainingJob {
    let text = format!(
        "apiVersion: trainyard.dev/v1alpha1\nkind: TrainingJob\nmetadata: {{name: digits}}\nspec: {spec}"
    );
    let read = manifest::read("job.yaml", &text).unwrap_or_else(|errors| panic!("{errors}"));
    read.jobs.into_iter().next().expect("a job").value
}

const HERE: Target = Target::Local { cpu: Millicores(8000), memory: Bytes(16 << 30), gpus: 0 };

fn plan(spec: &str) -> JobPlan {
    compile_job(&job(spec), &HERE).unwrap_or_else(|error| panic!("{error}"))
}

fn gang(plan: &JobPlan) -> Gang {
    let address = |index: u32| Address { host: "127.0.0.1".to_owned(), port: 29500 + index as u16 };
    plan.gang(2, (0..plan.workers).map(address).collect(), Some("lo".to_owned()))
}

/// What the processes of each worker are told.
fn told(spec: &str) -> String {
    let gang = gang(&plan(spec));
    let mut text = String::new();
    for worker in 0..gang.workers.len() {
        for process in gang.processes(worker as u32).expect("a worker") {
            text.push_str(&format!("worker {worker}, rank {}\n", process.rank));
            for (name, value) in &process.variables {
                text.push_str(&format!("  {name}={value}\n"));
            }
            for (name, value) in &process.defaults {
                text.push_str(&format!("  {name}={value} (default)\n"));
            }
        }
    }
    text
}

#[test]
fn what_processes_are_told() {
    let check = |name: &str, spec: &str| insta::assert_snapshot!(name, told(spec));
    check(
        "told_pytorch",
        "{framework: pytorch, command: [python3, t.py], workers: {count: 2}, processesPerWorker: 2}",
    );
    check(
        "told_torchrun",
        "{framework: pytorch, command: [torchrun, t.py], workers: {count: 2}, processesPerWorker: 4}",
    );
    check("told_tensorflow", "{framework: tensorflow, command: [t], workers: {count: 2}}");
    check("told_jax", "{framework: jax, command: [t], workers: {count: 2}, processesPerWorker: 2}");
    check("told_mpi", "{framework: mpi, command: [t], workers: {count: 2}}");
    check("told_generic", "{framework: generic, command: [t]}");
}

#[test]
fn the_agent_of_a_worker() {
    let plan = plan(
        "{framework: pytorch, command: [python3, t.py], args: [--name=$(NAME)], env: [{name: NAME, value: a}],
        workers: {count: 2}, resources: {cpu: 2, memory: 1Gi, gpu: {count: 1}}, image: i,
        checkpoint: {path: out, uri: 's3://b/digits', grace: 90s, interval: 10m}, progress: {timeout: 5m, logPattern: 'step [0-9]+$'}}"
    );
    let agent = plan.agent(
        &gang(&plan),
        Some(1),
        ["--report", "a$b"].map(trainyard_plan::Value::literal).to_vec(),
    );
    insta::assert_debug_snapshot!((agent, &plan.notes, &plan.resources));
}

#[test]
fn mpi_is_one_host_here() {
    let plan = plan("{framework: mpi, command: [t], workers: {count: 3}, processesPerWorker: 2}");
    assert_eq!((plan.workers, plan.processes, plan.command.len()), (1, 6, 4));
    assert_eq!(plan.secret, None);
    // It may use what all of them ask for.
    let plan = self::plan(
        "{framework: mpi, command: [t], workers: {count: 3}, resources: {cpu: 2, memory: 1Gi}}",
    );
    assert_eq!(plan.resources.cpu, Some(Millicores(6000)));
    assert_eq!(plan.resources.memory, Some(Bytes(3 << 30)));
}

#[test]
fn what_cannot_be_had_is_refused_with_a_cure() {
    let here = |spec: &str| match compile_job(&job(spec), &HERE) {
        Ok(plan) => panic!("accepted: {plan:?}"),
        Err(error) => format!("{error}\n"),
    };
    let all = [
        here("{framework: generic, command: [t], workers: {count: 5}, resources: {cpu: 2}}"),
        here("{framework: generic, command: [t], workers: {count: 3}, resources: {memory: 6Gi}}"),
        here("{framework: pytorch, command: [t], env: [{name: WORLD_SIZE, value: '8'}]}"),
        here("{framework: tensorflow, command: [t], env: [{name: TF_CONFIG}]}"),
        here("{framework: jax, command: [t], env: [{name: TRAINYARD_GANG}]}"),
        here("{framework: generic, command: [t], progress: {timeout: 1m, logPattern: 'step ('}}"),
        here("{framework: generic, command: [t], checkpoint: {path: a, uri: 'pvc://jobs/a'}}"),
        here("{framework: generic, command: [t], data: [{name: a, uri: 'pvc://sets/a'}]}"),
        here("{framework: generic, command: [t], env: [{name: TRAINYARD_DATA_A, value: b}]}"),
    ];
    insta::assert_snapshot!(all.concat());
}

#[test]
fn a_gang_that_makes_no_sense() {
    let gang = gang(&plan("{framework: generic, command: [t]}"));
    assert_eq!(Gang::parse(&gang.to_text()), Ok(gang.clone()));
    assert_eq!(gang.processes(1), Err(GangError::NoSuchWorker { index: 1, workers: 1 }));
    assert!(matches!(Gang::parse("{"), Err(GangError::NotUnderstood { .. })));
    let none = Gang { processes: 0, ..gang }.to_text();
    assert_eq!(Gang::parse(&none), Err(GangError::NoProcesses));
}

proptest! {
    /// Whatever the sizes, ranks are all numbers below the world's size, each once, in the order of
    /// workers, and every process is told of the same world.
    #[test]
    fn ranks_are_dense(workers in 1u32..20, processes in 1u32..9, jax in any::<bool>()) {
        let framework = if jax { "jax" } else { "pytorch" };
        let plan = plan(&format!(
            "{{framework: {framework}, command: [t], workers: {{count: {workers}}}, processesPerWorker: {processes}}}"
        ));
        let gang = gang(&plan);
        let all: Vec<_> =
            (0..workers).flat_map(|worker| gang.processes(worker).expect("a worker")).collect();
        let world = (workers * processes).to_string();
        for (rank, process) in all.iter().enumerate() {
            prop_assert_eq!(process.rank as usize, rank);
            prop_assert_eq!(&process.variables["TRAINYARD_RANK"], &rank.to_string());
            prop_assert_eq!(&process.variables["TRAINYARD_WORLD_SIZE"], &world);
            let name = if jax { "JAX_NUM_PROCESSES" } else { "WORLD_SIZE" };
            prop_assert_eq!(&process.variables[name], &world);
        }
        prop_assert_eq!(all.len() as u32, workers * processes);
    }
}
