//! A `GpuPool` as Kubernetes objects, and what its nodes should carry.
//!
//! NVIDIA's device plugin reads one ConfigMap with an entry for each pool; a node chooses its entry
//! by the label `nvidia.com/device-plugin.config`. NVIDIA's MIG manager cuts GPUs as another
//! ConfigMap says, by the label `nvidia.com/mig.config`. Both look at an entry only when a node's
//! label changes, so an entry is named after its content. With dynamic resource allocation a pool is
//! a DeviceClass.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::resource::v1::{
    CELDeviceSelector, DeviceClass, DeviceClassSpec, DeviceSelector,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};
use trainyard_api::GpuPoolSpec;
use trainyard_api::gpu_pool::{SharingMode, Taint};
use trainyard_api::model_service::TaintEffect;

use super::Object;
use super::labels::{Texts, texts};
use crate::pool::{SHARED, WHOLE, device_class, mig_resource};

/// Label of what pools are made of, and of the nodes of a pool: its name.
pub const POOL: &str = "trainyard.dev/gpu-pool";
/// Chooses a node's entry of the device plugin's ConfigMap.
pub const PLUGIN_CONFIG: &str = "nvidia.com/device-plugin.config";
/// Chooses a node's entry of the MIG manager's ConfigMap.
pub const MIG_CONFIG: &str = "nvidia.com/mig.config";

/// What MIG manager's ConfigMap is called, after the device plugin's.
const MIG_SUFFIX: &str = "-mig";
/// The file that MIG manager reads.
const MIG_FILE: &str = "config.yaml";

/// Where the device plugin looks for its ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginConfig {
    /// The namespace of the plugin's DaemonSet.
    pub namespace: String,
    pub name: String,
}

impl PluginConfig {
    /// The name of MIG manager's ConfigMap, in the same namespace.
    pub fn mig_name(&self) -> String {
        format!("{}{MIG_SUFFIX}", self.name)
    }
}

/// Writes pools as objects: the ConfigMaps of all, and the DeviceClasses. Equal inputs give equal
/// bytes.
pub fn pool_objects(pools: &BTreeMap<String, GpuPoolSpec>, config: &PluginConfig) -> Vec<Object> {
    let mut objects = Vec::new();
    let mut of_plugin: Texts = pools
        .iter()
        .filter(|(_, pool)| pool.mode() != SharingMode::Dra)
        .map(|(name, pool)| (config_name(name, pool), plugin_config(pool)))
        .collect();
    let map = |name: String, data: Texts| {
        Object::new(&ConfigMap {
            metadata: metadata(name, Some(config.namespace.clone())),
            data: Some(data),
            ..ConfigMap::default()
        })
    };
    if !of_plugin.is_empty() {
        // Of nodes without the label; without it the plugin refuses to run on them.
        of_plugin.insert("default".to_owned(), plugin_text("none"));
        objects.push(map(config.name.clone(), of_plugin));
    }
    if pools.values().any(|pool| pool.mode() == SharingMode::Mig) {
        let data = texts([(MIG_FILE, mig_config(pools).as_str())]);
        objects.push(map(config.mig_name(), data));
    }
    let of_dra = pools.iter().filter(|(_, pool)| pool.mode() == SharingMode::Dra);
    objects.extend(of_dra.map(|(name, pool)| class(name, pool)));
    objects
}

fn metadata(name: String, namespace: Option<String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace,
        labels: Some(texts([
            ("app.kubernetes.io/part-of", "trainyard"),
            ("app.kubernetes.io/managed-by", "trainyard"),
        ])),
        ..ObjectMeta::default()
    }
}

/// What the entries of a pool are called: a name for each content.
fn config_name(name: &str, pool: &GpuPoolSpec) -> String {
    let content = [plugin_config(pool), mig_devices(pool)].concat();
    let digest = Sha256::digest(content);
    let digits: String = digest.iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    format!("{name}-{digits}")
}

fn plugin_text(mig_strategy: &str) -> String {
    format!("version: v1\nflags:\n  migStrategy: {mig_strategy}\n")
}

/// One entry of the device plugin's ConfigMap (NVIDIA/k8s-device-plugin, `api/config/v1`).
fn plugin_config(pool: &GpuPoolSpec) -> String {
    // With `mixed` each profile is a resource of its own, whatever else a node has.
    let mut text = plugin_text(if pool.mode() == SharingMode::Mig { "mixed" } else { "none" });
    let key = match pool.mode() {
        SharingMode::Mps => "mps",
        SharingMode::TimeSlicing => "timeSlicing",
        SharingMode::None | SharingMode::Mig | SharingMode::Dra => return text,
    };
    let replicas = pool.sharing.as_ref().and_then(|sharing| sharing.shares).unwrap_or(1);
    // Two shares would give no more of a time slice, and with MPS the plugin refuses them anyway.
    let _ = write!(
        text,
        "sharing:\n  {key}:\n    renameByDefault: true\n    failRequestsGreaterThanOne: true\n    \
         resources:\n      - name: {WHOLE}\n        replicas: {replicas}\n"
    );
    text
}

