//! The network of real nodes: gRPC over mutual TLS 1.3, post-quantum key exchange where they take it.

use super::wire::{StoreResponse, VoteResponse};
use super::{Failure, Network};
use http::uri::PathAndQuery;
use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes};
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

const VOTE: PathAndQuery = PathAndQuery::from_static("/love.node.v1.Delegate/Vote");
const STORE: PathAndQuery = PathAndQuery::from_static("/love.node.v1.Delegate/Store");
/// The most that an answer may be.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What the federation's CA and its client certificate are, in PEM.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub ca_pem: String,
    pub client_cert_pem: String,
    pub client_key_pem: String,
}

/// A channel to each node, and one more for second attempts.
pub struct Channels {
    nodes: Vec<Node>,
}

struct Node {
    endpoint: Endpoint,
    /// Made when first needed, thrown away when a call over it has timed out.
    channels: [Mutex<Option<Channel>>; 2],
}

/// An address or a credential can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEndpoint(pub String);

impl Channels {
    /// To nodes at `host:port`; nothing is connected yet.
    pub fn new(addresses: &[String], credentials: &Credentials) -> Result<Self, BadEndpoint> {
        let nodes = addresses.iter().map(|address| Node::new(address, credentials));
        Ok(Self { nodes: nodes.collect::<Result<_, _>>()? })
    }
}

impl Node {
    fn new(address: &str, credentials: &Credentials) -> Result<Self, BadEndpoint> {
        let bad = |error: tonic::transport::Error| {
            let source = std::error::Error::source(&error).map_or_else(String::new, |why| format!(": {why}"));
            BadEndpoint(format!("{address}: {error}{source}"))
        };
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&credentials.ca_pem))
            .identity(Identity::from_pem(&credentials.client_cert_pem, &credentials.client_key_pem));
        let endpoint = Endpoint::from_shared(format!("https://{address}"))
            .map_err(bad)?
            .tls_config(tls)
            .map_err(bad)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        Ok(Self { endpoint, channels: [Mutex::new(None), Mutex::new(None)] })
    }

    /// The channel of this attempt, and whether it was used before.
    fn channel(&self, way: usize) -> (Channel, bool) {
        let mut kept = self.channels[way].lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(channel) => (channel.clone(), true),
            None => (kept.insert(self.endpoint.connect_lazy()).clone(), false),
        }
    }

    fn forget(&self, way: usize) {
        *self.channels[way].lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn call<T: Message + Default + 'static>(
        &self,
        way: usize,
        path: PathAndQuery,
        request: Bytes,
    ) -> Result<T, Failure> {
        // Whoever gives up waiting drops this future: a connection that hangs is not used again.
        let mut hanging = Hanging { node: self, way, is_over: false };
        let mut result = self.try_call(way, path.clone(), request.clone()).await;
        if let (Err(Failure::Unreachable(_)), true) = (&result.0, result.1) {
            // A connection that died while nobody used it, as when the environment was frozen.
            self.forget(way);
            result = self.try_call(way, path, request).await;
        }
        hanging.is_over = true;
        if let Err(Failure::Unreachable(_)) = result.0 {
            self.forget(way);
        }
        result.0
    }

    async fn try_call<T: Message + Default + 'static>(
        &self,
        way: usize,
        path: PathAndQuery,
        request: Bytes,
    ) -> (Result<T, Failure>, bool) {
        let (channel, was_used) = self.channel(way);
        let mut client = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        if let Err(error) = client.ready().await {
            return (Err(Failure::Unreachable(error.to_string())), was_used);
        }
        let result = client.unary(Request::new(request), path, Encoded(PhantomData)).await;
        (result.map(tonic::Response::into_inner).map_err(failure), was_used)
    }
}

/// Notices that a call was given up.
struct Hanging<'a> {
    node: &'a Node,
    way: usize,
    is_over: bool,
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.node.forget(self.way);
        }
    }
}

fn failure(status: Status) -> Failure {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled => {
            Failure::Unreachable(status.message().to_owned())
        }
        Code::DeadlineExceeded => Failure::TimedOut,
        Code::OutOfRange | Code::DataLoss => Failure::Garbage("answer is no message, or too long"),
        code => Failure::Refused(format!("{code:?}: {}", status.message())),
    }
}

impl Network for Channels {
    async fn vote(&self, node: usize, attempt: u32, request: Bytes) -> Result<VoteResponse, Failure> {
        self.nodes[node].call(usize::from(attempt > 0), VOTE, request).await
    }

    async fn store(&self, node: usize, request: Bytes) -> Result<StoreResponse, Failure> {
        self.nodes[node].call(0, STORE, request).await
    }
}

/// Sends bytes that are a message already, so that seven nodes cost one encoding.
struct Encoded<T>(PhantomData<T>);

impl<T: Message + Default + 'static> Codec for Encoded<T> {
    type Encode = Bytes;
    type Decode = T;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> Self {
        Self(PhantomData)
    }
}

impl<T> Encoder for Encoded<T> {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl<T: Message + Default> Decoder for Encoded<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        T::decode(bytes).map(Some).map_err(|error| Status::data_loss(error.to_string()))
    }
}
