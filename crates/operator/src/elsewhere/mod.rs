//! Other systems of the cluster that queue jobs: Kueue, KAI and Volcano.
//!
//! [`served`] says which of them there are and what of theirs is read; [`watch`] keeps it, [`group`]
//! says what one of theirs says of a Job, [`known`] is where reconciles look. Nothing here decides:
//! who is asked is `control`'s choice, and what they answer is theirs.

mod group;
mod known;
mod served;
mod watch;

pub(crate) use group::{Group, Said};
pub(crate) use known::Elsewhere;
pub(crate) use served::{WATCHED, discover};
pub(crate) use watch::{Feed, follow};
