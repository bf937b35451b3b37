"""What `trainyard lint --emit-policy` prints, at a real API server: the examples of each rule's page
are refused, or warned of, as the rule reports them."""

import re

import pytest
import yaml
from conftest import BINARY, HAS_POLICIES, ROOT, workload
from running import run

pytestmark = pytest.mark.skipif(not HAS_POLICIES, reason="this Kubernetes has no ValidatingAdmissionPolicies")

NAMESPACE = "policies"

POLICIES = list(yaml.safe_load_all(run([BINARY, "lint", "--emit-policy"], cwd=ROOT).stdout))
RULES = [it["metadata"]["annotations"]["trainyard.dev/rule"] for it in POLICIES
         if it["kind"] == "ValidatingAdmissionPolicy"]
ACTIONS = {it["spec"]["policyName"]: it["spec"]["validationActions"] for it in POLICIES
           if it["kind"] == "ValidatingAdmissionPolicyBinding"}


def examples(rule):
    """Of a rule's page: names and Pods, and whether the policy must see a mistake."""
    page = (ROOT / f"docs/rules/{rule}.md").read_text()
    (section,) = re.findall(r"## As an admission policy\n(.*)\n", page)
    missed = re.findall(r'"([^"]+)"', section.partition("It lets pass:")[2])
    for name, text, verdict in re.findall(r"## Example: ([^\n]+)\n```yaml\n(.*?)```\n([^\n]+)", page, re.DOTALL):
        pods = [it for it in yaml.safe_load_all(text) if it["kind"] == "Pod"]
        # Other kinds are in the examples with what a rule reads alone, which the API server refuses.
        if pods:
            yield name, pods[-1], verdict != "fine" and name not in missed


CASES = [(rule, *example) for rule in RULES for example in examples(rule)]


@pytest.fixture(scope="module")
def policies(cluster):
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.apply(*POLICIES)
    # The API server reads policies some moments after it has stored them.
    for rule in RULES:
        bad = next(pod for id, _, pod, is_bad in CASES if id == rule and is_bad)
        cluster.until(f"{rule} is in force", lambda: said(cluster, rule, bad), 60)
    yield cluster
    cluster.kubectl("delete", "-f", "-", stdin=yaml.safe_dump_all(POLICIES))
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def create(cluster, item, namespace=NAMESPACE):
    return cluster.kubectl("create", "--dry-run=server", "-n", namespace, "-f", "-",
                           stdin=yaml.safe_dump(item), check=False)


def said(cluster, rule, item, namespace=NAMESPACE):
    """Whether the rule's policy objects, and in the way that its level asks for."""
    done = create(cluster, item, namespace)
    name = f"trainyard-{rule.lower()}"
    objects = f"'{name}'" in done.stderr and f"{rule}: " in done.stderr
    if objects:
        denied = f"ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request" in done.stderr
        assert denied == ("Deny" in ACTIONS[name]), done.stderr
        assert denied == (done.returncode != 0), done.stderr
        assert f"docs/rules/{rule}.md" in done.stderr
    return objects


@pytest.mark.parametrize("rule, name, pod, is_bad", CASES, ids=[f"{it[0]}-{it[1]}" for it in CASES])
def test_examples_of_the_page(policies, rule, name, pod, is_bad):
    assert said(policies, rule, pod) == is_bad


@pytest.mark.parametrize("kind", ["Deployment", "Job", "CronJob"])
def test_templates_of_workloads(policies, kind):
    for rule in RULES:
        for id, _, pod, is_bad in CASES:
            if id == rule and is_bad:
                assert said(policies, rule, workload(kind, pod)), (rule, kind)
                break


def test_what_is_ignored_or_the_systems_own_passes(policies):
    (pod,) = [pod for rule, name, pod, _ in CASES if (rule, name) == ("SRV13", "a token in plain text")]
    ignored = {**pod, "metadata": {"name": "a", "annotations": {"trainyard.dev/ignore-srv13": "a test"}}}
    assert said(policies, "SRV13", pod)
    assert not said(policies, "SRV13", ignored)
    assert not said(policies, "SRV13", pod, "kube-system")


def test_what_was_there_before_can_be_changed_and_deleted(policies):
    """A policy that comes later must not hold up labels, finalizers and the like."""
    (pod,) = [pod for rule, name, pod, _ in CASES if (rule, name) == ("SRV13", "a token in plain text")]
    deployment = workload("Deployment", pod)
    deployment["spec"]["replicas"] = 0
    binding = next(it for it in POLICIES if it["kind"].endswith("Binding") and "srv13" in it["metadata"]["name"])
    policies.kubectl("delete", "validatingadmissionpolicybinding", binding["metadata"]["name"])
    policies.until("the policy is off", lambda: not said(policies, "SRV13", deployment), 60)
    policies.kubectl("create", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump(deployment))
    policies.apply(binding)
    policies.until("the policy is on", lambda: said(policies, "SRV13", pod), 60)
    policies.kubectl("label", "deployment", "a", "-n", NAMESPACE, "team=x")
    refused = policies.kubectl("set", "env", "deployment/a", "-n", NAMESPACE, "HF_TOKEN=hf_other", check=False)
    assert refused.returncode != 0 and "SRV13" in refused.stderr
    policies.kubectl("delete", "deployment", "a", "-n", NAMESPACE)
