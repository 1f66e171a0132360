//! Inventories: the deployment's VMs for Ansible, `/etc/hosts`, ssh and Prometheus. Pure: facts in, text out.

mod ansible;
mod other;

use crate::fleet::{Member, Source};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use vmdeploy_planner::spec::{Deployment, OptionValue, Vm};

/// The version of the JSON form.
pub const INVENTORY_FORMAT_VERSION: u32 = 1;

/// One VM as inventories know it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub address: IpAddr,
    /// Where that is known from: `agent`, `cloud-init` or `spec`.
    pub source: &'static str,
    /// The user to log in with.
    pub user: Option<String>,
    /// The groups it is in.
    pub groups: BTreeSet<String>,
    /// Its variables, those of the spec over those of ours.
    pub vars: BTreeMap<String, Value>,
}

/// All hosts, in the spec's order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inventory {
    /// [`INVENTORY_FORMAT_VERSION`].
    pub format_version: u32,
    /// The project.
    pub project: String,
    /// The hosts.
    pub hosts: Vec<Host>,
}

/// The forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Ansible's INI
    #[default]
    Ini,
    /// Ansible's YAML
    Yaml,
    /// JSON, for programs
    Json,
    /// Lines for /etc/hosts
    Hosts,
    /// Host blocks for ~/.ssh/config
    SshConfig,
    /// Prometheus file-based service discovery
    Prometheus,
}

/// Makes the inventory; also returns the VMs that were left out because they have no known address, with the reason.
pub fn build(deployment: &Deployment, members: &[Member<'_>]) -> (Inventory, Vec<(String, String)>) {
    let (mut hosts, mut unknown) = (Vec::new(), Vec::new());
    for member in members {
        match address(member) {
            Ok((address, source)) => hosts.push(host(deployment, member, address, source)),
            Err(why) => unknown.push((member.name().to_string(), why)),
        }
    }
    let project = deployment.project.value.clone();
    (Inventory { format_version: INVENTORY_FORMAT_VERSION, project, hosts }, unknown)
}

fn address(member: &Member<'_>) -> Result<(IpAddr, Source), String> {
    if let Some(address) = member.vm.inventory.host {
        return Ok((address, Source::Spec));
    }
    let Some(live) = &member.live else {
        let absent = || format!("it is {}", member.state());
        return Err(member.fault.as_ref().map_or_else(absent, |(message, _)| message.clone()));
    };
    match live.found.addresses.first() {
        Some(address) => Ok((*address, live.found.source)),
        None => Err(live.found.trouble.clone().unwrap_or_else(|| "no address is known".to_owned())),
    }
}

fn host(deployment: &Deployment, member: &Member<'_>, address: IpAddr, source: Source) -> Host {
    let mut vars = BTreeMap::new();
    if let Some((node, vmid)) = member.place() {
        vars.insert(
            "proxmox_vmid".to_owned(),
            Value::from(vmid.to_string().parse::<u64>().unwrap_or_default()),
        );
        vars.insert("proxmox_node".to_owned(), Value::from(node.as_str()));
    }
    vars.extend(member.vm.inventory.vars.clone());
    Host {
        name: member.name().to_string(),
        address,
        source: source.as_str(),
        user: user(member.vm),
        groups: groups(deployment, member),
        vars,
    }
}

/// Returns the user: the spec's for inventories, else cloud-init's.
fn user(vm: &Vm) -> Option<String> {
    let cloud_init = vm.cloud_init.as_ref().and_then(|cloud_init| cloud_init.options.get("ciuser"));
    vm.inventory.user.clone().or_else(|| match &cloud_init?.value {
        OptionValue::Whole(user) => Some(user.clone()),
        _ => None,
    })
}

fn groups(deployment: &Deployment, member: &Member<'_>) -> BTreeSet<String> {
    // The spec's own groups keep their names: playbooks name them so, and Ansible takes dashes.
    let mut groups: BTreeSet<String> = member.vm.inventory.groups.clone();
    groups.extend(member.vm.group.clone());
    groups.insert(group_name(&format!("project_{}", deployment.project.value)));
    groups.extend(member.tags().iter().map(|tag| group_name(&format!("tag_{tag}"))));
    if let Some(guest) = &member.guest {
        groups.insert(group_name(&format!("node_{}", guest.node)));
        groups.extend(guest.pool.iter().map(|pool| group_name(&format!("pool_{pool}"))));
    }
    groups
}

/// Returns the name of a group that is made of something else's name: letters, digits and `_`, no digit first.
fn group_name(name: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    let name: String = name.chars().map(plain).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("_{name}") } else { name }
}

