//! System calls that no crate wraps as needed: receiving into plain bytes, threads with signals blocked, forks.

#![expect(unsafe_code, reason = "system calls")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Receives into `space`; `wait` blocks up to the socket's receive timeout.
pub(super) fn recv(fd: BorrowedFd<'_>, space: &mut [u8], wait: bool) -> io::Result<usize> {
    let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: `space` is writable for its length for the whole call, and the kernel writes no more than that.
    let n = unsafe { libc::recv(fd.as_raw_fd(), space.as_mut_ptr().cast(), space.len(), flags) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// The monotonic clock as of the system's last tick: some milliseconds old (tens where a guest's ticks are late), and four
/// times cheaper to ask than the present.
pub(super) fn ticks() -> Duration {
    clock(libc::CLOCK_MONOTONIC_COARSE)
}

/// The monotonic clock.
pub(super) fn monotonic() -> Duration {
    clock(libc::CLOCK_MONOTONIC)
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the time, which the call fills; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Starts a named thread in which every signal is blocked: signals belong to the host.
pub(crate) fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> io::Result<std::thread::JoinHandle<()>> {
    // A thread inherits the mask of its creator; the creator gets its own back at once.
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut old = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `all` is a valid place for a signal set, which the call fills.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` was filled above, `old` is a valid place for a set.
    let masked = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr()) } == 0;
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(f);
    if masked {
        // SAFETY: the call above succeeded, so `old` holds the mask that was in force.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), std::ptr::null_mut()) };
    }
    thread
}

static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// How often this process is the child of a fork since the first call; costs one load.
pub(super) fn forks() -> u32 {
    static REGISTER: Once = Once::new();
    REGISTER.call_once(|| {
        // SAFETY: the handler does one atomic addition, which is allowed between fork and exec.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    });
    FORKS.load(Ordering::Relaxed)
}
