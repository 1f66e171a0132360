//! Guests that are not ours: what their configurations hold is nowhere in what we say or write.

use crate::lab_run::LabRun;
use pve_lab::WorldSpec;
use std::path::Path;

/// In a foreign guest's file: its password, in clear, as PVE keeps one that was set when the VM was made, what waits for
/// a restart, and what an administrator noted.
const FOREIGN: [&str; 4] =
    ["foreign-Pa55word-1", "foreign-Pa55word-2", "foreign-note-3", "foreign-argument-4"];

/// A demo world with guests of others: an unrelated one, one at a VMID of our spec, one that is adopted.
fn lab() -> LabRun {
    let [password, pending, note, argument] = FOREIGN;
    let guest = |vmid: u32| {
        format!(
            "  {vmid}: {{running: true, config: {{name: theirs{vmid}, agent: '1', ciuser: them, cipassword: {password}, \
             description: 'root: {note}', args: '-smbios type=11,value={argument}', memory: '512', \
             smbios1: uuid=00000000-0000-4000-8000-000000000{vmid}, scsi0: 'local-lvm:vm-{vmid}-disk-0,size=1G', \
             ide2: 'local-lvm:vm-{vmid}-cloudinit,media=cdrom'}}}}\n"
        )
    };
    let more = format!("guests:\n{}{}{}", guest(150), guest(151), guest(152));
    let world = WorldSpec { guests: WorldSpec::from_yaml(&more).unwrap().guests, ..WorldSpec::demo() };
    let lab = LabRun::start(world, Vec::new());
    lab.world().with(|world| {
        for guest in world.guests.values_mut() {
            guest.pending.set.insert("cipassword".to_owned(), pending.to_owned());
        }
    });
    lab
}

/// Adds the text of every file below the folder.
fn collect(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, text),
            false => text.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap())),
        }
    }
}

/// Returns the text as a log of bytes might show it.
fn encodings(secret: &str) -> Vec<String> {
    let numbers =
        |separator: &str| secret.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(separator);
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    vec![secret.to_owned(), numbers(", "), numbers(","), hex.clone(), hex.to_uppercase()]
}

#[test]
fn what_a_foreign_guest_holds_is_in_nothing_that_we_say_or_write() {
    let lab = lab();
    let one = "version: 1\nproject: own\ndefaults: {node: pve1, agent: true}\nvms:\n  own01:\n    vmid: 201\n    \
               disks: {scsi0: {storage: local-lvm, size: 1GiB}}\n    nics: {net0: {bridge: vmbr0}}\n";
    lab.user.write("own.yaml", one);
    lab.user.write("in-the-way.yaml", &one.replace("201", "151"));
    lab.user.write("gone.yaml", &one.replace("own01", "other").replace("201", "202"));
    let mut everything = String::new();
    let mut run = |line: &str, expect: i32| {
        let mut arguments: Vec<&str> = line.split_whitespace().collect();
        arguments.push("-vvv");
        let output = lab.user.output(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expect), "{line}: {said}");
        everything.push_str(&String::from_utf8_lossy(&output.stdout));
        everything.push_str(&said);
    };
    for transport in ["hybrid", "auto", "api", "ssh"] {
        let forms = ["", "--json", "--markdown", "--dot", "--timing"];
        for form in &forms[..if transport == "hybrid" { 5 } else { 1 }] {
            run(&format!("plan own.yaml --transport {transport} {form}"), 0);
        }
        run(
            &format!(
                "plan own.yaml --transport {transport} --write-observed observed-{transport}.json --out plan-{transport}.json"
            ),
            0,
        );
        run(&format!("plan own.yaml --transport {transport} --observed observed-{transport}.json --json"), 0);
        run(&format!("plan in-the-way.yaml --transport {transport}"), 4);
        run(&format!("deploy in-the-way.yaml --yes --transport {transport}"), 4);
        run(&format!("deploy own.yaml --yes --json --log-format json --transport {transport}"), 0);
        run(&format!("deploy gone.yaml --yes --target other --transport {transport}"), 0);
        for command in
            ["status", "inventory --format yaml", "inventory --format prometheus", "doctor", "check-token"]
        {
            run(&format!("{command} own.yaml"), 0);
        }
        run(&format!("destroy own.yaml --yes --transport {transport}"), 0);
        run(&format!("destroy gone.yaml --yes --transport {transport}"), 0);
    }
    run("runs --json", 0);
    let runs = std::fs::read_dir(lab.user.path(".vmdeploy/runs")).unwrap();
    let names = runs.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let last = names.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).max().unwrap();
    run(&format!("report {last} --json"), 0);
    run(&format!("report {last} --html report.html"), 0);
    // What is adopted is written down, but for its password.
    run("adopt 150 --project own --out adopted.yaml", 0);
    let adopted = std::fs::read_to_string(lab.user.path("adopted.yaml")).unwrap();
    assert!(adopted.contains(FOREIGN[2]), "the notes of a guest that is adopted are its spec's: {adopted}");
    assert!(!adopted.contains(FOREIGN[0]) && !adopted.contains(FOREIGN[1]), "{adopted}");
    std::fs::remove_file(lab.user.path("adopted.yaml")).unwrap();
    collect(&lab.user.path(""), &mut everything);
    for trace in ["observed-hybrid.json", "own01/create", "theirs150", "local-lvm:vm-150-disk-0"] {
        assert!(everything.contains(trace) || lab.user.path(trace).exists(), "the runs left {trace}");
    }
    for secret in FOREIGN {
        for shape in encodings(secret) {
            if let Some(at) = everything.find(&shape) {
                let around = everything[..at].char_indices().rev().nth(300).map_or(0, |(at, _)| at);
                panic!("`{secret}` of a foreign guest was said: {}", &everything[around..at]);
            }
        }
    }
}
