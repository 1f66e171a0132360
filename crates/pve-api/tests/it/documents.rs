//! docs/net-proxmox-ve.md names calls that exist, and leaves none of Net::Proxmox::VE's out.

use libtest_mimic::Trial;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<Trial> {
    let facts = std::env::var_os("PVE_FACTS_DIR").map(PathBuf::from).filter(|folder| folder.is_dir());
    let missing = facts.is_none();
    let complete = crate::trial("documents::no_method_of_net_proxmox_ve_is_missing", move || async move {
        no_method_is_missing(&facts.expect("not ignored"));
    });
    let complete = match missing {
        true => complete.with_kind("PVE_FACTS_DIR is not set").with_ignored_flag(true),
        false => complete,
    };
    let mut trials = crate::trials![every_call_that_is_named_exists];
    trials.push(complete);
    trials
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn table() -> String {
    std::fs::read_to_string(root().join("docs/net-proxmox-ve.md")).unwrap()
}

/// Returns everything between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, text),
            false => text.push_str(&std::fs::read_to_string(&path).unwrap()),
        }
    }
}

async fn every_call_that_is_named_exists() {
    let mut source = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut source);
    let table = table();
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let named: BTreeSet<&str> = rows.filter_map(|row| row.split('|').nth(2)).flat_map(quoted).collect();
    let mut missing = Vec::new();
    for name in &named {
        let Some((kind, call)) = name.split_once("::") else { continue };
        let block = |text: &str| {
            let (head, _) = text.split_once("\n}\n").unwrap_or((text, ""));
            head.contains(&format!("fn {call}(")) || head.contains(&format!("fn {call}<"))
        };
        let head = format!("\nimpl {kind} {{\n");
        if !source.split(&head).skip(1).any(block) {
            missing.push(*name);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
    assert!(named.len() > 80, "{}", named.len());
}

/// Returns the names of the methods that the list of facts has: `create_` is followed by the line's first name.
fn methods(facts: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in facts.lines() {
        let words = quoted(line);
        let words: Vec<&str> = words.iter().map(|word| word.split('(').next().unwrap_or(word)).collect();
        let base = words.iter().find(|word| word.starts_with("access_")).copied().unwrap_or_default();
        for word in words {
            let is_name =
                !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            match word.ends_with('_') {
                true => names.insert(format!("{word}{base}")),
                false if is_name => names.insert(word.to_owned()),
                false => false,
            };
        }
    }
    names
}

fn no_method_is_missing(facts: &Path) {
    let list = std::fs::read_to_string(facts.join("net-proxmox-ve-methods.md")).unwrap();
    let table = table();
    let ours: BTreeSet<&str> =
        quoted(&table).into_iter().map(|word| word.split('(').next().unwrap_or(word)).collect();
    // These are words of the list's prose about paths, not methods.
    let prose = ["sync"];
    let methods = methods(&list);
    assert!(methods.len() > 35, "{methods:?}");
    let missing: Vec<&String> = methods
        .iter()
        .filter(|name| !ours.contains(name.as_str()) && !prose.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
