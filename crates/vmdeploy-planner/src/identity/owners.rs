//! Which guest each VM of a spec is: found by its ownership marker, and by nothing else.

use super::{Marker, Ownership, guest_uuid, ownership, uuid_of};
use crate::observed::{Observed, ObservedGuest};
use crate::spec::{Deployment, Duplicate, Vm, VmidWish};
use pve_types::{GuestKind, GuestName, Vmid};
use std::collections::HashMap;

/// The name of the cluster where a spec has no `clusters:`; markers of such VMs say it.
pub const DEFAULT_CLUSTER: &str = "default";

/// Tells whether a marker's cluster and a VM's may be the same: they have one name, or one of them comes from a spec
/// without `clusters:`, and so means the only cluster that there was.
pub fn is_same_cluster(marker: &str, vm: &str) -> bool {
    marker == vm || marker == DEFAULT_CLUSTER || vm == DEFAULT_CLUSTER
}

/// The owners of a cluster's guests, as their markers say.
#[derive(Debug, Default)]
pub struct Owners<'a> {
    marked: HashMap<GuestName, Vec<(&'a ObservedGuest, Ownership)>>,
    by_uuid: HashMap<String, Vec<&'a ObservedGuest>>,
    by_vmid: HashMap<Vmid, &'a ObservedGuest>,
}

/// The guest that a VM of the spec is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<'a> {
    /// It has this marker: the VM's own, or that of its `renamed_from` and `moved_from`.
    Ours(&'a ObservedGuest, Box<Marker>),
    /// The spec takes it over, naming it by VMID and UUID.
    Adopted(&'a ObservedGuest),
    /// There is no such guest.
    Absent,
}

/// Why it cannot be said which guest a VM is, or why no second guest may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityFault {
    /// Several guests have the VM's marker.
    Several(Vec<Vmid>),
    /// Several guests have the VM's UUID, and none of them is the VM.
    SharedUuid(Vec<Vmid>),
    /// The guest with the VM's marker has another VMID than the spec says.
    OtherVmid {
        /// The guest.
        actual: Vmid,
        /// What the spec says.
        said: Vmid,
    },
    /// The guest with the VM's marker has another UUID than the spec says.
    OtherUuid {
        /// The guest.
        vmid: Vmid,
        /// Its UUID.
        actual: String,
    },
    /// The guest belongs to the VM's project and name under another cluster key.
    OtherCluster(Box<Marker>),
    /// The guest is a VM of that name of another project.
    OtherProject(Box<Marker>),
    /// The guest with the VMID or UUID that the spec says is another VM.
    OtherVm(Box<Marker>),
    /// The guest has the marker of a guest with another VMID: it was restored or copied by hand.
    Copy(Vmid, Box<Marker>),
    /// The guest has the VM's UUID and no readable marker.
    MarkerGone {
        /// The guest.
        vmid: Vmid,
        /// Its UUID.
        uuid: String,
    },
    /// The guest has the VM's marker and another UUID than the marker means.
    Unfinished {
        /// The marker.
        marker: Box<Marker>,
        /// The guest's UUID.
        uuid: Option<String>,
    },
}

impl<'a> Owners<'a> {
    /// Reads the markers of all VMs that were observed.
    pub fn of(observed: &'a Observed) -> Self {
        let mut owners = Self::default();
        for guest in observed.guests.values().filter(|guest| guest.kind == GuestKind::Vm) {
            owners.by_vmid.insert(guest.vmid, guest);
            if let Some(uuid) = uuid_of(guest) {
                owners.by_uuid.entry(uuid).or_default().push(guest);
            }
            let ownership = ownership(guest);
            if let Ownership::Ours(marker) | Ownership::Copy(marker) | Ownership::Unfinished(marker) =
                &ownership
            {
                owners.marked.entry(marker.name.clone()).or_default().push((guest, ownership));
            }
        }
        owners
    }

    /// Returns all guests that are ours, of any project, with their markers.
    pub fn ours(&self) -> impl Iterator<Item = (&'a ObservedGuest, &Marker)> {
        self.marked.values().flatten().filter_map(|(guest, ownership)| match ownership {
            Ownership::Ours(marker) => Some((*guest, marker)),
            _ => None,
        })
    }

    /// Returns the UUID for a VM that is made: the one that cluster, project and name give, unless a guest has it; a
    /// guest that was renamed keeps its own.
    pub fn uuid_for_new(&self, project: &str, vm: &Vm) -> String {
        if let Some(pinned) = &vm.uuid {
            return pinned.value.clone();
        }
        let derived = guest_uuid(&vm.cluster, project, &vm.name);
        let next = |number: u32| super::numbered_uuid(&vm.cluster, project, &vm.name, number);
        let mut candidates = std::iter::once(derived.clone()).chain((2..).map(next));
        candidates.find(|uuid| !self.by_uuid.contains_key(uuid)).unwrap_or(derived)
    }

