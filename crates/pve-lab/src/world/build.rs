//! From a world's description to the world.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pve_types::Vmid;
use rand::Rng as _;
use rand::rngs::StdRng;

use super::access::{Access, Factor, FactorKind, Pool, Role, Token, User};
use super::spec::{ContentSpec, StorageSpec, UserSpec, WorldSpec};
use super::{Agenda, Clock, Guest, GuestKind, Node, Power, StorageDef, Tasks, World};
use crate::vfs::{FsError, ImageFormat, ImageInfo, Vfs};

/// Makes the world.
pub fn build(spec: &WorldSpec, mut random: StdRng) -> World {
    let clock = Clock::default();
    let present = clock.now();
    let access = access(spec, &mut random);
    let door = spec.door.clone().or_else(|| spec.nodes.keys().next().cloned()).unwrap_or_default();
    let mut world = World {
        version: spec.version,
        cluster: spec.cluster.clone(),
        quorate: spec.quorate,
        door,
        nodes: nodes(spec),
        storages: spec.storages.iter().map(|(id, spec)| (id.clone(), storage(id, spec))).collect(),
        block_stores: BTreeMap::new(),
        shared_files: BTreeMap::new(),
        cluster_files: cluster_files(),
        urls: spec.urls.clone(),
        guests: BTreeMap::new(),
        guest_behaviour: spec.guest.clone(),
        guest_behaviours: BTreeMap::new(),
        guest_leases: crate::guest::Leases::default(),
        access,
        datacenter: spec.datacenter.clone(),
        zones: spec.zones.clone(),
        cpu_models: spec.cpu_models.clone(),
        firewalls: BTreeMap::new(),
        sections: mappings(spec),
        broadcast: super::broadcast::Broadcast::every(Duration::from_millis(spec.resources_lag_ms)),
        tasks: Tasks::default(),
        faults: crate::fault::Faults::default(),
        delays: spec.delays.clone(),
        allocations: BTreeMap::new(),
        random,
        clock,
        agenda: Agenda::default(),
        born: present,
        present,
        revision: 0,
    };
    place_storages(&mut world);
    place_files(&mut world, spec);
    place_guests(&mut world, spec);
    world.broadcast_until(present);
    world
}

fn nodes(spec: &WorldSpec) -> BTreeMap<String, Node> {
    let node = |(number, (name, spec)): (u32, (&String, &super::NodeSpec))| {
        let address = spec.address.clone().unwrap_or_else(|| format!("198.51.100.{number}"));
        (name.clone(), Node { spec: spec.clone(), number, address, files: Vfs::new(spec.rootfs.get()) })
    };
    (1..).zip(&spec.nodes).map(node).collect()
}

/// The files of mappings; a list is JSON text there.
fn mappings(spec: &WorldSpec) -> BTreeMap<&'static str, BTreeMap<String, super::Config>> {
    let section = |(id, mapping): (&String, &super::MappingSpec)| {
        let map = serde_json::Value::from(mapping.map.clone()).to_string();
        (id.clone(), super::Config::from([("map".to_owned(), map)]))
    };
    spec.mappings.iter().map(|(kind, all)| (kind.file(), all.iter().map(section).collect())).collect()
}

/// pmxcfs: 128 MiB, with the directory for locks.
fn cluster_files() -> Vfs {
    let mut files = Vfs::new(128 << 20);
    let _ = files.create_dir_all("/etc/pve/priv/lock");
    files
}

fn storage(id: &str, spec: &StorageSpec) -> StorageDef {
    StorageDef {
        id: id.to_owned(),
        kind: spec.kind.clone(),
        content: spec.content.clone(),
        options: spec.options.clone(),
        size: spec.size.map_or(100 << 30, |size| size.get()),
        offline_on: spec.offline_on.clone(),
    }
}

