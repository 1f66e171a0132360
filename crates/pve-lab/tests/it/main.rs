//! The lab from outside: stock programs drive it. What they need and is missing is said, not passed over.

#![expect(
    clippy::print_stderr,
    reason = "a test panics when something is not as expected, and explains it on the terminal"
)]

mod facts;
mod stock;
mod third_party;

use libtest_mimic::{Arguments, Trial};

/// One test: its name, the programs it needs, what it does.
pub struct Test {
    name: &'static str,
    needs: &'static [Need],
    run: fn() -> Result<(), String>,
}

/// Something that must be on the machine.
#[derive(Clone, Copy)]
pub enum Need {
    /// A program on the PATH.
    Program(&'static str),
    /// A Python module.
    Python(&'static str),
    /// The folder of facts about PVE that PVE_FACTS_DIR names.
    Facts,
}

impl Need {
    fn is_met(self) -> bool {
        match self {
            Self::Program(name) => std::env::var_os("PATH")
                .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file())),
            Self::Facts => std::env::var_os("PVE_FACTS_DIR")
                .is_some_and(|folder| std::path::Path::new(&folder).join("pve-api").is_dir()),
            Self::Python(module) => third_party::has_module(module),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Program(name) | Self::Python(name) => name,
            Self::Facts => "PVE_FACTS_DIR",
        }
    }
}

fn main() {
    let arguments = Arguments::from_args();
    let trials = facts::TESTS.iter().chain(stock::TESTS).chain(third_party::TESTS).map(|test| {
        let missing: Vec<&str> =
            test.needs.iter().filter(|need| !need.is_met()).map(|need| need.name()).collect();
        if !missing.is_empty() {
            eprintln!("ignored: {} needs {}", test.name, missing.join(", "));
        }
        let run = test.run;
        Trial::test(test.name, move || run().map_err(Into::into)).with_ignored_flag(!missing.is_empty())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
