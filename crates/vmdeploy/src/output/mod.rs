//! Where text goes: data on stdout, everything else on stderr, and never through a progress bar.

use crate::escape;
use indicatif::MultiProgress;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, OnceLock, PoisonError};

fn bars() -> &'static Mutex<Option<MultiProgress>> {
    static BARS: OnceLock<Mutex<Option<MultiProgress>>> = OnceLock::new();
    BARS.get_or_init(Mutex::default)
}

/// Makes later output step around these bars; `None` when they are gone.
pub fn set_bars(progress: Option<MultiProgress>) {
    *bars().lock().unwrap_or_else(PoisonError::into_inner) = progress;
}

fn beside_bars(write: impl FnOnce()) {
    let current = bars().lock().unwrap_or_else(PoisonError::into_inner).clone();
    match current {
        Some(progress) => progress.suspend(write),
        None => write(),
    }
}

/// Writes text as it is to stderr. A closed stderr is no reason to stop a deployment.
pub fn write_stderr(text: &str) {
    beside_bars(|| {
        let _ = anstream::stderr().lock().write_all(text.as_bytes());
    });
}

/// Writes data as it is to stdout.
///
/// A reader that has gone away (`| head`) ends the process quietly, as it does for other tools.
pub fn write_stdout(text: &str) {
    beside_bars(|| {
        let mut out = anstream::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            std::process::exit(i32::from(crate::Exit::INTERNAL.code()));
        }
    });
}

/// Writes one line of data to stdout.
pub fn print_line(text: &str) {
    write_stdout(&format!("{text}\n"));
}

/// Writes one line for the reader to stderr, control characters escaped.
pub fn say(text: &str) {
    write_stderr(&format!("{}\n", escape::lines(text)));
}

/// Tells whether a person reads stderr.
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Tells whether colour may be written to stderr: a terminal, and no `NO_COLOR`.
pub fn stderr_has_colour() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

/// Tells whether colour may be written to stdout.
pub fn stdout_has_colour() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

/// Tells whether a person can be asked: both their keyboard and our stderr are terminals.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}
