//! Options that PVE takes only together: judged in the configuration that the plan leads to.

use super::input::{Findings, PlanInput};
use crate::spec::Vm;
use std::collections::{BTreeMap, BTreeSet};

/// Refuses what PVE would refuse in `config`, as far as the plan changes it; all of it where the guest is new.
pub(crate) fn refuse_conflicts(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    vm: &Vm,
    config: &BTreeMap<String, String>,
    changed: Option<&BTreeSet<String>>,
) {
    for conflict in pve_config::conflicts(config) {
        let is_ours = changed.is_none_or(|changed| conflict.keys.iter().any(|key| changed.contains(key)));
        if is_ours {
            findings.refuse(input.deployment, vm.place_of(&conflict.keys), conflict.message, conflict.hint);
        }
    }
}
