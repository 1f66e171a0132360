//! Where images come from, and what must be done before a disk can be made of one.

use super::chain::Link;
use super::input::{Findings, PlanInput};
use super::transports::Shape;
use crate::digest;
use crate::plan::{
    Action, Compression, DiskSource, ImageOrigin, LocalFileFacts, Ref, Step, StepId, Transport,
    TransportChoice, Unpack,
};
use crate::spec::{Image, ImageSource, Span};
use pve_types::{Bytes, NodeName, StorageId, VolumeId};
use std::collections::{BTreeMap, BTreeSet};

/// The steps that several VMs need, by their names.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) steps: BTreeMap<StepId, Step>,
    /// What the plan needs of each storage, by node.
    pub(crate) space: BTreeMap<NodeName, BTreeMap<StorageId, Room>>,
}

/// What new volumes need of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Room {
    /// How large they are: what a storage that is not thin sets aside for them.
    pub(crate) size: Bytes,
    /// What is written to them at least while they are made: what a thin storage must have free.
    pub(crate) written: Bytes,
}

impl Room {
    /// Returns the room of volumes that are written whole.
    pub(crate) fn full(size: Bytes) -> Self {
        Self { size, written: size }
    }
    /// Returns the room of volumes of which it is not known whether anything is written.
    pub(crate) fn sparse(size: Bytes) -> Self {
        Self { size, written: Bytes::new(0) }
    }
    /// Returns the room of both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { size: self.size + other.size, written: self.written + other.written }
    }
    /// Returns what the storage must have free.
    pub(crate) fn needed(self, thin: bool) -> Bytes {
        if thin { self.written } else { self.size }
    }
}

impl Shared {
    /// Adds the step unless it is there; returns its name.
    pub(crate) fn add(&mut self, step: Step) -> StepId {
        let id = step.id.clone();
        self.steps.entry(id.clone()).or_insert(step);
        id
    }
    /// Records what new volumes need of a storage; returns the step that checks its free space.
    pub(crate) fn needs_room(&mut self, node: &NodeName, storage: &StorageId, room: Room) -> StepId {
        let sum = self.space.entry(node.clone()).or_default().entry(storage.clone()).or_default();
        *sum = sum.and(room);
        StepId(format!("-/{}", probe_name(node)))
    }
}

/// Returns the name of the step that asks a node about its storages.
pub(crate) fn probe_name(node: &NodeName) -> String {
    format!("probe-{node}")
}

/// An image, ready to be copied to a disk.
#[derive(Clone)]
pub(crate) struct ReadyImage {
    pub(crate) source: DiskSource,
    /// The steps that place or verify it.
    pub(crate) after: BTreeSet<StepId>,
    /// The size of the disk in it, where it is known.
    pub(crate) virtual_size: Option<Bytes>,
    /// How much is copied, as far as it is known.
    pub(crate) copied: Bytes,
}

/// Returns the digest that a disk's marker carries, so that a changed image is seen later.
pub(crate) fn source_digest(image: &Image) -> String {
    let place = match &image.source {
        ImageSource::Path { path } => format!("path {}", path.value),
        ImageSource::Volume { volume } => format!("volume {}", volume.value),
        ImageSource::File { path } => format!("file {}", path.value),
        ImageSource::Url { url } => format!("url {}", url.value),
        ImageSource::Build(build) => format!("build {} {}", build.vm.value, build.output.value),
    };
    // A checksum names the content: then it does not matter where the image lies.
    digest::short(image.checksum.as_ref().map_or(place.as_str(), |checksum| checksum.value.as_str()))
}

/// Returns the digest of what a file on this machine holds now, where no checksum in the spec names it: a disk's marker
/// contains it as well, so that a rebuilt file is detected.
pub(crate) fn content_digest(input: &PlanInput<'_>, image: &Image) -> Option<String> {
    let path = match &image.source {
        ImageSource::File { path } => Some(path),
        ImageSource::Build(build) => build.file.as_ref(),
        ImageSource::Path { .. } | ImageSource::Volume { .. } | ImageSource::Url { .. } => None,
    };
    let path = path.filter(|_| image.checksum.is_none())?;
    local_content(input, &path.value).map(|(sha256, _)| digest::short(&sha256))
}

