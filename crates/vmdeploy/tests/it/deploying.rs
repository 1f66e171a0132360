//! A deployment as a child process, which is watched while it goes on.

use crate::lab_run::LabRun;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, Command, Stdio};

/// A deployment whose output is read line by line.
pub struct Deploying {
    /// The process.
    pub child: Child,
    lines: BufReader<ChildStderr>,
    /// What it has said so far.
    pub said: String,
}

impl Deploying {
    /// Starts it in the lab's folder.
    pub fn start(lab: &LabRun, arguments: &[&str]) -> Self {
        let mut command = lab.user.command(arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Self { child, lines, said: String::new() }
    }
    /// Reads until it has said the text.
    pub fn read_until(&mut self, text: &str) {
        while !self.said.contains(text) {
            assert!(self.lines.read_line(&mut self.said).unwrap() > 0, "the run ended: {}", self.said);
        }
    }
    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
    /// Reads to the end, and returns the exit code.
    pub fn end(&mut self) -> Option<i32> {
        self.lines.read_to_string(&mut self.said).unwrap();
        self.child.wait().unwrap().code()
    }
}
