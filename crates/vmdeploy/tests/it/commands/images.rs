//! `vmdeploy image`.

use crate::lab_run::LabRun;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const IMAGE: &str = "debian-13: {path: /var/lib/vz/import/debian-13.qcow2}";

fn checked(lab: &LabRun) -> (Option<i32>, Vec<Value>) {
    let output = lab.user.output(&["image", "check", "demo.yaml", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(document["format_version"], 1);
    (output.status.code(), document["images"].as_array().expect("a list").clone())
}

fn with_image(lab: &LabRun, image: &str) {
    lab.user.write("demo.yaml", &crate::tidy::read("deployments/demo.yaml").replace(IMAGE, image));
}

#[test]
fn an_image_is_verified_where_it_lies() {
    let lab = LabRun::demo();
    let (code, rows) = checked(&lab);
    assert_eq!((code, rows.len()), (Some(0), 1));
    assert_eq!(rows[0]["state"], "present");
    let wrong = IMAGE.replace('}', &format!(", checksum: 'sha256:{}'}}", "0".repeat(64)));
    with_image(&lab, &wrong);
    let (code, rows) = checked(&lab);
    assert_eq!((code, rows[0]["state"].as_str()), (Some(4), Some("wrong_checksum")));
    let found = rows[0]["found_checksum"].as_str().unwrap();
    with_image(&lab, &IMAGE.replace('}', &format!(", checksum: '{found}'}}")));
    let (code, rows) = checked(&lab);
    assert_eq!((code, rows[0]["state"].as_str()), (Some(0), Some("verified")));
    let row = &rows[0];
    assert!(row["format"] == "qcow2" && row["size"].is_string() && row["virtual_size"].is_string(), "{row}");
    with_image(&lab, "debian-13: {path: /var/lib/vz/import/none.qcow2}");
    let (code, rows) = checked(&lab);
    assert_eq!((code, rows[0]["state"].as_str()), (Some(4), Some("missing")));
}

#[test]
fn images_that_no_vm_uses_are_listed_and_change_nothing_else() {
    let mut lab = LabRun::demo();
    lab.user.write("disk.raw", "not much of a disk");
    let path = "/var/lib/vz/import/debian-13.qcow2";
    let wrong = "0".repeat(64);
    let more = format!(
        "{IMAGE}\n  bad: {{path: {path}, checksum: 'sha256:{wrong}'}}\n  here: {{file: disk.raw, format: raw, size: 1GiB}}\n  \
         lies: {{path: {path}}}\n  none: {{path: /var/lib/vz/import/none.qcow2}}\n  \
         unmade: {{build: {{vm: web01, source: ., command: make, output: out.qcow2}}}}\n  \
         volume: {{volume: 'local:import/none.qcow2'}}"
    );
    with_image(&lab, &more);
    let states = |rows: &[Value]| -> Vec<String> {
        let text = |row: &Value| {
            format!("{} {} {}", row["image"].as_str().unwrap(), row["used"], row["state"].as_str().unwrap())
        };
        rows.iter().map(text).collect()
    };
    let (code, rows) = checked(&lab);
    let used = "debian-13 true present";
    assert_eq!(
        (code, states(&rows)),
        (
            Some(0),
            vec![
                used.to_owned(),
                "bad false wrong_checksum".to_owned(),
                "lies false present".to_owned(),
                "none false missing".to_owned(),
                "volume false missing".to_owned(),
                "here false missing".to_owned(),
                "unmade false unused".to_owned(),
            ]
        )
    );
    let said = lab.run(&["image", "check", "demo.yaml"]);
    assert!(said.contains("unused, wrong checksum") && !said.contains("`deploy` will upload"), "{said}");
    // Images that cannot be checked are listed as well.
    lab.user.add_variable("PROXMOX_NODE", "pve9");
    let (code, rows) = checked(&lab);
    assert_eq!((code, rows.len(), states(&rows)[0].as_str()), (Some(0), 7, used));
}

#[test]
fn an_image_of_this_machine_is_to_be_placed_and_then_verified() {
    let lab = LabRun::demo();
    let bytes = "not much of a disk".repeat(64);
    lab.user.write("disk.raw", &bytes);
    with_image(&lab, "debian-13: {file: disk.raw, format: raw, size: 1GiB}");
    let (code, rows) = checked(&lab);
    assert_eq!((code, rows.len()), (Some(0), 1));
    assert_eq!(rows[0]["state"], "will_be_placed");
    let pushed = lab.user.output(&["image", "push", "debian-13", "--spec", "demo.yaml", "--yes"]);
    assert_eq!(pushed.status.code(), Some(0), "{}", String::from_utf8_lossy(&pushed.stderr));
    let (code, rows) = checked(&lab);
    assert_eq!((code, rows[0]["state"].as_str()), (Some(0), Some("verified")), "{rows:?}");
    let hex: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(rows[0]["found_checksum"], format!("sha256:{hex}"));
}

#[test]
fn a_plan_says_that_a_source_changed_since_its_image_was_built() {
    let lab = LabRun::demo();
    let spec = "version: 1\nproject: build\nimages:\n  custom:\n    format: raw\n    size: 1GiB\n    \
                build: {vm: builder, source: custom, command: sh build.sh, output: disk.raw, file: images/custom.raw}\n\
                vms:\n  builder: {vmid: 200, node: pve1, disks: {scsi0: {storage: local-lvm, size: 1GiB}}}\n  web01: {vmid: 201, node: pve1, disks: {scsi0: {storage: local-lvm, image: custom}}}\n";
    lab.user.write("build.yaml", spec);
    for folder in ["custom", "images"] {
        std::fs::create_dir(lab.user.path(folder)).unwrap();
    }
    lab.user.write("custom/build.sh", "echo one");
    lab.user.write("images/custom.raw", "a disk");
    let said = || {
        let output = lab.user.output(&["plan", "build.yaml"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        said.contains("of image `custom` has changed since it was built")
    };
    assert!(!said(), "the source of an image without a record is unknown");
    let loaded = vmdeploy_planner::spec::load(
        &[vmdeploy_planner::spec::SourceFile::new("build.yaml", spec.to_owned())],
        &Default::default(),
    );
    let images = loaded.unwrap().deployment.images;
    let vmdeploy_planner::spec::ImageSource::Build(build) = &images["custom"].source else {
        panic!("a build")
    };
    let source = vmdeploy::build::SourceTree::read(&lab.user.path("custom")).unwrap();
    let record = serde_json::json!({
        "format_version": 1, "image": "custom", "file": "images/custom.raw", "size": 6, "sha256": "00", "format": null,
        "virtual_size": null, "source": "custom", "source_sha256": null, "command": "sh build.sh", "builder": "b@h:22",
        "inputs_sha256": vmdeploy::build::inputs_sha256(build, Some(&source)).unwrap(), "vm": "builder",
        "started": "2026-01-31T12:00:00Z", "ended": "2026-01-31T12:05:00Z", "vmdeploy": "0.1.0", "placed": [],
    });
    lab.user.write("images/custom.raw.build.json", &record.to_string());
    assert!(!said(), "the source is what it was");
    lab.user.write("custom/build.sh", "echo two");
    assert!(said());
    lab.user.write("custom/build.sh", "echo one");
    assert!(!said());
    lab.user.write("build.yaml", &spec.replace("sh build.sh", "sh build.sh --more"));
    assert!(said(), "another command makes another image");
}

/// A file that `cat` of two compressed files would give, and what it unpacks to.
fn gzipped() -> (Vec<u8>, String) {
    use std::io::Write as _;
    let plain = "not much of a disk".repeat(6400);
    let half = |text: &str| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap()
    };
    let (first, second) = plain.split_at(plain.len() / 2);
    ([half(first), half(second)].concat(), plain)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_compressed_image_is_unpacked_on_its_way_and_what_came_out_is_verified() {
    let lab = LabRun::demo();
    let (packed, plain) = gzipped();
    std::fs::write(lab.user.path("disk.raw.gz"), &packed).unwrap();
    let image = |checksum: &str| {
        format!("debian-13: {{file: disk.raw.gz, format: raw, size: 1GiB, checksum: 'sha256:{checksum}'}}")
    };
    // The checksum of the spec is that of the compressed file, and a wrong one places nothing.
    with_image(&lab, &image(&"0".repeat(64)));
    let push = ["image", "push", "debian-13", "--spec", "demo.yaml", "--yes"];
    let refused = lab.user.output(&push);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(5), "{told}");
    assert!(told.contains(&format!("has checksum sha256:{}, not 0000", sha256(&packed))), "{told}");
    assert_eq!(checked(&lab).1[0]["state"], "will_be_placed");
    with_image(&lab, &image(&sha256(&packed)));
    let pushed = lab.user.output(&push);
    assert_eq!(pushed.status.code(), Some(0), "{}", String::from_utf8_lossy(&pushed.stderr));
    let (code, rows) = checked(&lab);
    assert_eq!((code, rows[0]["state"].as_str()), (Some(0), Some("verified")), "{rows:?}");
    assert_eq!(rows[0]["found_checksum"], format!("sha256:{}", sha256(plain.as_bytes())));
    let runs = std::fs::read_dir(lab.user.path(".vmdeploy/runs")).unwrap();
    let left =
        runs.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("unpacked"));
    assert_eq!(left.count(), 0, "nothing unpacked is left");
}

#[test]
fn the_ssh_transport_unpacks_too() {
    let lab = LabRun::demo();
    let (packed, plain) = gzipped();
    std::fs::write(lab.user.path("disk.raw.gz"), &packed).unwrap();
    with_image(&lab, "debian-13: {file: disk.raw.gz, format: raw, size: 1GiB}");
    let spec = std::fs::read_to_string(lab.user.path("demo.yaml")).unwrap();
    lab.user.write("demo.yaml", &spec.replace("transport: hybrid", "transport: ssh"));
    let pushed = lab.user.output(&["image", "push", "debian-13", "--spec", "demo.yaml", "--yes"]);
    assert_eq!(pushed.status.code(), Some(0), "{}", String::from_utf8_lossy(&pushed.stderr));
    let (code, rows) = checked(&lab);
    assert_eq!((code, rows[0]["state"].as_str()), (Some(0), Some("verified")), "{rows:?}");
    assert_eq!(rows[0]["found_checksum"], format!("sha256:{}", sha256(plain.as_bytes())));
}

#[test]
fn an_image_that_no_vm_uses_is_pushed_to_the_node_that_is_named() {
    let lab = LabRun::demo();
    let text = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    lab.user.write("disk.raw", &"not much of a disk".repeat(64));
    // What else the spec's deployment would be refused for is no matter of this image.
    with_image(
        &lab,
        "debian-13: {path: /var/lib/vz/import/none.qcow2}\n  spare: {file: disk.raw, format: raw}",
    );
    let push = |more: &[&str]| {
        let push = ["image", "push", "spare", "--spec", "demo.yaml", "--yes"];
        lab.user.output(&push.iter().chain(more).copied().collect::<Vec<_>>())
    };
    let named = push(&["--node", "pve9"]);
    assert_eq!(named.status.code(), Some(4), "{}", text(&named));
    let pushed = push(&[]);
    assert_eq!(pushed.status.code(), Some(0), "{}", text(&pushed));
    assert!(text(&pushed).contains("image spare to pve1"), "{}", text(&pushed));
    let missing = lab.user.output(&["image", "push", "debian-13", "--spec", "demo.yaml", "--yes"]);
    assert_eq!(missing.status.code(), Some(4), "{}", text(&missing));
    assert!(text(&missing).contains("no file `/var/lib/vz/import/none.qcow2`"), "{}", text(&missing));
}
