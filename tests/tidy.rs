//! The rules of the repository that no compiler checks: who may import whom, who may touch clocks and
//! sockets, where `unsafe` lives, how long a file may be.
//!
//! The scan works on source text with comments, strings and test modules blanked out. All violations are
//! reported at once, each as `file:line: what`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom: a room may import rooms with a lower number.
const ROOMS: &[(&str, u8)] = &[
    ("id", 0),
    ("error", 0),
    ("event", 0),
    ("stats", 0),
    ("mark", 0),
    ("mutant", 0),
    ("config", 0),
    ("buffer", 1),
    ("wire", 2),
    ("session", 3),
    ("proto", 3),
    ("engine", 4),
    ("runtime", 5),
    ("sim", 5),
    ("store", 5),
    ("deploy", 5),
    ("node", 6),
    ("ffi", 7),
    ("agent", 7),
    ("cli", 8),
];

/// The lowest group is plain values, which may name each other; elsewhere rooms of one group do not know each
/// other.
const GROUP_OF_VALUES: u8 = 0;

/// Rooms of the outside world.
const SHELL: &[&str] = &["runtime", "sim", "agent", "store", "deploy", "cli"];

/// Names of clocks, sockets, threads and global randomness.
const OUTSIDE: &[&str] = &[
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "mio",
    "socket2",
    "getrandom",
    "RandomState",
    "std::thread",
    "crossbeam::thread",
];

/// Rooms whose behaviour must follow from their arguments alone.
const CORE: &[&str] = &["wire", "session", "proto", "engine"];

/// Tables that draw a random seed of their own, so that two runs iterate in two orders.
const RANDOM_ORDER: &[&str] = &["collections::HashMap", "collections::HashSet"];

/// Where `unsafe` may stand: rooms, and the binary's counting allocator.
const UNSAFE_ROOMS: &[&str] = &["buffer", "ffi", "runtime"];
const UNSAFE_FILES: &[&str] = &["src/cli/alloc.rs", "src/main.rs"];

const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!"];

const LINES_MAX: usize = 1000;

const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "clippy.toml",
    "rustfmt.toml",
    "deny.toml",
    "cbindgen.toml",
    "build.rs",
    "README.md",
    "CHANGELOG.md",
    "PERF.md",
    "SECURITY.md",
    "LICENSE",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "src",
    "tests",
    "benches",
    "examples",
    "fuzz",
    "include",
    "docs",
    "packaging",
    "target",
];

/// Directories that belong to one machine; spelled so that this file does not contain them.
const MACHINE_PATHS: &[&str] = &[concat!("/", "work/"), concat!("/", "root/"), concat!("/", "home/")];

#[test]
fn the_repository_follows_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = stray_files(root);
    for path in files(root) {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        // What is no text has no rules.
        if let Ok(text) = fs::read_to_string(&path) {
            found.extend(violations(&name, &text));
        }
    }
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

/// Everything wrong with one file.
fn violations(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (line, content) in text.lines().enumerate() {
        if let Some(machine) = MACHINE_PATHS.iter().find(|machine| content.contains(**machine)) {
            found.push(format!("{name}:{}: names {machine}, a path of one machine", line + 1));
        }
    }
    if !name.ends_with(".rs") {
        return found;
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        found.push(format!("{name}: has {lines} lines, more than {LINES_MAX}"));
    }
    let Some(inside) = name.strip_prefix("src/") else {
        return found;
    };

    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        found.push(format!("{name}: does not open with //!"));
    }
    let room = inside.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let code = blank_comments_and_strings(text);
    for word in UNFINISHED {
        found.extend(places(&code, word).map(|line| format!("{name}:{line}: {word} is unfinished work")));
    }
    if !UNSAFE_ROOMS.contains(&room) && !UNSAFE_FILES.contains(&name) {
        found.extend(places(&code, "unsafe").map(|line| format!("{name}:{line}: unsafe outside its islands")));
    }

    let is_test = inside.ends_with("/tests.rs") || inside.contains("/tests/");
    if is_test || matches!(room, "lib" | "main") {
        return found;
    }
    let code = blank_test_modules(&code);
    found.extend(imports(name, room, &code));
    if !SHELL.contains(&room) {
        for word in OUTSIDE {
            found.extend(
                places(&code, word)
                    .map(|line| format!("{name}:{line}: names {word}, which only the rooms {} may", SHELL.join(", "))),
            );
        }
    }
    if CORE.contains(&room) {
        for word in RANDOM_ORDER {
            found.extend(places(&code, word).map(|line| {
                format!("{name}:{line}: names {word}, whose order is random: use hashbrown with a fixed hasher")
            }));
        }
    }
    found
}

