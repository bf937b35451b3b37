package main

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"
)

// Labels by which a node chooses its configurations.
const (
	pluginLabel = "nvidia.com/device-plugin.config"
	migLabel    = "nvidia.com/mig.config"
)

// PluginConfig is what we read of the device plugin's configuration (NVIDIA/k8s-device-plugin, api/config/v1).
type PluginConfig struct {
	Version string `json:"version"`
	Flags   struct {
		MigStrategy string `json:"migStrategy"`
	} `json:"flags"`
	Sharing struct {
		TimeSlicing *Replicated `json:"timeSlicing"`
		MPS         *Replicated `json:"mps"`
	} `json:"sharing"`
}

// Replicated says into how many parts each device of a resource is cut.
type Replicated struct {
	RenameByDefault            bool `json:"renameByDefault"`
	FailRequestsGreaterThanOne bool `json:"failRequestsGreaterThanOne"`
	Resources                  []struct {
		Name     string `json:"name"`
		Replicas int    `json:"replicas"`
	} `json:"resources"`
}

// MigConfigs is what we read of MIG manager's configuration (NVIDIA/mig-parted).
type MigConfigs struct {
	Version    string `json:"version"`
	MigConfigs map[string][]struct {
		Devices    any            `json:"devices"`
		MigEnabled bool           `json:"mig-enabled"`
		MigDevices map[string]int `json:"mig-devices"`
	} `json:"mig-configs"`
}

// Apply returns the node's GPUs as a configuration cuts them; mig is nil where MIG manager has none for it.
func (config Config) Apply(plugin PluginConfig, mig map[string]int) (Config, error) {
	if plugin.Version != "v1" {
		return config, fmt.Errorf("unknown version of the plugin's configuration: %q", plugin.Version)
	}
	replicated, strategy := plugin.Sharing.MPS, "mps"
	if plugin.Sharing.TimeSlicing != nil {
		replicated, strategy = plugin.Sharing.TimeSlicing, "time-slicing"
	}
	sharing := Sharing{}
	switch {
	case plugin.Sharing.MPS != nil && plugin.Sharing.TimeSlicing != nil:
		return config, fmt.Errorf("time-slicing and MPS exclude each other")
	case replicated != nil:
		if !replicated.RenameByDefault {
			return config, fmt.Errorf("this plugin renames what it shares")
		}
		if len(replicated.Resources) != 1 || replicated.Resources[0].Name != "nvidia.com/gpu" {
			return config, fmt.Errorf("this plugin shares nvidia.com/gpu only")
		}
		sharing.Shared = &Shared{Replicas: replicated.Resources[0].Replicas}
		sharing.Strategy = strategy
	case plugin.Flags.MigStrategy == "mixed" && len(mig) > 0:
		for profile, count := range mig {
			sharing.Profiles = append(sharing.Profiles, Mig{Profile: profile, Count: count})
		}
		slices.SortFunc(sharing.Profiles, func(a, b Mig) int {
			if a.Profile < b.Profile {
				return -1
			}
			return 1
		})
	}
	groups := slices.Clone(config.Groups)
	for at := range groups {
		groups[at].Sharing = sharing
	}
	config.Groups = groups
	return config, nil
}

// Follow sends the node's GPUs whenever the configuration that its labels choose cuts them in another way, as NVIDIA's
// config manager and MIG manager do together. A node without the label keeps what it was started with.
func Follow(ctx context.Context, client kubernetes.Interface, config Config, namespace, name string, changed chan<- Config) {
	last := config
	ticks := time.NewTicker(time.Second)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		next, err := chosen(ctx, client, config, namespace, name)
		if err != nil {
			slog.Warn("the configuration cannot be read; nothing changes", "error", err)
			continue
		}
		if reflect.DeepEqual(next, last) {
			continue
		}
		last = next
		select {
		case changed <- next:
		case <-ctx.Done():
			return
		}
	}
}

func chosen(ctx context.Context, client kubernetes.Interface, config Config, namespace, name string) (Config, error) {
	node, err := client.CoreV1().Nodes().Get(ctx, config.Node, metav1.GetOptions{})
	if err != nil {
		return config, err
	}
	entry, ok := node.Labels[pluginLabel]
	if !ok {
		return config, nil
	}
	var plugin PluginConfig
	if err := read(ctx, client, namespace, name, entry, &plugin); err != nil {
		return config, err
	}
	var mig map[string]int
	if chosen, ok := node.Labels[migLabel]; ok {
		var configs MigConfigs
		if err := read(ctx, client, namespace, name+"-mig", "config.yaml", &configs); err != nil {
			return config, err
		}
		groups, ok := configs.MigConfigs[chosen]
		if !ok || len(groups) != 1 {
			return config, fmt.Errorf("there is no MIG configuration %q", chosen)
		}
		mig = groups[0].MigDevices
	}
	return config.Apply(plugin, mig)
}

func read(ctx context.Context, client kubernetes.Interface, namespace, name, entry string, into any) error {
	found, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	text, ok := found.Data[entry]
	if !ok {
		return fmt.Errorf("the ConfigMap %s/%s has no entry %q", namespace, name, entry)
	}
	return yaml.UnmarshalStrict([]byte(text), into)
}
