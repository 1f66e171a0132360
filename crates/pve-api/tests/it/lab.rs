//! Typical calls against the embedded PVE's API.

use libtest_mimic::Trial;
use pve_api::access::{Grant, RealmSync, Subject, TokenSettings, UserSettings};
use pve_api::*;
use pve_lab::{Lab, LabOptions};
use pve_types::{Privilege, Secret, TaskStatus, Vmid};
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    crate::trials![
        a_token_sees_version_nodes_storages_and_free_numbers,
        a_vm_lives_from_create_to_delete,
        a_missing_vm_is_absent_and_a_taken_number_is_taken,
        a_failed_task_says_why,
        a_change_with_an_old_digest_is_refused,
        a_password_logs_in_and_out,
        users_groups_roles_and_acls_come_and_go,
        a_restricted_token_is_denied_and_not_told_of_absence,
        a_token_is_refused_where_pve_wants_a_ticket,
        a_second_factor_is_asked_for,
        an_image_is_uploaded_and_found,
        volumes_are_allocated_and_freed,
        pools_hold_guests,
        snapshots_clones_and_templates,
        the_guest_agent_tells_the_address,
        tasks_are_listed_and_logged,
    ]
}

struct Stage {
    lab: Lab,
    client: Client,
}

fn id<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("`{text}`"))
}

fn wait() -> Wait {
    Wait::at_most(Duration::from_secs(60))
}

fn config(lab: &Lab, credentials: Credentials) -> ClientConfig {
    let endpoint = Endpoint::new(lab.api_addr().ip().to_string(), lab.api_addr().port());
    // Both: the CA must have signed it, and the fingerprint must match.
    let trust = Trust {
        ca_pem: Some(lab.ca_pem().as_bytes().to_vec()),
        fingerprints: vec![lab.fingerprint().parse().unwrap()],
    };
    ClientConfig::new(endpoint, credentials).with_trust(trust)
}

fn client(lab: &Lab, user: &str, secret: &str, factor: SecondFactorSource) -> Client {
    let credentials = Credentials::from_user(user, Secret::new(secret), factor).unwrap();
    Client::https(config(lab, credentials)).unwrap()
}

async fn stage() -> Stage {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let (user, secret) = lab.token().unwrap();
    let client = client(&lab, user, secret, SecondFactorSource::None);
    Stage { client, lab }
}

impl Stage {
    fn root(&self) -> Client {
        client(&self.lab, "root@pam", self.lab.root_password(), SecondFactorSource::None)
    }
    fn node(&self) -> Node {
        self.client.node(&id("pve1"))
    }
    async fn vm(&self, vmid: u32, params: Params) -> Qemu {
        let vmid = Vmid::new(vmid).unwrap();
        let task = self.node().qemu_create(vmid, params).await.unwrap();
        task.wait(wait()).await.unwrap();
        self.node().qemu(vmid)
    }
}

fn small() -> Params {
    Params::new().with("name", "web01").with("memory", 256u32).with("cores", 1u32)
}

async fn a_token_sees_version_nodes_storages_and_free_numbers() {
    let stage = stage().await;
    let version = stage.client.version().await.unwrap();
    assert!(version.is_at_least(8, 0), "{version:?}");
    let nodes = stage.client.nodes().await.unwrap();
    assert!(nodes.iter().any(|node| node.node.as_str() == "pve1" && node.is_online()));
    let storages = stage.node().storages(Some("images")).await.unwrap();
    assert!(storages.iter().all(|storage| storage.holds("images") && storage.is_usable()), "{storages:?}");
    assert!(!storages.is_empty());
    let bridges = stage.node().network(Some(InterfaceKind::AnyBridge)).await.unwrap();
    assert!(bridges.iter().any(|bridge| bridge.iface == "vmbr0"));
    let free = stage.client.cluster().next_id().await.unwrap();
    assert!(stage.client.cluster().is_free(free).await.unwrap());
    assert!(stage.client.access().permissions().await.unwrap().has("/vms", Privilege::VmAllocate));
    assert!(stage.node().status().await.unwrap().memory.unwrap().total.unwrap() > 0);
    assert!(stage.node().time().await.unwrap().time > 1_500_000_000);
}

