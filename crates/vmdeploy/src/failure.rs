//! How a command fails: an exit code, a chain of causes, and what to do next.

use crate::escape;
use crate::exit::Exit;
use crate::redact::redact;
use std::fmt::Write as _;

/// What every subcommand returns.
pub type CommandResult = Result<Exit, Failure>;

/// A failed command. Its chain is printed once, each cause on a line of its own, then the hints.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
    hints: Vec<String>,
}

impl Failure {
    /// Builds a failure from a message of our own.
    pub fn new(exit: Exit, message: impl std::fmt::Display) -> Self {
        Self { exit, error: anyhow::anyhow!("{message}"), hints: Vec::new() }
    }
    /// Builds a failure from an error with its causes.
    pub fn of(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), hints: Vec::new() }
    }
    /// Builds a failure from a message and the causes below it, outermost first.
    pub fn chain(exit: Exit, message: &str, causes: &[&str]) -> Self {
        let innermost = causes.last().copied().unwrap_or(message);
        let above = causes.iter().rev().skip(1).copied().chain((!causes.is_empty()).then_some(message));
        let error = above.fold(anyhow::anyhow!("{innermost}"), |error, text| error.context(text.to_owned()));
        Self { exit, error, hints: Vec::new() }
    }
    /// Builds a failure from a message and a list of things below it.
    pub fn list(exit: Exit, message: &str, lines: &[&str]) -> Self {
        Self::new(exit, std::iter::once(message).chain(lines.iter().copied()).collect::<Vec<_>>().join("\n"))
    }
    /// Returns the failure with another message and exit code; the hints stay.
    #[must_use]
    pub fn replaced(mut self, message: &'static str, exit: Exit) -> Self {
        self.error = anyhow::anyhow!(message);
        self.exit = exit;
        self
    }
    /// Returns the failure with another exit code.
    #[must_use]
    pub fn exiting(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
    /// Refuses the command line, the environment or the spec.
    pub fn usage(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::USAGE, message)
    }
    /// Adds what the reader can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
    /// Says above the cause what was being done.
    #[must_use]
    pub fn context(mut self, message: impl std::fmt::Display + Send + Sync + 'static) -> Self {
        self.error = self.error.context(message.to_string());
        self
    }
    /// Returns the message and its causes as one line, the innermost last.
    pub fn text(&self) -> String {
        self.error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }
    /// Returns what the reader can do about it.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }
    /// Returns the exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }
    /// Returns what is printed on stderr, with its final newline: no control characters, no known secret.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (depth, cause) in self.error.chain().enumerate() {
            let label = if depth == 0 { "error" } else { "  caused by" };
            let _ = writeln!(text, "{label}: {}", indented(&cause.to_string()));
        }
        for hint in &self.hints {
            let _ = writeln!(text, "hint: {}", indented(hint));
        }
        redact(&text).into_owned()
    }
    /// Returns the backtrace, where one was taken (`RUST_BACKTRACE=1`); printed from `-vv` on only.
    pub fn backtrace(&self) -> Option<String> {
        let backtrace = self.error.backtrace();
        (backtrace.status() == std::backtrace::BacktraceStatus::Captured).then(|| backtrace.to_string())
    }
}

fn indented(text: &str) -> String {
    escape::lines(text.trim_end()).replace('\n', "\n    ")
}

/// An error without an exit code is an internal error.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::of(Exit::INTERNAL, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn causes_stand_below_the_message_in_their_order() {
        let failure = Failure::chain(Exit::OBSERVED, "a", &["b", "c"]);
        assert_eq!(failure.render(), "error: a\n  caused by: b\n  caused by: c\n");
        assert_eq!(Failure::chain(Exit::OBSERVED, "a", &[]).render(), "error: a\n");
    }

    #[test]
    fn a_chain_is_printed_once_and_then_the_hint() {
        let source: anyhow::Result<()> =
            Err(std::io::Error::other("no\x1b[1m such\nthing")).context("cannot read `a.yaml`");
        let failure = Failure::of(Exit::USAGE, source.unwrap_err()).hint("write it");
        assert_eq!(
            failure.render(),
            "error: cannot read `a.yaml`\n  caused by: no\\u{1b}[1m such\n    thing\nhint: write it\n"
        );
    }
}
