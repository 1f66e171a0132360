//! Compressed images, unpacked as a stream: bounded, hashed on both sides, zeros left as holes.

use pve_types::hex;
use sha2::digest::DynDigest;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use vmdeploy_planner::plan::{Compression, Unpack};

/// How a compressed file came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// The size of what came out.
    pub size: u64,
    /// SHA-256 of what came out, in hexadecimal.
    pub sha256: String,
    /// The checksum of the compressed file by the algorithm that was asked for, in hexadecimal.
    pub source: Option<String>,
}

/// Why a file was not unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The file cannot be read, or is damaged.
    #[error("`{}` cannot be decompressed: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        reason: String,
    },
    /// More came out than may.
    #[error("`{}` decompresses to more than {limit} bytes, {why}; stopped there", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is taken, in bytes.
        limit: u64,
        /// Where the limit comes from.
        why: &'static str,
    },
    /// There is no room for what comes out.
    #[error("cannot write the decompressed `{}`: {reason}", .path.display())]
    Sink {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        reason: String,
    },
    /// A checksum of this algorithm cannot be computed here.
    #[error("the {algorithm} checksum of a compressed image is not supported")]
    Algorithm {
        /// The algorithm.
        algorithm: String,
    },
    /// It was given up.
    #[error("decompression of `{}` was aborted", .path.display())]
    Stopped {
        /// The file.
        path: PathBuf,
    },
}

/// What is unpacked at once.
const CHUNK: usize = 1 << 20;
/// Zeros of this length become a hole.
const HOLE: usize = 64 * 1024;
/// The window and dictionary that a decoder may hold: what `xz -9` and `zstd --ultra -22 --long=27` need.
const DECODER_MEMORY: u64 = 192 << 20;
/// What stays free on the disk that is unpacked to.
const SPARE: u64 = 256 << 20;

/// Unpacks `path` into a new file in `folder`, which is gone when the value is. Blocks.
///
/// `on_progress` is told how much of how much was read, and answers whether to go on.
///
/// # Errors
/// [`UnpackError`]; nothing is left then.
pub fn unpack_into(
    folder: &Path,
    path: &Path,
    how: &Unpack,
    algorithm: Option<&str>,
    on_progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<(tempfile::NamedTempFile, Unpacked), UnpackError> {
    let failed = |error: io::Error| UnpackError::Sink { path: path.to_owned(), reason: error.to_string() };
    let space = rustix::fs::statvfs(folder).map_err(|error| failed(error.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize).saturating_sub(SPARE);
    let file = tempfile::Builder::new().prefix(".unpacked-").tempfile_in(folder).map_err(failed)?;
    let mut sink = Sparse { file: file.as_file().try_clone().map_err(failed)?, size: 0, written: 0, free };
    let unpacked = unpack(path, how, free, algorithm, &mut sink, on_progress)?;
    sink.file.set_len(sink.size).and_then(|()| sink.file.sync_all()).map_err(failed)?;
    Ok((file, unpacked))
}

/// Returns what `path` unpacks to, and keeps nothing of it. Blocks.
///
/// # Errors
/// As [`unpack_into`].
pub fn unpacked_digest(
    path: &Path,
    how: &Unpack,
    on_progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Unpacked, UnpackError> {
    unpack(path, how, u64::MAX, None, &mut io::sink(), on_progress)
}

fn unpack(
    path: &Path,
    how: &Unpack,
    free: u64,
    algorithm: Option<&str>,
    sink: &mut dyn Write,
    on_progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Unpacked, UnpackError> {
    let damaged =
        |error: io::Error| UnpackError::Damaged { path: path.to_owned(), reason: error.to_string() };
    let source = File::open(path).map_err(damaged)?;
    let total = source.metadata().map_err(damaged)?.len();
    let mut limit = Limit::of(how, free);
    let sums = algorithm.map(|algorithm| {
        hasher(algorithm).ok_or_else(|| UnpackError::Algorithm { algorithm: algorithm.to_owned() })
    });
    let mut hashed = Hashed { source, sum: sums.transpose()? };
    let (mut sum, mut size) = (Sha256::new(), 0_u64);
    {
        let mut decoder = decoder(how.compression, &mut hashed).map_err(damaged)?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = fill(&mut *decoder.0, &mut buffer).map_err(damaged)?;
            if count == 0 {
                break;
            }
            if size == 0 {
                limit.heed_header(&buffer[..count]);
            }
            size += count as u64;
            if size > limit.bytes {
                return Err(UnpackError::TooLarge {
                    path: path.to_owned(),
                    limit: limit.bytes,
                    why: limit.why,
                });
            }
            sha2::Digest::update(&mut sum, &buffer[..count]);
            let unwritable =
                |error: io::Error| UnpackError::Sink { path: path.to_owned(), reason: error.to_string() };
            sink.write_all(&buffer[..count]).map_err(unwritable)?;
            let done = decoder.1.get();
            if !on_progress(done, total) {
                return Err(UnpackError::Stopped { path: path.to_owned() });
            }
        }
    }
    // Whatever follows the compressed data belongs to the file, and to its checksum.
    io::copy(&mut hashed, &mut io::sink()).map_err(damaged)?;
    let source = hashed.sum.map(|sum| hex(sum.finalize()));
    Ok(Unpacked { size, sha256: hex(sum.finalize()), source })
}

/// The most that may come out, and why.
struct Limit {
    bytes: u64,
    why: &'static str,
}

impl Limit {
    fn of(how: &Unpack, free: u64) -> Self {
        match how.disk_size {
            Some(size) => Self { bytes: with_metadata(size.get()), why: "the declared `size:`" },
            None => Self {
                bytes: free,
                why: "the free space on this machine's disk; set `size:` in the image if more is expected",
            },
        }
    }
    /// A qcow2 file says in its first bytes how large its disk is.
    // QEMU: docs/interop/qcow2.txt: magic `QFI\xfb`, virtual size as a big-endian number at byte 24.
    fn heed_header(&mut self, start: &[u8]) {
        let is_qcow2 = start.starts_with(b"QFI\xfb");
        let Some(size) = start.get(24..32).filter(|_| is_qcow2).and_then(|bytes| bytes.try_into().ok())
        else {
            return;
        };
        let bytes = with_metadata(u64::from_be_bytes(size));
        if bytes < self.bytes {
            *self = Self { bytes, why: "the size in its header" };
        }
    }
}

/// A disk's size plus the overhead of its format.
fn with_metadata(size: u64) -> u64 {
    size.saturating_add(size / 8).saturating_add(4 << 20)
}

/// A source that is hashed as it is read.
struct Hashed {
    source: File,
    sum: Option<Box<dyn DynDigest>>,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        if let Some(sum) = &mut self.sum {
            sum.update(&buffer[..count]);
        }
        Ok(count)
    }
}

/// Tells how far a reader is while a decoder holds it.
struct Told<'a> {
    source: &'a mut Hashed,
    done: std::rc::Rc<std::cell::Cell<u64>>,
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.done.set(self.done.get() + count as u64);
        Ok(count)
    }
}

