//! Addresses from pools: chosen before anything else is planned, so that later stages see static addresses.

use crate::identity::{Found, Owners};
use crate::plan::PlanContext;
use crate::spec::{AddressPool, Deployment, Desired, DesiredField, Diagnostic, Nic, Spanned, Vm};
use pve_types::GuestName;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Who has an address, in words.
type Taken = BTreeMap<Ipv4Addr, String>;

/// Returns the deployment in which every NIC of the planned cluster that draws its address has one; `None` where no NIC
/// draws.
///
/// A VM that exists keeps its address. Another one gets the address of the lock file, else the lowest that is free: not in
/// the spec, not in the configuration of any guest, not in a lock file.
///
/// # Errors
/// A pool has no address left.
pub(crate) fn assigned(
    deployment: &Deployment,
    context: &PlanContext<'_>,
) -> Result<Option<Deployment>, Vec<Diagnostic>> {
    if !deployment.vms.iter().any(|vm| pooled(vm).next().is_some()) {
        return Ok(None);
    }
    let cluster = super::cluster_of(deployment, context).map_err(|refused| vec![refused])?;
    let owners = Owners::of(context.observed);
    let mut taken = taken(deployment, context, &cluster);
    let mut known: BTreeMap<(GuestName, String), Ipv4Addr> = BTreeMap::new();
    let mut missing = Vec::new();
    for (vm, nic, pool) in drawing(deployment, &cluster) {
        match address_there(deployment, &owners, vm, nic, pool)
            .or_else(|| pinned(deployment, vm, nic, pool, &taken))
        {
            Some(address) => {
                taken.insert(address, format!("`{}`", vm.name.value));
                known.insert((vm.name.value.clone(), nic.slot.to_string()), address);
            }
            None => missing.push((vm, nic, pool)),
        }
    }
    let mut faults = Vec::new();
    for (vm, nic, pool) in missing {
        match pool.addresses().find(|address| !taken.contains_key(address)) {
            Some(address) => {
                taken.insert(address, format!("`{}`", vm.name.value));
                known.insert((vm.name.value.clone(), nic.slot.to_string()), address);
            }
            None => faults.push(exhausted(deployment, vm, nic, pool, &taken)),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut deployment = deployment.clone();
    for vm in deployment.vms.iter_mut().filter(|vm| vm.cluster == cluster) {
        let name = vm.name.value.clone();
        for (slot, nic) in &mut vm.nics {
            let address = known.get(&(name.clone(), slot.to_string()));
            if let (Desired::Set(nic), Some(address)) = (nic, address) {
                let pool = nic.value.pool.as_ref().and_then(|pool| deployment.address_pools.get(&pool.value));
                pool.into_iter().for_each(|pool| set(&mut nic.value, pool, *address));
            }
        }
    }
    Ok(Some(deployment))
}

fn pooled(vm: &Vm) -> impl Iterator<Item = &Nic> {
    vm.nics.values().filter_map(Desired::set).filter(|nic| nic.pool.is_some())
}

/// Returns the NICs of the cluster that draw, with their pools.
fn drawing<'d>(
    deployment: &'d Deployment,
    cluster: &'d str,
) -> impl Iterator<Item = (&'d Vm, &'d Nic, &'d AddressPool)> {
    let vms = deployment.vms.iter().filter(move |vm| vm.cluster == cluster);
    vms.flat_map(|vm| pooled(vm).map(move |nic| (vm, nic)))
        .filter_map(|(vm, nic)| Some((vm, nic, deployment.address_pools.get(&nic.pool.as_ref()?.value)?)))
}

/// Returns the addresses that are not drawn, with who has them.
fn taken(deployment: &Deployment, context: &PlanContext<'_>, cluster: &str) -> Taken {
    let v4 = |address: IpAddr| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    let mut taken = Taken::new();
    for guest in context.observed.guests.values() {
        for held in guest.facts.addresses.iter().filter_map(|held| v4(held.address)) {
            let name = guest.name.as_deref().unwrap_or_default().escape_debug().to_string();
            taken.insert(held, format!("VM {} `{name}`", guest.vmid));
        }
    }
    for vm in &deployment.vms {
        let said = vm.nics.values().filter_map(Desired::set).flat_map(|nic| &nic.addresses);
        for address in said.filter_map(|address| v4(address.value.addr())) {
            taken.insert(address, format!("`{}` of the spec", vm.name.value));
        }
    }
    for ((of, name, _), address) in &deployment.address_pins {
        if of == cluster && deployment.vm(name).is_some() {
            taken.entry(*address).or_insert_with(|| format!("`{name}` in the lock file"));
        }
    }
    taken
}

/// Returns the address that the VM's guest has there, if the pool has it.
fn address_there(
    deployment: &Deployment,
    owners: &Owners<'_>,
    vm: &Vm,
    nic: &Nic,
    pool: &AddressPool,
) -> Option<Ipv4Addr> {
    let (Ok(Found::Ours(guest, _)) | Ok(Found::Adopted(guest))) = owners.find(deployment, vm) else {
        return None;
    };
    let slot = nic.slot.to_string();
    guest.facts.addresses.iter().find_map(|held| match held.address {
        IpAddr::V4(address) if held.nic == slot && pool.contains(address) => Some(address),
        _ => None,
    })
}

/// Returns the address that the lock file has for the NIC, where no one else has it.
fn pinned(
    deployment: &Deployment,
    vm: &Vm,
    nic: &Nic,
    pool: &AddressPool,
    taken: &Taken,
) -> Option<Ipv4Addr> {
    let key = (vm.cluster.clone(), vm.name.value.clone(), nic.slot.to_string());
    let address = *deployment.address_pins.get(&key)?;
    let own = format!("`{}` in the lock file", vm.name.value);
    let is_own = taken.get(&address).is_none_or(|holder| *holder == own);
    (pool.contains(address) && is_own).then_some(address)
}

fn exhausted(deployment: &Deployment, vm: &Vm, nic: &Nic, pool: &AddressPool, taken: &Taken) -> Diagnostic {
    const NAMED: usize = 6;
    let holders: Vec<String> =
        pool.addresses().filter_map(|address| Some(format!("{address} {}", taken.get(&address)?))).collect();
    let more = holders.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let list = holders.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    let name = &pool.name;
    let message = format!("address pool `{name}` has no address left for `{}`: {list}{more}", vm.name.value);
    let span = nic.pool.as_ref().map_or(nic.span, |pool| pool.span);
    let path = vm.path(&format!("nics.{}.ip", nic.slot));
    deployment.refusal(span, path, message).with_hint(format!("widen `range` of `address_pools.{name}`"))
}

/// Gives the NIC its address, as if the spec had said it.
fn set(nic: &mut Nic, pool: &AddressPool, address: Ipv4Addr) {
    let Some(span) = nic.pool.as_ref().map(|pool| pool.span) else { return };
    let field = |key: &str, value: String| DesiredField {
        path: format!("nics.{}.{key}", nic.slot),
        span,
        value: Some(value),
    };
    let ip = field("ip", format!("{address}/{}", pool.prefix));
    let gateway = pool.gateway.map(|gateway| field("gateway", gateway.to_string()));
    nic.ipconfig.insert("ip".to_owned(), ip);
    if let Some(gateway) = gateway {
        nic.ipconfig.entry("gw".to_owned()).or_insert(gateway);
    }
    if let Ok(net) = ipnet::IpNet::new(IpAddr::V4(address), pool.prefix) {
        nic.addresses.insert(0, Spanned::new(net, span));
    }
}

/// Returns the addresses that a VM's NICs have from pools, for the lock file.
pub(crate) fn drawn(vm: &Vm) -> BTreeMap<String, Ipv4Addr> {
    let address = |nic: &Nic| match nic.addresses.first()?.value.addr() {
        IpAddr::V4(address) => Some((nic.slot.to_string(), address)),
        IpAddr::V6(_) => None,
    };
    pooled(vm).filter_map(address).collect()
}
