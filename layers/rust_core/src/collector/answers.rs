//! What the nodes have said of a batch so far: each answer is checked and its votes are verified as it comes.

use super::wire::{Status, VoteResponse};
use super::{Ballot, Failure, Outcome};
use crate::votes::{self, Delegate, Tally, Vote, is_quorum, total_stake};
use ahash::AHashMap;

/// The longest signature (ML-DSA-65, FIPS 204 table 2), with room.
const SIGNATURE_BYTES_MAX: usize = 4 * 1024;
const REASON_CHARS_MAX: usize = 64;
/// The longest vote that is taken: signature, reason in UTF-8, two ids, with room.
const VOTE_BYTES_MAX: usize = SIGNATURE_BYTES_MAX + 4 * REASON_CHARS_MAX + 256;
/// What an answer has beside its votes, with room.
const FRAME_BYTES_MAX: usize = 1024;
const NONCE_LOCKED: &str = "nonce_locked";

/// An answer was what was asked for, whatever it says.
#[derive(Debug)]
pub struct Checked;

/// How long an answer about so many ballots may be.
///
/// An empty vote is two bytes on the wire and a hundred in memory: within a fixed limit for the largest
/// batch, a liar could fill the memory of who asks about a small one.
pub fn bytes_max(ballots: usize) -> usize {
    FRAME_BYTES_MAX + ballots * VOTE_BYTES_MAX
}

/// One signature that a node gave for a ballot.
struct Given {
    node: usize,
    ballot: usize,
    signature: Vec<u8>,
}

/// All answers to one request.
pub struct Answers<'a> {
    ballots: &'a [Ballot],
    delegates: &'a [Delegate],
    epoch: u64,
    total_stake: u128,
    given: Vec<Given>,
    verified: Vec<bool>,
    /// By ballot.
    locked_stakes: Vec<u128>,
    tallies: AHashMap<[u8; 32], Tally>,
}

impl<'a> Answers<'a> {
    pub fn new(ballots: &'a [Ballot], delegates: &'a [Delegate], epoch: u64) -> Self {
        Self {
            ballots,
            delegates,
            epoch,
            total_stake: total_stake(delegates),
            given: Vec::new(),
            verified: Vec::new(),
            locked_stakes: vec![0; ballots.len()],
            tallies: AHashMap::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.ballots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ballots.is_empty()
    }

    pub fn total_stake(&self) -> u128 {
        self.total_stake
    }

    /// Count a node's answer; it must be whole, or nothing of it counts.
    pub fn take(&mut self, node: usize, response: VoteResponse) -> Result<Checked, Failure> {
        self.check(node, &response)?;
        let stake = u128::from(self.delegates[node].stake);
        let before = self.given.len();
        for (ballot, vote) in response.votes.into_iter().enumerate() {
            if vote.status == Status::Signed as i32 {
                self.given.push(Given { node, ballot, signature: vote.signature });
            } else if vote.reason == NONCE_LOCKED {
                self.locked_stakes[ballot] += stake;
            }
        }
        let fresh = votes::verify(&self.votes(before), self.delegates, self.epoch);
        self.verified.extend(fresh);
        let tallies = votes::tally(&self.votes(0), &self.verified, self.delegates);
        self.tallies = tallies.into_iter().map(|tally| (tally.transaction_id, tally)).collect();
        Ok(Checked)
    }

    fn check(&self, node: usize, response: &VoteResponse) -> Result<(), Failure> {
        let wrong = |what| Err(Failure::Garbage(what));
        if response.delegate_id != self.delegates[node].delegate_id {
            return wrong("delegate_id is another's");
        }
        if response.votes.len() != self.ballots.len() {
            return wrong("votes are not as many as the ballots");
        }
        for (vote, ballot) in response.votes.iter().zip(self.ballots) {
            let is_its = vote.transaction_id == ballot.transaction_id;
            match Status::try_from(vote.status) {
                Ok(Status::Signed) if response.epoch != self.epoch => return wrong("epoch is another"),
                Ok(Status::Signed) if !is_its => return wrong("transaction_id is another's"),
                Ok(Status::Signed) if vote.signature.len() > SIGNATURE_BYTES_MAX => {
                    return wrong("signature is too long");
                }
                Ok(Status::Signed) => {}
                // Of what it couldn't read a node doesn't know the id.
                Ok(Status::Refused) if is_its || vote.transaction_id.is_empty() => {
                    if vote.reason.chars().count() > REASON_CHARS_MAX {
                        return wrong("reason is too long");
                    }
                }
                Ok(Status::Refused) => return wrong("transaction_id is another's"),
                Ok(Status::Unspecified) | Err(_) => return wrong("status is none"),
            }
        }
        Ok(())
    }

    fn votes(&self, from: usize) -> Vec<Vote<'_>> {
        let given = self.given[from..].iter();
        given
            .map(|one| {
                let ballot = &self.ballots[one.ballot];
                Vote {
                    delegate_id: &self.delegates[one.node].delegate_id,
                    transaction_id: ballot.transaction_id,
                    sender: ballot.sender,
                    nonce: ballot.nonce,
                    signature: &one.signature,
                }
            })
            .collect()
    }

