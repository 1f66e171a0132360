//! Adopting unusual guests: the spec is valid, and its plan only adds the ownership marker.

use crate::pve::Pve;
use crate::specs::{deploy, plan, steps};
use pve_config::Shape;
use pve_types::Vmid;
use std::collections::BTreeMap;
use vmdeploy_planner::adopt;

const PLAIN: &str = "version: 1\nproject: made\nvms:\n  odd: {vmid: 201, node: pve1, lifecycle: {state: stopped}, disks: {scsi0: {storage: fast, size: 1GiB}}}\n";

fn vmid() -> Vmid {
    "201".parse().unwrap()
}

/// Draws a value of a shape: one that PVE takes there, as a rule.
fn value_of(shape: Shape, draw: &mut dyn FnMut(usize) -> usize) -> Option<String> {
    let words = ["a", "web.example.org", "x-1", "12"];
    Some(match shape {
        Shape::Bool => ["0", "1"][draw(2)].to_owned(),
        Shape::Integer(min, max) => {
            (min + draw(usize::try_from((max - min).clamp(0, 4000)).ok()? + 1) as i64).to_string()
        }
        Shape::Number(min, _) => format!("{}", min + draw(40) as f64 / 4.0),
        Shape::Choice(words) => words[draw(words.len())].to_owned(),
        Shape::Text | Shape::Folded | Shape::Lines => words[draw(words.len())].to_owned(),
        Shape::Size => format!("{}M", 1 + draw(4000)),
        Shape::WordSet | Shape::WordList => words[draw(words.len())].to_owned(),
        Shape::Mac => format!("BC:24:11:00:{:02X}:{:02X}", draw(256), draw(256)),
        Shape::Percent => ["a%20b", "abc"][draw(2)].to_owned(),
        Shape::Volume => format!("fast:vm-201-disk-{}", draw(1000)),
        Shape::NumberSet => ["0-3,7", "2", "1;3"][draw(3)].to_owned(),
        Shape::Address => ["10.0.0.5/24", "dhcp", "fd00::5/64"][draw(3)].to_owned(),
        Shape::PciAddresses => ["01:00.0", "0000:01:00.1;02:00"][draw(2)].to_owned(),
        Shape::Secret => return None,
        Shape::Properties(fields) => {
            let mut parts = Vec::new();
            for field in fields {
                if field.is_default || draw(4) == 0 {
                    parts.push(format!("{}={}", field.name, value_of(field.shape, draw)?));
                }
            }
            parts.join(",")
        }
    })
}

/// Values that a table of shapes does not think of.
const SPECIAL: &[(&str, &[&str])] = &[
    ("name", &["null", "on", "1234", "web.example.org"]),
    ("hotplug", &["0", "1", "network,disk", "network,disk,usb,cpu,memory"]),
    (
        "smbios1",
        &[
            "uuid=AAAAAAAA-0000-4000-8000-000000000001,serial=123,manufacturer=ACME",
            "uuid=AAAAAAAA-0000-4000-8000-000000000001,base64=1,serial=MTIz,family=w6k=,sku=/w==",
        ],
    ),
    ("hookscript", &["local:snippets/hook.pl"]),
    ("affinity", &["0-3,7"]),
    ("startup", &["order=3,up=30,down=60", "order=1", "up=5"]),
    ("description", &["a note\nof two lines: x # y", "'quoted' \"twice\""]),
    ("tags", &["b;a", "a,b c"]),
    ("scsi3", &["/dev/disk/by-id/ata-X,size=1G", "none,media=cdrom"]),
    ("scsi4", &["fast:vm-201-disk-0,size=1G"]),
    ("scsi0", &["fast:vm-201-disk-0,size=1G,cache=none"]),
    ("ide2", &["fast:vm-201-cloudinit,media=cdrom,size=4M"]),
    ("cicustom", &["user=local:snippets/u.yaml,vendor=local:snippets/v.yaml"]),
    ("nameserver", &["10.0.0.1 fd00::1", "none of these"]),
    ("searchdomain", &["lab.example.org"]),
    ("ipconfig0", &["ip=10.0.0.5/24,gw=10.0.0.1", "ip=dhcp,ip6=auto", "ip=10.0.0.5/32,gw=192.168.1.1"]),
    (
        "net0",
        &["virtio=BC:24:11:00:00:01,bridge=vmbr0", "e1000=BC:24:11:00:00:01,bridge=vmbr0,tag=20,mtu=1400"],
    ),
    ("cpu", &["host,flags=+aes;-pcid", "cputype=x86-64-v2-AES,hidden=1", "custom-mine"]),
    ("rng0", &["source=/dev/urandom,max_bytes=1024,period=1000", "/dev/hwrng"]),
    ("watchdog", &["model=i6300esb,action=reset", "ib700"]),
    ("audio0", &["device=ich9-intel-hda,driver=none"]),
];

