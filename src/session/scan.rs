//! Going through everything held, in pieces, while it changes.

use super::context::Context;
use super::emit::Held;
use super::time::millis;
use crate::id::{Time, Uid};
use crate::mutant::planted;
use crate::wire::FrameOut;

/// Where a scan stands.
#[derive(Debug, Default)]
pub struct Cursor {
    /// The clock when the scan started: a uid above it was not held then. Leaving those out ends the scan whatever is created
    /// meanwhile.
    clock: Option<u64>,
    /// The next shard to list.
    shard: usize,
    /// What is left of the shard listed last. Uids, not positions: a table moves its entries when it grows.
    uids: Vec<Uid>,
}

impl Context {
    /// Emits present states (tombstones too) from the cursor on, until they take about `budget` bytes in a queue; true when all were seen.
    /// Anything held when the scan started and still held is emitted; what is created meanwhile need not be. `emit` runs under the session's lock, so that a
    /// change made afterwards comes after it on every lane.
    pub fn scan(&self, cursor: &mut Cursor, budget: usize, now: Time, emit: &mut dyn FnMut(Uid, FrameOut)) -> bool {
        let mut spent = 0;
        let clock = *cursor.clock.get_or_insert_with(|| self.clock());
        loop {
            let Some(uid) = cursor.uids.pop() else {
                let Some(cell) = self.cells.get(cursor.shard) else { return true };
                let shard = cell.lock.read();
                let graves = shard.graves.iter().filter(|_| !planted!(SnapshotWithoutTombstones));
                let held = shard.records.iter().map(|(uid, _)| uid).chain(graves.map(|(uid, _)| uid));
                cursor.uids.extend(held.filter(|uid| uid.counter <= clock));
                cursor.shard += 1;
                continue;
            };
            let shard = self.cell(uid).lock.read();
            let held = match (shard.records.get(uid), shard.graves.get(uid)) {
                (Some(record), _) => Held::Record(record),
                (None, Some(grave)) => Held::Grave(grave),
                (None, None) => continue,
            };
            let frame = self.present_frame(uid, held, 0, millis(now));
            spent += frame.weight();
            emit(uid, frame);
            if spent >= budget {
                return cursor.uids.is_empty() && cursor.shard == self.cells.len();
            }
        }
    }
}
