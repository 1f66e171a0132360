//! Resource mappings: which a spec names, what must be asked of them, and whether the cluster has them.

use super::input::PlanInput;
use super::settings::{check, settings};
use crate::observed::Rights;
use crate::plan::{Check, CheckOutcome, Step, StepId};
use crate::spec::{OptionValue, Vm};
use pve_config::{mapping_field, mapping_of};
use pve_types::{MappingKind, NodeName, Privilege};
use std::collections::{BTreeMap, BTreeSet};

/// Returns the kinds of mappings that a VM's spec names.
pub(crate) fn kinds_of(vm: &Vm) -> BTreeSet<MappingKind> {
    let named = vm.options.iter().filter_map(|(key, desired)| match &desired.value {
        OptionValue::Remove => None,
        OptionValue::Whole(text) => Some(mapping_of(key, text)?.0),
        OptionValue::Fields(fields) => {
            let (kind, field) = mapping_field(key)?;
            fields.get(field)?.value.as_ref().map(|_| kind)
        }
    });
    named.collect()
}

/// A guest whose mapping is not there, or has nothing of its node, does not start.
// PVE: qemu-server src/PVE/QemuServer/PCI.pm, USB.pm and Virtiofs.pm: the mapping is looked up when the guest starts.
pub(super) fn checks(input: &PlanInput<'_>, steps: &[Step]) -> Vec<Check> {
    let mut desired: BTreeMap<(MappingKind, String, &NodeName), Vec<StepId>> = BTreeMap::new();
    for (step, node, key, text) in settings(steps) {
        if let Some((kind, name)) = mapping_of(key, text) {
            desired.entry((kind, name, node)).or_default().push(step.id.clone());
        }
    }
    let judged = desired.into_iter().map(|((kind, name, node), needed_by)| {
        let (outcome, detail) = judge(input, kind, &name, node);
        check(format!("{} {} at {node}", called(kind), name.escape_debug()), needed_by, outcome, detail)
    });
    judged.collect()
}

fn judge(
    input: &PlanInput<'_>,
    kind: MappingKind,
    name: &str,
    node: &NodeName,
) -> (CheckOutcome, Option<String>) {
    const WHERE: &str = "in PVE's web interface under Datacenter, Resource Mappings";
    let what = called(kind);
    let Some(known) = input.observed.mappings.get(&kind) else {
        return (CheckOutcome::Unknown, Some(format!("the cluster's {what}s could not be read")));
    };
    match known.get(name) {
        Some(nodes) if nodes.contains(node) => (CheckOutcome::Passed, None),
        Some(nodes) if nodes.is_empty() => {
            let detail = format!("it has no entry for any node; add one for {node} {WHERE}");
            (CheckOutcome::Refused, Some(detail))
        }
        Some(nodes) => {
            let nodes: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
            let detail = format!(
                "it has no entry for {node}, only for {}; add one {WHERE}, or create the VM on that node",
                nodes.join(", ")
            );
            (CheckOutcome::Refused, Some(detail))
        }
        None if is_hidden(input, kind, name) => {
            let detail = "these credentials do not see it; Mapping.Use on it is needed".to_owned();
            (CheckOutcome::Unknown, Some(detail))
        }
        None => {
            let names: Vec<String> = known.keys().map(|name| name.escape_debug().to_string()).collect();
            let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let detail = format!("the cluster has {has}; correct `mapping:`, or create it {WHERE}");
            (CheckOutcome::Refused, Some(detail))
        }
    }
}

fn called(kind: MappingKind) -> &'static str {
    match kind {
        MappingKind::Pci => "PCI mapping",
        MappingKind::Usb => "USB mapping",
        MappingKind::Dir => "directory mapping",
    }
}

/// Tells whether a mapping may be there that the credentials do not see.
// PVE: pve-manager PVE/API2/Cluster/Mapping/PCI.pm index: those that one may use, look at or change.
fn is_hidden(input: &PlanInput<'_>, kind: MappingKind, name: &str) -> bool {
    let path = format!("/mapping/{kind}/{name}");
    let showing = [Privilege::MappingUse, Privilege::MappingAudit, Privilege::MappingModify];
    let hides =
        |rights: &Rights| !rights.is_root && !showing.iter().any(|privilege| rights.holds(*privilege, &path));
    input.observed.rights.as_ref().is_some_and(hides)
}
