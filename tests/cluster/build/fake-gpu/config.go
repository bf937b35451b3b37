package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Config says which GPUs a node has.
type Config struct {
	Node string `json:"node"`
	// Where tests write health: one file a GPU, named after its number.
	HealthFolder string  `json:"healthFolder"`
	Groups       []Group `json:"groups"`
}

// Group is equal GPUs.
type Group struct {
	Count     int     `json:"count"`
	Product   string  `json:"product"`
	MemoryMiB int     `json:"memoryMiB"`
	Sharing   Sharing `json:"sharing"`
	// The device plugin alone gives them away.
	Unclaimed bool `json:"unclaimed"`
}

// Sharing is how a GPU becomes devices: exactly one of whole, shared and MIG.
type Sharing struct {
	Shared *Shared `json:"shared"`
	Mig    *Mig    `json:"mig"`
	// Several profiles, by a configuration of MIG manager.
	Profiles []Mig `json:"-"`
	// What keeps shares apart; MPS unless a configuration says otherwise.
	Strategy string `json:"-"`
}

// Shared is equal shares of a GPU.
type Shared struct {
	Replicas int `json:"replicas"`
}

// Mig is equal instances of a GPU.
type Mig struct {
	Profile string `json:"profile"`
	Count   int    `json:"count"`
}

func (sharing Sharing) instances() []Mig {
	if sharing.Mig != nil {
		return []Mig{*sharing.Mig}
	}
	return sharing.Profiles
}

// UnmarshalJSON also reads the bare word "whole".
func (sharing *Sharing) UnmarshalJSON(text []byte) error {
	if string(text) == `"whole"` {
		*sharing = Sharing{}
		return nil
	}
	type plain Sharing
	return json.Unmarshal(text, (*plain)(sharing))
}

// Resource is an extended resource and its devices.
type Resource struct {
	Name    string
	Devices []Device
}

// Device is what kubelet gives to one container.
type Device struct {
	ID string
	// The number of the GPU that it is, or is a part of.
	GPU int
	// What NVIDIA_VISIBLE_DEVICES names.
	UUID      string
	MemoryMiB int
	// Parts of the GPU, where it is shared; else 0.
	Replicas int
}

// Resources returns what the node advertises, by name.
func (config Config) Resources() []Resource {
	devices := map[string][]Device{}
	gpu := 0
	for _, group := range config.Groups {
		for range group.Count {
			uuid := uuid("GPU", config.Node, gpu, 0)
			switch {
			case group.Sharing.Shared != nil:
				replicas := group.Sharing.Shared.Replicas
				for replica := range replicas {
					devices["nvidia.com/gpu.shared"] = append(devices["nvidia.com/gpu.shared"], Device{
						ID: fmt.Sprintf("%s::%d", uuid, replica), GPU: gpu, UUID: uuid,
						MemoryMiB: group.MemoryMiB / replicas, Replicas: replicas,
					})
				}
			case len(group.Sharing.instances()) > 0:
				instance := 0
				for _, mig := range group.Sharing.instances() {
					name := "nvidia.com/mig-" + mig.Profile
					for range mig.Count {
						uuid := uuidOfInstance(config.Node, gpu, instance)
						devices[name] = append(devices[name], Device{
							ID: uuid, GPU: gpu, UUID: uuid, MemoryMiB: profileMemoryMiB(mig.Profile),
						})
						instance++
					}
				}
			default:
				devices["nvidia.com/gpu"] = append(devices["nvidia.com/gpu"], Device{
					ID: uuid, GPU: gpu, UUID: uuid, MemoryMiB: group.MemoryMiB,
				})
			}
			gpu++
		}
	}
	var resources []Resource
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		resources = append(resources, Resource{Name: name, Devices: devices[name]})
	}
	return resources
}

// Labels returns what GPU feature discovery writes with the `mixed` strategy for MIG: the first
// group describes the node, and each profile has labels of its own.
func (config Config) Labels() map[string]string {
	labels := map[string]string{
		"nvidia.com/gpu.present":        "true",
		"nvidia.com/gpu.deploy.driver":  "true",
		"nvidia.com/mig.strategy":       "mixed",
		"nvidia.com/mig.capable":        "false",
		"nvidia.com/cuda.driver.major":  "580",
		"nvidia.com/cuda.runtime.major": "13",
	}
	count := 0
	for at, group := range config.Groups {
		count += group.Count
		replicas, strategy := 1, "none"
		if group.Sharing.Shared != nil {
			replicas, strategy = group.Sharing.Shared.Replicas, "mps"
			if group.Sharing.Strategy != "" {
				strategy = group.Sharing.Strategy
			}
			labels["nvidia.com/mps.capable"] = strconv.FormatBool(strategy == "mps")
		}
		if at == 0 {
			labels["nvidia.com/gpu.product"] = group.Product
			labels["nvidia.com/gpu.memory"] = strconv.Itoa(group.MemoryMiB)
			labels["nvidia.com/gpu.replicas"] = strconv.Itoa(replicas)
			labels["nvidia.com/gpu.sharing-strategy"] = strategy
		}
		for _, mig := range group.Sharing.instances() {
			labels["nvidia.com/mig.capable"] = "true"
			prefix := "nvidia.com/mig-" + mig.Profile
			labels[prefix+".count"] = strconv.Itoa(group.Count * mig.Count)
			labels[prefix+".memory"] = strconv.Itoa(profileMemoryMiB(mig.Profile))
			labels[prefix+".product"] = group.Product + "-MIG-" + mig.Profile
			labels[prefix+".replicas"] = "1"
			labels[prefix+".sharing-strategy"] = "none"
		}
	}
	labels["nvidia.com/gpu.count"] = strconv.Itoa(count)
	return labels
}

// The memory in a profile's name: `1g.5gb` has 5 GiB, less what the driver keeps for itself.
func profileMemoryMiB(profile string) int {
	_, size, _ := strings.Cut(profile, ".")
	size, _, _ = strings.Cut(size, "gb")
	gib, err := strconv.Atoi(size)
	if err != nil {
		return 0
	}
	return gib*1024 - gib*1024/20
}

func uuidOfInstance(node string, gpu, instance int) string {
	return uuid("MIG", node, gpu, instance+1)
}

// Of the usual shape, and the same after each start.
func uuid(kind, node string, gpu, part int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d/%d", node, gpu, part))
	return fmt.Sprintf("%s-%x-%x-%x-%x-%x", kind, sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
