//! Uploads by SFTP: pipelined, to a temporary name, checked on the far side, then renamed.

use crate::command::{Privilege, files};
use crate::error::{Error, UploadError};
use crate::host::Host;
use crate::parse;
use crate::sftp;
use crate::text::Escaped;
use pve_types::Bytes;
use russh_sftp::client::SftpSession;
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use sha2::{Digest as _, Sha256};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tracing::Instrument as _;

/// What is uploaded.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file of this machine; it is streamed, never held in memory.
    File(PathBuf),
    /// A small text.
    Text(String),
}

/// One upload.
#[derive(Debug, Clone)]
pub struct Upload {
    /// What is uploaded.
    pub source: Source,
    /// Where it goes: an absolute path on the host. What is there is replaced, in one moment, at the end.
    pub target: String,
    /// The mode of the new file.
    pub mode: u32,
    /// How long a second may pass without a byte being taken.
    pub stall: Duration,
}

impl Upload {
    /// Returns the upload of a file, readable by all, as an image or an ISO is.
    pub fn file(source: impl Into<PathBuf>, target: impl Into<String>) -> Self {
        Self {
            source: Source::File(source.into()),
            target: target.into(),
            mode: 0o644,
            stall: Duration::from_secs(60),
        }
    }

    /// Returns the upload of a text that only root may read, as cloud-init's user data is.
    pub fn private_text(text: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            source: Source::Text(text.into()),
            target: target.into(),
            mode: 0o600,
            stall: Duration::from_secs(60),
        }
    }
}

/// What an upload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// The size of the file.
    pub size: Bytes,
    /// What an earlier, broken upload had left and was used.
    pub resumed: Bytes,
    /// SHA-256 of the file, computed here and compared with the host's, in hexadecimal.
    pub sha256: String,
}

/// Is told how many bytes of how many have been taken by the host.
pub type OnProgress<'a> = &'a mut (dyn FnMut(Bytes, Bytes) + Send);

/// What is read at once, and how many of these wait to be sent.
const CHUNK: usize = 1 << 20;
const READ_AHEAD: usize = 4;

/// How the temporary name of an upload ends.
const PART: &str = ".vmdeploy-part";
/// An upload without a write for this long is abandoned and not resumed.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// What a resumed upload sends again: writes that were in flight when the first one broke.
const SENT_AGAIN: u64 = 4 << 20;

impl Host {
    /// Uploads a file or text: to a temporary name next to the target, fsynced, its SHA-256 compared on the host,
    /// then renamed. An upload that broke is resumed by the next one of the same file.
    ///
    /// # Errors
    /// [`Error::Upload`]; until the rename, the target is untouched.
    pub async fn upload(&self, upload: &Upload, on_progress: OnProgress<'_>) -> Result<Uploaded, Error> {
        let span = tracing::info_span!("upload", host = %self.address(), target = %Escaped(&upload.target));
        let started = std::time::Instant::now();
        let outcome = self.upload_and_check(upload, on_progress).instrument(span.clone()).await;
        let elapsed_ms = started.elapsed().as_millis() as u64;
        span.in_scope(|| match &outcome {
            Ok(done) => {
                tracing::debug!(size = %done.size, resumed = %done.resumed, elapsed_ms, "upload ended")
            }
            Err(error) => tracing::debug!(%error, elapsed_ms, "upload failed"),
        });
        outcome
    }

    async fn upload_and_check(
        &self,
        upload: &Upload,
        on_progress: OnProgress<'_>,
    ) -> Result<Uploaded, Error> {
        let (folder, name) = split_target(&upload.target)?;
        let (size, identity) = measure(&upload.source).await?;
        let temporary = format!("{folder}/.{name}.{identity}{PART}");
        let privilege = self.privilege().await?;
        let mut resume = true;
        loop {
            let job = Job { host: self, upload, temporary: &temporary, folder: &folder, size, privilege };
            let (sent, resumed) = job.send(resume, on_progress).await?;
            let got = self.sha256(&temporary, size).await?;
            if got == sent {
                let rename = files::rename(&temporary, &upload.target);
                self.run_to_success(&rename, Duration::from_secs(60)).await?;
                return Ok(Uploaded { size: Bytes::new(size), resumed: Bytes::new(resumed), sha256: sent });
            }
            self.run_to_success(&files::remove(&temporary), Duration::from_secs(60)).await?;
            // What an earlier upload had left may have been something else: once more, from the beginning.
            if resumed == 0 {
                let (address, target) = (self.address().to_owned(), upload.target.clone());
                return Err(UploadError::Checksum { address, target, expected: sent, got }.into());
            }
            resume = false;
        }
    }

