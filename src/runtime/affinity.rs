//! Pinning of threads (to be implemented).
