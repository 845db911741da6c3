//! The streams: how pieces arrive, and how a connection is made, reset, closed, found dead.

use super::{ConnId, Net, NetEvent, Piece, Pipe, Ready, SYN_RETRY, Socket, side_byte};
use std::time::Duration;

use crate::sim::Sched;
use crate::sim::world::Event;

impl Net {
    pub(super) fn syn(&mut self, sched: &mut Sched, id: ConnId) {
        if self.conns[id as usize].ends[0].socket != Socket::Connecting {
            return;
        }
        let (from, to) = self.way(id, 0);
        if !self.connected(from, to) || !self.hosts[to].up || sched.chance(self.weather.lost_dial) {
            sched.after(SYN_RETRY, Event::Net(NetEvent::Syn(id)));
            return;
        }
        let back = self.latency(sched);
        let Some(process) = self.hosts[to].process else {
            sched.after(back, Event::Net(NetEvent::Refused(id)));
            return;
        };
        let end = &mut self.conns[id as usize].ends[1];
        end.process = process;
        end.socket = Socket::Open;
        self.announce(sched, to, Ready::Accept(id));
        self.conns[id as usize].pipes[1].last_at = sched.now() + back;
        sched.after(back, Event::Net(NetEvent::Established(id)));
    }

    pub(super) fn send_piece(&mut self, sched: &mut Sched, id: ConnId, side: usize, piece: Piece) {
        let (from, to) = self.way(id, side);
        let detour = self.weather.detour.get(from).map_or(0, |row| row[to]);
        let delay = self.latency(sched) + Duration::from_micros(detour);
        let pipe = &mut self.conns[id as usize].pipes[side];
        pipe.last_at = pipe.last_at.max(sched.now() + delay).max(self.clogs[from][to]);
        if let (Some(Piece::Data(back)), Piece::Data(n)) = (pipe.pieces.back_mut(), piece)
            && pipe.back_at == pipe.last_at
            && pipe.stalled == 0
        {
            // What arrives in the same moment is one piece to whoever reads.
            *back += n;
            return;
        }
        pipe.pieces.push_back(piece);
        pipe.back_at = pipe.last_at;
        sched.at(pipe.last_at, Event::Net(NetEvent::Arrive(id, side_byte(side))));
    }

    pub(super) fn arrive(&mut self, sched: &mut Sched, id: ConnId, side: usize) {
        let (from, to) = self.way(id, side);
        if self.conns[id as usize].pipes[side].pieces.is_empty() {
            return;
        }
        if self.cuts[from][to] > 0 || !self.hosts[to].up {
            let pipe = &mut self.conns[id as usize].pipes[side];
            pipe.stalled += 1;
            if pipe.stalled == 1 {
                let patience = sched.millis(2000, 8000);
                sched.after(patience, Event::Net(NetEvent::UserTimeout(id, side_byte(side))));
            }
            return;
        }
        let conn = &mut self.conns[id as usize];
        let pipe = &mut conn.pipes[side];
        let piece = pipe.pieces.pop_front();
        if conn.doomed || conn.ends[1 - side].socket != Socket::Open {
            // Nobody is there any more.
            if matches!(piece, Some(Piece::Data(_))) {
                self.cancel(id);
                self.send_abort(sched, id, side);
            }
            return;
        }
        match piece {
            Some(Piece::Data(n)) => pipe.arrived += n,
            Some(Piece::Fin) => pipe.fin_arrived = true,
            None => {}
        }
        self.wake_end(sched, id, 1 - side);
    }

    /// Nothing that is under way arrives any more.
    pub(super) fn cancel(&mut self, id: ConnId) {
        self.conns[id as usize].doomed = true;
        for pipe in &mut self.conns[id as usize].pipes {
            pipe.pieces.clear();
            pipe.stalled = 0;
            pipe.bytes.truncate(pipe.arrived);
        }
    }

    pub(super) fn abort(&mut self, sched: &mut Sched, id: ConnId, side: usize) {
        let was = std::mem::replace(&mut self.conns[id as usize].ends[side].socket, Socket::Gone);
        if was == Socket::Open {
            self.cancel(id);
            self.send_abort(sched, id, 1 - side);
        }
        self.forget_if_over(id);
    }

    pub(super) fn send_abort(&self, sched: &mut Sched, id: ConnId, to: usize) {
        let delay = self.latency(sched);
        sched.after(delay, Event::Net(NetEvent::Abort(id, side_byte(to))));
    }

    /// An end does not know that its peer is gone.
    pub(super) fn half_open(sched: &mut Sched, id: ConnId, side: usize) {
        let patience = sched.millis(4000, 8000);
        sched.after(patience, Event::Net(NetEvent::KeepAlive(id, side_byte(side))));
    }

    /// The connection is broken as this end sees it.
    pub(super) fn break_end(&mut self, sched: &mut Sched, id: ConnId, side: usize) {
        let conn = &mut self.conns[id as usize];
        if matches!(conn.ends[side].socket, Socket::Open | Socket::Connecting) {
            conn.ends[side].socket = Socket::Broken;
            conn.pipes[1 - side].bytes.clear();
            conn.pipes[1 - side].pieces.clear();
            conn.pipes[1 - side].arrived = 0;
            self.wake_end(sched, id, side);
        }
    }

    pub(super) fn wake_end(&mut self, sched: &mut Sched, id: ConnId, side: usize) {
        let end = &mut self.conns[id as usize].ends[side];
        if self.hosts[end.host].process != Some(end.process) || std::mem::replace(&mut end.announced, true) {
            return;
        }
        let host = end.host;
        self.announce(sched, host, Ready::Io(id));
    }

    pub(super) fn forget_if_over(&mut self, id: ConnId) {
        let conn = &mut self.conns[id as usize];
        if conn.ends.iter().all(|e| e.socket == Socket::Gone) {
            conn.pipes = [Pipe::default(), Pipe::default()];
            self.alive.remove(&id);
        }
    }
}
