//! The words that docs/style.md refuses, in documentation, strings, comments and names.

use super::{assert_none, files, read};

/// Words and phrases that must not come back, in lower case.
const REFUSED: &[&str] = &[
    "and nothing else",
    "anew",
    "anybody",
    "beside",
    "by itself",
    "door",
    "doors",
    "look only",
    "nobody",
    "road",
    "roads",
    "shall",
    "so long",
    "somebody",
    "take back",
    "taken back",
    "takes back",
    "truths",
    "whoever",
    "wish",
    "wishes",
];

/// Where a refused word is somebody else's: a name or a message, by file and text.
const QUOTED: &[(&str, &str)] = &[
    // Names of users in OpenSSH's configuration, and of guests and VMs that do not exist.
    ("crates/pve-ssh/tests/it/openssh.rs", "nobody"),
    ("crates/pve-ssh/tests/it/host_keys.rs", "# nobody"),
    ("crates/vmdeploy/", "\"nobody\""),
    ("crates/vmdeploy/", "`nobody`"),
    ("crates/vmdeploy/", " nobody "),
];

/// Files that quote the words: the rules themselves, what PVE answered, and the record of changes.
const EXEMPT: &[&str] = &[
    "CHANGELOG.md",
    "LICENSE-APACHE",
    "crates/pve-lab/tests/records/",
    "crates/vmdeploy/tests/it/tidy/words.rs",
    "docs/style.md",
];

fn is_read(file: &str) -> bool {
    let endings = [".rs", ".md", ".snap", ".yaml", ".sh", ".toml", ".example", "Makefile"];
    endings.iter().any(|ending| file.ends_with(ending))
        && !EXEMPT.iter().any(|exempt| file.starts_with(exempt))
}

/// Returns the line in lower case with everything but letters and digits as single spaces, so that names of functions
/// are read like text.
fn as_text(line: &str) -> String {
    let plain: String =
        line.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { ' ' }).collect();
    format!(" {} ", plain.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn refused_in(line: &str) -> Option<&'static str> {
    let text = as_text(line);
    REFUSED.iter().copied().find(|word| text.contains(&format!(" {word} ")))
}

#[test]
fn refused_words_do_not_come_back() {
    let mut faults = Vec::new();
    for file in files("").iter().filter(|file| is_read(file)) {
        for (number, line) in read(file).lines().enumerate() {
            let is_quoted = QUOTED.iter().any(|(of, text)| file.starts_with(of) && line.contains(text));
            if let Some(word) = refused_in(line).filter(|_| !is_quoted) {
                faults.push(format!("{file}:{}: `{word}` in `{}`", number + 1, line.trim()));
            }
        }
    }
    assert_none("docs/style.md says what to write instead", &faults);
}

#[test]
fn words_are_found_in_text_names_and_at_the_ends_of_lines() {
    for line in ["It shall run.", "fn nobody_is_asked()", "made anew", "// by itself,", "by  itself"] {
        assert!(refused_in(line).is_some(), "{line}");
    }
    for line in ["besides", "doorway", "marshall", "so longer", "wished"] {
        assert_eq!(refused_in(line), None, "{line}");
    }
}

#[test]
fn every_refused_word_is_in_the_rules() {
    let rules = as_text(&read("docs/style.md").replace('\n', " "));
    let faults: Vec<String> = REFUSED
        .iter()
        .filter(|word| !rules.contains(&format!(" {word} ")))
        .map(|word| (*word).to_owned())
        .collect();
    assert_none("docs/style.md does not mention", &faults);
}
