//! Settings as text: how each kind of value is read and shown.
//!
//! Owns the written forms (`200ms`, `64MiB`, `auto`, …) and nothing else: it knows no key and no
//! [`Config`](super::Config). Invariant: for every codec, reading what was shown gives the value back, and
//! reading never panics.

use std::fmt::Display;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::str::FromStr;
use std::time::Duration;

use super::Mode;
use crate::id::AckLevel;

/// What a setting's text looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Shape {
    /// Any text.
    Text,
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Count,
    /// A number with `us`, `ms`, `s`, `m`, `h` or `d`; milliseconds without.
    Duration,
    /// A number with `B`, `KiB`, `MiB`, `GiB`, `kB`, `MB` or `GB`; bytes without.
    Size,
    /// An IP address.
    Address,
    /// An IPv4 address and a port.
    Group,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// A written form of `Value`.
pub(super) trait Codec {
    /// What the text stands for.
    type Value;
    /// What the text looks like.
    const SHAPE: Shape;
    /// Whether the word `auto` leaves the choice to the node.
    const AUTO: bool = false;
    /// The value of a text; the error says what was expected.
    fn parse(text: &str) -> Result<Self::Value, String>;
    /// The text of a value.
    fn show(value: &Self::Value) -> String;
}

/// Text as it is.
pub(super) struct Text;

impl Codec for Text {
    type Value = String;
    const SHAPE: Shape = Shape::Text;

    fn parse(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    fn show(value: &String) -> String {
        value.clone()
    }
}

/// A yes or no.
pub(super) struct Switch;

impl Codec for Switch {
    type Value = bool;
    const SHAPE: Shape = Shape::Switch;

    fn parse(text: &str) -> Result<bool, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("{text:?} is neither true nor false")),
        }
    }

    fn show(value: &bool) -> String {
        value.to_string()
    }
}

/// A whole number that fits `T`.
pub(super) struct Count<T>(PhantomData<T>);

impl<T: FromStr + Display> Codec for Count<T> {
    type Value = T;
    const SHAPE: Shape = Shape::Count;

    fn parse(text: &str) -> Result<T, String> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("{text:?} is no whole number"));
        }
        text.parse().map_err(|_| format!("{text} is too large"))
    }

    fn show(value: &T) -> String {
        value.to_string()
    }
}

/// A length of time.
pub(super) struct Span;

impl Codec for Span {
    type Value = Duration;
    const SHAPE: Shape = Shape::Duration;

    fn parse(text: &str) -> Result<Duration, String> {
        let micros = scaled(text, &TIME_UNITS, 1000).ok_or_else(|| {
            format!("{text:?} is no duration: write a whole number with us, ms, s, m, h or d, as in \"200ms\"")
        })?;
        Ok(Duration::from_micros(micros))
    }

    fn show(value: &Duration) -> String {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        // Below a microsecond there is no unit; such a value can only come from code and rounds down.
        largest_unit(micros, &TIME_UNITS)
    }
}

/// A number of bytes.
pub(super) struct Bytes;

impl Codec for Bytes {
    type Value = usize;
    const SHAPE: Shape = Shape::Size;

    fn parse(text: &str) -> Result<usize, String> {
        scaled(text, &SIZE_UNITS, 1).and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(|| {
            format!("{text:?} is no size: write a whole number with B, KiB, MiB or GiB, as in \"64MiB\"")
        })
    }

    fn show(value: &usize) -> String {
        largest_unit(u64::try_from(*value).unwrap_or(u64::MAX), &SIZE_UNITS)
    }
}

/// An IP address of either family, or only version 4.
pub(super) struct Ip<T>(PhantomData<T>);

impl Codec for Ip<IpAddr> {
    type Value = IpAddr;
    const SHAPE: Shape = Shape::Address;

    fn parse(text: &str) -> Result<IpAddr, String> {
        text.parse().map_err(|_| format!("{text:?} is no IP address"))
    }

    fn show(value: &IpAddr) -> String {
        value.to_string()
    }
}

impl Codec for Ip<Ipv4Addr> {
    type Value = Ipv4Addr;
    const SHAPE: Shape = Shape::Address;

    fn parse(text: &str) -> Result<Ipv4Addr, String> {
        text.parse().map_err(|_| format!("{text:?} is no IPv4 address"))
    }

    fn show(value: &Ipv4Addr) -> String {
        value.to_string()
    }
}

/// An IPv4 address with a port.
pub(super) struct Group;

impl Codec for Group {
    type Value = SocketAddrV4;
    const SHAPE: Shape = Shape::Group;

    fn parse(text: &str) -> Result<SocketAddrV4, String> {
        text.parse().map_err(|_| format!("{text:?} is no IPv4 address with a port, as in \"239.192.72.83:46002\""))
    }

