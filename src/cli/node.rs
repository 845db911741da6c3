//! `hotspare node`: runs a node until it is told to stop, and prints what happens in the cluster.
//!
//! The first line on standard output says that the node serves; a supervisor can wait for it. Then comes one
//! line for each event. Ctrl-C and SIGTERM leave the cluster properly.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::flags::Settings;
use super::output::Output;
use super::{Exit, Failure};
use crate::agent::{self, Agent, AgentError, Place};
use crate::event::{Event, ReadyReason};
use crate::node::{Node, NotReady, StartError};

/// Flags of `hotspare node`.
#[derive(Debug, clap::Args)]
pub(super) struct NodeArgs {
    /// Serve sessions to Redis clients on this address
    #[arg(long, value_name = "ADDR:PORT")]
    agent: Option<SocketAddr>,
    #[command(flatten)]
    pub(super) settings: Settings,
}

/// Runs the node.
pub(super) fn run(args: NodeArgs, out: &Output) -> Result<(), Failure> {
    let config = args.settings.load_and_warn()?.config;
    let stop = Stop::on_signals().map_err(|why| Failure::new(Exit::Start, [format!("no signal handler: {why}")]))?;
    let place = args.agent.map(|addr| Place::take(addr, &config)).transpose().map_err(|why| agent_not_started(&why))?;
    let node = Node::start(config).map_err(|why| not_started(&why))?;
    let result = serve(&node, place, &stop, out);
    node.leave(LEAVE_TIMEOUT);
    result
}

/// From the start to the wish to stop.
fn serve(node: &Node, place: Option<Place>, stop: &Stop, out: &Output) -> Result<(), Failure> {
    let mut waiting_for = String::new();
    while let Err(NotReady(why)) = node.wait_ready(TURN) {
        if stop.is_wanted() {
            return Ok(());
        }
        if why != waiting_for {
            log::info!("not ready: {why}");
            waiting_for = why;
        }
    }
    // State first, then the port opens: its clients never find a node that does not serve.
    let agent = place
        .map(|place| Agent::start_at(place, node.clone(), agent::Settings::default()))
        .transpose()
        .map_err(|why| agent_not_started(&why))?;

    let mut fields = ready_fields(node);
    if let Some(agent) = &agent {
        fields.push(("agent", json!(agent.addr().to_string())));
    }
    out.record("ready", &fields);

    while !stop.is_wanted() {
        if let Some((event, fields)) = node.next_event(TURN).and_then(|event| described(&event)) {
            out.record(event, &fields);
        }
    }
    Ok(())
}

/// The fields of the line that says that a node serves.
pub(super) fn ready_fields(node: &Node) -> Vec<(&'static str, Value)> {
    vec![
        ("name", json!(node.name())),
        ("id", json!(node.id().to_string())),
        ("address", json!(node.addr().to_string())),
        ("members", json!(node.view().members.len())),
    ]
}

/// The name and the fields of an event; `None` for what the first line has said.
pub(super) fn described(event: &Event) -> Option<(&'static str, Vec<(&'static str, Value)>)> {
    let member = |id: &crate::id::MemberId, name: &str| vec![("id", json!(id.to_string())), ("name", json!(name))];
    let viewed = |id, name, view: &crate::id::ViewId| {
        let mut fields = member(id, name);
        fields.push(("view", json!(view.0)));
        fields
    };
    // Ids are bytes; what is no printable ASCII is escaped.
    let session =
        |context: &str, id: &[u8]| vec![("context", json!(context)), ("session", json!(id.escape_ascii().to_string()))];
    Some(match event {
        Event::Ready(ReadyReason::TimedOut(members)) => ("incomplete", vec![("members_missing", json!(members))]),
        Event::Ready(ReadyReason::Transferred | ReadyReason::First) => return None,
        Event::MemberUp(id, name, view) => ("member-up", viewed(id, name, view)),
        Event::MemberUnreachable(id, name) => ("member-unreachable", member(id, name)),
        Event::MemberSuspect(id, name) => ("member-suspect", member(id, name)),
        Event::MemberAlive(id, name) => ("member-alive", member(id, name)),
        Event::MemberDown(id, name, view) => ("member-down", viewed(id, name, view)),
        Event::MemberLeft(id, name, view) => ("member-left", viewed(id, name, view)),
        Event::SessionCreated(context, id) => ("session-created", session(context, id)),
        Event::SessionChanged(context, id) => ("session-changed", session(context, id)),
        Event::SessionEnded(context, id) => ("session-ended", session(context, id)),
        Event::BackPressureOn(id, name) => ("back-pressure-on", member(id, name)),
        Event::BackPressureOff(id, name) => ("back-pressure-off", member(id, name)),
        Event::RepairStarted(id, name) => ("repair-started", member(id, name)),
        Event::RepairDone(id, name) => ("repair-done", member(id, name)),
        Event::Refused(why) => ("refused", vec![("reason", json!(why))]),
    })
}

/// A start's failure with its exit code.
pub(super) fn not_started(why: &StartError) -> Failure {
    let exit = match why {
        StartError::Config(_) | StartError::Insecure(_) => Exit::Usage,
        StartError::Bind(..) | StartError::Multicast(..) | StartError::System(_) => Exit::Start,
    };
    let mut failure = Failure::new(exit, [why]);
    if matches!(why, StartError::Multicast(..)) {
        failure.lines.push("`hotspare ping` with the same flags says more".to_owned());
    }
    failure
}

fn agent_not_started(why: &AgentError) -> Failure {
    let exit = match why {
        AgentError::Insecure(_) => Exit::Usage,
        AgentError::Bind(..) | AgentError::Thread(_) => Exit::Start,
    };
    Failure::new(exit, [format!("agent: {why}")])
}

/// The wish to stop, raised by a signal.
struct Stop(Arc<AtomicBool>);

impl Stop {
    /// SIGINT and SIGTERM raise it; a SIGINT after that ends the process at once.
    fn on_signals() -> io::Result<Self> {
        let wanted = Arc::new(AtomicBool::new(false));
        // The order matters: at the first SIGINT the flag is still down when what would end the process looks at it.
        signal_hook::flag::register_conditional_shutdown(SIGINT, EXIT_INTERRUPTED, Arc::clone(&wanted))?;
        signal_hook::flag::register(SIGINT, Arc::clone(&wanted))?;
        signal_hook::flag::register(SIGTERM, Arc::clone(&wanted))?;
        Ok(Self(wanted))
    }

    fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long a signal may go unnoticed.
const TURN: Duration = Duration::from_millis(100);

/// How long queued changes may take to reach the members before the node goes without them.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a shell reports for a process that SIGINT ended.
const EXIT_INTERRUPTED: i32 = 130;
