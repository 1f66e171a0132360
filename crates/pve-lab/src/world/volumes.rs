//! Volumes: their names, where they are, and what is known of each.

use pve_types::Vmid;

use super::{StorageDef, World};
use crate::vfs::{ImageFormat, Vfs};

/// What a volume's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeName {
    /// `images`, `iso`, `vztmpl`, `backup`, `snippets`, `import`.
    pub content: &'static str,
    /// The bare name: `vm-100-disk-0.qcow2`, `debian.iso`.
    pub name: String,
    /// The guest it belongs to.
    pub owner: Option<Vmid>,
    /// For a linked clone, the owner and name of what it builds upon.
    pub base: Option<(Vmid, String)>,
    /// `raw`, `qcow2`, `vmdk`, `iso`, …
    pub format: String,
}

impl VolumeName {
    /// Tells whether it is a template's volume.
    pub fn is_base(&self) -> bool {
        self.name.starts_with("base-")
    }
}

/// A volume that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// `STORAGE:NAME`.
    pub id: String,
    /// What its name says.
    pub name: VolumeName,
    /// The size a guest sees (of an ISO or an import image: the file's), in bytes.
    pub size: u64,
    /// What it takes, in bytes.
    pub used: u64,
    /// What it was cloned from.
    pub parent: Option<String>,
    /// Seconds of the Unix epoch.
    pub created: u64,
}

/// The folders of a directory storage: content type, folder.
const FOLDERS: &[(&str, &str)] = &[
    ("iso", "template/iso"),
    ("vztmpl", "template/cache"),
    ("backup", "dump"),
    ("snippets", "snippets"),
    ("import", "import"),
];

/// The folder of a content type below a directory storage's path.
pub fn content_folder(content: &str) -> &'static str {
    FOLDERS.iter().find(|(name, _)| *name == content).map_or("images", |(_, folder)| folder)
}

fn extension(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((stem, "gz" | "xz" | "zst" | "bz2")) if stem.ends_with(".tar") => {
            format!("t{}", &name[stem.len() + 1..])
        }
        // A backup's format names its archive and its compression.
        Some((stem, "zst" | "gz" | "lzo")) if stem.ends_with(".vma") => {
            format!("vma.{}", &name[stem.len() + 1..])
        }
        Some((_, extension)) => extension.to_owned(),
        None => "raw".to_owned(),
    }
}

fn owner_in(name: &str) -> Option<Vmid> {
    let mut parts = name.split('-');
    matches!(parts.next(), Some("vm" | "base" | "subvol" | "basevol"))
        .then(|| parts.next()?.parse().ok())
        .flatten()
}

// PVE: pve-storage src/PVE/Storage/Plugin.pm parse_volname
fn parse_directory(name: &str) -> Option<VolumeName> {
    let image = |owner: &str, file: &str, base| {
        let format = file.rsplit_once('.').map(|(_, format)| format)?;
        let owner = owner.parse().ok()?;
        let known = matches!(format, "raw" | "qcow2" | "vmdk" | "subvol");
        let content = "images";
        known.then(|| VolumeName {
            content,
            name: file.to_owned(),
            owner: Some(owner),
            base,
            format: format.to_owned(),
        })
    };
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [base_owner, base, owner, file] if base.starts_with("base-") => {
            image(owner, file, Some((base_owner.parse().ok()?, (*base).to_owned())))
        }
        [content, file] => match FOLDERS.iter().find(|(known, _)| known == content) {
            Some((content, _)) => Some(VolumeName {
                content,
                name: (*file).to_owned(),
                owner: (*content == "backup").then(|| file.split('-').nth(2)?.parse().ok()).flatten(),
                base: None,
                format: extension(file),
            }),
            None => image(content, file, None),
        },
        _ => None,
    }
}

fn parse_block(kind: &str, name: &str) -> Option<VolumeName> {
    let (base, name) = match name.split_once('/') {
        Some((base, name)) if kind != "lvm" && kind != "lvmthin" => (Some(base), name),
        Some(_) => return None,
        None => (None, name),
    };
    let owner = owner_in(name)?;
    let base = match base {
        Some(base) => Some((owner_in(base)?, base.to_owned())),
        None => None,
    };
    Some(VolumeName {
        content: "images",
        name: name.to_owned(),
        owner: Some(owner),
        base,
        format: "raw".to_owned(),
    })
}

