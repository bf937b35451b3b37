/* Some of NVML's functions, for nodes that do not exist. The variable FAKE_NVML names a scenario:
 * words that are joined by commas, none for a healthy node of two GPUs. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, CORRUPTED_INFOROM = 14, LOST = 15, MISMATCH = 18 };

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned char uuid[16]; int status; unsigned clique; unsigned char state; } Fabric;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } Process;

static int is(const char *word) {
    const char *all = getenv("FAKE_NVML");
    const char *at = all ? strstr(all, word) : NULL;
    return at != NULL;
}

/* A handle is the GPU's number plus one; instances of MIG come after 100. */
static long number(void *device) { return (long)device - 1; }

int nvmlInit_v2(void) { return is("mismatch") ? MISMATCH : SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) {
    switch (code) {
    case LOST: return "GPU is lost";
    case MISMATCH: return "Driver/library version mismatch";
    default: return "Some error";
    }
}

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    snprintf(text, length, "570.172.08");
    return SUCCESS;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12080; return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index > 1) return INVALID;
    if (is("lost") && index == 1) return LOST;
    *device = (void *)(long)(index + 1);
    return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *text, unsigned length) {
    if (number(device) >= 100) snprintf(text, length, "NVIDIA A100-SXM4-40GB MIG 1g.5gb");
    else snprintf(text, length, "NVIDIA A100-SXM4-40GB");
    return SUCCESS;
}
int nvmlDeviceGetUUID(void *device, char *text, unsigned length) {
    snprintf(text, length, "GPU-00000000-0000-0000-0000-%012ld", number(device));
    return SUCCESS;
}
int nvmlDeviceGetPciInfo_v3(void *device, Pci *pci) {
    memset(pci, 0, sizeof *pci);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02lX:00.0", 0x3b + number(device));
    return SUCCESS;
}
int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
    (void)device;
    memory->total = 40960ULL << 20;
    memory->used = 1024ULL << 20;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}
int nvmlDeviceGetUtilizationRates(void *device, Utilization *rates) {
    (void)device;
    rates->gpu = 97;
    rates->memory = 40;
    return SUCCESS;
}
int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *degrees) {
    (void)device;
    *degrees = sensor == 0 ? (is("hot") ? 93 : 61) : 0;
    return SUCCESS;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { (void)device; *milliwatts = 312000; return SUCCESS; }
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts) { (void)device; *milliwatts = 400000; return SUCCESS; }
int nvmlDeviceGetPowerManagementDefaultLimit(void *device, unsigned *milliwatts) { (void)device; *milliwatts = 400000; return SUCCESS; }
/* Only the name before driver 535. */
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *bits) {
    *bits = is("hot") && number(device) == 0 ? 0x40 : 0x1;
    return SUCCESS;
}
int nvmlDeviceGetTotalEccErrors(void *device, unsigned type, unsigned counter, unsigned long long *count) {
    (void)device; (void)counter;
    *count = type == 0 ? 3 : 0;
    return SUCCESS;
}
int nvmlDeviceGetRemappedRows(void *device, unsigned *correctable, unsigned *uncorrectable, unsigned *pending, unsigned *failed) {
    int sick = number(device) == 0;
    *correctable = 0;
    *uncorrectable = sick && (is("remap") || is("worn"));
    *pending = sick && is("remap");
    *failed = sick && is("worn");
    return SUCCESS;
}
int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    *current = *pending = is("mig") && number(device) == 0;
    return SUCCESS;
}
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **instance) {
    if (number(device) != 0 || index >= 3) return INVALID;
    *instance = (void *)(long)(101 + index);
    return SUCCESS;
}
int nvmlDeviceGetNvLinkState(void *device, unsigned link, unsigned *active) {
    if (link >= 4) return INVALID;
    *active = !(is("link") && number(device) == 1 && link == 2);
    return SUCCESS;
}
int nvmlDeviceValidateInforom(void *device) {
    return is("inforom") && number(device) == 1 ? CORRUPTED_INFOROM : SUCCESS;
}
int nvmlDeviceGetGpuFabricInfo(void *device, Fabric *fabric) {
    (void)device;
    if (!is("fabric")) return NOT_SUPPORTED;
    memset(fabric, 0, sizeof *fabric);
    fabric->state = 2;
    return SUCCESS;
}
int nvmlDeviceGetComputeMode(void *device, unsigned *mode) { (void)device; *mode = is("mps") ? 3 : 0; return SUCCESS; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, Process *processes) {
    (void)device;
    if (*count < 1) return INVALID;
    memset(processes, 0, sizeof *processes);
    processes[0].pid = 77;
    processes[0].used = 900ULL << 20;
    *count = 1;
    return SUCCESS;
}
