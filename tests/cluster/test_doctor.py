"""`trainyard doctor` finds what is really wrong in a cluster, and nothing else on the same objects."""

import json

import pytest
from conftest import AGNHOST, BINARY, labelled

# Extended resources that nobody makes: two nodes with four of one, one node with two of another.
WIDGET, GADGET = "example.com/widget", "example.com/gadget"
GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"
# So that a CPU pod has one node, and a GPU pod needs a toleration.
TAINT = "nvidia.com/gpu=present:NoSchedule"
TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}

NEVER = "never-to-be-seen-Zx81"


def container(image=AGNHOST, limits=None, **fields):
    fields.setdefault("args", ["pause"])
    if limits:
        fields["resources"] = {"limits": {name: str(amount) for name, amount in limits.items()}}
    return {"name": "main", "image": image, "imagePullPolicy": "Never", **fields}


def spec(*arguments, tolerates=False, pod=None, **fields):
    tolerations = {"tolerations": [TOLERATION]} if tolerates else {}
    return {
        "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False,
        "containers": [container(*arguments, **fields)], **tolerations, **(pod or {}),
    }


def deployment(namespace, name, pod, **fields):
    return labelled("Deployment", "apps/v1", namespace, name, {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod}, **fields,
    })


def refuse(namespace):
    """A webhook that nobody answers."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"{namespace}-refuse"},
        "webhooks": [{
            "name": "policy.doctor.dev", "failurePolicy": "Fail", "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "timeoutSeconds": 2,
            "clientConfig": {"service": {"name": "nobody", "namespace": namespace, "path": "/"}, "caBundle": ""},
            "objectSelector": {"matchLabels": {"app": "hooked"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
        }],
    }


def objects(namespace, image):
    """What is wrong, by the object that is to be reported."""
    pod = lambda name, body, **labels: labelled("Pod", "v1", namespace, name, body, **labels)
    ours = f"{namespace}/"
    probe = {"httpGet": {"path": "/", "port": 9}, "periodSeconds": 1, "failureThreshold": 2}
    gang = {"app": "gang", "scheduling.x-k8s.io/pod-group": "gang"}
    port = {"ports": [{"containerPort": 7, "hostPort": 39071}]}
    return {
        # Pending
        ("D01", f"Pod/{ours}second"): [
            pod("first", spec(limits={GPU: 1}, tolerates=True)),
            pod("second", spec(limits={GPU: 1}, tolerates=True)),
        ],
        ("D02", f"Pod/{ours}mig"): [pod("mig", spec(limits={"nvidia.com/mig-1g.5gb": 1}, tolerates=True))],
        ("D03", f"Pod/{ours}intolerant"): [pod("intolerant", spec(limits={GPU: 1}))],
        ("D04", f"Pod/{ours}labelled"): [pod("labelled", spec(pod={"nodeSelector": {"accelerator": "a100"}}))],
        ("D04", f"Pod/{ours}port-b"): [pod("port-a", spec(**port)), pod("port-b", spec(**port))],
        ("D05", f"Pod/{ours}large"): [pod("large", spec(limits={SHARED: 8}, tolerates=True))],
        ("D06", f"Pod/{ours}block"): [
            deployment(namespace, "small-a", spec(limits={WIDGET: 2}, tolerates=True, pod={"nodeSelector": {"kubernetes.io/hostname": "node-1"}})),
            deployment(namespace, "small-b", spec(limits={WIDGET: 2}, tolerates=True, pod={"nodeSelector": {"kubernetes.io/hostname": "node-2"}})),
        ],
        ("D08", f"Pod/{ours}gated"): [pod("gated", spec(pod={"schedulingGates": [{"name": "doctor.dev/wait"}]}))],
        ("D09", f"PodGroup/{ours}gang"): [
            pod("gang-0", spec(limits={GADGET: 2}), **gang), pod("gang-1", spec(limits={GADGET: 2}), **gang),
        ],
        ("D10", f"Deployment/{ours}quota"): [
            {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace},
             "spec": {"hard": {"requests.example.com/quota": "0"}}},
            deployment(namespace, "quota", spec(limits={"example.com/quota": 1})),
        ],
        ("D11", f"Deployment/{ours}hooked"): [refuse(namespace), deployment(namespace, "hooked", spec())],
        # Not started
        ("D18", f"Pod/{ours}absent"): [pod("absent", spec("localhost/nobody/has:1"))],
        ("D20", f"Pod/{ours}mount"): [pod("mount", spec(
            volumeMounts=[{"name": "tls", "mountPath": "/tls"}],
            pod={"volumes": [{"name": "tls", "secret": {"secretName": "nowhere"}}]},
        ))],
        ("D20", f"Pod/{ours}claim"): [pod("claim", spec(
            pod={"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "nowhere"}}]},
        ))],
        ("D21", f"Pod/{ours}secret"): [pod("secret", spec(
            env=[{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "nowhere", "key": "token"}}}],
        ))],
        # Dies
        ("D23", f"Pod/{ours}slow"): [pod("slow", spec(startupProbe=probe))],
        ("D24", f"Pod/{ours}hungry"): [pod("hungry", spec(
            image, limits={"memory": "64Mi"}, args=["doctor", "--from", "/dev/zero"],
        ))],
        ("D32", f"Pod/{ours}alone"): [
            labelled("NetworkPolicy", "networking.k8s.io/v1", namespace, "closed",
                     {"podSelector": {"matchLabels": {"app": "alone"}}, "policyTypes": ["Egress"]}),
            pod("alone", spec(
                image, args=["fetch", "https://models.example.com/m.onnx", "--to", "/m/model", "--cache", "/m/cache"],
                volumeMounts=[{"name": "m", "mountPath": "/m"}],
                pod={"volumes": [{"name": "m", "emptyDir": {}}], "securityContext": {"fsGroup": 65532}},
            )),
        ],
        # Runs
        ("D43", f"HorizontalPodAutoscaler/{ours}blind"): [
            deployment(namespace, "blind", spec()),
            labelled("HorizontalPodAutoscaler", "autoscaling/v2", namespace, "blind", {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "blind"},
                "minReplicas": 1, "maxReplicas": 2,
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}],
            }),
        ],
    }


def doctor(cluster, *arguments, codes=(0, 1)):
    done = cluster.exec(BINARY, "doctor", "-o", "json", *arguments, check=False)
    assert done.returncode in codes, done.stdout + done.stderr
    assert NEVER not in done.stdout + done.stderr
    return json.loads(done.stdout)


def name_of(reference):
    parts = [reference["kind"], reference.get("namespace", ""), reference["name"]]
    return "/".join(part for part in parts if part)


def found(answer):
    """Diagnoses by the object that is reported."""
    return {(it["diagnosis"], name_of(it["object"])) for it in answer["findings"]}


@pytest.fixture(scope="module")
def sick(cluster, namespace, image):
    for node, resources in {"node-1": {WIDGET: "4"}, "node-2": {WIDGET: "4", GADGET: "3"}}.items():
        patch = {"status": {"capacity": resources}}
        cluster.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", json.dumps(patch))
    cluster.xtask("chaos", "taint", "node-1", TAINT)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": namespace},
              "stringData": {"token": NEVER}}
    wrong = objects(namespace, image)
    try:
        cluster.apply(secret)
        # In this order: the first of two takes what the second waits for.
        for list_ in wrong.values():
            for item in list_:
                cluster.apply(item)
        # An update that needs a share more than there is.
        shares = spec(limits={SHARED: 3})
        cluster.apply(deployment(namespace, "rolling", shares))
        cluster.until("the first revision", lambda: cluster.ready_pods(namespace, "app=rolling"))
        cluster.apply(deployment(namespace, "rolling", {**shares, "hostname": "second"}))
        # Once the small ones are where they are.
        for small in ("small-a", "small-b"):
            cluster.until(small, lambda: cluster.ready_pods(namespace, f"app={small}"))
        cluster.apply(labelled("Pod", "v1", namespace, "block", spec(limits={WIDGET: 3}, tolerates=True)))
        yield {*wrong, ("D14", f"Deployment/{namespace}/rolling")}
    finally:
        cluster.kubectl("delete", "validatingwebhookconfiguration", f"{namespace}-refuse", "--ignore-not-found")
        cluster.xtask("chaos", "taint", "node-1", "nvidia.com/gpu:NoSchedule-", check=False)


def test_each_is_found_and_nothing_else(cluster, namespace, sick):
    last = {}
    blind = ("D43", f"HorizontalPodAutoscaler/{namespace}/blind")

    def all_found():
        last["answer"] = answer = doctor(cluster, "-n", namespace)
        # Kubernetes tells of the request that is missing once the metrics are there, and before that only of these.
        causes = [json.dumps(it) for it in answer["findings"] if (it["diagnosis"], name_of(it["object"])) == blind]
        return sick <= found(answer) and "missing request for cpu" in "".join(causes)

    try:
        cluster.until("all diagnoses", all_found, seconds=240)
    except AssertionError as error:
        raise AssertionError(f"missing: {sick - found(last['answer'])}\n{error}") from error
    answer = last["answer"]
    others = {it for it in found(answer) - sick if not it[1].startswith("Node/")}
    assert others == set(), [it for it in answer["findings"] if (it["diagnosis"], name_of(it["object"])) in others]
    for finding in answer["findings"]:
        assert finding["evidence"] and finding["fix"], finding
    said = {name_of(it["object"]): it for it in answer["findings"]}
    text = lambda name: json.dumps(said[f"{name[0]}/{namespace}/{name[1]}"])
    assert "has the taint `nvidia.com/gpu=present:NoSchedule`" in text(("Pod", "intolerant"))
    assert "and then free 1 of `nvidia.com/gpu`" in text(("Pod", "intolerant"))
    # The node says the same by another label.
    assert "NVIDIA-A100-SXM4-80GB" in text(("Pod", "labelled"))
    assert f"Pod/{namespace}/first" in text(("Pod", "second"))
    assert "largest free block of `example.com/widget` is 2" in text(("Pod", "block"))
    assert "policy.doctor.dev" in text(("Deployment", "hooked"))
    assert "create secret generic nowhere" in text(("Pod", "secret"))
    assert f"NetworkPolicy/{namespace}/closed" in text(("Pod", "alone"))


def test_the_advice_helps(cluster, namespace, sick):
    """What it tells to do about the taint lets the pod in, were the GPU free."""
    answer = doctor(cluster, "pod/intolerant", "-n", namespace)
    (fix,) = [fix for finding in answer["findings"] for fix in finding["fix"] if fix["how"] == "patch"]
    cluster.kubectl("-n", namespace, "delete", "pod", "first", "second")
    cluster.exec("sh", "-c", fix["command"])
    cluster.until("the pod to run", lambda: cluster.ready_pods(namespace, "app=intolerant"))
    cluster.until(
        "the diagnosis to go",
        lambda: not doctor(cluster, "pod/intolerant", "-n", namespace)["findings"],
    )


def test_a_snapshot_tells_the_same_and_holds_no_secret(cluster, namespace, sick, tmp_path):
    path = tmp_path / "snapshot.json"
    cluster.exec(BINARY, "doctor", "-n", namespace, "--collect", path)
    text = path.read_text()
    assert NEVER not in text and "managedFields" not in text
    snapshot = json.loads(text)
    assert not any(it["kind"] == "Secret" for it in snapshot["objects"])
    live = found(doctor(cluster, "-n", namespace))
    dumped = found(doctor(cluster, "--from", path, "-n", namespace))
    quiet = {it for it in sick if it[0] in ("D03", "D04", "D05", "D10", "D14", "D18", "D21", "D43")}
    assert quiet & live == quiet & dumped and quiet & live
    # What kubectl prints is enough for much of it.
    dump = cluster.kubectl("get", "pods,nodes,events,deployments,replicasets", "-n", namespace, "-o", "yaml").stdout
    (tmp_path / "dump.yaml").write_text(dump)
    from_kubectl = doctor(cluster, "--from", tmp_path / "dump.yaml")
    assert ("D05", f"Pod/{namespace}/large") in found(from_kubectl)
    assert any("no logs" in it["reason"] for it in from_kubectl["unknown"])


def test_an_account_with_few_rights_is_told_what_it_cannot_know(cluster, namespace, sick, tmp_path):
    cluster.kubectl("create", "serviceaccount", "viewer", "-n", namespace)
    cluster.kubectl("create", "role", "viewer", "-n", namespace, "--verb=list", "--resource=pods,events")
    cluster.kubectl("create", "rolebinding", "viewer", "-n", namespace, "--role=viewer",
                    f"--serviceaccount={namespace}:viewer")
    token = cluster.kubectl("create", "token", "viewer", "-n", namespace).stdout.strip()
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json").stdout)
    config["users"][0]["user"] = {"token": token}
    (tmp_path / "config").write_text(json.dumps(config))
    answer = doctor(cluster, "-n", namespace, "--kubeconfig", tmp_path / "config")
    assert ("D18", f"Pod/{namespace}/absent") in found(answer)
    unknown = {it["diagnosis"]: it["reason"] for it in answer["unknown"]}
    assert "nodes is forbidden" in unknown["D01"] and "pods of other namespaces" in unknown["D01"]
    assert "pods/log" in unknown["D25"]
    assert "D18" not in unknown
    # Nothing found where little could be looked at is no health.
    cluster.exec(BINARY, "doctor", "pod/port-a", "-n", namespace, "--kubeconfig", tmp_path / "config", check=False)
    answer = doctor(cluster, "pod/port-a", "-n", namespace, "--kubeconfig", tmp_path / "config", codes=(2,))
    assert answer["findings"] == []


def test_people_read_it_and_kubectl_runs_it(cluster, namespace, sick, tmp_path):
    done = cluster.exec(BINARY, "doctor", "pod/labelled", "-n", namespace, check=False)
    assert done.returncode == 1 and "error[D04]" in done.stdout and "nvidia.com/gpu.product" in done.stdout
    (tmp_path / "kubectl-trainyard").symlink_to(BINARY)
    script = f'PATH="{tmp_path}:$PATH" exec kubectl trainyard doctor "$@"'
    done = cluster.exec("sh", "-c", script, "sh", "-n", namespace, "pod/labelled", check=False)
    assert done.returncode == 1 and "error[D04]" in done.stdout
    done = cluster.exec(BINARY, "doctor", "pod/nobody", "-n", namespace, check=False)
    assert done.returncode == 2 and "NotFound" in done.stderr


def test_watch_tells_what_is_over(cluster, namespace, sick):
    script = 'timeout 40 "$@" & watcher=$!; sleep 8; kubectl -n $NS delete pod labelled >/dev/null; wait $watcher'
    done = cluster.exec("env", f"NS={namespace}", "sh", "-c", script, "sh",
                        BINARY, "doctor", "-n", namespace, "--watch", check=False)
    assert "error[D04]" in done.stdout
    assert f"over: D04 Pod/{namespace}/labelled" in done.stdout, done.stdout[-2000:] + done.stderr


def test_an_unhealthy_device(cluster, namespace):
    allocatable = lambda: cluster.get("node", "node-2")["status"]["allocatable"].get(SHARED)
    cluster.until("the shares", lambda: allocatable() == "4")
    for device in (0, 1):
        cluster.xtask("chaos", "gpu-health", "node-2", device, "unhealthy")
    try:
        cluster.until("no share left", lambda: allocatable() == "0")
        answer = doctor(cluster, "node/node-2")
        (finding,) = [it for it in answer["findings"] if it["object"]["kind"] == "Node"]
        assert finding["diagnosis"] == "D48" and "offers 0 of its 4" in finding["message"]
    finally:
        for device in (0, 1):
            cluster.xtask("chaos", "gpu-health", "node-2", device, "healthy")
    cluster.until("all shares", lambda: allocatable() == "4")
    assert not [it for it in doctor(cluster, "node/node-2")["findings"] if it["object"]["kind"] == "Node"]


def test_a_pod_that_probes_its_node_is_asked(cluster, namespace, image):
    unasked = lambda: [it for it in doctor(cluster, "node/node-2")["unknown"] if "no node was probed" in it["reason"]]
    assert unasked()
    args = ["agent", "--probe", "--every", "2s", "--node", "node-2"]
    probe = {"app": "probe", "trainyard.dev/probe": "true"}
    cluster.apply(labelled("Pod", "v1", namespace, "probe", spec(image, args=args), **probe))
    cluster.until("the probe to be read", lambda: not unasked(), seconds=60)
    log = cluster.kubectl("-n", namespace, "logs", "probe", "--tail", "1").stdout
    assert json.loads(log)["nvml"]["status"] == "missing"
    cluster.kubectl("-n", namespace, "delete", "pod", "probe")
