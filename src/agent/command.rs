//! Commands: from a client's words to a [`Command`], or to the error that Redis would give.
//!
//! Pure: no session, no clock, no socket. [`COMMANDS`] is the one list of what the agent understands; `COMMAND`
//! answers from it too.

use std::borrow::Cow;
use std::fmt;

use super::resp::parse_i64;

/// One request of a client, checked in form.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command<'a> {
    // Sessions kept as one value.
    Get(&'a [u8]),
    GetDel(&'a [u8]),
    GetEx(&'a [u8], Expiry),
    MGet(Keys<'a>),
    Set(Set<'a>),
    // Sessions kept as attributes.
    HDel(&'a [u8], Keys<'a>),
    HExists(&'a [u8], &'a [u8]),
    HGet(&'a [u8], &'a [u8]),
    HGetAll(&'a [u8]),
    HKeys(&'a [u8]),
    HLen(&'a [u8]),
    HMGet(&'a [u8], Keys<'a>),
    HSet(HSet<'a>),
    HVals(&'a [u8]),
    // Either kind.
    Del(Keys<'a>),
    Exists(Keys<'a>),
    Expire(&'a [u8], When, ExpireIf),
    Persist(&'a [u8]),
    Rename(Rename<'a>),
    Scan(Scan<'a>),
    Ttl(&'a [u8], Unit),
    Type(&'a [u8]),
    // The connection and the node.
    Auth(Auth<'a>),
    Client(Keys<'a>),
    Commands(Keys<'a>),
    Config(Keys<'a>),
    DbSize,
    Echo(&'a [u8]),
    Hello(Hello<'a>),
    Info(Keys<'a>),
    Ping(Option<&'a [u8]>),
    Quit,
    Reset,
    Select(i64),
    Wait(Wait),
}

/// Words that are taken one by one: keys, field names, subcommands with what follows them.
pub(crate) type Keys<'a> = &'a [Cow<'a, [u8]>];

/// `SET` and its older relatives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Set<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) expiry: Expiry,
    pub(crate) only: SetIf,
    pub(crate) reply: SetReply,
}

/// When a `SET` takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetIf {
    Always,
    Missing,
    Exists,
}

/// What a `SET` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetReply {
    /// OK, or null when it did not take place.
    Ok,
    /// 1 or 0.
    Integer,
    /// The value before.
    Old,
}

/// What becomes of the time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    Keep,
    Never,
    At(When),
}

/// A point in time, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    In(i64),
    Unix(i64),
}

/// When an `EXPIRE` takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct ExpireIf {
    /// Only a key that never expires.
    pub(crate) never: bool,
    /// Only a key that does.
    pub(crate) some: bool,
    /// Only to a later time.
    pub(crate) later: bool,
    /// Only to an earlier time.
    pub(crate) earlier: bool,
}

/// What a time to live is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
}

/// `HSET` and its relatives: fields and values in turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HSet<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) pairs: Keys<'a>,
    pub(crate) kind: HSetKind,
}

/// Which of the relatives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HSetKind {
    /// `HSET`: answers how many fields are new.
    Count,
    /// `HMSET`: answers OK.
    Ok,
    /// `HSETNX`: only where the field is missing.
    Missing,
}

/// `RENAME` and `RENAMENX`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rename<'a> {
    pub(crate) from: &'a [u8],
    pub(crate) to: &'a [u8],
    pub(crate) only_new: bool,
}

/// `SCAN`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scan<'a> {
    pub(crate) cursor: usize,
    pub(crate) pattern: Option<&'a [u8]>,
    pub(crate) count: usize,
    pub(crate) kind: Option<&'a [u8]>,
}

/// `AUTH`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Auth<'a> {
    pub(crate) user: Option<&'a [u8]>,
}

/// `HELLO`.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub(crate) struct Hello<'a> {
    pub(crate) version: Option<i64>,
    pub(crate) user: Option<&'a [u8]>,
    pub(crate) name: Option<&'a [u8]>,
}

/// `WAIT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) members: u32,
    /// Milliseconds; 0 waits for ever.
    pub(crate) timeout: u64,
}

/// What the agent knows of a command before it looks at its words.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    /// Words, the name included; negative: at least so many.
    pub(crate) arity: i32,
    pub(crate) flags: &'static [&'static str],
    /// First key, last key, step between keys, as `COMMAND` tells them.
    pub(crate) keys: (i32, i32, i32),
    parse: for<'a> fn(Keys<'a>) -> Result<Command<'a>, CommandError>,
}

const READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom"];
const REMOVE: &[&str] = &["write", "fast"];
const CONNECTION: &[&str] = &["noscript", "loading", "stale", "fast"];
const ADMIN: &[&str] = &["noscript", "loading", "stale"];
const NO_KEY: (i32, i32, i32) = (0, 0, 0);
const ONE_KEY: (i32, i32, i32) = (1, 1, 1);
const ALL_KEYS: (i32, i32, i32) = (1, -1, 1);

macro_rules! commands {
    ($($name:literal $arity:literal $flags:ident $keys:ident => $parse:expr;)*) => {
        /// Every command, by name in order.
        pub(crate) static COMMANDS: &[Spec] =
            &[$(Spec { name: $name, arity: $arity, flags: $flags, keys: $keys, parse: $parse },)*];
    };
}

// The arity is checked before a parser runs, which may index the words that it promises.
commands! {
    "auth" -2 CONNECTION NO_KEY => auth;
    "client" -2 CONNECTION NO_KEY => |w| Ok(Command::Client(&w[1..]));
    "command" -1 ADMIN NO_KEY => |w| Ok(Command::Commands(&w[1..]));
    "config" -2 ADMIN NO_KEY => |w| Ok(Command::Config(&w[1..]));
    "dbsize" 1 READ NO_KEY => |_| Ok(Command::DbSize);
    "del" -2 REMOVE ALL_KEYS => |w| Ok(Command::Del(&w[1..]));
    "echo" 2 CONNECTION NO_KEY => |w| Ok(Command::Echo(&w[1]));
    "exists" -2 READ ALL_KEYS => |w| Ok(Command::Exists(&w[1..]));
    "expire" -3 REMOVE ONE_KEY => |w| expire(w, "expire", |n| Some(When::In(n.checked_mul(1000)?)));
    "expireat" -3 REMOVE ONE_KEY => |w| expire(w, "expireat", |n| Some(When::Unix(n.checked_mul(1000)?)));
    "get" 2 READ ONE_KEY => |w| Ok(Command::Get(&w[1]));
    "getdel" 2 REMOVE ONE_KEY => |w| Ok(Command::GetDel(&w[1]));
    "getex" -2 REMOVE ONE_KEY => getex;
    "getset" 3 WRITE ONE_KEY => |w| Ok(Command::Set(Set { reply: SetReply::Old, ..plain_set(&w[1], &w[2]) }));
    "hdel" -3 REMOVE ONE_KEY => |w| Ok(Command::HDel(&w[1], &w[2..]));
    "hello" -1 CONNECTION NO_KEY => hello;
    "hexists" 3 READ ONE_KEY => |w| Ok(Command::HExists(&w[1], &w[2]));
    "hget" 3 READ ONE_KEY => |w| Ok(Command::HGet(&w[1], &w[2]));
    "hgetall" 2 READ ONE_KEY => |w| Ok(Command::HGetAll(&w[1]));
    "hkeys" 2 READ ONE_KEY => |w| Ok(Command::HKeys(&w[1]));
    "hlen" 2 READ ONE_KEY => |w| Ok(Command::HLen(&w[1]));
    "hmget" -3 READ ONE_KEY => |w| Ok(Command::HMGet(&w[1], &w[2..]));
    "hmset" -4 WRITE ONE_KEY => |w| hset(w, "hmset", HSetKind::Ok);
    "hset" -4 WRITE ONE_KEY => |w| hset(w, "hset", HSetKind::Count);
    "hsetnx" 4 WRITE ONE_KEY => |w| hset(w, "hsetnx", HSetKind::Missing);
    "hvals" 2 READ ONE_KEY => |w| Ok(Command::HVals(&w[1]));
    "info" -1 ADMIN NO_KEY => |w| Ok(Command::Info(&w[1..]));
    "mget" -2 READ ALL_KEYS => |w| Ok(Command::MGet(&w[1..]));
    "persist" 2 REMOVE ONE_KEY => |w| Ok(Command::Persist(&w[1]));
    "pexpire" -3 REMOVE ONE_KEY => |w| expire(w, "pexpire", |n| Some(When::In(n)));
    "pexpireat" -3 REMOVE ONE_KEY => |w| expire(w, "pexpireat", |n| Some(When::Unix(n)));
    "ping" -1 READ NO_KEY => ping;
    "psetex" 4 WRITE ONE_KEY => |w| setex(w, "psetex", 1);
    "pttl" 2 READ ONE_KEY => |w| Ok(Command::Ttl(&w[1], Unit::Milliseconds));
    "quit" -1 CONNECTION NO_KEY => |_| Ok(Command::Quit);
    "rename" 3 REMOVE ONE_KEY => |w| Ok(Command::Rename(Rename { from: &w[1], to: &w[2], only_new: false }));
    "renamenx" 3 REMOVE ONE_KEY => |w| Ok(Command::Rename(Rename { from: &w[1], to: &w[2], only_new: true }));
    "reset" 1 CONNECTION NO_KEY => |_| Ok(Command::Reset);
    "scan" -2 READ NO_KEY => scan;
    "select" 2 CONNECTION NO_KEY => |w| Ok(Command::Select(number(&w[1])?));
    "set" -3 WRITE ONE_KEY => set;
    "setex" 4 WRITE ONE_KEY => |w| setex(w, "setex", 1000);
    "setnx" 3 WRITE ONE_KEY => |w| Ok(Command::Set(Set { only: SetIf::Missing, reply: SetReply::Integer, ..plain_set(&w[1], &w[2]) }));
    "ttl" 2 READ ONE_KEY => |w| Ok(Command::Ttl(&w[1], Unit::Seconds));
    "type" 2 READ ONE_KEY => |w| Ok(Command::Type(&w[1]));
    "unlink" -2 REMOVE ALL_KEYS => |w| Ok(Command::Del(&w[1..]));
    "wait" 3 ADMIN NO_KEY => wait;
}

impl Spec {
    /// The command of this name, in any case.
    pub(crate) fn find(name: &[u8]) -> Option<&'static Self> {
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        let at = COMMANDS.binary_search_by(|spec| spec.name.cmp(&name)).ok()?;
        COMMANDS.get(at)
    }

    /// Whether it is answered while the node is joining.
    pub(crate) fn while_loading(&self) -> bool {
        self.flags.contains(&"loading")
    }

    /// Whether it may send something to the other members.
    pub(crate) fn is_write(&self) -> bool {
        self.flags.contains(&"write")
    }

    fn admits(&self, words: usize) -> bool {
        let least = usize::try_from(self.arity.unsigned_abs()).unwrap_or(usize::MAX);
        if self.arity < 0 { words >= least } else { words == least }
    }
}

/// What the words, the name first, ask for.
pub(crate) fn parse<'a>(words: Keys<'a>) -> Result<(&'static Spec, Command<'a>), CommandError> {
    let name = words.first().map_or(&b""[..], AsRef::as_ref);
    let Some(spec) = Spec::find(name) else { return Err(CommandError::Unknown(unknown(words))) };
    if !spec.admits(words.len()) {
        return Err(CommandError::Arity(spec.name));
    }
    Ok((spec, (spec.parse)(words)?))
}

fn plain_set<'a>(key: &'a [u8], value: &'a [u8]) -> Set<'a> {
    Set { key, value, expiry: Expiry::Never, only: SetIf::Always, reply: SetReply::Ok }
}

fn set<'a>(words: Keys<'a>) -> Result<Command<'a>, CommandError> {
    let mut set = plain_set(&words[1], &words[2]);
    let mut keep = false;
    let mut expiry = None;
    let mut options = words[3..].iter();
    while let Some(option) = options.next() {
        match upper(option).as_slice() {
            b"NX" if set.only != SetIf::Exists => set.only = SetIf::Missing,
            b"XX" if set.only != SetIf::Missing => set.only = SetIf::Exists,
            b"GET" => set.reply = SetReply::Old,
            b"KEEPTTL" if expiry.is_none() => keep = true,
            unit if expiry.is_none() && !keep => {
                let amount = options.next().ok_or(CommandError::Syntax)?;
                expiry = Some(expiry_option(unit, amount, "set")?);
            }
            _ => return Err(CommandError::Syntax),
        }
    }
    set.expiry = match expiry {
        Some(when) => Expiry::At(when),
        None if keep => Expiry::Keep,
        None => Expiry::Never,
    };
    Ok(Command::Set(set))
}

fn setex<'a>(words: Keys<'a>, name: &'static str, milliseconds: i64) -> Result<Command<'a>, CommandError> {
    let after = positive(&words[2], milliseconds, name)?;
    Ok(Command::Set(Set { expiry: Expiry::At(When::In(after)), ..plain_set(&words[1], &words[3]) }))
}

fn getex<'a>(words: Keys<'a>) -> Result<Command<'a>, CommandError> {
    let expiry = match &words[2..] {
        [] => Expiry::Keep,
        [option] if option.eq_ignore_ascii_case(b"persist") => Expiry::Never,
        [unit, amount] => Expiry::At(expiry_option(&upper(unit), amount, "getex")?),
        _ => return Err(CommandError::Syntax),
    };
    Ok(Command::GetEx(&words[1], expiry))
}

/// `EX seconds` and its relatives.
fn expiry_option(unit: &[u8], amount: &[u8], name: &'static str) -> Result<When, CommandError> {
    Ok(match unit {
        b"EX" => When::In(positive(amount, 1000, name)?),
        b"PX" => When::In(positive(amount, 1, name)?),
        b"EXAT" => When::Unix(positive(amount, 1000, name)?),
        b"PXAT" => When::Unix(positive(amount, 1, name)?),
        _ => return Err(CommandError::Syntax),
    })
}

/// A positive time, in milliseconds.
fn positive(amount: &[u8], milliseconds: i64, name: &'static str) -> Result<i64, CommandError> {
    let amount = number(amount)?.checked_mul(milliseconds);
    amount.filter(|&amount| amount > 0).ok_or(CommandError::ExpireTime(name))
}

fn expire<'a>(words: Keys<'a>, name: &'static str, when: fn(i64) -> Option<When>) -> Result<Command<'a>, CommandError> {
    let when = when(number(&words[2])?).ok_or(CommandError::ExpireTime(name))?;
    let mut only = ExpireIf::default();
    for option in &words[3..] {
        match upper(option).as_slice() {
            b"NX" => only.never = true,
            b"XX" => only.some = true,
            b"GT" => only.later = true,
            b"LT" => only.earlier = true,
            _ => return Err(CommandError::Option(lossy(option))),
        }
    }
    if only.never && (only.some || only.later || only.earlier) {
        return Err(CommandError::ExpireNever);
    }
    if only.later && only.earlier {
        return Err(CommandError::ExpireBoth);
    }
    Ok(Command::Expire(&words[1], when, only))
}

fn hset<'a>(words: Keys<'a>, name: &'static str, kind: HSetKind) -> Result<Command<'a>, CommandError> {
    let pairs = &words[2..];
    if !pairs.len().is_multiple_of(2) {
        return Err(CommandError::Arity(name));
    }
    if pairs.iter().step_by(2).any(|field| field.is_empty()) {
        return Err(CommandError::EmptyField);
    }
    Ok(Command::HSet(HSet { key: &words[1], pairs, kind }))
}

fn scan<'a>(words: Keys<'a>) -> Result<Command<'a>, CommandError> {
    let cursor = std::str::from_utf8(&words[1]).ok().and_then(|text| text.parse().ok()).ok_or(CommandError::Cursor)?;
    let mut scan = Scan { cursor, pattern: None, count: 10, kind: None };
    let mut options = words[2..].iter();
    while let Some(option) = options.next() {
        let value = options.next().ok_or(CommandError::Syntax)?;
        match upper(option).as_slice() {
            b"MATCH" => scan.pattern = Some(value),
            b"COUNT" => {
                scan.count = usize::try_from(number(value)?).ok().filter(|&n| n > 0).ok_or(CommandError::Syntax)?
            }
            b"TYPE" => scan.kind = Some(value),
            _ => return Err(CommandError::Syntax),
        }
    }
    Ok(Command::Scan(scan))
}

fn auth<'a>(words: Keys<'a>) -> Result<Command<'a>, CommandError> {
    match &words[1..] {
        [_password] => Ok(Command::Auth(Auth { user: None })),
        [user, _password] => Ok(Command::Auth(Auth { user: Some(user) })),
        _ => Err(CommandError::Syntax),
    }
}