/// Takes a volume's name apart by the rules of its storage.
///
/// # Errors
/// PVE's text.
pub fn parse_name(def: &StorageDef, name: &str) -> Result<VolumeName, String> {
    let (parsed, what) = match def.kind.as_str() {
        _ if def.is_file_based() => (parse_directory(name), "directory"),
        "lvm" | "lvmthin" => (parse_block(&def.kind, name), "lvm"),
        "zfspool" | "zfs" => (parse_block(&def.kind, name), "zfs"),
        "rbd" => (parse_block(&def.kind, name), "rbd"),
        kind => (parse_block(kind, name), kind),
    };
    parsed.ok_or_else(|| format!("unable to parse {what} volume name '{name}'"))
}

/// Parts `STORAGE:NAME`.
///
/// # Errors
/// PVE's text.
pub fn split_id(id: &str) -> Result<(&str, &str), String> {
    match id.split_once(':') {
        Some((storage, name)) if crate::schema::is_storage_id(storage) && !name.is_empty() => {
            Ok((storage, name))
        }
        _ => Err(format!("unable to parse volume ID '{id}'")),
    }
}

impl World {
    /// The storage, when there is one of that id.
    ///
    /// # Errors
    /// PVE's text.
    pub fn storage(&self, id: &str) -> Result<&StorageDef, String> {
        self.storages.get(id).ok_or_else(|| format!("storage '{id}' does not exist"))
    }

    /// The storage, when it is there, switched on, and meant for the node.
    ///
    /// # Errors
    /// PVE's text.
    // PVE: pve-storage src/PVE/Storage.pm storage_check_enabled
    pub fn enabled_storage(&self, id: &str, node: &str) -> Result<&StorageDef, String> {
        let def = self.storage(id)?;
        if def.is_disabled() {
            return Err(format!("storage '{id}' is disabled"));
        }
        if !def.is_for_node(node) {
            return Err(format!("storage '{id}' is not available on node '{node}'"));
        }
        Ok(def)
    }

    /// The storage, when it is usable on the node just now.
    ///
    /// # Errors
    /// PVE's text.
    pub fn active_storage(&self, id: &str, node: &str) -> Result<&StorageDef, String> {
        let def = self.enabled_storage(id, node)?;
        match def.offline_on.contains(node) {
            true => Err(format!("storage '{id}' is not online")),
            false => Ok(def),
        }
    }

    /// Where a volume's bytes are, as `pvesm path` prints it.
    ///
    /// # Errors
    /// The id is none, or its storage is not there.
    pub fn volume_path(&self, id: &str) -> Result<String, String> {
        let (storage, name) = split_id(id)?;
        let def = self.storage(storage)?;
        let parsed = parse_name(def, name)?;
        Ok(path_of(def, &parsed))
    }

    /// The volume, when it is there.
    ///
    /// # Errors
    /// PVE's text.
    pub fn volume(&self, node: &str, id: &str) -> Result<Volume, String> {
        let (storage, name) = split_id(id)?;
        let def = self.storage(storage)?;
        let parsed = parse_name(def, name)?;
        let found = match def.path() {
            Some(base) => self.files(node, &base).and_then(|tree| file_volume(def, tree, id, parsed)),
            None => {
                let store = self.block_stores.get(&(self.block_home(def, node), def.id.clone()));
                store.and_then(|store| store.volumes.get(&parsed.name)).map(|volume| Volume {
                    id: id.to_owned(),
                    name: parsed,
                    size: volume.size,
                    used: volume.used,
                    parent: volume.parent.clone(),
                    created: volume.created,
                })
            }
        };
        found.ok_or_else(|| format!("volume {id} does not exist"))
    }

    /// Under which node the volumes of a block storage are kept.
    pub fn block_home(&self, def: &StorageDef, node: &str) -> String {
        if def.is_shared() { String::new() } else { node.to_owned() }
    }

