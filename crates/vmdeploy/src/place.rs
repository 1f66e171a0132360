//! Hosts as people write them.

use std::str::FromStr;

/// A host as `[user@]host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The user, where one is named.
    pub user: Option<String>,
    /// Name or address.
    pub host: String,
    /// The port, where one is named.
    pub port: Option<u16>,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write it as `[user@]host[:port]`, with an IPv6 address in `[…]`".to_owned();
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, text),
        };
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, after)) => (host, after.strip_prefix(':').or(after.is_empty().then_some(""))),
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, Some("")),
            },
        };
        let port = match port.ok_or_else(wrong)? {
            "" => None,
            port => Some(port.parse().map_err(|_| wrong())?),
        };
        let plain = |text: &str| {
            !text.is_empty()
                && !text.starts_with('-')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:%".contains(c))
        };
        if !plain(host) || !user.as_deref().is_none_or(plain) {
            return Err(wrong());
        }
        Ok(Self { user, host: host.to_owned(), port })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match self.port {
            Some(port) => write!(f, "{host}:{port}"),
            None => f.write_str(&host),
        }
    }
}

/// Returns the parts of a list with commas.
pub(crate) fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_and_shown_alike() {
        for text in ["build1", "me@build1", "me@build1:2222", "10.0.0.5:22", "me@[fd00::5]:22", "[fd00::5]"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for wrong in ["", "@a", "a:b", "a b", "-oProxyCommand=x", "me@-x", "fd00::5", "[fd00::5]x"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
