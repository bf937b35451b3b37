"""How an operator copes with many services: prints what `docs/performance.md` shows.

`cargo xtask cluster exec -- python tests/cluster/operator/scale.py SERVICES [REPLICAS]` with
TRAINYARD_BIN set, in a cluster of `up --kwok N`: replicas are simulated, on nodes of 110 pods each.
Without replicas, what is measured is the operator and the API server alone.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import uuid

from api import Api, condition, path, until
from conftest import TRAINYARD, Operator, kubectl

NAMESPACE = f"ty-scale-{uuid.uuid4().hex[:6]}"


def mib(process, field="VmRSS"):
    """What the process holds now, or has held at most (VmHWM)."""
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(field):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


# Of kwok's nodes.
TOLERATIONS = [{"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}]


def create(count, replicas, threads=8):
    def some(first):
        api = Api()
        for number in range(first, count, threads):
            name = f"s{number:05}"
            body = {
                "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {
                    "model": {"uri": "s3://models/iris"}, "replicas": replicas,
                    "placement": {"nodeSelector": {"type": "kwok"}, "tolerations": TOLERATIONS},
                    "resources": {"cpu": "10m", "memory": "128Mi"},
                },
            }
            api.apply(path("modelservices", NAMESPACE, name), body)

    workers = [threading.Thread(target=some, args=(first,)) for first in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def settled(operator, count):
    """Every service was seen and none waits."""
    known = operator.metric("trainyard_operator_services") == count
    done = operator.metric("controller_runtime_reconcile_total") >= count
    idle = operator.metric("workqueue_depth") == 0 and operator.metric("controller_runtime_active_workers") == 0
    return known and done and idle


def told(api, replicas):
    """Services whose status says what is to be said of them in the end."""
    reason = "Serving" if replicas else "ScaledToZero"
    count, more = 0, ""
    while more is not None:
        page = api.get(f"{path('modelservices', NAMESPACE)}?limit=500&continue={more}")
        count += sum(condition(item, "Ready")["reason"] == reason for item in page["items"])
        more = page["metadata"].get("continue") or None
    return count


def rest(api, operator, count, replicas, patience):
    """Waits until nothing is left to do. Kubernetes' own controllers are slower than we are."""

    def still():
        if not settled(operator, count):
            return False
        before = operator.metric("trainyard_operator_writes_total")
        time.sleep(1)
        if operator.metric("trainyard_operator_writes_total") != before or not settled(operator, count):
            return False
        return told(api, replicas) == count

    until("rest", still, patience, 0.2)


def main(count, replicas):
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=subprocess.check_output([TRAINYARD, "crds"], text=True))
    kubectl("create", "namespace", NAMESPACE)
    api = Api()
    figures = {"services": count, "replicas": replicas}
    with tempfile.TemporaryDirectory() as folder:
        operator = Operator(NAMESPACE, pathlib.Path(folder), rights=False)
        try:
            operator.start()
            until("the lease", operator.leads, 30)
            figures["MiB with none"] = mib(operator.process)
            started = time.monotonic()
            create(count, replicas)
            figures["s to create"] = round(time.monotonic() - started, 1)
            rest(api, operator, count, replicas, 3600)
            figures["s to converge"] = round(time.monotonic() - started - 1, 1)
            requests = operator.metric("rest_client_requests_total")
            figures["requests a service"] = round(requests / count, 2)
            figures["writes a service"] = round(operator.metric("trainyard_operator_writes_total") / count, 2)
            figures["MiB"] = mib(operator.process)
            figures["MiB at most"] = mib(operator.process, "VmHWM")
            before = operator.metric("trainyard_operator_writes_total")
            time.sleep(60)
            figures["writes a minute"] = operator.metric("trainyard_operator_writes_total") - before
            operator.stop()
            started = time.monotonic()
            operator.start(wait=False)
            until("an answer", operator.is_ready, 300, 0.05)
            figures["s from start to all seen"] = round(time.monotonic() - started, 1)
            rest(api, operator, count, replicas, 600)
            figures["s from start to rest"] = round(time.monotonic() - started - 1, 1)
            figures["writes after a start"] = operator.metric("trainyard_operator_writes_total")
            figures["MiB after a start"] = mib(operator.process)
            figures["MiB after a start, at most"] = mib(operator.process, "VmHWM")
            print(json.dumps(figures, indent=1))
        finally:
            operator.kill()
            kubectl("delete", "namespace", NAMESPACE, "--wait=false")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
