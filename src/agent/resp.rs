//! RESP, the protocol of Redis clients: bytes into commands, replies into bytes.
//!
//! The codec of `redis-protocol` translates; this module guards it. That decoder starts over at every call,
//! recurses into nested arrays and takes lengths at their word, so [`Decoder`] first measures: it walks a request
//! once however it was chopped, refuses everything but a flat array of bulk strings (or an inline line) within
//! [`Limits`], and hands over only what is complete. Nothing here allocates by a length that a client merely claims.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::encode::encode_borrowed;
use redis_protocol::resp2::types::{BorrowedFrame, NULL as NULL2, RangeFrame};
use redis_protocol::resp3::types::NULL as NULL3;

/// The words of one command, its name first; borrowed from the input unless an inline quote had to be undone.
pub(crate) type Words<'a> = Vec<Cow<'a, [u8]>>;

/// What one request may measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Words of one request.
    pub(crate) words: usize,
    /// Bytes of one word.
    pub(crate) word_bytes: usize,
    /// Bytes of one request, framing included.
    pub(crate) request_bytes: usize,
}

/// Bytes of an inline request, as in Redis.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a length line: more than an i64 and its frame need.
const LENGTH_LINE_MAX: usize = 32;

/// Cuts what a client sends into commands, and remembers how far it has looked.
#[derive(Debug)]
pub(crate) struct Decoder {
    limits: Limits,
    /// Bytes of the present request that are known to be good.
    seen: usize,
    /// Words of the present array still to come; `None` before its header.
    missing: Option<usize>,
}

impl Decoder {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, seen: 0, missing: None }
    }

    /// The first command of `input` and its length, or `None` when it is not all there yet: the next call must
    /// then bring the same bytes with more behind them. No words: the client sent an empty request.
    pub(crate) fn next<'a>(&mut self, input: &'a [u8]) -> Result<Option<(Words<'a>, usize)>, ProtocolError> {
        let found = match input.first() {
            None => return Ok(None),
            Some(b'*') => self.array(input)?,
            Some(_) => self.inline(input)?,
        };
        if found.is_some() {
            self.seen = 0;
            self.missing = None;
        }
        Ok(found)
    }

    fn array<'a>(&mut self, input: &'a [u8]) -> Result<Option<(Words<'a>, usize)>, ProtocolError> {
        if !self.measure(input)? {
            return Ok(None);
        }
        let end = self.seen;
        match decode_range(&input[..end]) {
            Ok(Some((RangeFrame::Array(frames), _))) => {
                let words = frames.iter().map(|frame| match frame {
                    RangeFrame::BulkString((from, to)) => input.get(*from..*to).map(Cow::Borrowed),
                    _ => None,
                });
                Ok(Some((words.collect::<Option<_>>().ok_or(ProtocolError::Malformed)?, end)))
            }
            // A null array: an empty request.
            Ok(Some((RangeFrame::Null, _))) => Ok(Some((Words::new(), end))),
            _ => Err(ProtocolError::Malformed),
        }
    }

    /// Walks on over the array at the start of `input`; true when all of it is there.
    fn measure(&mut self, input: &[u8]) -> Result<bool, ProtocolError> {
        let mut missing = match self.missing {
            Some(missing) => missing,
            None => {
                let Some((count, next)) = length_line(input, 0, ProtocolError::ArrayLength)? else { return Ok(false) };
                // Redis takes any negative count for an empty request; the codec knows only -1.
                let count =
                    if count == -1 { 0 } else { usize::try_from(count).map_err(|_| ProtocolError::ArrayLength)? };
                if count > self.limits.words {
                    return Err(ProtocolError::ArrayLength);
                }
                self.seen = next;
                count
            }
        };
        while missing > 0 {
            self.missing = Some(missing);
            match input.get(self.seen) {
                None => return Ok(false),
                Some(b'$') => {}
                Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
            }
            let Some((length, start)) = length_line(input, self.seen, ProtocolError::BulkLength)? else {
                return Ok(false);
            };
            let length = usize::try_from(length).map_err(|_| ProtocolError::BulkLength)?;
            if length > self.limits.word_bytes {
                return Err(ProtocolError::BulkLength);
            }
            let end = start + length;
            if end + 2 > self.limits.request_bytes {
                return Err(ProtocolError::TooLarge);
            }
            match input.get(end..end + 2) {
                None => return Ok(false),
                Some(b"\r\n") => {}
                Some(_) => return Err(ProtocolError::Malformed),
            }
            self.seen = end + 2;
            missing -= 1;
        }
        Ok(true)
    }

    fn inline<'a>(&mut self, input: &[u8]) -> Result<Option<(Words<'a>, usize)>, ProtocolError> {
        let window = &input[..input.len().min(INLINE_BYTES_MAX)];
        let Some(more) = window[self.seen..].iter().position(|&byte| byte == b'\n') else {
            self.seen = window.len();
            return if window.len() == INLINE_BYTES_MAX { Err(ProtocolError::InlineTooLarge) } else { Ok(None) };
        };
        let end = self.seen + more;
        let line = &window[..end];
        let words = split_line(line.strip_suffix(b"\r").unwrap_or(line)).ok_or(ProtocolError::Quotes)?;
        Ok(Some((words.into_iter().map(Cow::Owned).collect(), end + 1)))
    }
}

