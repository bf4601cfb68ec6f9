//! The collector over a simulated network: whatever that does, what is called final is, and in time.
//!
//! Time is tokio's, paused: it moves only from one timer to the next, so that waits cost nothing and
//! are exact. Every draw of chance comes from one seed.

mod byzantine;
mod faults;
mod network;
mod nodes;
mod properties;
mod stores;
