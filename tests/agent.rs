//! The agent as its clients see it: over sockets, against real nodes.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hotspare::agent::{Agent, AgentError, Settings};
use hotspare::{Config, MemberInfo, Mode, Node, NodeState};
use proptest::prelude::*;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;

const LIMIT: Duration = Duration::from_secs(20);

/// A node and its agent.
struct Server {
    agent: Agent,
    node: Node,
}

impl Server {
    /// A cluster of ready nodes that see each other.
    fn cluster(count: usize, change: impl Fn(&mut Config)) -> Vec<Self> {
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let cluster = format!("agent-{}-{}", std::process::id(), CLUSTERS.fetch_add(1, Ordering::Relaxed));
        let nodes: Vec<Node> = (0..count)
            .map(|n| {
                let mut config = Config::loopback();
                config.name = format!("n{n}");
                config.cluster.clone_from(&cluster);
                change(&mut config);
                Node::start(config).unwrap()
            })
            .collect();
        for node in &nodes {
            node.wait_ready(LIMIT).unwrap();
        }
        until(|| nodes.iter().all(|node| sees(node, count)));
        nodes.into_iter().map(|node| Self::serve(node, Settings::default())).collect()
    }

    fn alone() -> Self {
        Self::cluster(1, |_| ()).remove(0)
    }

    fn serve(node: Node, settings: Settings) -> Self {
        let agent = Agent::start(node.clone(), SocketAddr::from(([127, 0, 0, 1], 0)), settings).unwrap();
        Self { agent, node }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(self.agent.addr()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, input: Vec::new() }
    }
}

/// Whether the node counts so many members as copies, itself included.
fn sees(node: &Node, members: usize) -> bool {
    let copies = |member: &MemberInfo| member.state == NodeState::Ready && !member.repairing;
    node.view().members.iter().filter(|member| copies(member)).count() == members
}

/// Asks again until it is so; what is waited for has no event that a test could see.
fn until(mut so: impl FnMut() -> bool) {
    let (send, wait) = std::sync::mpsc::channel::<()>();
    for _ in 0..4000 {
        if so() {
            return;
        }
        let _ = wait.recv_timeout(Duration::from_millis(5));
    }
    drop(send);
    panic!("it did not become so in time");
}

/// A RESP2 client that shows replies as text.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    /// The reply to a command whose words are separated by blanks.
    fn ask(&mut self, line: &str) -> String {
        self.send(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        self.reply()
    }

    fn send(&mut self, words: &[&[u8]]) {
        self.stream.write_all(&encoded(words)).unwrap();
    }

    fn reply(&mut self) -> String {
        show(&self.frame().unwrap())
    }

    fn frame(&mut self) -> io::Result<OwnedFrame> {
        loop {
            if let Some((frame, length)) = decode(&self.input).unwrap() {
                self.input.drain(..length);
                return Ok(frame);
            }
            let mut buffer = [0; 64 << 10];
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.input.extend_from_slice(&buffer[..n]),
            }
        }
    }

    fn is_closed(&mut self) -> bool {
        self.frame().is_err_and(|error| !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }
}

