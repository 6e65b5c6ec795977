//! The HTTP listener for people and monitors: `/metrics` (Prometheus), `/healthz` (the process
//! answers), `/readyz` (clients are served).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::server::{Broker, group_metrics, maintenance, stopped};

/// Most connections at a time: monitors need few.
const CONNECTIONS_MAX: usize = 64;

/// Longest that a client may take to send its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts the listener; `None` when the configuration wants none. It ends when `stop` says so.
pub async fn start(
    broker: &Arc<Broker>,
    stop: &watch::Receiver<bool>,
) -> std::io::Result<Option<SocketAddr>> {
    let Some(address) = &broker.config.admin_listener else { return Ok(None) };
    let listener = TcpListener::bind(address.as_str()).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(serve(listener, broker.clone(), stop.clone()));
    Ok(Some(bound))
}

async fn serve(listener: TcpListener, broker: Arc<Broker>, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        let (Ok((stream, _)), Ok(slot)) = (accepted, slots.clone().acquire_owned().await) else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (broker, mut stop) = (broker.clone(), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let broker = broker.clone();
                async move { Ok::<_, Infallible>(answer(&broker, &request).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            let connection = server
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "an admin connection ended");
                },
                () = stopped(&mut stop) => {}
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
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n".to_owned());
    }
    match request.uri().path() {
        "/metrics" => {
            maintenance::read_off(broker);
            let groups = group_metrics::text(broker).await;
            plain(StatusCode::OK, broker.metrics.text() + &groups)
        }
        "/healthz" => plain(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if broker.quorum.leader().is_some() => plain(StatusCode::OK, "ready\n".to_owned()),
        "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "the metadata quorum has no leader\n".to_owned()),
        other => {
            let text = format!("nothing is served at {other}; try /metrics, /healthz or /readyz\n");
            plain(StatusCode::NOT_FOUND, text)
        }
    }
}