async fn a_vm_lives_from_create_to_delete() {
    let stage = stage().await;
    let vm = stage.vm(201, small().with("scsi0", "local-lvm:1").with("onboot", true)).await;
    let config = vm.config().await.unwrap();
    assert_eq!((config.get("name"), config.get("onboot")), (Some("web01"), Some("1")));
    assert!(config.get("scsi0").unwrap().starts_with("local-lvm:vm-201-disk-0"), "{config:?}");
    vm.set_config(Params::new().with("description", "a=b&c;d ü\n2").with_some("digest", config.digest))
        .await
        .unwrap();
    assert_eq!(vm.config().await.unwrap().get("description").map(str::trim_end), Some("a=b&c;d ü\n2"));
    if let Some(task) = vm.resize("scsi0", "+1G").await.unwrap() {
        task.wait(wait()).await.unwrap();
    }
    assert!(vm.config().await.unwrap().get("scsi0").unwrap().contains("size=2G"));
    vm.start().await.unwrap().wait(wait()).await.unwrap();
    assert!(vm.status().await.unwrap().is_running());
    let resources = stage.client.cluster().resources(Some(ResourceKind::Guests)).await.unwrap();
    assert!(resources.iter().any(|item| item.vmid == Some(vm.vmid()) && item.is_vm()));
    let error = vm.delete(DeleteVm::default()).await.unwrap_err();
    assert_eq!(error.effect(), TookEffect::No, "{error}");
    vm.stop().await.unwrap().wait(wait()).await.unwrap();
    let done = vm.delete(DeleteVm { purge: true, ..DeleteVm::default() }).await.unwrap().wait(wait()).await;
    assert_eq!(done.unwrap().status, TaskStatus::Ok);
    assert!(vm.config().await.unwrap_err().is_absent());
}

async fn a_missing_vm_is_absent_and_a_taken_number_is_taken() {
    let stage = stage().await;
    let error = stage.node().qemu(id("999")).config().await.unwrap_err();
    assert!(error.is_absent() && !error.is_denied() && !error.is_unreachable(), "{error}");
    stage.vm(201, small()).await;
    assert!(!stage.client.cluster().is_free(id("201")).await.unwrap());
    let error = stage.node().qemu_create(id("201"), small()).await.unwrap_err();
    assert!(error.is_already_there() && error.effect() == TookEffect::No, "{error}");
    let error = stage.client.node(&id("nope")).qemu_list().await.unwrap_err();
    assert!(error.is_unreachable() && !error.is_absent(), "{error}");
    let error = stage.node().storage(&id("nope")).status().await.unwrap_err();
    assert!(error.is_absent(), "{error}");
    let error = stage.node().qemu_create(id("202"), Params::new().with("cores", "many")).await.unwrap_err();
    assert!(error.parameter_errors().unwrap().contains_key("cores"), "{error}");
    assert_eq!(error.effect(), TookEffect::No);
}

async fn a_failed_task_says_why() {
    let stage = stage().await;
    let vm = stage.vm(201, small()).await;
    vm.start().await.unwrap().wait(wait()).await.unwrap();
    let error = vm.start().await.unwrap().wait(wait()).await.unwrap_err();
    assert_eq!(error.to_string(), "task `qmstart` on `pve1` failed: VM 201 already running");
}

async fn a_change_with_an_old_digest_is_refused() {
    let stage = stage().await;
    let vm = stage.vm(201, small()).await;
    let digest = vm.config().await.unwrap().digest.unwrap();
    vm.set_config(Params::new().with("cores", 2u32)).await.unwrap();
    let error = vm.set_config(Params::new().with("cores", 4u32).with("digest", digest)).await.unwrap_err();
    assert!(error.is_digest_mismatch() && error.effect() == TookEffect::No, "{error}");
    assert_eq!(vm.config().await.unwrap().get("cores"), Some("2"));
}

async fn a_password_logs_in_and_out() {
    let stage = stage().await;
    let root = stage.root();
    assert!(!root.is_logged_in().await);
    root.log_in().await.unwrap();
    assert!(root.is_logged_in().await);
    root.node(&id("pve1")).qemu_create(id("300"), small()).await.unwrap().wait(wait()).await.unwrap();
    root.log_out().await;
    assert!(root.nodes().await.is_ok());
    let wrong = client(&stage.lab, "root@pam", "wrong-password", SecondFactorSource::None);
    let error = wrong.nodes().await.unwrap_err();
    assert!(error.is_unauthenticated() && error.effect() == TookEffect::No, "{error}");
    let anonymous = Client::https(config(&stage.lab, Credentials::Anonymous)).unwrap();
    assert!(anonymous.access().realms().list().await.unwrap().len() >= 2);
    assert!(anonymous.nodes().await.unwrap_err().is_unauthenticated());
}

