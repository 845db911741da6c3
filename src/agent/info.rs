//! What clients ask about the server rather than about sessions: `HELLO`, `INFO`, `CLIENT`, `CONFIG`, `COMMAND`.
//!
//! Client libraries read some of these answers at every connect, so they have Redis's shape; what is only ours
//! stands in a section of its own.

use std::fmt::Write as _;

use super::command::{COMMANDS, Keys, Spec};
use super::exec::Client;
use super::glob;
use super::host::Host;
use super::resp::{Protocol, Writer};

/// The Redis whose answers these are; clients switch features by it.
const REDIS_VERSION: &str = "7.0.0";

pub(crate) fn hello(client: &Client, writer: &mut Writer<'_>, protocol: Protocol) {
    writer.map(7);
    for (name, value) in [("server", "hotspare"), ("version", REDIS_VERSION)] {
        writer.bulk(name.as_bytes());
        writer.bulk(value.as_bytes());
    }
    writer.bulk(b"proto");
    writer.integer(match protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    });
    writer.bulk(b"id");
    writer.integer(i64::try_from(client.id).unwrap_or(i64::MAX));
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        writer.bulk(name.as_bytes());
        writer.bulk(value.as_bytes());
    }
    writer.bulk(b"modules");
    writer.array(0);
}

pub(crate) fn info(host: &Host, writer: &mut Writer<'_>, sections: Keys<'_>) {
    let stats = host.node.stats();
    let view = host.node.view();
    let state = match view.members.first() {
        Some(_) if host.node.is_ready() => "ready",
        Some(me) => me.state.as_str(),
        None => "joining",
    };
    let members = view.members.len();
    let config = host.node.config();
    let mut text = String::new();
    for (section, lines) in [
        (
            "Server",
            format!(
                "redis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nprocess_id:{}\r\nuptime_in_seconds:{}\r\n",
                std::process::id(),
                host.node.now().as_secs()
            ),
        ),
        ("Clients", format!("connected_clients:{}\r\nmaxclients:{}\r\n", host.clients, host.settings.clients_max)),
        (
            "Memory",
            format!(
                "used_memory:{}\r\nmaxmemory:{}\r\nmaxmemory_policy:noeviction\r\n",
                stats.session_bytes, config.store_bytes_max
            ),
        ),
        ("Persistence", format!("loading:{}\r\n", u8::from(state != "ready"))),
        ("Replication", format!("role:master\r\nconnected_slaves:{}\r\n", members.saturating_sub(1))),
        ("Hotspare", {
            let mut lines = format!(
                "version:{}\r\nnode:{}\r\nmember:{}\r\nstate:{state}\r\nmembers:{members}\r\nsessions:{}\r\nbytes:{}\r\n",
                env!("CARGO_PKG_VERSION"),
                config.name,
                host.node.id(),
                stats.sessions,
                stats.session_bytes,
            );
            for (at, peer) in view.members.iter().skip(1).enumerate() {
                let _ = write!(
                    lines,
                    "member{at}:name={},address={},state={},suspect={},repairing={},divergent={}\r\n",
                    peer.name,
                    peer.addr,
                    peer.state.as_str(),
                    u8::from(peer.suspect),
                    u8::from(peer.repairing),
                    peer.divergent
                );
            }
            for (name, value) in stats.fields() {
                // A string takes every write.
                let _ = write!(lines, "stat_{name}:{value}\r\n");
            }
            lines
        }),
    ] {
        let asked = |word: &[u8]| {
            [section, "all", "default", "everything"].iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
        };
        if sections.is_empty() || sections.iter().any(|word| asked(word)) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let _ = write!(text, "# {section}\r\n{lines}");
        }
    }
    writer.bulk(text.as_bytes());
}

