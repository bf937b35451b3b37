//! The gateway alone, in front of given replicas: `proxy THREADS LISTEN REPLICA…`.
//!
//! All replicas are one service, which gets every path that names no model, and the model `bench`.
//! `cargo xtask bench gateway` measures it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use trainyard_gateway::table::{Endpoint, Revision, Service};
use trainyard_gateway::{Gateway, Settings, Table};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: proxy THREADS LISTEN REPLICA…";
    let threads: usize = arguments.next().ok_or(usage)?.parse()?;
    let listen: SocketAddr = arguments.next().ok_or(usage)?.parse()?;
    let mut endpoints = Vec::new();
    for replica in arguments {
        endpoints.push(Endpoint { id: replica.as_str().into(), address: replica.parse()? });
    }
    let revision = Revision { name: "r1".to_owned(), weight: 1, endpoints };
    let service = Service {
        models: vec!["bench".to_owned()],
        revisions: vec![revision],
        ..Service::default()
    };
    let table = Table { services: [(Arc::from("bench"), service)].into() };
    let runtime = match threads {
        // One thread needs no work stealing, and so no locks between workers.
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        _ => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()?,
    };
    runtime.block_on(async {
        let gateway = Gateway::new(Settings::default());
        gateway.update(&table);
        let stop = CancellationToken::new();
        let ended = stop.clone();
        let signal = async move {
            let kind = tokio::signal::unix::SignalKind::terminate();
            tokio::signal::unix::signal(kind)?.recv().await;
            ended.cancel();
            Ok::<_, std::io::Error>(())
        };
        let (served, signalled) =
            tokio::join!(gateway.serve(TcpListener::bind(listen)?, stop), signal);
        signalled?;
        served.map_err(Into::into)
    })
}