type Decoder<'a> = (Box<dyn Read + 'a>, std::rc::Rc<std::cell::Cell<u64>>);

fn decoder<'a>(compression: Compression, source: &'a mut Hashed) -> io::Result<Decoder<'a>> {
    let done = std::rc::Rc::default();
    let source = BufReader::with_capacity(CHUNK, Told { source, done: std::rc::Rc::clone(&done) });
    let decoder: Box<dyn Read + 'a> = match compression {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Xz => {
            let memory_kib = u32::try_from(DECODER_MEMORY / 1024).unwrap_or(u32::MAX);
            Box::new(lzma_rust2::XzReader::new_mem_limit(source, true, memory_kib))
        }
        Compression::Zstd => Box::new(ZstdFrames { source, frame: None }),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
    };
    Ok((decoder, done))
}

/// The frames of a `.zst` file, one after the other; the checksum of each is verified.
struct ZstdFrames<R: Read> {
    source: BufReader<R>,
    frame: Option<ruzstd::decoding::FrameDecoder>,
}

impl<R: Read> ZstdFrames<R> {
    /// Begins the next frame; `false` at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            let mut frame = ruzstd::decoding::FrameDecoder::new();
            frame.set_max_window_size(DECODER_MEMORY);
            match frame.init(&mut self.source) {
                Ok(()) => {
                    self.frame = Some(frame);
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped = io::copy(&mut (&mut self.source).take(u64::from(length)), &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
        }
    }
}

impl<R: Read> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.frame.is_none() && !self.next_frame()? {
                return Ok(0);
            }
            let Some(frame) = &mut self.frame else { return Ok(0) };
            while frame.can_collect() == 0 && !frame.is_finished() {
                let some = ruzstd::decoding::BlockDecodingStrategy::UptoBlocks(1);
                frame
                    .decode_blocks(&mut self.source, some)
                    .map_err(|error| io::Error::other(error.to_string()))?;
            }
            let count = frame.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            let (said, computed) = (frame.get_checksum_from_data(), frame.get_calculated_checksum());
            if said.is_some() && said != computed {
                return Err(io::Error::other("its checksum is wrong"));
            }
            self.frame = None;
        }
    }
}