fn encoded(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn show(frame: &OwnedFrame) -> String {
    match frame {
        OwnedFrame::SimpleString(bytes) | OwnedFrame::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        OwnedFrame::Error(text) => format!("-{text}"),
        OwnedFrame::Integer(n) => format!(":{n}"),
        OwnedFrame::Null => String::from("nil"),
        OwnedFrame::Array(frames) => format!("[{}]", frames.iter().map(show).collect::<Vec<_>>().join(" ")),
    }
}

/// Checks a table of commands and replies, in order.
fn check(client: &mut Client, table: &[(&str, &str)]) {
    for (line, reply) in table {
        assert_eq!(&client.ask(line), reply, "{line}");
    }
}

#[test]
fn values_behave_as_in_redis() {
    let server = Server::alone();
    check(
        &mut server.client(),
        &[
            ("GET a", "nil"),
            ("SET a 1", "OK"),
            ("GET a", "1"),
            ("TTL a", ":-1"),
            ("TYPE a", "string"),
            ("SET a 2 NX", "nil"),
            ("SET a 2 XX GET", "1"),
            ("SET b 1 XX", "nil"),
            ("SETNX a 3", ":0"),
            ("SETNX b 3", ":1"),
            ("GETSET b 4", "3"),
            ("MGET a nothing b", "[2 nil 4]"),
            ("EXISTS a a nothing b", ":3"),
            ("DBSIZE", ":2"),
            ("SET a 5 EX 100", "OK"),
            ("TTL a", ":100"),
            ("SET a 6 KEEPTTL", "OK"),
            ("TTL a", ":100"),
            ("SET a 7", "OK"),
            ("TTL a", ":-1"),
            ("SETEX a 100 8", "OK"),
            ("TTL a", ":100"),
            ("PERSIST a", ":1"),
            ("PERSIST a", ":0"),
            ("TTL a", ":-1"),
            ("EXPIRE a 50", ":1"),
            ("EXPIRE a 40 GT", ":0"),
            ("EXPIRE a 60 NX", ":0"),
            ("EXPIRE a 60 GT", ":1"),
            ("TTL a", ":60"),
            ("EXPIRE nothing 60", ":0"),
            ("TTL nothing", ":-2"),
            ("GETEX a PERSIST", "8"),
            ("TTL a", ":-1"),
            ("PEXPIREAT a 99999999999999", ":1"),
            ("TTL a", ":-1"),
            ("GETDEL a", "8"),
            ("GETDEL a", "nil"),
            ("SET b 1 PXAT 1", "OK"),
            ("GET b", "nil"),
            ("SET a 1", "OK"),
            ("EXPIRE a -1", ":1"),
            ("EXISTS a", ":0"),
            ("SET a 1", "OK"),
            ("SET b 1", "OK"),
            ("DEL a nothing b", ":2"),
            ("UNLINK a", ":0"),
            ("TYPE a", "none"),
            ("DBSIZE", ":0"),
        ],
    );
}

#[test]
fn fields_behave_as_in_redis() {
    let server = Server::alone();
    check(
        &mut server.client(),
        &[
            ("HSET s a 1 b 2 a 3", ":2"),
            ("HSET s a 4 c 5", ":1"),
            ("HGET s a", "4"),
            ("HGET s nothing", "nil"),
            ("HGET nothing a", "nil"),
            ("HMGET s a nothing c", "[4 nil 5]"),
            ("HMGET nothing a b", "[nil nil]"),
            ("HLEN s", ":3"),
            ("HEXISTS s b", ":1"),
            ("HEXISTS s nothing", ":0"),
            ("HSETNX s b 9", ":0"),
            ("HSETNX s d 9", ":1"),
            ("HDEL s d nothing d", ":1"),
            ("HDEL s d", ":0"),
            ("HSET s d 9", ":1"),
            ("HDEL s d", ":1"),
            ("HMSET s b 7", "OK"),
            ("TYPE s", "hash"),
            ("GET s", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("SET s x GET", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("MGET s", "[nil]"),
            ("EXPIRE s 100", ":1"),
            ("TTL s", ":100"),
            ("HSET s a 6", ":0"),
            ("TTL s", ":100"),
            ("HDEL s a b c", ":3"),
            ("EXISTS s", ":0"),
            ("HGETALL s", "[]"),
            ("HSET s a 1", ":1"),
            ("TTL s", ":-1"),
            ("HGETALL s", "[a 1]"),
            ("HKEYS s", "[a]"),
            ("HVALS s", "[1]"),
            ("SET s v", "OK"),
            ("HGETALL s", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("HSET s a 1", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("HDEL s a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("HMGET s a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("GET s", "v"),
        ],
    );
    let mut client = server.client();
    client.send(&[b"HSET", b"s", b"", b"v"]);
    assert!(client.reply().starts_with("-ERR a field needs a name"));
}

#[test]
fn a_session_can_change_its_id() {
    let server = Server::alone();
    check(
        &mut server.client(),
        &[
            ("RENAME a b", "-ERR no such key"),
            ("HSET a f 1", ":1"),
            ("RENAME a b", "OK"),
            ("EXISTS a", ":0"),
            ("HGET b f", "1"),
            ("SET c old", "OK"),
            ("RENAMENX b c", ":0"),
            ("RENAME b c", "OK"),
            ("HGETALL c", "[f 1]"),
            ("RENAME c c", "OK"),
            ("RENAMENX c d", ":1"),
            ("DBSIZE", ":1"),
        ],
    );
}

#[test]
fn a_scan_finds_every_key_once() {
    let server = Server::alone();
    let mut client = server.client();
    for n in 0..500 {
        client.ask(&format!("SET s:{n} v"));
        client.ask(&format!("HSET h:{n} f v"));
    }
    client.ask("DEL s:7");
    for (options, count) in [
        ("", 999),
        (" MATCH s:*", 499),
        (" COUNT 100000 TYPE hash", 500),
        (" MATCH s:[0-4] COUNT 1", 5),
        (" TYPE list", 0),
    ] {
        let (mut cursor, mut found, mut steps) = (String::from("0"), Vec::new(), 0);
        while steps == 0 || cursor != "0" {
            client.send(&format!("SCAN {cursor}{options}").split(' ').map(str::as_bytes).collect::<Vec<_>>());
            let OwnedFrame::Array(reply) = client.frame().unwrap() else { panic!("no array") };
            let [next, OwnedFrame::Array(keys)] = &reply[..] else { panic!("no pair") };
            cursor = show(next);
            found.extend(keys.iter().map(show));
            steps += 1;
        }
        found.sort();
        found.dedup();
        assert_eq!(found.len(), count, "{options}");
    }
    assert_eq!(client.ask("SCAN 99999"), "[0 []]");
}

#[test]
fn the_connection_and_the_server_answer_about_themselves() {
    let server = Server::alone();
    let mut client = server.client();
    check(
        &mut client,
        &[
            ("PING", "PONG"),
            ("ping hi", "hi"),
            ("ECHO hi", "hi"),
            ("foo a b", "-ERR unknown command 'foo', with args beginning with: 'a' 'b' "),
            ("get", "-ERR wrong number of arguments for 'get' command"),
            ("SELECT 16", "-ERR DB index is out of range"),
            ("SELECT -1", "-ERR DB index is out of range"),
            ("SET k zero", "OK"),
            ("SELECT 3", "OK"),
            ("GET k", "nil"),
            ("SET k three", "OK"),
            ("CLIENT SETNAME me", "OK"),
            ("CLIENT GETNAME", "me"),
            ("CLIENT SETINFO LIB-NAME x", "OK"),
            ("CONFIG GET max*s", "[maxclients 10000]"),
            ("AUTH default secret", "OK"),
            ("AUTH root secret", "-WRONGPASS invalid username-password pair or user is disabled."),
            ("HELLO 4", "-NOPROTO unsupported protocol version"),
            ("RESET", "RESET"),
            ("GET k", "zero"),
            ("CLIENT GETNAME", "nil"),
            ("WAIT 0 10", ":0"),
            ("COMMAND COUNT", &format!(":{}", client_commands(&server))),
        ],
    );
    assert_eq!(server.node.context("3").unwrap().get(b"k", b"").unwrap().as_bytes(), b"three");
    let info = client.ask("INFO");
    for line in ["state:ready", "members:1", "sessions:2", "role:master"] {
        assert!(info.lines().any(|l| l == line), "{line} in {info}");
    }
    assert!(info.lines().any(|line| line.strip_prefix("bytes:").is_some_and(|n| n.parse::<u64>().unwrap() > 0)));
    assert!(!client.ask("INFO server").contains("members:"));
    assert_eq!(client.ask("QUIT"), "OK");
    assert!(client.is_closed());
}

fn client_commands(server: &Server) -> usize {
    server.client().ask("COMMAND LIST").split(' ').count()
}

#[test]
fn resp3_replies_have_their_own_shapes() {
    let server = Server::alone();
    let mut client = server.client();
    let mut raw = |line: &str, reply: &str| {
        client.send(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        let mut buffer = vec![0; reply.len()];
        client.stream.read_exact(&mut buffer).unwrap();
        assert_eq!(String::from_utf8(buffer).unwrap(), reply, "{line}");
    };
    raw("HSET s a 1", ":1\r\n");
    raw(
        "HELLO 3",
        "%7\r\n$6\r\nserver\r\n$8\r\nhotspare\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
    );
    raw("HGETALL s", "%1\r\n$1\r\na\r\n$1\r\n1\r\n");
    raw("GET nothing", "_\r\n");
    raw("HELLO 2", "*14\r\n");
}

#[test]
fn a_reply_means_that_the_others_have_the_session() {
    let servers = Server::cluster(2, |_| ());
    let (mut a, mut b) = (servers[0].client(), servers[1].client());
    for n in 0..200 {
        assert_eq!(a.ask(&format!("SET k{n} {n}")), "OK");
        assert_eq!(b.ask(&format!("GET k{n}")), n.to_string());
        assert_eq!(b.ask(&format!("HSET h{n} f {n}")), ":1");
        assert_eq!(a.ask(&format!("HGET h{n} f")), n.to_string());
        assert_eq!(b.ask(&format!("DEL k{n}")), ":1");
        assert_eq!(a.ask(&format!("EXISTS k{n}")), ":0");
    }
    assert_eq!(a.ask("WAIT 0 0"), ":1");
    assert_eq!(a.ask("SET k v EX 100"), "OK");
    assert_eq!(a.ask("WAIT 1 0"), ":1");
    assert_eq!(b.ask("TTL k"), ":100");
    let info = a.ask("INFO");
    assert!(info.lines().any(|line| line == "members:2"));
    let peer = info.lines().find(|line| line.starts_with("member0:")).unwrap();
    assert!(peer.ends_with("state=ready,suspect=0,repairing=0,divergent=0"), "{peer}");
}

#[test]
fn wait_tells_of_copies_where_writes_do_not() {
    let servers = Server::cluster(2, |config| config.mode = Mode::Asynchronous);
    let (mut a, mut b) = (servers[0].client(), servers[1].client());
    for n in 0..100 {
        assert_eq!(a.ask(&format!("SET k{n} {n}")), "OK");
        assert_eq!(a.ask("WAIT 1 20000"), ":1");
        assert_eq!(b.ask(&format!("GET k{n}")), n.to_string());
    }
    // More members than there are: it does not wait for who cannot come.
    assert_eq!(a.ask("WAIT 5 0"), ":1");
}

/// A member in a process of its own, which can be stopped so that it acknowledges nothing.
struct Frozen(Child);

impl Frozen {
    /// Joins the server's cluster, and stops once it is in view.
    fn beside(server: &Server) -> Self {
        let config = server.node.config();
        let child = Command::new(env!("CARGO_BIN_EXE_hotspare"))
            .args(["node", "--preset", "loopback", "--drop-time", "60s", "--cluster", &config.cluster])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let frozen = Self(child);
        until(|| sees(&server.node, 2));
        // The lanes are open once a write has come through.
        assert_eq!(server.client().ask("SET warm v"), "OK");
        assert_eq!(server.client().ask("DEL warm"), ":1");
        frozen.signal("STOP");
        until(|| frozen.is_stopped());
        frozen
    }

    /// Whether all its threads stand still; the signal stops them one after the other.
    fn is_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap()).all(|stat| {
            let (_, state) = stat.rsplit_once(") ").unwrap();
            state.starts_with('T')
        })
    }

    fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node that takes silence for long.
fn patient(change: impl Fn(&mut Config)) -> Server {
    let patient = |config: &mut Config| {
        config.drop_time = Duration::from_secs(60);
        config.verify_timeout = Duration::from_secs(30);
        config.ack_timeout = Duration::from_secs(60);
        change(config);
    };
    Server::cluster(1, patient).remove(0)
}

#[test]
fn a_client_that_waits_for_copies_blocks_no_other() {
    let server = patient(|_| ());
    let frozen = Frozen::beside(&server);
    let mut waiting = server.client();
    waiting.send(&[b"SET", b"k", b"v"]);
    waiting.send(&[b"ECHO", b"behind"]);
    let mut other = server.client();
    until(|| other.ask("GET k") == "v");
    waiting.stream.set_nonblocking(true).unwrap();
    assert_eq!(waiting.frame().unwrap_err().kind(), io::ErrorKind::WouldBlock, "the reply waits for the copy");
    waiting.stream.set_nonblocking(false).unwrap();
    frozen.thaw();
    assert_eq!(waiting.reply(), "OK");
    assert_eq!(waiting.reply(), "behind");
    assert_eq!(waiting.ask("WAIT 1 0"), ":1");
}

#[test]
fn a_write_is_answered_after_the_ack_timeout_and_wait_tells_the_truth() {
    let server = patient(|config| config.ack_timeout = Duration::from_millis(300));
    let frozen = Frozen::beside(&server);
    let mut client = server.client();
    assert_eq!(client.ask("SET k v"), "OK");
    assert_eq!(client.ask("WAIT 1 50"), ":0");
    frozen.thaw();
    assert_eq!(client.ask("WAIT 1 0"), ":1");
}

#[test]
fn writes_wait_for_space_in_a_members_queue_and_reads_do_not() {
    const HIGH_WATER: usize = 1 << 20;
    let server = patient(|config| {
        config.mode = Mode::Asynchronous;
        config.queue_wait = Duration::from_secs(60);
        config.high_water = HIGH_WATER;
        config.low_water = HIGH_WATER / 2;
    });
    let frozen = Frozen::beside(&server);
    let value = vec![0; 64 << 10];
    let count = 400;
    let mut writing = server.client();
    let mut writer = writing.stream.try_clone().unwrap();
    let sender = std::thread::Builder::new()
        .spawn(move || {
            for n in 0..count {
                writer.write_all(&encoded(&[b"SET", format!("k{n}").as_bytes(), &value])).unwrap();
            }
        })
        .unwrap();
    until(|| server.node.is_pressed());
    let mut other = server.client();
    for _ in 0..100 {
        assert_eq!(other.ask("EXISTS k0"), ":1");
    }
    let queued = server.node.stats().queued_bytes;
    assert!(queued < HIGH_WATER as u64 + (256 << 10), "{queued}");
    frozen.thaw();
    for _ in 0..count {
        assert_eq!(writing.reply(), "OK");
    }
    sender.join().unwrap();
}

#[test]
fn pipelined_commands_answer_in_order() {
    let servers = Server::cluster(2, |_| ());
    let mut client = servers[0].client();
    let mut writer = client.stream.try_clone().unwrap();
    let count = 5000;
    let sender = std::thread::Builder::new()
        .spawn(move || {
            for n in 0..count {
                let n = n.to_string();
                let mut bytes = encoded(&[b"SET", b"k", n.as_bytes()]);
                bytes.extend(encoded(&[b"GET", b"k"]));
                bytes.extend(encoded(&[b"ECHO", n.as_bytes()]));
                writer.write_all(&bytes).unwrap();
            }
        })
        .unwrap();
    for n in 0..count {
        assert_eq!(client.reply(), "OK");
        assert_eq!(client.reply(), n.to_string());
        assert_eq!(client.reply(), n.to_string());
    }
    sender.join().unwrap();
    assert_eq!(servers[1].client().ask("GET k"), (count - 1).to_string());
}

#[test]
fn a_client_that_does_not_read_stops_only_itself() {
    let server = Server::alone();
    let mut client = server.client();
    let value = vec![b'v'; 1 << 20];
    client.send(&[b"SET", b"k", &value]);
    assert_eq!(client.reply(), "OK");
    // Far more than all buffers take.
    let mut greedy = server.client();
    greedy.stream.set_nonblocking(true).unwrap();
    let request = encoded(&[b"GET", b"k"]);
    let mut asked = 0;
    for _ in 0..500 {
        match greedy.stream.write(&request) {
            Ok(n) if n == request.len() => asked += 1,
            _ => break,
        }
    }
    for _ in 0..100 {
        assert_eq!(client.ask("PING"), "PONG");
    }
    greedy.stream.set_nonblocking(false).unwrap();
    for _ in 0..asked {
        assert!(greedy.frame().unwrap() == OwnedFrame::BulkString(value.clone()));
    }
}

#[test]
fn large_values_travel_whole_and_larger_ones_are_refused() {
    let servers = Server::cluster(2, |config| {
        config.value_bytes_max = 8 << 20;
        config.session_bytes_max = 8 << 20;
    });
    let mut client = servers[0].client();
    let value: Vec<u8> = (0..7 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
    client.send(&[b"SET", b"k", &value]);
    assert_eq!(client.reply(), "OK");
    let mut other = servers[1].client();
    other.send(&[b"GET", b"k"]);
    assert!(other.frame().unwrap() == OwnedFrame::BulkString(value.clone()));
    // Too many at once.
    let keys = vec![&b"k"[..]; 20];
    other.send(&[&[&b"MGET"[..]], &keys[..]].concat());
    assert_eq!(other.reply(), "-ERR reply exceeds maximum allowed size (10mb)");

    client.send(&[b"SET", b"k", &vec![0; (8 << 20) + 1]]);
    assert_eq!(client.reply(), "-ERR string exceeds maximum allowed size (8mb)");
    assert_eq!(client.ask("PING"), "PONG");
    client.stream.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$99999999\r\n").unwrap();
    assert_eq!(client.reply(), "-ERR Protocol error: invalid bulk length");
    assert!(client.is_closed());
}

#[test]
fn a_full_store_says_so() {
    let server = Server::cluster(1, |config| {
        config.value_bytes_max = 64 << 10;
        config.session_bytes_max = 64 << 10;
        config.store_bytes_max = 256 << 10;
    })
    .remove(0);
    let mut client = server.client();
    let value = vec![0; 50 << 10];
    let refused = (0..10).map(|n: usize| {
        client.send(&[b"SET", n.to_string().as_bytes(), &value]);
        client.reply()
    });
    assert_eq!(refused.last().unwrap(), "-OOM command not allowed when used memory > 'maxmemory'.");
}

#[test]
fn bytes_may_come_one_by_one_and_inline() {
    let server = Server::alone();
    let mut client = server.client();
    let mut bytes = encoded(&[b"SET", b"k", b"a\r\nb"]);
    bytes.extend_from_slice(b"\r\nget \"\\x6b\"\r\nPING\n");
    for byte in bytes {
        client.stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(client.reply(), "OK");
    assert_eq!(client.reply(), "a\r\nb");
    assert_eq!(client.reply(), "PONG");
}

#[test]
fn a_client_that_closes_its_half_still_gets_its_replies() {
    let servers = Server::cluster(2, |_| ());
    let mut client = servers[0].client();
    client.send(&[b"SET", b"k", b"v"]);
    client.send(&[b"GET", b"k"]);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.reply(), "OK");
    assert_eq!(client.reply(), "v");
    assert!(client.is_closed());
}

#[test]
fn what_a_browser_sends_is_not_obeyed() {
    let server = Server::alone();
    let mut client = server.client();
    client.stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET k v\r\n").unwrap();
    assert!(client.is_closed());
    assert_eq!(server.client().ask("EXISTS k"), ":0");
}

#[test]
fn clients_above_the_limit_are_refused_and_places_are_given_back() {
    let node = Server::alone().node;
    let mut settings = Settings::default();
    settings.clients_max = 2;
    let server = Server::serve(node, settings);
    let (mut first, mut second) = (server.client(), server.client());
    assert_eq!(first.ask("PING"), "PONG");
    assert_eq!(second.ask("PING"), "PONG");
    let mut third = server.client();
    assert_eq!(third.reply(), "-ERR max number of clients reached");
    assert!(third.is_closed());
    drop(first);
    until(|| {
        let mut next = server.client();
        next.stream.write_all(&encoded(&[b"PING"])).is_ok() && next.frame().is_ok_and(|frame| show(&frame) == "PONG")
    });
}

#[test]
fn buffers_of_all_clients_are_bounded_together() {
    let node = Server::alone().node;
    let mut settings = Settings::default();
    settings.buffer_bytes_max = 1 << 20;
    let server = Server::serve(node, settings);
    let mut client = server.client();
    let half = &encoded(&[b"SET", b"k", &vec![0; 8 << 20]])[..4 << 20];
    // It may be closed while it still sends.
    let _ = client.stream.write_all(half);
    assert!(client.is_closed());
    assert_eq!(server.client().ask("PING"), "PONG");
}

#[test]
fn a_joining_node_says_loading() {
    let mut config = Config::loopback();
    config.cluster = format!("agent-loading-{}", std::process::id());
    config.frequency = Duration::from_secs(20);
    config.drop_time = Duration::from_secs(100);
    let server = Server::serve(Node::start(config).unwrap(), Settings::default());
    let mut client = server.client();
    assert_eq!(client.ask("GET k"), "-LOADING hotspare is joining");
    assert_eq!(client.ask("SET k v"), "-LOADING hotspare is joining");
    assert!(client.ask("INFO").lines().any(|line| line == "state:joining"));
}

#[test]
fn after_a_merge_the_newest_write_decides_the_kind() {
    let server = Server::alone();
    let context = server.node.context("0").unwrap();
    let write = |name: &[u8], value: &[u8]| {
        let mut request = context.create(b"k");
        request.set(name, value);
        request.end("").unwrap();
    };
    write(b"", b"value");
    write(b"field", b"1");
    let mut client = server.client();
    check(&mut client, &[("TYPE k", "hash"), ("HGETALL k", "[field 1]"), ("HLEN k", ":1")]);
    write(b"", b"newer");
    check(&mut client, &[("TYPE k", "string"), ("GET k", "newer"), ("SET k last", "OK")]);
    assert_eq!(context.get(b"k", b"field"), None, "the write of one kind clears away the other");
    write(b"field", b"2");
    check(&mut client, &[("HSET k other 3", ":1"), ("HLEN k", ":2")]);
    assert_eq!(context.get(b"k", b""), None);
}

#[test]
fn keys_expire_on_every_member() {
    let servers = Server::cluster(2, |_| ());
    let (mut a, mut b) = (servers[0].client(), servers[1].client());
    assert_eq!(a.ask("SET k v"), "OK");
    assert_eq!(b.ask("GET k"), "v");
    assert_eq!(a.ask("PEXPIRE k 300"), ":1");
    until(|| a.ask("GET k") == "nil");
    until(|| b.ask("GET k") == "nil");
    assert_eq!(a.ask("TTL k"), ":-2");
    assert_eq!(b.ask("SET k w NX"), "OK");
    assert_eq!(a.ask("GET k"), "w");
}

#[test]
fn only_loopback_is_listened_on_unless_told() {
    let node = Server::alone().node;
    let addr = SocketAddr::from(([0, 0, 0, 0], 0));
    let error = Agent::start(node, addr, Settings::default()).unwrap_err();
    assert!(matches!(error, AgentError::Insecure(refused) if refused == addr), "{error}");
}

#[test]
fn a_stopped_agent_lets_its_clients_go_and_its_node_stay() {
    let server = Server::alone();
    let mut client = server.client();
    assert_eq!(client.ask("SET k v"), "OK");
    let addr = server.agent.addr();
    server.agent.stop();
    assert!(client.is_closed());
    assert!(TcpStream::connect(addr).is_err());
    assert_eq!(server.node.context("0").unwrap().get(b"k", b"").unwrap().as_bytes(), b"v");
}

#[test]
fn redis_cli_works() {
    let server = Server::alone();
    let port = server.agent.addr().port().to_string();
    let run = |args: &[&str]| Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", &port]).args(args).output();
    let Ok(_) = run(&["PING"]) else {
        writeln!(io::stderr(), "SKIP redis_cli_works: redis-cli is not installed").unwrap();
        return;
    };
    for (args, expected) in [
        (&["PING"][..], "PONG\n"),
        (&["SET", "k", "hello world", "EX", "100"], "OK\n"),
        (&["GET", "k"], "hello world\n"),
        (&["TTL", "k"], "100\n"),
        (&["-3", "HSET", "h", "f", "1"], "1\n"),
        (&["-3", "HGETALL", "h"], "f 1\n"),
        (&["-n", "2", "EXISTS", "k"], "0\n"),
        (&["DEL", "k", "h"], "2\n"),
        (&["nonsense"], "ERR unknown command 'nonsense', with args beginning with: \n\n"),
    ] {
        let output = run(args).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{args:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_harm_the_agent(streams in prop::collection::vec(
        prop::collection::vec(prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte]),
            prop::sample::select(&["SET", "GET", "HSET", "EX", "-1", "WAIT", "HELLO 3"][..]).prop_map(|word| word.as_bytes().to_vec()),
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 1..5)
                .prop_map(|words| encoded(&words.iter().map(Vec::as_slice).collect::<Vec<_>>())),
        ], 0..40),
        1..8,
    )) {
        let server = Server::alone();
        let mut clients = Vec::new();
        for stream in &streams {
            let mut client = server.client();
            let _ = client.stream.write_all(&stream.concat());
            clients.push(client);
        }
        prop_assert_eq!(server.client().ask("PING"), "PONG");
        drop(clients);
        prop_assert_eq!(server.client().ask("PING"), "PONG");
    }
}
