//! Hostile and mistaken specs, with the exact error of each.

use std::fmt::Write as _;
use vmdeploy_planner::spec::{LoadOptions, SourceFile, load};

/// A spec of one VM with these lines below it.
fn vm(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("version: 1\nproject: p\nvms:\n  v:\n    node: n\n{lines}")
}

fn nic(fields: &str) -> String {
    vm(&format!(
        "disks: {{scsi0: {{storage: fast, size: 1GiB}}}}\ncloud_init: {{user: admin}}\nnics: {{net0: {{bridge: vmbr0, {fields}}}}}"
    ))
}

fn disk(fields: &str) -> String {
    vm(&format!("disks: {{scsi0: {{storage: fast, {fields}}}}}"))
}

fn specs() -> Vec<(&'static str, String)> {
    let long_label = "a".repeat(64);
    let long_name = format!("{0}.{0}.{0}.{0}.{0}", "a".repeat(60));
    let named = |name: &str| {
        format!(
            "version: 1\nproject: p\nvms:\n  {name}: {{node: n1, disks: {{scsi0: {{storage: fast, size: 1GiB}}}}}}\n"
        )
    };
    vec![
        ("nothing", String::new()),
        ("blanks", "   \n\n".to_owned()),
        ("only a comment", "# hello\n".to_owned()),
        ("a list", "- a\n- b\n".to_owned()),
        ("a word", "hello\n".to_owned()),
        ("a number", "42\n".to_owned()),
        ("null", "null\n".to_owned()),
        ("a tab for indentation", "version: 1\nvms:\n\tweb: {}\n".to_owned()),
        ("a byte order mark", format!("\u{feff}{}", named("web01"))),
        ("line ends of another system", named("web01").replace('\n', "\r\n")),
        ("a zero byte", format!("{}\0", named("web01"))),
        ("an unclosed brace", "version: 1\nproject: p\nvms: {web: {node: n\n".to_owned()),
        ("an unclosed quote", "version: 1\nproject: 'p\nvms: {}\n".to_owned()),
        ("a colon in a text", vm("description: web: the server")),
        ("two documents", format!("{}---\n{}", named("web01"), named("web01"))),
        ("a second document without a version", format!("{}---\nvms: {{}}\n", named("web01"))),
        ("another version", "version: 2\nproject: p\nvms: {}\n".to_owned()),
        ("a version in quotes", "version: '1'\nproject: p\nvms: {}\n".to_owned()),
        ("a key twice", "version: 1\nproject: p\nproject: q\nvms: {}\n".to_owned()),
        ("a VM twice", format!("{}  web01: {{node: m}}\n", named("web01"))),
        ("a project in capitals", "version: 1\nproject: Web\nvms: {}\n".to_owned()),
        ("a project that is too long", format!("version: 1\nproject: {}\nvms: {{}}\n", "p".repeat(33))),
        ("VMs as a list", "version: 1\nproject: p\nvms:\n  - name: web01\n".to_owned()),
        ("disks as a list", vm("disks: [{storage: fast, size: 1GiB}]")),
        ("a VM that is null", "version: 1\nproject: p\nvms: {web01: }\n".to_owned()),
        ("a name with an underscore", named("web_01")),
        ("a name in Cyrillic that looks Latin", named("w\u{435}b")),
        ("a name that writes from right to left", named("\"web\u{202e}10\"")),
        ("a label of 64", named(&long_label)),
        ("a name of more than 253", named(&long_name)),
        ("a name of digits", named("201")),
        ("a name that begins with a dash", named("-web")),
        ("an empty name", named("''")),
        ("a map for a key", named("{a: b}")),
        ("memory without a unit", vm("memory: 4096")),
        ("memory in decimal units", vm("memory: 4GB")),
        ("memory that is negative", vm("memory: -1GiB")),
        ("memory beyond counting", vm("memory: 99999999999999999999GiB")),
        ("memory in exponents", vm("memory: 1e9GiB")),
        ("memory in words", vm("memory: lots")),
        ("no memory at all", vm("memory: 0GiB")),
        ("half a mebibyte", vm("memory: 512.5MiB")),
        ("cores as a text", vm("cpu: '4'")),
        ("cores in hexadecimal", vm("cpu: 0x4")),
        ("cores as a fraction", vm("cpu: 1.5")),
        ("a boolean of another language", vm("onboot: yes")),
        ("a boolean as a number", vm("onboot: 1")),
        ("a VMID that is too small", vm("vmid: 99")),
        ("a VMID that is too large", vm("vmid: 1000000000")),
        ("a VMID with a leading zero", vm("vmid: 0201")),
        ("a range backwards", vm("vmid: {range: [299, 200]}")),
        ("a range of three", vm("vmid: {range: [200, 299, 300]}")),
        ("an unknown key deep down", disk("size: 1GiB, throttle: {read_mbs: 5}")),
        ("PVE's own words", vm("cores: 2\nsockets: 1\nnet0: virtio,bridge=vmbr0\nscsi0: local-lvm:20")),
        ("a slot that is not there", vm("disks: {scsi31: {storage: fast, size: 1GiB}}")),
        ("a slot with a zero", vm("disks: {scsi01: {storage: fast, size: 1GiB}}")),
        ("a disk that is negative", disk("size: -20GiB")),
        ("a disk of nothing", disk("size: 0GiB")),
        ("a storage with a slash", vm("disks: {scsi0: {storage: ../etc, size: 1GiB}}")),
        ("an injected option", disk("size: 1GiB, serial: 'a,ssd=1'")),
        ("a shell's words", vm("description: \"$(reboot)\"\ntags: [\"a;b\"]")),
        ("an address without a prefix", nic("ip: 10.0.0.5")),
        ("an address of a network", nic("ip: 10.0.0.0/24, gateway: 10.0.0.1")),
        ("an address of everybody", nic("ip: 10.0.0.255/24, gateway: 10.0.0.1")),
        ("a pair of addresses", nic("ip: 10.0.0.0/31, gateway: 10.0.0.1")),
        ("an address alone", nic("ip: 10.0.0.5/32, gateway: 10.0.0.1")),
        ("a prefix of 33", nic("ip: 10.0.0.5/33")),
        ("an octet of 256", nic("ip: 10.0.0.256/24")),
        ("an octet in octal", nic("ip: 10.0.0.010/24")),
        ("a gateway elsewhere", nic("ip: 10.0.0.5/24, gateway: 10.0.1.1")),
        ("a gateway that is the guest", nic("ip: 10.0.0.5/24, gateway: 10.0.0.5")),
        ("a gateway without an address", nic("gateway: 10.0.0.1")),
        ("an IPv6 address as IPv4", nic("ip: 'fd00::5/64'")),
        ("a gateway of IPv6 elsewhere", nic("ip6: 'fd00::5/64', gateway6: 'fd01::1'")),
        ("a gateway of IPv6 by link", nic("ip6: 'fd00::5/64', gateway6: 'fe80::1'")),
        ("a MAC of many", nic("mac: '01:00:5e:00:00:01'")),
        ("a MAC with dashes", nic("mac: bc-24-11-00-00-01")),
        ("a VLAN of 4095", nic("vlan: 4095")),
        (
            "a password in clear",
            vm("disks: {scsi0: {storage: fast, size: 1GiB}}\ncloud_init: {user: admin, password: hunter2}"),
        ),
        (
            "a password under a wrong key",
            vm("disks: {scsi0: {storage: fast, size: 1GiB}}\ncloud_init: {user: admin, passwort: hunter2}"),
        ),
        (
            "a private key",
            vm(
                "disks: {scsi0: {storage: fast, size: 1GiB}}\ncloud_init: {ssh_keys: ['-----BEGIN OPENSSH PRIVATE KEY-----']}",
            ),
        ),
        (
            "our own credentials",
            vm(
                "disks: {scsi0: {storage: fast, size: 1GiB}}\ncloud_init: {password: {env: PROXMOX_API_PASSWORD}}",
            ),
        ),
        ("a word of another tool", vm("lifecycle: {restart: when-needed, state: on}")),
        ("a bus misspelt", vm("boot: [sci0]\ndisks: {scsi0: {storage: fast, size: 1GiB}}")),
        ("raw with a key of ours", vm("raw: {memory: 4096, nonsense: 1, scsi0: 'local:1'}")),
        ("a boot disk that is not there", vm("boot: [scsi5]\ndisks: {scsi0: {storage: fast, size: 1GiB}}")),
        (
            "a clone of itself",
            "version: 1\nproject: p\nvms: {a: {node: n1, clone: b}, b: {node: n1, clone: a}}\n".to_owned(),
        ),
    ]
}

