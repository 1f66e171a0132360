//! A request's body: in memory while it is small, in an unlinked temporary file once it is not.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// What is kept in memory.
const IN_MEMORY: usize = 1 << 20;
/// What is looked at once.
const WINDOW: usize = 256 << 10;

/// A body, read whole.
#[derive(Debug, Default)]
pub(super) struct Body {
    memory: Vec<u8>,
    file: Option<File>,
    length: u64,
}

impl Body {
    /// Adds bytes at its end.
    ///
    /// # Errors
    /// There is no room for a temporary file.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() && self.memory.len() + bytes.len() > IN_MEMORY {
            let file = tempfile::tempfile()?;
            file.write_all_at(&self.memory, 0)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        match &self.file {
            Some(file) => file.write_all_at(bytes, self.length)?,
            None => self.memory.extend_from_slice(bytes),
        }
        self.length += bytes.len() as u64;
        Ok(())
    }
    /// How many bytes it has.
    pub(super) fn len(&self) -> u64 {
        self.length
    }
    /// Its bytes, when they are in memory: those of every form are.
    pub(super) fn small(&self) -> &[u8] {
        &self.memory
    }
    /// So many bytes from `offset`, fewer at its end.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub(super) fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = length.min(left);
        match &self.file {
            None => {
                let from = self.length.min(offset) as usize;
                Ok(self.memory[from..from + length].to_vec())
            }
            Some(file) => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, offset)?;
                Ok(bytes)
            }
        }
    }
    /// Where `needle` first stands at or after `from`.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub(super) fn find(&self, needle: &[u8], from: u64) -> io::Result<Option<u64>> {
        let mut at = from;
        loop {
            // A needle that begins in one window and ends in the next is found in an overlap.
            let window = self.read_at(at, WINDOW + needle.len() - 1)?;
            if let Some(found) = position(&window, needle) {
                return Ok(Some(at + found as u64));
            }
            if window.len() < WINDOW {
                return Ok(None);
            }
            at += WINDOW as u64;
        }
    }
}

/// Where `needle` first stands.
fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut at = 0;
    while let Some(offset) = haystack[at..].iter().position(|byte| *byte == first) {
        at += offset;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_is_not_in_memory_and_reads_as_it_was_written() {
        let mut body = Body::default();
        let piece: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
        for _ in 0..30 {
            body.push(&piece).unwrap();
        }
        assert_eq!(body.len(), 3_000_000);
        assert!(body.small().is_empty() && body.file.is_some());
        assert_eq!(body.read_at(99_999, 2).unwrap(), [piece[99_999], piece[0]]);
        assert_eq!(body.read_at(2_999_999, 100).unwrap(), [piece[99_999]]);
        assert_eq!(body.read_at(5_000_000, 100).unwrap(), [0_u8; 0]);
    }

    #[test]
    fn a_needle_is_found_wherever_it_lies_between_two_windows() {
        for place in [0, 1, WINDOW - 3, WINDOW - 1, WINDOW, 5 * WINDOW + 7] {
            let mut body = Body::default();
            body.push(&vec![b'-'; place]).unwrap();
            body.push(b"--X--").unwrap();
            body.push(&[b'.'; 100]).unwrap();
            assert_eq!(body.find(b"X--", 0).unwrap(), Some(place as u64 + 2), "{place}");
            assert_eq!(body.find(b"X--", place as u64 + 3).unwrap(), None);
        }
    }
}