async fn users_groups_roles_and_acls_come_and_go() {
    let stage = stage().await;
    let root = stage.root();
    let access = root.access();
    assert!(access.index().await.unwrap().contains(&"users".to_owned()));
    let (ann, staff, role) = (id("ann@pve"), id("staff"), id("Viewer"));
    access.groups().create(&staff, Some("people")).await.unwrap();
    let settings =
        UserSettings {
            groups: Some(vec![id("staff")]), comment: Some("ä b&c".into()), ..Default::default()
        };
    access.users().create(&ann, &settings, Some(&Secret::new("annspassword"))).await.unwrap();
    let error = access.users().create(&ann, &settings, None).await.unwrap_err();
    assert!(error.is_already_there(), "{error}");
    let user = access.users().get(&ann).await.unwrap();
    assert_eq!((user.comment.as_deref(), user.groups), (Some("ä b&c"), vec!["staff".to_owned()]));
    let renamed = UserSettings { firstname: Some("Ann".into()), ..UserSettings::default() };
    access.users().update(&ann, &renamed).await.unwrap();
    let listed = access.users().list_full().await.unwrap();
    assert!(
        listed
            .iter()
            .any(|user| user.userid.as_ref() == Some(&ann) && user.firstname.as_deref() == Some("Ann"))
    );
    assert_eq!(access.groups().get(&staff).await.unwrap().members, ["ann@pve"]);
    access.groups().update(&staff, "others").await.unwrap();

    access.roles().create(&role, &[Privilege::VmAudit]).await.unwrap();
    access.roles().add_privileges(&role, &[Privilege::DatastoreAudit]).await.unwrap();
    assert_eq!(access.roles().get(&role).await.unwrap(), ["Datastore.Audit", "VM.Audit"]);
    access.roles().update(&role, &[Privilege::VmAudit]).await.unwrap();
    let grant = Grant {
        path: "/vms".into(),
        roles: vec![role.clone()],
        subjects: vec![Subject::Group(staff.clone())],
        propagate: true,
    };
    access.acl().grant(&grant).await.unwrap();
    assert!(
        access.acl().list().await.unwrap().iter().any(|entry| entry.ugid == "staff" && entry.roleid == role)
    );
    assert!(access.permissions_of("ann@pve", Some("/vms")).await.unwrap().has("/vms", Privilege::VmAudit));
    let own = client(&stage.lab, "ann@pve", "annspassword", SecondFactorSource::None);
    assert!(own.access().permissions_on("/vms").await.unwrap().has("/vms", Privilege::VmAudit));
    access.set_password(&ann, &Secret::new("another-password"), None).await.unwrap();
    let own = client(&stage.lab, "ann@pve", "another-password", SecondFactorSource::None);
    own.log_in().await.unwrap();
    access.acl().revoke(&grant).await.unwrap();
    assert!(access.permissions_of("ann@pve", None).await.unwrap().is_empty());

    access.realms().update(&id("pve"), Params::new().with("comment", "ours")).await.unwrap();
    assert_eq!(access.realms().get(&id("pve")).await.unwrap().get("comment"), Some("ours"));
    assert!(
        access.realms().sync(&id("pve"), &RealmSync::default()).await.is_err(),
        "only LDAP and AD are synced"
    );
    access.users().delete(&ann).await.unwrap();
    access.groups().delete(&staff).await.unwrap();
    access.roles().delete(&role).await.unwrap();
    assert!(access.users().get(&ann).await.unwrap_err().is_absent());
}

