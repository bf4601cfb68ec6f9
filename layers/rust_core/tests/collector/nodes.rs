//! Simulated delegates: honest ones keep their promises, the others each have a way to lie.

use ed25519_zebra::{SigningKey, VerificationKey};
use prost::Message;
use rust_core::collector::wire::{
    SignedHeader, Status, StoreRequest, StoreResponse, StoredItem, Vote, VoteRequest, VoteResponse,
};
use rust_core::collector::{Ballot, Failure};
use rust_core::signatures::Algorithm;
use rust_core::votes::Delegate;
use std::collections::HashMap;

pub const EPOCH: u64 = 7;

/// What a delegate does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Honest,
    /// Breaks the promise of one vote for each nonce.
    SignsEverything,
    /// Its signatures are noise.
    Forges,
    /// Signs for the epoch before, and says so.
    IsOfAnotherEpoch,
    /// Signs for the epoch before, and says that it is this one.
    HidesItsEpoch,
    /// Answers in the name of another.
    Impersonates,
    /// Its votes name another transaction.
    SwapsIds,
    VotesTooFew,
    VotesTooMany,
    /// Bytes that are no message.
    Babbles,
    /// So many empty votes that they fill two megabytes, and a hundred when decoded.
    IsEndless,
    SignsAtLength,
    ExplainsAtLength,
    LeavesStatusOut,
    /// Says of every nonce that it is promised away.
    ClaimsLocks,
    /// A gRPC status instead of an answer.
    RefusesCalls,
}

/// Each way to lie.
pub const LIARS: [Behaviour; 15] = [
    Behaviour::SignsEverything,
    Behaviour::Forges,
    Behaviour::IsOfAnotherEpoch,
    Behaviour::HidesItsEpoch,
    Behaviour::Impersonates,
    Behaviour::SwapsIds,
    Behaviour::VotesTooFew,
    Behaviour::VotesTooMany,
    Behaviour::Babbles,
    Behaviour::IsEndless,
    Behaviour::SignsAtLength,
    Behaviour::ExplainsAtLength,
    Behaviour::LeavesStatusOut,
    Behaviour::ClaimsLocks,
    Behaviour::RefusesCalls,
];

pub struct Node {
    pub delegate_id: String,
    pub stake: u64,
    pub is_full: bool,
    pub behaviour: Behaviour,
    /// How many items of a batch it keeps; all by default.
    pub keeps_at_most: usize,
    pub kept_batches: Vec<String>,
    key: SigningKey,
    locks: HashMap<([u8; 32], u64), [u8; 32]>,
}

impl Node {
    pub fn new(number: usize, stake: u64, is_full: bool) -> Self {
        let mut seed = [0x5a; 32];
        seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
        Self {
            delegate_id: format!("node-{number}"),
            stake,
            is_full,
            behaviour: Behaviour::Honest,
            keeps_at_most: usize::MAX,
            kept_batches: Vec::new(),
            key: SigningKey::from(seed),
            locks: HashMap::new(),
        }
    }

    pub fn is_honest(&self) -> bool {
        self.behaviour == Behaviour::Honest
    }

    pub fn public_key(&self) -> VerificationKey {
        VerificationKey::from(&self.key)
    }

    pub fn delegate(&self) -> Delegate {
        Delegate {
            delegate_id: self.delegate_id.clone(),
            algorithm: Some(Algorithm::Ed25519),
            public_key: <[u8; 32]>::from(self.public_key()).to_vec(),
            stake: self.stake,
        }
    }

    /// An encoded answer to an encoded request.
    pub fn vote(&mut self, request: &[u8]) -> Result<Vec<u8>, Failure> {
        let request = VoteRequest::decode(request).expect("the collector sends a message");
        assert_eq!(request.epoch, EPOCH);
        let mut response = VoteResponse {
            delegate_id: self.delegate_id.clone(),
            epoch: EPOCH,
            votes: request.items.iter().map(|item| self.vote_on(&named(item))).collect(),
        };
        match self.behaviour {
            Behaviour::Babbles => return Ok(b"\xff\xff\xff\xff no message".to_vec()),
            Behaviour::IsEndless => return Ok(b"\x1a\x00".repeat(1 << 20)),
            Behaviour::RefusesCalls => return Err(Failure::Refused("ResourceExhausted".to_owned())),
            Behaviour::IsOfAnotherEpoch => response.epoch = EPOCH - 1,
            Behaviour::Impersonates => response.delegate_id.push('0'),
            Behaviour::SwapsIds => response.votes.iter_mut().for_each(|vote| vote.transaction_id[0] ^= 1),
            Behaviour::VotesTooFew => drop(response.votes.pop()),
            Behaviour::VotesTooMany => response.votes.push(Vote::default()),
            _ => {}
        }
        Ok(response.encode_to_vec())
    }

