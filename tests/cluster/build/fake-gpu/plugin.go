package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// Plugin serves one resource to kubelet.
type Plugin struct {
	api.UnimplementedDevicePluginServer
	resource     Resource
	healthFolder string
	stop         <-chan struct{}
}

// Start listens, and registers with kubelet; the function that it returns ends that.
func (plugin *Plugin) Start(ctx context.Context) (func(), error) {
	file := strings.NewReplacer("/", "-", ".", "-").Replace(plugin.resource.Name) + ".sock"
	path := filepath.Join(api.DevicePluginPath, file)
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, plugin)
	go func() { _ = server.Serve(listener) }()
	if err := plugin.register(ctx, file); err != nil {
		server.Stop()
		return nil, err
	}
	return server.Stop, nil
}

func (plugin *Plugin) register(ctx context.Context, endpoint string) error {
	connection, err := grpc.NewClient(
		"unix://"+api.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err = api.NewRegistrationClient(connection).Register(ctx, &api.RegisterRequest{
		Version:      api.Version,
		Endpoint:     endpoint,
		ResourceName: plugin.resource.Name,
		Options:      &api.DevicePluginOptions{},
	}, grpc.WaitForReady(true))
	return err
}

// GetDevicePluginOptions says that kubelet need ask nothing but Allocate.
func (plugin *Plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

// ListAndWatch sends all devices, and again whenever the health of one changes.
func (plugin *Plugin) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	var sent []*api.Device
	for {
		devices := plugin.devices()
		same := func(a, b *api.Device) bool { return a.ID == b.ID && a.Health == b.Health }
		if sent == nil || !slices.EqualFunc(sent, devices, same) {
			if err := stream.Send(&api.ListAndWatchResponse{Devices: devices}); err != nil {
				return err
			}
			sent = devices
		}
		select {
		case <-plugin.stop:
			return nil
		case <-stream.Context().Done():
			return nil
		case <-ticks.C:
		}
	}
}

func (plugin *Plugin) devices() []*api.Device {
	devices := make([]*api.Device, 0, len(plugin.resource.Devices))
	for _, device := range plugin.resource.Devices {
		health := api.Healthy
		if !isHealthy(plugin.healthFolder, device.GPU) {
			health = api.Unhealthy
		}
		devices = append(devices, &api.Device{ID: device.ID, Health: health})
	}
	return devices
}

// Tests write a word into a file that is called after the GPU.
func isHealthy(folder string, gpu int) bool {
	text, err := os.ReadFile(filepath.Join(folder, strconv.Itoa(gpu)))
	return err != nil || strings.TrimSpace(string(text)) != api.Unhealthy
}

// Allocate tells a container which GPUs are its own, in the variables of NVIDIA's plugin.
func (plugin *Plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	response := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		allocation, err := plugin.allocation(container.DevicesIds)
		if err != nil {
			return nil, err
		}
		response.ContainerResponses = append(response.ContainerResponses, allocation)
	}
	return response, nil
}

func (plugin *Plugin) allocation(ids []string) (*api.ContainerAllocateResponse, error) {
	var uuids []string
	memoryMiB, replicas := 0, 0
	for _, id := range ids {
		at := slices.IndexFunc(plugin.resource.Devices, func(device Device) bool { return device.ID == id })
		if at < 0 {
			return nil, fmt.Errorf("%s has no device %q", plugin.resource.Name, id)
		}
		device := plugin.resource.Devices[at]
		uuids = append(uuids, device.UUID)
		memoryMiB += device.MemoryMiB
		replicas = device.Replicas
	}
	slices.Sort(uuids)
	visible := strings.Join(slices.Compact(uuids), ",")
	variables := map[string]string{
		"NVIDIA_VISIBLE_DEVICES": visible,
		// Not one of NVIDIA's: what a program would ask the driver, which is not there.
		"FAKE_GPU_MEMORY_MIB": strconv.Itoa(memoryMiB),
	}
	if replicas > 0 {
		// The MPS daemon's defaults for a client that has so many parts.
		variables["CUDA_MPS_PIPE_DIRECTORY"] = "/mps/pipe"
		variables["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = strconv.Itoa(100 * len(ids) / replicas)
		variables["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = fmt.Sprintf("0=%dM", memoryMiB)
	}
	return &api.ContainerAllocateResponse{
		Envs:        variables,
		Annotations: map[string]string{"trainyard.dev/fake-gpus": visible},
	}, nil
}
