//! `pve-ssh` against OpenSSH in containers: the servers, keys and networks that people have.
//!
//! Run by `make test-containers`; `make test-images` builds the image. Where there is no engine, no image or no
//! `ssh-keygen`, every test is reported as ignored, with the reason.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics when something is not as expected, and explains it on the terminal"
)]

mod auth;
mod deployment;
mod hosts;
mod limits;
mod network;
mod node;
mod sudo;

use libtest_mimic::{Arguments, Failed, Trial};
use std::sync::OnceLock;

/// Makes a test of an async function.
fn test<F: Future<Output = ()>>(name: &str, body: impl FnOnce() -> F + Send + 'static) -> Trial {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(node::missing).as_ref();
    let kind = missing.map_or(String::new(), |reason| format!("ignored: {reason}"));
    let run = move || -> Result<(), Failed> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let limit = std::time::Duration::from_secs(600);
            tokio::time::timeout(limit, body()).await.map_err(|_| Failed::from("took longer than 600 s"))
        })
    };
    Trial::test(name, run).with_kind(kind).with_ignored_flag(missing.is_some())
}

fn main() {
    let mut arguments = Arguments::from_args();
    // Two at a time: each has one or two containers.
    arguments.test_threads.get_or_insert(2);
    let mut trials = Vec::new();
    trials.extend(auth::tests());
    trials.extend(sudo::tests());
    trials.extend(hosts::tests());
    trials.extend(limits::tests());
    trials.extend(network::tests());
    trials.extend(deployment::tests());
    libtest_mimic::run(&arguments, trials).exit();
}
