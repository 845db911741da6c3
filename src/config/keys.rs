//! The one table of settings: TOML keys, environment variables, flags, `config dump` and the help all come
//! from it.
//!
//! A row ties a key path to a field of [`Config`] and to the written form of its value. A field without a row
//! does not compile. This module reads no file and checks no rule between fields.

use std::net::{IpAddr, Ipv4Addr};

use super::Config;
use super::Mode;
use super::value::{Auto, Bytes, Codec, Count, Group, Ip, Shape, Span, Switch, Text, Word};
use crate::id::AckLevel;

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Section and name in TOML, as in `membership.frequency`.
    pub path: &'static str,
    /// The field of [`Config`].
    pub field: &'static str,
    /// What its text looks like.
    pub shape: Shape,
    /// Whether `auto` is a value.
    pub auto: bool,
    /// What it means.
    pub doc: &'static str,
    get: fn(&Config) -> String,
    set: fn(&mut Config, &str) -> Result<(), String>,
}

impl Key {
    /// The setting with this path.
    #[must_use]
    pub fn by_path(path: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.path == path)
    }

    /// The setting of this flag, written without its dashes.
    #[must_use]
    pub fn by_flag(flag: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.flag() == flag)
    }

    /// The setting of this environment variable.
    #[must_use]
    pub fn by_env(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.env() == name)
    }

    /// The TOML table that holds it.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }

    /// Its name within the section.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, name)| name)
    }

    /// Its environment variable: `HOTSPARE_MEMBERSHIP_FREQUENCY`.
    #[must_use]
    pub fn env(&self) -> String {
        format!("{ENV_PREFIX}{}", self.path.replace('.', "_").to_ascii_uppercase())
    }

    /// Its flag without the dashes: the field's name in kebab case.
    #[must_use]
    pub fn flag(&self) -> String {
        self.field.replace('_', "-")
    }

    /// The present value as text, in the form that [`Key::set`] takes.
    #[must_use]
    pub fn get(&self, config: &Config) -> String {
        (self.get)(config)
    }

    /// Sets the value.
    ///
    /// # Errors
    /// Says what was expected; the configuration is as before.
    pub fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        (self.set)(config, text)
    }
}

/// What the environment variables begin with.
pub const ENV_PREFIX: &str = "HOTSPARE_";

macro_rules! keys {
    ($($path:literal $field:ident: $codec:ty, $doc:literal;)*) => {
        /// Every setting, in the order of its section.
        pub static KEYS: &[Key] = &[$(Key {
            path: $path,
            field: stringify!($field),
            shape: <$codec as Codec>::SHAPE,
            auto: <$codec as Codec>::AUTO,
            doc: $doc,
            get: |config| <$codec as Codec>::show(&config.$field),
            set: |config, text| <$codec as Codec>::parse(text).map(|value| config.$field = value),
        },)*];

        /// Fails to compile when a field has no row.
        const _: fn(Config) = |config| {
            let Config { $($field: _,)* } = config;
        };
    };
}