    /// Every volume of a storage on a node; of one guest, when `owner` is given (others without an owner stay).
    pub fn volumes(&self, node: &str, storage: &str, owner: Option<Vmid>) -> Vec<Volume> {
        let Some(def) = self.storages.get(storage) else { return Vec::new() };
        match def.path() {
            Some(base) => {
                self.files(node, &base).map_or_else(Vec::new, |tree| file_volumes(def, tree, &base, owner))
            }
            None => self.block_volumes(def, node, owner),
        }
    }

    fn block_volumes(&self, def: &StorageDef, node: &str, owner: Option<Vmid>) -> Vec<Volume> {
        let Some(store) = self.block_stores.get(&(self.block_home(def, node), def.id.clone())) else {
            return Vec::new();
        };
        let all: Vec<_> = match owner {
            None => store.volumes.iter().collect(),
            // Names begin with what they are and whose they are.
            Some(owner) => ["base", "vm"]
                .iter()
                .flat_map(|kind| {
                    let prefix = format!("{kind}-{owner}-");
                    let from = store.volumes.range(prefix.clone()..);
                    from.take_while(move |(name, _)| name.starts_with(&prefix))
                })
                .collect(),
        };
        let shown = all.into_iter().filter_map(|(name, volume)| {
            let shown_name = match &volume.parent {
                Some(parent) if !def.kind.starts_with("lvm") => format!("{parent}/{name}"),
                _ => name.clone(),
            };
            let parsed = parse_name(def, &shown_name).ok()?;
            let is_asked = owner.is_none_or(|owner| parsed.owner == Some(owner));
            is_asked.then(|| Volume {
                id: format!("{}:{shown_name}", def.id),
                name: parsed,
                size: volume.size,
                used: volume.used,
                parent: volume.parent.clone(),
                created: volume.created,
            })
        });
        shown.collect()
    }

    /// Total and used bytes of a storage on a node.
    pub fn storage_usage(&self, def: &StorageDef, node: &str) -> (u64, u64) {
        match def.path() {
            Some(path) => match self.files(node, &path) {
                Some(tree) => {
                    let space = tree.space(&path);
                    (space.total, space.used)
                }
                None => (0, 0),
            },
            None => {
                let store = self.block_stores.get(&(self.block_home(def, node), def.id.clone()));
                (def.size, store.map_or(0, |store| store.volumes.values().map(|volume| volume.used).sum()))
            }
        }
    }
}

/// Where a volume's bytes are.
pub(super) fn path_of(def: &StorageDef, name: &VolumeName) -> String {
    let option = |key: &str| def.options.get(key).cloned().unwrap_or_default();
    match def.path() {
        Some(base) if name.content == "images" => {
            let owner = name.owner.map_or_else(String::new, |owner| owner.to_string());
            format!("{base}/images/{owner}/{}", name.name)
        }
        Some(base) => format!("{base}/{}/{}", content_folder(name.content), name.name),
        None => match def.kind.as_str() {
            "lvm" | "lvmthin" => format!("/dev/{}/{}", option("vgname"), name.name),
            "zfspool" => format!("/dev/zvol/{}/{}", option("pool"), name.name),
            "rbd" => {
                let pool = def.options.get("pool").map_or("rbd", String::as_str);
                format!(
                    "rbd:{pool}/{}:conf=/etc/pve/ceph.conf:id=admin:keyring=/etc/pve/priv/ceph/{}.keyring",
                    name.name, def.id
                )
            }
            _ => format!("/dev/{}/{}", def.id, name.name),
        },
    }
}

fn file_volume(def: &StorageDef, tree: &Vfs, id: &str, name: VolumeName) -> Option<Volume> {
    let path = path_of(def, &name);
    let stat = tree.stat(&path).ok().filter(|stat| stat.kind == crate::vfs::Kind::File)?;
    let image =
        matches!(name.format.as_str(), "raw" | "qcow2" | "vmdk").then(|| tree.image(&path).ok()).flatten();
    let is_disk = name.content == "images";
    let parent = image.as_ref().and_then(|image| image.backing_file.clone()).filter(|_| is_disk);
    Some(Volume {
        id: id.to_owned(),
        size: match &image {
            Some(image) if is_disk => image.virtual_size,
            _ => stat.size,
        },
        used: stat.allocated,
        parent,
        created: stat.mtime,
        name,
    })
}

