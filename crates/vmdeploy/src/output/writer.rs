//! A thread for each stream that does the writing, so that a reader who does not read holds up nothing else.
//!
//! What is written is queued and returned from at once. A run goes on, and takes signals, whatever becomes of its output;
//! the end of the process waits for the rest, but after a run not for ever.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// More bytes than this are not queued for a reader who does not read; what follows is counted and left out.
const MOST_QUEUED: usize = 64 << 20;
/// Maximum size of the queue for data whose reader is slow, in bytes.
const WAIT_ABOVE: usize = 1 << 20;
/// Pieces are written one at a time, so that it is seen whether the reader takes anything, in bytes.
const PIECE: usize = 16 << 10;
/// A stream whose descriptor does not block is tried again after this.
const AGAIN: Duration = Duration::from_millis(10);

/// What happens to text for a reader who does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The caller waits, as any program that writes data does.
    Wait,
    /// The text is left out once [`MOST_QUEUED`] bytes are waiting.
    LeaveOut,
}

/// One stream's queue and the thread that empties it.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Vec<u8>>,
    /// Bytes in the queue, and in the piece that is being written.
    waiting: usize,
    /// How many bytes the reader has taken.
    taken: u64,
    /// The reader has gone, or the disk is full: nothing is written any more.
    is_closed: bool,
    /// A wait for this stream has ended in vain, and nothing was taken since.
    is_stuck: bool,
    /// How many texts were left out.
    left_out: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(stream: File) -> Self {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        // A process that may have no more threads writes nothing, rather than standing still.
        let started = std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || write_all(&of_thread, stream));
        shared.state().is_closed = started.is_err();
        Self { shared }
    }
    /// Returns the writer of a stream that is not open: it writes nothing.
    pub(super) fn closed() -> Self {
        let shared = Arc::new(Shared::default());
        shared.state().is_closed = true;
        Self { shared }
    }
    /// Queues a text.
    pub(super) fn push(&self, text: &[u8], full: Full) {
        let mut state = self.shared.state();
        while full == Full::Wait && state.waiting > WAIT_ABOVE && !state.is_closed {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_closed {
            return;
        }
        if full == Full::LeaveOut && state.waiting + text.len() > MOST_QUEUED {
            state.left_out += 1;
            return;
        }
        state.waiting += text.len();
        state.queue.extend(text.chunks(PIECE).map(<[u8]>::to_vec));
        self.shared.changed.notify_all();
    }
    /// Tells whether the reader has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.shared.state().is_closed
    }
    /// Returns how many texts were left out.
    pub(super) fn left_out(&self) -> u64 {
        self.shared.state().left_out
    }
    /// Waits until everything is written. Gives up when the reader takes nothing for `idle`, or after `total`; returns
    /// whether all was written.
    pub(super) fn drain(&self, idle: Option<Duration>, total: Option<Duration>) -> bool {
        let began = Instant::now();
        let mut state = self.shared.state();
        let (mut taken, mut moved_at) = (state.taken, began);
        while state.waiting > 0 && !state.is_closed {
            if taken != state.taken {
                (taken, moved_at) = (state.taken, Instant::now());
            }
            let left = |limit: Option<Duration>, since: Instant| {
                limit.map(|limit| limit.saturating_sub(since.elapsed()))
            };
            let patience = [left(idle, moved_at), left(total, began)].into_iter().flatten().min();
            state = match patience {
                Some(Duration::ZERO) => {
                    state.is_stuck = true;
                    return false;
                }
                Some(patience) => {
                    self.shared
                        .changed
                        .wait_timeout(state, patience)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        true
    }
    /// Lets what is queued here be written before another stream goes on, as one order is what a terminal shows; a reader
    /// who does not read is waited for once.
    pub(super) fn let_pass(&self, patience: Duration) {
        if !self.shared.state().is_stuck {
            self.drain(Some(patience), None);
        }
    }
}

/// Empties the queue for as long as the process lives.
fn write_all(shared: &Shared, mut stream: File) {
    loop {
        let mut state = shared.state();
        let piece = loop {
            match state.queue.pop_front() {
                Some(piece) => break piece,
                None => state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
        let well = write_piece(shared, &mut stream, &piece);
        let mut state = shared.state();
        if !well {
            (state.is_closed, state.waiting) = (true, 0);
            state.queue.clear();
        }
        shared.changed.notify_all();
        if !well {
            return;
        }
    }
}

fn write_piece(shared: &Shared, stream: &mut File, mut piece: &[u8]) -> bool {
    while !piece.is_empty() {
        match stream.write(piece) {
            Ok(0) => return false,
            Ok(count) => {
                piece = &piece[count..];
                let mut state = shared.state();
                state.taken += count as u64;
                state.waiting = state.waiting.saturating_sub(count);
                state.is_stuck = false;
                shared.changed.notify_all();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(AGAIN),
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn pipe() -> (File, Writer) {
        let (reader, writer) = std::io::pipe().unwrap();
        (
            File::from(std::os::fd::OwnedFd::from(reader)),
            Writer::start(File::from(std::os::fd::OwnedFd::from(writer))),
        )
    }

    #[test]
    fn everything_arrives_in_its_order() {
        let (mut reader, writer) = pipe();
        let texts: Vec<String> = (0..20_000).map(|number| format!("line {number}\n")).collect();
        let expect = texts.concat();
        let reading = std::thread::spawn(move || {
            let mut got = vec![0; expect.len()];
            reader.read_exact(&mut got).unwrap();
            got == expect.as_bytes()
        });
        texts.iter().for_each(|text| writer.push(text.as_bytes(), Full::Wait));
        assert!(writer.drain(None, None));
        assert!(reading.join().unwrap());
    }

    #[test]
    fn a_reader_who_does_not_read_holds_nothing_up_and_memory_is_bounded() {
        let (reader, writer) = pipe();
        let text = vec![b'x'; 1 << 20];
        for _ in 0..80 {
            writer.push(&text, Full::LeaveOut);
        }
        assert!(writer.left_out() >= 16, "{}", writer.left_out());
        assert!(!writer.drain(Some(Duration::from_millis(1)), None));
        writer.let_pass(Duration::from_secs(3600));
        drop(reader);
        assert!(writer.drain(None, None), "a reader who has gone is not waited for");
        assert!(writer.is_closed());
    }
}
