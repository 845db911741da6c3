//! Layered settings as an application meets them: precedence, origins, and all problems at once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use hotspare::config::{Config, Filter, KEYS, Layers, Loaded, Mode, Problem, Shape};

fn messages(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn problems(layers: Layers) -> Vec<String> {
    messages(&layers.load().unwrap_err())
}

fn errors(config: &Config) -> Vec<String> {
    messages(&config.check().unwrap_err())
}

fn origin(loaded: &Loaded, path: &str) -> String {
    loaded.origin(path).unwrap().to_string()
}

#[test]
fn every_preset_is_sound_and_silent() {
    for preset in [Config::default(), Config::lan(), Config::loopback(), Config::tomcat()] {
        assert_eq!(preset.check(), Ok(()));
        assert_eq!(preset.warnings(), []);
    }
    assert_eq!(Config::default(), Config::lan());
}

#[test]
fn a_later_layer_wins_and_every_value_knows_its_origin() {
    let loaded = Layers::new()
        .toml("low.toml", "[sender]\nmode = \"asynchronous\"\nlanes = 3\nack_timeout = \"1s\"\n")
        .toml("high.toml", "[sender]\n\nlanes = 4\nack_timeout = 2500\n")
        .env([("HOTSPARE_SENDER_ACK_TIMEOUT", "3s"), ("HOME", "/nowhere")])
        .flags([("--workers", "5")])
        .load()
        .unwrap();
    assert_eq!(loaded.config.mode, Mode::Asynchronous);
    assert_eq!(loaded.config.lanes, Some(4));
    assert_eq!(loaded.config.ack_timeout, Duration::from_secs(3));
    assert_eq!(loaded.config.workers, 5);
    assert_eq!(origin(&loaded, "sender.mode"), "low.toml:2");
    assert_eq!(origin(&loaded, "sender.lanes"), "high.toml:3");
    assert_eq!(origin(&loaded, "sender.ack_timeout"), "env HOTSPARE_SENDER_ACK_TIMEOUT");
    assert_eq!(origin(&loaded, "receiver.workers"), "--workers");
    assert_eq!(origin(&loaded, "receiver.port"), "default (lan)");
    assert_eq!(loaded.warnings, []);
}

#[test]
fn the_preset_is_the_lowest_layer_wherever_it_is_named() {
    let loaded = Layers::new()
        .toml("a.toml", "preset = \"loopback\"\n[receiver]\nworkers = 3\n")
        .env([("HOTSPARE_PRESET", "tomcat")])
        .load()
        .unwrap();
    let mut expected = Config::tomcat();
    expected.workers = 3;
    assert_eq!(loaded.config, expected);
    assert_eq!(origin(&loaded, "membership.frequency"), "default (tomcat)");
    assert_eq!(
        problems(Layers::new().flags([("preset", "wan")])),
        ["--preset: preset \"wan\" is none of lan, loopback, tomcat"]
    );
}

#[test]
fn all_problems_of_all_layers_come_at_once_with_their_places() {
    let text = "[membership]\nfrequency = \"fast\"\ndroptime = \"3s\"\nmulticast = \"10.0.0.1:1\"\n\n\
                [sendr]\nmode = \"pooled\"\n\n\
                [receiver]\nport = \"4700\"\nworkers = 0\n";
    let found = problems(
        Layers::new()
            .toml("site.toml", text)
            .env([("HOTSPARE_SENDER_MODE", "poled"), ("HOTSPARE_SENDER_LANE", "1")])
            .flags([("--port", "70000"), ("--multicats", "x")]),
    );
    assert_eq!(
        found,
        [
            "site.toml:2: membership.frequency: \"fast\" is no duration: write a whole number with us, ms, s, m, h \
             or d, as in \"200ms\"",
            "site.toml:3: unknown setting membership.droptime; did you mean membership.drop_time?",
            "site.toml:4: membership.multicast 10.0.0.1:1 is no multicast group: those are 224.0.0.0 to \
             239.255.255.255",
            "site.toml:6: unknown setting sendr; did you mean sender?",
            "site.toml:10: receiver.port: a number is written without quotes",
            "site.toml:11: receiver.workers is 0; allowed are 1 to 64",
            "env HOTSPARE_SENDER_LANE: unknown setting; did you mean HOTSPARE_SENDER_LANES?",
            "env HOTSPARE_SENDER_MODE: sender.mode: \"poled\" is none of synchronous, pooled, asynchronous",
            "--multicats: unknown setting; did you mean multicast?",
            "--port: receiver.port: 70000 is too large",
        ]
    );
}

#[test]
fn a_rule_between_layers_names_every_place_that_set_a_side() {
    let found = problems(
        Layers::new()
            .toml("a.toml", "[membership]\ndrop_time = \"1s\"\n")
            .env([("HOTSPARE_MEMBERSHIP_FREQUENCY", "500ms")]),
    );
    assert_eq!(
        found,
        ["a.toml:2, env HOTSPARE_MEMBERSHIP_FREQUENCY: membership.drop_time 1s must be more than twice \
          membership.frequency 500ms, or one lost ping makes a suspect"]
    );
}

#[test]
fn a_rule_is_not_judged_by_a_value_that_could_not_be_read() {
    // Beside the default frequency this drop time would be too short.
    for frequency in ["\"x\"", "1.5", "[]"] {
        let text = format!("[membership]\nfrequency = {frequency}\ndrop_time = 300\nverify_timeout = 100\n");
        let found = problems(Layers::new().toml("a.toml", &text));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("a.toml:2: membership.frequency: "), "{found:?}");
    }
}

