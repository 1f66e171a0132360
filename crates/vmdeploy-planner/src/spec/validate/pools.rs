//! Address pools that NICs draw from.

use crate::spec::faults::Faults;
use crate::spec::hints::name_hint;
use crate::spec::model::Deployment;

/// Checks that NICs name pools that there are.
pub(super) fn check_pools(deployment: &Deployment, faults: &mut Faults) {
    let known: Vec<&str> = deployment.address_pools.keys().map(String::as_str).collect();
    for vm in &deployment.vms {
        for nic in vm.nics.values().filter_map(|nic| nic.set()) {
            let Some(pool) = nic.pool.as_ref().filter(|pool| !known.contains(&pool.value.as_str())) else {
                continue;
            };
            let message = format!("there is no address pool `{}`", pool.value.escape_debug());
            let path = vm.path(&format!("nics.{}.ip.pool", nic.slot));
            faults.error_hint(pool.span, path, message, name_hint(&pool.value, "address pool", &known));
        }
    }
}
