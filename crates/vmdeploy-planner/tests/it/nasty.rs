//! Specs by somebody who means no good, or is in a hurry: what each is told, word for word.

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
        ("a truth of another language", vm("onboot: yes")),
        ("a truth as a number", vm("onboot: 1")),
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
        }
    }
    insta::assert_snapshot!("nasty", told);
}
