//! Members killed with SIGKILL.

use std::time::Duration;

use serde_json::json;

use crate::common::{Cluster, SOON_MS};
use crate::record::{Row, Run, Times};

#[test]
fn a_killed_member_leaves_every_view_and_its_session_is_read_elsewhere() {
    let Some(run) = Run::begin() else { return };
    let rounds = run.share(200, 3);
    let cluster = Cluster::new();
    let [mut a, mut b] = cluster.members();
    let (mut removals, mut reads) = (Times::default(), Times::default());
    for round in 0..rounds {
        let mut victim = cluster.start("victim");
        for member in [&mut a, &mut b, &mut victim] {
            member.wait_view(3);
        }
        let (id, value) = (format!("S{round}"), json!({ "round": round.to_string() }));
        victim.make(&id, value.clone(), 3);
        let gone = json!({ "do": "wait_view", "without": victim.id(), "within_ms": SOON_MS });
        a.send(gone.clone());
        let killed = victim.kill();
        // It answers one after the other: first what a client asks.
        b.send(json!({ "do": "get", "id": id }));
        b.send(gone);
        let (read, seen) = b.reply();
        assert_eq!(seen["attributes"], value, "{seen}");
        reads.push(read.saturating_duration_since(killed));
        let left = [&mut a, &mut b].map(|member| member.reply().0).into_iter().max().unwrap();
        removals.push(left.saturating_duration_since(killed));
        a.request(&id, json!({ "invalidate": true }));
    }
    let how = format!(
        "{rounds} times: one of three killed after its write was acknowledged; loopback, pings every 100 ms; until the \
         answer came over a pipe"
    );
    for (id, times) in [("kill", removals), ("kill-read", reads)] {
        let reached = times.percentile(50) <= P50 && times.p99() <= P99;
        let (measured, spread) = (times.measured(), times.spread());
        run.tell(id, &Row { measured, spread, reached: Some(reached), how: how.clone() });
    }
}

const P50: Duration = Duration::from_millis(20);
const P99: Duration = Duration::from_millis(100);
