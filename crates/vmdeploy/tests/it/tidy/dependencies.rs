//! Which crate may use which.

use super::{assert_none, read};
use std::collections::BTreeSet;

/// Every crate of ours with those of ours that it may use; then those that only its tests may use.
const MAY_USE: &[(&str, &[&str], &[&str])] = &[
    ("pve-types", &[], &[]),
    ("pve-config", &["pve-types"], &[]),
    ("pve-api", &["pve-types", "pve-config"], &["pve-lab"]),
    ("pve-ssh", &["pve-types"], &["pve-lab"]),
    ("vmdeploy-planner", &["pve-types", "pve-config"], &[]),
    (
        "vmdeploy-executor",
        &["pve-types", "pve-config", "pve-api", "pve-ssh", "vmdeploy-planner"],
        &["pve-lab"],
    ),
    ("pve-lab", &["pve-types"], &[]),
    (
        "vmdeploy",
        &[
            "pve-types",
            "pve-config",
            "pve-api",
            "pve-ssh",
            "vmdeploy-planner",
            "vmdeploy-executor",
            "pve-lab",
        ],
        &["pve-lab"],
    ),
];

/// Crates that reach outside, which the pure ones must not even name.
const REACH_OUTSIDE: &[&str] =
    &["tokio", "reqwest", "russh", "russh-sftp", "hyper", "axum", "rand", "tempfile", "fd-lock", "futures"];
const PURE: &[&str] = &["pve-types", "pve-config", "vmdeploy-planner"];

/// Returns the names in a section of a manifest, e.g. `dependencies`.
fn names_in(manifest: &str, section: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == format!("[{section}]");
        } else if inside && let Some((name, _)) = line.split_once(['.', '=', ' ']) {
            names.insert(name.to_owned());
        }
    }
    names
}

fn manifest_of(name: &str) -> String {
    read(&format!("crates/{name}/Cargo.toml"))
}

#[test]
fn the_crates_depend_on_each_other_in_one_direction_only() {
    let ours: BTreeSet<&str> = MAY_USE.iter().map(|(name, ..)| *name).collect();
    let mut faults = Vec::new();
    for (name, normal, in_tests) in MAY_USE {
        let manifest = manifest_of(name);
        for (section, allowed) in [("dependencies", *normal), ("dev-dependencies", *in_tests)] {
            for used in names_in(&manifest, section).iter().filter(|used| ours.contains(used.as_str())) {
                let in_both = section == "dev-dependencies" && normal.contains(&used.as_str());
                if !in_both && !allowed.contains(&used.as_str()) {
                    faults.push(format!("{name} [{section}] uses {used}"));
                }
            }
        }
    }
    assert_none("docs/architecture.md allows no such dependency", &faults);
}

#[test]
fn the_pure_crates_depend_on_nothing_that_reaches_outside() {
    let mut faults = Vec::new();
    for name in PURE {
        let used = names_in(&manifest_of(name), "dependencies");
        faults.extend(
            REACH_OUTSIDE.iter().filter(|bad| used.contains(**bad)).map(|bad| format!("{name} uses {bad}")),
        );
    }
    assert_none("a pure crate reaches outside", &faults);
}

#[test]
fn anyhow_is_for_the_binary_alone() {
    let faults: Vec<String> = MAY_USE
        .iter()
        .filter(|(name, ..)| {
            *name != "vmdeploy" && names_in(&manifest_of(name), "dependencies").contains("anyhow")
        })
        .map(|(name, ..)| (*name).to_owned())
        .collect();
    assert_none("libraries use thiserror", &faults);
}

#[test]
fn versions_and_lints_stand_in_the_workspace_manifest_only() {
    let mut faults = Vec::new();
    for (name, ..) in MAY_USE {
        let manifest = manifest_of(name);
        if !manifest.contains("[lints]\nworkspace = true") {
            faults.push(format!("{name} does not take the workspace's lints"));
        }
        let mut section = "";
        for line in manifest.lines().map(str::trim) {
            if line.starts_with('[') {
                section = line;
            } else if section.ends_with("dependencies]")
                && line.contains('=')
                && !line.contains("workspace = true")
            {
                faults.push(format!("{name}: `{line}` is not from the workspace"));
            }
        }
    }
    assert_none("Cargo.toml", &faults);
    assert!(read("Cargo.toml").contains("unsafe_code = \"forbid\""));
}

#[test]
fn ring_is_the_only_crypto_provider_and_the_lab_can_be_left_out() {
    let lock = read("Cargo.lock");
    assert!(!lock.contains("name = \"aws-lc"), "aws-lc came in through a feature");
    assert!(!lock.contains("name = \"openssl-sys\""), "OpenSSL came in through a feature");
    assert!(manifest_of("vmdeploy").contains("pve-lab = { workspace = true, optional = true }"));
}
