//! The Kubernetes back end: watches resources, applies what their plans compile to, and reports
//! what came of it.
//!
//! In: the Kubernetes API. Out: server-side applied objects, status and events. Decides nothing
//! itself: objects come from `plan`, counts and steps from `control`; what a status says is the pure
//! function in [`status`].
//!
//! Watches ([`feed`]) put what they see into the [`world`] and wake services in the [`queue`]; while
//! this operator holds the Lease ([`election`]), workers ([`run`]) take services and jobs from the queue and
//! [`reconcile`] them: [`desired`] says what should be, [`compare`] what differs, [`cluster`] makes
//! it so, and [`status`] tells. What gateways count ([`figures`]) decides how many replicas there are
//! ([`scale`]) and how a new revision takes over ([`rollout`]); both decisions are `control`'s.
//! `jobs` brings `TrainingJob`s about: `control` decides, Kubernetes' own Jobs run the workers.
//! [`queues`] says which of them may start, or [`elsewhere`] what another system of the cluster says.
//! [`pools`] brings `GpuPool`s about and says what they mean to services.
//! [`console`] is what people ask of a cluster by hand, [`snapshot()`] all that is declared in one, and
//! [`collect`] what the doctor looks at, and [`places`] what packing does.

mod announce;
mod backoff;
mod cluster;
mod compare;
pub mod console;
mod desired;
mod election;
mod elsewhere;
mod endpoints;
mod feed;
mod figures;
mod history;
pub mod ingress;
pub mod install;
mod jobs;
mod key;
mod kinds;
mod lint;
mod metrics;
mod names;
mod pods;
pub mod pools;
mod queue;
mod queues;
pub mod rbac;
mod reconcile;
mod rollout;
mod run;
mod scale;
mod settings;
mod snapshot;
mod status;
mod world;

pub use cluster::{ClientError, ClusterChoice, CountedClient, client, client_of};
pub use figures::report;
pub use history::{RollbackError, rollback};
pub use lint::LintWebhook;
pub use names::{FIELD_MANAGER, GATEWAY, NAME_LABEL, OPERATOR};
pub use pools::Pools;
pub use run::{OperatorError, run};
pub use settings::{Cluster, Election, RequestRate, Scope, Settings};
pub use snapshot::{Snapshot, collect, places, probe, snapshot};
