//! Ed25519 signatures of a batch in one equation (ZIP-215), and which of them are bad.
//!
//! The equation is ed25519-zebra's: with a secret random 128-bit z for each signature,
//! 8·Σ z·(R + k·A − s·B) is the identity if all hold, and else is not, but with probability
//! 2^-128. It is written out here on the same curve library because a failed batch then costs
//! little more: points once decompressed serve every later question, and the sum over one half is
//! the sum over the whole less the other half.

use ahash::AHashMap;
use aws_lc_rs::digest::{self, SHA512};
use aws_lc_rs::rand as random;
use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};

/// A failed batch is summed anew in groups of so many: about one bad signature each at 5 % bad.
const GROUP: usize = 16;
/// So few are checked one by one: an equation would cost as much.
const SINGLES: usize = 3;

/// One signature, taken apart and decompressed.
struct Term {
    /// Which of the batch's signatures.
    index: usize,
    /// Which of the batch's keys.
    key: usize,
    r: EdwardsPoint,
    s: Scalar,
    k: Scalar,
    z: Scalar,
}

/// The terms of a batch; a repeated signer's key is decompressed and multiplied once.
pub(crate) struct Batch<'a> {
    keys: Vec<EdwardsPoint>,
    key_places: AHashMap<&'a [u8; 32], Option<usize>>,
    terms: Vec<Term>,
}

impl<'a> Batch<'a> {
    pub(crate) fn with_capacity(signatures: usize) -> Self {
        Self {
            keys: Vec::with_capacity(signatures),
            key_places: AHashMap::with_capacity(signatures),
            terms: Vec::with_capacity(signatures),
        }
    }

    /// Take a signature in; one that can't be read is left out, and so never holds.
    pub(crate) fn push(
        &mut self,
        index: usize,
        public_key: &'a [u8; 32],
        message: &[u8],
        signature: &[u8; 64],
    ) -> Option<()> {
        let (r_bytes, s_bytes) = signature.split_at(32);
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(s_bytes.try_into().ok()?))?;
        let r = CompressedEdwardsY(r_bytes.try_into().ok()?).decompress()?;
        let keys = &mut self.keys;
        let place = *self.key_places.entry(public_key).or_insert_with(|| {
            keys.push(CompressedEdwardsY(*public_key).decompress()?);
            Some(keys.len() - 1)
        });
        let mut hash = digest::Context::new(&SHA512);
        hash.update(r_bytes);
        hash.update(public_key);
        hash.update(message);
        let k = Scalar::from_bytes_mod_order_wide(hash.finish().as_ref().try_into().ok()?);
        // Filled in when all are there.
        let z = Scalar::ZERO;
        self.terms.push(Term { index, key: place?, r, s, k, z });
        Some(())
    }

    /// The indices of the signatures that hold; none if the system gives no random bytes.
    pub(crate) fn good(mut self) -> Vec<usize> {
        // aws-lc's randomness isn't repeated by a restored snapshot of the process.
        let mut secrets = vec![0; 16 * self.terms.len()];
        if random::fill(&mut secrets).is_err() {
            return Vec::new();
        }
        for (term, secret) in self.terms.iter_mut().zip(secrets.as_chunks::<16>().0) {
            term.z = Scalar::from(u128::from_le_bytes(*secret));
        }
        let mut good = Vec::with_capacity(self.terms.len());
        let whole = self.sum(&self.terms);
        if holds(&whole) {
            good.extend(self.terms.iter().map(|term| term.index));
        } else if self.terms.len() <= GROUP {
            self.bisect(&self.terms, whole, &mut good);
        } else {
            // Neighbours of one signer cost one multiplication less each, and a forger's are together.
            self.terms.sort_by_key(|term| term.key);
            self.search(whole, &mut good);
        }
        good
    }

    fn search(&self, whole: EdwardsPoint, good: &mut Vec<usize>) {
        let mut left_over = whole;
        let mut groups = self.terms.chunks(GROUP).peekable();
        let mut bad = Vec::new();
        while let Some(group) = groups.next() {
            // What the others leave is the last group's, for nothing.
            let sum = if groups.peek().is_some() { self.sum(group) } else { left_over };
            left_over -= sum;
            if holds(&sum) {
                good.extend(group.iter().map(|term| term.index));
            } else {
                bad.push((group, sum));
            }
        }
        let many = bad.len() * GROUP > self.terms.len() / 8 * 7;
        for (group, sum) in bad {
            if many {
                self.one_by_one(group, good);
            } else {
                self.bisect(group, sum, good);
            }
        }
    }

    /// The good ones among terms whose sum is known, and known to be bad.
    fn bisect(&self, terms: &[Term], sum: EdwardsPoint, good: &mut Vec<usize>) {
        if terms.len() <= SINGLES {
            return self.one_by_one(terms, good);
        }
        let (left, right) = terms.split_at(terms.len() / 2);
        let left_sum = self.sum(left);
        let right_sum = sum - left_sum;
        match (holds(&left_sum), holds(&right_sum)) {
            // More than one is bad among few: the next equations would fail as well.
            (false, false) if terms.len() <= GROUP / 2 => self.one_by_one(terms, good),
            (left_holds, right_holds) => {
                for (half, sum, half_holds) in [(left, left_sum, left_holds), (right, right_sum, right_holds)]
                {
                    if half_holds {
                        good.extend(half.iter().map(|term| term.index));
                    } else {
                        self.bisect(half, sum, good);
                    }
                }
            }
        }
    }

    fn one_by_one(&self, terms: &[Term], good: &mut Vec<usize>) {
        good.extend(terms.iter().filter(|term| self.holds_alone(term)).map(|term| term.index));
    }

    fn holds_alone(&self, term: &Term) -> bool {
        let r = EdwardsPoint::vartime_double_scalar_mul_basepoint(&-term.k, &self.keys[term.key], &term.s);
        holds(&(term.r - r))
    }

    /// Σ z·(R + k·A − s·B), with the terms of one key joined.
    fn sum(&self, terms: &[Term]) -> EdwardsPoint {
        let mut base = Scalar::ZERO;
        let mut keys: Vec<usize> = Vec::with_capacity(terms.len());
        let mut coefficients: Vec<Scalar> = Vec::with_capacity(terms.len());
        let mut places = vec![usize::MAX; if terms.len() > GROUP { self.keys.len() } else { 0 }];
        for term in terms {
            base -= term.z * term.s;
            let known = match places.get(term.key) {
                Some(&place) => (place != usize::MAX).then_some(place),
                // Among few, looking is quicker than keeping a table of all keys.
                None => keys.iter().position(|key| *key == term.key),
            };
            match known {
                Some(place) => coefficients[place] += term.z * term.k,
                None => {
                    if let Some(place) = places.get_mut(term.key) {
                        *place = keys.len();
                    }
                    keys.push(term.key);
                    coefficients.push(term.z * term.k);
                }
            }
        }
        EdwardsPoint::vartime_multiscalar_mul(
            std::iter::once(&base).chain(&coefficients).chain(terms.iter().map(|term| &term.z)),
            std::iter::once(&ED25519_BASEPOINT_POINT)
                .chain(keys.iter().map(|key| &self.keys[*key]))
                .chain(terms.iter().map(|term| &term.r)),
        )
    }
}

/// Whether a sum is the identity up to the cofactor.
fn holds(sum: &EdwardsPoint) -> bool {
    sum.mul_by_cofactor().is_identity()
}