/// The number in the line at `from` (after its type byte) and where the next line starts; `None`: not all there.
fn length_line(input: &[u8], from: usize, error: ProtocolError) -> Result<Option<(i64, usize)>, ProtocolError> {
    let window = &input[from..input.len().min(from + LENGTH_LINE_MAX)];
    let Some(end) = window.iter().position(|&byte| byte == b'\r') else {
        return if window.len() == LENGTH_LINE_MAX { Err(error) } else { Ok(None) };
    };
    match input.get(from + end + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((parse_i64(&window[1..end]).ok_or(error)?, from + end + 2))),
        Some(_) => Err(error),
    }
}

/// A decimal number as Redis accepts one: no plus sign, no blanks, no leading zeros.
pub(crate) fn parse_i64(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !plain {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The words of an inline line: blanks separate, double quotes know escapes, single quotes know `\'`.
fn split_line(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let start = rest.iter().position(|byte| !is_blank(*byte)).unwrap_or(rest.len());
        rest = &rest[start..];
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        loop {
            match *rest {
                [] => break,
                [byte, ..] if is_blank(byte) => break,
                [quote @ (b'"' | b'\''), ref quoted @ ..] => {
                    rest = unquote(quoted, quote, &mut word)?;
                    // A closing quote ends the word.
                    if rest.first().is_some_and(|byte| !is_blank(*byte)) {
                        return None;
                    }
                }
                [byte, ref tail @ ..] => {
                    word.push(byte);
                    rest = tail;
                }
            }
        }
        words.push(word);
    }
}

/// Copies up to the closing quote; what follows it, or `None` when there is none.
fn unquote<'a>(mut rest: &'a [u8], quote: u8, word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match *rest {
            [] => return None,
            [byte, ref tail @ ..] if byte == quote => return Some(tail),
            [b'\\', b'x', high, low, ref tail @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex(high) << 4 | hex(low));
                rest = tail;
            }
            [b'\\', escaped, ref tail @ ..] if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                rest = tail;
            }
            [b'\\', b'\'', ref tail @ ..] => {
                word.push(b'\'');
                rest = tail;
            }
            [byte, ref tail @ ..] => {
                word.push(byte);
                rest = tail;
            }
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || (b'\t'..=b'\r').contains(&byte) || byte == 0
}

/// Why a stream cannot be read on; the client is told and its connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolError {
    ArrayLength,
    BulkLength,
    ExpectedBulk(u8),
    TooLarge,
    InlineTooLarge,
    Quotes,
    Malformed,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ERR Protocol error: ")?;
        match self {
            Self::ArrayLength => f.write_str("invalid multibulk length"),
            Self::BulkLength => f.write_str("invalid bulk length"),
            Self::ExpectedBulk(got) => write!(f, "expected '$', got '{}'", got.escape_ascii()),
            Self::TooLarge => f.write_str("too big request"),
            Self::InlineTooLarge => f.write_str("too big inline request"),
            Self::Quotes => f.write_str("unbalanced quotes in request"),
            Self::Malformed => f.write_str("bulk string without its end"),
        }
    }
}

/// The version of the protocol that replies to one client are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// Appends replies to a buffer.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    pub(crate) fn ok(&mut self) {
        self.simple("OK");
    }

    pub(crate) fn simple(&mut self, text: &str) {
        self.frame(&BorrowedFrame::SimpleString(text.as_bytes()));
    }

    /// An error whose first word is its kind. Line ends, which would end the reply, become blanks.
    pub(crate) fn error(&mut self, error: &dyn fmt::Display) {
        self.frame(&BorrowedFrame::Error(&error.to_string().replace(['\r', '\n'], " ")));
    }

    pub(crate) fn integer(&mut self, value: i64) {
        self.frame(&BorrowedFrame::Integer(value));
    }

    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        self.frame(&BorrowedFrame::BulkString(bytes));
    }

    pub(crate) fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    pub(crate) fn null(&mut self) {
        let null = match self.protocol {
            Protocol::Resp2 => NULL2,
            Protocol::Resp3 => NULL3,
        };
        self.out.extend_from_slice(null.as_bytes());
    }

    /// Opens an array; `count` replies follow.
    pub(crate) fn array(&mut self, count: usize) {
        self.header('*', count);
    }

    /// Opens a map; `count` pairs of replies follow. RESP2 knows only a flat array.
    pub(crate) fn map(&mut self, count: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header('*', count * 2),
            Protocol::Resp3 => self.header('%', count),
        }
    }

    /// Opens a set; `count` replies follow. RESP2 knows only an array.
    pub(crate) fn set(&mut self, count: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header('*', count),
            Protocol::Resp3 => self.header('~', count),
        }
    }

    // The codec wants aggregates built up in memory, its maps unordered: their headers are written here.
    fn header(&mut self, kind: char, count: usize) {
        write!(self.out, "{kind}{count}\r\n").expect("a vector takes every write");
    }

    // These scalars look the same in both versions. The codec counts digits by logarithm, which is inexact for
    // large numbers: the buffer gets a few bytes more, and what it says it wrote decides.
    fn frame(&mut self, frame: &BorrowedFrame<'_>) {
        let start = self.out.len();
        self.out.resize(start + frame.encode_len(false) + 4, 0);
        let written =
            encode_borrowed(&mut self.out[start..], frame, false).expect("the buffer is larger than the frame");
        self.out.truncate(start + written);
    }
}

#[cfg(test)]
mod tests;