fn access(spec: &WorldSpec, random: &mut StdRng) -> Access {
    let mut signing_key = [0; 32];
    random.fill_bytes(&mut signing_key);
    let password = spec.root_password.clone().unwrap_or_else(|| made_up_secret(random));
    let mut access = Access::fresh(spec.version, &password, signing_key);
    for (id, comment) in &spec.groups {
        access.groups.insert(id.clone(), comment.clone());
    }
    for (id, privileges) in &spec.roles {
        let known = super::all_privileges(spec.version);
        let named: BTreeSet<_> = privileges.iter().filter_map(|name| name.parse().ok()).collect();
        let role = Role { privileges: named.intersection(&known).copied().collect(), special: false };
        access.roles.insert(id.clone(), role);
    }
    for (id, user) in &spec.users {
        access.users.insert(id.clone(), new_user(user));
    }
    if let Some(token) = &spec.token
        && let Some((user, name)) = token.id.rsplit_once('!')
    {
        let secret = token.secret.clone().unwrap_or_else(|| made_up_uuid(random));
        let token = Token { privsep: token.privsep, expire: 0, comment: None, secret };
        access.users.entry(user.to_owned()).or_default().tokens.insert(name.to_owned(), token);
    }
    for entry in &spec.acl {
        let node = access.acl.entry(entry.path.clone()).or_default();
        let (grants, id) = match entry.who.strip_prefix('@') {
            Some(group) => (&mut node.groups, group),
            None if entry.who.contains('!') => (&mut node.tokens, entry.who.as_str()),
            None => (&mut node.users, entry.who.as_str()),
        };
        grants.entry(id.to_owned()).or_default().insert(entry.role.clone(), entry.propagate);
    }
    for (id, pool) in &spec.pools {
        let pool = Pool {
            comment: pool.comment.clone(),
            guests: pool.guests.clone(),
            storages: pool.storages.clone(),
        };
        access.pools.insert(id.clone(), pool);
    }
    access
}

fn new_user(spec: &UserSpec) -> User {
    let factor = |secret: &String| Factor {
        id: "totp-1".to_owned(),
        kind: FactorKind::Totp { secret: secret.clone() },
        description: "from the world file".to_owned(),
        enable: true,
        created: 0,
    };
    let token = |(name, token): (&String, &super::UserTokenSpec)| {
        let token = Token { privsep: token.privsep, expire: 0, comment: None, secret: token.secret.clone() };
        (name.clone(), token)
    };
    User {
        enable: !spec.disabled,
        password: spec.password.clone(),
        groups: spec.groups.clone(),
        tokens: spec.tokens.iter().map(token).collect(),
        factors: spec.totp.iter().map(factor).collect(),
        ..User::default()
    }
}

/// A made-up secret in the shape of a password.
fn made_up_secret(random: &mut StdRng) -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
    (0..20).map(|_| char::from(LETTERS[(random.next_u32() % 32) as usize])).collect()
}

