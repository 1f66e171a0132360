//! The firewall's options and rules: of the cluster, of a node, of a VM. What they do to packets is not modelled.
// PVE: pve-firewall src/PVE/API2/Firewall/{Rules,Cluster,Host,VM}.pm, src/PVE/Firewall.pm

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Call, Methods, Refusal, hex_sha1};
use crate::world::{Firewall, FirewallScope, Rule};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/cluster/firewall", |_| Ok(index(OF_CLUSTER))),
    ("GET", "/cluster/firewall/options", options),
    ("PUT", "/cluster/firewall/options", set_options),
    ("GET", "/cluster/firewall/rules", rules),
    ("POST", "/cluster/firewall/rules", create_rule),
    ("GET", "/cluster/firewall/rules/{pos}", rule),
    ("PUT", "/cluster/firewall/rules/{pos}", update_rule),
    ("DELETE", "/cluster/firewall/rules/{pos}", delete_rule),
    ("GET", "/nodes/{node}/firewall", |_| Ok(index(OF_NODE))),
    ("GET", "/nodes/{node}/firewall/options", options),
    ("PUT", "/nodes/{node}/firewall/options", set_options),
    ("GET", "/nodes/{node}/firewall/rules", rules),
    ("POST", "/nodes/{node}/firewall/rules", create_rule),
    ("GET", "/nodes/{node}/firewall/rules/{pos}", rule),
    ("PUT", "/nodes/{node}/firewall/rules/{pos}", update_rule),
    ("DELETE", "/nodes/{node}/firewall/rules/{pos}", delete_rule),
    ("GET", "/nodes/{node}/qemu/{vmid}/firewall", |_| Ok(index(OF_GUEST))),
    ("GET", "/nodes/{node}/qemu/{vmid}/firewall/options", options),
    ("PUT", "/nodes/{node}/qemu/{vmid}/firewall/options", set_options),
    ("GET", "/nodes/{node}/qemu/{vmid}/firewall/rules", rules),
    ("POST", "/nodes/{node}/qemu/{vmid}/firewall/rules", create_rule),
    ("GET", "/nodes/{node}/qemu/{vmid}/firewall/rules/{pos}", rule),
    ("PUT", "/nodes/{node}/qemu/{vmid}/firewall/rules/{pos}", update_rule),
    ("DELETE", "/nodes/{node}/qemu/{vmid}/firewall/rules/{pos}", delete_rule),
];

/// What the firewalls' indexes list; only options and rules are served.
const OF_CLUSTER: &[&str] = &["aliases", "rules", "options", "groups", "ipset", "macros", "refs"];
const OF_NODE: &[&str] = &["rules", "options", "log"];
const OF_GUEST: &[&str] = &["rules", "aliases", "ipset", "refs", "options"];

/// The macros that a rule may name.
const MACROS: &str = "Amanda Auth BGP BitTorrent BitTorrent32 Ceph CVS Citrix DAAP DCC DHCPfwd DNS Distcc FTP Finger \
    GNUnet GRE Git HKP HTTP HTTPS ICPV2 ICQ IMAP IMAPS IPIP IPsec IPsecah IPsecnat IRC Jetdirect L2TP LDAP LDAPS MSNP \
    MSSQL Mail MDNS Munin MySQL NNTP NNTPS NTP OSPF OpenVPN PCA PMG POP3 POP3S PPtP Ping PostgreSQL Printer RDP RIP \
    RNDC Razor Rdate Rsync SANE SMB SMBswat SMTP SMTPS SNMP SPAMD SSH SVN SixXS SPICEproxy Squid Submission Syslog \
    TFTP Telnet Telnets Time Trcrt VNC VNCL Web Webcache Webmin Whois";

/// The properties of a rule.
const RULE: &[&str] = &[
    "action",
    "comment",
    "dest",
    "dport",
    "enable",
    "icmp-type",
    "iface",
    "log",
    "macro",
    "proto",
    "source",
    "sport",
    "type",
];

