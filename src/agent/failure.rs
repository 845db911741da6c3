//! Why a command failed, in the words that clients know.

use std::fmt;

use super::command::CommandError;
use super::entry::WrongKind;
use crate::node::{CommitError, ContextError, EndError};

/// Why a command was not carried out; where Redis has words for it they are Redis's.
#[derive(Debug)]
pub(crate) enum Failure {
    Command(CommandError),
    Loading,
    WrongKind,
    NoKey,
    Ended,
    ReplyTooLarge(usize),
    Context(ContextError),
    Commit(CommitError),
    Forked,
    Database,
    Protocol,
    ClientName,
    NoPassword,
    WrongPassword,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(error) => error.fmt(f),
            Self::Loading => f.write_str("LOADING hotspare is joining"),
            Self::WrongKind => f.write_str("WRONGTYPE Operation against a key holding the wrong kind of value"),
            Self::NoKey => f.write_str("ERR no such key"),
            Self::Ended => f.write_str("ERR the session was ended again and again during the write"),
            Self::ReplyTooLarge(limit) => write!(f, "ERR reply exceeds maximum allowed size ({})", Size(*limit)),
            Self::Context(ContextError::TooMany(limit)) => write!(f, "ERR the node keeps {limit} contexts and no more"),
            Self::Context(ContextError::NameTooLong(limit)) => {
                write!(f, "ERR the context's name exceeds {limit} bytes")
            }
            Self::Commit(CommitError::ValueTooLarge(limit, _)) => {
                write!(f, "ERR string exceeds maximum allowed size ({})", Size(*limit))
            }
            Self::Commit(CommitError::SessionTooLarge(limit, _)) => {
                write!(f, "ERR session exceeds maximum allowed size ({})", Size(*limit))
            }
            Self::Commit(CommitError::NameTooLong(limit, _)) => {
                write!(f, "ERR key or field exceeds maximum allowed size ({})", Size(*limit))
            }
            Self::Commit(CommitError::IdEmpty) => f.write_str("ERR an empty key names no session"),
            Self::Commit(CommitError::StoreFull(_)) => {
                f.write_str("OOM command not allowed when used memory > 'maxmemory'.")
            }
            Self::Forked => f.write_str("ERR this process was forked from the one that serves"),
            Self::Database => f.write_str("ERR DB index is out of range"),
            Self::Protocol => f.write_str("NOPROTO unsupported protocol version"),
            Self::ClientName => f.write_str("ERR Client names cannot contain spaces, newlines or special characters."),
            Self::NoPassword => f.write_str(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ),
            Self::WrongPassword => f.write_str("WRONGPASS invalid username-password pair or user is disabled."),
        }
    }
}

impl From<WrongKind> for Failure {
    fn from(WrongKind: WrongKind) -> Self {
        Self::WrongKind
    }
}

impl From<ContextError> for Failure {
    fn from(error: ContextError) -> Self {
        Self::Context(error)
    }
}

impl From<EndError> for Failure {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Commit(error) => Self::Commit(error),
            EndError::NoSession => Self::NoKey,
            EndError::NotServing => Self::Loading,
            EndError::Forked => Self::Forked,
        }
    }
}

/// A size in the words of Redis's own messages.
struct Size(usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => write!(f, "{}mb", bytes >> 20),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_as_in_redis() {
        let refused = |error| Failure::from(EndError::Commit(error)).to_string();
        assert_eq!(refused(CommitError::ValueTooLarge(64 << 20, 1)), "ERR string exceeds maximum allowed size (64mb)");
        assert_eq!(
            refused(CommitError::NameTooLong(1000, 1)),
            "ERR key or field exceeds maximum allowed size (1000 bytes)"
        );
        assert_eq!(refused(CommitError::StoreFull(1)), "OOM command not allowed when used memory > 'maxmemory'.");
        assert_eq!(Failure::from(EndError::NotServing).to_string(), "LOADING hotspare is joining");
    }
}
