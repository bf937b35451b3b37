package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"google.golang.org/grpc"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const (
	// As NVIDIA's driver for dynamic resource allocation calls itself.
	driver = "gpu.nvidia.com"
	// Where kubelet looks for sockets of plugins, and where ours has the one that it is told of.
	registryFolder = "/var/lib/kubelet/plugins_registry"
	driverFolder   = "/var/lib/kubelet/plugins/" + driver
)

// Driver offers the node's GPUs as devices that pods claim. It is written out, without the helper that
// drivers have for it: the protocol is two calls, and clusters build faster.
type Driver struct {
	dra.UnimplementedDRAPluginServer
	registration.UnimplementedRegistrationServer
	client kubernetes.Interface
	config Config
}

// Run serves kubelet and keeps the node's slice as its GPUs are, until the context ends. A cluster without the API
// has no use for it.
func (d *Driver) Run(ctx context.Context) error {
	if _, err := d.client.Discovery().ServerResourcesForGroupVersion("resource.k8s.io/v1"); errors.IsNotFound(err) {
		slog.Info("no dynamic resource allocation: the cluster has no resource.k8s.io/v1")
		return nil
	}
	// Kubelet makes its folder when it starts, which may be later.
	for _, folder := range []string{driverFolder, registryFolder} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	endpoint := filepath.Join(driverFolder, "dra.sock")
	for path, register := range map[string]func(*grpc.Server){
		endpoint: func(server *grpc.Server) { dra.RegisterDRAPluginServer(server, d) },
		filepath.Join(registryFolder, driver+"-reg.sock"): func(server *grpc.Server) {
			registration.RegisterRegistrationServer(server, d)
		},
	} {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		listener, err := net.Listen("unix", path)
		if err != nil {
			return err
		}
		server := grpc.NewServer()
		register(server)
		go func() { _ = server.Serve(listener) }()
		defer server.Stop()
	}
	ticks := time.NewTicker(time.Second)
	defer ticks.Stop()
	for {
		if err := d.publish(ctx); err != nil {
			slog.Warn("the devices cannot be published yet", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

// GetInfo tells kubelet what listens where.
func (d *Driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.DRAPlugin, Name: driver, Endpoint: filepath.Join(driverFolder, "dra.sock"),
		SupportedVersions: []string{dra.DRAPluginService},
	}, nil
}

// NotifyRegistrationStatus hears what kubelet made of it.
func (d *Driver) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	slog.Info("kubelet has seen the driver", "registered", status.PluginRegistered, "error", status.Error)
	return &registration.RegistrationStatusResponse{}, nil
}

// NodePrepareResources answers which devices a claim has on this node. They do not exist, so that the runtime has
// nothing to add to containers.
func (d *Driver) NodePrepareResources(ctx context.Context, request *dra.NodePrepareResourcesRequest) (*dra.NodePrepareResourcesResponse, error) {
	response := &dra.NodePrepareResourcesResponse{Claims: map[string]*dra.NodePrepareResourceResponse{}}
	for _, wanted := range request.Claims {
		devices, err := d.devicesOf(ctx, wanted)
		answer := &dra.NodePrepareResourceResponse{Devices: devices}
		if err != nil {
			answer.Error = err.Error()
		}
		response.Claims[wanted.UID] = answer
		slog.Info("prepared", "claim", wanted.Namespace+"/"+wanted.Name, "devices", len(devices), "error", err)
	}
	return response, nil
}

func (d *Driver) devicesOf(ctx context.Context, wanted *dra.Claim) ([]*dra.Device, error) {
	claim, err := d.client.ResourceV1().ResourceClaims(wanted.Namespace).Get(ctx, wanted.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if string(claim.UID) != wanted.UID || claim.Status.Allocation == nil {
		return nil, fmt.Errorf("the claim is another one, or has no devices")
	}
	var devices []*dra.Device
	for _, result := range claim.Status.Allocation.Devices.Results {
		if result.Driver == driver {
			devices = append(devices, &dra.Device{
				RequestNames: []string{result.Request}, PoolName: result.Pool, DeviceName: result.Device,
			})
		}
	}
	return devices, nil
}

// NodeUnprepareResources has nothing to take back.
func (d *Driver) NodeUnprepareResources(_ context.Context, request *dra.NodeUnprepareResourcesRequest) (*dra.NodeUnprepareResourcesResponse, error) {
	response := &dra.NodeUnprepareResourcesResponse{Claims: map[string]*dra.NodeUnprepareResourceResponse{}}
	for _, claim := range request.Claims {
		response.Claims[claim.UID] = &dra.NodeUnprepareResourceResponse{}
	}
	return response, nil
}

// Makes the node's slice, or brings it up to date: a GPU that is unhealthy is not offered.
func (d *Driver) publish(ctx context.Context) error {
	slices := d.client.ResourceV1().ResourceSlices()
	name := d.config.Node + "-" + driver
	devices := d.config.OfferedDevices(func(gpu int) bool { return isHealthy(d.config.HealthFolder, gpu) })
	// A node may ask for its own slices alone, and for all of them: one that is not there yet belongs to nobody.
	own := metav1.ListOptions{FieldSelector: "spec.nodeName=" + d.config.Node}
	found, err := slices.List(ctx, own)
	if err != nil {
		return err
	}
	var slice *resourceapi.ResourceSlice
	for at := range found.Items {
		if found.Items[at].Name == name {
			slice = &found.Items[at]
		}
	}
	switch {
	case slice == nil:
		node, err := d.client.CoreV1().Nodes().Get(ctx, d.config.Node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
		slice := &resourceapi.ResourceSlice{
			ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{owner}},
			Spec: resourceapi.ResourceSliceSpec{
				Driver: driver, NodeName: &node.Name, Devices: devices,
				Pool: resourceapi.ResourcePool{Name: node.Name, Generation: 1, ResourceSliceCount: 1},
			},
		}
		_, err = slices.Create(ctx, slice, metav1.CreateOptions{})
		return err
	case reflect.DeepEqual(names(slice.Spec.Devices), names(devices)):
		return nil
	}
	slice.Spec.Devices = devices
	slice.Spec.Pool.Generation++
	_, err = slices.Update(ctx, slice, metav1.UpdateOptions{})
	return err
}

func names(devices []resourceapi.Device) []string {
	names := make([]string, len(devices))
	for at, device := range devices {
		names[at] = device.Name
	}
	return names
}

// OfferedDevices returns the node's healthy GPUs with the attributes that NVIDIA's driver gives them. How the device
// plugin shares a GPU is no concern of claims; MIG instances are devices of their own.
func (config Config) OfferedDevices(isHealthy func(gpu int) bool) []resourceapi.Device {
	devices := []resourceapi.Device{}
	gpu := 0
	for _, group := range config.Groups {
		for range group.Count {
			if isHealthy(gpu) && !group.Unclaimed {
				devices = append(devices, group.offered(config.Node, gpu)...)
			}
			gpu++
		}
	}
	return devices
}

func (group Group) offered(node string, gpu int) []resourceapi.Device {
	// Labels have dashes where names have blanks.
	product := strings.Replace(group.Product, "-", " ", 1)
	device := func(name, kind, uuid string, memoryMiB int) resourceapi.Device {
		text := func(text string) resourceapi.DeviceAttribute {
			return resourceapi.DeviceAttribute{StringValue: &text}
		}
		memory := resource.MustParse(fmt.Sprintf("%dMi", memoryMiB))
		return resourceapi.Device{
			Name: name,
			Attributes: map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{
				"type": text(kind), "uuid": text(uuid), "productName": text(product),
			},
			Capacity: map[resourceapi.QualifiedName]resourceapi.DeviceCapacity{"memory": {Value: memory}},
		}
	}
	instances := group.Sharing.instances()
	if len(instances) == 0 {
		return []resourceapi.Device{device(fmt.Sprintf("gpu-%d", gpu), "gpu", uuid("GPU", node, gpu, 0), group.MemoryMiB)}
	}
	var devices []resourceapi.Device
	for _, mig := range instances {
		for range mig.Count {
			at := len(devices)
			name := fmt.Sprintf("gpu-%d-mig-%d", gpu, at)
			made := device(name, "mig", uuidOfInstance(node, gpu, at), profileMemoryMiB(mig.Profile))
			profile := mig.Profile
			made.Attributes["profile"] = resourceapi.DeviceAttribute{StringValue: &profile}
			devices = append(devices, made)
		}
	}
	return devices
}
