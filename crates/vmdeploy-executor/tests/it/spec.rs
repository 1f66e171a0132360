//! The whole line: YAML, observation, plan, run, observation, empty plan, destruction; by every transport.

use crate::fixture::{Fixture, Transports, drained, quick_world};
use pve_types::Secret;
use std::sync::Arc;
use tokio::sync::mpsc::unbounded_channel;
use vmdeploy_executor::{
    Event, RunOptions, RunReport, RunResult, SecretError, SecretResolver, cancellation, execute, html_page,
    observe,
};
use vmdeploy_planner::plan::{CheckedPlan, Plan, PlanContext, PlanMode, SecretRef};
use vmdeploy_planner::spec::{Deployment, Diagnostic, LoadOptions, SourceFile, load};
use vmdeploy_planner::{AskContext, ask, make_plan};

const PASSWORD: &str = "correct horse battery staple";

fn yaml(transport: &str, image: &str, vms: usize) -> String {
    let mut text = format!(
        "version: 1\nproject: web\ntransport: {transport}\ndefaults: {{node: pve1, agent: true, onboot: true}}\nimages:\n  tiny: {{{image}}}\nvms:\n"
    );
    for number in 1..=vms {
        text.push_str(&format!(
            "  web{number:02}:\n    vmid: {}\n    tags: [web, test]\n    cpu: 2\n    memory: 1GiB\n    \
             disks:\n      scsi0: {{storage: local-lvm, image: tiny, size: 2GiB, discard: true, ssd: true}}\n      \
             scsi1: {{storage: local-lvm, size: 3GiB}}\n    nics:\n      net0: {{bridge: vmbr0, ip: 10.40.0.{number}/24, \
             gateway: 10.40.0.254}}\n    cloud_init: {{user: admin, password: {{env: WEB_PASSWORD}}, \
             ssh_keys: [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9y6Ie6yQy5x4Jm0o7U0v3Yg6o8Vn0C5Yw0u7Yv0abc me@here\"]}}\n    \
             ready: {{ip: {{nic: net0, timeout: 30s}}, cloud_init: 30s}}\n",
            200 + number
        ));
    }
    text
}

const ON_NODE: &str = "path: /var/lib/vz/import/tiny.qcow2";
const IN_PVE: &str = "volume: 'local:import/tiny.qcow2'";

pub fn spec(text: &str) -> Deployment {
    let file = SourceFile { name: "web.yaml".to_owned(), text: text.into() };
    let loaded = load(&[file], &LoadOptions::default());
    loaded.unwrap_or_else(|faults| panic!("{faults:#?}")).deployment
}

pub struct Passwords;

impl SecretResolver for Passwords {
    fn secret(&self, source: &SecretRef) -> Result<Secret, SecretError> {
        assert_eq!(*source, SecretRef::Env("WEB_PASSWORD".to_owned()));
        Ok(Secret::new(PASSWORD))
    }
    fn public_keys(&self, _account: &str) -> Result<Vec<String>, SecretError> {
        Ok(Vec::new())
    }
}

pub async fn planned(fixture: &Fixture, deployment: &Deployment, run: &str, mode: PlanMode) -> Plan {
    try_planned(fixture, deployment, run, mode).await.unwrap_or_else(|told| panic!("{told}"))
}

/// Plans; returns what is said where that cannot be.
pub async fn try_planned(
    fixture: &Fixture,
    deployment: &Deployment,
    run: &str,
    mode: PlanMode,
) -> Result<Plan, String> {
    let asked = AskContext { cluster: "default".to_owned(), default_node: None };
    let observed = observe(&fixture.connections, &ask(deployment, &asked)).await.unwrap();
    let mut context = PlanContext::new(run, &observed);
    context.mode = mode;
    context.ssh_available = fixture.connections.has_ssh();
    context.unfinished_creates = fixture.runs().unfinished_creates(&deployment.project).unwrap();
    let told = |faults: Vec<Diagnostic>| faults.iter().map(ToString::to_string).collect::<String>();
    make_plan(deployment, &context).map_err(told)
}

pub async fn carried_out(fixture: &Fixture, plan: Plan) -> (RunReport, Vec<Event>) {
    let (_switch, stop) = cancellation();
    let (sender, receiver) = unbounded_channel();
    let options = RunOptions { secrets: Arc::new(Passwords), ..fixture.options() };
    let plan = CheckedPlan::new(plan).unwrap();
    let report = execute(plan, &fixture.connections, &options, sender, stop).await.unwrap();
    (report, drained(receiver))
}

/// Deploys, deploys again, and destroys; returns the fixture as it was after the first deployment.
async fn whole_line(
    transport: &str,
    image: &str,
    transports: Transports,
) -> impl PartialEq + std::fmt::Debug + use<> {
    let fixture = Fixture::of(quick_world(), "[]", transports).await;
    let deployment = spec(&yaml(transport, image, 2));
    let plan = planned(&fixture, &deployment, "r1", PlanMode::Deploy).await;
    assert!(!plan.is_empty());
    let (report, events) = carried_out(&fixture, plan.clone()).await;
    assert_eq!(report.result, RunResult::Done, "{transport}: {:#?}", report.failures().collect::<Vec<_>>());
    let addresses: Vec<String> = report.vms.iter().map(|vm| vm.addresses[0].to_string()).collect();
    assert_eq!(addresses, ["10.40.0.1", "10.40.0.2"], "{transport}");
    no_secret_anywhere(&fixture, &plan, &report, &events);
    let mut guests = fixture.guests();
    for config in guests.values_mut() {
        // Every hash has a salt of its own.
        let hash = config.remove("cipassword").unwrap();
        assert!(hash.starts_with("$6$"), "{transport}: {hash}");
        assert_eq!(hash.rsplit('$').nth(1).map(str::len), Some(16), "crypt(3) takes 16 characters of salt");
    }
    let again = planned(&fixture, &deployment, "r2", PlanMode::Deploy).await;
    assert!(again.is_empty(), "{transport}: a second deploy has nothing to do: {:#?}", again.changes);
    let destroy = planned(&fixture, &deployment, "r3", PlanMode::Destroy).await;
    let (report, _) = carried_out(&fixture, destroy).await;
    assert_eq!(report.result, RunResult::Done, "{transport}: {:#?}", report.failures().collect::<Vec<_>>());
    assert!(fixture.guests().is_empty() && fixture.volumes() == 0, "{transport}");
    guests
}

/// Neither the password nor its hash is in a plan, a journal, an event or a report.
fn no_secret_anywhere(fixture: &Fixture, plan: &Plan, report: &RunReport, events: &[Event]) {
    let folder = fixture.runs().path().join("r1");
    let texts = [
        serde_json::to_string(plan).unwrap(),
        serde_json::to_string(report).unwrap(),
        serde_json::to_string(events).unwrap(),
        html_page(plan, report),
        std::fs::read_to_string(folder.join("plan.json")).unwrap(),
        std::fs::read_to_string(folder.join("journal.jsonl")).unwrap(),
    ];
    for text in texts {
        assert!(!text.contains(PASSWORD) && !text.contains("$6$"), "a secret is in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_four_transports_end_with_the_same_guests() {
    let hybrid = whole_line("hybrid", ON_NODE, Transports::Both).await;
    let auto = whole_line("auto", ON_NODE, Transports::Both).await;
    let api = whole_line("api", IN_PVE, Transports::Api).await;
    let ssh = whole_line("ssh", ON_NODE, Transports::Ssh).await;
    assert_eq!(auto, hybrid, "auto");
    assert_eq!(api, hybrid, "api");
    assert_eq!(ssh, hybrid, "ssh");
}
