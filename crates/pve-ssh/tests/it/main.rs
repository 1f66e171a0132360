//! `pve-ssh` against programs that are not ours: a stock `sshd`, `ssh-keygen`, `ssh-agent`, and real shells.
//!
//! Where one of them is missing its tests are reported as ignored, with the reason.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics when something is not as expected, and explains it on the terminal"
)]

mod auth;
mod banner;
mod download;
mod exec;
mod host_keys;
mod lab;
mod openssh;
mod pool;
mod quoting;
mod sshd;
mod upload;

use libtest_mimic::{Arguments, Failed, Trial};

/// What a test needs of this machine.
#[derive(Clone, Copy)]
pub enum Needs {
    /// Nothing but this test.
    Nothing,
    /// A stock sshd that lets the current user in and run commands as root.
    Sshd,
    /// A shell of this name.
    Shell(&'static str),
}

impl Needs {
    /// Returns why it is not there; `None` when it is.
    fn missing(self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Sshd => sshd::missing(),
            Self::Shell(name) => (!sshd::has_program(name)).then(|| format!("`{name}` is not installed")),
        }
    }
}

/// Makes a test of an async function; reports it as ignored where something is missing.
pub fn test<F: Future<Output = ()>>(
    name: &str,
    needs: Needs,
    body: impl FnOnce() -> F + Send + 'static,
) -> Trial {
    let missing = needs.missing();
    let kind = missing.as_ref().map_or(String::new(), |reason| format!("ignored: {reason}"));
    let run = move || -> Result<(), Failed> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let limit = std::time::Duration::from_secs(120);
            tokio::time::timeout(limit, body()).await.map_err(|_| Failed::from("took longer than 120 s"))
        })
    };
    Trial::test(name, run).with_kind(kind).with_ignored_flag(missing.is_some())
}

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    trials.extend(quoting::tests());
    trials.extend(exec::tests());
    trials.extend(auth::tests());
    trials.extend(banner::tests());
    trials.extend(host_keys::tests());
    trials.extend(lab::tests());
    trials.extend(openssh::tests());
    trials.extend(pool::tests());
    trials.extend(upload::tests());
    trials.extend(download::tests());
    libtest_mimic::run(&arguments, trials).exit();
}