    fn vote_on(&mut self, ballot: &Ballot) -> Vote {
        let promise = (ballot.sender, ballot.nonce);
        let holder = *self.locks.entry(promise).or_insert(ballot.transaction_id);
        let epoch = match self.behaviour {
            Behaviour::IsOfAnotherEpoch | Behaviour::HidesItsEpoch => EPOCH - 1,
            _ => EPOCH,
        };
        let keeps_promises = self.behaviour != Behaviour::SignsEverything;
        if self.behaviour == Behaviour::ClaimsLocks || (keeps_promises && holder != ballot.transaction_id) {
            return refusal(ballot, "nonce_locked");
        }
        let mut signature = <[u8; 64]>::from(self.key.sign(&message(epoch, ballot))).to_vec();
        let mut status = Status::Signed;
        match self.behaviour {
            Behaviour::ExplainsAtLength => return refusal(ballot, &"so ".repeat(1_000)),
            Behaviour::Forges => signature[40] ^= 1,
            Behaviour::SignsAtLength => signature.resize(100_000, 0),
            Behaviour::LeavesStatusOut => status = Status::Unspecified,
            _ => {}
        }
        Vote {
            transaction_id: ballot.transaction_id.to_vec(),
            status: status as i32,
            signature,
            ..Vote::default()
        }
    }

    /// Keep a batch; an encoded answer.
    pub fn store(&mut self, request: &[u8]) -> Result<Vec<u8>, Failure> {
        let request = StoreRequest::decode(request).expect("the collector sends a message");
        self.kept_batches.push(request.batch_id);
        let kept = request.items.len().min(self.keeps_at_most) as u32;
        let response = StoreResponse { delegate_id: self.delegate_id.clone(), kept, refusals: Vec::new() };
        Ok(response.encode_to_vec())
    }
}

fn refusal(ballot: &Ballot, reason: &str) -> Vote {
    Vote {
        transaction_id: ballot.transaction_id.to_vec(),
        status: Status::Refused as i32,
        reason: reason.to_owned(),
        ..Vote::default()
    }
}

/// What a delegate signs, written down here once more: the collector's own is what is tested.
pub fn message(epoch: u64, ballot: &Ballot) -> Vec<u8> {
    let mut message = b"love-vote-v1\0".to_vec();
    message.extend(epoch.to_be_bytes());
    message.extend(ballot.transaction_id);
    message.extend(ballot.sender);
    message.extend(ballot.nonce.to_be_bytes());
    message
}

/// A transaction of a sender's nonce; those of different `rival` are in conflict.
///
/// In place of the header's JSON, which no simulated node looks into, stand the names.
pub fn ballot(sender: u8, nonce: u64, rival: u8) -> Ballot {
    let mut transaction_id = [rival; 32];
    transaction_id[0] = sender;
    transaction_id[1..9].copy_from_slice(&nonce.to_be_bytes());
    let sender = [sender; 32];
    let header = SignedHeader {
        header: [&transaction_id[..], &sender, &nonce.to_be_bytes()].concat(),
        algorithm: "Ed25519".to_owned(),
        public_key: vec![1; 32],
        signature: vec![2; 64],
    };
    Ballot { transaction_id, sender, nonce, header }
}

fn named(item: &SignedHeader) -> Ballot {
    let part = |from: usize| <[u8; 32]>::try_from(&item.header[from..from + 32]).expect("a name");
    let nonce = u64::from_be_bytes(item.header[64..].try_into().expect("a nonce"));
    Ballot { transaction_id: part(0), sender: part(32), nonce, header: item.clone() }
}

/// A batch of so many items to keep.
pub fn store_request(batch_id: &str, items: usize) -> StoreRequest {
    let item = |nonce| StoredItem { header: Some(ballot(1, nonce, 0).header), ..Default::default() };
    StoreRequest {
        epoch: EPOCH,
        batch_id: batch_id.to_owned(),
        items: (0..items as u64).map(item).collect(),
        ..Default::default()
    }
}
