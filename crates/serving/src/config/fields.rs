//! The fields of Triton's `ModelConfig`, and which of them have an effect here.
//!
//! From `model_config.proto` of triton-inference-server/common at 83adf7c.

/// One field of a message.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) shape: Shape,
    /// Whether the server acts on it.
    pub(super) has_effect: bool,
    /// Of the fields with the same choice, one may be given.
    pub(super) choice: Option<&'static str>,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Bool,
    /// A whole number within these bounds.
    Int(i64, u64),
    Text,
    /// Names in the order of their numbers, from 0.
    Enum(&'static [&'static str]),
    Message(&'static [Field]),
    /// A value that is not looked into, because nothing in it has an effect.
    Opaque,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Shape {
    One,
    Many,
    Map(MapKey),
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum MapKey {
    Text,
    Uint64,
}

const INT32: Kind = Kind::Int(i32::MIN as i64, i32::MAX as u64);
const INT64: Kind = Kind::Int(i64::MIN, i64::MAX as u64);
const UINT32: Kind = Kind::Int(0, u32::MAX as u64);
const UINT64: Kind = Kind::Int(0, u64::MAX);

const fn one(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, shape: Shape::One, has_effect: true, choice: None }
}

const fn many(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, shape: Shape::Many, has_effect: true, choice: None }
}

const fn map(name: &'static str, key: MapKey, kind: Kind) -> Field {
    Field { name, kind, shape: Shape::Map(key), has_effect: true, choice: None }
}

const fn opaque(name: &'static str) -> Field {
    Field { name, kind: Kind::Opaque, shape: Shape::Many, has_effect: false, choice: None }
}

impl Field {
    const fn without_effect(self) -> Self {
        Self { has_effect: false, ..self }
    }

    const fn of(self, choice: &'static str) -> Self {
        Self { choice: Some(choice), ..self }
    }
}

pub(super) const DATA_TYPES: &[&str] = &[
    "TYPE_INVALID",
    "TYPE_BOOL",
    "TYPE_UINT8",
    "TYPE_UINT16",
    "TYPE_UINT32",
    "TYPE_UINT64",
    "TYPE_INT8",
    "TYPE_INT16",
    "TYPE_INT32",
    "TYPE_INT64",
    "TYPE_FP16",
    "TYPE_FP32",
    "TYPE_FP64",
    "TYPE_STRING",
    "TYPE_BF16",
];

const FORMATS: &[&str] = &["FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"];

const KINDS: &[&str] = &["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"];

const TIMEOUT_ACTIONS: &[&str] = &["REJECT", "DELAY"];

pub(super) static MODEL_CONFIG: &[Field] = &[
    one("name", Kind::Text),
    one("platform", Kind::Text),
    one("backend", Kind::Text),
    one("runtime", Kind::Text).without_effect(),
    one("version_policy", Kind::Message(VERSION_POLICY)),
    one("max_batch_size", INT32),
    many("input", Kind::Message(INPUT)),
    many("output", Kind::Message(OUTPUT)),
    opaque("batch_input"),
    opaque("batch_output"),
    opaque("optimization"),
    one("dynamic_batching", Kind::Message(DYNAMIC_BATCHING)).of("scheduling_choice"),
    one("sequence_batching", Kind::Opaque).without_effect().of("scheduling_choice"),
    one("ensemble_scheduling", Kind::Opaque).without_effect().of("scheduling_choice"),
    many("instance_group", Kind::Message(INSTANCE_GROUP)),
    one("default_model_filename", Kind::Text),
    opaque("cc_model_filenames"),
    map("metric_tags", MapKey::Text, Kind::Text),
    map("parameters", MapKey::Text, Kind::Message(PARAMETER)),
    many("model_warmup", Kind::Message(WARM_UP)),
    opaque("model_operations"),
    opaque("model_transaction_policy"),
    opaque("model_repository_agents"),
    opaque("response_cache"),
    opaque("model_metrics"),
];

static VERSION_POLICY: &[Field] = &[
    one("latest", Kind::Message(LATEST)).of("policy_choice"),
    one("all", Kind::Message(&[])).of("policy_choice"),
    one("specific", Kind::Message(SPECIFIC)).of("policy_choice"),
];

static LATEST: &[Field] = &[one("num_versions", UINT32)];

static SPECIFIC: &[Field] = &[many("versions", INT64)];

static RESHAPE: &[Field] = &[many("shape", INT64)];

static INPUT: &[Field] = &[
    one("name", Kind::Text),
    one("data_type", Kind::Enum(DATA_TYPES)),
    one("format", Kind::Enum(FORMATS)).without_effect(),
    many("dims", INT64),
    one("reshape", Kind::Message(RESHAPE)),
    one("is_shape_tensor", Kind::Bool).without_effect(),
    one("allow_ragged_batch", Kind::Bool).without_effect(),
    one("optional", Kind::Bool),
    one("is_non_linear_format_io", Kind::Bool).without_effect(),
];

static OUTPUT: &[Field] = &[
    one("name", Kind::Text),
    one("data_type", Kind::Enum(DATA_TYPES)),
    many("dims", INT64),
    one("reshape", Kind::Message(RESHAPE)),
    one("label_filename", Kind::Text),
    one("is_shape_tensor", Kind::Bool).without_effect(),
    one("is_non_linear_format_io", Kind::Bool).without_effect(),
];

static INSTANCE_GROUP: &[Field] = &[
    one("name", Kind::Text),
    one("kind", Kind::Enum(KINDS)),
    one("count", INT32),
    opaque("rate_limiter"),
    opaque("gpus"),
    opaque("secondary_devices"),
    opaque("profile"),
    one("passive", Kind::Bool).without_effect(),
    one("host_policy", Kind::Text).without_effect(),
];

static QUEUE_POLICY: &[Field] = &[
    one("timeout_action", Kind::Enum(TIMEOUT_ACTIONS)),
    one("default_timeout_microseconds", UINT64),
    one("allow_timeout_override", Kind::Bool),
    one("max_queue_size", UINT32),
];

static DYNAMIC_BATCHING: &[Field] = &[
    many("preferred_batch_size", INT32),
    one("max_queue_delay_microseconds", UINT64),
    one("preserve_ordering", Kind::Bool),
    one("priority_levels", UINT64),
    one("default_priority_level", UINT64),
    one("default_queue_policy", Kind::Message(QUEUE_POLICY)),
    map("priority_queue_policy", MapKey::Uint64, Kind::Message(QUEUE_POLICY)),
];

static PARAMETER: &[Field] = &[one("string_value", Kind::Text)];

static WARM_UP: &[Field] = &[
    one("name", Kind::Text),
    one("batch_size", UINT32),
    map("inputs", MapKey::Text, Kind::Message(WARM_UP_INPUT)),
    one("count", UINT32),
];

static WARM_UP_INPUT: &[Field] = &[
    one("data_type", Kind::Enum(DATA_TYPES)),
    many("dims", INT64),
    one("zero_data", Kind::Bool).of("input_data_type"),
    one("random_data", Kind::Bool).of("input_data_type"),
    one("input_data_file", Kind::Text).of("input_data_type"),
];
