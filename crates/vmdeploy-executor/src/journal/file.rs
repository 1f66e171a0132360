//! The journal on disk: appended to, flushed to the disk before anything is sent out, readable after a crash.

use super::record::{Entry, JOURNAL_FORMAT_VERSION, Record};
use jiff::Timestamp;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Why a journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("the journal `{}` could not be {doing}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: "read", "written".
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A line in the middle is not a record.
    #[error("line {line} of the journal `{}` is not a record", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// Why not.
        source: serde_json::Error,
    },
    /// It does not begin as a journal does, or with another format.
    #[error("`{}` is not a journal in format {JOURNAL_FORMAT_VERSION}: {found}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        found: String,
    },
}

/// A journal that is being written.
#[derive(Debug)]
pub struct JournalWriter {
    file: File,
    path: PathBuf,
    dirty: bool,
    records: Vec<Record>,
}

impl JournalWriter {
    /// Begins a journal; the file must not exist.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| failed(path, "made", source))?;
        Ok(Self { file, path: path.to_owned(), dirty: false, records: Vec::new() })
    }
    /// Goes on with a journal; a torn last line is cut off.
    ///
    /// # Errors
    /// When it cannot be read, see [`read`].
    pub fn reopen(path: &Path) -> Result<Self, JournalError> {
        let (records, length) = read_with_length(path)?;
        let file =
            OpenOptions::new().append(true).open(path).map_err(|source| failed(path, "opened", source))?;
        file.set_len(length).map_err(|source| failed(path, "cut", source))?;
        Ok(Self { file, path: path.to_owned(), dirty: false, records })
    }
    /// Appends a record. It survives the death of this process, but not that of the machine before [`Self::flush`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, entry: Entry) -> Result<&Record, JournalError> {
        let record = Record { at: Timestamp::now(), entry };
        let mut line = serde_json::to_vec(&record).expect("a record has string keys only");
        line.push(b'\n');
        self.file.write_all(&line).map_err(|source| failed(&self.path, "written", source))?;
        self.dirty = true;
        self.records.push(record);
        Ok(self.records.last().expect("one was just pushed"))
    }
    /// Waits until everything appended is on the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn flush(&mut self) -> Result<(), JournalError> {
        if std::mem::take(&mut self.dirty) {
            self.file.sync_data().map_err(|source| failed(&self.path, "written", source))?;
        }
        Ok(())
    }
    /// Returns all records, those read at [`Self::reopen`] included.
    pub fn records(&self) -> &[Record] {
        &self.records
    }
}

/// Reads a journal. A last line that was torn by a crash is left out: what it would have said had not been sent out.
///
/// # Errors
/// When the file cannot be read, is of another format, or has a broken line before the last.
pub fn read(path: &Path) -> Result<Vec<Record>, JournalError> {
    Ok(read_with_length(path)?.0)
}

fn read_with_length(path: &Path) -> Result<(Vec<Record>, u64), JournalError> {
    let bytes = std::fs::read(path).map_err(|source| failed(path, "read", source))?;
    let mut records = Vec::new();
    let mut length = 0;
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let is_last = length + line.len() == bytes.len();
        match parse_line(line) {
            Ok(record) if line.ends_with(b"\n") => records.push(record),
            Ok(_) => break,
            Err(_) if is_last => break,
            Err(source) => {
                check_format(path, &bytes)?;
                return Err(JournalError::Line { path: path.to_owned(), line: index + 1, source });
            }
        }
        length += line.len();
    }
    check_format(path, &bytes)?;
    Ok((records, u64::try_from(length).expect("a file's length fits")))
}

fn parse_line(line: &[u8]) -> Result<Record, serde_json::Error> {
    serde_json::from_slice(line)
}

/// Checks the first line separately, to distinguish a newer format from a broken journal.
fn check_format(path: &Path, bytes: &[u8]) -> Result<(), JournalError> {
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let value: serde_json::Value = serde_json::from_slice(first).unwrap_or_default();
    let version = &value["entry"]["format_version"];
    if version.as_u64() == Some(u64::from(JOURNAL_FORMAT_VERSION)) {
        return Ok(());
    }
    let found = match (first.is_empty(), version.as_u64()) {
        (true, _) => "it is empty".to_owned(),
        (_, Some(version)) => format!("it has format {version}"),
        (_, None) => "its first line has no format version".to_owned(),
    };
    Err(JournalError::Format { path: path.to_owned(), found })
}

fn failed(path: &Path, doing: &'static str, source: io::Error) -> JournalError {
    JournalError::Io { path: path.to_owned(), doing, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;
    use vmdeploy_planner::plan::StepId;

    fn step(name: &str) -> StepId {
        StepId(name.to_owned())
    }

    fn begin(path: &Path) -> JournalWriter {
        let mut journal = JournalWriter::create(path).unwrap();
        let entry = Entry::RunStarted {
            format_version: JOURNAL_FORMAT_VERSION,
            run: "r1".into(),
            project: "web".into(),
            plan_digest: "ab".into(),
        };
        journal.append(entry).unwrap();
        journal
    }

    fn started(name: &str) -> Entry {
        Entry::Started { step: step(name), attempt: 1 }
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut journal = begin(&path);
        journal.append(started("web01/create")).unwrap();
        journal.flush().unwrap();
        let whole = std::fs::read(&path).unwrap();
        for torn in [&b"{\"at\":\"2026"[..], b"{", b"\xff\xfe", b"not json\n"] {
            std::fs::write(&path, [&whole, torn].concat()).unwrap();
            assert_eq!(read(&path).unwrap().len(), 2);
            let mut again = JournalWriter::reopen(&path).unwrap();
            let entry =
                Entry::Succeeded { step: step("web01/create"), outcome: Outcome::Done, warnings: Vec::new() };
            again.append(entry).unwrap();
            assert_eq!(read(&path).unwrap().len(), 3);
        }
    }

    #[test]
    fn every_cut_of_a_journal_is_readable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut journal = begin(&path);
        for name in ["a/1", "a/2", "b/1"] {
            journal.append(started(name)).unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap();
        for length in first + 1..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let complete = whole[..length].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(read(&path).unwrap().len(), complete, "cut at {length}");
        }
    }

    #[test]
    fn a_broken_line_in_the_middle_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        begin(&path);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("garbage\n{\"at\":\"x\"}\n");
        std::fs::write(&path, text).unwrap();
        assert!(matches!(read(&path), Err(JournalError::Line { line: 2, .. })));
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        std::fs::write(&path, "{\"at\":1,\"entry\":{\"type\":\"run_started\",\"format_version\":9}}\n")
            .unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.ends_with("it has format 9"), "{error}");
    }

    #[test]
    fn the_file_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        begin(&path);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
