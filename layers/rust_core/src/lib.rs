//! The compute core of the federation: pure-Rust modules, and one thin Python binding each.
//!
//! The modules at this level know nothing of Python; `bindings` converts at the edge, and lets
//! go of the GIL before any loop.

#![deny(unsafe_code)]

pub mod canonical;
pub mod certificates;
pub mod collector;
pub mod dependencies;
mod ed25519_batch;
pub mod flags;
pub mod places;
pub mod sealing;
pub mod signatures;
pub mod verified;
pub mod votes;

mod bindings;