/// Parameters of a call that are not options.
const NOT_OPTIONS: &[&str] = &["node", "vmid", "delete", "digest"];

fn index(names: &[&str]) -> Value {
    names.iter().map(|name| json!({ "name": name })).collect()
}

fn scope(call: &Call<'_>) -> FirewallScope {
    match (call.vmid(), call.is_given("node")) {
        (Ok(vmid), _) => FirewallScope::Guest(vmid),
        (Err(_), true) => FirewallScope::Node(call.node()),
        (Err(_), false) => FirewallScope::Cluster,
    }
}

fn seen<'c>(call: &'c Call<'_>) -> Option<&'c Firewall> {
    call.world.firewalls.get(&scope(call))
}

fn changed<'c>(call: &'c mut Call<'_>) -> &'c mut Firewall {
    let scope = scope(call);
    call.world.firewalls.entry(scope).or_default()
}

fn digest<'v>(all: impl IntoIterator<Item = &'v BTreeMap<String, String>>) -> String {
    let text: String = all.into_iter().flatten().map(|(key, value)| format!("{key}:{value}\n")).collect();
    hex_sha1(&text)
}

/// Refuses a change of what is not as it was.
// PVE: pve-common src/PVE/Tools.pm assert_if_modified
fn assert_unmodified(call: &Call<'_>, now: &str) -> Result<(), Refusal> {
    match call.text("digest").filter(|given| !given.is_empty() && *given != now) {
        Some(_) => {
            Err(Refusal::died("detected modified configuration - file changed by other user? Try again."))
        }
        None => Ok(()),
    }
}

/// Numbers and booleans of the file are numbers of the answer.
fn shown(values: &BTreeMap<String, String>, digest: &str) -> Map<String, Value> {
    let value = |text: &String| text.parse::<i64>().map_or_else(|_| text.clone().into(), Value::from);
    let numeric = |key: &str| !matches!(key, "comment" | "dport" | "sport" | "proto" | "source" | "dest");
    let one = |(key, text): (&String, &String)| {
        (key.clone(), if numeric(key) { value(text) } else { text.clone().into() })
    };
    let mut shown: Map<String, Value> = values.iter().map(one).collect();
    shown.insert("digest".to_owned(), digest.into());
    shown
}

fn options(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let mut options = seen(call).map(|firewall| firewall.options.clone()).unwrap_or_default();
    if scope(call) == FirewallScope::Cluster {
        options.entry("enable".to_owned()).or_insert_with(|| "0".to_owned());
    }
    let digest = digest([&options]);
    Ok(Value::Object(shown(&options, &digest)))
}

fn set_options(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let now = seen(call).map(|firewall| firewall.options.clone()).unwrap_or_default();
    assert_unmodified(call, &digest([&now]))?;
    let delete = call.list("delete");
    let known = crate::schema::method(call.world.version, "PUT", &path_of(call, "options"));
    let is_known = |option: &String| {
        !NOT_OPTIONS.contains(&option.as_str())
            && known.as_ref().is_some_and(|found| found.endpoint.params.get(option).is_some())
    };
    if let Some(option) = delete.iter().find(|option| !is_known(option)) {
        return Err(Refusal::parameter("delete", format!("no such option '{option}'")));
    }
    let given: Vec<(String, String)> = call
        .params
        .iter()
        .filter(|(option, _)| !NOT_OPTIONS.contains(&option.as_str()))
        .filter_map(|(option, value)| Some((option.clone(), value.as_str()?.to_owned())))
        .collect();
    let firewall = changed(call);
    delete.iter().for_each(|option| drop(firewall.options.remove(option)));
    firewall.options.extend(given);
    Ok(Value::Null)
}

fn path_of(call: &Call<'_>, what: &str) -> String {
    match scope(call) {
        FirewallScope::Cluster => format!("/cluster/firewall/{what}"),
        FirewallScope::Node(node) => format!("/nodes/{node}/firewall/{what}"),
        FirewallScope::Guest(vmid) => format!("/nodes/{}/qemu/{vmid}/firewall/{what}", call.node()),
    }
}

