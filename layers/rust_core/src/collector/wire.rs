//! The messages of nodes/proto/love/node/v1/node.proto that a collector sends and takes.

use prost::Message;
use std::collections::HashMap;

#[derive(Clone, PartialEq, Message)]
pub struct SignedHeader {
    #[prost(bytes = "vec", tag = "1")]
    pub header: Vec<u8>,
    #[prost(string, tag = "2")]
    pub algorithm: String,
    #[prost(bytes = "vec", tag = "3")]
    pub public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub signature: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct VoteRequest {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(message, repeated, tag = "2")]
    pub items: Vec<SignedHeader>,
}

#[derive(Clone, PartialEq, Message)]
pub struct VoteResponse {
    #[prost(string, tag = "1")]
    pub delegate_id: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(message, repeated, tag = "3")]
    pub votes: Vec<Vote>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Vote {
    #[prost(bytes = "vec", tag = "1")]
    pub transaction_id: Vec<u8>,
    #[prost(enumeration = "Status", tag = "2")]
    pub status: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub signature: Vec<u8>,
    #[prost(string, tag = "4")]
    pub reason: String,
    #[prost(bytes = "vec", tag = "5")]
    pub locked_transaction_id: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Status {
    Unspecified = 0,
    Signed = 1,
    Refused = 2,
}

#[derive(Clone, PartialEq, Message)]
pub struct StoreRequest {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(string, tag = "2")]
    pub batch_id: String,
    #[prost(map = "string, bytes", tag = "3")]
    pub wrapped_keys: HashMap<String, Vec<u8>>,
    #[prost(message, repeated, tag = "4")]
    pub items: Vec<StoredItem>,
}

#[derive(Clone, PartialEq, Message)]
pub struct StoredItem {
    #[prost(message, optional, tag = "1")]
    pub header: Option<SignedHeader>,
    #[prost(message, optional, tag = "2")]
    pub sealed: Option<Sealed>,
    #[prost(string, tag = "3")]
    pub home_continent: String,
    #[prost(uint64, tag = "4")]
    pub accepted_at_ms: u64,
    #[prost(string, tag = "5")]
    pub request_id: String,
    #[prost(message, repeated, tag = "6")]
    pub votes: Vec<SignedVote>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Sealed {
    #[prost(string, tag = "1")]
    pub key_id: String,
    #[prost(bytes = "vec", tag = "2")]
    pub ciphertext: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SignedVote {
    #[prost(string, tag = "1")]
    pub delegate_id: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub signature: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct StoreResponse {
    #[prost(string, tag = "1")]
    pub delegate_id: String,
    #[prost(uint32, tag = "2")]
    pub kept: u32,
    #[prost(message, repeated, tag = "3")]
    pub refusals: Vec<Refusal>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Refusal {
    #[prost(uint32, tag = "1")]
    pub index: u32,
    #[prost(string, tag = "2")]
    pub reason: String,
}
