//! Words and options become commands, or Redis's errors.

use proptest::prelude::*;

use super::*;

fn split(line: &str) -> Vec<Cow<'_, [u8]>> {
    line.split(' ').map(|word| Cow::Borrowed(word.as_bytes())).collect()
}

fn error(line: &str) -> String {
    parse(&split(line)).map(|(_, command)| format!("{command:?}")).unwrap_err().to_string()
}

fn check(line: &str, expected: Command<'_>) {
    let words = split(line);
    assert_eq!(parse(&words).unwrap().1, expected, "{line}");
}

#[test]
fn the_list_is_in_order_for_the_search() {
    assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
    for spec in COMMANDS {
        assert_eq!(Spec::find(spec.name.to_uppercase().as_bytes()).unwrap().name, spec.name);
    }
}

#[test]
fn errors_are_those_of_redis() {
    for (line, text) in [
        ("foo a b", "ERR unknown command 'foo', with args beginning with: 'a' 'b' "),
        ("foo", "ERR unknown command 'foo', with args beginning with: "),
        ("get", "ERR wrong number of arguments for 'get' command"),
        ("GET a b", "ERR wrong number of arguments for 'get' command"),
        ("ping a b", "ERR wrong number of arguments for 'ping' command"),
        ("hset k f", "ERR wrong number of arguments for 'hset' command"),
        ("hset k f v g", "ERR wrong number of arguments for 'hset' command"),
        ("set k v ex", "ERR syntax error"),
        ("set k v nx xx", "ERR syntax error"),
        ("set k v ex 1 px 1", "ERR syntax error"),
        ("set k v ex 1 keepttl", "ERR syntax error"),
        ("set k v keepttl ex 1", "ERR syntax error"),
        ("set k v foo", "ERR syntax error"),
        ("set k v ex x", "ERR value is not an integer or out of range"),
        ("set k v ex 0", "ERR invalid expire time in 'set' command"),
        ("setex k -1 v", "ERR invalid expire time in 'setex' command"),
        ("psetex k 0 v", "ERR invalid expire time in 'psetex' command"),
        ("set k v ex 9223372036854775807", "ERR invalid expire time in 'set' command"),
        ("expire k 9223372036854775807", "ERR invalid expire time in 'expire' command"),
        ("expire k 1 foo", "ERR Unsupported option foo"),
        ("expire k 1 nx gt", "ERR NX and XX, GT or LT options at the same time are not compatible"),
        ("expire k 1 gt lt", "ERR GT and LT options at the same time are not compatible"),
        ("scan x", "ERR invalid cursor"),
        ("scan 0 count 0", "ERR syntax error"),
        ("scan 0 match", "ERR syntax error"),
        ("select a", "ERR value is not an integer or out of range"),
        ("wait 1 x", "ERR timeout is not an integer or out of range"),
        ("wait 1 -1", "ERR timeout is negative"),
        ("hello x", "ERR Protocol version is not an integer or out of range"),
        ("hello 3 foo", "ERR Syntax error in HELLO option 'foo'"),
    ] {
        assert_eq!(error(line), text, "{line}");
    }
}

#[test]
fn an_unknown_command_is_quoted_in_part() {
    let line = format!("{} {} tail", "x".repeat(1000), "y".repeat(1000));
    let error = error(&line);
    assert!(error.len() < 400 && !error.contains("tail"), "{error}");
}

#[test]
fn sets_know_their_options_in_any_order_and_case() {
    let set = |expiry, only, reply| Command::Set(Set { key: b"k", value: b"v", expiry, only, reply });
    check("SET k v", set(Expiry::Never, SetIf::Always, SetReply::Ok));
    check("set k v Ex 10 nX", set(Expiry::At(When::In(10_000)), SetIf::Missing, SetReply::Ok));
    check("set k v xx get px 10", set(Expiry::At(When::In(10)), SetIf::Exists, SetReply::Old));
    check("set k v keepttl", set(Expiry::Keep, SetIf::Always, SetReply::Ok));
    check("set k v exat 5", set(Expiry::At(When::Unix(5_000)), SetIf::Always, SetReply::Ok));
    check("setex k 10 v", set(Expiry::At(When::In(10_000)), SetIf::Always, SetReply::Ok));
    check("psetex k 10 v", set(Expiry::At(When::In(10)), SetIf::Always, SetReply::Ok));
    check("setnx k v", set(Expiry::Never, SetIf::Missing, SetReply::Integer));
    check("getset k v", set(Expiry::Never, SetIf::Always, SetReply::Old));
}

#[test]
fn other_commands_take_their_words_apart() {
    check("ttl k", Command::Ttl(b"k", Unit::Seconds));
    check("pexpire k -5 lt", Command::Expire(b"k", When::In(-5), ExpireIf { earlier: true, ..ExpireIf::default() }));
    check("wait 2 100", Command::Wait(Wait { members: 2, timeout: 100 }));
    check("getex k", Command::GetEx(b"k", Expiry::Keep));
    check("getex k persist", Command::GetEx(b"k", Expiry::Never));
    check(
        "hello 3 auth default x setname n",
        Command::Hello(Hello { version: Some(3), user: Some(b"default"), name: Some(b"n") }),
    );
    check("scan 3 count 5 match a*", Command::Scan(Scan { cursor: 3, pattern: Some(b"a*"), count: 5, kind: None }));
    check("rename a b", Command::Rename(Rename { from: b"a", to: b"b", only_new: false }));
}

#[test]
fn the_field_without_a_name_belongs_to_set() {
    let words: Vec<Cow<'_, [u8]>> = [&b"hset"[..], b"k", b"", b"v"].map(Cow::Borrowed).to_vec();
    assert_eq!(parse(&words).unwrap_err(), CommandError::EmptyField);
}

proptest! {
    #[test]
    fn no_words_panic(
        name in prop::sample::select(COMMANDS.iter().map(|spec| spec.name).collect::<Vec<_>>()),
        rest in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..8),
            prop::sample::select(&["NX", "XX", "EX", "PX", "GET", "KEEPTTL", "0", "-1", "9223372036854775807", "AUTH", "GT"][..])
                .prop_map(|word| word.as_bytes().to_vec()),
        ], 0..8),
    ) {
        let mut words = vec![Cow::Borrowed(name.as_bytes())];
        words.extend(rest.into_iter().map(Cow::Owned));
        if let Err(error) = parse(&words) {
            prop_assert!(error.to_string().starts_with("ERR "));
        }
    }
}