    /// Returns the other guests that have this guest's UUID: copies that were made by hand.
    pub fn copies_of(&self, guest: &ObservedGuest) -> Vec<Vmid> {
        let same = uuid_of(guest).and_then(|uuid| self.by_uuid.get(&uuid));
        same.into_iter().flatten().map(|other| other.vmid).filter(|vmid| *vmid != guest.vmid).collect()
    }

    /// Finds the guest that a VM of the deployment is.
    ///
    /// # Errors
    /// It cannot be said, or no guest may be made for it: see [`IdentityFault`].
    pub fn find(&self, deployment: &Deployment, vm: &Vm) -> Result<Found<'a>, IdentityFault> {
        let project = deployment.project.value.as_str();
        let own = self.ours_called(project, &vm.name, |cluster| is_same_cluster(cluster, &vm.cluster));
        if let Some(found) = one_of(own, vm)? {
            return confirmed(found, vm);
        }
        if let Some(guest) = self.adopted(vm)? {
            return Ok(Found::Adopted(guest));
        }
        if let Some(found) = one_of(self.under_old_name(project, vm), vm)? {
            return confirmed(found, vm);
        }
        self.refuse_a_second(project, vm)?;
        Ok(Found::Absent)
    }

    fn ours_called(
        &self,
        project: &str,
        name: &GuestName,
        is_cluster: impl Fn(&str) -> bool,
    ) -> Vec<(&'a ObservedGuest, &Marker)> {
        let called = self.marked.get(name).into_iter().flatten();
        called
            .filter_map(|(guest, ownership)| match ownership {
                Ownership::Ours(marker) if marker.project == project && is_cluster(&marker.cluster) => {
                    Some((*guest, marker))
                }
                _ => None,
            })
            .collect()
    }

    /// Returns the guests that `renamed_from` and `moved_from` mean.
    fn under_old_name(&self, project: &str, vm: &Vm) -> Vec<(&'a ObservedGuest, &Marker)> {
        if vm.renamed_from.is_none() && vm.moved_from.is_none() {
            return Vec::new();
        }
        let moved = vm.moved_from.as_ref();
        let project =
            moved.and_then(|moved| moved.project.as_ref()).map_or(project, |old| old.value.as_str());
        let cluster = moved.and_then(|moved| moved.cluster.as_ref());
        let is_cluster = |marker: &str| match cluster {
            Some(old) => marker == old.value,
            None => is_same_cluster(marker, &vm.cluster),
        };
        let old = vm.renamed_from.as_ref().map(|old| &old.value);
        let found = old.map_or_else(Vec::new, |old| self.ours_called(project, old, is_cluster));
        // A VM that was both renamed and moved may have been through one of the two already.
        if found.is_empty() && moved.is_some() {
            self.ours_called(project, &vm.name, is_cluster)
        } else {
            found
        }
    }

    /// Returns the guest that the spec takes over in so many words: by VMID and UUID.
    fn adopted(&self, vm: &Vm) -> Result<Option<&'a ObservedGuest>, IdentityFault> {
        let (Some(uuid), VmidWish::Fixed(vmid)) = (&vm.uuid, &vm.vmid) else { return Ok(None) };
        let Some(guest) = self.by_vmid.get(&vmid.value).copied() else { return Ok(None) };
        if guest.config.is_none() || uuid_of(guest).as_deref() != Some(uuid.value.as_str()) {
            return Ok(None);
        }
        if matches!(ownership(guest), Ownership::Ours(_)) {
            return Ok(None);
        }
        match self.by_uuid.get(&uuid.value).map(Vec::as_slice) {
            None | Some([_]) => Ok(Some(guest)),
            Some(several) => Err(IdentityFault::SharedUuid(several.iter().map(|guest| guest.vmid).collect())),
        }
    }

    /// Refuses to make a second guest where one of ours is there under another identity.
    fn refuse_a_second(&self, project: &str, vm: &Vm) -> Result<(), IdentityFault> {
        let called = self.marked.get(&vm.name.value).map_or(&[][..], Vec::as_slice);
        for (guest, ownership) in called {
            match ownership {
                Ownership::Ours(marker) if marker.project == project => {
                    return Err(IdentityFault::OtherCluster(Box::new(marker.clone())));
                }
                Ownership::Unfinished(marker) if marker.project == project => {
                    let marker = Box::new(marker.clone());
                    return Err(IdentityFault::Unfinished { marker, uuid: uuid_of(guest) });
                }
                Ownership::Copy(marker) if marker.project == project => {
                    return Err(IdentityFault::Copy(guest.vmid, Box::new(marker.clone())));
                }
                _ => {}
            }
        }
        self.refuse_taken_uuid(project, vm)?;
        if let VmidWish::Fixed(vmid) = &vm.vmid
            && let Some(guest) = self.by_vmid.get(&vmid.value)
        {
            IdentityFault::of_taken(guest, vm)?;
        }
        let elsewhere = called.iter().find_map(|(_, ownership)| match ownership {
            Ownership::Ours(marker) if !vm.allow_duplicate.contains(&Duplicate::Name) => Some(marker),
            _ => None,
        });
        elsewhere.map_or(Ok(()), |marker| Err(IdentityFault::OtherProject(Box::new(marker.clone()))))
    }

    fn refuse_taken_uuid(&self, project: &str, vm: &Vm) -> Result<(), IdentityFault> {
        let derived = |cluster: &str| guest_uuid(cluster, project, &vm.name);
        let expected = match &vm.uuid {
            Some(pinned) => vec![pinned.value.clone()],
            None => vec![derived(&vm.cluster), derived(DEFAULT_CLUSTER)],
        };
        for uuid in expected {
            let guests = self.by_uuid.get(&uuid).map_or(&[][..], Vec::as_slice);
            for guest in guests {
                match ownership(guest) {
                    // One that was renamed keeps the UUID of its old name.
                    Ownership::Ours(_) if vm.uuid.is_none() => {}
                    Ownership::Ours(marker) => return Err(IdentityFault::OtherVm(Box::new(marker))),
                    Ownership::Copy(_) | Ownership::Unfinished(_) if guests.len() > 1 => {}
                    Ownership::Copy(marker) => {
                        return Err(IdentityFault::Copy(guest.vmid, Box::new(marker)));
                    }
                    Ownership::Unfinished(_) | Ownership::Unmarked { .. } => {
                        return Err(IdentityFault::MarkerGone { vmid: guest.vmid, uuid });
                    }
                }
            }
        }
        Ok(())
    }
}

