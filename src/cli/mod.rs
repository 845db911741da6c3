//! cli
pub mod alloc;
pub mod bench;
