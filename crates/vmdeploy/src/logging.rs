//! Tracing to stderr: nothing by default, more by `-v`, as lines or as JSON.

use crate::{output, redact};
use std::io;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts tracing. `verbosity` is the number of `-v`.
pub fn start(verbosity: u8, format: LogFormat) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(verbosity))
        .with_writer(Stderr)
        .with_ansi(output::stderr_has_color());
    if format == LogFormat::Json {
        output::log_as_json();
    }
    // A second start (a test that runs several commands in one process) keeps the first subscriber.
    let _ = match format {
        LogFormat::Text => builder.with_target(verbosity > 1).try_init(),
        LogFormat::Json => builder.json().with_current_span(true).with_span_list(true).try_init(),
    };
}

fn filter(verbosity: u8) -> EnvFilter {
    let (ours, others) = match verbosity {
        // What goes wrong in a run is told by its events and its failure; a log line would say it twice.
        0 => ("off", "off"),
        1 => ("info", "off"),
        2 => ("debug", "warn"),
        _ => ("trace", "info"),
    };
    let crates =
        ["vmdeploy", "vmdeploy_executor", "vmdeploy_planner", "pve_api", "pve_ssh", "pve_config", "pve_lab"];
    let directives: Vec<String> = crates.iter().map(|name| format!("{name}={ours}")).collect();
    EnvFilter::new(format!("{others},{}", directives.join(",")))
}

/// Writes whole lines above the progress bars, with known secrets redacted.
#[derive(Debug, Clone, Copy)]
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line;
    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// One event, collected and written when it is dropped.
#[derive(Debug)]
struct Line(Vec<u8>);

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.0);
        output::write_log(&redact::redact(&text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_crates_are_silent_until_vv() {
        assert!(filter(1).to_string().contains("off"));
        assert!(filter(2).to_string().contains("pve_ssh=debug"));
    }
}