fn one_of<'g, 'm>(
    found: Vec<(&'g ObservedGuest, &'m Marker)>,
    vm: &Vm,
) -> Result<Option<(&'g ObservedGuest, &'m Marker)>, IdentityFault> {
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        several => {
            // Of a spec's clusters that are one and the same, each has VMs of its own.
            let mut exact = several.iter().filter(|(_, marker)| marker.cluster == vm.cluster);
            match (exact.next(), exact.next()) {
                (Some(one), None) => Ok(Some(*one)),
                _ => Err(IdentityFault::Several(several.iter().map(|(guest, _)| guest.vmid).collect())),
            }
        }
    }
}

/// Compares what the spec says of its guest's numbers with the guest that has the marker.
fn confirmed<'g>((guest, marker): (&'g ObservedGuest, &Marker), vm: &Vm) -> Result<Found<'g>, IdentityFault> {
    if let VmidWish::Fixed(said) = &vm.vmid
        && said.value != guest.vmid
    {
        return Err(IdentityFault::OtherVmid { actual: guest.vmid, said: said.value });
    }
    let actual = marker.expected_uuid();
    match &vm.uuid {
        Some(said) if said.value != actual => Err(IdentityFault::OtherUuid { vmid: guest.vmid, actual }),
        _ => Ok(Found::Ours(guest, Box::new(marker.clone()))),
    }
}

fn listed(vmids: &[Vmid]) -> String {
    vmids.iter().map(Vmid::to_string).collect::<Vec<_>>().join(" and ")
}

/// Names a VM by its marker, whose project is untrusted text.
fn owner(marker: &Marker) -> String {
    format!("`{}` of project `{}`", marker.name, marker.project.escape_debug())
}

impl IdentityFault {
    /// Tells whose a guest is that has the VMID of a VM which is not there yet, if it is one of ours or a copy of one.
    ///
    /// # Errors
    /// Whose it is.
    pub fn of_taken(guest: &ObservedGuest, vm: &Vm) -> Result<(), Self> {
        match ownership(guest) {
            Ownership::Ours(marker) | Ownership::Unfinished(marker) if marker.name != vm.name.value => {
                Err(Self::OtherVm(Box::new(marker)))
            }
            Ownership::Ours(marker) => Err(Self::OtherProject(Box::new(marker))),
            Ownership::Copy(marker) => Err(Self::Copy(guest.vmid, Box::new(marker))),
            Ownership::Unfinished(_) | Ownership::Unmarked { .. } => Ok(()),
        }
    }