/// A made-up version 4 UUID.
pub(crate) fn made_up_uuid(random: &mut StdRng) -> String {
    let mut bytes = [0; 16];
    random.fill_bytes(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// Writes the file that `content` describes.
pub(crate) fn write_content(tree: &mut Vfs, path: &str, content: &ContentSpec) -> Result<(), FsError> {
    if let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
        tree.create_dir_all(parent)?;
    }
    if let Some(text) = &content.text {
        return tree.write(path, text.as_bytes());
    }
    let virtual_size = content.virtual_size.or(content.file_size).unwrap_or_default().get();
    let file_size = content.file_size.map_or(virtual_size, |size| size.get());
    let format = content.format.unwrap_or(ImageFormat::Raw);
    let info = ImageInfo { format, virtual_size, backing_file: None };
    tree.write_image(path, &info, file_size, file_size)?;
    // Different images differ somewhere: the seed stands behind the header.
    if content.seed != 0 && file_size > 1 << 17 {
        let handle = tree.open(path)?;
        let written = tree.handle_write(handle, 1 << 16, &content.seed.to_be_bytes());
        tree.close(handle);
        written?;
    }
    tree.set_mode(path, 0o644)
}

fn place_storages(world: &mut World) {
    let names: Vec<String> = world.nodes.keys().cloned().collect();
    for def in world.storages.values().cloned().collect::<Vec<_>>() {
        let Some(path) = def.path() else {
            let homes = if def.is_shared() { vec![String::new()] } else { names.clone() };
            for home in homes {
                world.block_stores.insert((home, def.id.clone()), super::BlockStore::default());
            }
            continue;
        };
        if def.is_shared() {
            let mut tree = Vfs::new(def.size);
            let _ = tree.create_dir_all(&path);
            world.shared_files.insert(def.id.clone(), tree);
        }
        for node in world.nodes.values_mut() {
            let _ = node.files.create_dir_all(&path);
            if !def.is_shared() {
                let _ = node.files.mount(&path, &format!("/dev/mapper/lab-{}", def.id), def.size);
            }
        }
    }
}

fn place_files(world: &mut World, spec: &WorldSpec) {
    for file in &spec.files {
        let names: Vec<String> = world.nodes.keys().cloned().collect();
        for name in names.iter().filter(|name| file.node.as_ref().is_none_or(|node| node == *name)) {
            if let Some(tree) = world.files_mut(name, &file.path) {
                let _ = write_content(tree, &file.path, &file.content);
            }
        }
    }
}

fn place_guests(world: &mut World, spec: &WorldSpec) {
    for (vmid, guest) in &spec.guests {
        let node = guest.node.clone().unwrap_or_else(|| world.door.clone());
        let kind = if guest.kind.as_deref() == Some("lxc") { GuestKind::Lxc } else { GuestKind::Qemu };
        let created = world.now_seconds();
        world.guests.insert(*vmid, Guest::new(*vmid, kind, &node, guest.config.clone(), created));
        if let Some(behaviour) = &guest.guest {
            world.guest_behaviours.insert(*vmid, behaviour.clone());
        }
        place_volumes(world, *vmid, &node);
        if guest.running {
            switch_on(world, *vmid);
        }
    }
}

/// Makes the volumes that a guest's configuration names and that are not there.
fn place_volumes(world: &mut World, vmid: Vmid, node: &str) {
    let values: Vec<String> =
        world.guests.get(&vmid).map_or_else(Vec::new, |guest| guest.config.values().cloned().collect());
    for value in values {
        let volume = value.split(',').next().unwrap_or_default().to_owned();
        let size = value.split(',').find_map(|part| part.strip_prefix("size="));
        let size = size
            .and_then(|size| pve_types::Bytes::from_pve_size(size).ok())
            .map_or(4 << 20, pve_types::Bytes::get);
        let Ok((storage, name)) = super::split_id(&volume) else { continue };
        let Some(parsed) = world.storages.get(storage).and_then(|def| super::parse_name(def, name).ok())
        else {
            continue;
        };
        if parsed.owner != Some(vmid) || parsed.content != "images" || world.volume(node, &volume).is_ok() {
            continue;
        }
        let def = world.storages.get(storage).filter(|def| !def.is_file_based()).cloned();
        if let Some(def) = def {
            let home = (world.block_home(&def, node), def.id.clone());
            let parent = parsed.base.map(|(_, base)| base);
            let created = world.now_seconds();
            let volume = super::BlockVolume {
                size,
                used: size / 10,
                parent,
                created,
                seed: 0,
                snapshots: BTreeSet::new(),
            };
            world.block_stores.entry(home).or_default().volumes.insert(parsed.name, volume);
            continue;
        }
        let new = super::NewVolume {
            node,
            storage,
            vmid,
            format: &parsed.format,
            name: Some(parsed.name.clone()),
            size,
            data: size / 10,
        };
        let _ = world.allocate(&new);
    }
}

fn switch_on(world: &mut World, vmid: Vmid) {
    let since = world.now();
    if let Some(guest) = world.guests.get_mut(&vmid) {
        guest.power = Power::Running { pid: 2000 + vmid.get() % 30_000, since, paused: false };
    }
    crate::guest::started(world, vmid);
}
