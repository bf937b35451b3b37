package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func pod(namespace, name, node, address string, ports ...corev1.ContainerPort) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Ports: ports}}},
		Status:     corev1.PodStatus{PodIP: address, Phase: corev1.PodRunning},
	}
}

func app(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

func port(protocol corev1.Protocol, value any, end int32) networkingv1.NetworkPolicyPort {
	port := networkingv1.NetworkPolicyPort{Protocol: &protocol}
	switch value := value.(type) {
	case int:
		number := intstr.FromInt(value)
		port.Port = &number
	case string:
		name := intstr.FromString(value)
		port.Port = &name
	}
	if end > 0 {
		port.EndPort = &end
	}
	return port
}

// What the guarded pod's chains hold under one policy of its namespace, joined by "; ".
func check(t *testing.T, name string, spec networkingv1.NetworkPolicySpec, ingress, egress string) {
	t.Helper()
	world := World{
		Pods: []*corev1.Pod{
			pod("x", "a", "node-1", "10.0.0.1", corev1.ContainerPort{Name: "web", ContainerPort: 8080}),
			pod("x", "b", "node-1", "10.0.0.2", corev1.ContainerPort{Name: "web", ContainerPort: 9090}),
			pod("y", "a", "node-2", "10.0.0.3"),
			pod("y", "b", "node-2", "10.0.0.4", corev1.ContainerPort{Name: "web", ContainerPort: 70, Protocol: corev1.ProtocolUDP}),
		},
		Namespaces: map[string]map[string]string{"x": {"ns": "x"}, "y": {"ns": "y"}},
	}
	spec.PodSelector = *app("a")
	world.Policies = []*networkingv1.NetworkPolicy{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "p"}, Spec: spec,
	}}
	rules := Rules(world, "node-1")
	for chain, expected := range map[string]string{"ingress_10_0_0_1": ingress, "egress_10_0_0_1": egress} {
		if seen := chainOf(rules, chain); seen != expected {
			t.Errorf("%s: %s is\n  %s, and not\n  %s", name, chain, seen, expected)
		}
	}
	for _, address := range []string{"10_0_0_2", "10_0_0_3", "10_0_0_4"} {
		if strings.Contains(rules, "gress_"+address) {
			t.Errorf("%s: %s is isolated", name, address)
		}
	}
}

func chainOf(rules, name string) string {
	_, rest, found := strings.Cut(rules, "chain "+name+" {")
	if !found {
		return "none"
	}
	body, _, _ := strings.Cut(rest, "}\n  chain")
	var lines []string
	for _, line := range strings.Split(body, "\n")[1:] {
		if line = strings.TrimSpace(line); line != "" && line != "}" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

func TestTable(t *testing.T) {
	type Spec = networkingv1.NetworkPolicySpec
	type In = networkingv1.NetworkPolicyIngressRule
	type Out = networkingv1.NetworkPolicyEgressRule
	type Peer = networkingv1.NetworkPolicyPeer
	both := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	block := &networkingv1.IPBlock{CIDR: "10.1.2.3/8", Except: []string{"10.1.0.0/16", "10.1.2.0/24"}}

	check(t, "nothing said is a closed door", Spec{}, "drop", "none")
	check(t, "both directions closed", Spec{PolicyTypes: both}, "drop", "drop")
	check(t, "egress rules imply egress", Spec{Egress: []Out{{}}}, "drop", "return; drop")
	check(t, "an empty rule allows all", Spec{Ingress: []In{{}}}, "return; drop", "none")
	check(t, "pods of the same namespace", Spec{Ingress: []In{{From: []Peer{{PodSelector: app("b")}}}}},
		"ip saddr { 10.0.0.2 } return; drop", "none")
	check(t, "pods of chosen namespaces",
		Spec{Ingress: []In{{From: []Peer{{
			PodSelector:       app("b"),
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"ns": "y"}},
		}}}}},
		"ip saddr { 10.0.0.4 } return; drop", "none")
	check(t, "all pods of all namespaces", Spec{Ingress: []In{{From: []Peer{{NamespaceSelector: &metav1.LabelSelector{}}}}}},
		"ip saddr { 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4 } return; drop", "none")
	check(t, "nobody is selected", Spec{Ingress: []In{{From: []Peer{{PodSelector: app("z")}}}}}, "drop", "none")
	check(t, "a block with exceptions", Spec{Ingress: []In{{From: []Peer{{IPBlock: block}}}}},
		"ip saddr 10.0.0.0/8 ip saddr != { 10.1.0.0/16 } return; drop", "none")
	check(t, "ports", Spec{Ingress: []In{{Ports: []networkingv1.NetworkPolicyPort{
		port("TCP", 80, 0), port("UDP", 53, 60), port("SCTP", nil, 0),
	}}}}, "tcp dport 80 return; udp dport 53-60 return; meta l4proto sctp return; drop", "none")
	check(t, "a named port is the guarded pod's", Spec{Ingress: []In{{Ports: []networkingv1.NetworkPolicyPort{port("TCP", "web", 0)}}}},
		"tcp dport 8080 return; drop", "none")
	check(t, "a name that the pod does not have", Spec{Ingress: []In{{Ports: []networkingv1.NetworkPolicyPort{port("TCP", "x", 0)}}}},
		"drop", "none")
	check(t, "a name of another protocol", Spec{Ingress: []In{{Ports: []networkingv1.NetworkPolicyPort{port("UDP", "web", 0)}}}},
		"drop", "none")
	check(t, "a named port is each destination's", Spec{PolicyTypes: both[1:], Egress: []Out{{Ports: []networkingv1.NetworkPolicyPort{port("TCP", "web", 0)}}}},
		"none", "ip daddr 10.0.0.1 tcp dport 8080 return; ip daddr 10.0.0.2 tcp dport 9090 return; drop")
	check(t, "named and numbered", Spec{PolicyTypes: both[1:], Egress: []Out{{
		To:    []Peer{{PodSelector: app("b")}},
		Ports: []networkingv1.NetworkPolicyPort{port("TCP", 443, 0), port("TCP", "web", 0)},
	}}}, "none", "ip daddr { 10.0.0.2 } tcp dport 443 return; ip daddr 10.0.0.2 tcp dport 9090 return; drop")
}

func TestPodsThatAreOverOrOnTheHostsNetworkAreNobody(t *testing.T) {
	over := pod("x", "a", "node-1", "10.0.0.1")
	over.Status.Phase = corev1.PodSucceeded
	host := pod("x", "b", "node-1", "10.0.0.2")
	host.Spec.HostNetwork = true
	world := World{Pods: []*corev1.Pod{over, host}, Policies: []*networkingv1.NetworkPolicy{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "x"},
	}}}
	if rules := Rules(world, "node-1"); strings.Contains(rules, "goto") {
		t.Error(rules)
	}
}

func TestTheOrderOfTheCacheDoesNotMatter(t *testing.T) {
	a, b := pod("x", "a", "node-1", "10.0.0.1"), pod("x", "b", "node-1", "10.0.0.2")
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "x"}}
	policies := []*networkingv1.NetworkPolicy{policy}
	one := Rules(World{Pods: []*corev1.Pod{a, b}, Policies: policies}, "node-1")
	two := Rules(World{Pods: []*corev1.Pod{b, a}, Policies: policies}, "node-1")
	if one != two {
		t.Errorf("%s\n%s", one, two)
	}
}