fn all_rules(call: &Call<'_>) -> Vec<Rule> {
    seen(call).map(|firewall| firewall.rules.clone()).unwrap_or_default()
}

fn shown_rule(rule: &Rule, position: usize, digest: &str) -> Value {
    let mut shown = shown(rule, digest);
    shown.insert("pos".to_owned(), position.into());
    Value::Object(shown)
}

fn rules(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let rules = all_rules(call);
    let digest = digest(&rules);
    Ok(rules.iter().enumerate().map(|(position, rule)| shown_rule(rule, position, &digest)).collect())
}

/// The position that the call names.
fn position(call: &Call<'_>, rules: &[Rule]) -> Result<usize, Refusal> {
    let given = call.integer("pos").and_then(|number| usize::try_from(number).ok()).unwrap_or_default();
    match given < rules.len() {
        true => Ok(given),
        false => Err(Refusal::died(format!("no rule at position {given}"))),
    }
}

fn rule(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let rules = all_rules(call);
    let at = position(call, &rules)?;
    let mut shown = shown_rule(&rules[at], at, &digest(&rules));
    // PVE takes the position from the request, where it is a text.
    shown["pos"] = at.to_string().into();
    Ok(shown)
}

/// Lays what the call says over a rule; an empty value and `-` take a property away.
fn copy_data(call: &Call<'_>, rule: &mut Rule) {
    for key in RULE {
        match call.text(key) {
            None => {}
            Some("" | "-") => drop(rule.remove(*key)),
            Some(value) => drop(rule.insert((*key).to_owned(), value.to_owned())),
        }
    }
}

fn create_rule(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let mut rule = Rule::new();
    copy_data(call, &mut rule);
    verify(call, &mut rule)?;
    rule.entry("enable".to_owned()).or_insert_with(|| "0".to_owned());
    stored(&mut rule);
    changed(call).rules.insert(0, rule);
    Ok(Value::Null)
}

fn update_rule(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let mut rules = all_rules(call);
    assert_unmodified(call, &digest(&rules))?;
    let at = position(call, &rules)?;
    let to = call.integer("moveto").and_then(|number| usize::try_from(number).ok());
    if let Some(to) = to.filter(|to| *to != at) {
        let rule = rules.remove(at);
        // The new position counts with the rule in its old one.
        let to = if to > at { to - 1 } else { to };
        rules.insert(to.min(rules.len()), rule);
    } else {
        let mut rule = rules[at].clone();
        copy_data(call, &mut rule);
        for key in call.list("delete") {
            if !RULE.contains(&key.as_str()) {
                return Err(Refusal::parameter("delete", format!("no such property ('{key}')")));
            }
            if key == "type" || key == "action" {
                let text = format!("unable to delete required property '{key}'");
                return Err(Refusal::parameter("delete", text));
            }
            rule.remove(&key);
        }
        verify(call, &mut rule)?;
        stored(&mut rule);
        rules[at] = rule;
    }
    changed(call).rules = rules;
    Ok(Value::Null)
}

fn delete_rule(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let mut rules = all_rules(call);
    assert_unmodified(call, &digest(&rules))?;
    let at = position(call, &rules)?;
    rules.remove(at);
    changed(call).rules = rules;
    Ok(Value::Null)
}

/// What reading the file back makes of a rule.
// PVE: pve-firewall src/PVE/Firewall.pm parse_fw_rule
fn stored(rule: &mut Rule) {
    let enabled = rule.get("enable").is_none_or(|value| value != "0");
    rule.insert("enable".to_owned(), u8::from(enabled).to_string());
    if let Some(comment) = rule.remove("comment") {
        let comment = comment.trim().to_owned();
        if !comment.is_empty() {
            rule.insert("comment".to_owned(), comment);
        }
    }
    if rule.get("type").is_some_and(|kind| kind == "group") {
        rule.retain(|key, _| matches!(key.as_str(), "type" | "action" | "enable" | "comment" | "iface"));
    }
    let version = ["source", "dest"].into_iter().find_map(|key| ip_version(rule.get(key)?));
    let by_protocol = rule.get("proto").and_then(|proto| match proto.as_str() {
        "icmp" => Some("4"),
        "icmpv6" | "ipv6-icmp" => Some("6"),
        _ => None,
    });
    if let Some(version) = version.or(by_protocol) {
        rule.insert("ipversion".to_owned(), version.to_owned());
    }
}