/// Returns the configuration of a random odd guest: keys of the table, and values that it does not think of.
fn odd(seed: u64) -> BTreeMap<String, String> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    };
    let mut values = BTreeMap::from([
        ("name".to_owned(), "odd".to_owned()),
        ("smbios1".to_owned(), "uuid=AAAAAAAA-0000-4000-8000-000000000001".to_owned()),
    ]);
    for key in pve_config::all_keys().iter().filter(|key| !key.generated && key.name != "unused") {
        if draw(6) != 0 {
            continue;
        }
        let name = match key.count {
            0 => key.name.to_owned(),
            count => format!("{}{}", key.name, draw(usize::from(count))),
        };
        let is_special =
            SPECIAL.iter().any(|(special, _)| *special == key.name) || name == "lock" || name == "template";
        if let Some(value) = value_of(key.shape, &mut draw).filter(|value| !value.is_empty() && !is_special) {
            values.insert(name, value);
        }
    }
    for (key, choices) in SPECIAL {
        if draw(3) == 0 {
            values.insert((*key).to_owned(), choices[draw(choices.len())].to_owned());
        }
    }
    values
}

#[test]
fn a_random_odd_guest_is_adopted_with_nothing_but_the_marker() {
    for seed in 1..=150 {
        let values = odd(seed);
        let mut pve = world(&[]);
        pve.guests.get_mut(&vmid()).unwrap().values.clone_from(&values);
        let said = std::panic::catch_unwind(|| adopted(pve));
        assert!(said.is_ok(), "seed {seed}: {values:#?}");
    }
}

