//! What each command does to the sessions, and what it answers.
//!
//! A write is committed at once and its reply held until the node has what its mode promises; nothing here waits.
//! Each call runs one command of one connection to its end, on the agent's only thread.

use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, SystemTime};

use super::command::{
    self, Auth, Command, ExpireIf, Expiry, HSet, HSetKind, Hello, Keys, Rename, Scan, Set, SetIf, SetReply, Unit, Wait,
    When,
};
use super::entry::{Entry, Field, Kind, Ttl};
use super::failure::Failure;
use super::glob;
use super::host::Host;
use super::info;
use super::replies::Replies;
use super::resp::{Protocol, Writer};
use crate::id::Time;
use crate::node::{Context, Status, Ticket};

/// What a connection has said about itself.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) name: Vec<u8>,
    pub(crate) database: usize,
    /// What `WAIT` asks about.
    last_write: Option<Rc<Ticket>>,
    /// How long its next write waits for space at most, once it does.
    waits_for_space: Option<Time>,
    /// Wakes the connection.
    waker: Waker,
}

impl Client {
    pub(crate) fn new(id: u64, waker: Waker) -> Self {
        Self { id, name: Vec::new(), database: 0, last_write: None, waits_for_space: None, waker }
    }
}

impl Client {
    /// Whether a member's queue is so full that a write should wait. It does so once and for a limited time; what goes
    /// into a full queue then is the node's affair.
    fn must_wait(&mut self, host: &Host, now: Time) -> bool {
        if !host.node.is_pressed() || self.waits_for_space.is_some_and(|until| until <= now) {
            self.waits_for_space = None;
            return false;
        }
        // Each time: a waker is called once.
        self.waits_for_space.get_or_insert_with(|| now.saturating_add(host.space_timeout));
        host.node.on_space(self.waker.clone());
        // It may have come before the waker was there.
        host.node.is_pressed()
    }
}

/// How the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// With its next command.
    Command,
    /// With this command, which did not run, when the members' queues have space or the time is over.
    Again(Time),
    Close,
}

/// Runs one command. A write finds space for it in the members' queues, or waits for it; reads go on.
pub(crate) fn execute(
    host: &mut Host,
    client: &mut Client,
    replies: &mut Replies<Ticket>,
    words: Keys<'_>,
    now: Time,
) -> Next {
    let result = match command::parse(words) {
        Ok((spec, _)) if !spec.while_loading() && !host.node.is_ready() => Err(Failure::Loading),
        Ok((spec, _)) if spec.is_write() && client.must_wait(host, now) => {
            return Next::Again(client.waits_for_space.unwrap_or(now));
        }
        Ok((_, command)) => Executor { host, client, replies: &mut *replies, now }.run(command),
        Err(error) => Err(Failure::Command(error)),
    };
    result.unwrap_or_else(|failure| {
        replies.writer().error(&failure);
        Next::Command
    })
}

struct Executor<'a> {
    host: &'a mut Host,
    client: &'a mut Client,
    replies: &'a mut Replies<Ticket>,
    now: Time,
}

/// What to do with a session that was looked at.
enum Plan<R> {
    /// Nothing changes.
    Leave(R),
    Commit(R),
}

/// How often a write starts over when its session ends under it. Only a member that ends it again and again comes so far.
const ATTEMPTS: usize = 3;