keys! {
    "node.name" name: Text, "this node's name in views, logs and outcomes";
    "node.cluster" cluster: Text, "cluster name; members of another cluster are ignored";

    "membership.multicast" multicast: Group, "multicast group and port of the pings";
    "membership.interface" interface: Auto<Ip<Ipv4Addr>>, "address of the interface that pings leave by; auto: receiver.bind";
    "membership.ttl" multicast_ttl: Count<u32>, "multicast time to live, in hops";
    "membership.frequency" frequency: Span, "period of the pings";
    "membership.drop_time" drop_time: Span, "silence after which a member is suspect";
    "membership.verify_timeout" verify_timeout: Span, "how long one echo to a suspect may take; two are tried";

    "receiver.bind" bind: Ip<IpAddr>, "address that the receiver listens on and advertises";
    "receiver.port" port: Count<u16>, "port of the receiver; 0 draws a free one";
    "receiver.auto_bind" auto_bind: Count<u16>, "how many ports after it are tried when it is taken";
    "receiver.workers" workers: Count<usize>, "I/O threads";
    "receiver.insecure_plaintext" insecure_plaintext: Switch, "allow plaintext off loopback";

    "sender.mode" mode: Word<Mode>, "how a request's end treats the other members";
    "sender.ack" ack: Word<AckLevel>, "what an ack must mean in the synchronous modes";
    "sender.ack_timeout" ack_timeout: Span, "how long a synchronous caller waits for acks";
    "sender.queue_wait" queue_wait: Span, "how long an asynchronous caller waits above high water; a member that takes in less than high water in this time is repaired instead, and for one that takes in nothing for 50 ms nobody waits";
    "sender.lanes" lanes: Auto<Count<usize>>, "connections to each member; auto: as many as workers";
    "sender.high_water" high_water: Bytes, "memory of what is queued to a member above which callers wait";
    "sender.low_water" low_water: Bytes, "memory of what is queued to a member below which callers go on";
    "sender.queue_bytes_max" queue_bytes_max: Bytes, "memory of what is queued to a member at which it is repaired instead";
    "sender.congestion" congestion: Auto<Text>, "congestion control, as the kernel names it; auto: the system's";

    "sessions.max_idle" max_idle: Span, "idle time after which a session expires";
    "sessions.idle_grace" idle_grace: Span, "how much longer others than the last writer wait to expire it";
    "sessions.touch_interval" touch_interval: Span, "accesses this soon after an announced one are not announced";
    "sessions.partition_max" partition_max: Span, "longest tolerated partition; tombstones live max_idle plus this";
    "sessions.tombstones_max" tombstones_max: Count<usize>, "tombstones kept per context";
    "sessions.value_bytes_max" value_bytes_max: Bytes, "largest value of one attribute";
    "sessions.session_bytes_max" session_bytes_max: Bytes, "largest session, names and values";
    "sessions.store_bytes_max" store_bytes_max: Bytes, "what the store may hold in all";
    "sessions.dirty_flag" dirty_flag: Switch, "send what a request changed (true), or compare whole sessions";
    "sessions.filter" filter: Text, "URIs that send nothing: patterns separated by ; or one regular expression";

    "transfer.timeout" state_transfer_timeout: Span, "how long a joiner that is brought nothing more waits for the rest of the state before it opens anyway";

    "events.queue" event_queue: Count<usize>, "events that may wait for the application";
    "events.sessions" session_events: Switch, "produce events of sessions, not only of members";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn paths_flags_and_variables_are_unique_and_lead_back() {
        let mut seen = HashSet::new();
        for key in KEYS {
            assert!(!key.section().is_empty() && key.path.matches('.').count() == 1, "{}", key.path);
            for name in [key.path.to_owned(), key.flag(), key.env()] {
                assert!(seen.insert(name.clone()), "{name} is used twice");
            }
            assert!(std::ptr::eq(key, Key::by_path(key.path).unwrap()));
            assert!(std::ptr::eq(key, Key::by_flag(&key.flag()).unwrap()));
            assert!(std::ptr::eq(key, Key::by_env(&key.env()).unwrap()));
        }
    }

    #[test]
    fn sections_are_contiguous_so_that_a_dump_opens_each_once() {
        let mut sections: Vec<_> = KEYS.iter().map(Key::section).collect();
        sections.dedup();
        let distinct: HashSet<_> = sections.iter().collect();
        assert_eq!(distinct.len(), sections.len());
    }

    #[test]
    fn every_shown_value_reads_back_into_the_same_configuration() {
        for preset in [Config::default(), Config::loopback(), Config::tomcat()] {
            let mut copy = Config::default();
            for key in KEYS {
                key.set(&mut copy, &key.get(&preset)).unwrap();
            }
            assert_eq!(copy, preset);
        }
    }
}
