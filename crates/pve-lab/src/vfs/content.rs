//! A file's bytes: sparse, and out of memory once they are many.
//!
//! Bytes are kept in chunks of 64 KiB. A chunk of zeros costs nothing; chunks past the first MiB of a
//! file go to one unlinked temporary file, so that an upload of a GiB does not fill the memory.
//! Copies share their chunks.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::FsError;

/// Bytes in one chunk.
pub(super) const CHUNK: u64 = 64 * 1024;
/// Chunks of each file that stay in memory.
const CHUNKS_IN_MEMORY: u64 = 16;
/// Nothing in the lab is longer than this (64 TiB).
const MAX_LENGTH: u64 = 1 << 46;

/// The temporary file that holds the chunks of large files.
#[derive(Debug, Default)]
pub(super) struct Spill {
    file: OnceLock<Option<File>>,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    next: u64,
    free: Vec<u64>,
}

impl Spill {
    fn store(self: &Arc<Self>, data: &[u8]) -> Result<SpilledChunk, FsError> {
        let file = self.file.get_or_init(|| tempfile::tempfile().ok()).as_ref().ok_or(FsError::Io)?;
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.free.pop().unwrap_or_else(|| {
                slots.next += 1;
                slots.next - 1
            })
        };
        let chunk = SpilledChunk { spill: Arc::clone(self), slot, length: data.len() };
        file.write_all_at(data, slot * CHUNK).map_err(|_| FsError::NoSpace)?;
        Ok(chunk)
    }
}

/// One chunk in the spill file; its slot is given back when the last user goes.
#[derive(Debug)]
struct SpilledChunk {
    spill: Arc<Spill>,
    slot: u64,
    length: usize,
}

impl SpilledChunk {
    fn load(&self) -> Result<Vec<u8>, FsError> {
        let file = self.spill.file.get().and_then(Option::as_ref).ok_or(FsError::Io)?;
        let mut data = vec![0; self.length];
        file.read_exact_at(&mut data, self.slot * CHUNK).map_err(|_| FsError::Io)?;
        Ok(data)
    }
}

impl Drop for SpilledChunk {
    fn drop(&mut self) {
        self.spill.slots.lock().unwrap_or_else(PoisonError::into_inner).free.push(self.slot);
    }
}

#[derive(Clone, Debug)]
enum Chunk {
    Zeros(u64),
    Memory(Arc<Vec<u8>>),
    Spilled(Arc<SpilledChunk>),
}

impl Chunk {
    fn allocated(&self) -> u64 {
        let length = match self {
            Self::Zeros(length) => *length,
            Self::Memory(data) => data.len() as u64,
            Self::Spilled(chunk) => chunk.length as u64,
        };
        length.next_multiple_of(4096)
    }

    fn load(&self) -> Result<Vec<u8>, FsError> {
        match self {
            Self::Zeros(length) => Ok(vec![0; usize::try_from(*length).map_err(|_| FsError::Io)?]),
            Self::Memory(data) => Ok(data.as_ref().clone()),
            Self::Spilled(chunk) => chunk.load(),
        }
    }
}

/// The bytes of one file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    length: u64,
    chunks: BTreeMap<u64, Chunk>,
    allocated: u64,
    /// Bytes that count as allocated although nothing is kept (images that are only declared).
    declared: u64,
}

impl Content {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes taken from the file system.
    pub(super) fn allocated(&self) -> u64 {
        self.allocated.max(self.declared)
    }

    pub(super) fn declare(&mut self, allocated: u64) {
        self.declared = allocated;
    }