#[test]
fn syntax_errors_and_unreadable_files_are_problems_with_a_place() {
    let found = problems(Layers::new().toml("a.toml", "[node]\nname = \n"));
    assert!(found.len() == 1 && found[0].starts_with("a.toml:2: is no TOML: "), "{found:?}");
    let found = problems(Layers::new().toml("a.toml", "[node]\nname = \"a\"\nname = \"b\"\n"));
    assert!(found.len() == 1 && found[0].starts_with("a.toml:3: is no TOML: "), "{found:?}");
    let found = problems(Layers::new().toml("a.toml", "node = 3\n"));
    assert_eq!(found, ["a.toml:1: node must be a table: [node]"]);

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("absent.toml");
    let found = problems(Layers::new().file(&path));
    assert!(found[0].starts_with(&format!("{}: cannot be read: ", path.display())), "{found:?}");
    std::fs::write(&path, "#".repeat(1 << 20) + "\n#").unwrap();
    assert!(problems(Layers::new().file(&path))[0].ends_with("has more than 1048576 bytes"));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(problems(Layers::new().file(&path))[0].contains("cannot be read"));
}

#[test]
fn inline_tables_and_dotted_keys_are_settings_too() {
    let loaded = Layers::new()
        .toml("a.toml", "node = { name = \"a\" }\nsender.lanes = \"auto\"\nreceiver.workers = 2\n")
        .load()
        .unwrap();
    assert_eq!((loaded.config.name.as_str(), loaded.config.lanes, loaded.config.workers), ("a", None, 2));
    assert_eq!(origin(&loaded, "receiver.workers"), "a.toml:3");
}

#[test]
fn an_orchestrators_variables_are_warned_of_and_not_refused() {
    // What a service named "hotspare" puts into every container beside it.
    let loaded = Layers::new()
        .env([("HOTSPARE_SERVICE_HOST", "10.0.0.1"), ("HOTSPARE_PORT", "tcp://10.0.0.1:80"), ("HOTSPARE_LOG", "debug")])
        .load()
        .unwrap();
    assert_eq!(
        messages(&loaded.warnings),
        ["env HOTSPARE_SERVICE_HOST: warning: unknown setting", "env HOTSPARE_PORT: warning: unknown setting"]
    );
}

#[test]
fn every_setting_can_be_given_as_toml_variable_and_flag() {
    for preset in [Config::loopback(), Config::tomcat()] {
        let values: Vec<_> = KEYS.iter().map(|key| (key, key.get(&preset))).collect();
        let env = Layers::new().env(values.iter().map(|(key, text)| (key.env(), text))).load().unwrap();
        let flags = Layers::new().flags(values.iter().map(|(key, text)| (key.flag(), text))).load().unwrap();
        let text: String = values
            .iter()
            .map(|(key, text)| match key.shape {
                Shape::Switch | Shape::Count if text != "auto" => {
                    format!("{} = {text}\n", key.path)
                }
                _ => format!("{} = '{text}'\n", key.path),
            })
            .collect();
        let toml = Layers::new().toml("all.toml", &text).load().unwrap();
        assert_eq!(env.config, preset);
        assert_eq!(flags.config, preset);
        assert_eq!(toml.config, preset);
    }
}

