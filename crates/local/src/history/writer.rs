//! The one thread that writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::events::{self, Event};
use super::jobs::{self, JobRecord};
use super::records::{
    self, Kept, QueueRecord, ReplicaRecord, RevisionRecord, Saved, ServiceRecord,
};
use super::{HistoryError, schema};
use crate::target::Members;

/// Hands writes to the thread, in order. Dropping it ends the thread once all are done.
#[derive(Debug)]
pub(crate) struct Writer {
    orders: mpsc::Sender<Order>,
    /// Tells when the thread has ended.
    ended: Mutex<std::sync::mpsc::Receiver<()>>,
}

#[derive(Debug)]
enum Order {
    Service(ServiceRecord),
    Revision(RevisionRecord),
    Replica(ReplicaRecord),
    ForgetReplica(String),
    Job(Box<JobRecord>),
    Folders(BTreeMap<PathBuf, Members>),
    Queues(BTreeMap<String, QueueRecord>),
    Event(Event),
    Revisions { service: String, answer: oneshot::Sender<rusqlite::Result<Vec<RevisionRecord>>> },
    Kept(oneshot::Sender<rusqlite::Result<Kept>>),
    Flush(oneshot::Sender<()>),
}

/// When the disk stands still for so many writes, the supervisor waits for it.
const WAITING: usize = 1024;

/// How long the end of a writer waits for what it has handed over to be written.
const PATIENCE: Duration = Duration::from_secs(3);

impl Writer {
    /// Opens the history, makes it if there is none, and reads what is saved. Blocks.
    pub(crate) fn open(path: &Path) -> Result<(Self, Saved), HistoryError> {
        let connection = schema::open(path)?;
        let saved = records::load(&connection)?;
        let (orders, receiver) = mpsc::channel(WAITING);
        // Nothing is ever sent: the thread drops its end.
        let (end, ended) = std::sync::mpsc::sync_channel(0);
        std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || {
                write(connection, receiver);
                drop(end);
            })
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        Ok((Self { orders, ended: Mutex::new(ended) }, saved))
    }

    async fn order(&self, order: Order) {
        // The thread ends only after this sender; if it panicked, the supervisor goes on serving.
        if self.orders.send(order).await.is_err() {
            tracing::error!("the history is not written any more");
        }
    }

    pub(crate) async fn service(&self, record: ServiceRecord) {
        self.order(Order::Service(record)).await;
    }

    pub(crate) async fn revision(&self, record: RevisionRecord) {
        self.order(Order::Revision(record)).await;
    }

    pub(crate) async fn replica(&self, record: ReplicaRecord) {
        self.order(Order::Replica(record)).await;
    }

    pub(crate) async fn forget_replica(&self, id: &str) {
        self.order(Order::ForgetReplica(id.to_owned())).await;
    }

    pub(crate) async fn job(&self, record: JobRecord) {
        self.order(Order::Job(Box::new(record))).await;
    }

    /// Folders whose content is watched, with what they had when that was acted upon.
    pub(crate) async fn folders(&self, folders: BTreeMap<PathBuf, Members>) {
        self.order(Order::Folders(folders)).await;
    }

    /// Queues that are declared.
    pub(crate) async fn queues(&self, queues: BTreeMap<String, QueueRecord>) {
        self.order(Order::Queues(queues)).await;
    }

    pub(crate) async fn event(&self, event: Event) {
        self.order(Order::Event(event)).await;
    }

    /// The revisions of a service, newest first, those that were just saved included.
    pub(crate) async fn revisions(&self, service: &str) -> Vec<RevisionRecord> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Revisions { service: service.to_owned(), answer }).await;
        match answered.await {
            Ok(Ok(revisions)) => revisions,
            Ok(Err(error)) => {
                tracing::error!(service, %error, "the revisions cannot be read");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    /// What every revision of the history needs; none if that cannot be read.
    pub(crate) async fn kept(&self) -> Option<Kept> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Kept(answer)).await;
        answered.await.ok()?.ok()
    }

    /// Waits until everything handed over so far is written.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        self.order(Order::Flush(done)).await;
        let _ = written.await;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The thread ends when the last sender is gone, so that goes first.
        let (closed, _) = mpsc::channel(1);
        self.orders = closed;
        // A disk that stands still must not keep a supervisor from its end.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(PATIENCE);
    }
}

/// Writes all that waits in one transaction: one trip to the disk for a burst of changes.
fn write(connection: Connection, mut orders: mpsc::Receiver<Order>) {
    while let Some(first) = orders.blocking_recv() {
        let mut flushed = Vec::new();
        let result = (|| -> rusqlite::Result<()> {
            let transaction = connection.unchecked_transaction()?;
            let mut next = Some(first);
            while let Some(order) = next {
                flushed.extend(carry_out(&transaction, order)?);
                next = orders.try_recv().ok();
            }
            transaction.commit()
        })();
        if let Err(error) = result {
            tracing::error!(%error, "the history cannot be written");
        }
        for done in flushed {
            let _ = done.send(());
        }
    }
}

fn carry_out(
    connection: &Connection,
    order: Order,
) -> rusqlite::Result<Option<oneshot::Sender<()>>> {
    match order {
        Order::Service(record) => records::save_service(connection, &record)?,
        Order::Revision(record) => records::save_revision(connection, &record)?,
        Order::Replica(record) => records::save_replica(connection, &record)?,
        Order::ForgetReplica(id) => records::forget_replica(connection, &id)?,
        Order::Job(record) => jobs::save_job(connection, &record)?,
        Order::Folders(folders) => records::save_folders(connection, &folders)?,
        Order::Queues(queues) => records::save_queues(connection, &queues)?,
        Order::Event(event) => events::add(connection, &event)?,
        Order::Revisions { service, answer } => {
            let _ = answer.send(records::revisions(connection, &service));
        }
        Order::Kept(answer) => {
            let _ = answer.send(records::kept(connection));
        }
        Order::Flush(done) => return Ok(Some(done)),
    }
    Ok(None)
}