    /// Returns the key of the VM that the fault is about: empty for the VM as a whole.
    pub fn key(&self) -> &'static str {
        match self {
            Self::OtherVmid { .. } => "vmid",
            Self::OtherUuid { .. } => "uuid",
            _ => "",
        }
    }

    /// Returns what is wrong, as one sentence without a final period.
    pub fn message(&self, vm: &Vm) -> String {
        let name = &vm.name.value;
        match self {
            Self::Several(vmids) => {
                format!("several guests have the ownership marker of `{name}`: VMIDs {}", listed(vmids))
            }
            Self::SharedUuid(vmids) => {
                format!("several guests have the UUID of `{name}`: VMIDs {}", listed(vmids))
            }
            Self::OtherVmid { actual, said } => {
                format!("`{name}` exists as VMID {actual}, but the spec has {said}; a VMID cannot be changed")
            }
            Self::OtherUuid { vmid, actual } => {
                format!(
                    "`{name}` exists as VMID {vmid} with the UUID {actual}, but the spec has a different one"
                )
            }
            Self::OtherCluster(marker) => format!(
                "VMID {} is {} on the cluster that was called `{}`",
                marker.vmid,
                owner(marker),
                marker.cluster.escape_debug()
            ),
            Self::OtherProject(marker) | Self::OtherVm(marker) => {
                format!("VMID {} is {}", marker.vmid, owner(marker))
            }
            Self::Copy(vmid, marker) => format!(
                "VMID {vmid} is a copy of {}: its ownership marker is that of VMID {}",
                owner(marker),
                marker.vmid
            ),
            Self::MarkerGone { vmid, .. } => {
                format!("VMID {vmid} has the UUID of `{name}`, but it has no ownership marker")
            }
            Self::Unfinished { marker, .. } => {
                format!(
                    "VMID {} has the ownership marker of {}, but a different UUID",
                    marker.vmid,
                    owner(marker)
                )
            }
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self, deployment: &Deployment, vm: &Vm) -> String {
        let project = deployment.project.value.as_str();
        let name = &vm.name.value;
        match self {
            Self::Several(_) => {
                "destroy all but one, or delete the line `<!-- vmdeploy … -->` from the notes of those that vmdeploy does not manage"
                    .to_owned()
            }
            Self::SharedUuid(vmids) => match vmids.last() {
                Some(copy) => format!(
                    "give the copy a new UUID: `vmdeploy adopt {copy} --project {project}` prints the command"
                ),
                None => "give the copy a new UUID".to_owned(),
            },
            Self::OtherVmid { actual, .. } => format!("write `vmid: {actual}`"),
            Self::OtherUuid { actual, .. } => format!("write `uuid: {actual}`, or remove the key"),
            Self::OtherCluster(marker) => {
                format!(
                    "if it is this VM, write `moved_from: {{cluster: {}}}` at `vms.{name}`",
                    marker.cluster.escape_debug()
                )
            }
            Self::OtherProject(marker) => format!(
                "if it is this VM, write `moved_from: {{project: {}}}` at `vms.{name}`; if a second VM with this name is meant, \
                 write `allow_duplicate: name`",
                marker.project.escape_debug()
            ),
            Self::OtherVm(marker) => other_vm_hint(deployment, vm, marker),
            Self::Copy(vmid, _) => {
                format!("`vmdeploy adopt {vmid} --project {project}` prints a spec that adopts it")
            }
            Self::MarkerGone { vmid, uuid } => {
                format!("write `vmid: {vmid}` and `uuid: {uuid}` at `vms.{name}` to adopt it again")
            }
            Self::Unfinished { marker, uuid } => {
                let resume = format!("`vmdeploy resume {}` finishes an interrupted clone", marker.run.escape_debug());
                match uuid {
                    Some(uuid) => format!(
                        "{resume}; if the UUID was changed manually, write `vmid: {}` and `uuid: {uuid}` at `vms.{name}`",
                        marker.vmid
                    ),
                    None => resume,
                }
            }
        }
    }
}

fn other_vm_hint(deployment: &Deployment, vm: &Vm, marker: &Marker) -> String {
    let name = &vm.name.value;
    if marker.project != deployment.project.value {
        return format!(
            "if it is this VM, write `moved_from: {{project: {}}}` and `renamed_from: {}` at `vms.{name}`; else write \
             another `vmid`",
            marker.project.escape_debug(),
            marker.name
        );
    }
    match deployment.vm(&marker.name) {
        Some(_) => format!("the spec has `{}` too: give `{name}` another VMID", marker.name),
        None => format!(
            "if it is this VM, write `renamed_from: {}` at `vms.{name}`; else write another `vmid`",
            marker.name
        ),
    }
}
