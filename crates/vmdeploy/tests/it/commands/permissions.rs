//! Properties of permissions: what check-token says is what PVE does, and fix-token gives what is needed and no more.
//!
//! Each case has a lab of its own in which a token begins with nothing, is fixed, and then meets changes of roles and
//! access control entries. What PVE does is found out by a deployment whose plan has lost its checks of privileges.

use crate::lab_run::LabRun;
use proptest::prelude::*;
use pve_lab::WorldSpec;
use pve_types::Privilege;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A VM's options that need privileges of their own.
#[derive(Debug, Clone)]
struct Options {
    pool: bool,
    vlan: bool,
    tags: bool,
    startup: bool,
    cloud_init: bool,
    second_storage: bool,
    running: bool,
    clone: bool,
}

/// What is changed after the token was fixed.
#[derive(Debug, Clone)]
enum Change {
    /// A role of the token, or of its user, loses a privilege.
    RoleLoses(usize),
    /// An entry bars or replaces what is held on a path and below it.
    Entry { path: &'static str, role: &'static str, who: Who, propagate: bool },
    /// The token may do all that its user may.
    NotSeparated,
}

#[derive(Debug, Clone, Copy)]
enum Who {
    Token,
    User,
    Group,
}

#[derive(Debug, Clone)]
struct Case {
    vms: Vec<Options>,
    separated: bool,
    changes: Vec<Change>,
}

const SECRET: &str = "00000000-0000-4000-8000-000000000000";
const TOKEN: &str = "ci@pve!deploy";
const PATHS: [&str; 9] = [
    "/",
    "/vms",
    "/vms/301",
    "/vms/302",
    "/vms/900",
    "/pool/web",
    "/storage/local-lvm",
    "/sdn/zones/localnetwork/vmbr0",
    "/sdn/zones/localnetwork/vmbr0/40",
];
const ROLES: [&str; 9] = [
    "NoAccess",
    "NoAccess",
    "PVEAuditor",
    "PVEVMUser",
    "PVEVMAdmin",
    "PVEDatastoreUser",
    "PVESDNUser",
    "PVEPoolUser",
    "Administrator",
];

fn options() -> impl Strategy<Value = Options> {
    any::<[bool; 8]>().prop_map(|[pool, vlan, tags, startup, cloud_init, second_storage, running, clone]| {
        Options { pool, vlan, tags, startup: startup && vlan, cloud_init, second_storage, running, clone }
    })
}

fn change() -> impl Strategy<Value = Change> {
    let who = prop_oneof![3 => Just(Who::Token), 2 => Just(Who::User), 1 => Just(Who::Group)];
    let entry =
        (0..PATHS.len(), 0..ROLES.len(), who, any::<bool>()).prop_map(|(path, role, who, propagate)| {
            Change::Entry { path: PATHS[path], role: ROLES[role], who, propagate }
        });
    prop_oneof![
        3 => any::<usize>().prop_map(Change::RoleLoses),
        5 => entry,
        1 => Just(Change::NotSeparated),
    ]
}

fn case(changes: std::ops::Range<usize>) -> impl Strategy<Value = Case> {
    let vms = proptest::collection::vec(options(), 1..3);
    (vms, any::<bool>(), proptest::collection::vec(change(), changes))
        .prop_map(|(vms, separated, changes)| Case { vms, separated, changes })
}

