//! Reference documents are compared with the code that they describe.

use crate::tidy::{assert_none, read, root};
use vmdeploy::Exit;
use vmdeploy::environment;

#[test]
fn the_exit_codes_are_documented_as_they_are() {
    let rows: Vec<(String, String)> = read("docs/exit-codes.md").lines().filter_map(table_row).collect();
    let expect: Vec<(String, String)> =
        Exit::ALL.iter().map(|(exit, about)| (exit.code().to_string(), (*about).to_owned())).collect();
    assert_eq!(rows, expect);
}

fn table_row(line: &str) -> Option<(String, String)> {
    let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
    let (code, about) = (cells.next()?, cells.next()?);
    code.parse::<u8>().ok().map(|_| (code.to_owned(), about.to_owned()))
}

#[test]
fn the_files_that_the_architecture_page_names_exist() {
    let page = read("docs/architecture.md");
    let named: Vec<&str> = page.split('`').filter(|text| text.starts_with("crates/")).collect();
    assert!(named.len() > 20, "{named:?}");
    let faults: Vec<String> =
        named.iter().filter(|file| !root().join(file).exists()).map(|file| (*file).to_owned()).collect();
    assert_none("docs/architecture.md names what does not exist", &faults);
}

#[test]
fn the_example_environment_has_every_variable_with_its_comment_and_no_secret() {
    let text = read(".env.example");
    let lines: Vec<&str> = text.lines().collect();
    let mut seen = Vec::new();
    for (index, line) in
        lines.iter().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    {
        let (name, value) = line.split_once('=').expect("NAME=value");
        let variable = environment::ALL.iter().find(|variable| variable.name == name).expect(name);
        assert_eq!(lines[index - 1], format!("# {}", variable.about), "the comment of {name}");
        assert!(!variable.secret || value.is_empty(), "{name} has a value");
        seen.push(name);
    }
    let expect: Vec<&str> =
        environment::ALL.iter().filter(|variable| variable.in_dotenv).map(|variable| variable.name).collect();
    assert_eq!(seen, expect);
    environment::parse(&text).expect("it is a .env file");
}
