//! High availability and pools.

use crate::Failure;
use crate::drive::job::{Done, Job};
use pve_api::{HaResourceSettings, Params, PoolMembers};
use pve_types::PoolId;
use vmdeploy_planner::plan::{DesiredHa, GuestRef, ha_place};

impl Job {
    /// Makes high availability treat the guest as desired. Each call makes sure of its part, so that twice is safe.
    pub(super) async fn set_ha(
        &self,
        guest: &GuestRef,
        desired: Option<&DesiredHa>,
    ) -> Result<Done, Failure> {
        if self.probe {
            self.let_pass().await?;
        }
        let ha = self.shared.connections.api().cluster().ha();
        let sid = format!("vm:{}", guest.vmid);
        let name = ha_place(&self.shared.plan.project, guest.vmid);
        // PVE: pve-ha-manager: groups up to version 8, rules from 9 on.
        let has_rules = self.shared.plan.pve_version.major >= 9;
        let Some(desired) = desired else {
            return self.leave_ha(&sid, &name, has_rules).await;
        };
        let nodes: Vec<String> =
            desired.on_nodes.iter().map(|(node, priority)| format!("{node}:{priority}")).collect();
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        let group = (!has_rules && !nodes.is_empty()).then(|| name.clone());
        if let Some(group) = &group {
            let params = Params::new().with("restricted", desired.strict);
            match ha.group(group).await {
                Ok(_) => ha.update_group(group, params.with_list("nodes", nodes.iter().copied())).await?,
                Err(_) => ha.create_group(group, &nodes, params).await?,
            }
        }
        let settings = HaResourceSettings {
            state: Some(desired.state.to_string()),
            group,
            max_restart: desired.max_restart.map(u64::from),
            max_relocate: desired.max_relocate.map(u64::from),
            ..HaResourceSettings::default()
        };
        if ha.resources().await?.iter().any(|resource| resource.sid == sid) {
            ha.update_resource(&sid, &settings, &[]).await?;
        } else {
            ha.create_resource(&sid, &settings).await?;
        }
        if has_rules {
            self.set_rule(&name, &sid, &nodes, desired.strict).await?;
        }
        Ok(Done::plain())
    }

    async fn set_rule(&self, name: &str, sid: &str, nodes: &[&str], strict: bool) -> Result<(), Failure> {
        let ha = self.shared.connections.api().cluster().ha();
        let is_there = ha.rules().await?.iter().any(|rule| rule.rule == name);
        match (is_there, nodes.is_empty()) {
            (false, true) => {}
            (true, true) => ha.delete_rule(name).await?,
            (false, false) => ha.create_node_affinity(name, &[sid], nodes, strict).await?,
            (true, false) => {
                let params = Params::new()
                    .with("resources", sid)
                    .with_list("nodes", nodes.iter().copied())
                    .with("strict", strict);
                ha.update_rule(name, "node-affinity", params).await?;
            }
        }
        Ok(())
    }

    /// Takes the guest out of high availability. A rule or group that another guest is in stays for that guest.
    async fn leave_ha(&self, sid: &str, name: &str, has_rules: bool) -> Result<Done, Failure> {
        let ha = self.shared.connections.api().cluster().ha();
        let resources = ha.resources().await?;
        let is_managed = resources.iter().any(|resource| resource.sid == sid);
        if has_rules && let Some(rule) = ha.rules().await?.into_iter().find(|rule| rule.rule == name) {
            let members = rule.resources.unwrap_or_default();
            let others: Vec<&str> = members
                .split(',')
                .map(str::trim)
                .filter(|member| !member.is_empty() && *member != sid)
                .collect();
            if others.is_empty() {
                ha.delete_rule(name).await?;
            } else {
                let kind = rule.kind.as_deref().unwrap_or("node-affinity");
                ha.update_rule(name, kind, Params::new().with_list("resources", others)).await?;
                self.note(format!("the HA rule `{name}` is kept: another guest uses it"));
            }
        }
        if is_managed {
            ha.delete_resource(sid).await?;
        }
        if !has_rules && ha.group(name).await.is_ok() {
            let is_of_another = |group: &Option<String>| group.as_deref() == Some(name);
            if resources.iter().any(|resource| resource.sid != sid && is_of_another(&resource.group)) {
                self.note(format!("the HA group `{name}` is kept: another guest uses it"));
            } else {
                ha.delete_group(name).await?;
            }
        }
        Ok(if is_managed { Done::plain() } else { Done::already() })
    }

    pub(super) async fn set_pool(&self, guest: &GuestRef, pool: Option<&PoolId>) -> Result<Done, Failure> {
        let pools = self.shared.connections.api().pools();
        let members = PoolMembers { guests: vec![guest.vmid], storages: Vec::new() };
        let resources =
            self.shared.connections.api().cluster().resources(Some(pve_api::ResourceKind::Guests)).await?;
        let now = resources.into_iter().find(|r| r.vmid == Some(guest.vmid)).and_then(|r| r.pool);
        match (pool, now) {
            (Some(pool), Some(now)) if *pool == now => return Ok(Done::already()),
            (Some(pool), Some(_)) => pools.add(pool, &members, true).await?,
            (Some(pool), None) => pools.add(pool, &members, false).await?,
            (None, Some(now)) => pools.remove(&now, &members).await?,
            (None, None) => return Ok(Done::already()),
        }
        Ok(Done::plain())
    }
}
