//! Where text goes: data on stdout, everything else on stderr, and never through a progress bar.

use crate::escape;
use indicatif::MultiProgress;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The version of the documents that `--json` prints, where they have none of their own.
pub const DOCUMENT_FORMAT_VERSION: u32 = 1;

/// Whether stderr is a log of JSON objects, one a line.
static JSON_LOG: AtomicBool = AtomicBool::new(false);

/// Makes everything on stderr a JSON object of its own line, as the log's lines are.
pub fn log_as_json() {
    JSON_LOG.store(true, Ordering::Relaxed);
}

/// Tells whether stderr is a log of JSON objects.
pub fn logs_json() -> bool {
    JSON_LOG.load(Ordering::Relaxed)
}

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
    if logs_json() {
        return write_record("INFO", text);
    }
    write_stderr_as_it_is(text);
}

/// Writes a log's line to stderr, which has its form already.
pub fn write_log(text: &str) {
    write_stderr_as_it_is(text);
}

fn write_stderr_as_it_is(text: &str) {
    beside_bars(|| {
        let _ = anstream::stderr().lock().write_all(text.as_bytes());
    });
}

/// Writes why a command failed.
pub fn write_failure(text: &str) {
    if logs_json() { write_record("ERROR", text) } else { write_stderr_as_it_is(text) }
}

/// Writes text as a log's JSON object, without colours.
fn write_record(level: &str, text: &str) {
    let text = anstream::adapter::strip_str(text).to_string();
    let text = text.trim_matches('\n');
    if text.is_empty() {
        return;
    }
    let record = serde_json::json!({
        "timestamp": jiff::Timestamp::now().to_string(),
        "level": level,
        "fields": {"message": text},
        "target": "vmdeploy",
    });
    write_stderr_as_it_is(&format!("{record}\n"));
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

/// Writes one line of a run's events to stdout.
///
/// A reader that has gone away is no reason to stop a deployment: that is said once, and nothing more is written.
pub fn print_event(text: &str) {
    static IS_GONE: AtomicBool = AtomicBool::new(false);
    if IS_GONE.load(Ordering::Relaxed) {
        return;
    }
    let mut written = Ok(());
    beside_bars(|| {
        let mut out = anstream::stdout().lock();
        written = out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush());
    });
    if written.is_err() {
        IS_GONE.store(true, Ordering::Relaxed);
        say("note: nobody reads the events any more; the run goes on, and `vmdeploy report` tells of it");
    }
}

/// Writes one line of data to stdout.
pub fn print_line(text: &str) {
    write_stdout(&format!("{text}\n"));
}

/// Prints a document of ours: an object that begins with its version, and holds `value` under `name`.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn print_document(name: &str, value: &impl serde::Serialize) -> Result<(), crate::Failure> {
    let value = serde_json::to_value(value).map_err(anyhow::Error::from)?;
    let mut document = serde_json::Map::new();
    document.insert("format_version".to_owned(), DOCUMENT_FORMAT_VERSION.into());
    document.insert(name.to_owned(), value);
    let text = serde_json::to_string_pretty(&document).map_err(anyhow::Error::from)?;
    print_line(&crate::redact::redact(&text));
    Ok(())
}

/// Writes one line for the reader to stderr, control characters escaped.
pub fn say(text: &str) {
    write_stderr(&format!("{}\n", escape::lines(text)));
}

/// Tells whether a person reads stderr.
pub fn stderr_is_terminal() -> bool {
    !logs_json()
        && std::io::stderr().is_terminal()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Tells whether colour may be written to stderr: a terminal, and no `NO_COLOR`.
pub fn stderr_has_colour() -> bool {
    !logs_json() && anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

/// Tells whether colour may be written to stdout.
pub fn stdout_has_colour() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

/// Where a text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Data.
    Stdout,
    /// Everything else.
    Stderr,
}

impl Stream {
    /// Tells whether colour may be written to it.
    pub fn has_colour(self) -> bool {
        match self {
            Self::Stdout => stdout_has_colour(),
            Self::Stderr => stderr_has_colour(),
        }
    }
    /// Returns the width of the terminal that it is; `None` for anything else.
    pub fn width(self) -> Option<usize> {
        let size = match self {
            Self::Stdout => terminal_size::terminal_size_of(std::io::stdout()),
            Self::Stderr => terminal_size::terminal_size_of(std::io::stderr()),
        };
        size.map(|(width, _)| usize::from(width.0)).filter(|width| *width > 0)
    }
}

/// Tells whether a person can be asked: both their keyboard and our stderr are terminals.
pub fn can_ask() -> bool {
    !logs_json() && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}
