//! The tally of the delegates' votes: who voted for what, with how much stake, and is it final.

use crate::signatures::{Algorithm, Signed, batch_verify};
use ahash::{AHashMap, AHashSet};

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
    /// Claimed voters whose vote counts for nothing: unknown, or the signature is not theirs.
    pub refused: Vec<String>,
}

/// What a delegate signs: domain, epoch, transaction id, sender, nonce; integers big-endian.
pub fn vote_message(epoch: u64, transaction_id: &[u8; 32], sender: &[u8; 32], nonce: u64) -> Vec<u8> {
    [VOTE_DOMAIN, &epoch.to_be_bytes(), transaction_id, sender, &nonce.to_be_bytes()].concat()
}

/// Verify all votes and tally them by transaction, in the order in which these first appear.
pub fn collect(votes: &[Vote<'_>], delegates: &[Delegate], epoch: u64) -> Vec<Tally> {
    let registry: AHashMap<&str, &Delegate> =
        delegates.iter().map(|delegate| (delegate.delegate_id.as_str(), delegate)).collect();
    let total: u128 = registry.values().map(|delegate| u128::from(delegate.stake)).sum();
    let messages: Vec<Vec<u8>> = votes
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
    let verified = batch_verify(&signed);

    let mut places: AHashMap<[u8; 32], usize> = AHashMap::new();
    let mut counted: AHashSet<([u8; 32], &str)> = AHashSet::new();
    let mut tallies: Vec<Tally> = Vec::new();
    for (vote, verified) in votes.iter().zip(verified) {
        let place = *places.entry(vote.transaction_id).or_insert_with(|| {
            tallies.push(Tally {
                transaction_id: vote.transaction_id,
                is_final: false,
                stake: 0,
                voters: Vec::new(),
                refused: Vec::new(),
            });
            tallies.len() - 1
        });
        let tally = &mut tallies[place];
        if !verified {
            tally.refused.push(vote.delegate_id.to_owned());
        } else if counted.insert((vote.transaction_id, vote.delegate_id)) {
            tally.stake += u128::from(registry[vote.delegate_id].stake);
            tally.voters.push(vote.delegate_id.to_owned());
        }
    }
    for tally in &mut tallies {
        tally.is_final = total > 0 && 3 * tally.stake >= 2 * total;
    }
    tallies
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
}
