//! The rules of docs/architecture.md that a program can hold.

mod circles;
mod dependencies;
mod source;
mod text;
mod words;

use std::path::{Path, PathBuf};

/// Returns the repository's root.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("the crate lies two folders below the root").to_owned()
}

/// Returns the text of a file of the repository.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the files below a folder, relative to the root, sorted; build output, hidden folders but `.ci`, and what
/// git ignores by our own `.gitignore` are left out.
pub fn files(under: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root().join(under)];
    while let Some(folder) = open.pop() {
        for entry in
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.expect("a folder of the repository can be read").path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            let hidden =
                name.starts_with('.') && ![".ci", ".env.example", ".gitignore"].contains(&name.as_str());
            if hidden || name == "target" || name.ends_with(".lab.env") {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else {
                let relative = path.strip_prefix(root()).expect("it lies below the root");
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// Fails with all faults at once.
pub fn assert_none(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}
