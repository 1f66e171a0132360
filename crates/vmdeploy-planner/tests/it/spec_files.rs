//! Files of `deployments/` and what becomes of them.

use std::path::{Path, PathBuf};
use vmdeploy_planner::spec::{self, Deployment, Desired, LoadOptions, OptionValue, SourceFile};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Reads a file or folder below `deployments/` as the program does.
pub fn read(name: &str) -> Vec<SourceFile> {
    let path = root().join("deployments").join(name);
    let mut paths = vec![path.clone()];
    if path.is_dir() {
        paths = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        paths.sort();
    }
    let source =
        |path: &PathBuf| SourceFile::new(path.display().to_string(), std::fs::read_to_string(path).unwrap());
    paths.iter().map(source).collect()
}

/// Loads a spec that must be sound.
pub fn load(files: &[SourceFile]) -> Deployment {
    match spec::load(files, &LoadOptions::default()) {
        Ok(loaded) => {
            let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
            assert!(warnings.is_empty(), "{}", warnings.join("\n"));
            loaded.deployment
        }
        Err(faults) => panic!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

#[test]
fn every_deployment_in_the_repository_is_sound() {
    let mut names: Vec<String> = std::fs::read_dir(root().join("deployments"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".yaml") && !name.ends_with(".lock.yaml") || !name.contains('.'))
        .collect();
    names.sort();
    assert!(names.contains(&"demo.yaml".to_owned()));
    for name in names {
        let files = read(&name);
        if !files.is_empty() {
            assert!(!load(&files).vms.is_empty(), "{name}");
        }
    }
}

#[test]
fn the_demo_is_lowered_to_options_of_pve() {
    let demo = load(&read("demo.yaml"));
    assert_eq!(demo.vms.len(), 3);
    let db = demo.vm(&"db01".parse().unwrap()).unwrap();
    let whole = |key: &str| match &db.options[key].value {
        OptionValue::Whole(text) => text.clone(),
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!((whole("cores"), whole("onboot")), ("4".into(), "1".into()));
    let OptionValue::Fields(memory) = &db.options["memory"].value else { panic!() };
    assert_eq!(memory["current"].value.as_deref(), Some("4096"));
    assert_eq!(db.options["cores"].path, "cpu.cores");
    let scsi1 = db.disks[&"scsi1".parse().unwrap()].set().unwrap();
    assert_eq!(scsi1.options["discard"].value.as_deref(), Some("on"));
    assert_eq!(scsi1.options["discard"].path, "disks.scsi1.discard");
    let web = demo.vm(&"web01".parse().unwrap()).unwrap();
    let net0 = web.nics[&"net0".parse().unwrap()].set().unwrap();
    assert_eq!(net0.ipconfig["gw"].value.as_deref(), Some("192.0.2.1"));
    assert_eq!(net0.options_when_made()["model"].value.as_deref(), Some("virtio"));
    let cloud = db.cloud_init.as_ref().unwrap();
    assert_eq!(cloud.options["ciuser"].value, OptionValue::Whole("admin".into()));
    assert!(matches!(&cloud.ssh_keys, Desired::Set(keys) if keys.value.len() == 1));
    assert!(!db.options.contains_key("ciuser"));
}