/// More of them: of YAML's own traps, of clusters and files, and of devices.
fn more_specs() -> Vec<(&'static str, String)> {
    const DISK: &str = "disks: {scsi0: {storage: fast, size: 1GiB}}";
    let with = |lines: &str| vm(&format!("{DISK}\n{lines}"));
    let cloud = |fields: &str| with(&format!("cloud_init: {{{fields}}}"));
    let top = |lines: &str| format!("version: 1\nproject: p\n{lines}\nvms:\n  v: {{node: n, {DISK}}}\n");
    let image = |fields: &str| top(&format!("images: {{i: {{{fields}}}}}"));
    vec![
        ("an empty list of tags", with("tags: []")),
        ("an empty map of disks", vm("disks: {}")),
        ("no VMs", "version: 1\nproject: p\nvms: {}\n".to_owned()),
        ("VMs that are null", "version: 1\nproject: p\nvms:\n".to_owned()),
        ("an anchor and its alias", with("cpu: &c {cores: 2}\nmemory: *c")),
        ("an alias to nothing", with("cpu: *nowhere")),
        (
            "a merge key",
            format!("version: 1\nproject: p\nx-base: &b {{node: n}}\nvms:\n  v: {{<<: *b, {DISK}}}\n"),
        ),
        ("a merge key of a text", with("<<: hello")),
        ("a tag of YAML", with("cpu: !!int 2")),
        ("a tag of a language", with("description: !!python/object:os.system ls")),
        ("a block of text", with("description: |\n  line one\n  line two\nonboot: maybe")),
        ("a percent sign first", "%YAML 1.2\n---\nversion: 1\nproject: p\nvms: {}\n".to_owned()),
        ("a tab inside a line", with("onboot:\ttrue")),
        ("blanks that are not blanks", with("onboot:\u{a0}true")),
        ("a key in curly quotes", with("\u{201c}onboot\u{201d}: true")),
        ("a number with blanks", with("memory: 4 096MiB")),
        ("a number with a comma", with("memory: 1,5GiB")),
        ("a number with underscores", with("memory: 4_096MiB")),
        ("a number in Arabic digits", with("memory: \u{664}GiB")),
        ("a size in lower case", with("memory: 4gib")),
        ("a size in words", with("memory: 4 gigabytes")),
        ("a size of infinity", with("memory: .inf")),
        ("a size that is a list", with("memory: [4GiB]")),
        ("a disk that is no whole MiB", vm("disks: {scsi0: {storage: fast, size: 1000000B}}")),
        ("a disk larger than the world", vm("disks: {scsi0: {storage: fast, size: 9999PiB}}")),
        ("a disk as a text", vm("disks: {scsi0: 'fast:20'}")),
        ("a disk as a size", vm("disks: {scsi0: 20GiB}")),
        (
            "a disk with an image and an ISO",
            with("disks: {ide0: {iso: none, image: i}}").replacen(DISK, "onboot: true", 1),
        ),
        ("a disk of an image that is not there", vm("disks: {scsi0: {storage: fast, image: debain}}")),
        ("an EFI disk without UEFI", with("bios: {type: seabios, efi: fast}")),
        ("a slot in capitals", vm("disks: {SCSI0: {storage: fast, size: 1GiB}}")),
        ("a NIC without a bridge", with("nics: {net0: {model: virtio}}")),
        ("a NIC as a bridge", with("nics: {net0: vmbr0}")),
        ("a NIC of another model", with("nics: {net0: {bridge: vmbr0, model: virtoi}}")),
        ("a bridge that is too long", with("nics: {net0: {bridge: bridge-of-the-north-east}}")),
        ("a VLAN as a text", with("nics: {net0: {bridge: vmbr0, vlan: '40'}}")),
        ("trunks backwards", with("nics: {net0: {bridge: vmbr0, trunks: [30-20]}}")),
        (
            "two NICs of one MAC",
            with(
                "nics: {net0: {bridge: b0, mac: 'bc:24:11:00:00:01'}, net1: {bridge: b0, mac: 'BC:24:11:00:00:01'}}",
            ),
        ),
        ("a time without a unit", with("ready: {agent: 30}")),
        ("a time that is negative", with("ready: {agent: -5m}")),
        ("a time with a point", with("ready: {agent: 1.5m}")),
        ("a time of years", with("ready: {agent: 400d}")),
        ("a port beyond ports", with("agent: true\nnics: {net0: {bridge: b0}}\nready: {ip: 1m, tcp: 70000}")),
        ("a password file outside", cloud("user: a, password: {file: /etc/shadow}")),
        ("a password of two kinds", cloud("user: a, password: {env: A, file: b}")),
        ("a password of nothing", cloud("user: a, password: {}")),
        ("a password command as a text", cloud("user: a, password: {command: pass show x}")),
        ("a key file as a text", cloud("ssh_keys: ~/.ssh/id.pub")),
        ("keys of another service", cloud("ssh_keys: ['bitbucket:me']")),
        ("a name server by name", cloud("dns: {servers: [dns.example.org]}")),
        ("a user with a colon", cloud("user: 'a:b'")),
        ("an image from two places", image("path: /a.qcow2, url: 'https://a/b'")),
        ("an image from nowhere", image("format: qcow2")),
        ("a URL without a checksum", image("url: 'https://a.example.org/b.qcow2'")),
        ("a URL of files", image("url: 'file:///etc/passwd', checksum: 'sha256:00'")),
        (
            "a URL with a password",
            image(&format!(
                "url: 'https://u:hunter2@a.example.org/b', checksum: 'sha256:{}'",
                "0".repeat(64)
            )),
        ),
        (
            "a checksum that is too short",
            image("url: 'https://a.example.org/b.qcow2', checksum: 'sha256:abc'"),
        ),
        ("a checksum of no kind", image(&format!("path: /a.qcow2, checksum: '{}'", "0".repeat(64)))),
        ("a path that is relative", image("path: images/a.qcow2")),
        ("a profile that is not there", with("profile: larg")),
        (
            "a profile of itself",
            format!(
                "version: 1\nproject: p\nprofiles: {{a: {{profile: a}}}}\nvms:\n  v: {{node: n, profile: a, {DISK}}}\n"
            ),
        ),
        (
            "a VM on a cluster that is not there",
            top("clusters: {east: {endpoints: 'https://e:8006'}}")
                .replace("node: n,", "node: n, cluster: west,"),
        ),
        (
            "two clusters and no word",
            top("clusters: {east: {endpoints: 'https://e:8006'}, west: {endpoints: 'https://w:8006'}}"),
        ),
        ("an API without TLS", top("clusters: {east: {endpoints: 'http://e:8006'}}")),
        (
            "a token in clear",
            top(
                "clusters: {east: {endpoints: 'https://e:8006', auth: {token_id: 'a@pve!b', secret: hunter2}}}",
            ),
        ),
        ("a transport that is not there", top("transport: shh")),
        ("a key of a later version", top("modules: {a: b}")),
        (
            "one VMID twice",
            format!(
                "version: 1\nproject: p\nvms:\n  a: {{vmid: 201, node: n, {DISK}}}\n  b: {{vmid: 201, node: n, {DISK}}}\n"
            ),
        ),
        (
            "one address twice",
            format!(
                "version: 1\nproject: p\ndefaults: {{node: n, {DISK}, cloud_init: {{user: a}}}}\nvms:\n  a: {{nics: {{net0: {{bridge: b0, ip: 10.0.0.5/24}}}}}}\n  b: {{nics: {{net0: {{bridge: b0, ip: 10.0.0.5/16}}}}}}\n"
            ),
        ),
        (
            "names that differ in case",
            format!("version: 1\nproject: p\nvms:\n  Web: {{node: n, {DISK}}}\n  web: {{node: n, {DISK}}}\n"),
        ),
        ("HA and a desired against it", with("ha: {state: runing}")),
        ("HA on no nodes", with("ha: {state: started, on_nodes: {}}")),
        ("HA on a list of nodes", with("ha: {state: started, on_nodes: [pve1, pve2]}")),
        ("a mapping with a comma", with("pci: {hostpci0: {mapping: 'gpu,pcie=1'}}")),
        ("PCI express without q35", with("pci: {hostpci0: {mapping: gpu, pcie: true}}")),
        ("raw with a line end", with("raw: {args: \"-a\\n-b\"}")),
        ("raw with a list", with("raw: {args: [-a, -b]}")),
        ("raw misspelt", with("raw: {onbot: 1}")),
        ("ignore of what is not there", with("lifecycle: {ignore: [disk.scsi0]}")),
        (
            "keep without a holder's number",
            vm("disks: {scsi0: {storage: fast, size: 1GiB, keep: {holder: web}}}"),
        ),
        (
            "keep as a word, a list and misspelt",
            vm(
                "disks:\n  scsi0: {storage: fast, size: 1GiB, keep: always}\n  scsi1: {storage: fast, size: 1GiB, keep: [201]}\n  scsi2: {storage: fast, size: 1GiB, keep: {holdr: 201}}\n  scsi3: {storage: fast, size: 1GiB, keep: {holder: -1}}\n  scsi4: {storage: fast, size: 1GiB, keep: {}}",
            ),
        ),
        ("HA in one word, misspelt", with("ha: runing")),
        ("HA as a boolean", with("ha: {state: true, max_restart: -1, max_relocate: 99}")),
        ("HA for a node without a number", with("ha: {on_nodes: {pve1: high, pve2: -1, pve3: 1.5}}")),
        (
            "times that are negative",
            with(
                "agent: true\nstartup: {order: -1, up: -30s, down: -1h30m}\nready: {agent: -5, ip: -1.5h}\nlifecycle: {shutdown_timeout: minus 5m}",
            ),
        ),
        ("a time in words", with("agent: true\nready: {agent: soon, ip: {timeout: 200h}}")),
        ("keep alone", with("vmid: 201").replace("size: 1GiB", "size: 1GiB, keep: {holder: 201}")),
        ("a startup order as a text", with("startup: 'order=1,up=30'")),
        (
            "a clone and an image",
            format!(
                "version: 1\nproject: p\nimages: {{i: {{path: /a.qcow2}}}}\nvms:\n  t: {{node: n, template: true, {DISK}}}\n  v: {{node: n, clone: t, disks: {{scsi0: {{storage: fast, image: i}}}}}}\n"
            ),
        ),
        (
            "a linked clone of a VM",
            format!(
                "version: 1\nproject: p\nvms:\n  t: {{node: n, {DISK}}}\n  v: {{node: n, clone: {{from: t, mode: linked}}}}\n"
            ),
        ),
    ]
}

