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

const VOTE: PathAndQuery = PathAndQuery::from_static("/love.node.v1.DelegateService/Vote");
const STORE: PathAndQuery = PathAndQuery::from_static("/love.node.v1.DelegateService/Store");
/// The most that the answer to a batch to keep may be.
const STORE_ANSWER_BYTES_MAX: usize = 256 * 1024;
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
    open: Open,
}

/// Makes a channel that connects when it is used; how is what tests change.
type Open = Box<dyn Fn(&Endpoint) -> Channel + Send + Sync>;

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
        Self::opened_by(addresses, credentials, Endpoint::connect_lazy)
    }

    /// The same over another network than the machine's.
    pub fn opened_by(
        addresses: &[String],
        credentials: &Credentials,
        open: impl Fn(&Endpoint) -> Channel + Send + Sync + 'static,
    ) -> Result<Self, BadEndpoint> {
        let nodes = addresses.iter().map(|address| Node::new(address, credentials));
        Ok(Self { nodes: nodes.collect::<Result<_, _>>()?, open: Box::new(open) })
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
    fn channel(&self, way: usize, open: &Open) -> (Channel, bool) {
        let mut kept = self.channels[way].lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(channel) => (channel.clone(), true),
            None => (kept.insert(open(&self.endpoint)).clone(), false),
        }
    }

    fn forget(&self, way: usize) {
        *self.channels[way].lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn call<T: Message + Default + 'static>(&self, call: Call, open: &Open) -> Result<T, Failure> {
        // Whoever gives up waiting drops this future: a connection that hangs is not used again.
        let mut hanging = Hanging { node: self, way: call.way, is_over: false };
        let mut result = self.try_call(call.clone(), open).await;
        if let (Err(Failure::Unreachable(_)), true) = (&result.0, result.1) {
            // A connection that died while nobody used it, as when the environment was frozen.
            self.forget(call.way);
            result = self.try_call(call.clone(), open).await;
        }
        hanging.is_over = true;
        if let Err(Failure::Unreachable(_)) = result.0 {
            self.forget(call.way);
        }
        result.0
    }

    async fn try_call<T: Message + Default + 'static>(
        &self,
        call: Call,
        open: &Open,
    ) -> (Result<T, Failure>, bool) {
        let (channel, was_used) = self.channel(call.way, open);
        let mut client = Grpc::new(channel).max_decoding_message_size(call.answer_bytes_max);
        if let Err(error) = client.ready().await {
            return (Err(Failure::Unreachable(error.to_string())), was_used);
        }
        let result = client.unary(Request::new(call.request), call.path, Encoded(PhantomData)).await;
        (result.map(tonic::Response::into_inner).map_err(failure), was_used)
    }
}

/// What is asked of a node, and over which of its channels.
#[derive(Clone)]
struct Call {
    way: usize,
    path: PathAndQuery,
    request: Bytes,
    answer_bytes_max: usize,
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
        // Internal is also what tonic makes of a stream that broke.
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal => {
            Failure::Unreachable(status.message().to_owned())
        }
        Code::DeadlineExceeded => Failure::TimedOut,
        Code::OutOfRange | Code::DataLoss => Failure::Garbage("answer is no message, or too long"),
        code => Failure::Refused(format!("{code:?}: {}", status.message())),
    }
}

impl Network for Channels {
    async fn vote(
        &self,
        node: usize,
        attempt: u32,
        request: Bytes,
        answer_bytes_max: usize,
    ) -> Result<VoteResponse, Failure> {
        let way = usize::from(attempt > 0);
        self.nodes[node].call(Call { way, path: VOTE, request, answer_bytes_max }, &self.open).await
    }

    async fn store(&self, node: usize, request: Bytes) -> Result<StoreResponse, Failure> {
        let call = Call { way: 0, path: STORE, request, answer_bytes_max: STORE_ANSWER_BYTES_MAX };
        self.nodes[node].call(call, &self.open).await
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