/// Imports against the direction.
fn imports(name: &str, room: &str, code: &str) -> Vec<String> {
    let rank = |room: &str| ROOMS.iter().find(|(name, _)| *name == room).map(|(_, rank)| *rank);
    let Some(own) = rank(room) else {
        return vec![format!("{name}: {room} is no room of the design")];
    };
    let mut found = Vec::new();
    // From the root file of a room, `super` is the crate.
    let is_root = name.matches('/').count() == 1 || name.ends_with("/mod.rs") && name.matches('/').count() == 2;
    for (start, prefix) in [("crate::", ""), ("use super::", "\n")] {
        if start != "crate::" && !is_root {
            continue;
        }
        let pattern = format!("{prefix}{start}");
        for (at, _) in code.match_indices(&pattern) {
            let line = line_of(code, at + prefix.len());
            for target in first_names(&code[at + pattern.len()..]) {
                let allowed = match rank(target) {
                    _ if target == room => true,
                    Some(other) => other < own || other == own && own == GROUP_OF_VALUES,
                    // A macro or a re-export of the crate's root.
                    None => true,
                };
                if !allowed {
                    found.push(format!("{name}:{line}: {room} imports {target}, against the direction"));
                }
            }
        }
    }
    found
}

/// The first names of what follows `crate::`: one, or those of a braced list.
fn first_names(rest: &str) -> Vec<&str> {
    let Some(list) = rest.strip_prefix('{') else {
        return vec![identifier(rest)];
    };
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(identifier(list[start..at].trim_start()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(identifier(list[start..at].trim_start()));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> &str {
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Lines on which `word` stands as a whole word.
fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .filter(move |(at, _)| {
            let before = code[..*at].chars().next_back();
            let after = code[at + word.len()..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
        .map(|(at, _)| line_of(code, at))
}

fn line_of(code: &str, at: usize) -> usize {
    1 + code[..at].matches('\n').count()
}

/// The text with comments and the insides of string and character literals replaced by blanks, lines kept.
fn blank_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let end = at + literal_len(rest, at > 0 && is_word(char::from(bytes[at - 1])));
        if end > at {
            out.extend(text[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            let c = rest.chars().next().unwrap_or(' ');
            out.push(c);
            at += c.len_utf8();
        }
    }
    out
}

/// Bytes of the comment or literal that begins here; 0 where code does.
fn literal_len(rest: &str, after_word: bool) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        let (mut depth, mut at) = (0_usize, 0);
        while at < rest.len() {
            let (step, change) = match rest.as_bytes()[at..] {
                [b'/', b'*', ..] => (2, 1),
                [b'*', b'/', ..] => (2, -1),
                _ => (1, 0),
            };
            depth = depth.saturating_add_signed(change);
            at += step;
            if depth == 0 {
                break;
            }
        }
        return at.min(rest.len());
    }
    if !after_word && (rest.starts_with('r') || rest.starts_with("br")) {
        let quote = rest.trim_start_matches('b').trim_start_matches('r');
        let hashes = quote.len() - quote.trim_start_matches('#').len();
        if quote[hashes..].starts_with('"') {
            let open = rest.len() - quote.len() + hashes + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            return rest[open..].find(&close).map_or(rest.len(), |at| open + at + close.len());
        }
    }
    match rest.as_bytes() {
        [b'"', ..] => quoted_len(rest, b'"'),
        // A lifetime has no closing quote right behind its first character.
        [b'\'', b'\\', ..] => quoted_len(rest, b'\''),
        [b'\'', ..] => {
            let mut chars = rest[1..].char_indices();
            match (chars.next(), chars.next()) {
                (Some(_), Some((at, '\''))) => at + 2,
                _ => 0,
            }
        }
        _ => 0,
    }
}

fn quoted_len(rest: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The code with `#[cfg(test)] mod … { … }` blanked, lines kept.
fn blank_test_modules(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let body = &out[start..];
        let open = body.find(['{', ';']).unwrap_or(body.len());
        let mut depth = 0_usize;
        let mut end = body.len();
        for (at, c) in body.char_indices().skip_while(|(at, _)| *at < open) {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                end = at + c.len_utf8();
                break;
            }
        }
        let blank: String = body[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..start + end, &blank);
    }
    out
}

/// Every file of the repository; hidden directories, build output and fuzzing corpora are left out.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let ours = matches!(name.as_str(), ".ci" | ".cargo" | ".github" | ".gitignore");
        if (name.starts_with('.') && !ours) || matches!(name.as_str(), "target" | "corpus" | "artifacts") {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn stray_files(root: &Path) -> Vec<String> {
    let mut found: Vec<_> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()))
        .map(|name| format!("{name}: is no part of the repository's top level"))
        .collect();
    found.sort();
    found
}

/// The scan on small sources: that each rule finds what it forbids, and nothing else.
mod the_scan {
    use super::*;

    fn found(name: &str, code: &str) -> Vec<String> {
        violations(name, &format!("//! A room.\n{code}"))
    }

    #[test]
    fn finds_imports_against_the_direction() {
        for (name, code) in [
            ("src/wire/ping.rs", "use crate::session::Store;"),
            ("src/session/mod.rs", "use crate::proto::View;"),
            ("src/proto/link.rs", "fn f(s: &crate::session::Store) {}"),
            ("src/engine/mod.rs", "use crate::{wire::{Frame, Kind}, runtime::Loop};"),
            ("src/runtime/mod.rs", "use crate::sim::World;"),
            ("src/proto/mod.rs", "use super::engine::Engine;"),
            ("src/buffer/mod.rs", "pub use crate::{\n    id::Uid,\n    wire,\n};"),
            ("src/node.rs", "use crate::cli::run;"),
            ("src/ffi/mod.rs", "use crate::agent::Agent;"),
            ("src/strange/mod.rs", ""),
        ] {
            assert_eq!(found(name, code).len(), 1, "{name}: {code}");
        }
    }

    #[test]
    fn allows_imports_along_the_direction() {
        for (name, code) in [
            ("src/event.rs", "use crate::id::MemberId;"),
            ("src/engine/mod.rs", "use crate::{session::Store, proto::View};"),
            ("src/proto/link.rs", "use super::view::View; use crate::proto::{self, session_count};"),
            ("src/cli/node.rs", "use crate::agent::Agent; use crate::node::Node;"),
            ("src/event.rs", "/// See [`N`](crate::node::Node).\nconst S: &str = \"crate::node::Node\";"),
            ("src/engine/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::sim::World;\n}"),
            ("src/engine/tests.rs", "use crate::sim::World;"),
        ] {
            assert_eq!(found(name, code), [""; 0], "{name}: {code}");
        }
    }

    #[test]
    fn finds_the_outside_world_in_the_core_and_code_after_a_test_module() {
        let code = "#[cfg(test)]\nmod tests { use std::thread; }\nfn f() { std::time::Instant::now(); }";
        assert_eq!(
            found("src/engine/mod.rs", code),
            ["src/engine/mod.rs:4: names Instant, which only the rooms runtime, sim, agent, store, deploy, cli may"]
        );
        assert_eq!(found("src/node.rs", "use std::net::{IpAddr, TcpStream};").len(), 1);
        assert_eq!(found("src/proto/rng.rs", "fn f() { getrandom::fill(&mut [0]); }").len(), 1);
        assert_eq!(found("src/session/mod.rs", "use std::collections::HashMap;").len(), 1);
        assert_eq!(found("src/runtime/mod.rs", "use mio::Poll; use std::collections::HashMap;"), [""; 0]);
        assert_eq!(found("src/proto/timer.rs", "struct InstantLike; // no Instant here\nfn mio_like() {}"), [""; 0]);
    }

    #[test]
    fn finds_unsafe_unfinished_work_and_missing_module_docs() {
        assert_eq!(found("src/wire/mod.rs", "fn f() { unsafe { g() } }").len(), 1);
        assert_eq!(found("src/buffer/mod.rs", "fn f() { unsafe { g() } }"), [""; 0]);
        assert_eq!(found("src/wire/mod.rs", "#![expect(unsafe_code)] // unsafe\nconst S: &str = \"unsafe\";"), [""; 0]);
        assert_eq!(
            found("src/cli/mod.rs", "fn f() { todo!() }\n#[cfg(test)]\nmod t { fn g() { todo!(\"x\") } }").len(),
            2
        );
        assert_eq!(
            violations("src/cli/mod.rs", "#![allow(x)]\n\nuse std::fs;"),
            ["src/cli/mod.rs: does not open with //!"]
        );
        assert_eq!(violations("src/lib.rs", "#![deny(x)]\n//! Docs.\n"), [""; 0]);
        assert_eq!(violations("tests/a.rs", &"\n".repeat(1001)), ["tests/a.rs: has 1001 lines, more than 1000"]);
        assert_eq!(violations("README.md", &format!("a\n{}x", MACHINE_PATHS[0])).len(), 1);
    }

    #[test]
    fn literals_do_not_confuse_it() {
        let code = "const A: &str = r#\"\"quote\" unsafe\"#; const B: char = '\"'; fn f<'a>(x: &'a str) { g('\\'', b\"unsafe\") }\n\
                    /* unsafe /* nested */ unsafe */ const C: &str = \"\\\" unsafe\"; fn r(r: u8) {}\nfn h() { unsafe {} }";
        assert_eq!(found("src/wire/mod.rs", code), ["src/wire/mod.rs:4: unsafe outside its islands"]);
    }
}
