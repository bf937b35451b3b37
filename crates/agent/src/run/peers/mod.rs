//! Restoring together: the workers of a gang give each other chunks of checkpoints, so that the
//! store sends each about once. Who asks whom for what, and for how long, is the checkpoint crate's
//! affair; here are the sockets.
//!
//! Who asks has to know the [`Token`] of the job. What is sent is not encrypted, as what the
//! processes say to each other is not, and credentials of the store are never sent.

mod call;
mod door;
mod message;

use std::io;
use std::sync::Arc;

use tokio::task::JoinSet;
use trainyard_checkpoint::{Offer, Patience, Sharing};

use super::remote;
use super::token::Token;
use call::Callers;

/// Workers that restore together.
pub struct Gang {
    pub token: Token,
    /// This worker among them.
    pub own: u32,
    /// Where each gives chunks to the others, this one too.
    pub workers: Vec<(String, u16)>,
    pub patience: Patience,
}

/// What a worker gives to the others, for as long as this is there.
pub struct Door {
    /// For who restores, and tells what there is to give.
    pub sharing: Arc<Sharing>,
    _serving: JoinSet<()>,
}

impl Gang {
    /// Begins to serve the others. What there is to give, whoever restores tells by the offer.
    ///
    /// To be called from a runtime that has sockets and time.
    pub async fn open(&self) -> io::Result<Door> {
        let own = usize::try_from(self.own).ok().and_then(|own| self.workers.get(own));
        let own = own.ok_or_else(|| io::Error::other("this worker is none of the gang"))?;
        let listener = remote::open(own).await?;
        let offer = Arc::new(Offer::default());
        let mut serving = JoinSet::new();
        serving.spawn(door::serve(listener, self.token.clone(), offer.clone()));
        let peers = Callers { workers: self.workers.clone(), token: self.token.clone() };
        let sharing = Sharing {
            own: self.own,
            workers: u32::try_from(self.workers.len()).map_err(io::Error::other)?,
            peers: Arc::new(peers),
            offer,
            patience: self.patience,
        };
        Ok(Door { sharing: Arc::new(sharing), _serving: serving })
    }
}
