//! Streams chopped anyhow become the same commands; damaged ones are refused.

use proptest::prelude::*;
use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame as _};

use super::*;

const LIMITS: Limits = Limits { words: 8, word_bytes: 100, request_bytes: 300 };

/// Everything that a stream decodes to, fed in pieces of the given lengths (the last repeats).
fn decode(stream: &[u8], pieces: &[usize]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    let mut decoder = Decoder::new(LIMITS);
    let (mut commands, mut input, mut fed) = (Vec::new(), Vec::new(), 0);
    let mut pieces = pieces.iter().copied();
    loop {
        loop {
            let end = match decoder.next(&input) {
                Ok(Some((words, end))) => {
                    commands.push(words.into_iter().map(Cow::into_owned).collect());
                    end
                }
                Ok(None) => break,
                Err(error) => return (commands, Some(error)),
            };
            input.drain(..end);
        }
        if fed == stream.len() {
            return (commands, None);
        }
        let end = stream.len().min(fed + pieces.next().unwrap_or(1).max(1));
        input.extend_from_slice(&stream[fed..end]);
        fed = end;
    }
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

#[test]
fn arrays_and_lines_become_commands() {
    let stream = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n\r\n*0\r\n*-1\r\nset 'a b' \"c\\x41\\n\"\n";
    let (commands, error) = decode(stream, &[stream.len()]);
    assert_eq!(error, None);
    assert_eq!(
        commands,
        [words(&["GET", "a"]), words(&["PING"]), vec![], vec![], vec![], words(&["set", "a b", "cA\n"])]
    );
}

#[test]
fn words_may_hold_any_bytes() {
    let (commands, _) = decode(b"*1\r\n$5\r\n\r\n\0\xff$\r\n", &[]);
    assert_eq!(commands, [vec![b"\r\n\0\xff$".to_vec()]]);
}

#[test]
fn bad_framing_is_named() {
    for (stream, error) in [
        (&b"*x\r\n"[..], ProtocolError::ArrayLength),
        (b"*9\r\n", ProtocolError::ArrayLength),
        (b"*-2\r\n", ProtocolError::ArrayLength),
        (b"*1\rx", ProtocolError::ArrayLength),
        (b"*00000000000000000000000000000000001\r\n", ProtocolError::ArrayLength),
        (b"*1\r\n*1\r\n", ProtocolError::ExpectedBulk(b'*')),
        (b"*1\r\n$-1\r\n", ProtocolError::BulkLength),
        (b"*1\r\n$101\r\n", ProtocolError::BulkLength),
        (b"*1\r\n$99999999999999999999\r\n", ProtocolError::BulkLength),
        (b"*1\r\n$1\r\nabc", ProtocolError::Malformed),
        (b"get \"a\r\n", ProtocolError::Quotes),
        (b"get \"a\"b\r\n", ProtocolError::Quotes),
    ] {
        assert_eq!(decode(stream, &[]), (vec![], Some(error)), "{}", stream.escape_ascii());
    }
}

#[test]
fn a_request_of_many_small_words_is_bounded_too() {
    let word = format!("$100\r\n{}\r\n", "x".repeat(100));
    let stream = format!("*4\r\n{}", word.repeat(4));
    assert_eq!(decode(stream.as_bytes(), &[]), (vec![], Some(ProtocolError::TooLarge)));
}

#[test]
fn an_endless_line_is_refused_at_the_limit() {
    let line = vec![b'a'; INLINE_BYTES_MAX];
    assert_eq!(Decoder::new(LIMITS).next(&line[1..]), Ok(None));
    assert_eq!(Decoder::new(LIMITS).next(&line), Err(ProtocolError::InlineTooLarge));
}

#[test]
fn a_claimed_length_allocates_nothing() {
    let limits = Limits { words: 1 << 20, word_bytes: 64 << 20, request_bytes: 65 << 20 };
    let mut decoder = Decoder::new(limits);
    assert_eq!(decoder.next(b"*1048576\r\n$67108864\r\nabc"), Ok(None));
    assert_eq!(Decoder::new(limits).next(b"*1048577\r\n"), Err(ProtocolError::ArrayLength));
}

#[test]
fn numbers_are_as_strict_as_in_redis() {
    for (text, value) in [
        ("0", Some(0)),
        ("-1", Some(-1)),
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
    ] {
        assert_eq!(parse_i64(text.as_bytes()), value);
    }
    for text in ["", "-", "+1", "01", "-0", " 1", "1 ", "1.0", "9223372036854775808", "x"] {
        assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn replies_differ_by_version_where_redis_differs() {
    let write = |protocol| {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, protocol);
        writer.ok();
        writer.map(1);
        writer.bulk(b"a\r\nb");
        writer.integer(-7);
        writer.set(0);
        writer.null();
        writer.error(&"ERR a\r\nb");
        String::from_utf8(out).unwrap()
    };
    assert_eq!(write(Protocol::Resp2), "+OK\r\n*2\r\n$4\r\na\r\nb\r\n:-7\r\n*0\r\n$-1\r\n-ERR a  b\r\n");
    assert_eq!(write(Protocol::Resp3), "+OK\r\n%1\r\n$4\r\na\r\nb\r\n:-7\r\n~0\r\n_\r\n-ERR a  b\r\n");
}

proptest! {
    #[test]
    fn any_integer_is_written_whole(value in any::<i64>(), power in 0_u32..19) {
        for value in [value, 10_i64.pow(power), 10_i64.pow(power) - 1, i64::MIN] {
            let mut out = Vec::new();
            Writer::new(&mut out, Protocol::Resp2).integer(value);
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!(":{value}\r\n"));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_chunking_changes_nothing(
        stream in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"*$\r\n0123 \"'\\x-"[..])], 0..200),
        pieces in prop::collection::vec(1_usize..50, 0..20),
    ) {
        prop_assert_eq!(decode(&stream, &pieces), decode(&stream, &[stream.len()]));
    }

    #[test]
    fn commands_survive_any_chunking(
        commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..6), 0..10),
        pieces in prop::collection::vec(1_usize..50, 0..50),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut stream = Vec::new();
        for command in &commands {
            let frame = OwnedFrame::Array(command.iter().cloned().map(OwnedFrame::BulkString).collect());
            let start = stream.len();
            stream.resize(start + frame.encode_len(false), 0);
            redis_protocol::resp2::encode::encode(&mut stream[start..], &frame, false).unwrap();
        }
        match damage {
            Some((index, byte)) if !stream.is_empty() => {
                let at = index.index(stream.len());
                stream[at] = byte;
                prop_assert_eq!(decode(&stream, &pieces), decode(&stream, &[stream.len()]));
            }
            _ => prop_assert_eq!(decode(&stream, &pieces), (commands, None)),
        }
    }
}
