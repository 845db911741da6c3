//! What bare sockets deliver, and when an answered call returns.

use clap::Parser;

use super::super::process::Receiver;
use super::*;

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    load: Load,
}

fn load(flags: &[&str]) -> Load {
    Flags::try_parse_from([&["bench", "--congestion=system", "--sessions=40"], flags].concat()).unwrap().load
}

/// Lets every caller renew each of its sessions three times, in threads of their own.
fn update_all<C: Caller>(callers: &mut [C]) {
    std::thread::scope(|scope| {
        for caller in callers {
            scope.spawn(|| {
                for slot in (0..caller.slots()).cycle().take(3 * caller.slots()) {
                    assert!(caller.update(slot));
                }
                assert!(caller.finish());
            });
        }
    });
}

fn delivers_the_newest_of_every_session(row: Row, size: &str) {
    let load = load(&["--peers=2", "--threads=4", size]);
    let listeners = [(); 2].map(|()| Listener::bind(load.session_count(), None).unwrap());
    let addrs = listeners.each_ref().map(|l| SocketAddr::from((Ipv4Addr::LOCALHOST, l.port())));
    let calls = AtomicU64::new(0);
    if row == Row::Multiplexed {
        let shared = Shared::connect(&load, &addrs, &calls).unwrap();
        update_all(&mut shared.callers(&load));
        let mut newest = vec![0; load.session_count()];
        shared.newest(&mut newest);
        assert_eq!(newest, vec![3; 40]);
    } else {
        update_all(&mut connect(&load, row, &addrs, &calls).unwrap());
    }
    assert!(calls.load(Ordering::Relaxed) > 0);
    for listener in &listeners {
        while listener.applied() < 120 {
            std::thread::yield_now();
        }
        assert_eq!(listener.stamps(), vec![3; 40]);
    }
}

#[test]
fn acked_sockets_deliver() {
    delivers_the_newest_of_every_session(Row::PerThread, "--size=1k");
}

#[test]
fn acked_sockets_deliver_updates_larger_than_the_buffer() {
    delivers_the_newest_of_every_session(Row::PerThread, "--size=300k");
}

#[test]
fn shared_socket_delivers() {
    delivers_the_newest_of_every_session(Row::Multiplexed, "--size=1k");
}

#[test]
fn gathered_updates_are_all_sent_in_the_end() {
    delivers_the_newest_of_every_session(Row::Gathered, "--size=1000");
}

#[test]
fn unanswered_writes_deliver() {
    delivers_the_newest_of_every_session(Row::Single, "--size=16k");
}

#[test]
fn answered_call_returns_after_every_receiver_has_the_update() {
    let load = load(&[]);
    let listener = Listener::bind(load.session_count(), None).unwrap();
    let calls = AtomicU64::new(0);
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.port()));
    let mut callers = connect(&load, Row::PerThread, &[addr], &calls).unwrap();
    for n in 1..=100 {
        assert!(callers[0].update(7));
        assert_eq!(listener.applied(), n);
    }
}
