package main

import (
	"encoding/json"
	"testing"

	"sigs.k8s.io/yaml"
)

func config(t *testing.T, groups string) Config {
	t.Helper()
	var config Config
	if err := json.Unmarshal([]byte(`{"node": "node-1", "groups": [`+groups+`]}`), &config); err != nil {
		t.Fatal(err)
	}
	return config
}

const mixed = `{"count": 2, "product": "Tesla-T4", "memoryMiB": 15360, "sharing": "whole"},
	{"count": 1, "product": "Tesla-T4", "memoryMiB": 15360, "sharing": {"shared": {"replicas": 4}}},
	{"count": 1, "product": "A100", "memoryMiB": 40960, "sharing": {"mig": {"profile": "1g.5gb", "count": 7}}}`

func TestResources(t *testing.T) {
	resources := config(t, mixed).Resources()
	names := []string{"nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.5gb"}
	counts := []int{2, 4, 7}
	memory := []int{15360, 3840, 4864}
	if len(resources) != len(names) {
		t.Fatalf("%+v", resources)
	}
	seen := map[string]bool{}
	for at, resource := range resources {
		if resource.Name != names[at] || len(resource.Devices) != counts[at] {
			t.Errorf("%s has %d devices", resource.Name, len(resource.Devices))
		}
		for _, device := range resource.Devices {
			if device.MemoryMiB != memory[at] {
				t.Errorf("%s has %d MiB", device.ID, device.MemoryMiB)
			}
			if seen[device.ID] {
				t.Errorf("%s is there twice", device.ID)
			}
			seen[device.ID] = true
		}
	}
	if last := resources[2].Devices[6].GPU; last != 3 {
		t.Errorf("the MIG instances are parts of GPU %d", last)
	}
}

func TestLabels(t *testing.T) {
	labels := config(t, mixed).Labels()
	for name, value := range map[string]string{
		"nvidia.com/gpu.count":          "4",
		"nvidia.com/gpu.product":        "Tesla-T4",
		"nvidia.com/gpu.memory":         "15360",
		"nvidia.com/mig.capable":        "true",
		"nvidia.com/mig-1g.5gb.count":   "7",
		"nvidia.com/mig-1g.5gb.product": "A100-MIG-1g.5gb",
	} {
		if labels[name] != value {
			t.Errorf("%s is %q, not %q", name, labels[name], value)
		}
	}
}

func TestAllocation(t *testing.T) {
	resources := config(t, mixed).Resources()
	shared := Plugin{resource: resources[1]}
	devices := resources[1].Devices
	allocation, err := shared.allocation([]string{devices[0].ID, devices[1].ID})
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"NVIDIA_VISIBLE_DEVICES":            devices[0].UUID,
		"FAKE_GPU_MEMORY_MIB":               "7680",
		"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50",
		"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT":  "0=7680M",
	} {
		if allocation.Envs[name] != value {
			t.Errorf("%s is %q, not %q", name, allocation.Envs[name], value)
		}
	}
	if _, err := shared.allocation([]string{"GPU-unknown"}); err == nil {
		t.Error("a device that is not there was given")
	}
}

func TestConfigurations(t *testing.T) {
	whole := config(t, `{"count": 2, "product": "A100", "memoryMiB": 40960, "sharing": "whole"}`)
	apply := func(text string, mig map[string]int) (Config, error) {
		var plugin PluginConfig
		if err := yaml.UnmarshalStrict([]byte(text), &plugin); err != nil {
			t.Fatal(err)
		}
		return whole.Apply(plugin, mig)
	}
	shared := func(strategy string) string {
		return "version: v1\nflags: {migStrategy: none}\nsharing:\n  " + strategy +
			": {renameByDefault: true, failRequestsGreaterThanOne: true, resources: [{name: nvidia.com/gpu, replicas: 4}]}\n"
	}
	for strategy, label := range map[string]string{"mps": "mps", "timeSlicing": "time-slicing"} {
		next, err := apply(shared(strategy), nil)
		if err != nil {
			t.Fatal(err)
		}
		resources := next.Resources()
		if len(resources) != 1 || len(resources[0].Devices) != 8 || next.Labels()["nvidia.com/gpu.sharing-strategy"] != label {
			t.Errorf("%s: %+v", strategy, resources)
		}
	}
	next, err := apply("version: v1\nflags: {migStrategy: mixed}\n", map[string]int{"3g.20gb": 1, "1g.5gb": 4})
	if err != nil {
		t.Fatal(err)
	}
	resources := next.Resources()
	if len(resources) != 2 || len(resources[0].Devices) != 8 || len(resources[1].Devices) != 2 {
		t.Errorf("%+v", resources)
	}
	if len(whole.Resources()) != 1 || whole.Resources()[0].Name != "nvidia.com/gpu" {
		t.Error("the first configuration has changed")
	}
	if _, err := apply("version: v2\n", nil); err == nil {
		t.Error("another version was taken")
	}
}

func TestOfferedDevices(t *testing.T) {
	devices := config(t, mixed).OfferedDevices(func(gpu int) bool { return gpu != 1 })
	// Of four GPUs one is broken, and one is cut into seven.
	if len(devices) != 2+7 {
		t.Fatalf("%+v", devices)
	}
	seen := map[string]bool{}
	for _, device := range devices {
		seen[device.Name] = true
	}
	if !seen["gpu-0"] || seen["gpu-1"] || !seen["gpu-3-mig-6"] {
		t.Errorf("%v", seen)
	}
	first, memory := devices[0], devices[0].Capacity["memory"].Value
	if product := *first.Attributes["productName"].StringValue; product != "Tesla T4" || memory.String() != "15Gi" {
		t.Errorf("%s with %s", product, memory.String())
	}
}

func TestUnclaimed(t *testing.T) {
	alone := config(t, `{"count": 1, "product": "Tesla-T4", "memoryMiB": 15360, "sharing": "whole", "unclaimed": true},
		{"count": 1, "product": "Tesla-T4", "memoryMiB": 15360, "sharing": "whole"}`)
	devices := alone.OfferedDevices(func(int) bool { return true })
	if len(devices) != 1 || devices[0].Name != "gpu-1" {
		t.Errorf("%+v", devices)
	}
	if resources := alone.Resources(); len(resources[0].Devices) != 2 {
		t.Errorf("%+v", resources)
	}
}
