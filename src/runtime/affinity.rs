//! Which core a process runs on and how much processor time it used: what a measurement must hold still
//! and what it must count. Nothing of a node's own work depends on this module.

#![expect(unsafe_code, reason = "two system calls that the standard library does not wrap")]

use std::io;
use std::time::Duration;

/// Cores this process may run on, in ascending order.
///
/// # Errors
///
/// A machine of more than 1,024 cores.
pub fn allowed() -> io::Result<Vec<usize>> {
    let mut mask: Mask = [0; WORDS];
    // SAFETY: the kernel writes at most `size_of::<Mask>()` bytes, which `mask` owns; pid 0 is the calling thread.
    let rc = unsafe { libc::sched_getaffinity(0, size_of::<Mask>(), mask.as_mut_ptr().cast()) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((0..WORDS * 64).filter(|core| mask[core / 64] >> (core % 64) & 1 == 1).collect())
}

/// Keeps the calling thread, and every thread it starts from now on, on one core.
///
/// # Errors
///
/// A core that does not exist, or is not allowed.
pub fn pin(core: usize) -> io::Result<()> {
    let mut mask: Mask = [0; WORDS];
    let word = mask.get_mut(core / 64).ok_or(io::ErrorKind::InvalidInput)?;
    *word = 1 << (core % 64);
    // SAFETY: the kernel reads `size_of::<Mask>()` bytes, which `mask` owns; pid 0 is the calling thread.
    let rc = unsafe { libc::sched_setaffinity(0, size_of::<Mask>(), mask.as_ptr().cast()) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Processor time that all threads of this process used so far, ended ones included.
///
/// # Panics
///
/// Never on Linux, where every process has such a clock.
pub fn process_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`, which `time` owns.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(rc, 0, "every Linux has a processor clock for each process");
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// As wide as the kernel's own `cpu_set_t`: 1,024 cores.
const WORDS: usize = 16;
type Mask = [u64; WORDS];
const _: () = assert!(size_of::<Mask>() == size_of::<libc::cpu_set_t>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_thread_may_run_on_that_core_only() {
        let last = *allowed().unwrap().last().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pin(last).unwrap();
                assert_eq!(allowed().unwrap(), [last]);
            });
        });
    }

    #[test]
    fn core_beyond_the_mask_is_refused() {
        assert!(pin(WORDS * 64).is_err());
    }

    #[test]
    fn work_uses_processor_time() {
        let before = process_cpu();
        let mut sum = 0_u64;
        while process_cpu() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
