//! One rich spec by each of the four transports, on PVE 8.4 and 9: the guests are the same, key by key.

use crate::fixture::{Fixture, Transports, quick_world};
use crate::spec::{carried_out, planned, spec};
use pve_types::{PveVersion, Vmid};
use std::collections::BTreeMap;
use vmdeploy_executor::RunResult;
use vmdeploy_planner::plan::PlanMode;

/// A template with a linked and a full clone, a VM with an option of every kind that root@pam alone is not needed for,
/// and one under high availability with mapped devices of its node.
const RICH: &str = "version: 1
project: rich
images:
  tiny: {volume: 'local:import/tiny.qcow2'}
defaults: {node: pve1}
vms:
  tmpl:
    vmid: 300
    template: true
    scsihw: virtio-scsi-single
    disks: {scsi0: {storage: local-lvm, image: tiny, discard: true}}
    nics: {net0: {bridge: vmbr0, mac: 'bc:24:11:00:03:00'}}
  linked:
    vmid: 301
    clone: {from: tmpl, mode: linked}
    disks: {scsi0: {discard: false, ssd: true, size: 2GiB}, scsi1: {storage: local-lvm, size: 1GiB}}
    nics: {net0: {mac: 'bc:24:11:00:03:01', vlan: 5}}
    lifecycle: {state: stopped}
  full:
    vmid: 302
    clone: {from: tmpl, mode: full}
    nics: {net0: {mac: 'bc:24:11:00:03:02'}}
    lifecycle: {state: stopped}
  rich:
    vmid: 310
    description: \"all of it\\n\\nin two paragraphs\"
    tags: [lab, Rich]
    pool: lab
    protection: true
    onboot: true
    startup: {order: 3, up: 10s, down: 1m}
    reboot: true
    cpu: {cores: 2, sockets: 1, vcpus: 1, type: x86-64-v2-AES, flags: [+aes, -pcid], limit: 1.5, units: 200, numa: true}
    numa: {numa0: {cpus: 0-1, memory: 1GiB}}
    memory: {size: 1GiB, balloon: 512MiB, shares: 500}
    machine: {type: q35, viommu: virtio}
    bios: {type: ovmf, efi: {storage: local-lvm, type: 4m, secure_boot_keys: true}}
    tpm: {storage: local-lvm, version: v2.0}
    ostype: l26
    scsihw: virtio-scsi-single
    disks:
      scsi0: {storage: local-lvm, image: tiny, size: 2GiB, cache: writeback, discard: true, ssd: true, iothread: true, serial: 'a b'}
      scsi1: {storage: local-lvm, size: 1.5GiB, backup: false, replicate: false, queues: 4, wwn: '0x5000c500a0b1c2d3', throttle: {read_mbps: 100, write_iops: 2000}}
      virtio0: {storage: local-lvm, size: 1GiB, aio: native, cache: none, iothread: true, rerror: report, werror: stop}
      sata0: {storage: local-lvm, size: 1GiB, detect_zeroes: false, ssd: true}
      ide0: {iso: none}
      ide1: {storage: local-lvm, size: 1GiB, model: DISK}
    nics:
      net0: {bridge: vmbr0, mac: 'bc:24:11:00:03:10', vlan: 40, firewall: true, mtu: 1400, queues: 2, rate: 12.5, ip: 10.40.0.10/24, gateway: 10.40.0.1}
      net1: {bridge: vmbr0, mac: 'bc:24:11:00:03:11', model: e1000, link_down: true, trunks: [10, 20-30], ip6: 'fd00::5/64', gateway6: 'fd00::1'}
      net2: {bridge: vmbr0, mac: 'bc:24:11:00:03:12', ip: dhcp, ip6: auto}
    boot: [scsi0, net0]
    cloud_init:
      slot: sata3
      type: nocloud
      user: admin
      ssh_keys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9y6Ie6yQy5x4Jm0o7U0v3Yg6o8Vn0C5Yw0u7Yv0abc me@here']
      dns: {servers: [10.40.0.1, 10.40.0.2], search: lab.example.org}
      upgrade: false
    agent: {enabled: true, fstrim_cloned: true, type: virtio}
    serial: {serial0: socket}
    vga: {type: std, memory: 32MiB}
    audio: ich9-intel-hda
    rng: {source: urandom, max_bytes: 1024, period: 1000}
    watchdog: {model: i6300esb, action: reset}
    smbios: {manufacturer: ACME Inc, product: box, serial: x1}
    hotplug: [disk, network, usb]
    tablet: false
    keyboard: de
    localtime: true
    migrate: {downtime: 0.5, speed: 100}
    vmstate_storage: local-lvm
    raw: {startdate: '2026-01-31T12:00:00'}
    lifecycle: {state: running}
  mapped:
    vmid: 320
    agent: true
    machine: q35
    disks: {scsi0: {storage: local-lvm, image: tiny}}
    nics: {net0: {bridge: tenant, mac: 'bc:24:11:00:03:20'}}
    pci:
      hostpci0: {mapping: gpu, pcie: true, rombar: false, primary_gpu: true}
      hostpci1: {mapping: nic}
    usb:
      usb0: {mapping: stick, usb3: true}
      usb1: {host: spice}
    virtiofs: {virtiofs0: {mapping: share, cache: always, direct_io: true, expose_acl: true}}
    ha: {state: started, max_restart: 2, max_relocate: 0, on_nodes: {pve1: 1}, strict: true}
