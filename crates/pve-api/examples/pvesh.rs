//! Makes typed calls through `pvesh`, here with the `ssh` program: `cargo run --example pvesh root@pve1`.

#![expect(clippy::print_stdout, reason = "an example prints its results")]
use futures::FutureExt as _;
use futures::future::BoxFuture;
use pve_api::{Client, PveshFailure, PveshOutput, PveshRunner};
use std::sync::Arc;

#[derive(Debug)]
struct Ssh(String);

impl PveshRunner for Ssh {
    fn run(&self, argv: Vec<String>) -> BoxFuture<'static, Result<PveshOutput, PveshFailure>> {
        let host = self.0.clone();
        async move {
            // The node's shell reads one line: every word is quoted.
            let words = argv.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
            let line = words.collect::<Vec<_>>().join(" ");
            let run = std::process::Command::new("ssh").args(["--", &host, &line]).output();
            let output = run.map_err(|error| PveshFailure::NotStarted(error.into()))?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            // `ssh` itself exits with 255 when it cannot connect.
            match output.status.code() {
                Some(255) if output.stdout.is_empty() => {
                    Err(PveshFailure::NotStarted(text(&output.stderr).into()))
                }
                code => Ok(PveshOutput {
                    exit: code.and_then(|code| u32::try_from(code).ok()),
                    stdout: text(&output.stdout),
                    stderr: text(&output.stderr),
                }),
            }
        }
        .boxed()
    }
    fn host(&self) -> String {
        self.0.clone()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let host = std::env::args().nth(1).ok_or("which host?")?;
    let client = Client::pvesh(Arc::new(Ssh(host)));
    println!("PVE {}", client.version().await?.version);
    for node in client.nodes().await? {
        println!("node {}", node.node);
    }
    Ok(())
}
