//! The store: the contexts of a node and what they hold in all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use parking_lot::RwLock;

use super::context::Context;
use super::record::signed;
use super::{CONTEXT_BYTES_MAX, Limits, Settings, StoreError};
use crate::id::MemberId;
use crate::mark::hit;

/// All contexts of a node. Thread-safe.
#[derive(Debug)]
pub struct Store {
    me: MemberId,
    limits: Limits,
    settings: Settings,
    seed: u64,
    totals: Arc<Totals>,
    contexts: RwLock<BTreeMap<Box<[u8]>, Arc<Context>>>,
}

impl Store {
    /// An empty store. `seed` keys the hash tables: the same seed and the same calls give the same results in the same order.
    #[must_use]
    pub fn new(me: MemberId, limits: Limits, settings: Settings, seed: u64) -> Self {
        let totals = Arc::new(Totals::new(limits.store_bytes_max));
        Self { me, limits, settings, seed, totals, contexts: RwLock::default() }
    }

    /// Opens the context, or makes it.
    ///
    /// # Errors
    /// The name is too long, or there are as many contexts as may be; nothing changed then.
    pub fn context(&self, name: &[u8]) -> Result<Arc<Context>, StoreError> {
        if let Some(context) = self.find(name) {
            return Ok(context);
        }
        if name.len() > CONTEXT_BYTES_MAX {
            return Err(hit!(ContextNameTooLong => StoreError::NameTooLong(name.len())));
        }
        let mut contexts = self.contexts.write();
        if let Some(context) = contexts.get(name) {
            return Ok(context.clone());
        }
        if contexts.len() >= self.limits.contexts_max {
            return Err(hit!(ContextsFull => StoreError::TooManyContexts(self.limits.contexts_max)));
        }
        let context = Arc::new_cyclic(|this| {
            Context::new(this.clone(), name, self.me, self.limits, self.settings, self.seed, self.totals.clone())
        });
        contexts.insert(name.into(), context.clone());
        Ok(context)
    }

    /// The context of that name, if it was opened.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<Arc<Context>> {
        self.contexts.read().get(name).cloned()
    }

    /// All contexts, by name.
    #[must_use]
    pub fn contexts(&self) -> Vec<Arc<Context>> {
        self.contexts.read().values().cloned().collect()
    }

    /// Live sessions: neither dead nor expired; partial ones count.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.totals.sessions.load(Ordering::Relaxed)
    }

    /// Tombstones held.
    #[must_use]
    pub fn tombstones(&self) -> usize {
        self.totals.tombstones.load(Ordering::Relaxed)
    }

    /// Bytes held: values, keys, records, names, tombstones.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.totals.bytes()
    }
}

/// What all contexts of a store hold together.
#[derive(Debug)]
pub(crate) struct Totals {
    bytes: AtomicIsize,
    bytes_max: isize,
    pub(crate) sessions: AtomicUsize,
    pub(crate) tombstones: AtomicUsize,
}

impl Totals {
    fn new(bytes_max: usize) -> Self {
        Self {
            bytes: AtomicIsize::new(0),
            bytes_max: signed(bytes_max),
            sessions: AtomicUsize::new(0),
            tombstones: AtomicUsize::new(0),
        }
    }

    /// Sets bytes aside before they are used; false, and nothing changed, when the store is full.
    pub(crate) fn reserve(&self, bytes: isize) -> bool {
        if bytes <= 0 {
            return true;
        }
        let fits = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.bytes_max;
        if !fits {
            self.adjust(-bytes);
        }
        fits
    }

    pub(crate) fn adjust(&self, bytes: isize) {
        if bytes != 0 {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn bytes(&self) -> usize {
        usize::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }
}