fn file_volumes(def: &StorageDef, tree: &Vfs, base: &str, owner: Option<Vmid>) -> Vec<Volume> {
    let mut found = Vec::new();
    let owners: Vec<String> = match owner {
        Some(owner) => vec![owner.to_string()],
        None => tree.list(&format!("{base}/images")).unwrap_or_default(),
    };
    for owner in owners {
        for file in tree.list(&format!("{base}/images/{owner}")).unwrap_or_default() {
            let Some(plain) = parse_directory(&format!("{owner}/{file}")) else { continue };
            let Some(volume) = file_volume(def, tree, &format!("{}:{owner}/{file}", def.id), plain) else {
                continue;
            };
            found.push(with_base_in_name(def, &owner, volume));
        }
    }
    for (content, folder) in FOLDERS.iter().filter(|(content, _)| def.content.contains(*content)) {
        for file in tree.list(&format!("{base}/{folder}")).unwrap_or_default() {
            let id = format!("{content}/{file}");
            if !is_of_content(content, &file) {
                continue;
            }
            let volume = parse_directory(&id)
                .and_then(|name| file_volume(def, tree, &format!("{}:{id}", def.id), name));
            found.extend(volume);
        }
    }
    found
}

/// A linked clone's id names what it builds upon.
fn with_base_in_name(def: &StorageDef, owner: &str, mut volume: Volume) -> Volume {
    let base = volume.parent.as_deref().and_then(|parent| parent.strip_prefix("../"));
    if let Some((base_owner, base_name)) = base.and_then(|base| base.split_once('/')) {
        volume.id = format!("{}:{base_owner}/{base_name}/{owner}/{}", def.id, volume.name.name);
        volume.name.base = base_owner.parse().ok().map(|owner| (owner, base_name.to_owned()));
    }
    volume
}

fn is_of_content(content: &str, file: &str) -> bool {
    let ends = |list: &[&str]| list.iter().any(|end| file.to_ascii_lowercase().ends_with(end));
    match content {
        "iso" => ends(&[".iso", ".img"]),
        "vztmpl" => ends(&[".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2", ".tar"]),
        "import" => ends(&[".ova", ".ovf", ".qcow2", ".raw", ".vmdk"]),
        "backup" => {
            file.starts_with("vzdump-")
                && ends(&[".vma", ".vma.zst", ".vma.gz", ".vma.lzo", ".tar.zst", ".tar.gz"])
        }
        _ => true,
    }
}

/// The format of an image file by its name, for `import` volumes.
pub fn image_format(name: &VolumeName) -> Option<ImageFormat> {
    match name.format.as_str() {
        "qcow2" => Some(ImageFormat::Qcow2),
        "vmdk" => Some(ImageFormat::Vmdk),
        "raw" | "iso" | "img" => Some(ImageFormat::Raw),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::WorldSpec;

    fn check(storage: &str, name: &str, expect: Result<(&str, Option<u32>), &str>) {
        let world = World::new(&WorldSpec::golden(), 1);
        let got = parse_name(&world.storages[storage], name);
        let got = got.map(|name| (name.content, name.owner.map(Vmid::get)));
        assert_eq!(got, expect.map_err(str::to_owned), "{name}");
    }

    #[test]
    fn names_follow_the_storages_own_rules() {
        check("local", "100/vm-100-disk-0.qcow2", Ok(("images", Some(100))));
        check("local", "300/base-300-disk-0.qcow2/301/vm-301-disk-0.qcow2", Ok(("images", Some(301))));
        check("local", "import/tiny.qcow2", Ok(("import", None)));
        check("local", "vm-100-disk-0", Err("unable to parse directory volume name 'vm-100-disk-0'"));
        check("local", "1G", Err("unable to parse directory volume name '1G'"));
        check("local-lvm", "vm-100-disk-0", Ok(("images", Some(100))));
        check("local-lvm", "x", Err("unable to parse lvm volume name 'x'"));
    }

    #[test]
    fn the_import_image_of_the_world_is_a_volume() {
        let world = World::new(&WorldSpec::golden(), 1);
        let volumes = world.volumes("pve1", "local", None);
        let shown: Vec<_> = volumes.iter().map(|volume| (volume.id.as_str(), volume.size)).collect();
        assert_eq!(shown, [("local:import/tiny.qcow2", 18_093_056)]);
    }
}