#[test]
fn every_key_that_the_language_has_is_written_as_that_key() {
    let check = |config: &[(&str, &str)], parts: &[&str]| {
        let yaml = adopted(world(config));
        let keys: String = yaml
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect();
        for part in parts {
            assert!(keys.contains(part), "`{part}` is not in\n{yaml}");
        }
        assert!(!keys.contains("raw:"), "{yaml}");
    };
    check(
        &[
            ("startup", "order=3,up=90"),
            ("affinity", "0-3"),
            ("hotplug", "disk,network"),
            ("numa", "1"),
            ("memory", "2048"),
            ("hugepages", "2"),
            ("args", "-no-reboot"),
            ("hookscript", "local:snippets/hook.pl"),
            ("tablet", "0"),
            ("kvm", "0"),
            ("cpu", "host,flags=+aes;-pcid"),
            ("audio0", "device=ich9-intel-hda,driver=none"),
            ("watchdog", "model=i6300esb,action=reset"),
            ("rng0", "source=/dev/urandom,max_bytes=1024,period=1000"),
        ],
        &[
            "startup: {order: 3, up: 90s}",
            "affinity: \"0-3\"",
            "hotplug: [\"disk\", \"network\"]",
            "hugepages: \"2\"",
            "args: \"-no-reboot\"",
            "hookscript: \"local:snippets/hook.pl\"",
            "tablet: false",
            "kvm: false",
            "type: \"host\", flags: [\"+aes\", \"-pcid\"]",
            "audio: {device: \"ich9-intel-hda\", driver: \"none\"}",
            "watchdog: {model: \"i6300esb\", action: \"reset\"}",
            "rng: {source: \"urandom\", max_bytes: 1024, period: 1000}",
        ],
    );
    check(
        &[
            ("ide2", "fast:vm-201-cloudinit,media=cdrom,size=4M"),
            ("cicustom", "user=local:snippets/u.yaml,vendor=local:snippets/v.yaml"),
            ("ciupgrade", "0"),
            ("nameserver", "10.0.0.1 10.0.0.2"),
            ("searchdomain", "lab.example.org"),
            ("smbios1", "uuid=AAAAAAAA-0000-4000-8000-000000000001,serial=123"),
        ],
        &[
            "upgrade: false",
            "dns: {servers: [\"10.0.0.1\", \"10.0.0.2\"], search: [\"lab.example.org\"]}",
            "user_data: {volume: \"local:snippets/u.yaml\"}",
            "vendor_data: {volume: \"local:snippets/v.yaml\"}",
            "smbios: {serial: \"123\"}",
        ],
    );
    // A disk of the node has no other form, and one volume is one disk.
    let yaml = adopted(world(&[
        ("scsi0", "fast:vm-201-disk-0,size=1G"),
        ("scsi1", "fast:vm-201-disk-0,size=1G"),
        ("scsi2", "/dev/disk/by-id/ata-X,size=1G"),
    ]));
    assert!(yaml.contains("      scsi2: \"/dev/disk/by-id/ata-X,size=1G\""), "{yaml}");
    assert!(
        yaml.contains("# not managed: scsi1: fast:vm-201-disk-0,size=1G (the same volume as scsi0)"),
        "{yaml}"
    );
}

#[test]
fn a_guest_that_cannot_be_adopted_does_not_stop_the_others() {
    let mut pve = world(&[]);
    let guest = |values: &[(&str, &str)]| {
        let mut guest = pve.guests[&vmid()].clone();
        guest.values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        guest
    };
    let long = "x".repeat(8150);
    let others = [
        ("301", guest(&[("name", "bare"), ("smbios1", "serial=123,manufacturer=ACME")])),
        (
            "302",
            guest(&[
                ("name", "long"),
                ("smbios1", "uuid=AAAAAAAA-0000-4000-8000-000000000009"),
                ("description", &long),
            ]),
        ),
        ("303", guest(&[("name", "null"), ("smbios1", "uuid=AAAAAAAA-0000-4000-8000-000000000003")])),
    ];
    let vmids: Vec<Vmid> =
        ["201", "301", "302", "303", "304"].iter().map(|vmid| vmid.parse().unwrap()).collect();
    pve.guests.extend(others.into_iter().map(|(vmid, guest)| (vmid.parse::<Vmid>().unwrap(), guest)));
    let adopted = adopt("mine", &vmids, &pve.observed());
    let refused: Vec<String> = adopted.refused.iter().map(ToString::to_string).collect();
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert_eq!(refused[0], "VM 301 has no UUID");
    let hint = adopted.refused[0].hint();
    assert!(
        hint.contains("manufacturer=ACME") && hint.contains("serial=123") && hint.contains("uuid="),
        "{hint}"
    );
    assert!(refused[1].starts_with("the notes of VM 302 are "), "{refused:?}");
    assert_eq!(refused[2], "there is no guest 304");
    let yaml = adopted.spec.unwrap();
    assert!(yaml.contains("  \"null\":\n"), "{yaml}");
    assert_eq!(steps(&deploy(&mut pve, &yaml)), ["odd/configure API", "null/configure API"]);
}