/// Tells whether only a command on the node can read the image.
pub(crate) fn is_on_node(image: &Image) -> bool {
    matches!(image.source, ImageSource::Path { .. })
}

/// Readies an image for a disk on `node`; records what refuses it.
pub(crate) fn ready(
    input: &PlanInput<'_>,
    shared: &mut Shared,
    findings: &mut Findings,
    image: &Image,
    node: &NodeName,
    shape: Shape,
) -> Option<ReadyImage> {
    match &image.source {
        ImageSource::Path { path } => {
            on_node(input, shared, findings, image, (node, &path.value, path.span), shape)
        }
        ImageSource::Volume { volume } => in_pve(input, findings, image, node, (&volume.value, volume.span)),
        ImageSource::Url { url } => {
            let origin = ImageOrigin::Url { url: url.value.clone() };
            placed(input, shared, findings, image, (node, origin, url.span), &url.value)
        }
        ImageSource::File { path } => {
            if local_content(input, &path.value).is_none() {
                let message = format!("the file `{}` could not be read", path.value.escape_debug());
                let hint = "its path is relative to the spec's folder";
                findings.refuse(input.deployment, (path.span, path_of(image)), message, hint);
                return None;
            }
            let origin = local_origin(input, image, &path.value);
            placed(input, shared, findings, image, (node, origin, path.span), &path.value)
        }
        ImageSource::Build(build) => {
            let there = build.file.as_ref().filter(|file| local_content(input, &file.value).is_some());
            let Some(file) = there else {
                let message = format!("image `{}` has not been built yet", image.name);
                let hint = format!(
                    "build it with `vmdeploy image build {}`, which uses VM `{}`; `--target {}` deploys that VM first",
                    image.name, build.vm.value, build.vm.value
                );
                findings.refuse(input.deployment, (image.span, path_of(image)), message, hint);
                return None;
            };
            let origin = local_origin(input, image, &file.value);
            placed(input, shared, findings, image, (node, origin, file.span), &file.value)
        }
    }
}

fn local_origin(input: &PlanInput<'_>, image: &Image, path: &str) -> ImageOrigin {
    let compression = match input.context.local_files.get(path) {
        Some(LocalFileFacts::Content { compression, .. }) => *compression,
        Some(LocalFileFacts::PublicKeys(_)) | None => None,
    };
    let unpack = compression.map(|compression| Unpack { compression, disk_size: said_size(image) });
    ImageOrigin::File { path: path.to_owned(), unpack }
}

/// Returns the image's path in the spec.
pub(crate) fn path_of(image: &Image) -> String {
    format!("images.{}", image.name)
}

fn said_size(image: &Image) -> Option<Bytes> {
    image.size.as_ref().map(|size| size.value)
}

/// Returns the size of the disk in an image, where it is known before the image is placed.
pub(crate) fn virtual_size(input: &PlanInput<'_>, image: &Image, node: &NodeName) -> Option<Bytes> {
    let (seen, is_disk) = match &image.source {
        ImageSource::Path { path } => (input.observed.image(node, &path.value), false),
        ImageSource::Volume { volume } => {
            (input.observed.image(node, volume.value.as_str()), volume.value.owner().is_some())
        }
        ImageSource::File { .. } | ImageSource::Url { .. } | ImageSource::Build(_) => (None, false),
    };
    // The size that PVE lists for a guest's disk is that of the disk, for an image file that of the file.
    let of_disk = seen.filter(|_| is_disk).and_then(|seen| seen.size);
    seen.and_then(|seen| seen.virtual_size).or(of_disk).or(said_size(image))
}

