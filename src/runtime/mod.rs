//! runtime
pub(crate) mod affinity;