    /// Returns the SHA-256 of a file on the host, in hexadecimal.
    pub(crate) async fn sha256(&self, path: &str, size: u64) -> Result<String, Error> {
        let output = self.run_to_success(&files::checksum(256, path), disk_time(size)).await?;
        Ok(parse::checksum(256, &output.stdout)?)
    }
}

/// How long the slowest disk in use, which takes or gives some MB a second, is busy with a file of `size` bytes.
fn disk_time(size: u64) -> Duration {
    Duration::from_secs(60 + size / 5_000_000)
}

/// One pass over the file.
struct Job<'a> {
    host: &'a Host,
    upload: &'a Upload,
    temporary: &'a str,
    folder: &'a str,
    size: u64,
    privilege: Privilege,
}

impl Job<'_> {
    /// Sends the file, or what is missing of it, and returns its SHA-256 and what was there.
    async fn send(&self, resume: bool, on_progress: OnProgress<'_>) -> Result<(String, u64), Error> {
        let (slot, channel) = self.host.open_channel("sftp").await?;
        // Writes have a limit of their own; the flush at the end may take as long as a slow disk does.
        let sftp = sftp::open(self.host, channel, self.privilege, disk_time(self.size)).await?;
        let mut done = 0;
        let work = self.transfer(&sftp, resume, &mut done, on_progress);
        let outcome = tokio::select! {
            outcome = work => outcome,
            reason = slot.connection.ended() => Err(self.lost(0, reason)),
        };
        let outcome = match outcome {
            Err(UploadError::Refused { reason, .. }) if slot.connection.is_closed() => {
                Err(self.lost(done, reason))
            }
            Err(UploadError::Lost { reason, .. }) => Err(self.lost(done, reason)),
            other => other,
        };
        let _ = sftp.close().await;
        Ok(outcome?)
    }

    async fn transfer(
        &self,
        sftp: &SftpSession,
        resume: bool,
        done: &mut u64,
        on_progress: OnProgress<'_>,
    ) -> Result<(String, u64), UploadError> {
        let present = if resume { self.present(sftp).await? } else { 0 };
        self.sweep(sftp).await;
        self.check_space(sftp, present).await?;
        let size = Bytes::new(self.size);
        let mut remote = self.create(sftp, present).await?;
        let (sender, mut chunks) = tokio::sync::mpsc::channel(READ_AHEAD);
        let reading = tokio::spawn(read_ahead(self.upload.source.clone(), self.size, present, sender));
        *done = present;
        on_progress(Bytes::new(*done), size);
        while let Some(chunk) = chunks.recv().await {
            match tokio::time::timeout(self.upload.stall, remote.write_all(&chunk)).await {
                Ok(written) => written.map_err(|error| self.io("write", &error))?,
                Err(_) => return Err(self.stalled()),
            }
            *done += chunk.len() as u64;
            on_progress(Bytes::new(*done), size);
        }
        // No chunk comes any more: all were read, or the reading failed.
        let sum = reading.await.map_err(|error| self.source_error(io::Error::other(error)))??;
        // Flushing waits for every write, and is fsync where the host knows it.
        remote.flush().await.map_err(|error| self.io("write", &error))?;
        remote.close().await.map_err(|error| self.io("close", &error))?;
        Ok((sum, present))
    }

    /// Returns how much of an earlier upload can be used.
    async fn present(&self, sftp: &SftpSession) -> Result<u64, UploadError> {
        use russh_sftp::client::error::Error::Status;
        match sftp.symlink_metadata(self.temporary).await {
            Ok(found) if found.is_regular() => {
                let size = found.size.unwrap_or(0);
                let fits = if size > self.size { 0 } else { size };
                Ok(fits.saturating_sub(SENT_AGAIN))
            }
            Ok(_) => Err(self.refused("write", "it exists and is not a file")),
            Err(Status(status)) if status.status_code == StatusCode::NoSuchFile => Ok(0),
            Err(error) => Err(self.refused("look at", &error.to_string())),
        }
    }

    /// Removes what abandoned uploads of other content to the same target left.
    async fn sweep(&self, sftp: &SftpSession) {
        let name = self.upload.target.rsplit('/').next().unwrap_or_default();
        let Ok(entries) = sftp.read_dir(self.folder).await else { return };
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        for entry in entries {
            let found = entry.file_name();
            let path = format!("{}/{found}", self.folder);
            let age = now.saturating_sub(u64::from(entry.metadata().mtime.unwrap_or(u32::MAX)));
            let is_part = found.strip_prefix(&format!(".{name}.")).is_some_and(|rest| rest.ends_with(PART));
            if is_part && path != self.temporary && age > ABANDONED_AFTER.as_secs() {
                tracing::debug!(path = %Escaped(&path), "removing an abandoned upload");
                let _ = sftp.remove_file(path).await;
            }
        }
    }

    async fn check_space(&self, sftp: &SftpSession, present: u64) -> Result<(), UploadError> {
        let info = sftp.fs_info(self.folder).await.map_err(|error| match &error {
            russh_sftp::client::error::Error::Status(status)
                if status.status_code == StatusCode::NoSuchFile =>
            {
                UploadError::Refused {
                    address: self.host.address().to_owned(),
                    doing: "look at",
                    path: self.folder.to_owned(),
                    reason: "the folder does not exist".to_owned(),
                }
            }
            _ => self.refused("look at the space for", &error.to_string()),
        })?;
        // A host that cannot tell will say so when it is full.
        let Some(info) = info else { return Ok(()) };
        let available = info.blocks_avail.saturating_mul(info.fragment_size);
        let needed = self.size.saturating_sub(present);
        if needed <= available {
            return Ok(());
        }
        Err(UploadError::NoSpace {
            address: self.host.address().to_owned(),
            target: self.upload.target.clone(),
            needed: Bytes::new(needed),
            available: Bytes::new(available),
        })
    }

    async fn create(
        &self,
        sftp: &SftpSession,
        present: u64,
    ) -> Result<russh_sftp::client::fs::File, UploadError> {
        let flags = if present == 0 {
            OpenFlags::CREATE | OpenFlags::TRUNCATE | OpenFlags::WRITE
        } else {
            OpenFlags::CREATE | OpenFlags::WRITE
        };
        let mut attributes = FileAttributes::empty();
        attributes.permissions = Some(self.upload.mode);
        let refused = |error: russh_sftp::client::error::Error| self.refused("create", &error.to_string());
        let opened = sftp.open_with_flags_and_attributes(self.temporary, flags, attributes.clone()).await;
        let mut file = opened.map_err(refused)?;
        // The mode of an open is subject to the host's umask, and counts for new files only.
        file.set_metadata(attributes).await.map_err(refused)?;
        file.seek(io::SeekFrom::Start(present))
            .await
            .map_err(|error| self.refused("write", &error.to_string()))?;
        Ok(file)
    }

    fn refused(&self, doing: &'static str, reason: &str) -> UploadError {
        UploadError::Refused {
            address: self.host.address().to_owned(),
            doing,
            path: self.temporary.to_owned(),
            reason: Escaped(reason).to_string(),
        }
    }

    /// A write that was not answered in time is a stall, on either side.
    fn io(&self, doing: &'static str, error: &io::Error) -> UploadError {
        if error.kind() == io::ErrorKind::TimedOut {
            self.stalled()
        } else {
            self.refused(doing, &error.to_string())
        }
    }

    fn lost(&self, done: u64, reason: String) -> UploadError {
        UploadError::Lost {
            address: self.host.address().to_owned(),
            target: self.upload.target.clone(),
            done: Bytes::new(done),
            size: Bytes::new(self.size),
            reason,
        }
    }

    fn stalled(&self) -> UploadError {
        UploadError::Stalled {
            address: self.host.address().to_owned(),
            target: self.upload.target.clone(),
            stall: self.upload.stall,
        }
    }

    fn source_error(&self, source: io::Error) -> UploadError {
        UploadError::Local { path: self.upload.source.path(), source }
    }
}

