//! Resource mappings that a spec names: asked once for each kind, and checked before anything is done.

use crate::deploy::one_vm;
use crate::pve::Pve;
use crate::specs::{load, try_plan_with};
use pve_types::{MappingKind, Privilege};
use std::collections::BTreeMap;
use vmdeploy_planner::observed::{Query, Rights};
use vmdeploy_planner::plan::CheckOutcome;
use vmdeploy_planner::{AskContext, ask};

/// One device by each way that a spec can name a mapping, and two that name none.
const DEVICES: &str = "
machine: q35
disks: {scsi0: {storage: fast, size: 1GiB}}
pci: {hostpci0: {mapping: gpu, pcie: true}, hostpci1: nic}
usb: {usb0: {mapping: stick}, usb1: {host: spice}}
virtiofs: {virtiofs0: {mapping: share, cache: always}}
raw: {hostpci2: 'mapping=raw,mdev=nvidia-63', usb2: 'host=spice', virtiofs1: logs}
";

fn checks(pve: &Pve) -> Vec<String> {
    let plan = try_plan_with(&pve.observed(), &load(&one_vm(DEVICES)), |_| {}).unwrap();
    let of_mappings = plan.checks.iter().filter(|check| check.need.contains(" mapping "));
    let line = |check: &vmdeploy_planner::plan::Check| {
        assert_eq!(check.needed_by.len(), 1, "{check:?}");
        let detail = check.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        format!("{:?}: {}{detail}", check.outcome, check.need)
    };
    of_mappings.map(line).collect()
}

fn mapped(pve: &mut Pve, kind: MappingKind, names: &[(&str, &[&str])]) {
    let nodes = |nodes: &[&str]| nodes.iter().map(|node| node.parse().unwrap()).collect();
    let by_name = names.iter().map(|(name, on)| ((*name).to_owned(), nodes(on))).collect();
    pve.mappings.insert(kind, by_name);
}

#[test]
fn each_kind_is_asked_once_and_only_where_a_spec_names_one() {
    let kinds = |vm: &str| {
        let queries = ask(&load(&one_vm(vm)), &AskContext::default());
        let kind = |query: Query| match query {
            Query::Mappings { kind } => Some(kind),
            _ => None,
        };
        queries.into_iter().filter_map(kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(DEVICES), [MappingKind::Pci, MappingKind::Usb, MappingKind::Dir]);
    assert_eq!(kinds("disks: {scsi0: {storage: fast, size: 1GiB}}"), []);
    let without =
        "pci: {hostpci0: {host: '0000:01:00.0'}}\nusb: {usb0: {host: spice}}\nvirtiofs: {virtiofs0: null}";
    assert_eq!(kinds(without), []);
    assert_eq!(kinds("raw: {virtiofs3: 'share,cache=never'}"), [MappingKind::Dir]);
}

#[test]
fn a_mapping_that_is_not_there_or_has_nothing_of_the_node_refuses_the_plan() {
    let mut pve = Pve::new();
    mapped(
        &mut pve,
        MappingKind::Pci,
        &[("gpu", &["pve1", "pve2"]), ("nic", &["pve2", "pve3"]), ("raw", &[])],
    );
    mapped(&mut pve, MappingKind::Usb, &[("st\u{1b}ick", &["pve1"]), ("ups", &["pve1"])]);
    mapped(&mut pve, MappingKind::Dir, &[]);
    insta::assert_snapshot!(checks(&pve).join("\n"), @r"
    Passed: PCI mapping gpu at pve1
    Refused: PCI mapping nic at pve1: it has no entry for pve1, only for pve2, pve3; add one in PVE's web interface under Datacenter, Resource Mappings, or create the VM on that node
    Refused: PCI mapping raw at pve1: it has no entry for any node; add one for pve1 in PVE's web interface under Datacenter, Resource Mappings
    Refused: USB mapping stick at pve1: the cluster has st\u{1b}ick, ups; correct `mapping:`, or create it in PVE's web interface under Datacenter, Resource Mappings
    Refused: directory mapping logs at pve1: the cluster has none; correct `mapping:`, or create it in PVE's web interface under Datacenter, Resource Mappings
    Refused: directory mapping share at pve1: the cluster has none; correct `mapping:`, or create it in PVE's web interface under Datacenter, Resource Mappings
    ");
}

#[test]
fn what_could_not_be_asked_or_may_be_hidden_is_not_known() {
    let mut pve = Pve::new();
    mapped(&mut pve, MappingKind::Pci, &[("gpu", &["pve1"])]);
    mapped(&mut pve, MappingKind::Dir, &[("share", &["pve1"])]);
    // The token may use one of the mappings that are not there, and look at none but that.
    let uses: BTreeMap<_, _> = [(Privilege::MappingUse, true)].into();
    let paths = [("/mapping/pci/nic".to_owned(), uses)].into();
    pve.rights = Some(Rights { user: "ci@pve!t".to_owned(), is_root: false, paths });
    insta::assert_snapshot!(checks(&pve).join("\n"), @r"
    Passed: PCI mapping gpu at pve1
    Refused: PCI mapping nic at pve1: the cluster has gpu; correct `mapping:`, or create it in PVE's web interface under Datacenter, Resource Mappings
    Unknown: PCI mapping raw at pve1: these credentials do not see it; Mapping.Use on it is needed
    Unknown: USB mapping stick at pve1: the cluster's USB mappings could not be read
    Unknown: directory mapping logs at pve1: these credentials do not see it; Mapping.Use on it is needed
    Passed: directory mapping share at pve1
    ");

    // By SSH nothing is hidden.
    pve.rights = None;
    assert!(
        checks(&pve).iter().filter(|line| line.starts_with("Refused")).count() == 3,
        "{:?}",
        checks(&pve)
    );
    let refused = try_plan_with(&pve.observed(), &load(&one_vm(DEVICES)), |_| {}).unwrap();
    assert!(refused.checks.iter().any(|check| check.outcome == CheckOutcome::Refused));
    assert!(vmdeploy_planner::plan::CheckedPlan::new(refused).is_err());
}