pub(crate) fn client(client: &mut Client, writer: &mut Writer<'_>, words: Keys<'_>) {
    let [subcommand, rest @ ..] = words else { return };
    match (subcommand.to_ascii_lowercase().as_slice(), rest) {
        (b"id", []) => writer.integer(i64::try_from(client.id).unwrap_or(i64::MAX)),
        (b"getname", []) if client.name.is_empty() => writer.null(),
        (b"getname", []) => writer.bulk(&client.name),
        (b"setname", [name]) if is_client_name(name) => {
            client.name = name.to_vec();
            writer.ok();
        }
        (b"setname", [_]) => writer.error(&"ERR Client names cannot contain spaces, newlines or special characters."),
        // Libraries introduce themselves at every connect; there is nowhere to show it.
        (b"setinfo", [_, _]) | (b"no-evict" | b"no-touch", [_]) => writer.ok(),
        (b"info", []) => {
            let line =
                format!("id={} name={} db={}\n", client.id, String::from_utf8_lossy(&client.name), client.database);
            writer.bulk(line.as_bytes());
        }
        _ => unknown(writer, "CLIENT", subcommand),
    }
}

pub(crate) fn config(host: &Host, writer: &mut Writer<'_>, words: Keys<'_>) {
    let [subcommand, rest @ ..] = words else { return };
    if !subcommand.eq_ignore_ascii_case(b"get") || rest.is_empty() {
        return unknown(writer, "CONFIG", subcommand);
    }
    let config = host.node.config();
    let settings = [
        ("appendonly", String::from("no")),
        ("databases", host.settings.databases.to_string()),
        ("maxclients", host.settings.clients_max.to_string()),
        ("maxmemory", config.store_bytes_max.to_string()),
        ("maxmemory-policy", String::from("noeviction")),
        ("notify-keyspace-events", String::new()),
        ("proto-max-bulk-len", config.value_bytes_max.to_string()),
        ("save", String::new()),
        ("timeout", String::from("0")),
    ];
    let asked = |name: &str| rest.iter().any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()));
    let found: Vec<_> = settings.iter().filter(|(name, _)| asked(name)).collect();
    writer.map(found.len());
    for (name, value) in found {
        writer.bulk(name.as_bytes());
        writer.bulk(value.as_bytes());
    }
}

pub(crate) fn commands(writer: &mut Writer<'_>, words: Keys<'_>) {
    let Some((subcommand, rest)) = words.split_first() else {
        writer.array(COMMANDS.len());
        for spec in COMMANDS {
            describe(writer, spec);
        }
        return;
    };
    match subcommand.to_ascii_lowercase().as_slice() {
        b"count" => writer.integer(i64::try_from(COMMANDS.len()).unwrap_or(i64::MAX)),
        b"list" => {
            writer.array(COMMANDS.len());
            for spec in COMMANDS {
                writer.bulk(spec.name.as_bytes());
            }
        }
        b"info" if !rest.is_empty() => {
            writer.array(rest.len());
            for name in rest {
                match Spec::find(name) {
                    Some(spec) => describe(writer, spec),
                    None => writer.null(),
                }
            }
        }
        // Redis's manual has them.
        b"docs" => writer.map(0),
        _ => unknown(writer, "COMMAND", subcommand),
    }
}

/// Whether it can stand in a list of clients.
pub(crate) fn is_client_name(name: &[u8]) -> bool {
    name.len() <= 256 && name.iter().all(u8::is_ascii_graphic)
}

fn describe(writer: &mut Writer<'_>, spec: &Spec) {
    writer.array(6);
    writer.bulk(spec.name.as_bytes());
    writer.integer(i64::from(spec.arity));
    writer.set(spec.flags.len());
    for flag in spec.flags {
        writer.simple(flag);
    }
    let (first, last, step) = spec.keys;
    for position in [first, last, step] {
        writer.integer(i64::from(position));
    }
}

fn unknown(writer: &mut Writer<'_>, command: &str, subcommand: &[u8]) {
    let subcommand = String::from_utf8_lossy(&subcommand[..subcommand.len().min(128)]);
    writer.error(&format_args!(
        "ERR unknown subcommand or wrong number of arguments for '{subcommand}'. Try {command} HELP."
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_describe_themselves_in_both_versions() {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let mut out = Vec::new();
            commands(&mut Writer::new(&mut out, protocol), &[]);
            assert!(out.starts_with(format!("*{}\r\n*6\r\n$4\r\nauth\r\n:-2\r\n", COMMANDS.len()).as_bytes()));
        }
    }
}
