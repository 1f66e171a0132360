//! What must not stand in the source.

use super::{assert_none, files, read};

const PURE: &[&str] = &["pve-types", "pve-config", "vmdeploy-planner"];
const LIBRARIES: &[&str] =
    &["pve-types", "pve-config", "pve-api", "pve-ssh", "vmdeploy-planner", "vmdeploy-executor", "pve-lab"];

/// Files above [`LONGEST`] lines of code, each with the reason why it holds one subject all the same.
const LONG_WITH_REASON: &[(&str, &str)] =
    &[("crates/pve-lab/src/shell/parse.rs", "the grammar of a shell: its rules call each other")];
const LONGEST: usize = 800;

/// A line of code with its number: comments cut off, and everything from the test module on left out.
struct Code {
    file: String,
    number: usize,
    text: String,
}

impl Code {
    fn place(&self) -> String {
        format!("{}:{}: {}", self.file, self.number, self.text.trim())
    }
}

/// Returns the code of a crate without its tests.
fn code_of(name: &str) -> Vec<Code> {
    let sources = files(&format!("crates/{name}/src"));
    sources
        .iter()
        .filter(|file| file.ends_with(".rs") && !is_test_file(file))
        .flat_map(|file| code_in(file))
        .collect()
}

fn is_test_file(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/") || file.ends_with("_tests.rs")
}

fn code_in(file: &str) -> Vec<Code> {
    let text = read(file);
    let body = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    body.lines()
        .enumerate()
        .map(|(index, line)| Code { file: file.to_owned(), number: index + 1, text: without_comment(line) })
        .filter(|code| !code.text.trim().is_empty())
        .collect()
}

/// Cuts a `//` comment that does not stand inside a string.
fn without_comment(line: &str) -> String {
    let mut in_string = false;
    let mut previous = ' ';
    for (index, character) in line.char_indices() {
        match character {
            '"' if previous != '\\' && previous != '\'' => in_string = !in_string,
            '/' if previous == '/' && !in_string => return line[..index - 1].to_owned(),
            _ => {}
        }
        previous = character;
    }
    line.to_owned()
}

fn forbid(rule: &str, crates: &[&str], words: &[&str]) {
    forbid_but(rule, crates, words, |_| false);
}

fn forbid_but(rule: &str, crates: &[&str], words: &[&str], allowed: impl Fn(&Code) -> bool) {
    let faults: Vec<String> = crates
        .iter()
        .flat_map(|name| code_of(name))
        .filter(|code| words.iter().any(|word| code.text.contains(word)) && !allowed(code))
        .map(|code| code.place())
        .collect();
    assert_none(rule, &faults);
}

#[test]
fn the_pure_crates_have_no_clock_chance_file_network_or_environment() {
    let words = [
        "tokio::",
        "reqwest::",
        "russh::",
        "std::fs",
        "std::env",
        "std::process",
        "std::thread",
        "SystemTime",
        "Instant::now",
        "Timestamp::now",
        "Zoned::now",
        "rand::",
        "new_v4",
        "include_bytes!(\"/",
    ];
    forbid("a pure crate reaches outside", PURE, &words);
    let address = |code: &Code| {
        ["IpAddr", "Ipv4Addr", "Ipv6Addr", "AddrParseError"].iter().any(|name| code.text.contains(name))
            && !["TcpStream", "TcpListener", "UdpSocket", "ToSocketAddrs"]
                .iter()
                .any(|name| code.text.contains(name))
    };
    forbid_but("a pure crate names the network", PURE, &["std::net", "core::net"], address);
}

#[test]
fn libraries_do_not_read_the_environment_or_use_anyhow() {
    // Clippy's lints in Cargo.toml refuse printing and exiting.
    let words = ["std::env::", "env::var", "anyhow", "io::stdout", "io::stderr"];
    forbid("a library does what only the binary may", LIBRARIES, &words);
}

#[test]
fn no_note_stands_in_for_an_issue() {
    let faults: Vec<String> = files("crates")
        .iter()
        .filter(|file| file.ends_with(".rs") && !file.ends_with("tidy/source.rs"))
        .flat_map(|file| {
            read(file)
                .lines()
                .filter(|line| line.contains("TODO") || line.contains("FIXME"))
                .map(|line| format!("{file}: {}", line.trim()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_none("a note instead of an issue", &faults);
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    let faults: Vec<String> = files("crates")
        .iter()
        .filter(|file| file.ends_with(".rs") && !file.ends_with("tidy/source.rs"))
        .flat_map(|file| {
            read(file)
                .lines()
                .enumerate()
                .filter(|(_, line)| {
                    line.trim_start().starts_with("#[allow(") || line.trim_start().starts_with("#![allow(")
                })
                .map(|(number, line)| format!("{file}:{}: {}", number + 1, line.trim()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_none("write #[expect(…, reason = \"…\")]", &faults);
}

#[test]
fn addresses_and_shell_text_are_made_in_one_place_each() {
    let clients = ["pve-config", "vmdeploy-planner", "vmdeploy-executor", "vmdeploy", "pve-ssh"];
    forbid("only pve_api::request makes addresses", &clients, &["api2/json"]);
    let elsewhere =
        ["pve-types", "pve-config", "pve-api", "vmdeploy-planner", "vmdeploy-executor", "vmdeploy"];
    forbid(
        "only pve_ssh::command makes shell text",
        &elsewhere,
        &["sh -c", "bash -c", r#""'\\''"#, r#""'\''"#],
    );
    let pve_api_outside_request = |code: &Code| code.file.starts_with("crates/pve-api/src/request");
    forbid_but(
        "only pve_api::request makes addresses",
        &["pve-api"],
        &["api2/json"],
        pve_api_outside_request,
    );
}

#[test]
fn certificates_and_host_keys_are_always_verified() {
    let all = ["pve-api", "pve-ssh", "vmdeploy-executor", "vmdeploy"];
    let words =
        ["danger_accept_invalid", "tls_danger", "StrictHostKeyChecking=no", "StrictHostKeyChecking no"];
    forbid("verification is never switched off", &all, &words);
}

#[test]
fn a_library_root_is_a_table_of_contents() {
    let faults: Vec<String> = LIBRARIES
        .iter()
        .flat_map(|name| code_in(&format!("crates/{name}/src/lib.rs")))
        .filter(|code| code.text.trim_start().starts_with("fn ") || code.text.contains("pub fn "))
        .map(|code| code.place())
        .collect();
    assert_none("lib.rs holds logic", &faults);
}

#[test]
fn a_long_file_has_a_reason() {
    let mut faults = Vec::new();
    for file in files("crates").iter().filter(|file| file.ends_with(".rs")) {
        let length = code_in(file).len();
        let excused = LONG_WITH_REASON.iter().any(|(long, _)| long == file);
        if length > LONGEST && !excused {
            faults.push(format!("{file}: {length} lines of code"));
        }
    }
    assert_none("split the file by subject, or give the reason in LONG_WITH_REASON", &faults);
}
