//! The tally of the delegates' votes: who voted for what, with how much stake, and is it final.

use crate::signatures::{Algorithm, Signed, batch_verify};
use ahash::{AHashMap, AHashSet};
use std::collections::BTreeMap;

/// Keeps a vote from being taken for any other signed thing.
pub const VOTE_DOMAIN: &[u8] = b"love-vote-v1\0";

#[derive(Debug, Clone)]
pub struct Delegate {
    pub delegate_id: String,
    pub algorithm: Option<Algorithm>,
    pub public_key: Vec<u8>,
    pub stake: u64,
}

#[derive(Debug, Clone)]
pub struct Vote<'a> {
    pub delegate_id: &'a str,
    pub transaction_id: [u8; 32],
    pub sender: [u8; 32],
    pub nonce: u64,
    pub signature: &'a [u8],
}

/// What the votes for one transaction come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    pub transaction_id: [u8; 32],
    /// Verified votes are worth at least two thirds of all stake.
    pub is_final: bool,
    pub stake: u128,
    pub voters: Vec<String>,
    /// Claimed voters whose vote counts for nothing: unknown, the signature is not theirs, or they
    /// voted for another transaction of this nonce as well.
    pub refused: Vec<String>,
    /// Proofs against delegates that broke the promise of one vote for each nonce.
    pub double_votes: Vec<DoubleVote>,
}

/// Two votes of one delegate for one (sender, nonce): each signature verifies by itself, so
/// whoever holds both can show what the delegate did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoubleVote {
    pub delegate_id: String,
    pub sender: [u8; 32],
    pub nonce: u64,
    /// Transaction id and signature, in the order in which they came.
    pub votes: [([u8; 32], Vec<u8>); 2],
}

const VOTE_MESSAGE_LEN: usize = VOTE_DOMAIN.len() + 8 + 32 + 32 + 8;

