// Command netpol enforces NetworkPolicies on one node of the test cluster.
//
// It watches pods, namespaces and policies, and loads the rules of the node's pods into nftables,
// all at once, whenever they change. The network has to route all traffic of pods (the ptp plugin):
// what a bridge forwards never passes the hook that the rules hang on.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// A burst of changes, such as a rollout, becomes one load of the rules.
const settle = 50 * time.Millisecond

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	node := flag.String("node", "", "the node whose pods are guarded")
	readyFile := flag.String("ready-file", "", "written once the first rules are in force")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *kubeconfig, *node, *readyFile); err != nil {
		slog.Error("netpol ends", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig, node, readyFile string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("reading %s: %w", kubeconfig, err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods()
	namespaces := factory.Core().V1().Namespaces()
	policies := factory.Networking().V1().NetworkPolicies()

	// Holds one message: a change that comes while one is told already is part of it.
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { tell() },
		UpdateFunc: func(any, any) { tell() },
		DeleteFunc: func(any) { tell() },
	}
	for _, informer := range []cache.SharedIndexInformer{
		pods.Informer(), namespaces.Informer(), policies.Informer(),
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watching: %w", err)
		}
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("the cache of %v did not fill", kind)
		}
	}

	loaded := ""
	isReady := false
	tell()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		world, err := observe(pods.Lister().List, namespaces.Lister().List, policies.Lister().List)
		if err != nil {
			return err
		}
		// Most changes, such as a status, leave the rules as they are.
		rules := Rules(world, node)
		if rules != loaded {
			if err := load(ctx, rules); err != nil {
				slog.Error("rules were refused; trying again", "error", err)
				time.AfterFunc(time.Second, tell)
				continue
			}
			loaded = rules
			slog.Info("rules are in force", "lines", strings.Count(rules, "\n"))
		}
		if !isReady && readyFile != "" {
			if err := os.WriteFile(readyFile, nil, 0o644); err != nil {
				return fmt.Errorf("writing %s: %w", readyFile, err)
			}
			isReady = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
	}
}

func observe(
	pods func(labels.Selector) ([]*corev1.Pod, error),
	namespaces func(labels.Selector) ([]*corev1.Namespace, error),
	policies func(labels.Selector) ([]*networkingv1.NetworkPolicy, error),
) (World, error) {
	var world World
	var err error
	if world.Pods, err = pods(labels.Everything()); err != nil {
		return world, fmt.Errorf("listing pods: %w", err)
	}
	list, err := namespaces(labels.Everything())
	if err != nil {
		return world, fmt.Errorf("listing namespaces: %w", err)
	}
	world.Namespaces = map[string]map[string]string{}
	for _, namespace := range list {
		world.Namespaces[namespace.Name] = namespace.Labels
	}
	if world.Policies, err = policies(labels.Everything()); err != nil {
		return world, fmt.Errorf("listing policies: %w", err)
	}
	return world, nil
}

// Loads rules in one transaction: no packet ever meets half of them.
func load(ctx context.Context, rules string) error {
	command := exec.CommandContext(ctx, "nft", "-f", "-")
	command.Stdin = strings.NewReader(rules)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, output)
	}
	return nil
}
