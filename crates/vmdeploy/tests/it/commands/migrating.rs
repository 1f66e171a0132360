//! Each target of vm-deploy's Makefile exists here, or has a replacement.

/// The targets of vm-deploy.
const TARGETS: &[&str] = &[
    "build-image",
    "build-image-legacy",
    "build-image-remote",
    "build-vm-status",
    "check-env",
    "check-image",
    "check-syntax",
    "check-token",
    "clean",
    "cleanup-vms",
    "configure",
    "copy-ssh-keys",
    "deploy",
    "deploy-build-vm",
    "deploy-ceph",
    "detect-build-vm-ip",
    "dry-run",
    "edit-config",
    "edit-env",
    "fix-build-vm-certs",
    "fix-build-vm-kpartx",
    "fix-token",
    "fresh-start",
    "generate-config",
    "generate-inventory",
    "help",
    "info",
    "init",
    "list-vms",
    "rebuild-all",
    "remove",
    "remove-build-vm",
    "ssh-build-vm",
    "start-vms",
    "status",
    "stop-vms",
    "switch-to-ssh-keys",
    "test-connection",
    "test-vm-connection",
    "update",
    "update-env",
    "update-vm",
    "upload-kiwi",
    "vm-status",
];

#[test]
fn every_target_of_vm_deploy_is_here_or_its_successor_is_named() {
    let makefile = crate::tidy::read("Makefile");
    let heads = makefile.lines().filter(|line| line.contains(": ") && line.contains("## "));
    let targets: Vec<&str> =
        heads.filter_map(|line| line.split_once(':')).flat_map(|(names, _)| names.split(' ')).collect();
    let guide = crate::tidy::read("docs/migrating.md");
    // The first cell of a row names the old targets, the second what stands for them here.
    let rows: Vec<(&str, &str)> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .collect();
    for target in TARGETS {
        let row = rows.iter().find(|(old, _)| old.contains(&format!("`{target}`")));
        let (_, successor) = row.unwrap_or_else(|| panic!("docs/migrating.md says nothing of `{target}`"));
        assert!(!successor.contains("not there"), "{target}: {successor}");
        if successor.starts_with("the same") {
            assert!(targets.contains(target), "{target} is said to be the same, and the Makefile has none");
        }
        // What the guide sends people to is there, too.
        for named in successor.split("`make ").skip(1).filter_map(|rest| rest.split(['`', ' ']).next()) {
            assert!(targets.contains(&named), "{target}: there is no `make {named}`");
        }
    }
}