async fn a_restricted_token_is_denied_and_not_told_of_absence() {
    let stage = stage().await;
    stage.vm(201, small()).await;
    let root = stage.root();
    let user = id("ci@pve");
    root.access().users().create(&user, &UserSettings::default(), None).await.unwrap();
    let settings = TokenSettings { comment: Some("c".into()), ..TokenSettings::default() };
    let token = root.access().tokens(&user).create(&id("look"), &settings).await.unwrap();
    assert!(!format!("{token:?}").contains(token.secret.expose()));
    assert!(root.access().tokens(&user).list().await.unwrap()[0].is_separated());
    let limited = Client::https(config(&stage.lab, token.credentials())).unwrap();
    assert!(limited.access().permissions().await.unwrap().is_empty());
    assert!(limited.cluster().resources(Some(ResourceKind::Guests)).await.unwrap().is_empty());
    let error = limited.node(&id("pve1")).qemu(id("201")).config().await.unwrap_err();
    assert!(error.is_denied() && !error.is_absent(), "{error}");
    assert!(!limited.cluster().is_free(id("201")).await.unwrap());
    let error = limited.node(&id("pve1")).qemu_create(id("202"), small()).await.unwrap_err();
    assert!(error.is_denied() && error.effect() == TookEffect::No, "{error}");
    root.access().tokens(&user).delete(&id("look")).await.unwrap();
    let error = limited.nodes().await.unwrap_err();
    assert!(error.is_unauthenticated() && !error.is_denied(), "{error}");
}

async fn a_token_is_refused_where_pve_wants_a_ticket() {
    let stage = stage().await;
    let error = stage
        .client
        .access()
        .set_password(&id("root@pam"), &Secret::new("whatever-1"), None)
        .await
        .unwrap_err();
    assert!(error.is_denied() && !error.to_string().contains("whatever"), "{error}");
}

async fn a_second_factor_is_asked_for() {
    let stage = stage().await;
    let root = stage.root();
    let bob = id("bob@pve");
    root.access()
        .users()
        .create(&bob, &UserSettings::default(), Some(&Secret::new("bobspassword")))
        .await
        .unwrap();
    let made =
        root.access().tfa().add_recovery(&bob, Some(&Secret::new(stage.lab.root_password()))).await.unwrap();
    let key = made.recovery[0].clone();
    assert!(!root.access().tfa().list_of(&bob).await.unwrap().is_empty());
    let without = client(&stage.lab, "bob@pve", "bobspassword", SecondFactorSource::None);
    let error = without.nodes().await.unwrap_err();
    assert!(error.is_unauthenticated() && error.hint().is_some(), "{error:?}");
    let asked = SecondFactorSource::ask(move |_, challenge| {
        assert_eq!(challenge.kinds(), ["recovery"]);
        Ok(SecondFactor::Recovery(key.clone()))
    });
    client(&stage.lab, "bob@pve", "bobspassword", asked).nodes().await.unwrap();
}

async fn an_image_is_uploaded_and_found() {
    let stage = stage().await;
    let storage = stage.node().storage(&id("local"));
    let content = vec![7u8; 300_000];
    let checksum = Checksum { algorithm: "sha256".into(), value: hex(&content) };
    let source = UploadSource::new(std::io::Cursor::new(content), 300_000);
    let mut last = None;
    let task = storage
        .upload(FileContent::Iso, "tools.iso", source, Some(&checksum), |now| last = Some(now.sent))
        .await
        .unwrap();
    task.wait(wait()).await.unwrap();
    assert_eq!(last, Some(300_000));
    let filter = ContentFilter { content: Some("iso".into()), vmid: None };
    let found = storage.content(&filter).await.unwrap();
    let volume = found.iter().find(|volume| volume.volid.as_str() == "local:iso/tools.iso").unwrap();
    assert_eq!(volume.size, Some(300_000));
}