fn ip_version(list: &str) -> Option<&'static str> {
    let first = list.split([',', '-', '/']).next()?;
    match first.parse::<std::net::IpAddr>().ok()? {
        std::net::IpAddr::V4(_) => Some("4"),
        std::net::IpAddr::V6(_) => Some("6"),
    }
}

const WITH_PORTS: &[&str] = &["udp", "17", "udplite", "136", "tcp", "6", "dccp", "33", "sctp", "132"];

// PVE: pve-firewall src/PVE/Firewall.pm verify_rule
fn verify(call: &Call<'_>, rule: &mut Rule) -> Result<(), Refusal> {
    let (environment, of_guest) = match scope(call) {
        FirewallScope::Cluster => ("cluster", false),
        FirewallScope::Node(_) => ("host", false),
        FirewallScope::Guest(_) => ("vm", true),
    };
    let text = |key: &str| rule.get(key).map(String::as_str);
    let (kind, action) = (text("type").unwrap_or_default(), text("action").unwrap_or_default());
    if of_guest && kind == "forward" {
        let text = format!("invalid rule type '{kind}' for rule_env '{environment}'");
        return Err(Refusal::parameter("type", text));
    }
    if kind == "forward" && action == "REJECT" {
        return Err(Refusal::parameter("action", "cannot define REJECT rules on forward chain"));
    }
    if kind != "group" && !matches!(action, "ACCEPT" | "DROP" | "REJECT") {
        return Err(Refusal::parameter("action", format!("unknown action '{action}'")));
    }
    if let Some(iface) = text("iface").filter(|_| of_guest) {
        let is_card = iface
            .strip_prefix("net")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_card {
            let text = r"value does not match the regex pattern 'net\d+'";
            return Err(Refusal::parameter("iface", text));
        }
    }
    if let Some(given) = text("macro") {
        let known = MACROS.split_whitespace().find(|known| known.eq_ignore_ascii_case(given));
        let Some(known) = known else {
            return Err(Refusal::parameter("macro", format!("unknown macro '{given}'")));
        };
        let known = known.to_owned();
        rule.insert("macro".to_owned(), known);
    }
    let text = |key: &str| rule.get(key).map(String::as_str);
    let is_icmp = matches!(text("proto"), Some("icmp" | "icmpv6" | "ipv6-icmp"));
    for port in ["dport", "sport"] {
        if text(port).is_none() {
            continue;
        }
        let Some(proto) = text("proto") else {
            let text = format!("missing property - '{port}' requires this property");
            return Err(Refusal::parameter("proto", text));
        };
        if !(WITH_PORTS.contains(&proto) || port == "dport" && is_icmp) {
            return Err(Refusal::parameter(port, format!("protocol '{proto}' does not support ports")));
        }
    }
    if text("icmp-type").is_some() && !is_icmp {
        let text = "missing property - 'icmp-type' requires this property";
        return Err(Refusal::parameter("proto", text));
    }
    // The lab has no IP sets and aliases.
    for key in ["source", "dest"] {
        let Some(value) = text(key) else { continue };
        if let Some(name) = value.strip_prefix('+') {
            let name = name.rsplit('/').next().unwrap_or(name);
            return Err(Refusal::parameter(key, format!("no such ipset '{name}'")));
        }
        if value.starts_with(|first: char| first.is_ascii_alphabetic()) && ip_version(value).is_none() {
            return Err(Refusal::parameter(key, format!("no such alias '{value}'")));
        }
    }
    Ok(())
}
