//! Downloads by SFTP: to a temporary name, compared with the host's SHA-256, then renamed.

use crate::error::{DownloadError, Error};
use crate::host::Host;
use crate::sftp;
use crate::text::Escaped;
use crate::upload::OnProgress;
use pve_types::Bytes;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tracing::Instrument as _;

/// One download.
#[derive(Debug, Clone)]
pub struct Download {
    /// The file on the host, as an absolute path.
    pub source: String,
    /// Where it goes on this machine. What is there is replaced, in one moment, at the end.
    pub target: PathBuf,
    /// How long the host may send nothing.
    pub stall: Duration,
}

impl Download {
    /// Returns the download of `source` to `target`.
    pub fn new(source: impl Into<String>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), stall: Duration::from_secs(60) }
    }
}

/// What a download brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// The size of the file.
    pub size: Bytes,
    /// SHA-256 of the file, computed on the host and compared with what arrived, in hexadecimal.
    pub sha256: String,
}

/// What is read at once.
const CHUNK: usize = 1 << 20;

impl Host {
    /// Downloads a file: to a temporary name next to the target, its SHA-256 compared with the host's, fsynced, then
    /// renamed. A download that fails or is given up leaves nothing.
    ///
    /// # Errors
    /// [`Error::Download`]; until the rename, the target is untouched.
    pub async fn download(
        &self,
        download: &Download,
        on_progress: OnProgress<'_>,
    ) -> Result<Downloaded, Error> {
        let span =
            tracing::info_span!("download", host = %self.address(), source = %Escaped(&download.source));
        self.download_and_check(download, on_progress).instrument(span).await
    }

    async fn download_and_check(
        &self,
        download: &Download,
        on_progress: OnProgress<'_>,
    ) -> Result<Downloaded, Error> {
        let part = Part::next_to(&download.target);
        let local = |source| DownloadError::Local { path: download.target.clone(), source };
        // Left by a download that was killed; a link of that name would lead elsewhere.
        match tokio::fs::remove_file(&part.0).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(local(error).into()),
            _ => {}
        }
        let file = tokio::fs::File::create_new(&part.0).await.map_err(local)?;
        let privilege = self.privilege().await?;
        let (slot, channel) = self.open_channel("sftp").await?;
        let sftp = sftp::open(self, channel, privilege, download.stall).await?;
        let mut progress = (0, 0);
        let received = tokio::select! {
            received = self.receive(&sftp, download, file, &mut progress, on_progress) => Ok(received?),
            reason = slot.connection.ended() => Err(reason),
        };
        let received = received.map_err(|reason| self.stopped(download, progress, reason))?;
        let _ = sftp.close().await;
        let expected = self.sha256(&download.source, received.size.get()).await?;
        if received.sha256 != expected {
            let (address, path) = (self.address().to_owned(), download.source.clone());
            return Err(DownloadError::Checksum { address, path, expected, got: received.sha256 }.into());
        }
        tokio::fs::rename(&part.0, &download.target).await.map_err(local)?;
        Ok(received)
    }

    async fn receive(
        &self,
        sftp: &russh_sftp::client::SftpSession,
        download: &Download,
        mut file: tokio::fs::File,
        (done, size): &mut (u64, u64),
        on_progress: OnProgress<'_>,
    ) -> Result<Downloaded, DownloadError> {
        let refused = |reason: &str| DownloadError::Refused {
            address: self.address().to_owned(),
            path: download.source.clone(),
            reason: Escaped(reason).to_string(),
        };
        let local = |source| DownloadError::Local { path: download.target.clone(), source };
        file.set_max_buf_size(CHUNK);
        let mut remote = sftp.open(&download.source).await.map_err(|error| refused(&error.to_string()))?;
        let found = remote.metadata().await.map_err(|error| refused(&error.to_string()))?;
        if !found.is_regular() {
            return Err(refused("it is not a regular file"));
        }
        *size = found.size.unwrap_or(0);
        let mut sum = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = match tokio::time::timeout(download.stall, remote.read(&mut buffer)).await {
                Ok(Ok(count)) => count,
                Ok(Err(error)) => return Err(self.stopped(download, (*done, *size), error.to_string())),
                Err(_) => {
                    let reason = format!("no data for {} s", download.stall.as_secs());
                    return Err(self.stopped(download, (*done, *size), reason));
                }
            };
            if count == 0 {
                break;
            }
            sum.update(&buffer[..count]);
            file.write_all(&buffer[..count]).await.map_err(local)?;
            *done += count as u64;
            on_progress(Bytes::new(*done), Bytes::new(*size));
        }
        file.flush().await.map_err(local)?;
        file.sync_all().await.map_err(local)?;
        let sha256 = pve_types::hex(sum.finalize());
        Ok(Downloaded { size: Bytes::new(*done), sha256 })
    }

    fn stopped(&self, download: &Download, (done, size): (u64, u64), reason: String) -> DownloadError {
        DownloadError::Lost {
            address: self.address().to_owned(),
            path: download.source.clone(),
            done: Bytes::new(done),
            size: Bytes::new(size),
            reason: Escaped(&reason).to_string(),
        }
    }
}

/// The temporary file; gone when this is, unless it was renamed.
struct Part(PathBuf);

impl Part {
    fn next_to(target: &Path) -> Self {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        Self(target.with_file_name(format!(".{name}.{}.vmdeploy-part", std::process::id())))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
