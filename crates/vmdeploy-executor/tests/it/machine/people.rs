//! What people do on the cluster while vmdeploy plans and works: to their own guests, and to ours.

use super::world::{GuestState, OURS, volume_in};
use crate::draw::Draw;
use pve_lab::World;
use pve_lab::api::{Caller, Identity, dispatch};
use serde_json::Value;

/// When a person does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// While no run works.
    Between,
    /// While a run works: then nothing of which PVE cannot tell, between a look and the request that follows it at once,
    /// that it happened. A deletion and the use of a volume have no digest.
    During,
}

/// Does one thing; returns what, or `None` where there was nothing to do it to.
pub fn act(world: &mut World, draw: &mut Draw, moment: Moment) -> Option<String> {
    let mut person = Person { world, said: Vec::new(), moment };
    person.act(draw)?;
    Some(person.said.join("; "))
}

struct Person<'w> {
    world: &'w mut World,
    said: Vec<String>,
    moment: Moment,
}

impl Person<'_> {
    fn call(&mut self, method: &str, path: &str, params: &[(&str, String)]) -> bool {
        let caller = Caller::http(Identity::User("root@pam".to_owned()), "pve1");
        let values = params.iter().map(|(key, value)| ((*key).to_owned(), Value::String(value.clone())));
        let answer = dispatch(self.world, &caller, method, path, &values.collect());
        self.world.settle();
        let end = match &answer {
            Ok(_) => "",
            Err(_) => " (refused)",
        };
        self.said.push(format!("a person: {method} {path} {params:?}{end}"));
        answer.is_ok()
    }
    fn config(&mut self, vmid: u32, params: &[(&str, String)]) -> bool {
        self.call("PUT", &format!("/nodes/pve1/qemu/{vmid}/config"), params)
    }
    fn guest(&self, vmid: u32) -> GuestState {
        let state = super::world::State::read(self.world);
        state.guests.get(&vmid).cloned().unwrap_or_default()
    }
    /// Returns the slots of a guest that hold disks, with their volumes.
    fn disks(&self, vmid: u32) -> Vec<(String, String)> {
        let guest = self.guest(vmid);
        let is_slot = |key: &str| !key.contains(' ') && !key.starts_with("unused");
        let disks = guest.values.iter().filter(|(key, value)| is_slot(key) && !value.contains("cloudinit"));
        disks.filter_map(|(key, value)| Some((key.clone(), volume_in(key, value)?))).collect()
    }

    fn act(&mut self, draw: &mut Draw) -> Option<()> {
        let ours: Vec<u32> =
            self.world.guests.keys().map(|vmid| vmid.get()).filter(|vmid| OURS.contains(vmid)).collect();
        if draw.percent(25) || ours.is_empty() {
            return self.change_others(draw);
        }
        let vmid = draw.of(&ours);
        let disks = self.disks(vmid);
        match draw.below(if self.moment == Moment::During { 10 } else { 14 }) {
            0 => drop(self.config(vmid, &[("memory", draw.of(&["640", "768"]).to_owned())])),
            1 => drop(self.config(vmid, &[("tags", draw.of(&["theirs", "blue"]).to_owned())])),
            2 => {
                let (slot, _) = draw.of(some(&disks)?);
                self.config(vmid, &[("delete", slot)]);
            }
            3 => self.swap(vmid, &disks, draw)?,
            4 => {
                let (slot, volume) = draw.of(some(&disks)?);
                self.config(vmid, &[("delete", slot)]);
                self.config(vmid, &[(draw.of(&["scsi6", "virtio6"]), volume)]);
            }
            5 => {
                let storage = draw.of(&["local-lvm", "fast", "local"]);
                self.config(vmid, &[(draw.of(&["scsi9", "virtio9", "scsi2"]), format!("{storage}:1"))]);
            }
            6 => {
                let guest = self.guest(vmid);
                let unused: Vec<String> =
                    guest.values.keys().filter(|key| key.starts_with("unused")).cloned().collect();
                self.config(vmid, &[("delete", draw.of(some(&unused)?))]);
            }
            7 => {
                let (slot, _) = draw.of(some(&disks)?);
                let params = [("disk", slot), ("size", "+1G".to_owned())];
                self.call("PUT", &format!("/nodes/pve1/qemu/{vmid}/resize"), &params);
            }
            8 => {
                let name = format!("s{}", draw.below(100));
                self.call("POST", &format!("/nodes/pve1/qemu/{vmid}/snapshot"), &[("snapname", name)]);
            }
            10 => self.destroy(vmid),
            11 => {
                self.destroy(vmid);
                self.make(vmid, draw);
            }
            9 => {
                let verb = draw.of(&["start", "stop"]);
                self.call("POST", &format!("/nodes/pve1/qemu/{vmid}/status/{verb}"), &[]);
            }
            // A guest of theirs takes a volume of ours, by mistake.
            12 => {
                let (_, volume) = draw.of(some(&disks)?);
                self.config(104, &[("scsi8", volume)]);
            }
            _ => drop(self.config(vmid, &[("description", "mine now".to_owned())])),
        }
        Some(())
    }

    fn change_others(&mut self, draw: &mut Draw) -> Option<()> {
        match draw.below(5) {
            0 => drop(self.config(100, &[("memory", draw.of(&["1024", "2048"]).to_owned())])),
            1 => drop(self.config(104, &[(draw.of(&["scsi3", "virtio3"]), "fast:2".to_owned())])),
            2 => drop(self.config(104, &[("delete", draw.of(&["scsi3", "scsi8", "virtio3"]).to_owned())])),
            3 => {
                let name = format!("s{}", draw.below(100));
                self.call("POST", "/nodes/pve1/qemu/104/snapshot", &[("snapname", name)]);
            }
            _ => {
                let free: Vec<u32> = OURS.filter(|vmid| self.guest(*vmid) == GuestState::default()).collect();
                let vmid = draw.of(some(&free)?);
                self.make(vmid, draw);
            }
        }
        Some(())
    }

    fn swap(&mut self, vmid: u32, disks: &[(String, String)], draw: &mut Draw) -> Option<()> {
        let (one, first) = draw.of(some(disks)?);
        let others: Vec<_> = disks.iter().filter(|(slot, _)| *slot != one).cloned().collect();
        let (other, second) = draw.of(some(&others)?);
        self.config(vmid, &[("delete", format!("{one},{other}"))]);
        self.config(vmid, &[(&one, second)]);
        self.config(vmid, &[(&other, first)]);
        Some(())
    }

    fn destroy(&mut self, vmid: u32) {
        self.call("POST", &format!("/nodes/pve1/qemu/{vmid}/status/stop"), &[]);
        self.call("DELETE", &format!("/nodes/pve1/qemu/{vmid}"), &[("purge", "1".to_owned())]);
    }

    fn make(&mut self, vmid: u32, draw: &mut Draw) {
        let params = [
            ("vmid", vmid.to_string()),
            ("name", draw.of(&["theirs", "web01"]).to_owned()),
            ("memory", "512".to_owned()),
            ("scsi0", draw.of(&["local-lvm:3", "fast:3"]).to_owned()),
        ];
        self.call("POST", "/nodes/pve1/qemu", &params);
    }
}

fn some<T>(list: &[T]) -> Option<&[T]> {
    (!list.is_empty()).then_some(list)
}
