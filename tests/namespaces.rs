//! Three hosts in network namespaces on a bridge, with real multicast between them. What may go wrong there is in
//! `tests/faults/`.
#![cfg(feature = "cli")]

mod common;

use common::Cluster;
use common::lab::Lab;
use serde_json::{Value, json};

#[test]
fn hosts_find_each_other_by_multicast_and_replicate() {
    let Some(lab) = Lab::build(3) else { return };
    let [mut a, mut b, mut c] = lab.members(&Cluster::new());
    a.make("S", json!({ "k": "v" }), 3);
    for member in [&mut b, &mut c] {
        assert_eq!(member.get("S"), json!({ "k": "v" }));
    }
    c.request("S", json!({ "invalidate": true }));
    assert_eq!(a.get("S"), Value::Null);
}
