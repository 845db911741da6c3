//! What a node holds that was away from the others for longer than tombstones live.
//!
//! Of such a session nobody may remember that it ended, so what is held here proves nothing. Until another member shows it
//! whole it is hidden, and no copy to complete others by; what was written here meanwhile stays and counts once it is confirmed.

use std::sync::Arc;

use super::Key;
use super::context::Context;
use crate::id::Uid;

impl Context {
    /// Doubts every session that was made before the [`clock`](Self::clock) passed `until`.
    pub fn doubt(&self, until: u64) {
        for cell in &self.cells {
            for (_, record) in cell.lock.write().records.iter_mut().filter(|(uid, _)| uid.counter <= until) {
                Arc::make_mut(record).set_doubted(true);
            }
        }
    }

    /// Doubts nothing any more: serves what nobody could speak for.
    pub fn trust(&self) {
        for cell in &self.cells {
            for (_, record) in cell.lock.write().records.iter_mut().filter(|(_, record)| record.is_doubted()) {
                Arc::make_mut(record).set_doubted(false);
            }
        }
    }

    /// Drops what is still doubted. Returns ids of what a reader saw before.
    pub fn drop_doubted(&self) -> Vec<Key> {
        let mut ended = Vec::new();
        for cell in &self.cells {
            let doubted: Vec<(Uid, Option<Key>)> = {
                let shard = cell.lock.read();
                let doubted = shard.records.iter().filter(|(_, record)| record.is_doubted());
                doubted
                    .map(|(uid, r)| (uid, if r.is_expired() || !r.was_whole() { None } else { r.id().cloned() }))
                    .collect()
            };
            for (uid, id) in doubted {
                if self.drop_record(uid, |record| record.is_doubted()) {
                    ended.extend(id);
                }
            }
        }
        ended
    }
}