#[test]
fn more_nasty_specs_are_told_where_and_what_to_write() {
    insta::assert_snapshot!("more", told_of(more_specs()));
}

#[test]
fn faults_in_several_files_name_theirs() {
    let web = "version: 1\nproject: p\nvms:\n  web: {node: n, disks: {scsi0: {storage: fast, size: 1GiB}}}\n";
    let cases = [
        ("a VM in two files", vec![("a.yaml", web.to_owned()), ("b.yaml", web.to_owned())]),
        (
            "two projects",
            vec![
                ("a.yaml", web.to_owned()),
                ("b.yaml", web.replace("project: p", "project: q").replace("web:", "db:")),
            ],
        ),
        (
            "two versions",
            vec![
                ("a.yaml", web.to_owned()),
                ("b.yaml", web.replace("version: 1", "version: 2").replace("web:", "db:")),
            ],
        ),
        (
            "an image in two files",
            vec![
                ("a.yaml", format!("{web}images: {{i: {{path: /a.qcow2}}}}\n")),
                ("b.yaml", "images: {i: {path: /b.qcow2}}\n".to_owned()),
            ],
        ),
        (
            "defaults in two files",
            vec![
                ("a.yaml", format!("{web}defaults: {{onboot: true}}\n")),
                ("b.yaml", "defaults: {onboot: false}\n".to_owned()),
            ],
        ),
        (
            "a fault in the second",
            vec![("a.yaml", web.to_owned()), ("b.yaml", "vms:\n  db: {node: n, memroy: 1GiB}\n".to_owned())],
        ),
        ("no YAML in the second", vec![("a.yaml", web.to_owned()), ("b.yaml", "vms: {db: [}\n".to_owned())]),
        (
            "one address in two files",
            vec![
                (
                    "a.yaml",
                    web.replace(
                        "size: 1GiB}}",
                        "size: 1GiB}}, cloud_init: {user: a}, nics: {net0: {bridge: b, ip: 10.0.0.5/24}}",
                    ),
                ),
                (
                    "b.yaml",
                    web.replace("web:", "db:").replace("version: 1\nproject: p\n", "").replace(
                        "size: 1GiB}}",
                        "size: 1GiB}}, cloud_init: {user: a}, nics: {net0: {bridge: b, ip: 10.0.0.5/24}}",
                    ),
                ),
            ],
        ),
    ];
    let mut told = String::new();
    for (name, files) in cases {
        let files: Vec<SourceFile> =
            files.into_iter().map(|(file, text)| SourceFile::new(file, text)).collect();
        told.push_str(&shown(name, &files));
    }
    insta::assert_snapshot!("several_files", told);
}

