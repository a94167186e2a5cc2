//! Requests that waited for a commit hear of it on the thread that serves them.
//!
//! To wake a task of another thread's runtime takes a system call, and its answer goes out alone. Told by a task of their
//! own thread, all that waited wake together, and a connection writes their answers at once.

use std::cell::OnceCell;

use tokio::sync::{mpsc, oneshot};

/// How many are told at a time.
const TOLD_AT_ONCE: usize = 256;

type Told = (oneshot::Sender<bool>, bool);

thread_local! {
    static HERE: OnceCell<mpsc::UnboundedSender<Told>> = const { OnceCell::new() };
}

/// The way to a request that waits.
#[derive(Debug)]
pub(crate) struct Answer {
    to: oneshot::Sender<bool>,
    /// None if the thread that made it tells nobody.
    through: Option<mpsc::UnboundedSender<Told>>,
}

impl Answer {
    /// For a request that this thread serves.
    pub(crate) fn new() -> (Answer, oneshot::Receiver<bool>) {
        let (to, outcome) = oneshot::channel();
        (Answer { to, through: HERE.with(|here| here.get().cloned()) }, outcome)
    }

    /// Tells it whether everything was kept. The request may be gone.
    pub(crate) fn send(self, kept: bool) {
        match self.through {
            // As many wait in the channel as requests are under way; they end with its thread.
            Some(through) => {
                let _ended = through.send((self.to, kept));
            }
            None => {
                let _gone = self.to.send(kept);
            }
        }
    }
}

/// Tells the requests of this thread, as long as its runtime runs.
pub(crate) async fn tell_requests_here() {
    let (sender, mut told) = mpsc::unbounded_channel();
    if HERE.with(|here| here.set(sender)).is_err() {
        return;
    }
    let mut some: Vec<Told> = Vec::with_capacity(TOLD_AT_ONCE);
    while told.recv_many(&mut some, TOLD_AT_ONCE).await > 0 {
        for (to, kept) in some.drain(..) {
            let _gone = to.send(kept);
        }
    }
}
