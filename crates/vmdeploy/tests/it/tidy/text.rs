//! Documents, change log, and everything else that is text.

use super::{assert_none, files, read, root};

fn documents() -> Vec<String> {
    files("").into_iter().filter(|file| file.ends_with(".md")).collect()
}

#[test]
fn the_change_log_has_an_unreleased_section_and_this_version_or_newer_work() {
    let log = read("CHANGELOG.md");
    let version = env!("CARGO_PKG_VERSION");
    assert!(log.contains("## [Unreleased]"), "no place for what is not released");
    let released = log.contains(&format!("## [{version}]"));
    let first = !log.lines().any(|line| line.starts_with("## [") && !line.starts_with("## [Unreleased]"));
    assert!(released || first, "CHANGELOG.md has releases, but not {version}");
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let mut faults = Vec::new();
    for file in documents() {
        let folder = root().join(&file).parent().expect("a file has a folder").to_owned();
        for target in links(&read(&file)) {
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") && !folder.join(path).exists() {
                faults.push(format!("{file}: {target}"));
            }
        }
    }
    assert_none("a link leads nowhere", &faults);
}

fn links(text: &str) -> Vec<String> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

#[test]
fn no_file_names_somebodys_machine() {
    // In pieces, so that this file does not hold what it looks for.
    let words = [["/wo", "rk/"].concat(), ["/ho", "me/"].concat(), ["/Us", "ers/"].concat()];
    let harmless = |line: &str| {
        ["/home/$u", "/home/me", "/home/admin", "/home/user", "/home/debian"]
            .iter()
            .any(|known| line.contains(known))
    };
    let mut faults = Vec::new();
    for file in files("").iter().filter(|file| is_text(file)) {
        for (number, line) in read(file).lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) && !harmless(line) {
                faults.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none("a path of one machine", &faults);
}

fn is_text(file: &str) -> bool {
    let endings =
        [".rs", ".md", ".toml", ".yaml", ".yml", ".snap", ".json", ".sh", ".example", "Makefile", "run"];
    endings.iter().any(|ending| file.ends_with(ending))
}

#[test]
fn the_makefile_explains_every_target_and_holds_no_logic() {
    let makefile = read("Makefile");
    let mut faults = Vec::new();
    for (number, line) in makefile.lines().enumerate() {
        let is_target = line.starts_with(|first: char| first.is_ascii_lowercase())
            && line.contains(':')
            && !line.contains('=');
        if is_target && !line.contains("## ") {
            faults.push(format!("line {}: no comment after `{line}`", number + 1));
        }
        if ["sleep", "\\033", "if [", "; then"].iter().any(|word| line.contains(word)) {
            faults.push(format!("line {}: logic belongs into the binary: `{line}`", number + 1));
        }
    }
    assert_none("Makefile", &faults);
}

#[test]
fn the_readme_starts_with_two_commands() {
    let readme = read("README.md");
    let block =
        readme.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    let commands: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    assert_eq!(
        commands.iter().map(|line| line.split('#').next().unwrap_or_default().trim()).collect::<Vec<_>>(),
        ["make demo", "make test"]
    );
}

#[test]
fn the_licence_is_named_and_there() {
    assert!(read("Cargo.toml").contains("license = \"MIT OR Apache-2.0\""));
    assert!(read("LICENSE-MIT").starts_with("MIT License"));
    assert!(read("LICENSE-APACHE").contains("Apache License"));
}