/// Returns what is said of a spec; every fault has its place, and shows its line.
fn shown(name: &str, files: &[SourceFile]) -> String {
    let (faults, refused) = match load(files, &LoadOptions::default()) {
        Ok(loaded) => (loaded.warnings, false),
        Err(faults) => (faults, true),
    };
    let mut told = format!("== {name}\n");
    if faults.is_empty() {
        told.push_str("fine\n");
    }
    for fault in &faults {
        let _ = writeln!(told, "{}", fault.to_string().trim_end());
        assert!(!fault.to_string().contains("hunter2"), "{fault}");
        assert!(fault.span.line > 0 && fault.excerpt.is_some(), "{name}: without a place: {fault}");
        assert!(fault.hint.is_some(), "{name}: without what to write: {fault}");
    }
    assert!(!refused || !faults.is_empty(), "{name}");
    told
}

fn told_of(specs: Vec<(&'static str, String)>) -> String {
    specs.into_iter().map(|(name, text)| shown(name, &[SourceFile::new("nasty.yaml", text)])).collect()
}

#[test]
fn every_nasty_spec_is_told_where_and_what_to_write() {
    let mut told = String::new();
    for (name, text) in specs() {
        let files = [SourceFile::new("nasty.yaml", text)];
        let faults = match load(&files, &LoadOptions::default()) {
            Ok(loaded) => loaded.warnings,
            Err(faults) => faults,
        };
        let _ = writeln!(told, "== {name}");
        if faults.is_empty() {
            let _ = writeln!(told, "fine");
        }
        for fault in &faults {
            let _ = writeln!(told, "{}", fault.to_string().trim_end());
            assert!(!fault.to_string().contains("hunter2"), "{fault}");
            assert!(fault.hint.is_some(), "{name}: without what to write: {fault}");
        }
    }
    insta::assert_snapshot!("nasty", told);
}
