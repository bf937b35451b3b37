package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// World is what policies are decided from.
type World struct {
	Pods []*corev1.Pod
	// Labels by namespace.
	Namespaces map[string]map[string]string
	Policies   []*networkingv1.NetworkPolicy
}

const table = "trainyard_netpol"

// Rules returns the nftables script that guards the pods of a node. Equal worlds give equal text.
//
// A packet is looked at where it is forwarded: traffic between a node's own processes, kubelet's
// probes among them, and its pods is not, and always passes. Addresses are those behind Services.
func Rules(world World, node string) string {
	world = world.sorted()
	var egress, ingress, chains strings.Builder
	for _, pod := range world.Pods {
		if pod.Spec.NodeName != node {
			continue
		}
		address := pod.Status.PodIP
		if lines, isolated := world.egress(pod); isolated {
			fmt.Fprintf(&egress, "    %s : goto egress_%s,\n", address, chainName(address))
			writeChain(&chains, "egress_"+chainName(address), pod, lines)
		}
		if lines, isolated := world.ingress(pod); isolated {
			fmt.Fprintf(&ingress, "    %s : goto ingress_%s,\n", address, chainName(address))
			writeChain(&chains, "ingress_"+chainName(address), pod, lines)
		}
	}

	var script strings.Builder
	// Made if it is not there, so that it can be removed whether it was or not.
	fmt.Fprintf(&script, "table ip %s {}\ndelete table ip %s\ntable ip %s {\n", table, table, table)
	script.WriteString(chains.String())
	writeJumps(&script, "egress", "saddr", egress.String())
	writeJumps(&script, "ingress", "daddr", ingress.String())
	script.WriteString(`  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    jump egress
    jump ingress
  }
}
`)
	return script.String()
}

func writeChain(script *strings.Builder, name string, pod *corev1.Pod, lines []string) {
	fmt.Fprintf(script, "  chain %s { # %s/%s\n", name, pod.Namespace, pod.Name)
	for _, line := range lines {
		fmt.Fprintf(script, "    %s\n", line)
	}
	script.WriteString("    drop\n  }\n")
}

// A chain that sends each isolated pod's packets to the pod's own chain, and lets others pass.
func writeJumps(script *strings.Builder, name, field, elements string) {
	fmt.Fprintf(script, "  chain %s {\n", name)
	if elements != "" {
		fmt.Fprintf(script, "    ip %s vmap {\n%s    }\n", field, elements)
	}
	script.WriteString("  }\n")
}

func chainName(address string) string { return strings.ReplaceAll(address, ".", "_") }