fn hello<'a>(words: Keys<'a>) -> Result<Command<'a>, CommandError> {
    let mut hello = Hello::default();
    let Some(version) = words.get(1) else { return Ok(Command::Hello(hello)) };
    hello.version = Some(parse_i64(version).ok_or(CommandError::HelloVersion)?);
    let mut options = words[2..].iter();
    while let Some(option) = options.next() {
        match upper(option).as_slice() {
            b"AUTH" => {
                hello.user = Some(options.next().ok_or(CommandError::Syntax)?);
                options.next().ok_or(CommandError::Syntax)?;
            }
            b"SETNAME" => hello.name = Some(options.next().ok_or(CommandError::Syntax)?),
            _ => return Err(CommandError::HelloOption(lossy(option))),
        }
    }
    Ok(Command::Hello(hello))
}

fn ping<'a>(words: Keys<'a>) -> Result<Command<'a>, CommandError> {
    match &words[1..] {
        [] => Ok(Command::Ping(None)),
        [text] => Ok(Command::Ping(Some(text))),
        _ => Err(CommandError::Arity("ping")),
    }
}

fn wait<'a>(words: Keys<'a>) -> Result<Command<'a>, CommandError> {
    let members = u32::try_from(number(&words[1])?.max(0)).map_err(|_| CommandError::Integer)?;
    let timeout = parse_i64(&words[2]).ok_or(CommandError::Timeout)?;
    let timeout = u64::try_from(timeout).map_err(|_| CommandError::NegativeTimeout)?;
    Ok(Command::Wait(Wait { members, timeout }))
}

