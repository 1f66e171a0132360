//! `vmdeploy lab` as a child process, for tests that use it as a stranger does.

use crate::transcript::Session;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A running `vmdeploy lab`; told to stop and waited for when dropped.
pub struct RunningLab {
    /// Where it writes its variables to, and a folder to work in.
    pub session: Session,
    child: Child,
}

impl RunningLab {
    /// Starts it, and waits until it says that it is ready.
    pub fn start() -> Self {
        let session = Session::new();
        let mut command = session.command(&["lab", "--env-file", "lab.env"]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program can be run");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut said = String::new();
        // A lab that dies closes its stderr, and so ends this.
        while !said.contains("press Ctrl-C to stop") {
            assert!(lines.read_line(&mut said).expect("it is text") > 0, "the lab ended: {said}");
        }
        Self { session, child }
    }
    /// Returns the file with the variables.
    pub fn env_file(&self) -> PathBuf {
        self.session.path("lab.env")
    }
    /// Returns the variables, as the program's own parser reads them.
    pub fn variables(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.env_file()).expect("the lab wrote it");
        vmdeploy::environment::parse(&text).expect("it is a .env file")
    }
    /// Returns one of them.
    pub fn variable(&self, name: &str) -> String {
        self.variables().into_iter().find(|(found, _)| found == name).map(|(_, value)| value).expect(name)
    }
}

impl Drop for RunningLab {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}
