package main

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Matches of the destination's port; one that matches all where no port is named.
//
// A name is looked up among the ports of target, the pod that packets go to; where it has none of
// that name and protocol, nothing is matched.
func portMatches(ports []networkingv1.NetworkPolicyPort, target *corev1.Pod) (found []string) {
	if len(ports) == 0 {
		return []string{""}
	}
	for _, port := range ports {
		protocol := corev1.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		name := strings.ToLower(string(protocol))
		switch {
		case port.Port == nil:
			found = append(found, "meta l4proto "+name)
		case port.Port.Type == intstr.String:
			for _, number := range numbersOf(target, port.Port.StrVal, protocol) {
				found = append(found, fmt.Sprintf("%s dport %d", name, number))
			}
		case port.EndPort != nil && *port.EndPort > port.Port.IntVal:
			found = append(found, fmt.Sprintf("%s dport %d-%d", name, port.Port.IntVal, *port.EndPort))
		default:
			found = append(found, fmt.Sprintf("%s dport %d", name, port.Port.IntVal))
		}
	}
	return found
}

func numbersOf(pod *corev1.Pod, name string, protocol corev1.Protocol) (numbers []int32) {
	if pod == nil {
		return nil
	}
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			is := port.Protocol
			if is == "" {
				is = corev1.ProtocolTCP
			}
			if port.Name == name && is == protocol {
				numbers = append(numbers, port.ContainerPort)
			}
		}
	}
	return numbers
}
