"""What interruptions cost a training as a TrainingJob and as a plain Job of Kubernetes: prints what
`docs/performance.md` shows.

    python tests/cluster/goodput.py [--seed N] [--interruptions N]

as root, with TRAINYARD_BIN, TRAINYARD_XTASK and TRAINYARD_IMAGE set. It starts a cluster, by the name in
TRAINYARD_TEST_CLUSTER, and takes it down. The program, its steps and the schedule of interruptions are the same
for all; they run one after another. Goodput is the time of the steps alone over the time from `apply`
to the end of the job.
"""

import argparse
import dataclasses
import random
import time

from interruptions import NODES, NOTES, PROGRAM, TRAIN_IMAGE, WORKERS, Stage, Work

NAMESPACE = "goodput"
WORK = Work(steps=400, pause=0.2, every=40, bytes=1 << 20)
KINDS = ["deleted", "evicted", "drained", "rebooted"]
PATIENCE = 400
# What takes longer between two steps is an interruption, in seconds.
PAUSE = 1.5
# Seconds that a node is drained, or off.
AWAY = 15


@dataclasses.dataclass
class Told:
    took: float
    hits: int
    again: int
    reached: int
    is_right: bool
    # Seconds until the first step, without a step between steps, and from the last step to the end.
    waits: tuple

    def row(self, way):
        goodput = self.reached * WORK.pause / self.took
        lost = self.again / self.hits if self.hits else 0
        result = "right" if self.is_right else f"not over, at step {self.reached}"
        waits = " | ".join(f"{it:.0f}" for it in self.waits)
        return f"| {way} | {self.took:.0f} | {goodput:.2f} | {waits} | {self.hits} | {lost:.0f} ({lost * WORK.pause:.0f} s) | {result} |"


def schedule(seed, count):
    """When after the first step, what, and to which worker."""
    chance = random.Random(seed)
    length = WORK.steps * WORK.pause
    return [
        ((at + chance.uniform(0.2, 0.8)) * length / count, chance.choice(KINDS), chance.randrange(WORKERS))
        for at in range(count)
    ]


def plain(stage, name, volume):
    """As people run such a program without more: an Indexed Job with a Service for the workers' names."""
    labels = {"job-name": name}
    mount = {"name": "checkpoints", "mountPath": "/checkpoints"}
    if volume["name"] == "claim":
        mount = {"name": "claim", "mountPath": "/checkpoints", "subPath": name}
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    env = {
        "WORLD_SIZE": WORKERS, "MASTER_ADDR": f"{name}-0.{name}", "MASTER_PORT": 29500, "NOTES": "%s:%s" % NOTES,
        "TRAINYARD_CHECKPOINT_PATH": "/checkpoints", "JOB": name,
    }
    container = {
        "name": "train", "image": TRAIN_IMAGE, "imagePullPolicy": "IfNotPresent",
        "command": ["python3", PROGRAM, *WORK.arguments()], "volumeMounts": [mount],
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "env": [
            {"name": "RANK", "valueFrom": {"fieldRef": {"fieldPath": index}}},
            *({"name": key, "value": str(value)} for key, value in env.items()),
        ],
    }
    spread = {
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    pod = {
        # A container that starts again in its pod finds the pod's disk as it was.
        "restartPolicy": "OnFailure", "subdomain": name, "terminationGracePeriodSeconds": 10,
        "containers": [container], "volumes": [volume], "topologySpreadConstraints": [spread],
    }
    job = {
        "completionMode": "Indexed", "completions": WORKERS, "parallelism": WORKERS, "backoffLimit": 1000,
        "template": {"spec": pod},
    }
    service = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": labels, "ports": [{"port": 29500}]}
    metadata = {"name": name, "namespace": stage.namespace}
    return (
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job},
    )


def interrupt(stage, kind, pod):
    node = pod["spec"]["nodeName"]
    if kind == "deleted":
        stage.delete(pod, "--grace-period=0", "--force")
    elif kind == "evicted":
        stage.evict(pod)
    elif kind == "drained":
        stage.cluster.xtask("chaos", "drain", node, check=False)
        time.sleep(AWAY)
        stage.cluster.xtask("chaos", "uncordon", node)
    elif kind == "rebooted":
        stage.cluster.xtask("chaos", "kill-node", node)
        time.sleep(AWAY)
        stage.cluster.xtask("chaos", "restart-node", node)


