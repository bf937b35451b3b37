// Command fake-gpu is a device plugin for GPUs that do not exist.
//
// It speaks kubelet's real protocol (device plugin v1beta1), names resources, devices and variables
// as NVIDIA's plugin does, and labels its node as GPU feature discovery does. A node's labels choose
// its configuration, as with NVIDIA's config manager and MIG manager. It is a driver for dynamic
// resource allocation too, and offers the same GPUs to claims: what is in use by one way the other
// does not know, so that a test uses one of the two on a node. Tests flip a GPU's health by writing
// a file.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// How often files of health and kubelet's socket are looked at.
const interval = 200 * time.Millisecond

func main() {
	configFile := flag.String("config", "", "which GPUs the node has, in JSON")
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server, as the node itself")
	plugin := flag.String("plugin-config", "", "NAMESPACE/NAME of the ConfigMap that the node's labels choose from")
	admin := flag.String("plugin-kubeconfig", "", "how to reach the API server to read that")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *configFile, *kubeconfig, *plugin, *admin); err != nil {
		slog.Error("fake-gpu ends", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, configFile, kubeconfig, plugin, admin string) error {
	text, err := os.ReadFile(configFile)
	if err != nil {
		return err
	}
	var config Config
	if err := json.Unmarshal(text, &config); err != nil {
		return fmt.Errorf("reading %s: %w", configFile, err)
	}
	node, err := connect(kubeconfig)
	if err != nil {
		return err
	}
	offered := make(chan error, 1)
	go func() { offered <- (&Driver{client: node, config: config}).Run(ctx) }()
	labelled := make(chan error, 1)
	go func() { labelled <- label(ctx, kubeconfig, config, nil) }()
	changed := make(chan Config)
	if namespace, name, ok := strings.Cut(plugin, "/"); ok {
		client, err := connect(admin)
		if err != nil {
			return err
		}
		go Follow(ctx, client, config, namespace, name, changed)
	}
	for {
		// Kubelet forgets its plugins when it starts, and then makes its socket anew.
		socket, err := waitForSocket(ctx)
		if err != nil {
			return nil
		}
		next, err := serve(ctx, socket, config.HealthFolder, config.Resources(), changed)
		switch {
		case ctx.Err() != nil:
			return nil
		case next != nil:
			slog.Info("another configuration was chosen; registering anew")
			if err := label(ctx, kubeconfig, *next, config.Labels()); err != nil {
				return err
			}
			config = *next
		case err != nil:
			slog.Warn("kubelet did not take the plugins; trying again", "error", err)
			time.Sleep(time.Second)
		default:
			slog.Info("kubelet has started anew; registering again")
		}
		select {
		case err := <-labelled:
			if err != nil {
				return err
			}
			labelled = nil
		case err := <-offered:
			if err != nil {
				return fmt.Errorf("offering devices to claims: %w", err)
			}
			offered = nil
		default:
		}
	}
}

// Serves all resources until kubelet's socket is another one, or other GPUs are chosen, which it returns.
func serve(ctx context.Context, socket os.FileInfo, health string, resources []Resource, changed <-chan Config) (*Config, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for _, resource := range resources {
		plugin := &Plugin{resource: resource, healthFolder: health, stop: ctx.Done()}
		end, err := plugin.Start(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", resource.Name, err)
		}
		defer end()
		slog.Info("registered", "resource", resource.Name, "devices", len(resource.Devices))
	}
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, nil
		case next := <-changed:
			return &next, nil
		case <-ticks.C:
		}
		if now, err := os.Stat(api.KubeletSocket); err == nil && !os.SameFile(socket, now) {
			return nil, nil
		}
	}
}

func waitForSocket(ctx context.Context) (os.FileInfo, error) {
	for {
		if info, err := os.Stat(api.KubeletSocket); err == nil {
			return info, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(interval):
		}
	}
}

func connect(kubeconfig string) (*kubernetes.Clientset, error) {
	rest, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", kubeconfig, err)
	}
	return kubernetes.NewForConfig(rest)
}

// Labels the node once it is there; kubelet makes it. Labels from before that do not hold any more go.
func label(ctx context.Context, kubeconfig string, config Config, before map[string]string) error {
	client, err := connect(kubeconfig)
	if err != nil {
		return err
	}
	labels := map[string]any{}
	for name := range before {
		labels[name] = nil
	}
	for name, value := range config.Labels() {
		labels[name] = value
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
	if err != nil {
		return err
	}
	for {
		_, err := client.CoreV1().Nodes().Patch(
			ctx, config.Node, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "gpu-feature-discovery"})
		if err == nil {
			slog.Info("labelled", "node", config.Node)
			return nil
		}
		slog.Warn("the node cannot be labelled yet", "error", err)
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(time.Second):
		}
	}
}
