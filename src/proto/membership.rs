//! CONTRACT (to be implemented): membership.
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use crate::id::{MemberId, NodeState, Time};
use crate::proto::view::View;
use crate::wire;
#[derive(Debug, Clone)]
pub struct Settings { pub me: MemberId, pub cluster: u64, pub name: String, pub route: String, pub addr: SocketAddr, pub frequency: Time, pub drop_time: Time, pub verify_timeout: Time, pub members_max: usize }
#[derive(Debug)]
pub struct Membership;
#[derive(Debug)]
pub struct Member { pub id: MemberId, pub state: NodeState }
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum PingVerdict { Foreign, Own, Stale, Fresh }
#[derive(Debug)]
pub enum MembershipAction { Ping(wire::Ping), Dial{member: MemberId, addr: SocketAddr, name: String}, Verify{member: MemberId, addr: SocketAddr, token: u64}, Up{member: MemberId}, Suspect{member: MemberId}, Alive{member: MemberId}, Down{member: MemberId}, Left{member: MemberId}, Forget{member: MemberId} }
impl Membership {
  pub fn new(settings: Settings, rng_seed: u64, now: Time) -> Self { todo!() }
  pub fn state(&self) -> NodeState { todo!() }
  pub fn set_state(&mut self, s: NodeState, now: Time) { todo!() }
  pub fn handle_ping(&mut self, now: Time, ping: &wire::Ping, from: IpAddr) -> PingVerdict { todo!() }
  pub fn handle_contact(&mut self, now: Time, member: MemberId) { todo!() }
  pub fn handle_hello(&mut self, now: Time, member: MemberId, name: &str, addr: SocketAddr, state: NodeState) { todo!() }
  pub fn handle_status(&mut self, now: Time, member: MemberId, s: NodeState) { todo!() }
  pub fn handle_admitted(&mut self, now: Time, member: MemberId, name: &str, state: NodeState) { todo!() }
  pub fn handle_dial_failed(&mut self, now: Time, member: MemberId) { todo!() }
  pub fn handle_lost(&mut self, now: Time, member: MemberId) { todo!() }
  pub fn handle_verified(&mut self, now: Time, member: MemberId, token: u64, ok: bool) { todo!() }
  pub fn handle_timeout(&mut self, now: Time) { todo!() }
  pub fn poll_timeout(&self) -> Option<Time> { todo!() }
  pub fn poll_action(&mut self) -> Option<MembershipAction> { todo!() }
  pub fn view(&self) -> &Arc<View> { todo!() }
  pub fn known(&self) -> impl Iterator<Item=&Member> { let v: Vec<&Member> = todo!(); v.into_iter() }
}