/// A world with an unmanaged guest of this configuration.
fn world(config: &[(&str, &str)]) -> Pve {
    let mut pve = Pve::new();
    deploy(&mut pve, PLAIN);
    let guest = pve.guests.get_mut(&vmid()).unwrap();
    let all = [("name", "odd"), ("smbios1", "uuid=AAAAAAAA-0000-4000-8000-000000000001")];
    let all = all.iter().chain(config.iter().filter(|(_, value)| !value.is_empty()));
    guest.values = all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    guest.template = config.iter().any(|(key, _)| *key == "template");
    pve
}

/// Adopts the guest, deploys, and returns the spec.
#[track_caller]
fn adopted(mut pve: Pve) -> String {
    let before = |pve: &Pve| -> BTreeMap<String, String> {
        let mut values = pve.guests[&vmid()].values.clone();
        values.remove("description");
        values
    };
    let (was, running) = (before(&pve), pve.guests[&vmid()].running);
    let observed = pve.observed();
    let yaml = adopt("mine", &[vmid()], &observed).spec.unwrap();
    let first = deploy(&mut pve, &yaml);
    let name = first.changes[0].vm.to_string();
    assert_eq!(steps(&first), [format!("{name}/configure API")], "{yaml}\n{:#?}", first.changes);
    assert_eq!((before(&pve), pve.guests[&vmid()].running), (was, running), "{yaml}");
    let again = plan(&pve, &yaml);
    assert!(again.is_empty(), "{yaml}\n{:#?}", again.changes);
    yaml
}