impl Source {
    fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Text(_) => PathBuf::from("(text)"),
        }
    }
}

/// Reads the source concurrently with sending it, passes on what follows `skip`, and returns the SHA-256 of all.
///
/// What is on the host already is read as well, for the checksum is that of the whole.
async fn read_ahead(
    source: Source,
    size: u64,
    skip: u64,
    chunks: tokio::sync::mpsc::Sender<Vec<u8>>,
) -> Result<String, UploadError> {
    let fail = |error| UploadError::Local { path: source.path(), source: error };
    let mut local = open_source(&source).await?;
    let mut hash = Sha256::new();
    let mut read = 0;
    while read < size {
        let end = if read < skip { skip } else { size };
        let want = usize::try_from(end - read).unwrap_or(usize::MAX).min(CHUNK);
        let mut chunk = vec![0; want];
        let count = local.read(&mut chunk).await.map_err(fail)?;
        if count == 0 {
            return Err(UploadError::Changed { path: source.path() });
        }
        chunk.truncate(count);
        hash.update(&chunk);
        read += count as u64;
        // The receiver is gone if the upload has failed.
        if read > skip && chunks.send(chunk).await.is_err() {
            break;
        }
    }
    if read == size && local.read(&mut [0; 1]).await.map_err(fail)? != 0 {
        return Err(UploadError::Changed { path: source.path() });
    }
    Ok(pve_types::hex(hash.finalize()))
}

