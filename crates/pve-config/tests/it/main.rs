//! The table of keys, compared with facts from outside.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics when something is not as expected, and explains it on the terminal"
)]

mod schemas;

use libtest_mimic::{Arguments, Trial};
use std::path::PathBuf;

fn main() {
    let folder = std::env::var_os("PVE_FACTS_DIR").map(PathBuf::from).filter(|folder| folder.is_dir());
    let trial = |version: u32| {
        let name = format!("schemas::every_key_is_what_the_schema_of_pve_{version}_says");
        let Some(folder) = folder.clone() else {
            return Trial::test(name, || Ok(()))
                .with_kind("PVE_FACTS_DIR is not set")
                .with_ignored_flag(true);
        };
        Trial::test(name, move || schemas::compare(&folder, version).map_err(Into::into))
    };
    libtest_mimic::run(&Arguments::from_args(), vec![trial(8), trial(9)]).exit();
}
