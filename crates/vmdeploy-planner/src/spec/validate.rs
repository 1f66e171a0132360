//! What belongs together: names, numbers, addresses, devices, clones.

mod clones;
mod devices;
mod groups;
mod identity;
mod network;
mod numbers;
mod order;
mod pools;
mod vm;

pub(crate) use devices::password_form_fault;
pub use devices::{boot_order, cloud_init_storage};

use super::faults::Faults;
use super::model::{Deployment, Spanned};
use std::collections::BTreeMap;

/// Checks a deployment, and finds the templates that `clone: linked` means.
///
/// `templates` is what the images say of their templates.
pub(crate) fn validate(
    deployment: &mut Deployment,
    templates: &BTreeMap<String, Spanned<String>>,
    faults: &mut Faults,
) {
    clones::resolve_templates(deployment, templates, faults);
    groups::check_groups(deployment, faults);
    numbers::check_numbers(deployment, faults);
    identity::check_identity(deployment, faults);
    pools::check_pools(deployment, faults);
    network::check_network(deployment, faults);
    clones::check_clones(deployment, faults);
    order::check_order(deployment, faults);
    clones::check_builds(deployment, faults);
    for vm in &deployment.vms {
        if faults.are_full() {
            return;
        }
        devices::check_devices(vm, deployment, faults);
        vm::check_vm(vm, faults);
    }
}
