//! What is known of the line to one node: whether it is warm, slow, or left alone for a while.

use std::time::Duration;
use tokio::time::Instant;

/// Failures in a row after which a node is left alone.
const FAILURES_MAX: u32 = 2;
/// For so long; then one call tries it.
const REST: Duration = Duration::from_secs(2);

/// A circuit breaker with a memory of how quick its node was.
#[derive(Debug, Clone, Default)]
pub struct Line {
    failures: u32,
    rests_until: Option<Instant>,
    is_warm: bool,
    is_slow: bool,
    is_connecting: bool,
}

impl Line {
    /// Whether to ask the node at all; after a rest one call only.
    pub fn admits(&mut self, now: Instant) -> bool {
        match self.rests_until {
            Some(until) if self.failures >= FAILURES_MAX => {
                if now < until {
                    return false;
                }
                self.rests_until = Some(now + REST);
                true
            }
            _ => true,
        }
    }

    /// It has answered since its last failure, so the connection stands.
    pub fn is_warm(&self) -> bool {
        self.is_warm
    }

    /// Nothing is known of it: its connection is still to be made.
    ///
    /// One that failed is not waited for like this: a node that is dead would cost every batch the time.
    pub fn is_new(&self) -> bool {
        !self.is_warm && self.failures == 0
    }

    /// An answer in time can be counted on.
    pub fn is_prompt(&self) -> bool {
        self.is_warm && !self.is_slow && self.failures == 0
    }

    pub fn answered(&mut self) {
        *self = Self { is_warm: true, is_connecting: self.is_connecting, ..Self::default() };
    }

    /// Whether a call, which begins now, is the one that gets the time to connect; it has to tell its end.
    ///
    /// Otherwise a node whose handshake takes longer than a vote may take would never come back.
    pub fn begin_connecting(&mut self) -> bool {
        let begins = !self.is_warm && !self.is_connecting;
        self.is_connecting |= begins;
        begins
    }

    pub fn end_connecting(&mut self) {
        self.is_connecting = false;
    }

    pub fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.rests_until = Some(now + REST);
        self.is_warm = false;
    }

    /// It answered what nobody asked: it is left alone at once.
    pub fn spoiled(&mut self, now: Instant) {
        self.failures = FAILURES_MAX;
        self.rests_until = Some(now + REST);
    }

    /// Others were quicker: it is no failure, but nobody waits for it the next time.
    pub fn lagged(&mut self) {
        self.is_slow = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_failed_twice_rests_and_is_tried_by_one_call_then() {
        let now = Instant::now();
        let mut line = Line::default();
        line.failed(now);
        assert!(line.admits(now));
        line.failed(now);
        assert!(!line.admits(now + REST / 2));
        assert!(line.admits(now + REST));
        assert!(!line.admits(now + REST));
        line.answered();
        assert!(line.admits(now + REST));
    }

    #[test]
    fn one_call_at_a_time_gets_the_time_to_connect_and_none_on_a_line_that_stands() {
        let mut line = Line::default();
        assert!(line.begin_connecting());
        line.failed(Instant::now());
        assert!(!line.begin_connecting());
        line.end_connecting();
        assert!(line.begin_connecting());
        line.answered();
        line.end_connecting();
        assert!(!line.begin_connecting());
    }

    #[test]
    fn a_slow_node_is_warm_and_not_prompt_until_it_answers_in_time() {
        let mut line = Line::default();
        assert!(line.is_new() && !line.is_warm());
        line.answered();
        line.lagged();
        assert!(line.is_warm() && !line.is_prompt());
        line.answered();
        assert!(line.is_prompt());
        line.failed(Instant::now());
        assert!(!line.is_new() && !line.is_warm());
    }
}
