//! Delegates as hosts of turmoil: gRPC (HTTP/2, RFC 9113) over mutual TLS 1.3 on simulated TCP.

use crate::nodes::{EPOCH, Node};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Response, Uri};
use hyper_util::rt::TokioIo;
use prost::bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rust_core::collector::channel::{Channels, Credentials};
use rust_core::collector::{Ballot, Collected, Collector, Limits};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::future::{Future, pending};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use turmoil::net::{TcpListener, TcpStream};

/// The host on which the collector runs.
pub const CLIENT: &str = "dpos";
const PORT: u16 = 7_000;
/// Light nodes come first.
const STAKES: [(u64, bool); 7] =
    [(3, false), (3, false), (3, false), (3, false), (1, true), (1, true), (1, true)];

/// How a host treats who calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Answers,
    /// Reads the request, and says nothing.
    Hangs,
    /// Takes the connection, and says nothing.
    HangsInHandshake,
    /// Ends the connection in the middle of the answer.
    BreaksOff,
    /// Ends the stream by an HTTP/2 error.
    ResetsStream,
    /// Speaks something else than HTTP/2 within TLS.
    Mumbles,
    /// Speaks no TLS.
    IsPlain,
    /// Says that the answer is 3 GiB.
    Overstates,
    /// Sends a megabyte.
    Floods,
    /// The message is none.
    Babbles,
    /// A gRPC status and no message: RESOURCE_EXHAUSTED.
    Refuses,
}

/// Certificates of one federation.
pub struct Federation {
    credentials: Credentials,
    server_config: Arc<ServerConfig>,
}

impl Federation {
    pub fn new() -> Self {
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca_params = CertificateParams::new(Vec::new()).expect("no names");
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = ca_params.self_signed(&ca_key).expect("a CA");
        let issuer = Issuer::new(ca_params, ca_key);
        let member = |names: Vec<String>| {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(names).expect("good names");
            (params.signed_by(&key, &issuer).expect("a certificate"), key)
        };
        let (client, client_key) = member(vec![CLIENT.to_owned()]);
        let (server, server_key) = member((0..STAKES.len()).map(name).collect());
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).expect("a root");
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
        let key = PrivateKeyDer::try_from(server_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder().with_client_cert_verifier(verifier);
        let mut config = config.with_single_cert(vec![server.der().clone()], key).expect("a pair");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let credentials = Credentials {
            ca_pem: ca.pem(),
            client_cert_pem: client.pem(),
            client_key_pem: client_key.serialize_pem(),
        };
        Self { credentials, server_config: Arc::new(config) }
    }
}

pub fn name(number: usize) -> String {
    format!("node-{number}")
}

/// The simulated hosts, as the client sees and changes them.
#[derive(Clone)]
pub struct Hosts(Arc<Vec<Host>>);

struct Host {
    node: Mutex<Node>,
    manner: Mutex<Manner>,
    /// Connections end when it changes.
    epoch_of_connections: watch::Sender<u32>,
}

impl Hosts {
    fn new() -> Self {
        let host = |(number, &(stake, is_full)): (usize, &(u64, bool))| Host {
            node: Mutex::new(Node::new(number, stake, is_full)),
            manner: Mutex::new(Manner::Answers),
            epoch_of_connections: watch::channel(0).0,
        };
        Self(Arc::new(STAKES.iter().enumerate().map(host).collect()))
    }

    pub fn set(&self, number: usize, manner: Manner) {
        *self.0[number].manner.lock().unwrap() = manner;
        self.end_connections(number);
    }

    /// As a node does that starts anew.
    pub fn end_connections(&self, number: usize) {
        self.0[number].epoch_of_connections.send_modify(|epoch| *epoch += 1);
    }

    pub fn kept_batches(&self, number: usize) -> Vec<String> {
        self.0[number].node.lock().unwrap().kept_batches.clone()
    }

    /// A collector that shows these credentials.
    pub fn collector(&self, federation: &Federation) -> Collector<Channels> {
        let delegate = |host: &Host| {
            let node = host.node.lock().unwrap();
            (node.delegate(), node.is_full)
        };
        let addresses: Vec<String> =
            (0..self.0.len()).map(|number| format!("{}:{PORT}", name(number))).collect();
        let channels =
            Channels::opened_by(&addresses, &federation.credentials, open).expect("good addresses");
        Collector::new(EPOCH, self.0.iter().map(delegate).collect(), channels)
    }
}

fn open(endpoint: &Endpoint) -> Channel {
    endpoint.connect_with_connector_lazy(service_fn(|uri: Uri| async move {
        let host = uri.host().unwrap_or_default().to_owned();
        TcpStream::connect((host, uri.port_u16().unwrap_or_default())).await.map(TokioIo::new)
    }))
}

