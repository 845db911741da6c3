//! What all connections of one agent share: the node, its contexts, the limits.

use std::time::Duration;

use super::Settings;
use super::resp::Limits;
use crate::config::Mode;
use crate::node::{Context, ContextError, Node};

/// Words of one request: more than a session has fields.
const WORDS_MAX: usize = 1 << 16;
/// What a value or a session may exceed its limit by and still be answered with an error, not with a closed connection.
const SLACK_BYTES: usize = 1 << 20;

/// The part of the agent that knows no socket.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) settings: Settings,
    pub(crate) limits: Limits,
    /// Whether a write's reply waits for the other members; in asynchronous mode it does not.
    pub(crate) waits_for_acks: bool,
    /// How long it waits.
    pub(crate) ack_timeout: Duration,
    /// How long a write waits while a member's queue is above high water.
    pub(crate) space_timeout: Duration,
    /// Connections at present.
    pub(crate) clients: usize,
    /// Contexts by database number, opened when first used.
    contexts: Vec<Option<Context>>,
}

impl Host {
    pub(crate) fn new(node: Node, settings: Settings) -> Self {
        let config = node.config();
        let limits = Limits {
            words: WORDS_MAX,
            word_bytes: config.value_bytes_max.saturating_add(SLACK_BYTES),
            request_bytes: config.session_bytes_max.max(config.value_bytes_max).saturating_add(2 * SLACK_BYTES),
        };
        let waits_for_acks = config.mode != Mode::Asynchronous;
        let ack_timeout = config.ack_timeout;
        let space_timeout = if waits_for_acks { ack_timeout } else { config.queue_wait };
        Self {
            node,
            settings,
            limits,
            waits_for_acks,
            ack_timeout,
            space_timeout,
            clients: 0,
            contexts: vec![None; settings.databases],
        }
    }

    /// The context behind a database number below the limit.
    pub(crate) fn context(&mut self, database: usize) -> Result<&Context, ContextError> {
        let slot = self.contexts.get_mut(database).ok_or(ContextError::TooMany(self.settings.databases))?;
        match slot {
            Some(context) => Ok(context),
            None => Ok(slot.insert(self.node.context(&database.to_string())?)),
        }
    }
}