impl Executor<'_> {
    fn run(&mut self, command: Command<'_>) -> Result<Next, Failure> {
        match command {
            Command::Get(key) => {
                let entry = self.open(key)?;
                self.replies.writer().bulk_or_null(entry.value()?);
            }
            Command::GetDel(key) => {
                let value = self.change(key, |entry| {
                    let Some(value) = entry.value()?.map(<[u8]>::to_vec) else { return Ok(Plan::Leave(None)) };
                    entry.delete();
                    Ok(Plan::Commit(Some(value)))
                })?;
                self.replies.writer().bulk_or_null(value.as_deref());
            }
            Command::GetEx(key, expiry) => self.get_ex(key, expiry)?,
            Command::MGet(keys) => {
                let context = self.context()?.clone();
                self.each(keys, |writer, key| writer.bulk_or_null(Entry::open(&context, key).value().ok().flatten()))?;
            }
            Command::Set(set) => self.set(set)?,
            Command::HDel(key, names) => {
                let removed = self.change(key, |entry| {
                    let removed = entry.remove_fields(names.iter().map(AsRef::as_ref))?;
                    Ok(if removed > 0 { Plan::Commit(removed) } else { Plan::Leave(removed) })
                })?;
                self.replies.writer().integer(count(removed));
            }
            Command::HExists(key, name) => {
                let entry = self.open(key)?;
                self.replies.writer().integer(i64::from(entry.field(name)?.is_some()));
            }
            Command::HGet(key, name) => {
                let entry = self.open(key)?;
                self.replies.writer().bulk_or_null(entry.field(name)?);
            }
            Command::HGetAll(key) => {
                let entry = self.open(key)?;
                let fields = entry.fields()?;
                let mut writer = self.replies.writer();
                writer.map(fields.len());
                for (name, value) in fields {
                    writer.bulk(name);
                    writer.bulk(value);
                }
            }
            Command::HKeys(key) => self.list(key, |(name, _)| name)?,
            Command::HVals(key) => self.list(key, |(_, value)| value)?,
            Command::HLen(key) => {
                let entry = self.open(key)?;
                let fields = entry.fields()?.len();
                self.replies.writer().integer(count(fields));
            }
            Command::HMGet(key, names) => {
                let entry = self.open(key)?;
                if entry.kind() == Kind::Value {
                    return Err(Failure::WrongKind);
                }
                self.each(names, |writer, name| writer.bulk_or_null(entry.field(name).ok().flatten()))?;
            }
            Command::HSet(hset) => self.hset(hset)?,
            Command::Del(keys) => self.del(keys)?,
            Command::Exists(keys) => {
                let mut found = 0;
                for key in keys {
                    found += i64::from(self.open(key)?.kind() != Kind::Missing);
                }
                self.replies.writer().integer(found);
            }
            Command::Expire(key, when, only) => self.expire(key, when, only)?,
            Command::Persist(key) => {
                let changed = self.change(key, |entry| {
                    if !matches!(entry.ttl(), Ttl::Left(_)) {
                        return Ok(Plan::Leave(false));
                    }
                    entry.persist();
                    Ok(Plan::Commit(true))
                })?;
                self.replies.writer().integer(i64::from(changed));
            }
            Command::Rename(rename) => self.rename(rename)?,
            Command::Scan(scan) => self.scan(scan)?,
            Command::Ttl(key, unit) => {
                let answer = match self.open(key)?.ttl() {
                    Ttl::Missing => -2,
                    Ttl::Forever => -1,
                    Ttl::Left(left) => {
                        let left = milliseconds(left);
                        match unit {
                            Unit::Seconds => (left + 500) / 1000,
                            Unit::Milliseconds => left,
                        }
                    }
                };
                self.replies.writer().integer(answer);
            }
            Command::Type(key) => {
                let word = self.open(key)?.kind().word();
                self.replies.writer().simple(word);
            }
            Command::DbSize => {
                let sessions = self.context()?.sessions();
                self.replies.writer().integer(count(sessions));
            }
            Command::Wait(wait) => self.wait(wait),
            Command::Select(index) => {
                let databases = self.host.settings.databases;
                self.client.database =
                    usize::try_from(index).ok().filter(|&at| at < databases).ok_or(Failure::Database)?;
                self.context()?;
                self.replies.writer().ok();
            }
            Command::Auth(auth) => {
                authenticate(auth)?;
                self.replies.writer().ok();
            }
            Command::Hello(hello) => self.hello(hello)?,
            Command::Ping(None) => self.replies.writer().simple("PONG"),
            Command::Ping(Some(text)) | Command::Echo(text) => self.replies.writer().bulk(text),
            Command::Client(words) => info::client(self.client, &mut self.replies.writer(), words),
            Command::Commands(words) => info::commands(&mut self.replies.writer(), words),
            Command::Config(words) => info::config(self.host, &mut self.replies.writer(), words),
            Command::Info(sections) => info::info(self.host, &mut self.replies.writer(), sections),
            Command::Reset => {
                self.replies.protocol = Protocol::default();
                self.client.database = 0;
                self.client.name.clear();
                self.replies.writer().simple("RESET");
            }
            Command::Quit => {
                self.replies.writer().ok();
                return Ok(Next::Close);
            }
        }
        Ok(Next::Command)
    }

    fn get_ex(&mut self, key: &[u8], expiry: Expiry) -> Result<(), Failure> {
        let value = self.change(key, |entry| {
            let Some(value) = entry.value()?.map(<[u8]>::to_vec) else { return Ok(Plan::Leave(None)) };
            let time = match expiry {
                Expiry::Keep => return Ok(Plan::Leave(Some(value))),
                Expiry::Never if entry.ttl() == Ttl::Forever => return Ok(Plan::Leave(Some(value))),
                Expiry::Never => {
                    entry.persist();
                    return Ok(Plan::Commit(Some(value)));
                }
                Expiry::At(when) => time_left(when),
            };
            match time {
                Some(time) => entry.expire_after(time),
                None => entry.delete(),
            }
            Ok(Plan::Commit(Some(value)))
        })?;
        self.replies.writer().bulk_or_null(value.as_deref());
        Ok(())
    }

    /// An array with a reply for each word, as long as it stays within the bounds.
    fn each(&mut self, words: Keys<'_>, mut write: impl FnMut(&mut Writer<'_>, &[u8])) -> Result<(), Failure> {
        let limit = self.host.limits.request_bytes;
        let mark = self.replies.mark();
        self.replies.writer().array(words.len());
        for word in words {
            write(&mut self.replies.writer(), word);
            if self.replies.since(&mark) > limit {
                self.replies.undo(mark);
                return Err(Failure::ReplyTooLarge(limit));
            }
        }
        Ok(())
    }

    fn set(&mut self, set: Set<'_>) -> Result<(), Failure> {
        let (done, old) = self.change(set.key, |entry| {
            let old = match set.reply {
                SetReply::Old => entry.value()?.map(<[u8]>::to_vec),
                SetReply::Ok | SetReply::Integer => None,
            };
            let exists = entry.kind() != Kind::Missing;
            if set.only == SetIf::Missing && exists || set.only == SetIf::Exists && !exists {
                return Ok(Plan::Leave((false, old)));
            }
            let time = match set.expiry {
                Expiry::Keep | Expiry::Never => None,
                Expiry::At(when) => match time_left(when) {
                    Some(time) => Some(time),
                    // A point in the past: written and expired at once.
                    None if exists => {
                        entry.delete();
                        return Ok(Plan::Commit((true, old)));
                    }
                    None => return Ok(Plan::Leave((true, old))),
                },
            };
            entry.set_value(set.value);
            match time {
                Some(time) => entry.expire_after(time),
                None if set.expiry == Expiry::Never => entry.persist(),
                None => {}
            }
            Ok(Plan::Commit((true, old)))
        })?;
        let mut writer = self.replies.writer();
        match set.reply {
            SetReply::Ok if done => writer.ok(),
            SetReply::Ok => writer.null(),
            SetReply::Integer => writer.integer(i64::from(done)),
            SetReply::Old => writer.bulk_or_null(old.as_deref()),
        }
        Ok(())
    }

    fn hset(&mut self, hset: HSet<'_>) -> Result<(), Failure> {
        let new = self.change(hset.key, |entry| {
            let pairs = hset.pairs.chunks_exact(2).map(|pair| (pair[0].as_ref(), pair[1].as_ref()));
            if hset.kind == HSetKind::Missing {
                for (name, _) in pairs.clone() {
                    if entry.field(name)?.is_some() {
                        return Ok(Plan::Leave(0));
                    }
                }
            }
            Ok(Plan::Commit(entry.set_fields(pairs)?))
        })?;
        match hset.kind {
            HSetKind::Count | HSetKind::Missing => self.replies.writer().integer(count(new)),
            HSetKind::Ok => self.replies.writer().ok(),
        }
        Ok(())
    }

    fn del(&mut self, keys: Keys<'_>) -> Result<(), Failure> {
        let mut deleted = 0;
        for key in keys {
            deleted += self.change(key, |entry| {
                if entry.kind() == Kind::Missing {
                    return Ok(Plan::Leave(0));
                }
                entry.delete();
                Ok(Plan::Commit(1))
            })?;
        }
        self.replies.writer().integer(deleted);
        Ok(())
    }

    fn expire(&mut self, key: &[u8], when: When, only: ExpireIf) -> Result<(), Failure> {
        let changed = self.change(key, |entry| {
            let time = time_left(when);
            let applies = match entry.ttl() {
                Ttl::Missing => false,
                Ttl::Forever => !only.some && !only.later,
                Ttl::Left(left) => {
                    let time = time.unwrap_or_default();
                    !only.never && (!only.later || time > left) && (!only.earlier || time < left)
                }
            };
            if !applies {
                return Ok(Plan::Leave(false));
            }
            match time {
                Some(time) => entry.expire_after(time),
                None => entry.delete(),
            }
            Ok(Plan::Commit(true))
        })?;
        self.replies.writer().integer(i64::from(changed));
        Ok(())
    }

    fn rename(&mut self, rename: Rename<'_>) -> Result<(), Failure> {
        let missing = self.open(rename.from)?.kind() == Kind::Missing;
        if missing {
            return Err(Failure::NoKey);
        }
        let taken = self.open(rename.to)?.kind() != Kind::Missing;
        let renames = rename.from != rename.to && !(rename.only_new && taken);
        if renames {
            // Two sessions under one name would be read as one, even where one of them is due to expire.
            self.change(rename.to, |entry| {
                if !entry.is_occupied() {
                    return Ok(Plan::Leave(()));
                }
                entry.delete();
                Ok(Plan::Commit(()))
            })?;
            self.change(rename.from, |entry| {
                if entry.kind() == Kind::Missing {
                    return Err(Failure::NoKey);
                }
                entry.rename(rename.to);
                Ok(Plan::Commit(()))
            })?;
        }
        if rename.only_new {
            self.replies.writer().integer(i64::from(renames));
        } else {
            self.replies.writer().ok();
        }
        Ok(())
    }

    /// A cursor is the number of a part of the index: nothing is kept between the steps, and a key that is there all the
    /// while is found once.
    fn scan(&mut self, scan: Scan<'_>) -> Result<(), Failure> {
        let context = self.context()?;
        let (mut part, mut found) = (scan.cursor, Vec::new());
        while found.len() < scan.count {
            let Some(ids) = context.ids(part) else {
                part = 0;
                break;
            };
            part += 1;
            found.extend(ids.into_iter().filter(|id| {
                let kind = || Entry::open(context, id).kind();
                scan.pattern.is_none_or(|pattern| glob::matches(pattern, id))
                    && match scan.kind {
                        Some(word) => word.eq_ignore_ascii_case(kind().word().as_bytes()),
                        None => kind() != Kind::Missing,
                    }
            }));
        }
        let mut writer = self.replies.writer();
        writer.array(2);
        writer.bulk(part.to_string().as_bytes());
        writer.array(found.len());
        found.iter().for_each(|id| writer.bulk(id));
        Ok(())
    }

    fn wait(&mut self, wait: Wait) {
        let Some(ticket) = &self.client.last_write else {
            // Nothing to wait for: every member that is there has it.
            let others = self.host.node.view().members.len().saturating_sub(1);
            self.replies.writer().integer(count(others));
            return;
        };
        let until = match wait.timeout {
            0 => Time::MAX,
            timeout => self.now.saturating_add(Duration::from_millis(timeout)),
        };
        self.replies.wait(Rc::clone(ticket), wait.members, until);
        ticket.on_done(self.client.waker.clone());
    }

    fn hello(&mut self, hello: Hello<'_>) -> Result<(), Failure> {
        let protocol = match hello.version {
            None => self.replies.protocol,
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(Failure::Protocol),
        };
        if let Some(user) = hello.user {
            authenticate(Auth { user: Some(user) })?;
        }
        if let Some(name) = hello.name {
            if !info::is_client_name(name) {
                return Err(Failure::ClientName);
            }
            self.client.name = name.to_vec();
        }
        self.replies.protocol = protocol;
        info::hello(self.client, &mut self.replies.writer(), protocol);
        Ok(())
    }

    fn list(&mut self, key: &[u8], part: impl for<'b> Fn(Field<'b>) -> &'b [u8]) -> Result<(), Failure> {
        let entry = self.open(key)?;
        let fields = entry.fields()?;
        let mut writer = self.replies.writer();
        writer.array(fields.len());
        for field in fields {
            writer.bulk(part(field));
        }
        Ok(())
    }

    fn open(&mut self, key: &[u8]) -> Result<Entry, Failure> {
        Ok(Entry::open(self.context()?, key))
    }

    fn context(&mut self) -> Result<&Context, Failure> {
        Ok(self.host.context(self.client.database)?)
    }

    /// Opens the key, lets `with` change it, commits, and holds the replies from here on until copies exist.
    fn change<R>(
        &mut self,
        key: &[u8],
        mut with: impl FnMut(&mut Entry) -> Result<Plan<R>, Failure>,
    ) -> Result<R, Failure> {
        for _ in 0..ATTEMPTS {
            let mut entry = self.open(key)?;
            let answer = match with(&mut entry)? {
                Plan::Leave(answer) => return Ok(answer),
                Plan::Commit(answer) => answer,
            };
            let ticket = entry.commit()?;
            if ticket.is_done() && ticket.outcome().status == Status::Ended {
                // It ended after it was opened: what is there now decides.
                continue;
            }
            self.committed(ticket);
            return Ok(answer);
        }
        Err(Failure::Ended)
    }

    fn committed(&mut self, ticket: Ticket) {
        let ticket = Rc::new(ticket);
        if self.host.waits_for_acks && !ticket.is_done() {
            ticket.on_done(self.client.waker.clone());
            self.replies.hold(Rc::clone(&ticket), self.now.saturating_add(self.host.ack_timeout));
        }
        self.client.last_write = Some(ticket);
    }
}

/// There is one user, and no password.
fn authenticate(auth: Auth<'_>) -> Result<(), Failure> {
    match auth.user {
        Some(b"default") => Ok(()),
        Some(_) => Err(Failure::WrongPassword),
        None => Err(Failure::NoPassword),
    }
}

/// How long it is until then; `None`: it is over.
#[expect(
    clippy::disallowed_methods,
    reason = "clients name points in time by the wall clock; only the distance goes on from here"
)]
fn time_left(when: When) -> Option<Duration> {
    let left = match when {
        When::In(left) => left,
        When::Unix(at) => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            at.saturating_sub(milliseconds(now))
        }
    };
    u64::try_from(left).ok().filter(|&left| left > 0).map(Duration::from_millis)
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_in_time_that_is_over_leaves_nothing() {
        assert_eq!(time_left(When::In(1)), Some(Duration::from_millis(1)));
        for over in [When::In(0), When::In(-1), When::In(i64::MIN), When::Unix(1), When::Unix(i64::MIN)] {
            assert_eq!(time_left(over), None);
        }
        assert!(time_left(When::Unix(i64::MAX)).is_some());
    }
}
