//! Stopping a run: once lets what is on the wire finish and waits for no guest any more, twice stops at once.

use tokio::sync::watch;

/// How much of a run is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Nothing.
    No,
    /// Nothing new is begun; what is on the wire is finished, but for waits, which end at once.
    WhenIdle,
    /// What is on the wire is given up, too.
    Now,
}

/// The switch that stops a run; held by the signal handler.
#[derive(Debug, Clone)]
pub struct Canceller(watch::Sender<Stop>);

/// The run's end of the switch.
#[derive(Debug, Clone)]
pub struct Cancellation(watch::Receiver<Stop>);

/// Makes a switch and its other end.
pub fn cancellation() -> (Canceller, Cancellation) {
    let (sender, receiver) = watch::channel(Stop::No);
    (Canceller(sender), Cancellation(receiver))
}

impl Canceller {
    /// Stops when what is on the wire is finished (SIGTERM, and the first SIGINT); waits end at once.
    pub fn stop_when_idle(&self) {
        self.raise(Stop::WhenIdle);
    }
    /// Stops now (the second SIGINT).
    pub fn stop_now(&self) {
        self.raise(Stop::Now);
    }
    fn raise(&self, to: Stop) {
        self.0.send_if_modified(|stop| {
            let raised = to > *stop;
            *stop = to.max(*stop);
            raised
        });
    }
}

impl Cancellation {
    /// Returns what is asked for at this moment.
    pub fn current(&self) -> Stop {
        *self.0.borrow()
    }
    /// Waits until more is to be stopped than `seen`, and returns how much; never when the switch is gone.
    pub async fn beyond(&mut self, seen: Stop) -> Stop {
        let reached = self.0.wait_for(|stop| *stop > seen).await.map(|stop| *stop);
        match reached {
            Ok(stop) => stop,
            Err(_) => std::future::pending().await,
        }
    }
}