fn number(word: &[u8]) -> Result<i64, CommandError> {
    parse_i64(word).ok_or(CommandError::Integer)
}

fn upper(word: &[u8]) -> Vec<u8> {
    // Longer than any option: the rest decides nothing.
    word[..word.len().min(32)].to_ascii_uppercase()
}

fn lossy(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(128)]).into_owned()
}

/// The start of the words, as Redis quotes what it does not know.
fn unknown(words: Keys<'_>) -> String {
    let mut text = format!(
        "unknown command '{}', with args beginning with: ",
        words.first().map(|word| lossy(word)).unwrap_or_default()
    );
    let mut room = 128_usize;
    for word in words.iter().skip(1) {
        if room == 0 {
            break;
        }
        let word = &word[..word.len().min(room)];
        text.push_str(&format!("'{}' ", lossy(word)));
        room = room.saturating_sub(word.len() + 3);
    }
    text
}

/// Why words make no command; the text is Redis's own where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommandError {
    Unknown(String),
    Arity(&'static str),
    Syntax,
    Integer,
    ExpireTime(&'static str),
    ExpireNever,
    ExpireBoth,
    Option(String),
    EmptyField,
    Cursor,
    HelloVersion,
    HelloOption(String),
    Timeout,
    NegativeTimeout,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ERR ")?;
        match self {
            Self::Unknown(text) => f.write_str(text),
            Self::Arity(name) => write!(f, "wrong number of arguments for '{name}' command"),
            Self::Syntax => f.write_str("syntax error"),
            Self::Integer => f.write_str("value is not an integer or out of range"),
            Self::ExpireTime(name) => write!(f, "invalid expire time in '{name}' command"),
            Self::ExpireNever => f.write_str("NX and XX, GT or LT options at the same time are not compatible"),
            Self::ExpireBoth => f.write_str("GT and LT options at the same time are not compatible"),
            Self::Option(option) => write!(f, "Unsupported option {option}"),
            Self::EmptyField => f.write_str("a field needs a name: the empty name holds what SET writes"),
            Self::Cursor => f.write_str("invalid cursor"),
            Self::HelloVersion => f.write_str("Protocol version is not an integer or out of range"),
            Self::HelloOption(option) => write!(f, "Syntax error in HELLO option '{option}'"),
            Self::Timeout => f.write_str("timeout is not an integer or out of range"),
            Self::NegativeTimeout => f.write_str("timeout is negative"),
        }
    }
}

#[cfg(test)]
mod tests;