/// Splits an absolute path into folder and name.
fn split_target(target: &str) -> Result<(String, String), UploadError> {
    let refuse = || UploadError::Target { target: target.to_owned() };
    let (folder, name) = target.rsplit_once('/').filter(|_| target.starts_with('/')).ok_or_else(refuse)?;
    if name.is_empty() || name == "." || name == ".." || target.contains('\0') || name.len() > 180 {
        return Err(refuse());
    }
    Ok((if folder.is_empty() { "/".to_owned() } else { folder.to_owned() }, name.to_owned()))
}

/// Returns the size, and a text that tells this content from others of the same name.
async fn measure(source: &Source) -> Result<(u64, String), UploadError> {
    match source {
        Source::Text(text) => {
            let sum = Sha256::digest(text.as_bytes());
            Ok((text.len() as u64, pve_types::hex(&sum[..6])))
        }
        Source::File(path) => {
            let fail = |source| UploadError::Local { path: path.clone(), source };
            let metadata = tokio::fs::metadata(path).await.map_err(fail)?;
            if !metadata.is_file() {
                return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
            }
            let modified = metadata.modified().map_err(fail)?;
            let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            Ok((metadata.len(), format!("{:x}-{:x}", metadata.len(), since.as_micros())))
        }
    }
}

async fn open_source(source: &Source) -> Result<Box<dyn AsyncRead + Send + Unpin>, UploadError> {
    match source {
        Source::Text(text) => Ok(Box::new(io::Cursor::new(text.clone().into_bytes()))),
        Source::File(path) => {
            let mut file = tokio::fs::File::open(path)
                .await
                .map_err(|source| UploadError::Local { path: path.clone(), source })?;
            file.set_max_buf_size(1 << 20);
            Ok(Box::new(file))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::human;

    #[test]
    fn a_target_is_an_absolute_path_of_a_file() {
        assert_eq!(split_target("/var/lib/vz/a.iso").unwrap(), ("/var/lib/vz".into(), "a.iso".into()));
        assert_eq!(split_target("/a").unwrap(), ("/".into(), "a".into()));
        for bad in ["", "/", "a", "a/b", "/a/", "/a/..", "/a/.", "/a\0b"] {
            assert!(split_target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_said_in_the_units_people_use() {
        for (bytes, expect) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(human(Bytes::new(bytes)), expect);
        }
    }
}
