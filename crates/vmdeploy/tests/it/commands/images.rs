//! `vmdeploy image`.

use crate::lab_run::LabRun;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const IMAGE: &str = "debian-13: {path: /var/lib/vz/import/debian-13.qcow2}";

fn checked(lab: &LabRun) -> (Option<i32>, Vec<Value>) {
    let output = lab.user.output(&["image", "check", "demo.yaml", "--json"]);
    let rows = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), rows)
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