const ODD: &[(&str, &[(&str, &str)])] = &[
    ("nothing at all", &[]),
    (
        "UEFI with a TPM",
        &[
            ("bios", "ovmf"),
            ("machine", "pc-q35-9.2+pve1,viommu=virtio"),
            ("efidisk0", "fast:vm-201-disk-1,efitype=4m,ms-cert=2023,pre-enrolled-keys=1,size=4M"),
            ("tpmstate0", "fast:vm-201-disk-2,size=4M,version=v2.0"),
            ("scsi0", "fast:vm-201-disk-0,size=32G"),
        ],
    ),
    (
        "devices of the node",
        &[
            ("machine", "q35"),
            ("hostpci0", "0000:01:00,pcie=1,x-vga=1"),
            ("hostpci1", "mapping=gpu,mdev=nvidia-63"),
            ("usb0", "host=0951:1666,usb3=1"),
            ("usb1", "spice"),
            ("serial0", "/dev/ttyS0"),
            ("parallel0", "/dev/parport0"),
            ("scsi2", "/dev/disk/by-id/ata-X,size=1000204886016"),
        ],
    ),
    (
        "UEFI of yesterday and of tomorrow",
        &[
            ("bios", "ovmf"),
            ("efidisk0", "local:201/vm-201-disk-1.qcow2,format=qcow2,ms-cert=2029,size=528K"),
            ("tpmstate0", "fast:vm-201-disk-2,size=4M"),
        ],
    ),
    (
        "an EFI disk without UEFI",
        &[("efidisk0", "fast:vm-201-disk-1,size=4M"), ("tpmstate0", "/dev/zvol/tpm,version=v1.2")],
    ),
    ("UEFI without its disk", &[("bios", "ovmf"), ("scsi0", "fast:vm-201-disk-0,size=1G")]),
    (
        "PCI devices of every kind",
        &[
            ("hostpci0", "host=01:00.0;01:00.1,driver=keep,legacy-igd=1,romfile=vbios.bin"),
            ("hostpci1", "mapping=gpu,rombar=off,vendor-id=0x10de,device-id=0x1234,sub-device-id=0x1"),
            ("hostpci2", "mapping=nic,brandnew=1,mdev=i915-GVTg_V5_4"),
            ("hostpci3", "mapping=gpu,pcie=1"),
            ("hostpci4", "pcie=0"),
            ("hostpci15", "0000:02:00.0,mapping=nic"),
            ("boot", "order=hostpci0;usb1"),
            ("usb1", "host=1-1.2,usb3=yes"),
        ],
    ),
    (
        "USB devices of every kind",
        &[
            ("usb0", "mapping=stick,usb3=1"),
            ("usb3", "host=spice,usb3=0"),
            ("usb4", "0x0951:0x1666"),
            ("usb5", "mapping=st\u{1b}[31mick"),
            ("usb12", "host=0951:1666,brandnew=on"),
            ("usb13", "usb3=1"),
        ],
    ),
    (
        "folders of the node",
        &[
            ("virtiofs0", "share,cache=always,direct-io=1"),
            ("virtiofs1", "dirid=logs,expose-acl=1,expose-xattr=0,cache=sometimes"),
            ("virtiofs9", "cache=never"),
        ],
    ),
    (
        "ports and NUMA nodes that a spec cannot name",
        &[
            ("serial3", "/tmp/socket"),
            ("parallel1", "/dev/usb/lp0"),
            ("parallel2", "/dev/lp0"),
            ("numa", "0"),
            ("numa1", "cpus=1,memory=512"),
        ],
    ),
    (
        "arguments for QEMU",
        &[
            ("args", "-device 'x,y=\"1\"' -no-reboot # not a comment"),
            ("hookscript", "local:snippets/hook.pl"),
        ],
    ),
    (
        "disks of every bus",
        &[
            ("scsi0", "fast:vm-201-disk-0,cache=writeback,discard=ignore,iothread=1,size=10G,ssd=1"),
            ("scsi1", "local:201/vm-201-disk-1.qcow2,aio=threads,backup=0,replicate=0,size=5G"),
            (
                "scsi30",
                "fast:vm-201-disk-3,mbps_rd=100,iops_wr_max=5000,iops_wr_max_length=10,size=1G,serial=a%20b",
            ),
            ("virtio15", "fast:vm-201-disk-4,ro=1,size=1G,snapshot=0"),
            ("sata5", "fast:vm-201-disk-5,size=1G,werror=enospc"),
            ("ide3", "none,media=cdrom"),
            ("ide1", "local:iso/tools.iso,media=cdrom,size=600M"),
            ("ide0", "cdrom,media=cdrom"),
            ("unused0", "fast:vm-201-disk-9"),
            ("scsihw", "pvscsi"),
        ],
    ),
    (
        "sizes that are no whole MiB",
        &[
            ("scsi0", "fast:vm-201-disk-0,size=2252M"),
            ("scsi1", "fast:vm-201-disk-1,size=528K"),
            ("scsi2", "fast:vm-201-disk-2,size=1073741825"),
            ("scsi3", "fast:vm-201-disk-3"),
        ],
    ),
    (
        "NICs of every kind",
        &[
            (
                "net0",
                "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1,mtu=1,queues=4,rate=0.5,tag=4094,trunks=1;5-9",
            ),
            ("net1", "e1000e=BC:24:11:00:00:02"),
            ("net2", "model=vmxnet3,macaddr=BC:24:11:00:00:03,bridge=vmbr1,link_down=1"),
            ("net31", "rtl8139=02:00:00:00:00:01,bridge=vmbr0"),
        ],
    ),
    (
        "options that a spec would refuse there",
        &[
            ("virtio0", "fast:vm-201-disk-4,size=1G,ssd=1,wwn=0x5000c500a0b1c2d3"),
            ("scsi0", "fast:vm-201-disk-0,serial=a-serial-of-more-than-twenty,size=1G"),
            ("ide3", "local:iso/tools.iso,cache=none,media=cdrom"),
            ("net0", "e1000=BC:24:11:00:00:01,bridge=vmbr0,mtu=1400,queues=2"),
            ("net1", "virtio=01:24:11:00:00:01,bridge=vmbr0,trunks=9-5,rate=1e3"),
        ],
    ),
    (
        "cloud-init of one's own",
        &[
            ("ide2", "fast:vm-201-cloudinit,media=cdrom,size=4M"),
            ("cicustom", "user=local:snippets/u.yaml,network=local:snippets/n.yaml"),
            ("citype", "configdrive2"),
            ("ciuser", "o'brien"),
            ("cipassword", "**********"),
            ("ciupgrade", "0"),
            ("sshkeys", "ssh-ed25519%20AAAAC3Nz%20me%40here%0A"),
            ("nameserver", "10.0.0.1 10.0.0.2"),
            ("searchdomain", "lab.example.org"),
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
            ("ipconfig0", "ip=10.40.0.5/24,gw=10.40.0.1,ip6=auto"),
        ],
    ),
    (
        "addresses that a spec would refuse",
        &[
            ("scsi3", "fast:vm-201-cloudinit,media=cdrom"),
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
            ("ipconfig0", "ip=10.0.0.5/32,gw=192.168.1.1"),
            ("net1", "virtio=BC:24:11:00:00:02,bridge=vmbr0"),
            ("ipconfig1", "gw=10.0.0.1,ip=10.0.0.0/24"),
            ("ipconfig7", "ip=dhcp"),
        ],
    ),
    (
        "addresses without a drive",
        &[
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
            ("ipconfig0", "ip=10.0.0.5/24,gw=10.0.0.1"),
            ("ciuser", "admin"),
        ],
    ),
    (
        "a boot order of what is gone",
        &[("boot", "order=scsi5;net0;ide2"), ("scsi0", "fast:vm-201-disk-0,size=1G")],
    ),
    (
        "a boot order of old",
        &[("boot", "cdn"), ("bootdisk", "scsi0"), ("scsi0", "fast:vm-201-disk-0,size=1G")],
    ),
    (
        "a boot order with a cloud-init drive",
        &[
            ("boot", "order=scsi0;ide2;net0"),
            ("scsi0", "fast:vm-201-disk-0,size=1G"),
            ("ide2", "fast:vm-201-cloudinit,media=cdrom"),
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
        ],
    ),
    (
        "processors and memory",
        &[
            ("cpu", "cputype=host,flags=+aes;-pcid,hidden=1"),
            ("cores", "4"),
            ("sockets", "2"),
            ("vcpus", "3"),
            ("cpulimit", "2.5"),
            ("cpuunits", "100"),
            ("affinity", "0-3,8"),
            ("numa", "1"),
            ("numa0", "cpus=0-3,memory=2048,hostnodes=0,policy=bind"),
            ("memory", "4096"),
            ("balloon", "1024"),
            ("shares", "2000"),
            ("hugepages", "1024"),
            ("keephugepages", "1"),
        ],
    ),
    ("little memory, no balloon", &[("memory", "current=16"), ("balloon", "0"), ("cpulimit", "0")]),
    ("more balloon than memory", &[("memory", "512"), ("balloon", "1024"), ("vcpus", "99")]),
    (
        "text of every kind",
        &[
            ("description", "# heading\n\n- \"quoted\" 'text' {a: b}\n\ttab, é, 漢字, 🦀, %41, \\n\n\n"),
            ("tags", "b;a;c+d"),
            ("startdate", "2026-01-31T12:00:00"),
            ("startup", "order=3,up=10,down=60"),
            ("watchdog", "i6300esb,action=reset"),
            ("rng0", "/dev/hwrng,max_bytes=1024,period=1000"),
            ("audio0", "device=ich9-intel-hda,driver=none"),
            ("vga", "qxl,memory=64"),
            ("agent", "1,fstrim_cloned_disks=1,type=isa"),
            ("spice_enhancements", "foldersharing=1,videostreaming=all"),
            ("hotplug", "0"),
            ("keyboard", "de-ch"),
            ("arch", "x86_64"),
            ("ivshmem", "size=32,name=foo"),
            ("vmgenid", "00000000-0000-4000-8000-000000000000"),
            ("migrate_downtime", "0.1"),
            ("localtime", "1"),
            ("acpi", "0"),
            ("kvm", "0"),
            ("tablet", "0"),
            ("freeze", "1"),
            ("reboot", "0"),
            ("tdf", "1"),
            ("protection", "1"),
            ("onboot", "0"),
        ],
    ),
    ("a serial console", &[("vga", "serial0"), ("serial0", "socket")]),
    ("a console on a port that is not there", &[("vga", "serial2")]),
    (
        "a chipset of tomorrow",
        &[
            ("machine", "type=q36,viommu=virtio,brandnew=1"),
            ("vga", "vmware,memory=1024"),
            ("agent", "0,type=isa"),
        ],
    ),
    ("a chipset and a display that a spec cannot say", &[("machine", "isapc"), ("vga", "memory=2")]),
    ("secure memory", &[("amd-sev", "type=snp,allow-smt=0")]),
    (
        "an option of tomorrow",
        &[("brand-new-option", "x=1,y=2"), ("scsi0", "fast:vm-201-disk-0,size=1G,brandnew=1")],
    ),
    (
        "a smbios of its own",
        &[(
            "smbios1",
            "uuid=AAAAAAAA-0000-4000-8000-000000000001,manufacturer=QUNNRQ==,base64=1,serial=eDE=",
        )],
    ),
    ("a template", &[("template", "1"), ("scsi0", "fast:base-201-disk-0,size=1G")]),
    ("a linked clone", &[("scsi0", "fast:base-300-disk-0/vm-201-disk-0,size=1G")]),
    ("a name of digits", &[("name", "201")]),
    ("a name with dots", &[("name", "web01.lab.example.org")]),
    ("no name", &[("name", "")]),
];