fn spec(case: &Case) -> String {
    let mut text = String::from(
        "version: 1\nproject: rights\ntransport: api\ndefaults: {node: pve1}\n\
         images: {tiny: {volume: 'local:import/tiny.qcow2'}}\nvms:\n",
    );
    for (number, vm) in case.vms.iter().enumerate() {
        let mut keys = format!("vmid: {}, memory: 256MiB", 301 + number);
        let mut add = |when: bool, key: &str| {
            if when {
                let _ = write!(keys, ", {key}");
            }
        };
        let second = match vm.second_storage {
            true => ", scsi1: {storage: local, size: 1GiB}",
            false => "",
        };
        add(vm.clone, "clone: 900");
        add(vm.clone, &format!("disks: {{scsi0: {{size: 2GiB}}{second}}}"));
        let disk = "scsi0: {storage: local-lvm, image: tiny, size: 1GiB}";
        add(!vm.clone, &format!("disks: {{{disk}{second}}}"));
        let nic = if vm.vlan { "{bridge: vmbr0, vlan: 40" } else { "{bridge: vmbr0" };
        let ip = if vm.cloud_init { ", ip: dhcp" } else { "" };
        add(true, &format!("nics: {{net0: {nic}{ip}}}}}"));
        add(vm.cloud_init, "cloud_init: {user: admin}");
        add(vm.pool, "pool: web");
        add(vm.tags, "tags: [blue, red]");
        add(vm.startup, "startup: {order: 3}");
        add(!vm.running, "lifecycle: {state: stopped}");
        let _ = writeln!(text, "  vm{number}: {{{keys}}}");
    }
    text
}

fn lab(case: &Case) -> LabRun {
    let mut world = WorldSpec::demo();
    let separated = case.separated;
    let more = WorldSpec::from_yaml(&format!(
        "users: {{ci@pve: {{groups: [ops], tokens: {{deploy: {{secret: {SECRET}, privsep: {separated}}}}}}}}}\n\
         groups: {{ops: null}}\n\
         pools: {{web: {{}}}}\n\
         guests: {{900: {{config: {{name: golden, template: '1', memory: '256', \
         scsi0: 'local-lvm:base-900-disk-0,size=1G', net0: 'virtio=BC:24:11:00:00:01,bridge=vmbr0'}}}}}}\n"
    ));
    let more = more.unwrap();
    (world.users, world.groups, world.pools, world.guests) =
        (more.users, more.groups, more.pools, more.guests);
    let mut lab = LabRun::start(world, Vec::new());
    lab.user.write("spec.yaml", &spec(case));
    lab.user.add_variable("PROXMOX_API_USER", TOKEN);
    lab.user.add_variable("PROXMOX_API_PASSWORD", SECRET);
    lab
}

struct Ran {
    code: Option<i32>,
    out: String,
    said: String,
}

fn run(lab: &LabRun, arguments: &[&str]) -> Ran {
    let output = lab.user.output(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), out: text(&output.stdout), said: text(&output.stderr) }
}

/// Grants what is missing, in one run.
fn fixed(lab: &LabRun) {
    let fixed = run(lab, &["fix-token", "spec.yaml", "--yes"]);
    assert_eq!(fixed.code, Some(0), "{}{}", fixed.out, fixed.said);
}

/// The privileges of the roles that fix-token made.
fn given(lab: &LabRun) -> Vec<(String, Privilege)> {
    lab.world().with(|world| {
        let ours = world.access.roles.iter().filter(|(name, _)| name.starts_with("VMDeploy"));
        ours.flat_map(|(name, role)| role.privileges.iter().map(|privilege| (name.clone(), *privilege)))
            .collect()
    })
}

fn take(lab: &LabRun, role: &str, privilege: Privilege) {
    lab.world().with(|world| world.access.roles.get_mut(role).unwrap().privileges.remove(&privilege));
}

fn apply(lab: &LabRun, change: &Change) {
    match change {
        Change::RoleLoses(which) => {
            let given = given(lab);
            if let Some((role, privilege)) = given.get(which % given.len().max(1)) {
                take(lab, role, *privilege);
            }
        }
        Change::Entry { path, role, who, propagate } => lab.world().with(|world| {
            let node = world.access.acl.entry((*path).to_owned()).or_default();
            let (grants, id) = match who {
                Who::Token => (&mut node.tokens, TOKEN),
                Who::User => (&mut node.users, "ci@pve"),
                Who::Group => (&mut node.groups, "ops"),
            };
            grants.entry(id.to_owned()).or_default().insert((*role).to_owned(), *propagate);
        }),
        Change::NotSeparated => lab.world().with(|world| {
            let tokens = &mut world.access.users.get_mut("ci@pve").unwrap().tokens;
            tokens.get_mut("deploy").unwrap().privsep = false;
        }),
    }
}