fn on_node(
    input: &PlanInput<'_>,
    shared: &mut Shared,
    findings: &mut Findings,
    image: &Image,
    (node, path, span): (&NodeName, &str, Span),
    shape: Shape,
) -> Option<ReadyImage> {
    if shape == Shape::Single(Transport::Api) && !input.transports.is_root {
        let message = format!(
            "image `{}` is a file on the node, which the API allows only root@pam with a password to use",
            image.name
        );
        let hint = "use `transport: hybrid`, or another image source: `url:`, `file:` or `volume:`";
        findings.refuse(input.deployment, (span, path_of(image)), message, hint);
        return None;
    }
    let seen = input.observed.image(node, path);
    if seen.is_some_and(|seen| !seen.present) {
        let message = format!("image `{}` is not on {node}: no file `{path}`", image.name);
        let hint = format!("copy it there, such as with `scp IMAGE root@{node}:{path}`, or use `url:`");
        findings.refuse(input.deployment, (span, path_of(image)), message, hint);
        return None;
    }
    let mut after = BTreeSet::new();
    if let (Some(checksum), Some(transport)) =
        (&image.checksum, input.transports.node_only("a checksum of a file on the node is computed there"))
    {
        let action = Action::VerifyImage {
            image: image.name.clone(),
            node: node.clone(),
            path: path.to_owned(),
            checksum: Some(checksum.value.clone()),
        };
        let link = Link::new(format!("verify-{}-{node}", image.name), action, transport, 1_800);
        after.insert(shared.add(link.into_step(None, BTreeSet::new())));
    }
    let virtual_size = virtual_size(input, image, node);
    let copied = seen.and_then(|seen| seen.size).or(virtual_size).unwrap_or_default();
    Some(ReadyImage { source: DiskSource::Path(path.to_owned()), after, virtual_size, copied })
}

fn in_pve(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    image: &Image,
    node: &NodeName,
    (volume, span): (&VolumeId, Span),
) -> Option<ReadyImage> {
    let seen = input.observed.image(node, volume.as_str());
    if input.observed.has_volume(node, volume) == Some(false) {
        let message = format!("image `{}` is not on {node}: no volume `{volume}`", image.name);
        let hint = format!("`pvesm list {}` on {node} lists the volumes", volume.storage());
        findings.refuse(input.deployment, (span, path_of(image)), message, hint);
        return None;
    }
    let virtual_size = virtual_size(input, image, node);
    let copied = seen.and_then(|seen| seen.size).or(virtual_size).unwrap_or_default();
    let source = DiskSource::Volume(Ref::Known(volume.clone()));
    Some(ReadyImage { source, after: BTreeSet::new(), virtual_size, copied })
}

fn placed(
    input: &PlanInput<'_>,
    shared: &mut Shared,
    findings: &mut Findings,
    image: &Image,
    (node, origin, span): (&NodeName, ImageOrigin, Span),
    location: &str,
) -> Option<ReadyImage> {
    let (storage, content) = store_of(input, findings, image, node, span)?;
    let checksum = checksum_of(input, image, &origin);
    let name = file_name(image, checksum.as_deref(), location, &content);
    let volume: VolumeId = format!("{storage}:{content}/{name}").parse().ok()?;
    let place = if input.is_shared(node, &storage) { storage.to_string() } else { format!("{node}") };
    let why = match origin {
        ImageOrigin::Url { .. } => "PVE downloads it and checks the checksum",
        ImageOrigin::File { unpack: Some(_), .. } => {
            "unpacked on this machine; an upload needs no shell on the node"
        }
        ImageOrigin::File { .. } => "an upload needs no shell on the node",
    };
    let local_size = match &origin {
        ImageOrigin::File { path, .. } => local_content(input, path).map(|(_, size)| size),
        ImageOrigin::Url { .. } => None,
    };
    let action = Action::PlaceImage {
        image: image.name.clone(),
        node: node.clone(),
        volume: volume.clone(),
        origin,
        checksum,
    };
    let seen = input.observed.image(node, volume.as_str()).filter(|seen| seen.present);
    let size = seen.and_then(|seen| seen.size).or(local_size).unwrap_or_default();
    let is_new =
        seen.is_none() && !shared.steps.contains_key(&StepId(format!("-/place-{}-{place}", image.name)));
    if let Some(size) = local_size.filter(|_| is_new) {
        shared.needs_room(node, &storage, Room::full(size));
    }
    let transport = input.transports.api_first(why);
    let link = Link::new(format!("place-{}-{place}", image.name), action, transport, 7_200)
        .cannot_revert("an uploaded image is kept for the next VM")
        .copies(size);
    let step = shared.add(link.into_step(None, BTreeSet::new()));
    let virtual_size = seen.and_then(|seen| seen.virtual_size).or(said_size(image));
    Some(ReadyImage {
        source: DiskSource::Volume(Ref::Known(volume)),
        after: BTreeSet::from([step]),
        virtual_size,
        copied: size,
    })
}

