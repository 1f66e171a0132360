//! Storages, images, and snippets.

use crate::drive::job::{Done, Job};
use crate::{Failure, FailureKind, Reach, TookEffect, unpack_into};
use pve_api::{Checksum, ContentFilter, Download, FileContent, Finished, Task, UploadSource};
use pve_ssh::command::{files, pvesm};
use pve_ssh::parse::{self, StorageState};
use pve_types::{Bytes, NodeName, StorageId, VolumeId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use vmdeploy_planner::plan::{Action, ImageOrigin, Transport, Unpack};

impl Job {
    /// Makes sure that the node's storages are active and have room for what will be written.
    pub(super) async fn probe_storage(
        &self,
        node: &NodeName,
        needed: &BTreeMap<StorageId, Bytes>,
    ) -> Result<Done, Failure> {
        let states = match self.step.transport {
            Transport::Ssh => {
                // Queries that precede the creation of guests run concurrently.
                let (states, ()) = tokio::join!(self.storages_by_ssh(node), self.list_ahead(node));
                states?
            }
            Transport::Api | Transport::Local => self.storages_by_api(node, needed).await?,
        };
        for (storage, bytes) in needed {
            let unfit = |text: String| Failure::new(FailureKind::StorageUnfit, text).at(node);
            match states.get(storage) {
                None => return Err(unfit(format!("node {node} has no storage `{storage}`"))),
                Some(None) => return Err(unfit(format!("storage `{storage}` is not active on {node}"))),
                Some(Some(free)) if free < bytes => {
                    let text =
                        format!("storage `{storage}` on {node} has {free} free, but {bytes} are required");
                    return Err(Failure::new(FailureKind::StorageFull, text).at(node));
                }
                Some(Some(_)) => {}
            }
        }
        Ok(Done::already())
    }

    /// Returns what is free on each storage; `None` for one that is not active.
    async fn storages_by_ssh(&self, node: &NodeName) -> Result<BTreeMap<StorageId, Option<Bytes>>, Failure> {
        let output = self.run(node, &pvesm::status()).await?;
        let rows = parse::pvesm_status(&output.stdout).map_err(pve_ssh::Error::from)?;
        let free = |row: &parse::StorageRow| (row.state == StorageState::Active).then_some(row.available);
        Ok(rows.iter().map(|row| (row.id.clone(), free(row))).collect())
    }

    async fn storages_by_api(
        &self,
        node: &NodeName,
        needed: &BTreeMap<StorageId, Bytes>,
    ) -> Result<BTreeMap<StorageId, Option<Bytes>>, Failure> {
        let mut states = BTreeMap::new();
        for storage in needed.keys() {
            match self.shared.connections.api().node(node).storage(storage).status().await {
                Ok(state) => {
                    let free = state.is_usable().then(|| Bytes::new(state.avail.unwrap_or(0)));
                    states.insert(storage.clone(), free);
                }
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(states)
    }

    /// Makes sure that a file on the node is there, and is what the spec says.
    pub(super) async fn verify_image(
        &self,
        node: &NodeName,
        path: &str,
        checksum: Option<&str>,
    ) -> Result<Done, Failure> {
        let unfit = |text: String| Failure::new(FailureKind::ImageUnfit, text).at(node);
        let Some((algorithm, expected)) = checksum.and_then(|checksum| checksum.split_once(':')) else {
            self.run(node, &files::is_file(path)).await.map_err(|failure| match failure.kind {
                FailureKind::CommandFailed => unfit(format!("`{path}` does not exist on {node}")),
                _ => failure,
            })?;
            return Ok(Done::already());
        };
        let bits = match algorithm {
            "sha1" => 1,
            "sha256" => 256,
            "sha512" => 512,
            other => return Err(unfit(format!("`{other}` checksums cannot be computed on the node"))),
        };
        let output = self.run(node, &files::checksum(bits, path)).await?;
        let found = parse::checksum(bits, &output.stdout).map_err(pve_ssh::Error::from)?;
        match found.eq_ignore_ascii_case(expected) {
            true => Ok(Done::already()),
            false => {
                Err(unfit(format!("`{path}` on {node} has checksum {algorithm}:{found}, not {expected}")))
            }
        }
    }

    /// Makes sure that an image is there as a volume. One that is there already is left as it is.
    pub(super) async fn place_image(
        &self,
        node: &NodeName,
        volume: &VolumeId,
        origin: &ImageOrigin,
        checksum: Option<&str>,
    ) -> Result<Done, Failure> {
        if self.probe {
            self.reattach().await?;
        }
        if self.has_volume(node, volume).await? {
            let done = Done::volume(volume.clone());
            return Ok(if self.probe { self.found_done(done) } else { Done::already() });
        }
        let (kind, file_name) = volume.name().split_once('/').unwrap_or(("import", volume.name()));
        let content = match kind {
            "iso" => FileContent::Iso,
            _ => FileContent::Import,
        };
        let checksum = checksum
            .and_then(|checksum| checksum.split_once(':'))
            .map(|(algorithm, value)| Checksum { algorithm: algorithm.to_owned(), value: value.to_owned() });
        let storage = self.shared.connections.api().node(node).storage(volume.storage());
        let finished = match origin {
            ImageOrigin::Url { url } => {
                let what = Download {
                    url: url.clone(),
                    content,
                    file_name: file_name.to_owned(),
                    checksum,
                    compression: None,
                    verify_certificates: None,
                };
                let task = storage.download_url(&what).await?;
                self.placed(node, volume, task).await?
            }
            ImageOrigin::File { path, unpack } => {
                let mut path = self.local(path)?;
                let mut checksum = checksum;
                // Kept until the image is sent.
                let mut _unpacked = None;
                if let Some(how) = unpack {
                    let (file, sum) = self.unpacked(&path, how, checksum.take()).await?;
                    (path, checksum) = (file.path().to_owned(), Some(sum));
                    _unpacked = Some(file);
                }
                if self.shared.connections.is_pvesh() {
                    return self.send_image(node, volume, &path, checksum.as_ref()).await;
                }
                let source = UploadSource::file(&path).await.map_err(|error| unreadable(&path, &error))?;
                let progress = |sent: pve_api::UploadProgress| {
                    let percent = (sent.total > 0).then(|| sent.sent as f64 * 100.0 / sent.total as f64);
                    self.tell(percent, "uploads the image");
                };
                let task = storage.upload(content, file_name, source, checksum.as_ref(), progress).await?;
                self.placed(node, volume, task).await?
            }
        };
        match self.has_volume(node, volume).await? {
            true => Ok(Done::volume(volume.clone()).with(Some(finished))),
            false => {
                let text = format!("the image was uploaded, but {volume} does not exist");
                Err(Failure::new(FailureKind::Answer, text).effect(TookEffect::Maybe))
            }
        }
    }

    /// Follows the task that places an image. When it fails, PVE takes away what it had: whether it did is looked at.
    async fn placed(&self, node: &NodeName, volume: &VolumeId, task: Task) -> Result<Finished, Failure> {
        match self.follow(task).await {
            Err(failure) if failure.upid.is_some() && failure.kind != FailureKind::Deadline => {
                match self.has_volume(node, volume).await {
                    Ok(false) => Err(failure.effect(TookEffect::No)),
                    _ => Err(failure),
                }
            }
            other => other,
        }
    }

    /// Unpacks a compressed image into the folder of runs, and returns the checksum of what came out; `checksum` is that
    /// of the compressed file.
    async fn unpacked(
        &self,
        path: &Path,
        how: &Unpack,
        checksum: Option<Checksum>,
    ) -> Result<(tempfile::NamedTempFile, Checksum), Failure> {
        let (folder, source, how) =
            (self.shared.options.0.runs.path().to_owned(), path.to_owned(), how.clone());
        let algorithm = checksum.as_ref().map(|checksum| checksum.algorithm.clone());
        let (sender, mut told) = tokio::sync::watch::channel(0.0_f64);
        let work = tokio::task::spawn_blocking(move || {
            // The receiver is gone if the step was aborted.
            let mut progress =
                |done: u64, total: u64| sender.send(done as f64 * 100.0 / total.max(1) as f64).is_ok();
            unpack_into(&folder, &source, &how, algorithm.as_deref(), &mut progress)
        });
        while told.changed().await.is_ok() {
            let percent = *told.borrow_and_update();
            self.tell(Some(percent), "decompresses the image");
        }
        let unfit = |text: String| Failure::new(FailureKind::ImageUnfit, text);
        let unpacked = work.await.map_err(|error| unfit(format!("decompression failed: {error}")))?;
        let (file, unpacked) = unpacked.map_err(|error| unfit(error.to_string()))?;
        if let (Some(expected), Some(found)) = (&checksum, &unpacked.source)
            && !found.eq_ignore_ascii_case(&expected.value)
        {
            let (algorithm, value) = (&expected.algorithm, &expected.value);
            return Err(unfit(format!("`{}` has checksum {algorithm}:{found}, not {value}", path.display())));
        }
        let sum = Checksum { algorithm: "sha256".to_owned(), value: unpacked.sha256 };
        Ok((file, sum))
    }

    /// Sends an image by SFTP to where the storage keeps it.
    async fn send_image(
        &self,
        node: &NodeName,
        volume: &VolumeId,
        path: &Path,
        checksum: Option<&Checksum>,
    ) -> Result<Done, Failure> {
        let target = self.path_of(node, volume).await?;
        let upload = pve_ssh::Upload::file(path, target.clone());
        let mut progress = |sent: Bytes, total: Bytes| {
            let percent = (total.get() > 0).then(|| sent.get() as f64 * 100.0 / total.get() as f64);
            self.tell(percent, "uploads the image");
        };
        self.host(node).await?.upload(&upload, &mut progress).await.map_err(Failure::from)?;
        if let Some(checksum) = checksum {
            let text = format!("{}:{}", checksum.algorithm, checksum.value);
            self.verify_image(node, &target, Some(&text)).await?;
        }
        Ok(Done::volume(volume.clone()))
    }

    /// Reads back whether a file arrived although placing it failed: an image that is not there is not left.
    pub(crate) async fn with_what_arrived(&self, failure: Failure) -> Failure {
        let (node, volume) = match &self.step.action {
            Action::PlaceImage { node, volume, .. } | Action::PlaceSnippet { node, volume, .. } => {
                (node, volume)
            }
            _ => return failure,
        };
        let is_open = matches!(failure.kind, FailureKind::Deadline | FailureKind::Interrupted);
        if failure.took_effect == TookEffect::No || is_open {
            return failure;
        }
        match self.has_volume(node, volume).await {
            // A task that still works would make it later.
            Ok(false) if !matches!(self.is_being_placed(node).await, Ok(false)) => failure,
            Ok(false) => failure.effect(TookEffect::No),
            Ok(true) => failure.effect(TookEffect::Yes),
            Err(_) => failure,
        }
    }

    /// Tells whether a task on the node receives a file.
    async fn is_being_placed(&self, node: &NodeName) -> Result<bool, Failure> {
        let filter = pve_api::TaskFilter {
            source: Some(pve_api::TaskSource::Active),
            limit: Some(500),
            ..pve_api::TaskFilter::default()
        };
        let tasks = self.shared.connections.api().node(node).tasks(&filter).await?;
        // PVE: pve-storage src/PVE/API2/Storage/Status.pm: the workers of upload and download.
        let receives = |kind: Option<&str>| matches!(kind, Some("imgcopy" | "download"));
        Ok(tasks.iter().any(|task| task.endtime.is_none() && receives(task.task_type.as_deref())))
    }

    async fn has_volume(&self, node: &NodeName, volume: &VolumeId) -> Result<bool, Failure> {
        let storage = self.shared.connections.api().node(node).storage(volume.storage());
        let content = storage.content(&ContentFilter::default()).await?;
        Ok(content.iter().any(|found| found.volid == *volume))
    }

    async fn has_file(&self, node: &NodeName, path: &str) -> Result<bool, Failure> {
        match self.run(node, &files::is_file(path)).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.kind == FailureKind::CommandFailed => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn path_of(&self, node: &NodeName, volume: &VolumeId) -> Result<String, Failure> {
        let output = self.run(node, &pvesm::path(volume)).await?;
        Ok(parse::pvesm_path(&output.stdout).map_err(pve_ssh::Error::from)?)
    }

    /// Writes a snippet by SFTP. A file that changed since the plan was made is refused.
    pub(super) async fn place_snippet(
        &self,
        node: &NodeName,
        volume: &VolumeId,
        source: &str,
        sha256: &str,
    ) -> Result<Done, Failure> {
        let path = self.local(source)?;
        let bytes = tokio::fs::read(&path).await.map_err(|error| unreadable(&path, &error))?;
        if vmdeploy_planner::digest::of_bytes(&bytes) != sha256 {
            let text = format!("`{}` has changed since the plan was created", path.display());
            return Err(Failure::new(FailureKind::ImageUnfit, text).hint("`vmdeploy plan` shows a new plan"));
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            Failure::new(FailureKind::ImageUnfit, format!("`{}` is not UTF-8 text", path.display()))
        })?;
        let target = self.path_of(node, volume).await?;
        if !self.probe && self.has_file(node, &target).await? {
            // Its name is that of its content: another run or VM wrote the same.
            return Ok(Done::already());
        }
        self.saw(Vec::new()).await?;
        let upload = pve_ssh::Upload::private_text(text, target);
        self.host(node).await?.upload(&upload, &mut |_, _| {}).await.map_err(Failure::from)?;
        Ok(Done::volume(volume.clone()))
    }

    /// Returns the real path of a file on this machine that the plan may name.
    fn local(&self, name: &str) -> Result<PathBuf, Failure> {
        self.shared.options.0.files.check(name, Reach::Confined).map_err(|error| {
            let failure = Failure::new(FailureKind::ImageUnfit, format!("`{name}` {error}"));
            error.hint().into_iter().fold(failure, Failure::hint)
        })
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::ImageUnfit, format!("`{}` cannot be read: {error}", path.display()))
}
