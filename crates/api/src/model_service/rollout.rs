//! `spec.rollout`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::{Percent, Period};

/// How a new revision takes over from the one that serves.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.steps) || (has(self.strategy) && self.strategy == 'canary')").message("`steps` belong to `strategy: canary`").field_path(".steps"),
    validation = Rule::new("!has(self.steps) || (self.steps.isSorted() && self.steps.all(x, self.steps.exists_one(y, y == x)))").message("each of the `steps` must be larger than the one before").field_path(".steps"),
    validation = Rule::new("!has(self.pause) || (has(self.strategy) && self.strategy != 'rolling')").message("`pause` belongs to `strategy: canary` and `strategy: blueGreen`").field_path(".pause"),
    validation = Rule::new("!has(self.mirror) || (has(self.strategy) && self.strategy != 'rolling')").message("`mirror` belongs to `strategy: canary` and `strategy: blueGreen`").field_path(".mirror"),
    validation = Rule::new("!has(self.mirror) || self.mirror.matches('^0*(100([.]0+)?|[0-9]{1,2}([.][0-9]+)?)%$')").message("`mirror` must be at most 100%").field_path(".mirror"),
)]
pub struct Rollout {
    /// `rolling` (replica by replica), `canary` (a growing share of the requests), or `blueGreen`
    /// (the whole new revision beside the old one, then all requests at once). Default: rolling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RolloutStrategy>,
    /// With `canary`: percent of the requests at each step, growing, from 1 to 99. Default: 5, 20,
    /// 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20), inner(range(min = 1, max = 99)))]
    pub steps: Option<Vec<u8>>,
    /// With `canary`: how long each step lasts at least. With `blueGreen`: how long the old
    /// revision stays ready to take over again. Default: 2m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Period>,
    /// When the new revision is given up, beside never becoming ready. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<Abort>,
    /// Before the new revision gets requests of its own, send it a copy of this share of the
    /// requests for one `pause`; its answers are measured and dropped. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Percent>,
    /// Name of a request header, such as `x-user`: while the shares of the revisions stay as they
    /// are, requests with equal values of it go to the same revision. Default: none, each request
    /// for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[0-9A-Za-z!#$%&'*+.^_|~-]+$"))]
    pub sticky_header: Option<String>,
}

/// Orders of steps.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum RolloutStrategy {
    #[default]
    Rolling,
    Canary,
    BlueGreen,
}

/// Evidence on which a new revision is given up and the old one takes over again. Without requests
/// there is no evidence: a step then waits.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.errorRate) || has(self.p99)").message("name at least one of `errorRate` and `p99`"),
    validation = Rule::new("!has(self.errorRate) || self.errorRate.matches('^0*(100([.]0+)?|[0-9]{1,2}([.][0-9]+)?)%$')").message("`errorRate` must be at most 100%").field_path(".errorRate"),
)]
pub struct Abort {
    /// Its share of failed requests is above this, and above that of the old revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<Percent>,
    /// More than one in a hundred of its requests take longer than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<Period>,
}
