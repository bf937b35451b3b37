"""How an operator copes with many services: prints what `docs/performance.md` shows.

`cargo xtask cluster exec -- python tests/cluster/operator/scale.py N` with TRAINYARD_BIN set. Services
have no replicas: what is measured is the operator, and the API server, not nodes.
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


def resident_mib(process):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def create(count, threads=8):
    def some(first):
        api = Api()
        for number in range(first, count, threads):
            name = f"s{number:05}"
            body = {
                "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {"model": {"uri": "s3://models/iris"}, "replicas": 0},
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


def told(api):
    """Services whose status says what is to be said of them in the end."""
    items = api.get(path("modelservices", NAMESPACE))["items"]
    return sum(condition(item, "Ready")["reason"] == "ScaledToZero" for item in items)


def rest(api, operator, count, patience):
    """Waits until nothing is left to do. Kubernetes' own controllers are slower than we are: a
    Deployment is looked at by one that makes 20 requests a second."""

    def still():
        if not settled(operator, count) or told(api) < count:
            return False
        before = operator.metric("trainyard_operator_writes_total")
        time.sleep(1)
        return operator.metric("trainyard_operator_writes_total") == before and settled(operator, count)

    until("rest", still, patience, 0.5)


def main(count):
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=subprocess.check_output([TRAINYARD, "crds"], text=True))
    kubectl("create", "namespace", NAMESPACE)
    api = Api()
    figures = {"services": count}
    with tempfile.TemporaryDirectory() as folder:
        operator = Operator(NAMESPACE, pathlib.Path(folder), rights=False)
        try:
            operator.start()
            until("the lease", operator.leads, 30)
            figures["MiB with none"] = round(resident_mib(operator.process), 1)
            started = time.monotonic()
            create(count)
            figures["s to create"] = round(time.monotonic() - started, 1)
            rest(api, operator, count, 3600)
            figures["s to converge"] = round(time.monotonic() - started - 1, 1)
            requests = operator.metric("rest_client_requests_total")
            figures["requests a service"] = round(requests / count, 2)
            figures["writes a service"] = round(operator.metric("trainyard_operator_writes_total") / count, 2)
            figures["MiB"] = round(resident_mib(operator.process), 1)
            before = operator.metric("trainyard_operator_writes_total")
            time.sleep(60)
            figures["writes a minute"] = operator.metric("trainyard_operator_writes_total") - before
            operator.stop()
            started = time.monotonic()
            operator.start(wait=False)
            until("an answer", operator.is_ready, 300, 0.05)
            rest(api, operator, count, 600)
            figures["s from start to rest"] = round(time.monotonic() - started - 1, 1)
            figures["writes after a start"] = operator.metric("trainyard_operator_writes_total")
            figures["MiB after a start"] = round(resident_mib(operator.process), 1)
            print(json.dumps(figures, indent=1))
        finally:
            operator.kill()
            kubectl("delete", "namespace", NAMESPACE, "--wait=false")


if __name__ == "__main__":
    main(int(sys.argv[1]))
