//! The gateway between real sockets: clients on one side, replicas with faults on the other.

mod access;
mod balance;
mod grpc;
mod hold;
mod hostile;
mod hosts;
mod local_answers;
mod metrics;
mod mirror;
mod passing;
mod record;
mod replica;
mod retry;
mod shutdown;
mod support;
mod table_changes;
