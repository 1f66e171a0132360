//! For any spec, deploy then plan is empty; for any two, deploy A, deploy B, plan B is empty.

use crate::pve::Pve;
use crate::specs::{steps, told, try_plan_with};
use proptest::prelude::*;
use std::fmt::Write as _;
use vmdeploy_planner::plan::Plan;

/// Throws that decide what a spec says.
struct Dice<'d> {
    throws: std::slice::Iter<'d, u8>,
}

impl Dice<'_> {
    fn roll(&mut self) -> usize {
        usize::from(*self.throws.next().unwrap_or(&0))
    }
    /// One of these; the empty ones say nothing.
    fn pick<'t>(&mut self, choices: &[&'t str]) -> &'t str {
        choices[self.roll() % choices.len()]
    }
}

/// Returns the lines of one VM.
fn vm(dice: &mut Dice<'_>) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        if !text.is_empty() {
            let _ = writeln!(out, "    {text}");
        }
    };
    line(dice.pick(&[
        "",
        "cpu: 2",
        "cpu: {cores: 4, sockets: 2}",
        "cpu: {cores: 2, type: host, flags: [+aes, -pcid]}",
        "cpu: {type: x86-64-v2-AES, limit: 1.5, units: 200}",
        "cpu: {cores: 8, numa: true}",
    ]));
    line(dice.pick(&[
        "memory: 1GiB",
        "memory: 2GiB",
        "memory: {size: 2GiB, balloon: 1GiB}",
        "memory: {size: 1GiB, balloon: false, shares: 500}",
        "",
    ]));
    line(dice.pick(&[
        "",
        "agent: true",
        "agent: {enabled: true, fstrim_cloned: true}",
        "agent: false",
        "agent: null",
    ]));
    line(dice.pick(&["", "onboot: true", "onboot: false"]));
    line(dice.pick(&["", "tags: [b, a, A]", "tags: [c]", "tags: []", "tags: null"]));
    line(dice.pick(&[
        "",
        "description: one",
        "description: \"two\\n\\nlines\\n\"",
        "description: null",
        "description: \"  trailing  \"",
    ]));
    line(dice.pick(&["", "scsihw: virtio-scsi-single", "scsihw: lsi"]));
    line(dice.pick(&["", "machine: q35", "machine: pc", "machine: {type: q35, viommu: virtio}"]));
    line(dice.pick(&["", "serial: {serial0: socket}", "serial: {serial0: null}"]));
    line(dice.pick(&["", "vga: serial0", "vga: std", "vga: {type: virtio, memory: 32MiB}", "vga: null"]));
    line(dice.pick(&[
        "",
        "rng: urandom",
        "rng: {source: random, max_bytes: 1024, period: 1000}",
        "rng: null",
    ]));
    line(dice.pick(&["", "watchdog: i6300esb", "watchdog: {model: ib700, action: reset}", "watchdog: null"]));
    line(dice.pick(&["", "startup: 3", "startup: {order: 2, up: 30s, down: 1m}", "startup: null"]));
    line(dice.pick(&["", "hotplug: false", "hotplug: [disk, network]", "hotplug: [network, disk, usb]"]));
    line(dice.pick(&["", "ostype: l26", "ostype: other"]));
    line(dice.pick(&["", "pool: lab", "pool: prod", "pool: null"]));
    line(dice.pick(&["", "smbios: {manufacturer: ACME Inc, serial: x1}", "smbios: {serial: x2}"]));
    line(dice.pick(&["", "bios: {type: ovmf, efi: {storage: fast}}", "tpm: {storage: fast}"]));
    line(
        dice.pick(
            &[
                "",
                "raw: {args: -no-reboot}",
                "raw: {audio0: 'device=ich9-intel-hda'}",
                "raw: {args: null}",
                "affinity_is_below: 1",
            ]
            .map(|text| if text.starts_with("affinity_is") { "" } else { text }),
        ),
    );
    line(dice.pick(&["", "ha: started", "ha: {state: stopped, max_restart: 3}", "ha: null", "", ""]));
    line(dice.pick(&[
        "",
        "lifecycle: {state: running}",
        "lifecycle: {state: stopped}",
        "lifecycle: {restart: when-needed}",
        "lifecycle: {state: running, restart: when-needed}",
    ]));
    line("disks:");
    line(dice.pick(&[
        "  scsi0: {storage: local-lvm, image: debian-13, size: 20GiB}",
        "  scsi0: {storage: local-lvm, image: debian-13, size: 20GiB, discard: true, ssd: true}",
        "  scsi0: {storage: fast, image: debian-13}",
        "  scsi0: {storage: local-lvm, image: debian-13, size: 30GiB, cache: writeback, iothread: false}",
    ]));
    line(dice.pick(&[
        "",
        "  scsi1: {storage: fast, size: 8GiB}",
        "  scsi1: {storage: fast, size: 8GiB, serial: 'osd 1', backup: false}",
        "  scsi1: {storage: local-lvm, size: 16GiB, throttle: {read_mbps: 100, write_iops: 2000}}",
        "  scsi1: null",
    ]));
    line(dice.pick(&[
        "",
        "  virtio2: {storage: fast, size: 1.5GiB, format: raw, aio: native, cache: none}",
        "  virtio2: null",
        "  sata1: {storage: local, size: 4GiB, detect_zeroes: true}",
    ]));
    line(dice.pick(&["", "  ide0: {iso: none}", "  ide0: {iso: 'local:iso/tools.iso'}", "  ide0: null"]));
    line("nics:");
    line(dice.pick(&[
        "  net0: {bridge: vmbr0, ip: 10.40.0.5/24, gateway: 10.40.0.1}",
        "  net0: {bridge: vmbr0, ip: dhcp}",
        "  net0: {bridge: vmbr1, vlan: 40, firewall: true, ip: 10.41.0.5/24}",
        "  net0: {bridge: vmbr0, mac: 'bc:24:11:aa:bb:cc', mtu: 9000, queues: 4, ip: dhcp, ip6: auto}",
        "  net0: {bridge: vmbr0, model: e1000, rate: 12.5}",
    ]));
    line(dice.pick(&[
        "",
        "  net1: {bridge: vmbr1, trunks: [10, 20-30], link_down: true}",
        "  net1: null",
        "  net1: {bridge: vmbr0, ip6: 'fd00::5/64', gateway6: 'fd00::1'}",
    ]));
    let cloud = dice.pick(&["", "cloud_init: {user: admin}", "cloud_init: {user: root, ssh_keys: [{file: demo.pub}, 'ssh-ed25519 AAAAC3Nz other'], dns: {servers: [10.0.0.1, 10.0.0.2], search: lab.example.org}}", "cloud_init: {user: admin, password: {env: WEB_PASSWORD}, ssh_keys: ['github:octocat'], upgrade: false}", "cloud_init: {slot: ide3, user: admin, ssh_keys: null, user_data: cloud/user.yaml}", "cloud_init: {user: admin, type: nocloud, ssh_keys: []}"]);
    line(cloud);
    out
}