/// MIG manager's file (NVIDIA/mig-parted). It needs `all-disabled` for nodes that no pool cuts.
fn mig_config(pools: &BTreeMap<String, GpuPoolSpec>) -> String {
    let mut text = "version: v1\nmig-configs:\n  all-disabled:\n    - devices: all\n      mig-enabled: false\n".to_owned();
    for (name, pool) in pools.iter().filter(|(_, pool)| pool.mode() == SharingMode::Mig) {
        let name = config_name(name, pool);
        let _ = write!(
            text,
            "  {name}:\n    - devices: all\n      mig-enabled: true\n      mig-devices:\n{}",
            mig_devices(pool)
        );
    }
    text
}

/// The instances of each GPU; empty where a pool has none.
fn mig_devices(pool: &GpuPoolSpec) -> String {
    let profiles = pool.sharing.iter().flat_map(|it| it.profiles.iter().flatten());
    let lines = profiles.map(|it| format!("        \"{}\": {}\n", it.name, it.count));
    lines.collect()
}

/// Devices of NVIDIA's DRA driver that are of the pool's product.
fn class(name: &str, pool: &GpuPoolSpec) -> Object {
    let mut expression =
        "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type in ['gpu', 'mig']".to_owned();
    if let Some(product) = &pool.product {
        // The driver's names have spaces where labels have dashes. A label's value has no quotes;
        // should one come, it must not end the text.
        let product: String = product.chars().filter(|c| !matches!(c, '\'' | '\\')).collect();
        let _ = write!(
            expression,
            " && device.attributes['gpu.nvidia.com'].productName.replace(' ', '-') == '{product}'"
        );
    }
    let mut metadata = metadata(device_class(name), None);
    metadata.labels.get_or_insert_default().insert(POOL.to_owned(), name.to_owned());
    Object::new(&DeviceClass {
        metadata,
        spec: DeviceClassSpec {
            selectors: Some(vec![DeviceSelector { cel: Some(CELDeviceSelector { expression }) }]),
            ..DeviceClassSpec::default()
        },
    })
}

/// The resources that pods ask a pool for; none where they claim devices.
pub fn pool_resources(pool: &GpuPoolSpec) -> Vec<String> {
    match pool.mode() {
        SharingMode::None => vec![WHOLE.to_owned()],
        SharingMode::Mps | SharingMode::TimeSlicing => vec![SHARED.to_owned()],
        SharingMode::Mig => {
            let profiles = pool.sharing.iter().flat_map(|it| it.profiles.iter().flatten());
            profiles.map(|profile| mig_resource(&profile.name)).collect()
        }
        SharingMode::Dra => Vec::new(),
    }
}

/// What a ResourceQuota calls what a pool has.
pub fn quota_names(name: &str, pool: &GpuPoolSpec) -> Vec<String> {
    match pool.mode() {
        SharingMode::Dra => {
            vec![format!("{}.deviceclass.resource.k8s.io/devices", device_class(name))]
        }
        _ => pool_resources(pool).iter().map(|resource| format!("requests.{resource}")).collect(),
    }
}

/// What each node of a pool should carry.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeMarks {
    pub labels: BTreeMap<String, String>,
    pub taint: Option<Taint>,
}

/// The marks of a pool's nodes.
pub fn node_marks(name: &str, pool: &GpuPoolSpec) -> NodeMarks {
    let mut labels = texts([(POOL, name)]);
    if pool.mode() != SharingMode::Dra {
        labels.insert(PLUGIN_CONFIG.to_owned(), config_name(name, pool));
    }
    if pool.mode() == SharingMode::Mig {
        labels.insert(MIG_CONFIG.to_owned(), config_name(name, pool));
    }
    NodeMarks { labels, taint: pool.taint.clone() }
}

impl NodeMarks {
    /// The commands that put the marks on every node with these labels.
    pub fn commands(&self, node_selector: &BTreeMap<String, String>) -> Vec<String> {
        let pairs = |texts: &BTreeMap<String, String>, separator: &str| {
            let pairs = texts.iter().map(|(key, value)| format!("{key}={value}"));
            pairs.collect::<Vec<_>>().join(separator)
        };
        let selector = pairs(node_selector, ",");
        let labels = pairs(&self.labels, " ");
        let mut commands = vec![format!("kubectl label nodes -l {selector} --overwrite {labels}")];
        commands.extend(self.taint.as_ref().map(|taint| {
            let value = taint.value.as_deref().map(|it| format!("={it}")).unwrap_or_default();
            let effect = effect(taint.effect.unwrap_or(TaintEffect::NoSchedule));
            format!("kubectl taint nodes -l {selector} --overwrite {}{value}:{effect}", taint.key)
        }));
        commands
    }
}

/// As Kubernetes writes it.
pub fn effect(effect: TaintEffect) -> &'static str {
    match effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    }
}
