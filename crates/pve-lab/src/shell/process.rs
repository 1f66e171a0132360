//! The node's processes: commands that the lab runs itself, with numbers that `kill` knows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// A signal that ends a process.
pub(crate) type Signal = i32;

/// SIGKILL.
pub(crate) const KILL: Signal = 9;
/// SIGTERM.
pub(crate) const TERM: Signal = 15;

const SIGNALS: [(&str, Signal); 12] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("STOP", 19),
];

/// Returns a signal's number by name (with or without `SIG`) or number.
pub(crate) fn signal_number(name: &str) -> Option<Signal> {
    if let Ok(number) = name.parse() {
        return (0..=64).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let plain = upper.strip_prefix("SIG").unwrap_or(&upper);
    SIGNALS.iter().find(|(known, _)| *known == plain).map(|(_, number)| *number)
}

/// Returns a signal's name without `SIG`.
pub(crate) fn signal_name(number: Signal) -> Option<&'static str> {
    SIGNALS.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
}

/// One process.
pub(crate) struct Process {
    pub(crate) pid: u32,
    group: AtomicU32,
    /// What `ps` would show.
    pub(crate) command: String,
    signal: watch::Sender<Signal>,
    taken_over: AtomicBool,
}

impl Process {
    /// Notes that a command runs in the shell's process and deals with its signals.
    pub(crate) fn take_over(&self) {
        self.taken_over.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_taken_over(&self) -> bool {
        self.taken_over.load(Ordering::SeqCst)
    }

    /// Resolves to the signal once one has come.
    pub(crate) async fn signalled(&self) -> Signal {
        let mut signals = self.signal.subscribe();
        match signals.wait_for(|signal| *signal != 0).await {
            Ok(signal) => *signal,
            Err(_) => KILL,
        }
    }

    /// Resolves once it must end whatever it does about signals.
    pub(crate) async fn killed(&self) {
        let mut signals = self.signal.subscribe();
        let _ = signals.wait_for(|signal| *signal == KILL).await;
    }

    /// Sends a signal; SIGKILL stays, whatever follows.
    pub(crate) fn send(&self, signal: Signal) {
        if signal == 0 || matches!(signal_name(signal), Some("CONT" | "STOP")) {
            return;
        }
        self.signal.send_if_modified(|current| {
            let changes = *current != KILL && *current != signal;
            if changes {
                *current = signal;
            }
            changes
        });
    }

    /// Makes it the first of its own group, as `setsid` does.
    pub(crate) fn lead_own_group(&self) {
        self.group.store(self.pid, Ordering::SeqCst);
    }

    pub(crate) fn group(&self) -> u32 {
        self.group.load(Ordering::SeqCst)
    }
}

/// All processes that the lab runs on one node.
#[derive(Default)]
pub(crate) struct Processes {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    started: u32,
    running: BTreeMap<u32, Arc<Process>>,
}

/// Below this are the node's own daemons, which nothing here can reach.
const FIRST_PID: u32 = 20_000;
const PIDS: u32 = 4_000_000;

impl Processes {
    /// Registers a process; it is gone when the returned guard is dropped.
    pub(crate) fn start(self: &Arc<Self>, group: Option<u32>, command: &str) -> Running {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.started = state.started.wrapping_add(1);
        let pid = FIRST_PID + state.started % PIDS;
        let process = Arc::new(Process {
            pid,
            group: AtomicU32::new(group.unwrap_or(pid)),
            command: command.to_owned(),
            signal: watch::Sender::new(0),
            taken_over: AtomicBool::new(false),
        });
        state.running.insert(pid, Arc::clone(&process));
        Running { process, table: Arc::clone(self) }
    }

    /// Sends a signal to a process, or to a group when `target` is negative; false when there is none.
    pub(crate) fn signal(&self, target: i64, signal: Signal) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = u32::try_from(target.unsigned_abs()).unwrap_or(0);
        let matches = |process: &&Arc<Process>| {
            if target < 0 { process.group() == wanted } else { process.pid == wanted }
        };
        let found: Vec<_> = state.running.values().filter(matches).cloned().collect();
        drop(state);
        found.iter().for_each(|process| process.send(signal));
        !found.is_empty()
    }

    /// Everything that runs, by number.
    pub(crate) fn list(&self) -> Vec<Arc<Process>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).running.values().cloned().collect()
    }

    /// Ends everything, when the lab stops.
    pub(crate) fn kill_all(&self) {
        for process in self.list() {
            process.send(KILL);
        }
    }
}

/// A process that runs as long as this exists.
pub(crate) struct Running {
    pub(crate) process: Arc<Process>,
    table: Arc<Processes>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.table.state.lock().unwrap_or_else(PoisonError::into_inner).running.remove(&self.process.pid);
    }
}