/// What a delegate signs: domain, epoch, transaction id, sender, nonce; integers big-endian.
pub fn vote_message(
    epoch: u64,
    transaction_id: &[u8; 32],
    sender: &[u8; 32],
    nonce: u64,
) -> [u8; VOTE_MESSAGE_LEN] {
    let mut message = [0; VOTE_MESSAGE_LEN];
    let mut at = 0;
    for part in [VOTE_DOMAIN, &epoch.to_be_bytes(), transaction_id, sender, &nonce.to_be_bytes()] {
        message[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    message
}

/// Verify all votes and tally them by transaction, in the order in which these first appear.
pub fn collect(votes: &[Vote<'_>], delegates: &[Delegate], epoch: u64) -> Vec<Tally> {
    tally(votes, &verify(votes, delegates, epoch), delegates)
}

/// Whether this stake is two thirds of all.
pub fn is_quorum(stake: u128, total: u128) -> bool {
    total > 0 && 3 * stake >= 2 * total
}

/// All stake, whether it votes or not.
pub fn total_stake(delegates: &[Delegate]) -> u128 {
    by_id(delegates).values().map(|delegate| u128::from(delegate.stake)).sum()
}

fn by_id(delegates: &[Delegate]) -> AHashMap<&str, &Delegate> {
    delegates.iter().map(|delegate| (delegate.delegate_id.as_str(), delegate)).collect()
}

/// Tally votes, of which `verified` says in the same order whether the signature is the delegate's.
///
/// A delegate that voted for two transactions of one nonce counts for neither: otherwise a third
/// of the stake could make both final.
pub fn tally(votes: &[Vote<'_>], verified: &[bool], delegates: &[Delegate]) -> Vec<Tally> {
    let registry = by_id(delegates);
    let total = total_stake(delegates);
    let doubles = double_votes(votes, verified);

    let mut places: AHashMap<[u8; 32], usize> = AHashMap::new();
    let mut counted: AHashSet<(usize, &str)> = AHashSet::with_capacity(votes.len());
    let mut tallies: Vec<Tally> = Vec::new();
    for (vote, &verified) in votes.iter().zip(verified) {
        let place = *places.entry(vote.transaction_id).or_insert_with(|| {
            tallies.push(Tally {
                transaction_id: vote.transaction_id,
                is_final: false,
                stake: 0,
                voters: Vec::new(),
                refused: Vec::new(),
                double_votes: Vec::new(),
            });
            tallies.len() - 1
        });
        let tally = &mut tallies[place];
        if !verified || doubles.contains_key(&promise(vote)) {
            tally.refused.push(vote.delegate_id.to_owned());
        } else if counted.insert((place, vote.delegate_id)) {
            tally.stake += u128::from(registry[vote.delegate_id].stake);
            tally.voters.push(vote.delegate_id.to_owned());
        }
    }
    for tally in &mut tallies {
        tally.is_final = is_quorum(tally.stake, total);
    }
    for pair in doubles.values().flatten() {
        let proof = proof_of(votes, *pair);
        for index in pair {
            tallies[places[&votes[*index].transaction_id]].double_votes.push(proof.clone());
        }
    }
    tallies
}

/// Whether each vote is signed by the delegate that it names, for this epoch.
pub fn verify(votes: &[Vote<'_>], delegates: &[Delegate], epoch: u64) -> Vec<bool> {
    let registry = by_id(delegates);
    let messages: Vec<_> = votes
        .iter()
        .map(|vote| vote_message(epoch, &vote.transaction_id, &vote.sender, vote.nonce))
        .collect();
    let signed: Vec<Signed<'_>> = votes
        .iter()
        .zip(&messages)
        .map(|(vote, message)| {
            let delegate = registry.get(vote.delegate_id);
            Signed {
                algorithm: delegate.and_then(|delegate| delegate.algorithm),
                public_key: delegate.map_or(&[], |delegate| &delegate.public_key),
                message,
                signature: vote.signature,
            }
        })
        .collect();
    batch_verify(&signed)
}

/// What a delegate promises once: a transaction for this sender's nonce.
type Promise<'a> = (&'a str, [u8; 32], u64);

fn promise<'a>(vote: &Vote<'a>) -> Promise<'a> {
    (vote.delegate_id, vote.sender, vote.nonce)
}

/// The broken promises: for each its first vote beside every vote for another transaction.
fn double_votes<'a>(votes: &[Vote<'a>], verified: &[bool]) -> BTreeMap<Promise<'a>, Vec<[usize; 2]>> {
    let mut first: AHashMap<Promise<'_>, usize> = AHashMap::with_capacity(votes.len());
    let mut pairs: BTreeMap<Promise<'a>, Vec<[usize; 2]>> = BTreeMap::new();
    for (index, vote) in votes.iter().enumerate().filter(|(index, _)| verified[*index]) {
        let one = *first.entry(promise(vote)).or_insert(index);
        let is_other = |before: usize| votes[before].transaction_id != vote.transaction_id;
        if is_other(one) {
            let known = pairs.entry(promise(vote)).or_default();
            if known.iter().all(|[_, before]| is_other(*before)) {
                known.push([one, index]);
            }
        }
    }
    pairs
}

