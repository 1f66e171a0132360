//! Every typed call, made once with everything set, for the tests that look at what is sent.

use futures::future::{BoxFuture, FutureExt as _};
use libtest_mimic::Trial;
use pve_api::access::*;
use pve_api::*;
use pve_types::{MappingKind, Privilege, Secret};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

pub fn trials() -> Vec<Trial> {
    crate::trials![every_typed_call_is_made_here]
}

/// A call that is missing here would escape the comparison with PVE's schemas.
async fn every_typed_call_is_made_here() {
    let here = std::fs::read_to_string(file("tests/it/surface.rs")).unwrap();
    let mut files = vec![file("src/tasks.rs")];
    let mut folders = vec![file("src/api")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let mut missing = Vec::new();
    for path in files {
        let source = std::fs::read_to_string(&path).unwrap();
        for part in source.split("pub async fn ").skip(1) {
            let name = part.split(['(', '<']).next().unwrap();
            if !here.contains(&format!(".{name}(")) && !here.contains(&format!("::{name}(")) {
                missing.push(format!("{}: {name}", path.display()));
            }
        }
    }
    // `wait` and `wait_with` are made of `status` and `log`.
    missing.retain(|call| !call.ends_with(": wait") && !call.ends_with(": wait_with"));
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

fn file(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Keeps every request and answers with `null`.
#[derive(Debug, Clone, Default)]
struct Recorder {
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Recorder {
    fn taken(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
    fn answer(&self, request: &Request) -> Response {
        self.requests.lock().unwrap().push(request.clone());
        let last = request.path.segments().last().map(String::as_str);
        match (request.method, last) {
            // The two calls that are made of several requests stop at the first otherwise.
            (Method::Get, Some("log")) => Response::success(json!([{"n": 1, "t": "no content"}])),
            (Method::Get, Some("pools")) => Response::success(json!([{"poolid": "a/b"}])),
            _ => Response::success(Value::Null),
        }
    }
}

impl Transport for Recorder {
    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, ApiError>> {
        async move { Ok(self.answer(request)) }.boxed()
    }
    fn upload<'a>(
        &'a self,
        request: &'a Request,
        _upload: Upload<'a>,
    ) -> BoxFuture<'a, Result<Response, ApiError>> {
        async move { Ok(self.answer(request)) }.boxed()
    }
}

fn id<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("`{text}`"))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Makes every typed call and returns what was sent. Answers are not looked at: most calls fail to decode `null`.
pub async fn everything() -> Vec<Request> {
    let recorder = Recorder::default();
    let client = Client::over(recorder.clone());
    cluster(&client).await;
    nodes(&client).await;
    vms(&client).await;
    storages(&client).await;
    pools(&client).await;
    ha_and_backup(&client).await;
    access(&client).await;
    accounts(&client).await;
    recorder.taken()
}

async fn cluster(client: &Client) {
    let _ = client.version().await;
    let cluster = client.cluster();
    for kind in [ResourceKind::Guests, ResourceKind::Storages, ResourceKind::Nodes, ResourceKind::Sdn] {
        let _ = cluster.resources(Some(kind)).await;
    }
    let _ = cluster.status().await;
    let _ = cluster.next_id().await;
    let _ = cluster.is_free(id("100")).await;
    let _ = cluster.tasks().await;
    let _ = cluster.log(10).await;
    for kind in [MappingKind::Pci, MappingKind::Usb, MappingKind::Dir] {
        let _ = cluster.mappings(kind).await;
    }
    let _ = cluster.options().await;
    let _ = cluster.set_options(Params::new().with("keyboard", "de").with("max_workers", 4u32)).await;
}

async fn nodes(client: &Client) {
    let _ = client.nodes().await;
    let node = client.node(&id("pve1"));
    let _ = node.status().await;
    let _ = node.version().await;
    for kind in
        [InterfaceKind::AnyBridge, InterfaceKind::AnyLocalBridge, InterfaceKind::Bridge, InterfaceKind::Eth]
    {
        let _ = node.network(Some(kind)).await;
    }
    let _ = node.dns().await;
    let dns =
        Dns { search: some("a.test"), dns1: some("10.0.0.1"), dns2: some("10.0.0.2"), dns3: some("::1") };
    let _ = node.set_dns(&dns).await;
    let _ = node.time().await;
    let _ = node.set_timezone("Europe/Vienna").await;
    let _ = node.services().await;
    let _ = node.containers().await;
    for source in [TaskSource::Archive, TaskSource::Active, TaskSource::All] {
        let filter = TaskFilter {
            vmid: Some(id("100")),
            task_type: some("qmstart"),
            user: some("root"),
            errors_only: true,
            since: Some(1),
            until: Some(2),
            source: Some(source),
            start: Some(0),
            limit: Some(5),
        };
        let _ = node.tasks(&filter).await;
    }
    let _ = node.storages(Some("images")).await;
    let _ = node.storages_with_formats().await;
    let backup = Params::new().with("vmid", "100,101").with("storage", "local").with("mode", "snapshot");
    let _ = node.back_up(backup).await;
    let task = client.task(&id("UPID:pve1:0000C2A1:00A1B2C3:6560A1B2:qmstart:100:root@pam:"));
    let _ = task.status().await;
    let _ = task.log(0, 50).await;
    let _ = task.whole_log().await;
    let _ = task.stop().await;
}

/// Returns configuration values of every kind.
fn config() -> Params {
    let pairs = [
        ("name", "web01"),
        ("memory", "2048"),
        ("cpu", "host"),
        ("scsihw", "virtio-scsi-single"),
        ("ostype", "l26"),
        ("boot", "order=scsi0;net0"),
        ("scsi0", "local:0,import-from=local:import/a.qcow2"),
        ("virtio15", "local:4"),
        ("ide2", "local:cloudinit"),
        ("net0", "virtio,bridge=vmbr0"),
        ("ipconfig0", "ip=dhcp"),
        ("serial0", "socket"),
        ("smbios1", "uuid=11111111-2222-3333-4444-555555555555"),
        ("ciuser", "admin"),
        ("cipassword", "$6$a$b"),
        ("sshkeys", "ssh-ed25519%20AAAA"),
        ("tags", "a;b"),
        ("description", "x"),
        ("agent", "1"),
    ];
    let params: Params = pairs.into_iter().collect();
    params.with("cores", 2u32).with("onboot", true).with("cpulimit", 1.5)
}

async fn vms(client: &Client) {
    let node = client.node(&id("pve1"));
    let _ = node.qemu_list().await;
    let _ = node.qemu_list_full().await;
    let create = config().with("pool", "lab").with("start", false).with("storage", "local");
    let _ = node.qemu_create(id("100"), create).await;
    let vm = node.qemu(id("100"));
    let _ = vm.config().await;
    let _ = vm.current_config().await;
    let _ = vm.config_of_snapshot("before").await;
    let changes = config()
        .with_list("delete", ["net1", "scsi2"])
        .with("digest", "0123456789abcdef0123456789abcdef01234567");
    let _ = vm.set_config(changes.clone()).await;
    let _ = vm.set_config_async(changes.with("background_delay", 5u32)).await;
    let _ = vm.pending().await;
    let _ = vm.status().await;
    let _ = vm.start().await;
    let _ = vm.stop().await;
    let _ = vm.stop_instead_of_shutdown().await;
    let _ = vm.shutdown(Shutdown { timeout_s: Some(60), force_stop: true }).await;
    let _ = vm.reboot(Some(60)).await;
    let _ = vm.reset().await;
    let _ = vm.suspend().await;
    let _ = vm.hibernate(Some(&id("local"))).await;
    let _ = vm.resume().await;
    let _ = vm.delete(DeleteVm { purge: true, destroy_unreferenced_disks: false }).await;
    let clone = CloneVm {
        name: some("b"),
        description: some("c"),
        pool: Some(id("lab")),
        full: Some(true),
        storage: Some(id("local")),
        format: some("qcow2"),
        snapshot: some("before"),
        target: Some(id("pve2")),
        bwlimit: Some(1000),
        ..CloneVm::default()
    };
    let _ = vm.clone_to(id("101"), &clone).await;
    let _ = vm.make_template().await;
    let _ = vm.resize("scsi0", "+10G").await;
    let to_storage = MoveDisk {
        disk: "scsi0".into(),
        storage: Some(id("fast")),
        format: some("raw"),
        delete_original: true,
        bwlimit: Some(5),
        ..MoveDisk::default()
    };
    let _ = vm.move_disk(&to_storage).await;
    let to_vm = MoveDisk {
        disk: "scsi1".into(),
        target_vmid: Some(id("999")),
        target_disk: some("scsi3"),
        digest: some("0123456789abcdef0123456789abcdef01234567"),
        target_digest: some("0123456789abcdef0123456789abcdef01234567"),
        ..MoveDisk::default()
    };
    let _ = vm.move_disk(&to_vm).await;
    let _ = vm.unlink(&["unused0", "unused1"], true).await;
    let migrate = Migrate {
        target: id("pve2"),
        online: true,
        with_local_disks: true,
        target_storage: Some(id("fast")),
    };
    let _ = vm.migrate_conditions().await;
    let _ = vm.migrate(&migrate).await;
    let _ = vm.cloud_init().await;
    for part in [CloudInitPart::User, CloudInitPart::Network, CloudInitPart::Meta] {
        let _ = vm.cloud_init_dump(part).await;
    }
    let _ = vm.cloud_init_regenerate().await;
    let _ = vm.send_key("ctrl-alt-delete").await;
    let snapshots = vm.snapshots();
    let _ = snapshots.list().await;
    let new = NewSnapshot { description: some("x"), with_memory: true };
    let _ = snapshots.create("before", &new).await;
    let _ = snapshots.config("before").await;
    let _ = snapshots.set_description("before", "y").await;
    let _ = snapshots.roll_back("before").await;
    let _ = snapshots.delete("before", true).await;
    let agent = vm.agent();
    let _ = agent.ping().await;
    let _ = agent.network_interfaces().await;
    let _ = agent.os_info().await;
    let _ = agent.host_name().await;
    let _ = agent.filesystems().await;
    let _ = agent.exec(&["ls", "-l"]).await;
    let _ = agent.exec_with_input(&["cat"], &Secret::new("hidden")).await;
    let _ = agent.exec_status(&GuestProcess { pid: 7 }).await;
    let _ = agent.read_file("/etc/hosts").await;
    let _ = agent.write_file("/tmp/a", "b").await;
    let _ = agent.write_secret_file("/tmp/a", &Secret::new("hidden")).await;
    let _ = agent.set_user_password("root", &Secret::new("hidden1")).await;
}

async fn storages(client: &Client) {
    let storages = client.storages();
    let _ = storages.list().await;
    let _ = storages.list_of_type("dir").await;
    let _ = storages.get(&id("local")).await;
    let dir = Params::new().with("path", "/srv/x").with("content", "images,iso").with("shared", false);
    let _ = storages.create(&id("extra"), "dir", dir).await;
    let _ =
        storages.update(&id("extra"), Params::new().with("content", "images").with("disable", true)).await;
    let _ = storages.delete(&id("extra")).await;
    let storage = client.node(&id("pve1")).storage(&id("local"));
    let _ = storage.status().await;
    let filter = ContentFilter { content: some("images"), vmid: Some(id("100")) };
    let _ = storage.content(&filter).await;
    let volume = id("local:100/vm-100-disk-0.qcow2");
    let _ = storage.volume(&volume).await;
    let _ = storage.allocate(id("100"), "vm-100-disk-1.raw", 1024, Some("raw")).await;
    let _ = storage.free(&volume).await;
    let checksum = Checksum { algorithm: "sha256".into(), value: "ab".into() };
    let download = Download {
        url: "https://images.example.org/a.iso".into(),
        content: FileContent::Iso,
        file_name: "a.iso".into(),
        checksum: Some(checksum.clone()),
        compression: some("zst"),
        verify_certificates: Some(true),
    };
    let _ = storage.download_url(&download).await;
    let source = UploadSource::new(tokio::io::empty(), 0);
    let _ = storage.upload(FileContent::Import, "a.qcow2", source, Some(&checksum), |_| ()).await;
}

async fn pools(client: &Client) {
    let pools = client.pools();
    let members = PoolMembers { guests: vec![id("100"), id("101")], storages: vec![id("local")] };
    let _ = pools.list().await;
    for pool in ["lab", "a/b"] {
        let pool = id(pool);
        let _ = pools.get(&pool).await;
        let _ = pools.create(&pool, Some("x")).await;
        let _ = pools.set_comment(&pool, "y").await;
        let _ = pools.add(&pool, &members, true).await;
        let _ = pools.remove(&pool, &members).await;
        let _ = pools.delete(&pool).await;
    }
}

async fn ha_and_backup(client: &Client) {
    let ha = client.cluster().ha();
    let settings = HaResourceSettings {
        state: some("started"),
        group: None,
        max_restart: Some(1),
        max_relocate: Some(1),
        failback: None,
        comment: some("x"),
    };
    let _ = ha.resources().await;
    let _ = ha.resource("vm:100").await;
    let _ = ha.create_resource("vm:100", &settings).await;
    let _ = ha.update_resource("vm:100", &settings, &["comment"]).await;
    let _ =
        ha.create_resource("vm:101", &HaResourceSettings { group: some("g"), ..Default::default() }).await;
    let _ = ha
        .create_resource("vm:102", &HaResourceSettings { failback: Some(true), ..Default::default() })
        .await;
    let _ = ha.delete_resource("vm:100").await;
    let _ = ha.groups().await;
    let _ = ha.group("g").await;
    let _ = ha.create_group("g", &["pve1:2", "pve2"], Params::new().with("restricted", true)).await;
    let _ = ha.update_group("g", Params::new().with("comment", "x")).await;
    let _ = ha.delete_group("g").await;
    let _ = ha.rules().await;
    let _ = ha.rule("r").await;
    let _ = ha.create_node_affinity("r", &["vm:100"], &["pve1:2", "pve2"], true).await;
    for affinity in [Affinity::Together, Affinity::Apart] {
        let _ = ha.create_resource_affinity("r", &["vm:100", "vm:101"], affinity).await;
    }
    let _ = ha.update_rule("r", "node-affinity", Params::new().with("nodes", "pve1")).await;
    let _ = ha.delete_rule("r").await;
    let _ = ha.status().await;
    let _ = Ha::migrate(&ha, "vm:100", &id("pve2")).await;
    let jobs = client.cluster().backup_jobs();
    let job = Params::new().with("schedule", "sat 02:00").with("storage", "local").with("vmid", "100");
    let _ = jobs.list().await;
    let _ = jobs.create(job.with("id", "backup-1").with("enabled", true)).await;
    let _ = jobs.get("backup-1").await;
    let _ = jobs.update("backup-1", Params::new().with("comment", "x")).await;
    let _ = jobs.delete("backup-1").await;
}

async fn access(client: &Client) {
    let access = client.access();
    let _ = access.index().await;
    let _ = access.permissions().await;
    let _ = access.permissions_on("/vms/100").await;
    let _ = access.permissions_of("ann@pve!ci", Some("/vms")).await;
    let groups = access.groups();
    let _ = groups.list().await;
    let _ = groups.create(&id("admins"), Some("x")).await;
    let _ = groups.get(&id("admins")).await;
    let _ = groups.update(&id("admins"), "y").await;
    let _ = groups.delete(&id("admins")).await;
    let roles = access.roles();
    let _ = roles.list().await;
    let _ = roles.create(&id("Deployer"), &[Privilege::VmAllocate, Privilege::VmAudit]).await;
    let _ = roles.get(&id("Deployer")).await;
    let _ = roles.update(&id("Deployer"), &[Privilege::VmAudit]).await;
    let _ = roles.add_privileges(&id("Deployer"), &[Privilege::VmClone]).await;
    let _ = roles.delete(&id("Deployer")).await;
    let realms = access.realms();
    let _ = realms.list().await;
    let ldap = Params::new().with("server1", "ldap.test").with("base_dn", "dc=test").with("user_attr", "uid");
    let _ = realms.create(&id("corp"), "ldap", ldap.with("password", "bindsecret")).await;
    let _ = realms.get(&id("corp")).await;
    let _ = realms.update(&id("corp"), Params::new().with("comment", "x").with("default", true)).await;
    for scope in [SyncScope::Users, SyncScope::Groups, SyncScope::Both] {
        let how = RealmSync {
            scope: Some(scope),
            remove_vanished: some("entry;acl"),
            enable_new: Some(true),
            dry_run: true,
        };
        let _ = realms.sync(&id("corp"), &how).await;
    }
    let _ = realms.delete(&id("corp")).await;
    let acl = access.acl();
    let _ = acl.list().await;
    let grant = Grant {
        path: "/vms/100".into(),
        roles: vec![id("PVEVMAdmin"), id("PVEAuditor")],
        subjects: vec![
            Subject::User(id("ann@pve")),
            Subject::Group(id("admins")),
            Subject::Token(id("ann@pve!ci")),
        ],
        propagate: true,
    };
    let _ = acl.grant(&grant).await;
    let _ = acl.revoke(&grant).await;
}

async fn accounts(client: &Client) {
    let (access, ann) = (client.access(), id("ann@pve"));
    let secret = Secret::new("annspassword");
    let users = access.users();
    let settings = UserSettings {
        enable: Some(true),
        expire: Some(0),
        firstname: some("Ann"),
        lastname: some("Example"),
        email: some("ann@example.net"),
        comment: some("x"),
        groups: Some(vec![id("admins")]),
        keys: some("x"),
    };
    let _ = users.list().await;
    let _ = users.list_full().await;
    let _ = users.create(&ann, &settings, Some(&secret)).await;
    let _ = users.get(&ann).await;
    let _ = users.update(&ann, &settings).await;
    let _ = users.update_adding_groups(&ann, &settings).await;
    let _ = users.unlock_tfa(&ann).await;
    let _ = users.tfa_types(&ann).await;
    let _ = users.delete(&ann).await;
    let tokens = access.tokens(&ann);
    let settings = TokenSettings { privsep: Some(true), expire: Some(0), comment: some("x") };
    let _ = tokens.list().await;
    let _ = tokens.create(&id("ci"), &settings).await;
    let _ = tokens.get(&id("ci")).await;
    let _ = tokens.update(&id("ci"), &settings).await;
    let _ = tokens.delete(&id("ci")).await;
    let _ = access.set_password(&ann, &secret, Some(&secret)).await;
    let tfa = access.tfa();
    let _ = tfa.list().await;
    let _ = tfa.list_of(&ann).await;
    let _ = tfa.get(&ann, "x1").await;
    let uri = Secret::new("otpauth://totp/x?secret=AAAA");
    let _ = tfa.add_totp(&ann, "phone", &uri, &Secret::new("123456"), Some(&secret)).await;
    let _ = tfa.add_recovery(&ann, Some(&secret)).await;
    let _ = tfa.update(&ann, "x1", Some(false), Some("y"), Some(&secret)).await;
    let _ = tfa.delete(&ann, "x1", Some(&secret)).await;
}
