"""What the API server's audit log says of writes (`cluster up --audit`)."""

import json
import os
import pathlib
import time

# Where a cluster keeps it, beside the kubeconfig's folder.
LOG = pathlib.Path(os.environ["KUBECONFIG"]).parent.parent / "log" / "audit.log"

# Kubernetes' own: controllers, nodes, the scheduler.
KUBERNETES = ("system:node:", "system:kube-", "system:serviceaccount:kube-system:", "system:apiserver")


def rest(*namespaces, seconds=12, patience=120):
    """Waits until nobody but Kubernetes itself has written anything in these namespaces for so long.

    Longer than an operator waits until it reads why a pod does not start, which changes a status.
    """
    start, began = ended(), time.monotonic()
    quiet_since, deadline = began, began + patience
    while time.monotonic() - quiet_since < seconds:
        time.sleep(0.5)
        end = ended()
        found = [line for line in writes(start, end, *namespaces) if not is_of_kubernetes(line)]
        start = end
        if found:
            quiet_since = time.monotonic()
            assert quiet_since < deadline, [told(line) for line in found]


def told(line):
    target, code = line["objectRef"], line["responseStatus"]["code"]
    return line["verb"], target["resource"], target.get("name"), target.get("subresource"), code


def ended():
    """Where the last whole line ends: the API server may be in the middle of another."""
    with open(LOG, "rb") as log:
        # Longer than any line.
        start = max(0, log.seek(0, os.SEEK_END) - (1 << 20))
        log.seek(start)
        return start + log.read().rfind(b"\n") + 1


def writes(start, end, *namespaces):
    """Who wrote what in these namespaces, by this part of the log."""
    # It begins anew at 100 MiB.
    start = start if start <= end else 0
    with open(LOG, "rb") as log:
        log.seek(start)
        lines = [json.loads(line) for line in log.read(end - start).splitlines()]
    return [line for line in lines if line.get("objectRef", {}).get("namespace") in namespaces]


def is_of_kubernetes(line):
    return line["user"]["username"].startswith(KUBERNETES)
