//! The HTTP listener for people and monitors: `/metrics` (Prometheus), `/healthz` (a restart would
//! mend nothing), `/readyz` (clients are served); see [`health`] for when they say so.

mod families;
mod group_metrics;
mod health;
mod readings;

pub use health::not_ready;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;

use families::Families;

use crate::env::{Acceptor, ListenOptions, Network, Tasks};
use crate::server::Broker;

/// Most connections at a time: monitors need few.
const CONNECTIONS_MAX: usize = 64;

/// Longest that a client may take to send its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Listens at `host:port`.
pub async fn bind(network: &dyn Network, address: &str) -> io::Result<(Box<dyn Acceptor>, SocketAddr)> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "this is no address: expected host:port");
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().map_err(|_| wrong())?;
    let acceptor = network.bind(host, port, ListenOptions::default()).await?;
    let bound = acceptor.local_addr()?;
    Ok((acceptor, bound))
}

/// Serves what connects until `tasks` are to stop.
pub async fn serve(acceptor: Box<dyn Acceptor>, broker: Arc<Broker>, tasks: Tasks) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let stopping = tasks.stopping();
    while let Some(accepted) = stopping.run_until_cancelled(acceptor.accept()).await {
        let (Ok((socket, _)), Ok(slot)) = (accepted, slots.clone().acquire_owned().await) else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let broker = broker.clone();
        tasks.spawn_until_stopped(async move {
            let service = service_fn(|request| {
                let broker = broker.clone();
                async move { Ok::<_, Infallible>(answer(&broker, &request).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            let connection = server
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(socket), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an admin connection ended");
            }
            drop(slot);
        });
    }
}

async fn answer(broker: &Arc<Broker>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let content_type =
            hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, content_type);
        response
    };
    let verdict = |good: &str, against: Vec<String>| match against.is_empty() {
        true => plain(StatusCode::OK, format!("{good}\n")),
        false => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not {good}: {}\n", against.join("\nand "))),
    };
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n".to_owned());
    }
    match request.uri().path() {
        "/metrics" => {
            let mut families = Families::default();
            readings::read_off(broker, &mut families);
            group_metrics::read_off(broker, &mut families).await;
            plain(StatusCode::OK, families.text(broker.metrics.gather()) + &health::quorum_metrics(broker))
        }
        "/healthz" => verdict("ok", health::not_alive(broker)),
        "/readyz" => verdict("ready", not_ready(broker).await),
        other => {
            let text = format!("nothing is served at {other}; try /metrics, /healthz or /readyz\n");
            plain(StatusCode::NOT_FOUND, text)
        }
    }
}
