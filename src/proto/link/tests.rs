//! The two ends of a connection, by what they make of bytes.

use super::*;
use crate::mark::covers;

fn identity(member: u64) -> Identity {
    Identity {
        member: MemberId(member),
        cluster: 7,
        name: String::from("n"),
        addr: std::net::SocketAddr::from(([127, 0, 0, 1], 4700)),
        versions: wire::PROTOCOL,
    }
}

/// What member 1 says to member 2.
fn hello() -> Hello {
    Hello {
        versions: wire::PROTOCOL,
        cluster: 7,
        member: MemberId(1),
        expect: MemberId(2),
        lane: 0,
        lanes: 1,
        state: NodeState::Ready,
        probe: false,
        addr: identity(1).addr,
        name: String::from("one"),
    }
}

fn control(control: &Control) -> Vec<u8> {
    wire::encode_control(control).to_vec()
}

/// An acceptor of member 2 that has read this.
fn acceptor(bytes: &[u8]) -> AcceptLink {
    let mut link = AcceptLink::new(1 << 20);
    link.space()[..bytes.len()].copy_from_slice(bytes);
    link.filled(bytes.len());
    link
}

/// What member 2 makes of a hello.
fn accept(hello: &Hello, state: NodeState) -> Result<Option<AcceptEvent>, LinkError> {
    acceptor(&wire::encode_hello(hello).to_vec()).poll_event(&identity(2), state, &mut Vec::new())
}

/// What a dialler of member 2 makes of an answer.
fn dial(bytes: &[u8]) -> Result<Option<DialEvent>, LinkError> {
    let mut link = DialLink::new(MemberId(2));
    link.space()[..bytes.len()].copy_from_slice(bytes);
    link.filled(bytes.len());
    link.poll_event()
}

#[test]
fn a_dialler_takes_only_what_an_acceptor_sends() {
    let welcome = |member| Welcome { version: 1, member, state: NodeState::Ready, name: String::from("n") };
    let welcome = |member| wire::encode_welcome(&welcome(MemberId(member))).to_vec();
    assert_eq!(
        dial(&welcome(2)).unwrap(),
        Some(DialEvent::Open(Welcome {
            version: 1,
            member: MemberId(2),
            state: NodeState::Ready,
            name: String::from("n"),
        }))
    );
    assert_eq!(covers!(WelcomeOfAnother, dial(&welcome(3))), Err(LinkError::Member(MemberId(3))));
    let refuse = wire::encode_refuse(RefuseReason::Busy).to_vec();
    assert_eq!(covers!(HandshakeRefused, dial(&refuse)), Err(LinkError::Refused(RefuseReason::Busy)));
    let early = control(&Control::EchoReply(1));
    assert_eq!(covers!(DiallerGetsOther, dial(&early)), Err(LinkError::Unexpected(Kind::EchoReply)));
}

#[test]
fn an_acceptor_says_why_it_refuses() {
    let refused = |hello: Hello, state| match accept(&hello, state) {
        Err(LinkError::Refuse(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let ready = NodeState::Ready;
    assert!(matches!(accept(&hello(), ready), Ok(Some(AcceptEvent::Hello(_)))));
    let cluster = Hello { cluster: 8, ..hello() };
    assert_eq!(covers!(HelloCluster, refused(cluster, ready)), RefuseReason::Cluster);
    for versions in [(wire::PROTOCOL.1 + 1, 200), (0, wire::PROTOCOL.0 - 1)] {
        let hello = Hello { versions, ..hello() };
        assert_eq!(covers!(HelloNoVersion, refused(hello, ready)), RefuseReason::Version);
    }
    let another = Hello { expect: MemberId(3), ..hello() };
    assert_eq!(covers!(HelloNotMe, refused(another, ready)), RefuseReason::NotMe);
    let myself = Hello { member: MemberId(2), ..hello() };
    assert_eq!(covers!(HelloNotMe, refused(myself, ready)), RefuseReason::NotMe);
    assert_eq!(covers!(HelloToLeaver, refused(hello(), NodeState::Leaving)), RefuseReason::Leaving);
    covers!(HelloRefused, refused(hello(), NodeState::Leaving));
}

#[test]
fn an_acceptor_takes_only_what_a_dialler_sends() {
    let echo = control(&Control::Echo(1));
    let mut out = Vec::new();
    let first = covers!(NoHelloFirst, acceptor(&echo).poll_event(&identity(2), NodeState::Ready, &mut out));
    assert_eq!(first.unwrap_err(), LinkError::Unexpected(Kind::Echo));
    let status = control(&Control::Status(NodeState::Ready));
    // A lane is no probe, and a probe no lane.
    for (probe, bytes, kind) in [(false, echo, Kind::Echo), (true, status, Kind::Status)] {
        let hello = wire::encode_hello(&Hello { probe, ..hello() }).to_vec();
        let mut link = acceptor(&[hello, bytes].concat());
        assert!(matches!(link.poll_event(&identity(2), NodeState::Ready, &mut out), Ok(Some(AcceptEvent::Hello(_)))));
        let next = covers!(AcceptorGetsOther, link.poll_event(&identity(2), NodeState::Ready, &mut out));
        assert_eq!(next.unwrap_err(), LinkError::Unexpected(kind));
    }
}

#[test]
fn a_frame_whose_content_was_refused_by_the_reader_is_received_and_not_applied() {
    let status = control(&Control::Status(NodeState::Ready));
    let mut link = acceptor(&[wire::encode_hello(&hello()).to_vec(), status.repeat(2)].concat());
    let mut out = Vec::new();
    for _ in 0..3 {
        assert!(link.poll_event(&identity(2), NodeState::Ready, &mut out).unwrap().is_some());
    }
    // The reader gives up on the second frame: it asks for no more, and the connection closes after the ack.
    out.clear();
    link.poll_ack(&mut out);
    let mut decoder = Decoder::new(1 << 20);
    decoder.authenticated();
    decoder.space()[..out.len()].copy_from_slice(&out);
    decoder.filled(out.len());
    let ack = decoder.next().unwrap().unwrap().ack().unwrap();
    assert_eq!((ack.received, ack.applied), (2, 1));
}