    fn stake(&self, ballot: usize) -> u128 {
        self.tallies.get(&self.ballots[ballot].transaction_id).map_or(0, |tally| tally.stake)
    }

    /// More than a third has promised the nonce away: it can't ever be final.
    fn is_hopeless(&self, ballot: usize) -> bool {
        3 * self.locked_stakes[ballot] > self.total_stake
    }

    fn is_settled(&self, ballot: usize) -> bool {
        is_quorum(self.stake(ballot), self.total_stake) || self.is_hopeless(ballot)
    }

    /// Each ballot is final, or hopeless.
    pub fn are_decided(&self) -> bool {
        (0..self.ballots.len()).all(|ballot| self.is_settled(ballot))
    }

    /// Whether all ballots would be decided if the nodes that are still awaited signed everything.
    pub fn may_all_be_decided(&self, is_awaited: impl Fn(usize) -> bool) -> bool {
        let awaited = self.delegates.iter().enumerate().filter(|(node, _)| is_awaited(*node));
        let stake: u128 = awaited.map(|(_, delegate)| u128::from(delegate.stake)).sum();
        (0..self.ballots.len())
            .all(|ballot| self.is_settled(ballot) || is_quorum(self.stake(ballot) + stake, self.total_stake))
    }

    /// What it all comes to, in the order of the ballots.
    pub fn outcomes(&self) -> Vec<Outcome> {
        let mut signatures: AHashMap<([u8; 32], &str), &[u8]> = AHashMap::with_capacity(self.given.len());
        for (one, _) in self.given.iter().zip(&self.verified).filter(|(_, verified)| **verified) {
            let id = self.ballots[one.ballot].transaction_id;
            let delegate_id = self.delegates[one.node].delegate_id.as_str();
            signatures.entry((id, delegate_id)).or_insert(&one.signature);
        }
        let of = |(ballot, locked_stake): (&Ballot, &u128)| {
            let Some(tally) = self.tallies.get(&ballot.transaction_id) else {
                return Outcome {
                    is_final: false,
                    stake: 0,
                    votes: Vec::new(),
                    refused: Vec::new(),
                    locked_stake: *locked_stake,
                    double_votes: Vec::new(),
                };
            };
            let signed = |voter: &String| {
                let signature = signatures.get(&(ballot.transaction_id, voter.as_str()))?;
                Some((voter.clone(), signature.to_vec()))
            };
            Outcome {
                is_final: tally.is_final,
                stake: tally.stake,
                votes: tally.voters.iter().filter_map(signed).collect(),
                refused: tally.refused.clone(),
                locked_stake: *locked_stake,
                double_votes: tally.double_votes.clone(),
            }
        };
        self.ballots.iter().zip(&self.locked_stakes).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire;
    use super::*;
    use prost::Message;

    #[test]
    fn the_longest_answer_has_room_and_a_flood_of_empty_votes_has_not() {
        for ballots in [1, 100] {
            let vote = wire::Vote {
                transaction_id: vec![1; 32],
                status: Status::Signed as i32,
                signature: vec![1; SIGNATURE_BYTES_MAX],
                reason: "\u{1f49b}".repeat(REASON_CHARS_MAX),
                locked_transaction_id: vec![1; 32],
            };
            let delegate_id = "d".repeat(256);
            let longest = VoteResponse { delegate_id, epoch: u64::MAX, votes: vec![vote; ballots] };
            assert!(longest.encoded_len() <= bytes_max(ballots));
            let flood = VoteResponse { votes: vec![wire::Vote::default(); ballots * 3_000], ..longest };
            assert!(flood.encoded_len() > bytes_max(ballots));
        }
    }
}
