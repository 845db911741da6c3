//! The mailbox's wake-up, in every order of threads and of memory.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib loom` runs this and the other loom tests.

use loom::sync::Arc;
use loom::thread;

use self::mailbox::Mailbox;

#[path = "mailbox.rs"]
mod mailbox;

/// Every order with up to three switches where a thread could have gone on; `LOOM_MAX_PREEMPTIONS` says otherwise.
fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(run);
}

/// What stands in for the queue and the eventfd.
mod parts {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};

    use loom::sync::atomic::AtomicUsize;
    use loom::sync::{Arc, Condvar, Mutex};

    /// A queue that orders nothing but a message before its taking, which is less than the real one does.
    #[derive(Debug)]
    pub(super) struct SegQueue<T> {
        places: [Place<T>; 3],
        pushed: AtomicUsize,
        taken: AtomicUsize,
    }

    /// The lock is not the checker's: nobody ever waits for it, and it orders nothing that the checker sees.
    #[derive(Debug)]
    struct Place<T> {
        full: AtomicBool,
        message: std::sync::Mutex<Option<T>>,
    }

    impl<T> SegQueue<T> {
        pub(super) fn new() -> Self {
            let place = || Place { full: AtomicBool::new(false), message: std::sync::Mutex::new(None) };
            Self { places: [place(), place(), place()], pushed: AtomicUsize::new(0), taken: AtomicUsize::new(0) }
        }

        pub(super) fn push(&self, message: T) {
            let place = &self.places[self.pushed.fetch_add(1, Ordering::Relaxed)];
            *place.message.lock().unwrap() = Some(message);
            place.full.store(true, Ordering::Release);
        }

        /// There is one consumer.
        pub(super) fn pop(&self) -> Option<T> {
            let at = self.taken.load(Ordering::Relaxed);
            let place = self.places.get(at).filter(|place| place.full.load(Ordering::Acquire))?;
            self.taken.store(at + 1, Ordering::Relaxed);
            place.message.lock().unwrap().take()
        }
    }

    /// An eventfd in a poll.
    #[derive(Clone, Debug)]
    pub(super) struct Waker(Arc<(Mutex<bool>, Condvar)>);

    impl Waker {
        pub(super) fn new() -> Self {
            Self(Arc::new((Mutex::new(false), Condvar::new())))
        }

        pub(super) fn wake(&self) -> Result<(), ()> {
            *self.0.0.lock().unwrap() = true;
            self.0.1.notify_one();
            Ok(())
        }

        /// Sleeps until a wake-up was written. With nobody left to write one this is a deadlock, which fails the test.
        pub(super) fn poll(&self) {
            let mut written = self.0.0.lock().unwrap();
            while !*written {
                written = self.0.1.wait(written).unwrap();
            }
            *written = false;
        }
    }
}

/// A loop as the workers' own: it sleeps, starts a turn, and takes what there is.
fn take_all(mailbox: &Mailbox<usize>, poll: &parts::Waker, messages: usize) {
    let mut taken = 0;
    while taken < messages {
        poll.poll();
        mailbox.begin();
        while mailbox.take().is_some() {
            taken += 1;
        }
    }
}

fn posted_by(posters: usize, each: usize) {
    model(move || {
        let poll = parts::Waker::new();
        let mailbox = Arc::new(Mailbox::<usize>::new(poll.clone()));
        let threads: Vec<_> = (0..posters)
            .map(|_| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || {
                    for message in 1..=each {
                        mailbox.post(message);
                    }
                })
            })
            .collect();
        take_all(&mailbox, &poll, posters * each);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn no_message_is_left_with_the_loop_asleep() {
    posted_by(1, 3);
}

#[test]
fn no_message_of_two_posters_is_left_with_the_loop_asleep() {
    posted_by(2, 1);
}