fn spec(throws: &[u8]) -> String {
    let mut dice = Dice { throws: throws.iter() };
    let road = dice.pick(&["hybrid", "auto", "ssh"]);
    let mut text = format!(
        "version: 1\nproject: any\nroad: {road}\nimages:\n  debian-13: {{path: /var/lib/vz/import/debian-13.qcow2}}\nvms:\n"
    );
    let _ = write!(text, "  one:\n    vmid: 201\n    node: pve1\n{}", vm(&mut dice));
    let _ = write!(
        text,
        "  two:\n    vmid: {{range: [300, 310]}}\n    node: pve1\n{}",
        vm(&mut dice).replace("0.5/24", "0.6/24").replace("aa:bb:cc", "aa:bb:cd").replace("::5/64", "::6/64")
    );
    text
}

/// Reads a spec; a combination that the spec's own rules refuse is no case.
fn try_load(yaml: &str) -> Option<vmdeploy_planner::spec::Deployment> {
    let files = [vmdeploy_planner::spec::SourceFile::new("any.yaml", yaml.to_owned())];
    vmdeploy_planner::spec::load(&files, &Default::default()).ok().map(|loaded| loaded.deployment)
}

fn shown(plan: &Plan) -> String {
    let reasons = plan.changes.iter().flat_map(|change| &change.reasons);
    let lines: Vec<String> =
        reasons.map(|why| format!("  {} {:?} -> {:?} {:?}", why.path, why.from, why.to, why.note)).collect();
    format!("{:?}\n{}", steps(plan), lines.join("\n"))
}

fn deploys_and_is_done(pve: &mut Pve, yaml: &str) -> Result<bool, TestCaseError> {
    let Some(deployment) = try_load(yaml) else { return Ok(false) };
    // A plan may refuse the step from one spec to the other (a shrink, say): then nothing happened.
    let Ok(plan) = try_plan_with(&pve.observed(), &deployment, |_| {}) else { return Ok(false) };
    pve.apply(&plan);
    let again = try_plan_with(&pve.observed(), &deployment, |_| {});
    let again = again.map_err(|faults| TestCaseError::fail(format!("{}\n{yaml}", told(&faults))))?;
    prop_assert!(
        again.is_empty(),
        "after {:?}\nstill {}\n{yaml}\n{:?}",
        steps(&plan),
        shown(&again),
        pve.guests[&"201".parse().unwrap()].values
    );
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_deploy_the_same_plan_is_empty(throws in proptest::collection::vec(any::<u8>(), 80)) {
        deploys_and_is_done(&mut Pve::new(), &spec(&throws))?;
    }

    #[test]
    fn after_deploys_of_any_two_specs_the_second_plan_is_empty(
        one in proptest::collection::vec(any::<u8>(), 80),
        changed in proptest::collection::vec((0..80usize, any::<u8>()), 1..20),
    ) {
        let mut other = one.clone();
        for (at, throw) in changed {
            other[at] = throw;
        }
        let mut pve = Pve::new();
        if deploys_and_is_done(&mut pve, &spec(&one))? {
            deploys_and_is_done(&mut pve, &spec(&other))?;
        }
    }
}

#[test]
fn most_of_the_specs_of_the_properties_are_specs() {
    let throws = |seed: u8| {
        (0..80u8)
            .map(move |at| at.wrapping_mul(31).wrapping_add(seed.wrapping_mul(7)) ^ seed)
            .collect::<Vec<u8>>()
    };
    let read = (0..=255).filter(|seed| try_load(&spec(&throws(*seed))).is_some()).count();
    assert!(read > 100, "{read} of 256");
    let done = (0..=255).filter(|seed| {
        let Some(deployment) = try_load(&spec(&throws(*seed))) else { return false };
        try_plan_with(&Pve::new().observed(), &deployment, |_| {}).is_ok()
    });
    assert!(done.count() > 80);
}