fn hex(content: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn volumes_are_allocated_and_freed() {
    let stage = stage().await;
    let storage = stage.node().storage(&id("local-lvm"));
    let volume = storage.allocate(id("201"), "vm-201-disk-7", 1 << 20, None).await.unwrap();
    assert_eq!(volume.as_str(), "local-lvm:vm-201-disk-7");
    assert_eq!(storage.volume(&volume).await.unwrap().size, Some(1 << 30));
    let error = storage.allocate(id("201"), "vm-201-disk-7", 1 << 20, None).await.unwrap_err();
    assert!(error.answer().is_some(), "{error}");
    if let Some(task) = storage.free(&volume).await.unwrap() {
        task.wait(wait()).await.unwrap();
    }
    assert!(storage.content(&ContentFilter::default()).await.unwrap().is_empty());
}

async fn pools_hold_guests() {
    let stage = stage().await;
    stage.vm(201, small()).await;
    let (pools, lab) = (stage.client.pools(), id("shelf"));
    pools.create(&lab, Some("x")).await.unwrap();
    assert!(pools.create(&lab, None).await.unwrap_err().is_already_there());
    let members = PoolMembers { guests: vec![id("201")], storages: vec![] };
    pools.add(&lab, &members, false).await.unwrap();
    let pool = pools.get(&lab).await.unwrap();
    assert_eq!(pool.members[0].vmid, Some(id("201")));
    pools.remove(&lab, &members).await.unwrap();
    pools.delete(&lab).await.unwrap();
    assert!(pools.get(&lab).await.unwrap_err().is_absent());
}

async fn snapshots_clones_and_templates() {
    let stage = stage().await;
    let vm = stage.vm(201, small().with("scsi0", "local-lvm:1")).await;
    let snapshots = vm.snapshots();
    snapshots.create("before", &NewSnapshot::default()).await.unwrap().wait(wait()).await.unwrap();
    assert!(snapshots.list().await.unwrap().iter().any(|snapshot| snapshot.name == "before"));
    snapshots.roll_back("before").await.unwrap().wait(wait()).await.unwrap();
    snapshots.delete("before", false).await.unwrap().wait(wait()).await.unwrap();
    let clone = CloneVm { name: Some("copy".into()), full: Some(true), ..CloneVm::default() };
    vm.clone_to(id("202"), &clone).await.unwrap().wait(wait()).await.unwrap();
    assert_eq!(stage.node().qemu(id("202")).config().await.unwrap().get("name"), Some("copy"));
    vm.make_template().await.unwrap().wait(wait()).await.unwrap();
    assert_eq!(vm.config().await.unwrap().get("template"), Some("1"));
}

async fn the_guest_agent_tells_the_address() {
    let stage = stage().await;
    let params = small()
        .with("scsi0", "local-lvm:0,import-from=local:import/debian-13.qcow2")
        .with("net0", "virtio,bridge=vmbr0")
        .with("ide2", "local-lvm:cloudinit")
        .with("ipconfig0", "ip=10.40.0.5/24,gw=10.40.0.1")
        .with("boot", "order=scsi0");
    let vm = stage.vm(201, params).await;
    let error = vm.agent().network_interfaces().await.unwrap_err();
    assert_eq!(AgentTrouble::of(&error), Some(AgentTrouble::NotConfigured), "{error}");
    vm.set_config(Params::new().with("agent", 1u32)).await.unwrap();
    let error = vm.agent().network_interfaces().await.unwrap_err();
    assert_eq!(AgentTrouble::of(&error), Some(AgentTrouble::VmNotRunning), "{error}");
    vm.start().await.unwrap().wait(wait()).await.unwrap();
    let macs = vm.config().await.unwrap().mac_addresses().into_iter().map(|(_, mac)| mac).collect();
    let desired = AddressFilter { macs, ..AddressFilter::default() };
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let found = loop {
        assert!(std::time::Instant::now() < deadline, "no address");
        match vm.agent().network_interfaces().await {
            Ok(interfaces) => {
                if let Some(found) = choose_address(&interfaces, &desired) {
                    break found;
                }
            }
            Err(error) => assert_eq!(AgentTrouble::of(&error), Some(AgentTrouble::NotRunning), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(found.address.to_string(), "10.40.0.5");
    vm.agent().ping().await.unwrap();
    assert!(vm.agent().os_info().await.unwrap().id.is_some());
}

async fn tasks_are_listed_and_logged() {
    let stage = stage().await;
    let vm = stage.vm(201, small().with("scsi0", "local-lvm:1")).await;
    let task = vm.start().await.unwrap();
    task.wait(wait()).await.unwrap();
    let filter = TaskFilter { vmid: Some(id("201")), source: Some(TaskSource::All), ..TaskFilter::default() };
    let listed = stage.node().tasks(&filter).await.unwrap();
    assert!(listed.iter().any(|item| item.upid == task.upid().as_str()), "{listed:?}");
    assert!(task.whole_log().await.unwrap().iter().any(|line| line.t == "TASK OK"));
    let gone = "UPID:pve1:0000C2A1:00A1B2C3:6560A1B2:qmstart:100:root@pam:".parse().unwrap();
    let error = stage.client.task(&gone).status().await.unwrap_err();
    assert!(error.is_absent(), "{error}");
}
