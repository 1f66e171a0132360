//! Faults: all at once, at their place, with a way out, and without a secret.

use vmdeploy_planner::spec::{self, LoadOptions, SourceFile};

const HEAD: &str = "version: 1\nproject: p\n";

fn faults(text: &str) -> Vec<String> {
    let files = [SourceFile::new("a.yaml", text)];
    match spec::load(&files, &LoadOptions::default()) {
        Ok(loaded) => loaded.warnings.iter().map(ToString::to_string).collect(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

/// Checks that the spec's faults are exactly those that hold these texts, in this order.
#[track_caller]
fn check(body: &str, expect: &[&str]) {
    let found = faults(&format!("{HEAD}{body}"));
    let fits =
        found.len() == expect.len() && found.iter().zip(expect).all(|(fault, part)| fault.contains(part));
    assert!(fits, "{body}\nfound:\n{}\nexpected: {expect:#?}", found.join("\n"));
}

#[test]
fn all_faults_come_at_once_each_with_its_place() {
    let text = "version: 1\nproject: Web\nvms:\n  web01:\n    vmid: 99\n    memmory: 4GiB\n    memory: 4096\n    disks:\n      scsi0: {storage: local-lvm, size: 32G}\n";
    let found = faults(text);
    let expect = [
        "error: project: `Web` is not a valid project name: only lower-case letters, digits and `-` are allowed\n --> a.yaml:2:10\n  |\n2 | project: Web\n  |          ^^^\n  = hint: write it like `web`",
        "error: vms.web01.vmid: `99` is not a whole number from 100 to 999999999\n --> a.yaml:5:11",
        "error: vms.web01: unknown key `memmory`\n --> a.yaml:6:5\n  |\n6 |     memmory: 4GiB\n  |     ^^^^^^^\n  = hint: did you mean `memory`?",
        "error: vms.web01.memory: `4096` is not a size: the unit is missing: write `GiB` or `MiB` after the number\n --> a.yaml:7:13\n  |\n7 |     memory: 4096\n  |             ^^^^\n  = hint: write `4GiB` if these are MiB",
        "error: vms.web01.disks.scsi0.size: `32G` is not a size: the unit must be binary: KiB, MiB, GiB or TiB\n --> a.yaml:9:41\n  |\n9 |       scsi0: {storage: local-lvm, size: 32G}\n  |                                         ^^^\n  = hint: write `32GiB`",
    ];
    assert_eq!(found.len(), expect.len(), "{}", found.join("\n"));
    for (found, expect) in found.iter().zip(expect) {
        assert!(found.starts_with(expect), "{found}\n\n{expect}");
    }
}

#[test]
fn kinds_are_checked() {
    check("vms: {a: {onboot: yes}}", &["write `true`"]);
    check("vms: {a: {onboot: \"true\"}}", &["without quotes"]);
    check("vms: {a: {cpu: two}}", &["`two` is not a whole number"]);
    check("vms: {a: {cpu: {cores: 2GiB}}}", &["`2GiB` is not a whole number"]);
    check("vms: {a: {bios: uefi}}", &["one of `seabios`, `ovmf`"]);
    check("vms: {a: {disks: [{storage: x}]}}", &["it must be a map keyed by disk slot"]);
    check("vms: {a: {disks: {scsi31: {storage: ab, size: 1GiB}}}}", &["`scsi31` is not a valid disk slot"]);
    check("vms: {a: {nics: {net0: {bridge: vmbr0, mac: 'BD:24:11:00:00:01'}}}}", &["its first byte is odd"]);
    check("vms: {a: {vmid: {range: [300, 200]}}}", &["a range has two numbers"]);
    check("vms: {a: {startup: {up: 30}}}", &["write `30s` or `30m`"]);
    check("vms: {a: null}", &["the value is empty"]);
    check("vms: {a: {}, a: {}}", &["duplicate key"]);
    check("vms: {a_b: {}}", &["`a_b` is not a valid VM name"]);
    check("vms: {a: {onboot: null, vmid: null}}", &["`null` is not allowed here"]);
    check("vms: {a: {<<: {}}}", &["use `profiles:`"]);
    check("vms: {a: {cores: 2}}", &["write `cpu: {cores: N}`"]);
    check("vms: {a: {memory: 512}}", &["write `512GiB` or `512MiB`"]);
    check("profiles: {x: {}, y: {profile: x}}\nvms: {a: {}}", &["a profile cannot use other profiles"]);
    check("vms: {a: {raw: {coress: 2}}}", &["did you mean `cores`?"]);
    check("vms: {a: {raw: {bios: uefi}}}", &["it is one of seabios, ovmf"]);
    check("vms: {a: {onboot: true, raw: {onboot: 1}}}", &["`onboot` sets it already"]);
}

#[test]
fn numbers_names_and_addresses_are_unique() {
    check("vms: {a: {vmid: 100}, b: {vmid: 100}}", &["VMID 100 is already used by `a`"]);
    check("vms: {web: {}, WEB: {}}", &["differs from `web` only in case"]);
    let nic =
        |rest: &str| format!("{{nics: {{net0: {{bridge: vmbr0, {rest}}}}}, cloud_init: {{storage: local}}}}");
    let two = |rest: &str| format!("vms: {{a: {0}, b: {0}}}", nic(rest));
    check(
        &two("mac: 'BC:24:11:00:00:01'"),
        &["the MAC address BC:24:11:00:00:01 is already used by net0 of `a`"],
    );
    check(
        &two("ip: 10.0.0.5/24, gateway: 10.0.0.1"),
        &["the address 10.0.0.5 is already used by net0 of `a`"],
    );
    check(
        "vms: {a: {vmid: {range: [200, 201]}}, b: {vmid: {range: [200, 201]}}, c: {vmid: {range: [200, 201]}}}",
        &["the range 200 to 201 has fewer VMIDs"],
    );
}

#[test]
fn gateways_are_in_their_networks() {
    let nic = |rest: &str| {
        format!("vms: {{a: {{nics: {{net0: {{bridge: vmbr0, {rest}}}}}, cloud_init: {{storage: local}}}}}}")
    };
    check(
        &nic("ip: 10.0.0.5/24, gateway: 10.0.1.1"),
        &["the gateway 10.0.1.1 is not in the network of 10.0.0.5/24"],
    );
    check(&nic("ip: dhcp, gateway: 10.0.1.1"), &["no effect with `ip: dhcp`"]);
    check(&nic("gateway: 10.0.1.1"), &["a gateway needs an address"]);
    check(&nic("ip: 10.0.0.5/24, gateway: 10.0.0.5"), &["the guest's own address"]);
    check(&nic("ip: 10.0.0.0/24, gateway: 10.0.0.1"), &["the address of the network itself"]);
    check(&nic("ip: 10.0.0.5, gateway: 10.0.0.1"), &["the prefix length is missing"]);
    check(&nic("ip: 10.0.0.5/24"), &["no NIC of the VM has a gateway"]);
    check(&nic("ip6: fd00::5/64, gateway6: 'fe80::1'"), &[]);
    check(&nic("ip: 10.0.0.256/24"), &["an IPv4 address with its prefix length"]);
    check("vms: {a: {nics: {net0: {bridge: vmbr0, ip: dhcp}}}}", &["has no effect"]);
}

#[test]
fn devices_fit_together() {
    let images = "images: {deb: {path: /x.qcow2, size: 3GiB}}\n";
    check(
        &format!("{images}vms: {{a: {{disks: {{scsi0: {{storage: local, image: debian}}}}}}}}"),
        &["there is no image `debian`"],
    );
    check(
        &format!("{images}vms: {{a: {{disks: {{scsi0: {{storage: local, image: deb, size: 2GiB}}}}}}}}"),
        &["2GiB is smaller than the 3GiB of image `deb`"],
    );
    check(
        "vms: {a: {boot: [scsi1], disks: {scsi0: {storage: local, size: 1GiB}}}}",
        &["no device `scsi1` to boot from"],
    );
    check("vms: {a: {disks: {scsi0: {}}}}", &["the key `storage` is missing", "the key `size` is missing"]);
    check(
        "vms: {a: {disks: {virtio0: {storage: local, size: 1GiB, ssd: true}}}}",
        &["a disk on `virtio` has no `ssd`"],
    );
    check(
        "vms: {a: {disks: {ide2: {iso: none}}, cloud_init: {slot: ide2, storage: local}}}",
        &["`ide2` is the slot of the cloud-init drive"],
    );
    check("vms: {a: {ready: {agent: 5m}}}", &["which is not enabled for the VM"]);
    check(
        "vms: {a: {pci: {hostpci0: {mapping: gpu, pcie: true}}}}",
        &["PCI express (`hostpci0`) needs a q35 machine"],
    );
    check("vms: {a: {memory: {size: 1GiB, balloon: 2GiB}}}", &["2048MiB is larger than the memory"]);
    check("vms: {a: {usb: {usb0: {usb3: true}}}}", &["one of the keys `mapping`, `host` is missing"]);
    check("vms: {a: {bios: {type: ovmf, efi: {type: 4m}}}}", &["the key `storage` is missing"]);
    check(
        "vms: {a: {disks: {scsi0: {storage: local, size: 1GiB, keep: {holder: 100}}}, vmid: 100}}",
        &["the holder is the VM itself"],
    );
}

#[test]
fn clones_have_a_sound_source() {
    check(
        "vms: {a: {clone: b}, b: {clone: c}, c: {clone: a}}",
        &["circular clone references: a from b from c from a"],
    );
    check("vms: {a: {clone: a}}", &["circular clone references: a from a"]);
    check("vms: {a: {clone: tmpl}, tmpll: {}}", &["there is no VM `tmpl` to clone"]);
    check("vms: {a: {clone: {from: b, mode: linked}}, b: {}}", &["cannot have linked clones"]);
    let tmpl = "images: {deb: {path: /x}}\nvms:\n  t: {template: true, disks: {scsi0: {storage: local, image: deb, size: 9GiB}}}\n";
    check(&format!("{tmpl}  a: {{clone: linked, disks: {{scsi0: {{image: deb, size: 20GiB}}}}}}\n"), &[]);
    check(
        &format!("{tmpl}  a: {{clone: t, disks: {{scsi0: {{size: 8GiB}}}}}}\n"),
        &["8GiB is smaller than the 9GiB of `t`"],
    );
    check(
        "images: {deb: {path: /x}}\nvms:\n  a: {clone: linked, disks: {scsi0: {image: deb}}}\n",
        &["the spec has no template of image `deb`"],
    );
}

#[test]
fn a_secret_in_the_spec_is_refused_and_not_shown() {
    for body in [
        "vms: {a: {cloud_init: {storage: local, password: hunter2}}}",
        "vms: {a: {cloud_init: {storage: local, password: [hunter2]}}}",
        "vms:\n  a:\n    cloud_init:\n      storage: local\n      password: |\n        hunter2\n",
        "vms:\n  a:\n    cloud_init:\n      storage: local\n      password: >-\n        hunter2\n        x: *hunter2\n",
        "vms: {a: {cloud_init: {storage: local, pasword: hunter2}}}",
        "vms: {a: {cloud_init: {storage: local, password: hunter2, upgade: true, user: [x]}}}",
        "vms: {a: {raw: {cipassword: hunter2}}}",
        "clusters: {c: {auth: {token_id: a@pve!b, secret: hunter2}}}\nvms: {a: {}}",
        "vms: {a: {cloud_init: {password: {env: PROXMOX_API_PASSWORD}}}}",
        "vms: {a: {cloud_init: {password: {value: hunter2}}}}",
        "vms: {a: {cloud_init: {password: {env: X, file: y}}}}",
        "vms: {a: {cloud_init: {storage: local, password: {env: \"hunter2!\"}}}}",
        "vms: {a: {cloud_init: {storage: local, password:\n hunter2}}}",
        "vms: {a: {cloud_init: {storage: local, ssh_keys: [\"-----BEGIN OPENSSH PRIVATE KEY----- hunter2\"]}}}",
        "vms: {a: {cipassword: hunter2}}",
        "vms: {a: {password: hunter2}}",
        "password: hunter2",
        "vms: {a: {cloud_init: {password: \"hunter2}}}",
    ] {
        let found = faults(&format!("{HEAD}{body}"));
        assert!(!found.is_empty(), "{body}");
        assert!(!found.iter().any(|fault| fault.contains("hunter2")), "{body}\n{}", found.join("\n"));
    }
}

#[test]
fn hostile_texts_are_refused_and_shown_harmless() {
    for (body, part) in [
        ("vms: {\"a\\nb\": {}}", "is not a valid VM name"),
        ("vms: {\"a'$(id)\": {}}", "is not a valid VM name"),
        ("vms: {a: {description: \"x\\e[31m\"}}", "control characters"),
        ("vms: {a: {tags: [\"a;b\"]}}", "is not a valid tag"),
        ("vms: {a: {disks: {scsi0: {storage: \"a,b\", size: 1GiB}}}}", "is not a valid storage ID"),
        ("vms: {a: {args: \"-x\\n-y\"}}", "control characters"),
        ("images: {x: {path: /a/../b}}\nvms: {a: {}}", "`..` is not allowed"),
        ("images: {x: {path: \"/a,import-from=b\"}}\nvms: {a: {}}", "commas"),
        (
            "images: {x: {url: http://u:p@h/x, checksum: 'md5:00000000000000000000000000000000'}}\nvms: {a: {}}",
            "a user or password",
        ),
        ("images: {x: {url: https://h/x}}\nvms: {a: {}}", "requires a `checksum`"),
        (
            "images: {x: {url: 'https://h/x.qcow2.XZ?sig=1', checksum: 'md5:00000000000000000000000000000000'}}\nvms: {a: {}}",
            "this image is compressed (`.xz`): PVE does not unpack downloaded images",
        ),
        (
            "images: {x: {path: /x.raw.zst}}\nvms: {a: {}}",
            "this image is compressed (`.zst`): PVE does not unpack files",
        ),
        ("vms: {a: {cloud_init: {storage: local, user: \"root: x\"}}}", "spaces and `:`"),
        ("vms: {a: {description: \"<!-- vmdeploy cluster=x -->\"}}", "ownership marker"),
    ] {
        let found = faults(&format!("{HEAD}{body}"));
        assert!(found.iter().any(|fault| fault.contains(part)), "{body}\n{}", found.join("\n"));
        let harmless = |fault: &String| !fault.chars().any(|c| c.is_control() && c != '\n');
        assert!(found.iter().all(harmless), "{body}\n{found:?}");
    }
}

#[test]
fn files_are_read_as_one() {
    let load = |files: &[(&str, &str)]| {
        let files: Vec<SourceFile> = files.iter().map(|(name, text)| SourceFile::new(*name, *text)).collect();
        spec::load(&files, &LoadOptions::default())
    };
    let site = (
        "site.yaml",
        "version: 1\nproject: p\nprofiles: {big: {cpu: {cores: 8, type: host}, tags: [big]}}\ndefaults: {memory: 1GiB, onboot: true}\n",
    );
    let loaded =
        load(&[site, ("vms.yaml", "version: 1\nvms: {a: {profile: big, cpu: 4, onboot: null}}\n")]).unwrap();
    let vm = &loaded.deployment.vms[0];
    assert_eq!(format!("{:?}", vm.options["cores"].value), "Whole(\"4\")");
    assert_eq!(format!("{:?}", vm.options["onboot"].value), "Remove");
    assert!(vm.options.contains_key("memory"));
    assert_eq!(vm.options["cpu"].span.file, 0);

    let text = |files: &[(&str, &str)]| {
        load(files).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let twice = text(&[
        site,
        ("b.yaml", "version: 1\nvms: {a: {}}"),
        ("c.yaml", "version: 1\nproject: q\nvms: {a: {}}"),
    ]);
    assert!(
        twice.contains("this name is used twice")
            && twice.contains("`site.yaml` sets `p`")
            && twice.contains("the first is at b.yaml:2"),
        "{twice}"
    );
    let missing = text(&[("a.yaml", "vms: {a: {profile: bigg}}")]);
    assert!(
        missing.contains("`version` is missing") && missing.contains("`project` is missing"),
        "{missing}"
    );
    assert!(
        text(&[site, ("b.yaml", "version: 1\nvms: {a: {profile: bigg}}")]).contains("did you mean `big`?")
    );
    let lock = ("p.lock.yaml", "version: 1\nproject: p\nvmids: {default: {a: 250}}\n");
    let spec = |vmid: &str| format!("version: 1\nvms: {{a: {{vmid: {vmid}}}}}");
    let pinned = load(&[site, ("b.yaml", &spec("{range: [200, 299]}")), lock]).unwrap().deployment;
    assert_eq!(pinned.pin(&pinned.vms[0]).unwrap().vmid.get(), 250);
    assert!(
        text(&[site, ("b.yaml", &spec("{range: [200, 249]}")), lock]).contains("the lock file pins VMID 250")
    );
    assert!(text(&[site, ("b.yaml", &spec("251")), lock]).contains("but the spec has 251"));
    let zz = (("default".to_owned(), "zz".parse().unwrap()), pve_types::Vmid::new(300).unwrap());
    let printed = spec::updated_lock(&pinned, &spec::Drawn { vmids: [zz].into(), ..spec::Drawn::default() });
    assert!(printed.ends_with("project: p\nvmids:\n  default:\n    a: 250\n"), "{printed}");
}

#[test]
fn several_clusters_share_images_and_keep_their_numbers_apart() {
    let sites = "clusters:\n  one: {endpoints: 'https://a.example.org', auth: {token_id: d@pve!ci, secret: {env: ONE}}}\n  \
                 two: {endpoints: ['https://[fd00::1]:443']}\nimages: {deb: {path: /x.qcow2}}\n";
    let vm = |rest: &str| format!("{{vmid: 100, {rest}disks: {{scsi0: {{storage: local, image: deb}}}}}}");
    check(&format!("{sites}vms: {{a: {}, b: {}}}", vm("cluster: one, "), vm("cluster: two, ")), &[]);
    check(&format!("{sites}vms: {{a: {}}}", vm("")), &["has several clusters, and this VM has no `cluster`"]);
    check(&format!("{sites}vms: {{a: {}}}", vm("cluster: tow, ")), &["did you mean `two`?"]);
    let foreign = "vms:\n  t: {cluster: one, template: true}\n  a: {cluster: two, clone: t}\n";
    check(&format!("{sites}{foreign}"), &["is in cluster `one`; a clone must be in the same cluster"]);
    check("clusters: {one: {auth: {token_id: d@pve!ci}}}\nvms: {a: {}}", &["the key `secret` is missing"]);
    check("clusters: {one: {tls: {verify: false}}}\nvms: {a: {}}", &["TLS verification cannot be disabled"]);
    check("clusters: {one: {endpoints: 'http://a'}}\nvms: {a: {}}", &["it must start with `https://`"]);
}

#[test]
fn lifecycle_and_readiness_make_sense() {
    check("vms: {a: {template: true, lifecycle: {state: running}}}", &["a template is never started"]);
    check("vms: {a: {ha: started, lifecycle: {state: stopped}}}", &["high availability would start it"]);
    check("vms: {a: {lifecycle: {ignore: [memmory]}}}", &["did you mean `memory`?"]);
    check("vms: {a: {lifecycle: {keep_disks: [data]}}}", &["no disk of the VM has the role `data`"]);
    check("vms: {a: {ready: {tcp: 22}}}", &["the VM has no known address"]);
    check("vms: {a: {agent: true, ready: {ip: {nic: net3}}}}", &["the VM has no NIC `net3`"]);
    check(
        "images: {i: {build: {vm: x, command: make, output: o}}}\nvms: {a: {}}",
        &["there is no VM `x` to build in"],
    );
    check(
        "images: {i: {path: /x, url: 'https://h/x', checksum: 'md5:0'}}\nvms: {a: {}}",
        &["only one of the keys", "32 hexadecimal digits"],
    );
}

#[test]
fn an_upper_layer_replaces_the_alternative_below() {
    let text = "version: 1\nproject: p\ndefaults:\n  cloud_init: {storage: local, password: {env: A}}\n  usb: {usb0: ups}\n\
                vms:\n  a: {cloud_init: {password: {file: b}}, usb: {usb0: {host: spice}}}\n  \
                b: {ostype: win11, cloud_init: {password: {clear: true}}}\n";
    let loaded = spec::load(&[SourceFile::new("a.yaml", text)], &LoadOptions::default());
    let deployment = loaded.unwrap_or_else(|faults| panic!("{}", faults[0])).deployment;
    let password = |at: usize| deployment.vms[at].cloud_init.as_ref().unwrap().password.clone().unwrap();
    assert_eq!(format!("{:?}", password(0).source.value), "File(\"b\")");
    assert_eq!(
        (format!("{:?}", password(1).source.value), password(1).clear),
        ("Env(\"A\")".to_owned(), true)
    );
    let usb = format!("{:?}", deployment.vms[0].options["usb0"].value);
    assert!(usb.contains("spice") && !usb.contains("ups"), "{usb}");
}

#[test]
fn the_digest_follows_the_meaning_and_not_the_layout() {
    let digest = |text: &str| {
        spec::load(&[SourceFile::new("a.yaml", text)], &LoadOptions::default()).unwrap().deployment.digest
    };
    let one = digest("version: 1\nproject: p\nvms: {a: {cpu: 2, memory: 1GiB}}\n");
    assert_eq!(one, digest("# x\nversion: 1\nproject: p\nvms:\n  a:\n    memory: 1GiB\n    cpu: 2\n"));
    assert_ne!(one, digest("version: 1\nproject: p\nvms: {a: {cpu: 3, memory: 1GiB}}\n"));
}

#[test]
fn a_flood_of_faults_has_a_short_answer() {
    let keys = |count: usize| (0..count).map(|n| format!("k{n}: 1")).collect::<Vec<_>>().join(", ");
    let found = faults(&format!("{HEAD}vms: {{a: {{{}}}}}", keys(900)));
    assert!((100..300).contains(&found.len()), "{}", found.join("\n"));
    assert!(found.last().unwrap().contains("more errors exist"));
    check(&format!("vms: {{a: {{{}}}}}", keys(30_000)), &["30000 entries are too many"]);
    check(&format!("vms: {{a: {{raw: {{{}}}}}}}", keys(30_000)), &["30000 entries are too many"]);
    check(&format!("vms: {{a: {{tags: [{}]}}}}", "x, ".repeat(30_000)), &["30000 entries are too many"]);
    let lists = "[x], ".repeat(9_000);
    check(&format!("vms: {{a: {{inventory: {{vars: {{v: [{lists}]}}}}}}}}"), &["more than 10000 values"]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]
    #[test]
    fn no_spec_panics(words in proptest::collection::vec(0usize..WORDS.len(), 0..60)) {
        let text: String = words.iter().map(|word| WORDS[*word]).collect();
        let _ = faults(&format!("{HEAD}{text}"));
    }
    #[test]
    fn no_text_panics(text: String) {
        let _ = faults(&text);
    }
}

const WORDS: &[&str] = &[
    "vms: ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "a: ",
    "b: ",
    "\n",
    "\n  ",
    "\n    ",
    "disks: ",
    "scsi0: ",
    "net0: ",
    "nics: ",
    "1",
    "100",
    "4GiB",
    "null",
    "true",
    "\"",
    "'",
    "clone: ",
    "linked",
    "image: ",
    "images: ",
    "defaults: ",
    "profile: ",
    "profiles: ",
    "ready: ",
    "ip: ",
    "10.0.0.5/24",
    "cloud_init: ",
    "password: ",
    "vmid: ",
    "range: ",
    "- ",
    "# ",
    "&x ",
    "*x",
    "raw: ",
    "cpu: ",
    "size: ",
    "storage: ",
    "local",
    "clusters: ",
    "é",
    "\u{1b}",
    "ssh_keys: ",
    "ha: ",
    "tpm: ",
];
