"""The API server, over HTTPS with the kubeconfig's own certificate: for what kubectl is too slow
for, or does not show."""

import base64
import http.client
import json
import ssl
import subprocess
import tempfile
import time
import urllib.parse

# Not ours to compare: they differ from run to run though nothing of the content does.
VOLATILE_METADATA = (
    "uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink",
)


class ApiError(Exception):
    def __init__(self, code, body):
        super().__init__(f"{code}: {body[:300]}")
        self.code, self.body = code, body


class Api:
    """One administrator."""

    def __init__(self):
        view = ["kubectl", "config", "view", "--raw", "--minify", "--flatten", "-o", "json"]
        config = json.loads(subprocess.check_output(view))
        cluster = config["clusters"][0]["cluster"]
        user = config["users"][0]["user"]
        self.server = urllib.parse.urlsplit(cluster["server"])
        self.context = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        with tempfile.NamedTemporaryFile() as file:
            for part in ("client-certificate-data", "client-key-data"):
                file.write(base64.b64decode(user[part]) + b"\n")
            file.flush()
            self.context.load_cert_chain(file.name)
        self.connection = None

    def call(self, method, path, body=None, kind="application/json"):
        data = None if body is None else json.dumps(body)
        for attempt in (1, 2):
            if self.connection is None:
                self.connection = http.client.HTTPSConnection(
                    self.server.hostname, self.server.port, context=self.context, timeout=30
                )
            try:
                self.connection.request(method, path, data, {"Content-Type": kind})
                answer = self.connection.getresponse()
                text = answer.read().decode()
                break
            except (http.client.HTTPException, OSError):
                # A connection that was closed while it idled; anything else fails again.
                self.connection = None
                if attempt == 2:
                    raise
        if answer.status >= 400:
            raise ApiError(answer.status, text)
        return text

    def get(self, path):
        return json.loads(self.call("GET", path))

    def find(self, path):
        try:
            return self.get(path)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def apply(self, path, body, manager="tests"):
        query = f"{path}?fieldManager={manager}&force=true"
        return json.loads(self.call("PATCH", query, body, "application/apply-patch+yaml"))

    def merge(self, path, body):
        return json.loads(self.call("PATCH", path, body, "application/merge-patch+json"))

    def delete(self, path):
        try:
            self.call("DELETE", path, {"propagationPolicy": "Background"})
        except ApiError as error:
            if error.code != 404:
                raise


OWNED = {
    "serviceaccounts": "/api/v1",
    "configmaps": "/api/v1",
    "services": "/api/v1",
    "deployments": "/apis/apps/v1",
    "controllerrevisions": "/apis/apps/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "networkpolicies": "/apis/networking.k8s.io/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
}
DECLARED = "/apis/trainyard.dev/v1alpha1"
SELECTOR = urllib.parse.quote("app.kubernetes.io/managed-by=trainyard")


def path(resource, namespace, name=None):
    prefix = OWNED.get(resource, DECLARED)
    whole = f"{prefix}/namespaces/{namespace}/{resource}"
    return whole if name is None else f"{whole}/{name}"


def owned(api, namespace):
    """Every object of ours in a namespace: {(resource, name): object}."""
    found = {}
    for resource in OWNED:
        listed = api.get(f"{path(resource, namespace)}?labelSelector={SELECTOR}")
        for item in listed["items"]:
            found[resource, item["metadata"]["name"]] = item
    return found


def content(objects):
    """What is left of objects when all is taken away that no two runs share."""
    kept = {}
    for key, item in objects.items():
        item = json.loads(json.dumps(item))
        metadata = item["metadata"]
        for field in VOLATILE_METADATA:
            metadata.pop(field, None)
        for owner in metadata.get("ownerReferences", ()):
            owner.pop("uid")
        metadata.get("annotations", {}).pop("trainyard.dev/applied", None)
        metadata.get("annotations", {}).pop("deployment.kubernetes.io/revision", None)
        item.pop("status", None)
        if key[0] == "services":
            for field in ("clusterIP", "clusterIPs"):
                item["spec"].pop(field, None)
        if key[0] == "controllerrevisions":
            # How often a revision was gone back to depends on when the operator looked.
            item.pop("revision")
        kept[key] = item
    return kept


def until(what, check, patience=60, pause=0.2):
    """Waits for `check` to give something true, and returns it."""
    deadline = time.monotonic() + patience
    while True:
        seen = check()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {patience} s")
        time.sleep(pause)


def condition(service, kind):
    for found in service.get("status", {}).get("conditions", ()):
        if found["type"] == kind:
            return found
    return {"status": "Unknown", "reason": "", "message": ""}