";

/// What RICH needs of the world in addition to the demo.
const WORLD: &str = "
pools: {lab: {}}
zones: {tenants: {type: vlan, vnets: {tenant: {tag: 100}}}}
mappings:
  pci:
    gpu: {map: ['node=pve1,id=10de:2204,path=0000:01:00.0']}
    nic: {map: ['node=pve1,id=8086:1521,path=0000:02:00.0']}
  usb: {stick: {map: ['node=pve1,id=0951:1666']}}
  dir: {share: {map: ['node=pve1,path=/srv/share']}}
";

/// Returns the NICs of all guests: every MAC is pinned, so that they are the same too.
fn nics(fixture: &Fixture) -> BTreeMap<Vmid, Vec<(String, String)>> {
    fixture.lab.world().with(|world| {
        let of = |guest: &pve_lab::world::Guest| {
            let nics = guest.config.iter().filter(|(key, _)| key.starts_with("net"));
            nics.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        world.guests.iter().map(|(vmid, guest)| (*vmid, of(guest))).collect()
    })
}

/// Returns what high availability knows: resources, and groups (8) or rules (9).
fn availability(fixture: &Fixture) -> Vec<String> {
    fixture.lab.world().with(|world| {
        let files = world.sections.iter().filter(|(file, _)| file.starts_with("ha/"));
        files
            .flat_map(|(file, all)| all.iter().map(move |(id, options)| format!("{file} {id}: {options:?}")))
            .collect()
    })
}

async fn guests(
    transport: &str,
    transports: Transports,
    version: PveVersion,
) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut world = quick_world();
    let more = pve_lab::WorldSpec::from_yaml(WORLD).unwrap();
    (world.pools, world.zones, world.mappings) = (more.pools, more.zones, more.mappings);
    world.version = version;
    let fixture = Fixture::of(world, "[]", transports).await;
    let deployment = spec(&format!("transport: {transport}\n{RICH}"));
    let plan = planned(&fixture, &deployment, "r1", PlanMode::Deploy).await;
    let (report, _) = carried_out(&fixture, plan).await;
    let failures: Vec<_> = report.failures().collect();
    assert_eq!(report.result, RunResult::Done, "{transport} on {version}: {failures:#?}");
    let again = planned(&fixture, &deployment, "r2", PlanMode::Deploy).await;
    assert!(again.is_empty(), "{transport} on {version}: {:#?}", again.changes);
    let guests = (fixture.guests(), nics(&fixture), availability(&fixture));
    assert_eq!(guests.2.len(), 2, "{transport} on {version}: {:?}", guests.2);
    let mapped = &guests.0[&Vmid::new(320).unwrap()];
    assert_eq!(mapped["running"], "true", "{transport}: high availability starts it");
    for (key, value) in [
        ("hostpci0", "mapping=gpu,pcie=1,rombar=0,x-vga=1"),
        ("usb0", "mapping=stick,usb3=1"),
        ("virtiofs0", "share,cache=always,direct-io=1,expose-acl=1"),
    ] {
        assert_eq!(mapped[key], value, "{transport}");
    }
    let rich = &guests.0[&Vmid::new(310).unwrap()];
    assert!(rich.len() > 45, "{transport}: {rich:#?}");
    assert_eq!(rich["protection"], "1");
    let linked = &guests.0[&Vmid::new(301).unwrap()]["scsi0"];
    assert!(
        linked.contains("discard=ignore") && linked.contains("size=2G") && linked.contains("ssd=1"),
        "{linked}"
    );
    guests
}

async fn by_all_transports(version: PveVersion) {
    let hybrid = guests("hybrid", Transports::Both, version).await;
    for (transport, transports) in
        [("auto", Transports::Both), ("api", Transports::Api), ("ssh", Transports::Ssh)]
    {
        assert_eq!(guests(transport, transports, version).await, hybrid, "{transport} on {version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rich_spec_gives_the_same_guests_by_all_four_transports_on_9() {
    by_all_transports(PveVersion::new(9, 2, 11)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rich_spec_gives_the_same_guests_by_all_four_transports_on_8() {
    by_all_transports(PveVersion::new(8, 4, 14)).await;
}
