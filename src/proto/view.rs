//! Who is in, as one immutable, numbered value.
//!
//! A [`View`] is made by membership at each change and shared by reference count: readers hold it as long as
//! they like and never see it move. It is each node's own; members agree on it in time, and no protocol
//! promises that they agree at any moment. The hash in pings shows whether they do.

use std::net::SocketAddr;

use crate::id::{MemberId, NodeState, ViewId};

/// The members that this node replicates with, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Rises by one with each change of anything below.
    pub id: ViewId,
    /// The node whose view this is; it is not among `members`.
    pub me: MemberId,
    /// The others, by member id.
    pub members: Vec<ViewMember>,
}

/// One remote member in view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewMember {
    /// Its incarnation.
    pub id: MemberId,
    /// Its name, for people.
    pub name: String,
    /// The address that it advertises for replication.
    pub addr: SocketAddr,
    /// Whether it serves.
    pub state: NodeState,
    /// Whether it is being verified.
    pub suspect: bool,
}

impl View {
    /// A member in view by its id; this node is none.
    #[must_use]
    pub fn get(&self, member: MemberId) -> Option<&ViewMember> {
        let index = self.members.binary_search_by_key(&member, |m| m.id).ok()?;
        self.members.get(index)
    }

    /// Whether a remote member is in view.
    #[must_use]
    pub fn contains(&self, member: MemberId) -> bool {
        self.get(member).is_some()
    }

    /// A hash over who is in, this node included, the same on every node that sees the same members.
    ///
    /// It goes into pings, to show views that stay different. State and suspicion take no part: those are a
    /// node's own opinion. It is a sum of mixed ids, so order cannot matter; it is no defence against anyone.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.members.iter().fold(mix(self.me), |sum, m| sum.wrapping_add(mix(m.id)))
    }
}

/// The finaliser of MurmurHash3 (Appleby 2011), which spreads each bit of the id over the whole.
fn mix(member: MemberId) -> u64 {
    let mut z = member.0;
    z = (z ^ (z >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    z = (z ^ (z >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    z ^ (z >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(me: u64, others: &[u64]) -> View {
        let members = others
            .iter()
            .map(|&id| ViewMember {
                id: MemberId(id),
                name: format!("n{id}"),
                addr: SocketAddr::from(([127, 0, 0, 1], 4700)),
                state: NodeState::Ready,
                suspect: false,
            })
            .collect();
        View { id: ViewId(1), me: MemberId(me), members }
    }

    #[test]
    fn the_hash_is_equal_exactly_where_the_members_are() {
        assert_eq!(view(1, &[2, 3]).hash(), view(3, &[1, 2]).hash());
        assert_ne!(view(1, &[2]).hash(), view(3, &[]).hash());
        assert_ne!(view(1, &[2, 3]).hash(), view(1, &[2]).hash());
    }

    #[test]
    fn the_hash_leaves_out_state_and_suspicion() {
        let calm = view(1, &[2]);
        let mut other = calm.clone();
        other.members[0].suspect = true;
        other.members[0].state = NodeState::Joining;
        assert_eq!(calm.hash(), other.hash());
    }

    #[test]
    fn members_are_found_by_id_and_this_node_is_none() {
        let view = view(2, &[1, 3]);
        assert_eq!(view.get(MemberId(3)).map(|m| m.name.as_str()), Some("n3"));
        assert!(!view.contains(MemberId(2)));
    }
}