/// Collect, and tell how long it took.
pub async fn collect(
    collector: &Collector<Channels>,
    ballots: &[Ballot],
    limits: Limits,
) -> (Collected, Duration) {
    let began_at = Instant::now();
    let collected = collector.collect(ballots, limits).await;
    (collected, began_at.elapsed())
}

/// Run a test on its host beside the seven of the federation.
pub fn on_hosts<F>(federation: Arc<Federation>, test: impl FnOnce(Hosts) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let mut builder = turmoil::Builder::new();
    builder.rng_seed(7).simulation_duration(Duration::from_secs(120));
    builder.min_message_latency(Duration::from_millis(1)).max_message_latency(Duration::from_millis(2));
    let mut simulation = builder.build();
    let hosts = Hosts::new();
    for number in 0..STAKES.len() {
        let (hosts, federation) = (hosts.clone(), federation.clone());
        simulation.host(name(number), move || listen(hosts.clone(), number, federation.clone()));
    }
    let test = test(hosts);
    simulation.client(CLIENT, async move {
        test.await;
        Ok(())
    });
    simulation.run().expect("the test ends");
}

async fn listen(hosts: Hosts, number: usize, federation: Arc<Federation>) -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (hosts, acceptor) = (hosts.clone(), TlsAcceptor::from(federation.server_config.clone()));
        tokio::spawn(async move {
            let mut ending = hosts.0[number].epoch_of_connections.subscribe();
            tokio::select! {
                // Whoever calls sees how it ends.
                _ = serve(stream, acceptor, &hosts, number) => {}
                _ = ending.changed() => {}
            }
        });
    }
}

type Served = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn serve(mut stream: TcpStream, acceptor: TlsAcceptor, hosts: &Hosts, number: usize) -> Served {
    let manner = *hosts.0[number].manner.lock().unwrap();
    match manner {
        Manner::HangsInHandshake => return pending().await,
        Manner::IsPlain => {
            stream.write_all(b"220 node ESMTP\r\n").await?;
            return Ok(());
        }
        _ => {}
    }
    let mut stream = acceptor.accept(stream).await?;
    if manner == Manner::Mumbles {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
        let _ = stream.read_u8().await?;
        return Ok(());
    }
    let mut connection = h2::server::handshake(stream).await?;
    let (breaking, mut broken) = tokio::sync::mpsc::unbounded_channel::<()>();
    loop {
        let request = tokio::select! {
            request = connection.accept() => request,
            Some(()) = broken.recv() => return Ok(()),
        };
        let Some(request) = request else { return Ok(()) };
        let (request, respond) = request?;
        let (hosts, breaking) = (hosts.clone(), breaking.clone());
        tokio::spawn(async move {
            let _ = answer(request, respond, &hosts.0[number], manner).await;
            if manner == Manner::BreaksOff {
                // What was written leaves first.
                tokio::time::sleep(Duration::from_millis(3)).await;
                let _ = breaking.send(());
            }
        });
    }
}

async fn answer(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    host: &Host,
    manner: Manner,
) -> Served {
    let is_store = request.uri().path() == "/love.node.v1.DelegateService/Store";
    let mut body = request.into_body();
    let mut framed = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        framed.extend_from_slice(&chunk);
    }
    if manner == Manner::Hangs {
        return pending().await;
    }
    let message = {
        let mut node = host.node.lock().unwrap();
        let request = framed.get(5..).unwrap_or_default();
        if is_store { node.store(request) } else { node.vote(request) }.unwrap_or_default()
    };
    let ok = Response::builder().header("content-type", "application/grpc");
    match manner {
        Manner::ResetsStream => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        }
        Manner::Refuses => {
            let refusal = ok.header("grpc-status", "8").header("grpc-message", "too much").body(())?;
            respond.send_response(refusal, true)?;
            return Ok(());
        }
        _ => {}
    }
    let mut sending = respond.send_response(ok.body(())?, false)?;
    match manner {
        Manner::Overstates => {
            sending.send_data([&[0][..], &(3u32 << 30).to_be_bytes()].concat().into(), false)?;
            return pending().await;
        }
        Manner::BreaksOff => {
            let frame = frame(&message);
            sending.send_data(Bytes::copy_from_slice(&frame[..frame.len() / 2]), false)?;
            return Ok(());
        }
        Manner::Floods => sending.send_data(frame(&vec![0x1a; 1 << 20]), false)?,
        Manner::Babbles => sending.send_data(frame(b"\xff\xff\xff\xff\xff no message"), false)?,
        _ => sending.send_data(frame(&message), false)?,
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    sending.send_trailers(trailers)?;
    Ok(())
}

/// A message on the wire of gRPC: not compressed, length, bytes.
fn frame(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a length of 32 bits");
    [&[0][..], &length.to_be_bytes(), message].concat().into()
}
