//! Tombstones: making them, joining them, burying them.

use smallvec::SmallVec;

use super::attr::Key;
use super::context::{Context, Weight};
use super::emit::{Emission, Held};
use super::key;
use super::record::{Grave, OVER_MAX, signed};
use super::time::{Millis, millis};
use crate::id::{Time, Uid};

/// How a session dies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death<'a> {
    pub(crate) since: Millis,
    /// Internal keys of names that it is known to have had, beside those in its record.
    pub(crate) names: &'a [&'a [u8]],
    pub(crate) over: &'a [Uid],
    /// Whether a uid that is not held gets a tombstone too.
    pub(crate) unknown: bool,
}

/// What a kill did.
#[derive(Debug, Default)]
pub(crate) struct Killed {
    /// It was not dead here before.
    pub(crate) new: bool,
    /// One id, when a reader saw it until now.
    pub(crate) ended: Option<Key>,
}

impl Context {
    /// Kills every uid under the name, live or pending. Returns how many.
    pub fn invalidate(&self, id: &[u8], now: Time, emit: &mut dyn FnMut(Emission<'_>)) -> usize {
        let now = millis(now);
        let mut killed = self.names.kill_pending(id);
        for uid in self.names.uids(id) {
            killed += usize::from(self.kill_held(uid, now, emit));
        }
        killed
    }

    /// Kills a session that is held and says so. False when it is not held or already dead.
    pub(crate) fn kill_held(&self, uid: Uid, now: Millis, emit: &mut dyn FnMut(Emission<'_>)) -> bool {
        let death = Death { since: now, names: &[], over: &[], unknown: false };
        self.kill(uid, &death, now, Some(emit)).new
    }

    /// Kills a uid. A tombstone that is there already takes over what is new, and the earlier time of death.
    pub(crate) fn kill(
        &self,
        uid: Uid,
        death: &Death<'_>,
        now: Millis,
        emit: Option<&mut dyn FnMut(Emission<'_>)>,
    ) -> Killed {
        let mut killed = Killed::default();
        let mut guard = self.cell(uid).lock.write();
        let shard = &mut *guard;
        let record = shard.records.remove(uid);
        if record.is_none() && shard.graves.get(uid).is_none() && !death.unknown {
            return killed;
        }
        let mut bytes = 0;
        let grave = match (&record, shard.graves.get_mut(uid)) {
            (None, Some(grave)) => {
                bytes -= signed(grave.bytes());
                if death.since < grave.since {
                    let mut deaths = self.deaths.lock();
                    deaths.remove(&(grave.since, uid));
                    deaths.insert((death.since, uid));
                    grave.since = death.since;
                }
                grave
            }
            (Some(record), _) => {
                killed.new = true;
                killed.ended = if record.is_expired() || !record.was_whole() { None } else { record.id().cloned() };
                let grave = Grave::of(record, death.since);
                for attr in record.of_kind(key::NAME) {
                    self.names.remove(attr.name(), uid);
                }
                for key in grave.names() {
                    self.names.add_dead(key, uid);
                }
                self.deaths.lock().insert((death.since, uid));
                shard.graves.insert(grave)
            }
            (None, None) => {
                killed.new = true;
                self.deaths.lock().insert((death.since, uid));
                shard.graves.insert(Grave::new(uid, death.since))
            }
        };
        for key in death.names {
            if grave.add_name(key)
                && let Some(key) = Key::of(key)
            {
                self.names.add_dead(&key, uid);
            }
        }
        grave.unite_over(death.over.iter().copied().take(OVER_MAX));
        bytes += signed(grave.bytes());
        self.totals.adjust(bytes);
        if killed.new {
            self.totals.tombstones.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if let Some(record) = &record {
                self.settle(Weight::of(record), Weight::default(), 0);
            }
            if let Some(emit) = emit {
                let frame = self.present_frame(uid, Held::Grave(grave), 0, now);
                emit(Emission::new(self, uid, frame, Held::Grave(grave), now));
            }
        }
        drop(guard);
        drop(record);
        self.trim_graves();
        killed
    }

    /// Removes a tombstone whose time is over.
    pub(crate) fn bury(&self, uid: Uid, since: Millis) -> bool {
        let mut shard = self.cell(uid).lock.write();
        if shard.graves.get(uid).is_none_or(|g| g.since != since) {
            return false;
        }
        let Some(grave) = shard.graves.remove(uid) else { return false };
        self.forgotten.fetch_max(since, std::sync::atomic::Ordering::Relaxed);
        for key in grave.names() {
            self.names.remove_dead(key.name(), uid);
        }
        self.totals.adjust(-signed(grave.bytes()));
        self.totals.tombstones.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        true
    }

    /// Buries the oldest tombstones above the cap.
    fn trim_graves(&self) {
        loop {
            let mut deaths = self.deaths.lock();
            if deaths.len() <= self.limits.tombstones_max {
                return;
            }
            let Some((since, uid)) = deaths.pop_first() else { return };
            drop(deaths);
            self.bury(uid, since);
        }
    }
}

/// The keys of names among attributes that arrived.
pub(crate) fn name_keys<'a>(keys: impl Iterator<Item = &'a [u8]>) -> SmallVec<[&'a [u8]; 2]> {
    keys.filter(|k| k.first() == Some(&key::NAME) && k.len() <= super::NAME_BYTES_MAX).collect()
}