def run(stage, name, objects, label, is_over, planned):
    cluster = stage.cluster
    cluster.until("both nodes", lambda: all(map(cluster.is_node_ready, NODES)), 180)
    begun, applied, hits = time.monotonic(), time.time(), 0
    cluster.apply(*objects)
    cluster.until("the first step", lambda: stage.notes(name, "step"), 180)
    first = time.monotonic()
    for at, kind, rank in planned:
        time.sleep(max(0, first + at - time.monotonic()))
        if is_over():
            break
        # All ways are hit as often: one whose pod is just being made is hit when it runs.
        while not (pod := stage.pods(name, label).get(rank)) and not is_over():
            time.sleep(0.5)
        if pod:
            hits += 1
            print(f"{name}: at {time.monotonic() - first:.0f} s worker {rank} is {kind}", flush=True)
            interrupt(stage, kind, pod)
    while not is_over() and time.monotonic() < begun + PATIENCE:
        time.sleep(1)
    took = time.monotonic() - begun
    done = len(stage.notes(name, "step"))
    is_right = stage.results(name, label) == {WORK.value()} and is_over()
    cluster.kubectl("-n", stage.namespace, "delete", objects[-1]["kind"], name, "--wait=false")
    at = sorted(note["at"] for note in stage.notes(name, "step"))
    pauses = (after - before for before, after in zip(at, at[1:]))
    waits = at[0] - applied, sum(it for it in pauses if it > PAUSE), applied + took - at[-1]
    return Told(took, hits, done - stage.reached(name), stage.reached(name), is_right, waits)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--interruptions", type=int, default=3)
    options = parser.parse_args()
    planned = schedule(options.seed, options.interruptions)
    stage = Stage(NAMESPACE)
    claim = {"name": "claim", "persistentVolumeClaim": {"claimName": "store"}}

    def has_succeeded(name):
        return stage.statuses()[name].get("phase") == "Succeeded"

    def is_complete(name):
        job = stage.cluster.find("-n", NAMESPACE, "job", name) or {}
        conditions = job.get("status", {}).get("conditions", [])
        return any(it["type"] == "Complete" and it["status"] == "True" for it in conditions)

    ways = [
        ("TrainingJob, undisturbed", "calm", (stage.job("calm", WORK),), "trainyard.dev/job", has_succeeded, []),
        ("plain Job, undisturbed", "plain-calm", plain(stage, "plain-calm", claim), "job-name", is_complete, []),
        ("TrainingJob, store on a volume", "ours", (stage.job("ours", WORK),), "trainyard.dev/job", has_succeeded, planned),
        ("plain Job, checkpoints on a volume", "claimed", plain(stage, "claimed", claim), "job-name", is_complete, planned),
        (
            "plain Job, checkpoints on the pod's disk", "plain",
            plain(stage, "plain", {"name": "checkpoints", "emptyDir": {}}), "job-name", is_complete, planned,
        ),
    ]
    rows = []
    with stage.prepared():
        # Images are unpacked at their first use on a node.
        run(stage, "first", (stage.job("first", dataclasses.replace(WORK, steps=2)),), "trainyard.dev/job", lambda: has_succeeded("first"), [])
        for way, name, objects, label, is_over, interruptions in ways:
            told = run(stage, name, objects, label, lambda: is_over(name), interruptions)
            rows.append(told.row(way))
            print(rows[-1], flush=True)
    print(f"\nseed {options.seed}: " + ", ".join(f"{at:.0f} s worker {rank} {kind}" for at, kind, rank in planned))
    print(f"steps alone: {WORK.steps * WORK.pause:.0f} s, a checkpoint every {WORK.every * WORK.pause:.0f} s\n")
    print("| what | s | goodput | s to the first step | s without steps | s after the last | interruptions that hit | steps done again for each | result |")
    print("|---|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
