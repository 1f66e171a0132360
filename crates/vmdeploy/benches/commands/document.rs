//! docs/benchmarks.md: the text between a part's markers is replaced at each run.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// A table with what is to be said about it.
pub struct Table {
    title: String,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    /// Begins a table.
    pub fn new(title: impl Into<String>, head: &[&'static str]) -> Self {
        Self { title: title.into(), head: head.to_vec(), rows: Vec::new(), notes: Vec::new() }
    }
    /// Adds a row.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
    /// Adds a sentence below the table, and says it aloud.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        eprintln!("bench: {text}");
        self.notes.push(text);
    }
}

/// The tables as Markdown.
pub fn text_of(tables: &[Table]) -> String {
    let mut text = String::new();
    for table in tables {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let head: Vec<String> = table.head.iter().map(|cell| (*cell).to_owned()).collect();
        let rule: Vec<String> = table.head.iter().map(|_| "---".to_owned()).collect();
        let _ = write!(text, "\n**{}**\n\n", table.title);
        if !table.rows.is_empty() {
            text += &(line(&head) + &line(&rule).replace(' ', ""));
            table.rows.iter().for_each(|row| text += &line(row));
            text.push('\n');
        }
        table.notes.iter().for_each(|note| text += &format!("{note}.\n"));
    }
    text
}

/// The file.
pub struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    /// Reads it.
    pub fn open() -> Self {
        let path = root().join("docs/benchmarks.md");
        let text = std::fs::read_to_string(&path).expect("docs/benchmarks.md can be read");
        Self { path, text }
    }
    /// Replaces what stands between the part's markers.
    pub fn replace(&mut self, part: &str, text: &str) {
        let (begin, end) = (format!("<!-- begin {part} -->\n"), format!("<!-- end {part} -->"));
        let (Some(start), Some(stop)) = (self.text.find(&begin), self.text.find(&end)) else {
            panic!("docs/benchmarks.md has no markers for `{part}`");
        };
        self.text.replace_range(start + begin.len()..stop, &format!("{}\n", text.trim_end()));
    }
    /// Writes it.
    pub fn write(&self) {
        std::fs::write(&self.path, &self.text).expect("docs/benchmarks.md can be written");
        eprintln!("bench: wrote docs/benchmarks.md");
    }
}

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What was measured, when and where.
pub fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("processor", |(_, name)| name.trim());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let dirty =
        if git(&["status", "--porcelain", "--untracked-files=no"]).is_empty() { "" } else { ", changed" };
    format!(
        "Last run: {today}, commit {}{dirty}, {} {}, {processors} × {model}, load {load} at its end.\n",
        git(&["rev-parse", "--short", "HEAD"]),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}

fn git(arguments: &[&str]) -> String {
    let output = Command::new("git").args(arguments).current_dir(root()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
