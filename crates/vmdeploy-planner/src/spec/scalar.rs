//! Scalars of a spec that are read in several places: booleans, numbers, durations and addresses.

use super::model::Endpoint;

/// Reads `true` or `false`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Reads a decimal number.
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    let plain = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
    let number: f64 = Some(text).filter(|text| text.chars().all(plain)).and_then(|text| text.parse().ok())?;
    number.is_finite().then_some(number)
}

/// Reads `30s`, `5m`, `2h`, or several of them in a row; at most a week.
pub(crate) fn parse_duration(text: &str) -> Option<std::time::Duration> {
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        let factor = match rest[digits..].chars().next()? {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(factor)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty() && seconds <= 7 * 86_400).then(|| std::time::Duration::from_secs(seconds))
}

/// Reads `https://HOST[:PORT]`.
pub(crate) fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    let refuse = |reason: &str| Err(reason.to_owned());
    let Some(rest) = text.strip_prefix("https://") else {
        return refuse("it must start with `https://`");
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        return refuse("only a host and a port may follow `https://`");
    }
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, tail)) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, tail.strip_prefix(':')),
        Some(_) => return refuse("the text in `[…]` is not an IPv6 address"),
        None => match rest.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if host.is_empty() || !host.chars().all(plain) || host.starts_with('-') {
        return refuse("the host is missing or contains invalid characters");
    }
    let port = match port {
        None => 8006,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return refuse("the port must be a number from 1 to 65535"),
        },
    };
    Ok(Endpoint { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        let seconds = |text| parse_duration(text).map(|time| time.as_secs());
        assert_eq!(seconds("1h30m"), Some(5400));
        assert_eq!(seconds("30s"), Some(30));
        for text in ["", "5", "5x", "m", "-5s", "99999999999999999999s", "30d"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn endpoints_are_hosts_with_a_port() {
        let check = |text, host: &str, port| {
            assert_eq!(parse_endpoint(text), Ok(Endpoint { host: host.to_owned(), port }), "{text}");
        };
        check("https://pve1.example.org", "pve1.example.org", 8006);
        check("https://pve1:443/", "pve1", 443);
        check("https://[fd00::1]:8006", "fd00::1", 8006);
        for text in [
            "http://x",
            "https://",
            "https://a/b",
            "https://u:p@h",
            "https://h:0",
            "https://h:99999",
            "https://[x]",
            "pve1",
        ] {
            assert!(parse_endpoint(text).is_err(), "{text}");
        }
    }
}
