//! A session as a Redis key: one value, or attributes.
//!
//! The rules that differ between the two worlds live here and nowhere else:
//!
//! - A **value** is the attribute with the empty name; **fields** are the others. Members may write either kind
//!   unseen by each other; after the merge both are there, and the newest version says which kind the key is. The
//!   next write of that kind removes the rest.
//! - A key without anything in it does not exist, as in Redis: removing the last field ends the session.
//! - A time to live is the session's idle time, counted from its last write. Reading a key is no access.
//!   Other members wait longer before they expire a session (`idle_grace`); a reader here never sees one that is due.
//! - Redis's keys stay for ever unless told otherwise, so a session made here never expires until told.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::id::Version;
use crate::node::{Context, EndError, Request, Ticket};

/// Keys that would live longer than this, a hundred years, live for ever.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The idle time of a session that does not expire.
const NEVER: Duration = Duration::MAX;

/// The attribute that holds a session's one value.
const VALUE: &[u8] = b"";

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Missing,
    Value,
    Fields,
}

impl Kind {
    /// What `TYPE` calls it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Missing => "none",
            Self::Value => "string",
            Self::Fields => "hash",
        }
    }
}

/// The key holds the other kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrongKind;

/// A field's name and value.
pub(crate) type Field<'a> = (&'a [u8], &'a [u8]);

/// How long a key has to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ttl {
    Missing,
    Forever,
    Left(Duration),
}

/// One key, opened for one command, which writes values or fields at most once. Changes happen at [`Entry::commit`];
/// without it nothing does.
#[derive(Debug)]
pub(crate) struct Entry {
    request: Request,
    kind: Kind,
}

impl Entry {
    pub(crate) fn open(context: &Context, key: &[u8]) -> Self {
        let request = context.begin(key);
        let kind = kind(&request);
        Self { request, kind }
    }

    /// Puts the value in place of whatever there is. A new key lives for ever unless told otherwise.
    pub(crate) fn set_value(&mut self, value: &[u8]) {
        self.begin_write(Kind::Value);
        self.request.set(VALUE, value);
    }

    /// Writes fields, the last value of a name counts; how many names are new.
    pub(crate) fn set_fields<'a>(&mut self, fields: impl Iterator<Item = Field<'a>>) -> Result<usize, WrongKind> {
        if self.kind == Kind::Value {
            return Err(WrongKind);
        }
        let fields: HashMap<_, _> = fields.collect();
        let new = fields.keys().filter(|name| !self.has_field(name)).count();
        self.begin_write(Kind::Fields);
        for (name, value) in fields {
            self.request.set(name, value);
        }
        Ok(new)
    }

    /// Removes fields, and the key with its last one; how many there were.
    pub(crate) fn remove_fields<'a>(&mut self, names: impl Iterator<Item = &'a [u8]>) -> Result<usize, WrongKind> {
        if self.kind == Kind::Value {
            return Err(WrongKind);
        }
        let names: HashSet<_> = names.filter(|name| self.has_field(name)).collect();
        if !names.is_empty() && names.len() == self.fields()?.len() {
            self.delete();
        } else {
            names.iter().for_each(|name| self.request.remove(name));
        }
        Ok(names.len())
    }

    /// The key expires after this time without a write; the count starts now, even if the time stays the same.
    pub(crate) fn expire_after(&mut self, time: Duration) {
        self.request.set_max_idle(if time < FOREVER { time } else { NEVER });
    }

    /// The key does not expire.
    pub(crate) fn persist(&mut self) {
        // A new key starts so, see `begin_write`; to write it with every value would only cost.
        if matches!(self.ttl(), Ttl::Left(_)) {
            self.request.set_max_idle(NEVER);
        }
    }

    /// Ends the session.
    pub(crate) fn delete(&mut self) {
        self.request.invalidate();
    }

    /// The session goes by another name from now on.
    pub(crate) fn rename(&mut self, to: &[u8]) {
        self.request.change_id(to);
    }

    /// Ends the request.
    pub(crate) fn commit(self) -> Result<Ticket, EndError> {
        // No URI: the filter on request paths is not for clients that wrote on purpose.
        self.request.end_with_ticket("")
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether a session stands under the name, though readers may see nothing of it any more.
    pub(crate) fn is_occupied(&self) -> bool {
        self.request.exists()
    }

    /// The one value, if the key exists.
    pub(crate) fn value(&self) -> Result<Option<&[u8]>, WrongKind> {
        match self.kind {
            Kind::Missing => Ok(None),
            Kind::Value => Ok(self.request.get(VALUE)),
            Kind::Fields => Err(WrongKind),
        }
    }

    /// A field's value, if there is one.
    pub(crate) fn field(&self, name: &[u8]) -> Result<Option<&[u8]>, WrongKind> {
        match self.kind {
            Kind::Value => Err(WrongKind),
            Kind::Fields if name != VALUE => Ok(self.request.get(name)),
            Kind::Fields | Kind::Missing => Ok(None),
        }
    }

    /// All fields with their values.
    pub(crate) fn fields(&self) -> Result<Vec<Field<'_>>, WrongKind> {
        match self.kind {
            Kind::Missing => Ok(Vec::new()),
            Kind::Value => Err(WrongKind),
            Kind::Fields => {
                let fields = self.request.attributes().into_iter().filter(|(name, _, _)| *name != VALUE);
                Ok(fields.map(|(name, _, value)| (name, value)).collect())
            }
        }
    }

    pub(crate) fn ttl(&self) -> Ttl {
        if self.kind == Kind::Missing {
            return Ttl::Missing;
        }
        match (self.request.max_idle(), self.request.remaining_idle()) {
            (Some(max), Some(left)) if max < FOREVER => Ttl::Left(left),
            _ => Ttl::Forever,
        }
    }

    /// Whether the field is there. Looks through what was written before, so it is asked before writing.
    fn has_field(&self, name: &[u8]) -> bool {
        self.field(name).is_ok_and(|value| value.is_some())
    }

    /// Makes the session where there is none, and clears away what is not of this kind.
    fn begin_write(&mut self, kind: Kind) {
        if !self.request.exists() {
            self.request.create();
        }
        let stale = |name: &[u8]| self.kind != kind || (name == VALUE) != (kind == Kind::Value);
        let attributes = self.request.attributes().into_iter();
        let stale: Vec<Vec<u8>> = attributes.filter(|(name, ..)| stale(name)).map(|(name, ..)| name.to_vec()).collect();
        stale.iter().for_each(|name| self.request.remove(name));
        if self.kind == Kind::Missing {
            self.request.set_max_idle(NEVER);
        }
    }
}

fn kind(request: &Request) -> Kind {
    if !request.exists() || request.remaining_idle() == Some(Duration::ZERO) {
        return Kind::Missing;
    }
    let (mut value, mut fields) = (None, None);
    for (name, version, _) in request.attributes() {
        let newest: &mut Option<Version> = if name == VALUE { &mut value } else { &mut fields };
        *newest = (*newest).max(Some(version));
    }
    match (value, fields) {
        (None, None) => Kind::Missing,
        (value, fields) if value > fields => Kind::Value,
        _ => Kind::Fields,
    }
}