#[test]
fn a_dump_names_origins_and_loads_into_the_same_configuration() {
    let loaded = Layers::new()
        .toml("a.toml", "preset = \"tomcat\"\n[sessions]\nfilter = '.*\\.gif;.*\\.js'\n")
        .env([("HOTSPARE_NODE_NAME", "quote \" back \\ tick ' é")])
        .flags([("lanes", "7"), ("congestion", "bbr")])
        .load()
        .unwrap();
    let dump = loaded.to_toml();
    let again = Layers::new().toml("dump.toml", &dump).load().unwrap();
    assert_eq!(again.config, loaded.config);
    let line = |start: &str| dump.lines().find(|line| line.starts_with(start)).unwrap();
    assert!(line("filter = '.*\\.gif;.*\\.js'").ends_with("# a.toml:3"), "{dump}");
    assert!(line("lanes = 7 ").ends_with("# --lanes"));
    assert!(line("name = ").ends_with("# env HOTSPARE_NODE_NAME"));
    assert!(line("frequency = \"500ms\"").ends_with("# default (tomcat)"));
    assert!(line("interface = \"auto\"").ends_with("# default (tomcat)"));
}

#[test]
fn each_rule_refuses_what_it_forbids_and_names_known_settings() {
    type Break = fn(&mut Config);
    let rules: &[(&str, Break)] = &[
        ("node.name has 0 bytes", |c| c.name.clear()),
        ("node.name has 65 bytes", |c| c.name = "x".repeat(65)),
        ("node.cluster \"a\\nb\" has a control", |c| c.cluster = "a\nb".into()),
        ("is no multicast group", |c| c.multicast.set_ip(Ipv4Addr::new(192, 168, 0, 1))),
        ("has no port", |c| c.multicast.set_port(0)),
        ("membership.ttl is 256", |c| c.multicast_ttl = 256),
        ("is no interface's address", |c| c.interface = Some(Ipv4Addr::UNSPECIFIED)),
        ("must be named where receiver.bind is IPv6", |c| c.bind = "::1".parse().unwrap()),
        ("membership.frequency is 1ms", |c| c.frequency = Duration::from_millis(1)),
        ("membership.frequency is 61s", |c| {
            c.frequency = Duration::from_secs(61);
            c.drop_time = Duration::from_secs(600);
        }),
        ("must be more than twice membership.frequency", |c| c.drop_time = c.frequency * 2),
        ("must not exceed membership.drop_time", |c| c.verify_timeout = c.drop_time * 2),
        ("membership.verify_timeout is 0us", |c| c.verify_timeout = Duration::ZERO),
        ("cannot be advertised", |c| c.bind = IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        ("would carry sessions in plaintext", |c| c.bind = IpAddr::from([10, 0, 0, 1])),
        ("is above 65535", |c| c.port = 65500),
        ("receiver.workers is 0", |c| c.workers = 0),
        ("receiver.workers is 65", |c| c.workers = 65),
        ("sender.lanes is 0", |c| c.lanes = Some(0)),
        ("sender.lanes is 65", |c| c.lanes = Some(65)),
        ("sender.ack_timeout is 0us", |c| c.ack_timeout = Duration::ZERO),
        ("sender.low_water 8MiB must be below sender.high_water 8MiB", |c| c.low_water = c.high_water),
        ("sender.high_water 256MiB must be below sender.queue_bytes_max", |c| c.high_water = 256 << 20),
        ("or one session overflows a queue", |c| c.queue_bytes_max = 32 << 20),
        ("is no kernel's name", |c| c.congestion = Some("cubic; rm".into())),
        ("is no kernel's name", |c| c.congestion = Some("a".repeat(16))),
        ("sessions.max_idle is 0us", |c| c.max_idle = Duration::ZERO),
        ("transfer.timeout is ", |c| c.state_transfer_timeout = Duration::MAX),
        ("or members expire a session in use", |c| c.touch_interval = c.idle_grace * 2),
        ("sessions.tombstones_max is 0", |c| c.tombstones_max = 0),
        ("sessions.value_bytes_max 65MiB must not exceed", |c| c.value_bytes_max = 65 << 20),
        ("sessions.session_bytes_max 64MiB must not exceed", |c| c.store_bytes_max = 1 << 20),
        ("allows no attribute", |c| c.value_bytes_max = 0),
        ("allowed are up to 1GiB", |c| {
            c.session_bytes_max = 2 << 30;
            c.queue_bytes_max = 4 << 30;
        }),
        ("sessions.filter: the pattern \"(\" is not usable", |c| c.filter = "a;(".into()),
        ("events.queue is 0", |c| c.event_queue = 0),
    ];
    for (expected, break_rule) in rules {
        let mut config = Config::default();
        break_rule(&mut config);
        let found = config.check().unwrap_err();
        let found_it = found.iter().any(|problem| problem.to_string().contains(expected));
        assert!(found_it, "{expected}: {:?}", messages(&found));
        for path in found.iter().flat_map(|problem| &problem.keys) {
            assert!(KEYS.iter().any(|key| key.path == *path), "{path}");
        }
    }
}

#[test]
fn what_is_odd_but_possible_is_a_warning() {
    let mut config = Config::default();
    config.multicast.set_ip(Ipv4Addr::new(224, 0, 0, 5));
    config.interface = Some(Ipv4Addr::new(192, 168, 1, 9));
    config.mode = Mode::Synchronous;
    config.lanes = Some(2);
    assert_eq!(config.check(), Ok(()));
    let warnings = messages(&config.warnings());
    for expected in ["reserved for routing protocols", "only one of them is loopback", "has no effect"] {
        let found = warnings.iter().any(|text| text.starts_with("warning: ") && text.contains(expected));
        assert!(found, "{expected}: {warnings:?}");
    }
    assert_eq!(warnings.len(), 3);
}

#[test]
fn plaintext_off_loopback_names_its_remedies_and_can_be_allowed() {
    let mut config = Config::default();
    config.bind = IpAddr::from([192, 168, 1, 109]);
    let text = errors(&config).join("\n");
    for remedy in ["bind to loopback", "encrypted tunnel", "receiver.insecure_plaintext"] {
        assert!(text.contains(remedy), "{text}");
    }
    config.insecure_plaintext = true;
    assert_eq!(config.check(), Ok(()));
}

#[test]
fn the_filter_of_a_configuration_compiles_as_checked() {
    let loaded = Layers::new().flags([("filter", r".*\.gif;.*\.css")]).load().unwrap();
    let filter = Filter::compile(&loaded.config.filter).unwrap();
    assert!(filter.matches("/a.css") && !filter.matches("/a"));
}

#[test]
fn no_text_makes_loading_panic() {
    let nasty = [
        "",
        "\0",
        "[",
        "[[node]]",
        "[node]\n[node]",
        "node.name.x = 1",
        "[node.name]",
        "\u{feff}[node]",
        "a = 1979-05-27",
        "[node]\r\nname = \"\"\"\n\"\"\"",
        "[sender]\nlanes = -1",
        "[sender]\nlanes = 99999999999999999999",
    ];
    for text in nasty {
        let _ = Layers::new().toml("x", text).load();
    }
    let values = ["", "-1", "18446744073709551616", "é", "0", "18446744073709551615", "255.255.255.255:65535"];
    for key in KEYS {
        for text in values {
            let _ = Layers::new().flags([(key.flag(), text)]).load();
        }
    }
}

#[test]
fn a_setting_outside_its_section_is_told_where_it_belongs() {
    assert_eq!(
        problems(Layers::new().toml("site.toml", "mode = \"pooled\"\nfrequency = \"1s\"\nnodde = 1\n")),
        [
            "site.toml:1: unknown setting mode; did you mean sender.mode?",
            "site.toml:2: unknown setting frequency; did you mean membership.frequency?",
            "site.toml:3: unknown setting nodde; did you mean node?",
        ]
    );
}

#[test]
fn problems_of_several_files_come_in_the_order_of_the_files() {
    let layers = Layers::new()
        .toml("site.toml", "[node]\nnome = \"a\"\nnume = \"a\"\n")
        .toml("host.toml", "[node]\nneme = \"a\"\n");
    let places: Vec<String> = problems(layers).iter().map(|p| p.split(": ").next().unwrap_or("").to_owned()).collect();
    assert_eq!(places, ["site.toml:2", "site.toml:3", "host.toml:2"]);
}