impl Inventory {
    /// Returns the inventory in this form.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Ini => ansible::ini(self),
            Format::Yaml => ansible::yaml(self),
            Format::Json => other::json(self),
            Format::Hosts => other::hosts(self),
            Format::SshConfig => other::ssh_config(self),
            Format::Prometheus => other::prometheus(self),
        }
    }
    /// Returns what Ansible's dynamic inventory protocol wants for `--list`.
    pub fn ansible_list(&self) -> String {
        ansible::list(self)
    }
    /// Returns what that protocol wants for `--host NAME`; an unknown host has no variables.
    pub fn ansible_host(&self, name: &str) -> String {
        ansible::host(self, name)
    }
    /// Returns the hosts of each group.
    fn by_group(&self) -> BTreeMap<&str, Vec<&Host>> {
        let mut groups: BTreeMap<&str, Vec<&Host>> = BTreeMap::new();
        for host in &self.hosts {
            for group in &host.groups {
                groups.entry(group).or_default().push(host);
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;
    use serde_json::json;

    fn host(name: &str, address: &str, groups: &[&str], vars: &[(&str, Value)]) -> Host {
        Host {
            name: name.to_owned(),
            address: address.parse().unwrap(),
            source: "agent",
            user: Some("admin".to_owned()),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            vars: vars.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        }
    }

    fn inventory() -> Inventory {
        let awkward = [
            ("text", json!("it's a \"test\"")),
            ("looks_like_a_number", json!("0755")),
            ("number", json!(5)),
            ("flag", json!(true)),
            ("list", json!(["a", {"b": null}])),
        ];
        Inventory {
            format_version: INVENTORY_FORMAT_VERSION,
            project: "demo".to_owned(),
            hosts: vec![
                host("web01", "10.40.0.11", &["web", "project_demo"], &awkward),
                host("db01", "fd00::12", &["db", "project_demo"], &[]),
            ],
        }
    }

    #[test]
    fn every_form_is_what_its_reader_expects() {
        assert_snapshot!("ini", inventory().render(Format::Ini));
        assert_snapshot!("yaml", inventory().render(Format::Yaml));
        assert_snapshot!("json", inventory().render(Format::Json));
        assert_snapshot!("hosts", inventory().render(Format::Hosts));
        assert_snapshot!("ssh_config", inventory().render(Format::SshConfig));
        assert_snapshot!("prometheus", inventory().render(Format::Prometheus));
        assert_snapshot!("list", inventory().ansible_list());
        assert_snapshot!("host", inventory().ansible_host("web01"));
        assert_eq!(inventory().ansible_host("nobody"), "{}\n");
    }

    #[test]
    fn groups_that_ansible_makes_itself_are_left_to_it() {
        let mut inventory = inventory();
        inventory.hosts[0].groups.extend(["all".to_owned(), "ungrouped".to_owned()]);
        let list: Value = serde_json::from_str(&inventory.ansible_list()).unwrap();
        assert_eq!(list["all"], json!({"children": ["db", "project_demo", "web"]}));
        assert!(list.get("ungrouped").is_none());
        let yaml = inventory.render(Format::Yaml);
        assert_eq!(yaml.matches("all:").count(), 1, "{yaml}");
        assert!(!inventory.render(Format::Ini).contains("[all]"));
    }

    #[test]
    fn group_names_are_those_that_ansible_takes() {
        assert_eq!(["web-servers", "1a", "tag_a.b"].map(group_name), ["web_servers", "_1a", "tag_a_b"]);
    }
}
