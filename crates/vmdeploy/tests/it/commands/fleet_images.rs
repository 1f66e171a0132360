//! Images that move on, data that stays, and VMs that are moved: `image outdated`, `image pin`, `--replace`, `migrate`.

use crate::lab_run::LabRun;
use crate::transcript::Session;
use pve_lab::WorldSpec;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

/// Serves these paths over HTTP on loopback until the process ends; returns the address.
fn serve(files: &'static [(&'static str, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            let head = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
            let found = files.iter().find(|(name, _)| *name == path);
            let (status, body) = found.map_or(("404 Not Found", ""), |(_, body)| ("200 OK", *body));
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    base
}

#[track_caller]
fn does(user: &Session, arguments: &[&str]) -> String {
    let output = user.output(arguments);
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{text}");
    text
}

const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const SUMS: &str = "0000000000000000000000000000000000000000000000000000000000000000  other.qcow2\ne3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 *stated.qcow2\n";

#[test]
fn a_pin_is_what_the_publisher_states_or_what_a_download_gives() {
    let base = serve(&[("/a/SHA256SUMS", SUMS), ("/b/image.qcow2", "")]);
    let user = Session::new();
    let spec = format!(
        "# images\nversion: 1\nproject: pins\nimages:\n  stated: {{url: \"{base}/a/stated.qcow2\", size: 3GiB}} # moves\n  computed:\n    url: {base}/b/image.qcow2  # no list\nvms: {{web01: {{node: pve1}}}}\n"
    );
    user.write("pins.yaml", &spec);
    assert_eq!(user.output(&["validate", "pins.yaml"]).status.code(), Some(2), "a `url` needs a checksum");
    let said = does(&user, &["image", "pin", "--spec", "pins.yaml"]);
    assert!(said.contains("stated: its checksum is stated in") && said.contains("/a/SHA256SUMS"), "{said}");
    assert!(said.contains("computed: no checksum is stated next to"), "{said}");
    let pinned = std::fs::read_to_string(user.path("pins.yaml")).unwrap();
    let expect = spec
        .replace("stated.qcow2\"", &format!("stated.qcow2\", checksum: sha256:{SUM}"))
        .replace("# no list\n", &format!("# no list\n    checksum: sha256:{SUM}\n"));
    assert_eq!(pinned, expect);
    does(&user, &["validate", "pins.yaml"]);
    assert!(does(&user, &["image", "pin", "--spec", "pins.yaml"]).contains("as the spec says"));
    assert_eq!(user.output(&["image", "pin", "nothing", "--spec", "pins.yaml"]).status.code(), Some(2));
}

fn database(image: &str, more: &str) -> String {
    format!(
        "version: 1\nproject: data\nimages: {{system: {{{image}}}}}\nvms:\n  db01:\n    vmid: 400\n    node: pve1\n    disks:\n      scsi0: {{storage: local-lvm, image: system, size: 4GiB}}\n      scsi1: {{storage: local-lvm, size: 1GiB, keep: true, serial: pgdata}}\n{more}"
    )
}

#[test]
fn an_outdated_vm_is_listed_and_its_replacement_keeps_the_data_disk() {
    let lab = LabRun::demo();
    let path = "path: /var/lib/vz/import/debian-13.qcow2";
    lab.user.write("data.yaml", &database(path, ""));
    does(&lab.user, &["deploy", "data.yaml", "--yes"]);
    let seed = |value: Option<u64>| {
        lab.world().with(|world| {
            let slot = world.guests[&"400".parse().unwrap()].config["scsi1"].clone();
            assert!(slot.contains("serial=pgdata"), "{slot}");
            let name = slot.split([':', ',']).nth(1).unwrap().to_owned();
            let volume =
                world.block_stores.values_mut().find_map(|store| store.volumes.get_mut(&name)).unwrap();
            volume.seed = value.unwrap_or(volume.seed);
            volume.seed
        })
    };
    seed(Some(4711));
    let changed = format!("{path}, checksum: 'sha256:{}'", "a".repeat(64));
    lab.user.write("data.yaml", &database(&changed, ""));
    let listed = does(&lab.user, &["image", "outdated", "data.yaml"]);
    assert!(listed.contains("db01") && listed.contains("scsi0") && listed.contains("system"), "{listed}");
    let status = does(&lab.user, &["status", "data.yaml"]);
    assert!(status.contains("OUTDATED") && status.contains("system"), "{status}");
    let planned = does(&lab.user, &["plan", "data.yaml", "--detailed-exitcode"]);
    assert!(planned.contains("note: db01: outdated: image `system` has changed"), "{planned}");

    lab.user.write("data.yaml", &database(path, ""));
    let asked = lab.user.output(&["deploy", "data.yaml", "--replace", "db01"]);
    let asked = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.contains("this would DESTROY AND REMAKE 1 VM"), "{asked}");
    does(&lab.user, &["deploy", "data.yaml", "--replace", "db01", "--yes"]);
    assert_eq!(seed(None), 4711, "the data disk is the same");
    assert_eq!(lab.world().with(|world| world.guests.len()), 1, "the holder is gone");
    does(&lab.user, &["plan", "data.yaml", "--detailed-exitcode"]);
}

#[test]
fn a_vm_is_migrated_only_when_a_person_says_so() {
    let world = "version: 9.2.11
token: {id: root@pam!lab, privsep: false}
nodes:
  pve1: {cpus: 4, memory: 16GiB, rootfs: 100GiB, bridges: [vmbr0]}
  pve2: {cpus: 4, memory: 16GiB, rootfs: 100GiB, bridges: [vmbr0]}
storages:
  local: {type: dir, content: [iso, import, images, snippets], size: 100GiB, options: {path: /var/lib/vz}}
  local-lvm: {type: lvmthin, content: [images], size: 50GiB, options: {vgname: pve, thinpool: data}}
";
    let lab = LabRun::start(WorldSpec::from_yaml(world).expect("the world is one"), Vec::new());
    let spec = |node: &str| {
        format!(
            "version: 1\nproject: move\nvms:\n  web01: {{vmid: 201, node: {node}, disks: {{scsi0: {{storage: local-lvm, size: 1GiB}}}}}}\n"
        )
    };
    lab.user.write("move.yaml", &spec("pve1"));
    does(&lab.user, &["deploy", "move.yaml", "--yes"]);
    lab.user.write("move.yaml", &spec("pve2"));
    let planned = does(&lab.user, &["plan", "move.yaml", "--detailed-exitcode"]);
    assert!(planned.contains("`vmdeploy migrate web01 pve2` migrates it"), "{planned}");
    let shown = does(&lab.user, &["migrate", "web01", "pve2", "--spec", "move.yaml", "--plan-only"]);
    assert!(shown.contains("migrate web01 (VM 201) from pve1 to pve2"), "{shown}");
    assert!(shown.contains("copy local-lvm:vm-201-disk-0 to the storage of the same name"), "{shown}");
    let refused = lab.user.output(&["migrate", "web01", "pve2", "--spec", "move.yaml"]);
    assert_eq!(refused.status.code(), Some(2), "no one can be asked");
    let said = does(&lab.user, &["migrate", "web01", "pve2", "--spec", "move.yaml", "--yes"]);
    assert!(said.contains("web01 (VM 201) is on pve2 now"), "{said}");
    assert_eq!(lab.world().with(|world| world.guests[&"201".parse().unwrap()].node.clone()), "pve2");
    assert!(
        does(&lab.user, &["migrate", "web01", "pve2", "--spec", "move.yaml"]).contains("is on pve2 already")
    );
    does(&lab.user, &["plan", "move.yaml", "--detailed-exitcode"]);
}