/// Reads until the buffer is full or the source ends.
fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A file in which zeros are holes, so that a disk of zeros takes no room.
struct Sparse {
    file: File,
    size: u64,
    written: u64,
    free: u64,
}

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.chunks(HOLE) {
            if piece.iter().any(|byte| *byte != 0) {
                self.written += piece.len() as u64;
                if self.written > self.free {
                    return Err(io::Error::other(format!(
                        "only {} bytes are free on this machine's disk",
                        self.free
                    )));
                }
                self.file.seek(SeekFrom::Start(self.size))?;
                self.file.write_all(piece)?;
            }
            self.size += piece.len() as u64;
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn hasher(algorithm: &str) -> Option<Box<dyn DynDigest>> {
    Some(match algorithm {
        "sha1" => Box::<sha1::Sha1>::default(),
        "sha224" => Box::<sha2::Sha224>::default(),
        "sha256" => Box::<Sha256>::default(),
        "sha384" => Box::<sha2::Sha384>::default(),
        "sha512" => Box::<sha2::Sha512>::default(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pve_types::Bytes;

    fn compressed(compression: Compression, data: &[u8]) -> Vec<u8> {
        match compression {
            Compression::Gzip => {
                let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                out.write_all(data).unwrap();
                out.finish().unwrap()
            }
            Compression::Xz => {
                let mut out =
                    lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
                out.write_all(data).unwrap();
                out.finish().unwrap()
            }
            Compression::Zstd => {
                ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
            }
            Compression::Bzip2 => {
                let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                out.write_all(data).unwrap();
                out.finish().unwrap()
            }
        }
    }

    fn data() -> Vec<u8> {
        let mut data: Vec<u8> =
            (0..300_000_u32).flat_map(|number| (number ^ (number >> 3)).to_le_bytes()).collect();
        data.extend(vec![0; 3 * CHUNK]);
        data.extend(b"the end");
        data
    }

    fn how(compression: Compression, disk_size: Option<u64>) -> Unpack {
        Unpack { compression, disk_size: disk_size.map(Bytes::new) }
    }

    fn file(folder: &tempfile::TempDir, bytes: &[u8]) -> PathBuf {
        let path = folder.path().join("image");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn sha256(bytes: &[u8]) -> String {
        hex(Sha256::digest(bytes))
    }

    #[test]
    fn every_compression_comes_out_whole_with_both_checksums() {
        let folder = tempfile::tempdir().unwrap();
        let data = data();
        for compression in Compression::ALL {
            // Two streams in one file are what `cat a.gz b.gz` and parallel compressors write.
            let half = data.len() / 2;
            let packed =
                [compressed(compression, &data[..half]), compressed(compression, &data[half..])].concat();
            assert_eq!(Compression::of(&packed), Some(compression));
            let path = file(&folder, &packed);
            let mut told = 0;
            let (found, unpacked) =
                unpack_into(folder.path(), &path, &how(compression, None), Some("sha256"), &mut |done, _| {
                    told = done;
                    true
                })
                .unwrap();
            assert!(std::fs::read(found.path()).unwrap() == data, "{compression:?}");
            let expect =
                Unpacked { size: data.len() as u64, sha256: sha256(&data), source: Some(sha256(&packed)) };
            assert_eq!(unpacked, expect, "{compression:?}");
            assert!(told > 0 && told <= packed.len() as u64);
        }
    }

    #[test]
    fn what_is_cut_short_or_changed_is_refused_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        for compression in Compression::ALL {
            let whole = compressed(compression, &data());
            let mut changed = whole.clone();
            let middle = changed.len() / 2;
            changed[middle] ^= 0x55;
            for bad in [&whole[..whole.len() - 20], &changed] {
                let path = file(&folder, bad);
                let result =
                    unpack_into(folder.path(), &path, &how(compression, None), None, &mut |_, _| true);
                assert!(matches!(result, Err(UnpackError::Damaged { .. })), "{compression:?}: {result:?}");
            }
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{compression:?}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_size_that_was_declared_or_that_its_header_says() {
        let folder = tempfile::tempdir().unwrap();
        let mut bomb = vec![0_u8; 6 << 20];
        let path = file(&folder, &compressed(Compression::Zstd, &bomb));
        let stopped =
            |how: &Unpack, path: &Path| unpacked_digest(path, how, &mut |_, _| true).unwrap_err().to_string();
        let text = stopped(&how(Compression::Zstd, Some(1_000)), &path);
        assert!(text.contains("the declared `size:`"), "{text}");
        bomb[..4].copy_from_slice(b"QFI\xfb");
        bomb[24..32].copy_from_slice(&1_000_000_u64.to_be_bytes());
        let path = file(&folder, &compressed(Compression::Zstd, &bomb));
        let text = stopped(&how(Compression::Zstd, Some(1 << 40)), &path);
        assert!(text.contains("the size in its header"), "{text}");
        assert!(unpacked_digest(&path, &how(Compression::Zstd, None), &mut |_, _| false).is_err());
    }
}