fn proof_of(votes: &[Vote<'_>], pair: [usize; 2]) -> DoubleVote {
    let vote = &votes[pair[0]];
    DoubleVote {
        delegate_id: vote.delegate_id.to_owned(),
        sender: vote.sender,
        nonce: vote.nonce,
        votes: pair.map(|index| (votes[index].transaction_id, votes[index].signature.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_zebra::{SigningKey, VerificationKey};

    fn delegate(seed: u8, stake: u64) -> (SigningKey, Delegate) {
        let key = SigningKey::from([seed; 32]);
        let public_key = <[u8; 32]>::from(VerificationKey::from(&key)).to_vec();
        let algorithm = Some(Algorithm::Ed25519);
        (key, Delegate { delegate_id: format!("d{seed}"), algorithm, public_key, stake })
    }

    fn tally(stakes: &[u64], voting: &[usize]) -> Tally {
        let made: Vec<_> =
            stakes.iter().enumerate().map(|(i, stake)| delegate(i as u8 + 1, *stake)).collect();
        let delegates: Vec<_> = made.iter().map(|(_, delegate)| delegate.clone()).collect();
        let message = vote_message(3, &[1; 32], &[2; 32], 9);
        let signatures: Vec<[u8; 64]> = voting.iter().map(|&i| made[i].0.sign(&message).into()).collect();
        let votes: Vec<_> = voting
            .iter()
            .zip(&signatures)
            .map(|(&i, signature)| Vote {
                delegate_id: &delegates[i].delegate_id,
                transaction_id: [1; 32],
                sender: [2; 32],
                nonce: 9,
                signature,
            })
            .collect();
        collect(&votes, &delegates, 3).remove(0)
    }

    #[test]
    fn two_thirds_exactly_are_final_and_a_unit_less_is_not() {
        assert!(tally(&[2, 1], &[0]).is_final);
        assert!(!tally(&[1999, 1001], &[0]).is_final);
        assert!(tally(&[u64::MAX, u64::MAX, u64::MAX], &[0, 1]).is_final);
    }

    #[test]
    fn a_delegate_counts_once_though_it_votes_twice() {
        let tally = tally(&[1, 1, 1], &[0, 0, 0]);
        assert_eq!((tally.stake, tally.voters.len(), tally.is_final), (1, 1, false));
    }

    #[test]
    fn a_vote_of_another_epoch_nonce_or_stranger_counts_for_nothing() {
        let (key, known) = delegate(1, 5);
        let signature: [u8; 64] = key.sign(&vote_message(3, &[1; 32], &[2; 32], 9)).into();
        let vote = Vote {
            delegate_id: "d1",
            transaction_id: [1; 32],
            sender: [2; 32],
            nonce: 9,
            signature: &signature,
        };
        let stake = |vote: &Vote<'_>, epoch| {
            collect(std::slice::from_ref(vote), std::slice::from_ref(&known), epoch)[0].stake
        };
        assert_eq!(stake(&vote, 3), 5);
        assert_eq!(stake(&vote, 4), 0);
        assert_eq!(stake(&Vote { nonce: 8, ..vote.clone() }, 3), 0);
        assert_eq!(stake(&Vote { delegate_id: "stranger", ..vote }, 3), 0);
    }

    #[test]
    fn a_delegate_that_votes_twice_for_one_nonce_counts_for_neither_and_is_told_on() {
        let made: Vec<_> = (1..=3).map(|seed| delegate(seed, 1)).collect();
        let delegates: Vec<_> = made.iter().map(|(_, delegate)| delegate.clone()).collect();
        // Delegates 0 and 1 vote for transaction 1, delegates 1 and 2 for transaction 2.
        let cast = [(0, 1u8), (1, 1), (1, 2), (2, 2), (1, 2)];
        let signatures: Vec<[u8; 64]> = cast
            .iter()
            .map(|&(voter, id)| made[voter].0.sign(&vote_message(3, &[id; 32], &[7; 32], 9)).into())
            .collect();
        let votes: Vec<_> = cast
            .iter()
            .zip(&signatures)
            .map(|(&(voter, id), signature)| Vote {
                delegate_id: &delegates[voter].delegate_id,
                transaction_id: [id; 32],
                sender: [7; 32],
                nonce: 9,
                signature,
            })
            .collect();
        let tallies = collect(&votes, &delegates, 3);
        for tally in &tallies {
            assert_eq!((tally.stake, tally.is_final), (1, false));
            let [proof] = &tally.double_votes[..] else { panic!("{tally:?}") };
            assert_eq!((proof.delegate_id.as_str(), proof.sender, proof.nonce), ("d2", [7; 32], 9));
            for (id, signature) in &proof.votes {
                let message = vote_message(3, id, &[7; 32], 9);
                let public_key = &delegates[1].public_key;
                let algorithm = Some(Algorithm::Ed25519);
                assert!(Signed { algorithm, public_key, message: &message, signature }.verifies());
            }
            assert_eq!(proof.votes.clone().map(|(id, _)| id[0]), [1, 2]);
        }
        assert_eq!(tallies[1].refused, ["d2", "d2"]);
        // Another nonce, another sender or a forged vote is no double vote.
        for other in [Vote { nonce: 8, ..votes[2].clone() }, Vote { signature: &[0; 64], ..votes[2].clone() }]
        {
            let tallies = collect(&[votes[0].clone(), votes[1].clone(), other], &delegates, 3);
            assert!(tallies.iter().all(|tally| tally.double_votes.is_empty()));
            assert!(tallies[0].is_final);
        }
    }
}
