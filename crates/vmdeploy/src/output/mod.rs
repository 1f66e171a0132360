//! Where text goes: data on stdout, everything else on stderr, and never through a progress bar.

mod bars_target;
mod writer;

pub use bars_target::bars_target;

use crate::escape;
use indicatif::MultiProgress;
use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use writer::{Full, Writer};

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

/// After a run, a reader who takes nothing for this long is not waited for.
const IDLE_AFTER_A_RUN: Duration = Duration::from_secs(5);
/// After a run, a reader is waited for no longer than this.
const TOTAL_AFTER_A_RUN: Duration = Duration::from_secs(30);
/// How long the text of one stream may hold up that of the other, so that a terminal shows them in their order.
const IN_ORDER: Duration = Duration::from_millis(50);

/// Whether a run was begun: then its end counts for more than what is said of it.
static HAS_RUN: AtomicBool = AtomicBool::new(false);

/// Notes that a run starts. From now on, writes do not wait for a slow reader.
pub fn begin_run() {
    HAS_RUN.store(true, Ordering::Relaxed);
}

/// Waits until what was written is with its readers; to be called before the process ends, starts another program that
/// writes, or asks a person. After a run, a reader who does not read is given up.
pub fn finish() {
    let limits = match HAS_RUN.load(Ordering::Relaxed) {
        true => (Some(IDLE_AFTER_A_RUN), Some(TOTAL_AFTER_A_RUN)),
        false => (None, None),
    };
    for stream in [Stream::Stdout, Stream::Stderr] {
        stream.writer().drain(limits.0, limits.1);
    }
    let left_out = Stream::Stderr.writer().left_out();
    if left_out > 0 && Stream::Stderr.writer().drain(Some(Duration::ZERO), None) {
        let text = format!("note: {left_out} messages were dropped because nothing read them\n");
        Stream::Stderr.writer().push(text.as_bytes(), Full::LeaveOut);
        Stream::Stderr.writer().drain(limits.0, limits.1);
    }
}

/// Tells whether the reader of stdout has gone before it had all the data.
pub fn reader_of_data_is_gone() -> bool {
    !HAS_RUN.load(Ordering::Relaxed) && Stream::Stdout.writer().is_closed()
}

/// Queues a text for a stream, after what was written to the other one.
fn queue(stream: Stream, text: &str, full: Full) {
    let other = if stream == Stream::Stdout { Stream::Stderr } else { Stream::Stdout };
    other.writer().let_pass(IN_ORDER);
    let plain = (!stream.has_any_color()).then(|| anstream::adapter::strip_str(text).to_string());
    stream.writer().push(plain.as_deref().unwrap_or(text).as_bytes(), full);
}

fn bars() -> &'static Mutex<Option<MultiProgress>> {
    static BARS: OnceLock<Mutex<Option<MultiProgress>>> = OnceLock::new();
    BARS.get_or_init(Mutex::default)
}

/// Makes later output step around these bars; `None` when they are gone.
pub fn set_bars(progress: Option<MultiProgress>) {
    *bars().lock().unwrap_or_else(PoisonError::into_inner) = progress;
}

fn above_bars(write: impl FnOnce()) {
    let current = bars().lock().unwrap_or_else(PoisonError::into_inner).clone();
    match current {
        Some(progress) => progress.suspend(write),
        None => write(),
    }
}

/// Writes text as it is to stderr. A closed stderr is not a reason to stop a deployment.
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
    above_bars(|| queue(Stream::Stderr, text, Full::LeaveOut));
}

/// Writes why a command failed.
pub fn write_failure(text: &str) {
    if logs_json() { write_record("ERROR", text) } else { write_stderr_as_it_is(text) }
}

/// Writes text as a log's JSON object, without colors.
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
    write_stderr_as_it_is(&format!("{}\n", pve_types::escape_json(&record.to_string())));
}

/// Writes data as it is to stdout.
///
/// A reader that has gone away (`| head`) ends the process quietly, as it does for other tools.
#[expect(clippy::exit, reason = "no caller has anything left to do when its output is not read")]
pub fn write_stdout(text: &str) {
    let full = if HAS_RUN.load(Ordering::Relaxed) { Full::LeaveOut } else { Full::Wait };
    above_bars(|| queue(Stream::Stdout, text, full));
    if reader_of_data_is_gone() {
        std::process::exit(i32::from(crate::Exit::INTERNAL.code()));
    }
}

/// Writes one line of a run's events to stdout.
///
/// A reader that has gone away is not a reason to stop a deployment: that is said once, and nothing more is written.
pub fn print_event(text: &str) {
    static IS_GONE: AtomicBool = AtomicBool::new(false);
    if IS_GONE.load(Ordering::Relaxed) {
        return;
    }
    above_bars(|| queue(Stream::Stdout, &format!("{text}\n"), Full::LeaveOut));
    if Stream::Stdout.writer().is_closed() {
        IS_GONE.store(true, Ordering::Relaxed);
        say(
            "note: the reader of the events has closed the stream; the run continues, and `vmdeploy report` shows its result",
        );
    }
}

/// Writes one line of data to stdout.
pub fn print_line(text: &str) {
    write_stdout(&format!("{text}\n"));
}

/// Returns a value as JSON that a terminal may be shown: no control, bidirectional or invisible character is left raw.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn json(value: &impl serde::Serialize) -> Result<String, crate::Failure> {
    Ok(pve_types::escape_json(&serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?))
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
    print_line(&crate::redact::redact(&json(&document)?));
    Ok(())
}

/// Writes one line for the reader to stderr, control characters and line feeds escaped.
pub fn say(text: &str) {
    write_stderr(&format!("{}\n", escape::one_line(text)));
}

/// Writes several lines of our own making for the reader to stderr, control characters escaped.
pub fn say_lines(text: &str) {
    write_stderr(&format!("{}\n", escape::lines(text)));
}

/// Tells whether a person reads stderr.
pub fn stderr_is_terminal() -> bool {
    !logs_json()
        && std::io::stderr().is_terminal()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Tells whether color may be written to stderr: a terminal, and no `NO_COLOR`.
pub fn stderr_has_color() -> bool {
    !logs_json() && anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

/// Tells whether color may be written to stdout.
pub fn stdout_has_color() -> bool {
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
    /// Returns the thread that writes to it.
    fn writer(self) -> &'static Writer {
        static STDOUT: OnceLock<Writer> = OnceLock::new();
        static STDERR: OnceLock<Writer> = OnceLock::new();
        let start = |stream: BorrowedFd<'_>| match stream.try_clone_to_owned() {
            Ok(own) => Writer::start(File::from(own)),
            Err(_) => Writer::closed(),
        };
        match self {
            Self::Stdout => STDOUT.get_or_init(|| start(std::io::stdout().as_fd())),
            Self::Stderr => STDERR.get_or_init(|| start(std::io::stderr().as_fd())),
        }
    }
    /// Tells whether escape sequences for colors are left in what is written to it, whatever the log's form is.
    fn has_any_color(self) -> bool {
        match self {
            Self::Stdout => stdout_has_color(),
            Self::Stderr => anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never,
        }
    }
    /// Tells whether color may be written to it.
    pub fn has_color(self) -> bool {
        match self {
            Self::Stdout => stdout_has_color(),
            Self::Stderr => stderr_has_color(),
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
