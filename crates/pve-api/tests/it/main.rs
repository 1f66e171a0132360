//! Integration tests: against hand-written servers for the odd cases, against the lab for the usual ones, and
//! against recorded facts where PVE_FACTS_DIR names them.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics when something is not as expected, and explains it on the terminal"
)]

mod connections;
mod documents;
mod facts;
mod failures;
mod lab;
mod login;
mod pvesh;
mod server;
mod surface;
mod tls;
mod upload;

use libtest_mimic::{Arguments, Trial};

/// Makes a test of each function, named after it.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        vec![$(crate::trial(concat!(module_path!(), "::", stringify!($name)), $name)),*]
    };
}
pub(crate) use trials;

/// Returns the test that runs an async function on a runtime of its own.
pub fn trial<F: Future<Output = ()>>(name: &'static str, test: impl FnOnce() -> F + Send + 'static) -> Trial {
    Trial::test(name.trim_start_matches("it::"), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(test());
        Ok(())
    })
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let trials = [
        connections::trials(),
        documents::trials(),
        facts::trials(),
        failures::trials(),
        lab::trials(),
        login::trials(),
        pvesh::trials(),
        surface::trials(),
        tls::trials(),
        upload::trials(),
    ];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}
