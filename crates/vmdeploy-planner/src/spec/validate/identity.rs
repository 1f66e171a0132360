//! The names that VMs had.

use crate::spec::faults::Faults;
use crate::spec::model::{Deployment, Vm};
use std::collections::HashMap;

pub(super) fn check_identity(deployment: &Deployment, faults: &mut Faults) {
    let names: HashMap<&str, &Vm> = deployment.vms.iter().map(|vm| (vm.name.value.as_str(), vm)).collect();
    let mut claimed: HashMap<(String, &str), &Vm> = HashMap::new();
    for vm in &deployment.vms {
        let Some(old) = &vm.renamed_from else { continue };
        let path = vm.path("renamed_from");
        let moved = vm.moved_from.as_ref().and_then(|moved| moved.project.as_ref());
        let project = moved.map_or_else(|| deployment.project.value.clone(), |project| project.value.clone());
        // In another project a VM of that name is another VM.
        let in_spec = names.contains_key(old.value.as_str()) && project == deployment.project.value;
        if in_spec {
            let message = format!("the spec still has a VM `{}`", old.value);
            faults.error_hint(old.span, path, message, "remove one of the two from the spec");
        } else if let Some(other) = claimed.insert((project, old.value.as_str()), vm)
            && !other.renamed_from.as_ref().is_some_and(|its| vm.shares(other, old.span, its.span))
        {
            let message = format!("`{}` was `{}` already", other.name.value, old.value);
            faults.error_hint(
                old.span,
                path,
                message,
                "a guest can become only one VM: remove `renamed_from` from one of them",
            );
        }
    }
}
