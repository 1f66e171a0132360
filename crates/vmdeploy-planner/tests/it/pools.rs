//! Address pools: the lowest free address for a new VM, the same one for ever after.

use crate::pve::Pve;
use crate::specs::{deploy, load, plan, refused};
use proptest::prelude::*;
use std::collections::BTreeSet;
use vmdeploy_planner::observed::StaticAddress;
use vmdeploy_planner::spec::{self, Drawn, LoadOptions, SourceFile, updated_lock};

fn spec(count: u32, range: &str) -> String {
    format!(
        "version: 1
project: web
address_pools:
  lan: {{range: {range}, prefix: 24, gateway: 10.40.0.1, exclude: [10.40.0.21]}}
groups:
  web:
    count: {count}
    vm:
      node: pve1
      nics: {{net0: {{bridge: vmbr0, ip: {{pool: lan}}}}}}
      cloud_init: {{user: admin}}
      disks: {{scsi0: {{storage: fast, size: 1GiB}}}}
vms:
  fixed:
    node: pve1
    nics: {{net0: {{bridge: vmbr0, ip: 10.40.0.22/24, gateway: 10.40.0.1}}}}
    cloud_init: {{user: admin}}
    disks: {{scsi0: {{storage: fast, size: 1GiB}}}}
"
    )
}

const RANGE: &str = "10.40.0.20-10.40.0.29";

/// Returns what the guests have as `ipconfig0`, by VMID.
fn addresses(pve: &Pve) -> Vec<String> {
    pve.guests.values().filter_map(|guest| guest.values.get("ipconfig0").cloned()).collect()
}

#[test]
fn a_new_vm_gets_the_lowest_free_address_and_keeps_it() {
    let mut pve = Pve::new();
    let mut other = crate::deploy::foreign(900, "qemu");
    other.facts.addresses.push(StaticAddress {
        nic: "net0".to_owned(),
        bridge: Some("vmbr0".to_owned()),
        vlan: None,
        address: "10.40.0.23".parse().unwrap(),
    });
    pve.foreign.insert(other.vmid, other);
    let first = deploy(&mut pve, &spec(2, RANGE));
    let drawn: Vec<String> = first
        .changes
        .iter()
        .flat_map(|change| change.pool_addresses.values())
        .map(ToString::to_string)
        .collect();
    assert_eq!(drawn, ["10.40.0.20", "10.40.0.24"], "excluded, fixed and foreign addresses are left out");
    assert!(addresses(&pve).contains(&"gw=10.40.0.1,ip=10.40.0.24/24".to_owned()), "{:?}", addresses(&pve));
    assert!(plan(&pve, &spec(2, RANGE)).is_empty());
    let fewer = plan(&pve, &spec(1, RANGE));
    assert!(fewer.is_empty());
    // The address of a VM that left the spec is free only when its guest is gone.
    let grown = spec(2, RANGE).replace("  web:", "  new:");
    let drawn: BTreeSet<String> = plan(&pve, &grown)
        .changes
        .iter()
        .flat_map(|change| change.pool_addresses.values())
        .map(ToString::to_string)
        .collect();
    assert_eq!(drawn, BTreeSet::from(["10.40.0.25".to_owned(), "10.40.0.26".to_owned()]));
}

#[test]
fn a_lock_file_says_which_address_a_new_vm_gets() {
    let yaml = spec(2, RANGE);
    let lock = "version: 1\nproject: web\naddresses: {default: {web02: {net0: 10.40.0.28}, gone: {net0: 10.40.0.20}}}\n";
    let files = [SourceFile::new("a.yaml", yaml), SourceFile::new("a.lock.yaml", lock.to_owned())];
    let deployment = spec::load(&files, &LoadOptions::default()).unwrap().deployment;
    let observed = Pve::new().observed();
    let plan = crate::specs::try_plan_with(&observed, &deployment, |_| {}).unwrap();
    let drawn = |place: usize| plan.changes[place].pool_addresses["net0"].to_string();
    assert_eq!([drawn(1), drawn(2)], ["10.40.0.20", "10.40.0.28"]);
    let mut pins = Drawn::default();
    for change in &plan.changes {
        for (slot, address) in &change.pool_addresses {
            pins.addresses.insert(("default".to_owned(), change.vm.clone(), slot.clone()), *address);
        }
    }
    let text = updated_lock(&deployment, &pins);
    assert!(text.contains("web02:") && text.contains("10.40.0.28") && !text.contains("gone"), "{text}");
    let files = [files[0].clone(), SourceFile::new("a.lock.yaml", text)];
    let again = spec::load(&files, &LoadOptions::default()).unwrap().deployment;
    assert_eq!(again.address_pins.len(), 2);
}

#[test]
fn an_exhausted_pool_names_who_uses_it_and_faults_have_their_lines() {
    let told = refused(&Pve::new(), &spec(3, "10.40.0.20-10.40.0.23"));
    assert!(
        told.contains("address pool `lan` has no address left for `web03`: 10.40.0.20 `web01`, 10.40.0.22 `fixed` of the spec, 10.40.0.23 `web02`"),
        "{told}"
    );
    assert!(told.contains("groups.web.web03.nics.net0.ip"), "{told}");
    let faults = |from: &str, to: &str| {
        let files = [SourceFile::new("test.yaml", spec(2, RANGE).replace(from, to))];
        crate::specs::told(&spec::load(&files, &LoadOptions::default()).expect_err("it must be refused"))
    };
    assert!(
        faults("{pool: lan}", "{pool: lam}").contains("there is no address pool `lam` [did you mean `lan`?")
    );
    assert!(
        faults("10.40.0.20-10.40.0.29", "10.40.0.29-10.40.0.20").contains("the lower address comes first")
    );
    assert!(faults("prefix: 24", "prefix: 29").contains("are not in one network with prefix 29"));
    assert!(faults("cloud_init: {user: admin}", "onboot: true").contains("the VM has no cloud-init"));
    assert_eq!(load(&spec(1, RANGE)).address_pools["lan"].addresses().count(), 9);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_address_is_ever_drawn_twice_and_none_changes(counts in prop::collection::vec(1_u32..8, 1..4)) {
        let mut pve = Pve::new();
        let mut known: Vec<String> = Vec::new();
        for count in counts {
            deploy(&mut pve, &spec(count, RANGE));
            let now = addresses(&pve);
            let distinct: BTreeSet<&String> = now.iter().collect();
            prop_assert_eq!(distinct.len(), now.len());
            prop_assert!(known.iter().all(|address| now.contains(address)));
            prop_assert!(plan(&pve, &spec(count, RANGE)).is_empty());
            known = now;
        }
    }
}