    /// Reads up to `length` bytes; fewer at the end of the file.
    pub(super) fn read_at(&self, offset: u64, length: u64) -> Result<Vec<u8>, FsError> {
        let end = self.length.min(offset.saturating_add(length));
        if offset >= end {
            return Ok(Vec::new());
        }
        let mut out = vec![0_u8; usize::try_from(end - offset).map_err(|_| FsError::Io)?];
        for (&index, chunk) in self.chunks.range(offset / CHUNK..=(end - 1) / CHUNK) {
            if matches!(chunk, Chunk::Zeros(_)) {
                continue;
            }
            let data = chunk.load()?;
            let start = index * CHUNK;
            let from = offset.max(start);
            let to = end.min(start + data.len() as u64);
            if from < to {
                let target = (from - offset) as usize..(to - offset) as usize;
                out[target].copy_from_slice(&data[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(out)
    }

    /// How many bytes more the file system must give for this write, at most.
    pub(super) fn growth(&self, offset: u64, length: u64) -> u64 {
        if length == 0 {
            return 0;
        }
        let end = offset.saturating_add(length);
        let mut growth = 0;
        for index in offset / CHUNK..=(end - 1) / CHUNK {
            let start = index * CHUNK;
            let needed = (end.min(start + CHUNK) - start).next_multiple_of(4096);
            growth += needed.saturating_sub(self.chunks.get(&index).map_or(0, Chunk::allocated));
        }
        (self.allocated + growth).saturating_sub(self.allocated())
    }

    pub(super) fn write_at(&mut self, offset: u64, bytes: &[u8], spill: &Arc<Spill>) -> Result<(), FsError> {
        let end = offset
            .checked_add(bytes.len() as u64)
            .filter(|end| *end <= MAX_LENGTH)
            .ok_or(FsError::TooLarge)?;
        let mut position = offset;
        while position < end {
            let index = position / CHUNK;
            let start = index * CHUNK;
            let stop = end.min(start + CHUNK);
            let piece = &bytes[(position - offset) as usize..(stop - offset) as usize];
            self.write_chunk(index, (position - start) as usize, piece, spill)?;
            position = stop;
        }
        self.length = self.length.max(end);
        Ok(())
    }

    fn write_chunk(
        &mut self,
        index: u64,
        at: usize,
        piece: &[u8],
        spill: &Arc<Spill>,
    ) -> Result<(), FsError> {
        let old = self.chunks.get(&index);
        let mut data = match old {
            Some(chunk) if !(at == 0 && piece.len() as u64 == CHUNK) => chunk.load()?,
            _ => Vec::new(),
        };
        if data.len() < at + piece.len() {
            data.resize(at + piece.len(), 0);
        }
        data[at..at + piece.len()].copy_from_slice(piece);
        let before = old.map_or(0, Chunk::allocated);
        let chunk = if data.iter().all(|byte| *byte == 0) {
            Chunk::Zeros(data.len() as u64)
        } else if index < CHUNKS_IN_MEMORY {
            Chunk::Memory(Arc::new(data))
        } else {
            Chunk::Spilled(Arc::new(spill.store(&data)?))
        };
        self.allocated = self.allocated - before + chunk.allocated();
        self.chunks.insert(index, chunk);
        Ok(())
    }

    pub(super) fn truncate(&mut self, length: u64, spill: &Arc<Spill>) -> Result<(), FsError> {
        if length > MAX_LENGTH {
            return Err(FsError::TooLarge);
        }
        if length < self.length {
            self.declared = self.declared.min(length);
            let cut = length.div_ceil(CHUNK);
            for (_, chunk) in self.chunks.split_off(&cut) {
                self.allocated -= chunk.allocated();
            }
            let last = length / CHUNK;
            if let Some(chunk) = self.chunks.remove(&last) {
                self.allocated -= chunk.allocated();
                let mut data = chunk.load()?;
                data.truncate((length - last * CHUNK) as usize);
                self.length = length;
                if !data.is_empty() {
                    self.write_chunk(last, 0, &data, spill)?;
                }
            }
        }
        self.length = length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(bytes: &[u8], at: u64) -> (Content, Arc<Spill>) {
        let spill = Arc::new(Spill::default());
        let mut content = Content::default();
        content.write_at(at, bytes, &spill).unwrap();
        (content, spill)
    }

    #[test]
    fn bytes_come_back_across_chunks_and_out_of_the_spill_file() {
        let data: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (content, _spill) = filled(&data, 100);
        assert_eq!(content.length(), 3_000_100);
        assert_eq!(content.read_at(100, 5_000_000).unwrap(), data);
        assert_eq!(content.read_at(0, 100).unwrap(), vec![0; 100]);
        assert_eq!(content.read_at(2_000_000, 7).unwrap(), data[1_999_900..1_999_907]);
    }

    #[test]
    fn holes_cost_nothing_and_written_zeros_count_as_used() {
        let (content, _spill) = filled(b"x", 10 << 30);
        assert_eq!(content.allocated(), 4096);
        let (zeros, _spill) = filled(&vec![0; 1 << 20], 0);
        assert_eq!(zeros.allocated(), 1 << 20);
    }

    #[test]
    fn a_truncated_file_reads_zeros_when_it_grows_again() {
        let (mut content, spill) = filled(&[7; 200_000], 0);
        content.truncate(100_000, &spill).unwrap();
        content.truncate(150_000, &spill).unwrap();
        let read = content.read_at(99_999, 3).unwrap();
        assert_eq!(read, [7, 0, 0]);
        assert!(content.allocated() < 110_000);
    }

    #[test]
    fn a_copy_keeps_its_bytes_when_the_original_is_overwritten() {
        let (mut content, spill) = filled(&[1; 2_000_000], 0);
        let copy = content.clone();
        content.write_at(1_500_000, &[2; 10], &spill).unwrap();
        assert_eq!(copy.read_at(1_500_000, 2).unwrap(), [1, 1]);
        assert_eq!(content.read_at(1_500_000, 2).unwrap(), [2, 2]);
    }
}