fn is_enough(lab: &LabRun) -> (bool, String) {
    let checked = run(lab, &["check-token", "spec.yaml", "--json"]);
    let verdict: serde_json::Value =
        serde_json::from_str(&checked.out).unwrap_or_else(|_| panic!("{}", checked.said));
    let is_enough = verdict["enough"].as_bool().unwrap();
    assert_eq!(checked.code, Some(if is_enough { 0 } else { 7 }), "{}", checked.said);
    (is_enough, checked.out)
}

/// Carries out the plan without its checks of privileges; tells whether PVE let all of it be done.
fn is_done(lab: &LabRun, mode: &[&str]) -> (bool, String) {
    let _ = std::fs::remove_file(lab.user.path("plan.json"));
    let planned = run(lab, &[&["plan", "spec.yaml", "--out", "plan.json"], mode].concat());
    let Ok(text) = std::fs::read_to_string(lab.user.path("plan.json")) else { return (false, planned.said) };
    let mut plan: serde_json::Value = serde_json::from_str(&text).unwrap();
    let checks = plan["checks"].as_array_mut().unwrap();
    checks.retain(|check| check["is_right"] != true);
    lab.user.write("plan.json", &plan.to_string());
    let ran = run(lab, &["deploy", "--plan", "plan.json", "--yes"]);
    (ran.code == Some(0), ran.said)
}

/// How many cases are run: few enough for a slow machine, or what `PROPTEST_CASES` says.
fn cases(usual: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 40, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn check_token_says_what_the_deployment_meets(case in case(0..4)) {
        let lab = lab(&case);
        fixed(&lab);
        case.changes.iter().for_each(|change| apply(&lab, change));
        if case.vms.iter().any(|vm| vm.pool) && is_beyond_knowing(&lab) {
            return Ok(());
        }
        let (enough, verdict) = is_enough(&lab);
        let (deployed, said) = is_done(&lab, &[]);
        let (destroyed, said_then) = if deployed { is_done(&lab, &["--destroy"]) } else { (false, String::new()) };
        prop_assert_eq!(enough, deployed && destroyed, "{}\n{}\n{}\n{}", spec(&case), verdict, said, said_then);
    }

    #[test]
    fn fix_token_gives_nothing_that_is_not_needed(case in case(0..1), which in any::<usize>()) {
        let lab = lab(&case);
        fixed(&lab);
        let again = run(&lab, &["fix-token", "spec.yaml", "--yes"]);
        prop_assert!(again.said.contains("nothing is missing"), "{}", again.said);
        let given = given(&lab);
        let (role, privilege) = &given[which % given.len()];
        take(&lab, role, *privilege);
        prop_assert!(!is_enough(&lab).0, "{privilege} of {role} is needed");
        let (deployed, said) = is_done(&lab, &[]);
        let destroyed = deployed && is_done(&lab, &["--destroy"]).0;
        prop_assert!(!destroyed, "without {privilege} of {role} all is done: {said}\n{}", spec(&case));
    }
}

/// A pool's `NoAccess`, or one above a pool's member, is not told from "nothing was granted there" where nothing is
/// inherited that it takes away: PVE shows a token neither its entries nor what becomes of a member before there is one.
fn is_beyond_knowing(lab: &LabRun) -> bool {
    lab.world().with(|world| {
        world.access.acl.iter().any(|(path, node)| {
            let shuts = [&node.users, &node.groups, &node.tokens]
                .into_iter()
                .flat_map(BTreeMap::values)
                .any(|roles| roles.contains_key("NoAccess"));
            let inherits = pve_lab::api::rights(world, TOKEN, above(path)).values().any(|down| *down);
            shuts && !inherits && (path == "/" || path.starts_with("/vms") || path.starts_with("/pool"))
        })
    })
}

fn above(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &path[..end],
    }
}
