//! The texts of firewall rules: addresses, ports, protocols, ICMP types.
// PVE: pve-firewall src/PVE/Firewall.pm parse_address_list, parse_port_name_number_or_range, icmp_type_names

use std::net::IpAddr;

/// Types of ICMP and ICMPv6 that a rule may name.
const ICMP_TYPES: &str = "any echo-reply destination-unreachable network-unreachable host-unreachable \
    protocol-unreachable port-unreachable fragmentation-needed source-route-failed network-unknown host-unknown \
    network-prohibited host-prohibited TOS-network-unreachable TOS-host-unreachable communication-prohibited \
    host-precedence-violation precedence-cutoff source-quench redirect network-redirect host-redirect \
    TOS-network-redirect TOS-host-redirect echo-request router-advertisement router-solicitation time-exceeded \
    ttl-zero-during-transit ttl-zero-during-reassembly parameter-problem ip-header-bad required-option-missing \
    timestamp-request timestamp-reply address-mask-request address-mask-reply no-route beyond-scope \
    address-unreachable failed-policy reject-route packet-too-big bad-header unknown-header-type unknown-option \
    neighbor-solicitation neighbour-solicitation neighbor-advertisement neighbour-advertisement";

/// Names of ports and protocols that `/etc/services` and `/etc/protocols` have and rules use.
const SERVICES: &str = "ssh http https domain smtp imap imaps pop3 pop3s ftp ntp snmp ldap ldaps mysql postgresql \
    telnet sunrpc nfs microsoft-ds netbios-ns netbios-dgm netbios-ssn bootps bootpc tftp syslog rsync submission";
const PROTOCOLS: &str = "ip icmp igmp ggp ipencap st tcp egp igp pup udp hmp xns-idp rdp iso-tp4 dccp xtp ddp \
    idpr-cmtp ipv6 ipv6-route ipv6-frag idrp rsvp gre esp ah skip ipv6-icmp icmpv6 ipv6-nonxt ipv6-opts rspf vmtp \
    eigrp ospf ax.25 ipip etherip encap pim ipcomp vrrp l2tp isis sctp fc mobility-header udplite mpls-in-ip hip \
    shim6 wesp rohc ethernet";

fn has(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|known| known == word)
}

/// Verifies the addresses of a rule: a list, one range, an alias or `+ipset`.
pub(super) fn check_addresses(text: &str) -> Result<(), String> {
    let name = text.strip_prefix("dc/").or_else(|| text.strip_prefix("guest/")).unwrap_or(text);
    let is_alias = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if text.starts_with('+') || is_alias {
        return Ok(());
    }
    let elements: Vec<&str> = text.split(',').collect();
    if text.ends_with(',') {
        return Err("extraneous commas in list\n".to_owned());
    }
    let mut is_range = false;
    let mut version = None;
    for element in &elements {
        let (first, rest) = element.split_once(['-', '/']).map_or((*element, None), |(a, b)| (a, Some(b)));
        is_range |= element.contains('-');
        let Ok(address) = first.parse::<IpAddr>() else {
            return Err(format!("invalid IP address: {}\n", why_invalid(first)));
        };
        let fits = rest.is_none_or(|rest| rest.parse::<u8>().is_ok() || rest.parse::<IpAddr>().is_ok());
        if !fits {
            return Err(format!("invalid IP address: Cannot determine IP version for {element}\n"));
        }
        if version.is_some_and(|version| version != address.is_ipv6()) {
            return Err(format!("detected mixed ipv4/ipv6 addresses in address list '{text}'\n"));
        }
        version = Some(address.is_ipv6());
    }
    match is_range && elements.len() > 1 {
        true => Err("you can't use a range in a list\n".to_owned()),
        false => Ok(()),
    }
}

/// What Perl's Net::IP says of an address that is none.
fn why_invalid(text: &str) -> String {
    let numbers = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    match numbers && text.contains('.') {
        true => {
            let wrong = text.split('.').find(|quad| quad.parse::<u8>().is_err()).unwrap_or_default();
            format!("Invalid quad in IP address {text} - {wrong}")
        }
        false => format!("Cannot determine IP version for {text}"),
    }
}

/// Verifies the helpers that follow connections.
pub(super) fn check_helpers(text: &str) -> Result<(), String> {
    const HELPERS: &str = "amanda ftp irc netbios-ns pptp sane sip snmp tftp";
    match text.split(',').find(|helper| !has(HELPERS, helper)) {
        Some(helper) => {
            Err(format!("unknown helper {helper} at /usr/share/perl5/PVE/Firewall.pm line 1167.\n"))
        }
        None => Ok(()),
    }
}

/// Verifies the ports of a rule; those of a destination may be ICMP types.
pub(super) fn check_ports(text: &str, of_destination: bool) -> Result<(), String> {
    if text.ends_with(',') {
        return Err("extraneous commas in list\n".to_owned());
    }
    let number = |text: &str| match text.parse::<u32>() {
        Ok(port) if port <= 65_535 => Ok(port),
        _ => Err(format!("invalid port '{text}'\n")),
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (mut count, mut has_icmp) = (0, false);
    for item in text.split(',') {
        match item.split_once(':') {
            Some((low, high)) if is_number(low) && is_number(high) => {
                count += 2;
                if number(low)? > number(high)? {
                    return Err(format!(
                        "backwards range '{low}:{high}' not allowed, did you mean '{high}:{low}'?\n"
                    ));
                }
            }
            _ if is_number(item) => {
                count += 1;
                number(item)?;
            }
            _ if of_destination && has(ICMP_TYPES, item) => has_icmp = true,
            _ if has(SERVICES, item) => {}
            _ => return Err(format!("invalid port '{item}'\n")),
        }
    }
    if has_icmp && count > 0 {
        return Err("ICMP ports not allowed in port range\n".to_owned());
    }
    match count > 15 {
        true => Err("too many entries in port list (> 15 numbers)\n".to_owned()),
        false => Ok(()),
    }
}

/// Verifies a protocol, by name or by number.
pub(super) fn check_protocol(text: &str) -> Result<(), String> {
    let known = text.is_empty() || text.parse::<u8>().is_ok() || has(PROTOCOLS, text);
    if known { Ok(()) } else { Err(format!("unknown protocol '{text}'\n")) }
}

/// Verifies the type of an ICMP message.
pub(super) fn check_icmp_type(text: &str) -> Result<(), String> {
    let known = text.is_empty() || has(ICMP_TYPES, text);
    if known { Ok(()) } else { Err(format!("invalid icmp-type value '{text}'\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_ports_are_lists_with_rules_of_their_own() {
        let good = [
            "192.0.2.1",
            "192.0.2.0/24,198.51.100.1",
            "192.0.2.1-192.0.2.9",
            "+web",
            "dc/office",
            "2001:db8::/32",
        ];
        good.iter().for_each(|text| assert_eq!(check_addresses(text), Ok(()), "{text}"));
        let bad = ["192.0.2.1,", "192.0.2.1,2001:db8::1", "192.0.2.1-192.0.2.9,192.0.2.1", "192.0.2.300"];
        bad.iter().for_each(|text| assert!(check_addresses(text).is_err(), "{text}"));
        assert_eq!(check_ports("22,80:90,ssh", true), Ok(()));
        assert_eq!(check_ports("echo-request", true), Ok(()));
        for text in ["echo-request", "90:80", "70000", "22,", "nothing"] {
            assert!(check_ports(text, false).is_err(), "{text}");
        }
        assert!(check_protocol("tcp").is_ok() && check_protocol("tpc").is_err());
        assert!(check_icmp_type("any").is_ok() && check_icmp_type("none").is_err());
    }
}
