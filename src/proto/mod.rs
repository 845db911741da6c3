//! proto
pub mod backoff;
pub mod membership;
pub mod timer;
pub mod view;