#[test]
fn odd_guests_are_adopted_with_nothing_but_the_mark() {
    let mut told = String::new();
    for (what, config) in ODD {
        let mut pve = world(config);
        if *what == "no name" {
            pve.guests.get_mut(&vmid()).unwrap().values.remove("name");
        }
        let said = std::panic::catch_unwind(|| adopted(pve));
        let yaml = said.unwrap_or_else(|_| panic!("{what}"));
        told.push_str(&format!("== {what}\n{yaml}"));
    }
    insta::assert_snapshot!("odd_guests", told);
}

#[test]
fn a_running_guest_and_one_with_pending_changes_are_adopted_as_they_are() {
    let mut pve = world(&[("cores", "2"), ("memory", "512"), ("scsi0", "fast:vm-201-disk-0,size=1G")]);
    let guest = pve.guests.get_mut(&vmid()).unwrap();
    guest.running = true;
    guest.pending.insert("cores".to_owned(), Some("4".to_owned()));
    guest.pending.insert("memory".to_owned(), None);
    let yaml = adopted(pve);
    assert!(yaml.contains("cpu: 4") && !yaml.contains("memory"), "{yaml}");
}

#[test]
fn two_guests_of_one_name_are_adopted_one_by_one() {
    let pve = world(&[]);
    let mut observed = pve.observed();
    let mut other = observed.guests[&vmid()].clone();
    other.vmid = "202".parse().unwrap();
    let smbios1 = "uuid=BBBBBBBB-0000-4000-8000-000000000002".to_owned();
    other.config.as_mut().unwrap().values.insert("smbios1".to_owned(), smbios1);
    observed.guests.insert(other.vmid, other);
    let both = adopt("mine", &[vmid(), "202".parse().unwrap()], &observed);
    let [refused] = &both.refused[..] else { panic!("{both:?}") };
    assert_eq!(refused.to_string(), "VMs 201 and 202 are both called `odd`");
    assert_eq!(refused.hint(), "adopt them into two projects, or rename one: `qm set 202 --name NEW`");
    assert!(both.spec.unwrap().contains("vmid: 201"));
}