// Only pods with an address of their own, in an order that does not change.
func (world World) sorted() World {
	pods := slices.DeleteFunc(slices.Clone(world.Pods), func(pod *corev1.Pod) bool {
		isOver := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		address, err := netip.ParseAddr(pod.Status.PodIP)
		return isOver || pod.Spec.HostNetwork || err != nil || !address.Is4()
	})
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	policies := slices.Clone(world.Policies)
	slices.SortFunc(policies, func(a, b *networkingv1.NetworkPolicy) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return World{Pods: pods, Namespaces: world.Namespaces, Policies: policies}
}

// The rules that let packets into a pod, and whether any policy isolates it.
func (world World) ingress(pod *corev1.Pod) (lines []string, isolated bool) {
	for _, policy := range world.Policies {
		if !selects(policy, pod) || !hasType(policy, networkingv1.PolicyTypeIngress) {
			continue
		}
		isolated = true
		for _, rule := range policy.Spec.Ingress {
			peers := world.peers(policy.Namespace, rule.From, "saddr")
			// The port is the guarded pod's own.
			ports := portMatches(rule.Ports, pod)
			lines = append(lines, combine(peers, ports)...)
		}
	}
	return lines, isolated
}

// The rules that let packets out of a pod, and whether any policy isolates it.
func (world World) egress(pod *corev1.Pod) (lines []string, isolated bool) {
	for _, policy := range world.Policies {
		if !selects(policy, pod) || !hasType(policy, networkingv1.PolicyTypeEgress) {
			continue
		}
		isolated = true
		for _, rule := range policy.Spec.Egress {
			peers := world.peers(policy.Namespace, rule.To, "daddr")
			numbered, named := splitPorts(rule.Ports)
			if len(rule.Ports) == 0 || len(numbered) > 0 {
				lines = append(lines, combine(peers, portMatches(numbered, nil))...)
			}
			// A name means another number at each destination.
			for _, port := range named {
				lines = append(lines, world.namedEgress(policy.Namespace, rule.To, port)...)
			}
		}
	}
	return lines, isolated
}

func (world World) namedEgress(
	namespace string, to []networkingv1.NetworkPolicyPeer, port networkingv1.NetworkPolicyPort,
) (lines []string) {
	for _, target := range world.Pods {
		isPeer := len(to) == 0 || slices.ContainsFunc(to, func(peer networkingv1.NetworkPolicyPeer) bool {
			return world.isPeer(namespace, peer, target)
		})
		if !isPeer {
			continue
		}
		address := "ip daddr " + target.Status.PodIP
		ports := portMatches([]networkingv1.NetworkPolicyPort{port}, target)
		lines = append(lines, combine([]string{address}, ports)...)
	}
	return lines
}

func splitPorts(ports []networkingv1.NetworkPolicyPort) (numbered, named []networkingv1.NetworkPolicyPort) {
	for _, port := range ports {
		if port.Port != nil && port.Port.Type == intstr.String {
			named = append(named, port)
		} else {
			numbered = append(numbered, port)
		}
	}
	return numbered, named
}

// Every match of a peer with every match of a port; a packet that fits one passes.
func combine(peers, ports []string) (lines []string) {
	for _, peer := range peers {
		for _, port := range ports {
			lines = append(lines, strings.Join(strings.Fields(peer+" "+port+" return"), " "))
		}
	}
	return lines
}

func selects(policy *networkingv1.NetworkPolicy, pod *corev1.Pod) bool {
	return policy.Namespace == pod.Namespace && matches(&policy.Spec.PodSelector, pod.Labels)
}

// The API server fills the types in; an object that came in before it did is read the same way.
func hasType(policy *networkingv1.NetworkPolicy, wanted networkingv1.PolicyType) bool {
	if len(policy.Spec.PolicyTypes) > 0 {
		return slices.Contains(policy.Spec.PolicyTypes, wanted)
	}
	return wanted == networkingv1.PolicyTypeIngress || len(policy.Spec.Egress) > 0
}

// Matches of the packets' other end; one that matches all where no peer is named.
func (world World) peers(namespace string, peers []networkingv1.NetworkPolicyPeer, field string) (found []string) {
	if len(peers) == 0 {
		return []string{""}
	}
	var addresses []string
	for _, peer := range peers {
		if peer.IPBlock != nil {
			if block := blockMatch(peer.IPBlock, field); block != "" {
				found = append(found, block)
			}
			continue
		}
		for _, pod := range world.Pods {
			if world.isPeer(namespace, peer, pod) {
				addresses = append(addresses, pod.Status.PodIP)
			}
		}
	}
	if len(addresses) > 0 {
		slices.Sort(addresses)
		addresses = slices.Compact(addresses)
		found = append(found, fmt.Sprintf("ip %s { %s }", field, strings.Join(addresses, ", ")))
	}
	return found
}

// Whether a pod is meant by a peer with selectors; a block of addresses means none.
func (world World) isPeer(namespace string, peer networkingv1.NetworkPolicyPeer, pod *corev1.Pod) bool {
	if peer.IPBlock != nil {
		return false
	}
	if peer.NamespaceSelector == nil {
		if pod.Namespace != namespace {
			return false
		}
	} else if !matches(peer.NamespaceSelector, world.Namespaces[pod.Namespace]) {
		return false
	}
	return peer.PodSelector == nil || matches(peer.PodSelector, pod.Labels)
}

func blockMatch(block *networkingv1.IPBlock, field string) string {
	prefix, err := netip.ParsePrefix(block.CIDR)
	if err != nil || !prefix.Addr().Is4() {
		return "" // The cluster has no other family.
	}
	match := fmt.Sprintf("ip %s %s", field, prefix.Masked())
	var except []netip.Prefix
	for _, text := range block.Except {
		if prefix, err := netip.ParsePrefix(text); err == nil && prefix.Addr().Is4() {
			except = append(except, prefix.Masked())
		}
	}
	if except = disjoint(except); len(except) > 0 {
		texts := make([]string, len(except))
		for at, prefix := range except {
			texts[at] = prefix.String()
		}
		match += fmt.Sprintf(" ip %s != { %s }", field, strings.Join(texts, ", "))
	}
	return match
}

// Without prefixes that lie in others, which nftables refuses in one set.
func disjoint(prefixes []netip.Prefix) (kept []netip.Prefix) {
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		if a.Bits() != b.Bits() {
			return a.Bits() - b.Bits()
		}
		return a.Addr().Compare(b.Addr())
	})
	for _, prefix := range prefixes {
		if !slices.ContainsFunc(kept, func(wider netip.Prefix) bool { return wider.Overlaps(prefix) }) {
			kept = append(kept, prefix)
		}
	}
	return kept
}

func matches(selector *metav1.LabelSelector, set map[string]string) bool {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	// The API server has checked it; one that is wrong all the same selects nothing.
	return err == nil && parsed.Matches(labels.Set(set))
}
