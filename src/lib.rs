//! hotspare
#![allow(missing_docs, dead_code, unused, clippy::all)]
pub mod buffer;
pub mod config;
pub mod engine;
pub mod event;
pub mod id;
pub mod node;
pub mod proto;
pub mod runtime;
pub mod session;
pub mod stats;
pub mod wire;
#[cfg(feature = "cli")]
pub mod agent;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "sim")]
pub mod sim;