    fn show(value: &SocketAddrV4) -> String {
        value.to_string()
    }
}

/// A value, or `auto` to leave it to the node.
pub(super) struct Auto<C>(PhantomData<C>);

impl<C: Codec> Codec for Auto<C> {
    type Value = Option<C::Value>;
    const SHAPE: Shape = C::SHAPE;
    const AUTO: bool = true;

    fn parse(text: &str) -> Result<Self::Value, String> {
        if text == AUTO {
            return Ok(None);
        }
        C::parse(text).map(Some).map_err(|why| format!("{why}; \"auto\" leaves it to the node"))
    }

    fn show(value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| AUTO.to_owned(), C::show)
    }
}

/// One of a few words.
pub(super) struct Word<T>(PhantomData<T>);

impl<T: Words> Codec for Word<T> {
    type Value = T;
    const SHAPE: Shape = Shape::Choice(T::WORDS);

    fn parse(text: &str) -> Result<T, String> {
        T::ALL
            .iter()
            .zip(T::WORDS)
            .find(|(_, word)| **word == text)
            .map(|(value, _)| *value)
            .ok_or_else(|| format!("{text:?} is none of {}", T::WORDS.join(", ")))
    }

    fn show(value: &T) -> String {
        T::ALL.iter().zip(T::WORDS).find(|(v, _)| *v == value).map_or("", |(_, word)| word).to_owned()
    }
}

/// A type with one word for each of its values, in the same order.
pub(super) trait Words: Copy + PartialEq + 'static {
    /// The values.
    const ALL: &'static [Self];
    /// Their words.
    const WORDS: &'static [&'static str];
}

impl Words for Mode {
    const ALL: &'static [Self] = &[Self::Synchronous, Self::Pooled, Self::Asynchronous];
    const WORDS: &'static [&'static str] = &["synchronous", "pooled", "asynchronous"];
}

impl Words for AckLevel {
    const ALL: &'static [Self] = &[Self::None, Self::Received, Self::Applied];
    const WORDS: &'static [&'static str] = &["none", "received", "applied"];
}

/// The word that leaves an optional setting to the node.
pub(super) const AUTO: &str = "auto";

/// Reads a duration as the settings do: `200ms`, `1s`, `5m`, or a bare number of milliseconds.
///
/// # Errors
/// Says what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    Span::parse(text)
}

/// Shows a duration in the largest unit that divides it.
#[must_use]
pub fn show_duration(value: Duration) -> String {
    Span::show(&value)
}

/// Reads a size as the settings do: `64MiB`, `512B`, or a bare number of bytes.
///
/// # Errors
/// Says what was expected.
pub fn parse_size(text: &str) -> Result<usize, String> {
    Bytes::parse(text)
}

/// Shows a size in the largest binary unit that divides it.
#[must_use]
pub fn show_size(value: usize) -> String {
    Bytes::show(&value)
}

/// `number unit` in the base unit; `bare` is the factor of a number without a unit.
fn scaled(text: &str, units: &[(&str, u64)], bare: u64) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start() {
        "" => bare,
        unit => units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// The value in the first unit that divides it; the units that show a value come first, largest first.
fn largest_unit(value: u64, units: &[(&str, u64)]) -> String {
    let (name, factor) = units
        .iter()
        .find(|(_, factor)| value != 0 && value.is_multiple_of(*factor))
        .or_else(|| units.iter().find(|(_, factor)| *factor == 1))
        .copied()
        .unwrap_or(("", 1));
    format!("{}{name}", value / factor)
}

/// In microseconds, largest first.
const TIME_UNITS: [(&str, u64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1)];

/// In bytes. The binary units come first, so that values are shown in them.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_units_and_bare_milliseconds() {
        for (text, micros) in [
            ("200ms", 200_000),
            ("1s", 1_000_000),
            ("5m", 300_000_000),
            ("2 h", 7_200_000_000),
            ("750", 750_000),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in ["", "s", "1.5s", "-1s", "3 sec", "1s1", "99999999999999999999d", "18446744073709551615d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_take_binary_and_decimal_units() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1kB", 1000), ("4kib", 4096), ("17", 17), ("3B", 3)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "64 Mi", "1e3", "99999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for micros in [0, 1, 999, 1000, 1500, 90_000_000, 1_800_000_000, 86_400_000_000] {
            let value = Duration::from_micros(micros);
            assert_eq!(parse_duration(&show_duration(value)), Ok(value));
        }
        for bytes in [0, 1, 1000, 1024, 1025, 8 << 20, 16 << 30] {
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
        assert_eq!(show_duration(Duration::from_secs(1800)), "30m");
        assert_eq!(show_size(128 << 20), "128MiB");
    }
}
