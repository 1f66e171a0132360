//! API calls through `pvesh` on a node.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use pve_api::{PveshFailure, PveshOutput, PveshRunner};
use pve_ssh::command::Command;
use pve_ssh::{Host, RunOptions, TookEffect};
use std::time::Duration;

/// The longest that one `pvesh` may run: it waits for the task that it starts.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// Runs `pvesh` on a host.
#[derive(Debug)]
pub(super) struct Runner(pub(super) Host);

impl PveshRunner for Runner {
    fn run(&self, argv: Vec<String>) -> BoxFuture<'static, Result<PveshOutput, PveshFailure>> {
        let host = self.0.clone();
        async move {
            let mut words = argv.into_iter();
            let program = words.next().unwrap_or_default();
            let is_read = matches!(program.as_str(), "cat" | "tail" | "hostname");
            let command = Command::new(program).args(words);
            let command = if is_read { command.only_reads() } else { command };
            match host.run(&command, RunOptions::within(LONGEST), &mut |_, _| {}).await {
                Ok(output) => Ok(PveshOutput {
                    exit: Some(output.status),
                    stdout: output.stdout,
                    stderr: output.stderr,
                }),
                Err(error) if error.took_effect() == TookEffect::No => {
                    Err(PveshFailure::NotStarted(Box::new(error)))
                }
                Err(error) => Err(PveshFailure::Interrupted(Box::new(error))),
            }
        }
        .boxed()
    }
    fn host(&self) -> String {
        self.0.address().to_owned()
    }
}