/// Returns where the image is placed: the storage and its content type.
fn store_of(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    image: &Image,
    node: &NodeName,
    span: Span,
) -> Option<(StorageId, String)> {
    // PVE: pve-storage 8.3.6 (PVE 8.4) takes qcow2, raw and vmdk as `import` content; before that a disk image can
    // only lie among the ISO images, from where a command on the node can import it.
    let knows_import = input.transports.version.at_least(8, 4);
    if let Some(store) = &image.store {
        return Some((store.storage.value.clone(), store.content.clone()));
    }
    let content =
        if knows_import || input.transports.choice == TransportChoice::Api { "import" } else { "iso" };
    if let Some(seen) = input.storage_for(node, content) {
        return Some((seen.storage.clone(), content.to_owned()));
    }
    let message =
        format!("no storage of {node} allows `{content}` content, which image `{}` needs", image.name);
    let hint = format!(
        "`pvesm set STORAGE --content …,{content}` on the node enables it, or set `store:` in the image"
    );
    findings.refuse(input.deployment, (span, path_of(image)), message, hint);
    None
}

fn checksum_of(input: &PlanInput<'_>, image: &Image, origin: &ImageOrigin) -> Option<String> {
    if let Some(checksum) = &image.checksum {
        return Some(checksum.value.clone());
    }
    match origin {
        ImageOrigin::File { path, .. } => {
            local_content(input, path).map(|(sha256, _)| format!("sha256:{sha256}"))
        }
        ImageOrigin::Url { .. } => None,
    }
}

fn local_content(input: &PlanInput<'_>, path: &str) -> Option<(String, Bytes)> {
    match input.context.local_files.get(path)? {
        LocalFileFacts::Content { sha256, size, .. } => Some((sha256.clone(), *size)),
        LocalFileFacts::PublicKeys(_) => None,
    }
}

/// Returns the file name of a placed image; it carries a piece of the checksum, so that another image of the same
/// name is another volume.
// PVE: pve-storage src/PVE/Storage.pm: import volumes are named `[a-zA-Z0-9\-\.\+\=\_]+\.(ova|qcow2|raw|vmdk)`.
fn file_name(image: &Image, checksum: Option<&str>, location: &str, content: &str) -> String {
    let endings = Compression::ALL.map(Compression::ending);
    let plain = endings.into_iter().find_map(|ending| location.strip_suffix(ending)).unwrap_or(location);
    let by_name = ["qcow2", "raw", "vmdk"].into_iter().find(|ending| plain.ends_with(&format!(".{ending}")));
    let format = image.format.as_ref().map(|format| format.value.as_str()).or(by_name).unwrap_or("qcow2");
    let ending = if content == "import" { format.to_owned() } else { format!("{format}.img") };
    let name: String = image
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .collect();
    let digits: Option<String> =
        checksum.and_then(|checksum| checksum.split_once(':')).map(|(_, hex)| hex.chars().take(12).collect());
    digits.map_or_else(|| format!("{name}.{ending}"), |digits| format!("{name}-{digits}.{ending}"))
}

/// Returns the volumes that images of this deployment become on a node, for [`crate::ask`].
pub(crate) fn store_queries(image: &Image) -> Option<(StorageId, String)> {
    image.store.as_ref().map(|store| (store.storage.value.clone(), store.content.clone()))
}
