//! Where progress bars are drawn: through the same queue as everything else on stderr.

use super::{Full, Stream};
use indicatif::{ProgressDrawTarget, TermLike};
use std::fmt::Write as _;
use std::io;
use std::sync::{Mutex, PoisonError};

/// How often the bars are drawn, per second.
const RATE: u8 = 15;
/// The width where the terminal does not say its own, in columns.
const USUAL_WIDTH: usize = 80;

/// Returns the target that bars are drawn to.
pub fn bars_target() -> ProgressDrawTarget {
    ProgressDrawTarget::term_like_with_hz(Box::new(Queued::default()), RATE)
}

/// A terminal whose drawing is collected until it is flushed.
#[derive(Debug, Default)]
struct Queued(Mutex<String>);

impl Queued {
    fn add(&self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drawn.write_fmt(text).map_err(io::Error::other)
    }
    fn moved(&self, by: usize, letter: char) -> io::Result<()> {
        if by == 0 { Ok(()) } else { self.add(format_args!("\u{1b}[{by}{letter}")) }
    }
}

impl TermLike for Queued {
    fn width(&self) -> u16 {
        u16::try_from(Stream::Stderr.width().unwrap_or(USUAL_WIDTH)).unwrap_or(u16::MAX)
    }
    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'A')
    }
    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'B')
    }
    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'C')
    }
    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'D')
    }
    fn write_line(&self, s: &str) -> io::Result<()> {
        self.add(format_args!("{s}\n"))
    }
    fn write_str(&self, s: &str) -> io::Result<()> {
        self.add(format_args!("{s}"))
    }
    fn clear_line(&self) -> io::Result<()> {
        self.add(format_args!("\r\u{1b}[2K"))
    }
    fn flush(&self) -> io::Result<()> {
        let drawn = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Stream::Stderr.writer().push(drawn.as_bytes(), Full::LeaveOut);
        Ok(())
    }
}
