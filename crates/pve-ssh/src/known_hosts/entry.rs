//! A line of a `known_hosts` file.

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use russh::keys::PublicKey;

/// What stands before the host names, after `@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// `@cert-authority`: the key signs host certificates.
    CertAuthority,
    /// `@revoked`: the key must never be believed.
    Revoked,
}

/// A host as it is looked up: its name, and the port where that is not 22.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName {
    name: String,
    port: u16,
}

impl HostName {
    /// Returns the name for a host and port.
    pub fn new(host: &str, port: u16) -> Self {
        Self { name: host.to_ascii_lowercase(), port }
    }
    /// Returns the text that stands in a file: `host`, or `[host]:port`.
    pub fn as_written(&self) -> String {
        if self.port == 22 { self.name.clone() } else { format!("[{}]:{}", self.name, self.port) }
    }
    /// Returns the same host at port 22.
    pub fn without_port(&self) -> Self {
        Self { name: self.name.clone(), port: 22 }
    }
    /// Returns the name alone.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// The hosts a line is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patterns {
    /// Names and patterns with `*`, `?` and a leading `!`.
    Plain(Vec<String>),
    /// `|1|salt|hash`: HMAC-SHA1 of one name.
    Hashed {
        /// The salt.
        salt: Vec<u8>,
        /// The hash.
        hash: Vec<u8>,
    },
}

impl Patterns {
    /// Tells whether a pattern with `!` excludes `written` in so many words.
    pub fn excludes(&self, written: &str) -> bool {
        let hit = |pattern: &str| wildcard(pattern.to_ascii_lowercase().as_bytes(), written.as_bytes());
        match self {
            Self::Hashed { .. } => false,
            Self::Plain(patterns) => patterns.iter().any(|p| p.strip_prefix('!').is_some_and(hit)),
        }
    }

    /// Tells whether `written`, as [`HostName::as_written`] returns it, is one of these hosts.
    pub fn matches(&self, written: &str) -> bool {
        match self {
            Self::Hashed { salt, hash } => hashed(salt, written).is_some_and(|computed| computed == *hash),
            Self::Plain(patterns) => {
                let hit =
                    |pattern: &str| wildcard(pattern.to_ascii_lowercase().as_bytes(), written.as_bytes());
                !self.excludes(written) && patterns.iter().any(|p| !p.starts_with('!') && hit(p))
            }
        }
    }
}

fn hashed(salt: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(salt).ok()?;
    mac.update(name.as_bytes());
    Some(mac.finalize().into_bytes().to_vec())
}

/// Matches `*` and `?` without recursion.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, at)) => {
                    retry = Some((star, at + 1));
                    p = star + 1;
                    t = at + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// A line that holds a key.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number in the file, from 1, comments and empty lines counted.
    pub line: usize,
    /// What stands before the names.
    pub marker: Option<Marker>,
    /// The hosts it is for.
    pub patterns: Patterns,
    /// The key.
    pub key: PublicKey,
}

/// Reads a file's text. Lines that hold no key that can be read are passed over, as OpenSSH does.
pub fn parse(text: &str) -> Vec<Entry> {
    text.lines().enumerate().filter_map(|(at, line)| entry(at + 1, line)).collect()
}

fn entry(number: usize, line: &str) -> Option<Entry> {
    let mut words = line.split([' ', '\t', '\r']).filter(|word| !word.is_empty());
    let mut first = words.next()?;
    if first.starts_with('#') {
        return None;
    }
    let marker = match first {
        "@revoked" => Some(Marker::Revoked),
        "@cert-authority" => Some(Marker::CertAuthority),
        _ if first.starts_with('@') => return None,
        _ => None,
    };
    if marker.is_some() {
        first = words.next()?;
    }
    let patterns = patterns(first)?;
    let key = PublicKey::from_openssh(&format!("{} {}", words.next()?, words.next()?)).ok()?;
    Some(Entry { line: number, marker, patterns, key })
}

fn patterns(word: &str) -> Option<Patterns> {
    let Some(rest) = word.strip_prefix("|1|") else {
        return Some(Patterns::Plain(word.split(',').filter(|p| !p.is_empty()).map(str::to_owned).collect()));
    };
    let (salt, hash) = rest.split_once('|')?;
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).ok();
    Some(Patterns::Hashed { salt: decode(salt)?, hash: decode(hash)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP1C9eGbKfBIRhSVpStExjY3Gu6IIDQEUqhOUWBVWG6g";

    #[test]
    fn patterns_match_as_openssh_does() {
        let check = |patterns: &str, name: &str, expect: bool| {
            let text = format!("{patterns} {KEY}");
            let read = parse(&text);
            assert_eq!(read[0].patterns.matches(name), expect, "{patterns} {name}");
        };
        check("pve1,10.0.0.1", "10.0.0.1", true);
        check("pve1", "pve10", false);
        check("PVE1", "pve1", true);
        check("[127.0.0.*]:2222", "[127.0.0.1]:2222", true);
        check("127.0.0.*", "[127.0.0.1]:2222", false);
        check("pve?", "pve1", true);
        check("*.example.org,!bad.example.org", "good.example.org", true);
        check("*.example.org,!bad.example.org", "bad.example.org", false);
        check("!bad.example.org", "good.example.org", false);
        check("*", "anything", true);
        check("a*b*c", "aXbXXc", true);
        check("a*b*c", "aXbXX", false);
    }

    #[test]
    fn a_hashed_name_is_found_by_its_hash() {
        // Made by `ssh-keygen -H` for the name `[127.0.0.1]:2222`.
        let salt = b"0123456789abcdefghij";
        let hash = hashed(salt, "[127.0.0.1]:2222").unwrap();
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let read = parse(&format!("|1|{}|{} {KEY}\n", encode(salt), encode(&hash)));
        assert!(read[0].patterns.matches("[127.0.0.1]:2222"));
        assert!(!read[0].patterns.matches("127.0.0.1"));
    }

    #[test]
    fn markers_tabs_comments_and_bad_lines_are_taken_as_they_are() {
        let text = format!(
            "# comment\n\n@revoked\tpve1\t{KEY}\tcomment here\n@cert-authority *.example.org {KEY}\n\
             pve2 ssh-ed25519 not-base64\n@odd pve3 {KEY}\npve4 ssh-new AAAA\n  pve5 {KEY}\r\n"
        );
        let read = parse(&text);
        let lines: Vec<usize> = read.iter().map(|entry| entry.line).collect();
        assert_eq!(lines, [3, 4, 8]);
        assert_eq!(read[0].marker, Some(Marker::Revoked));
        assert_eq!(read[1].marker, Some(Marker::CertAuthority));
        assert!(read[2].patterns.matches("pve5"));
    }

    #[test]
    fn a_port_other_than_22_is_written_in_brackets() {
        assert_eq!(HostName::new("PVE1", 22).as_written(), "pve1");
        assert_eq!(HostName::new("::1", 2222).as_written(), "[::1]:2222");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String, name: String) {
            for entry in parse(&text) {
                entry.patterns.matches(&name);
            }
            wildcard(text.as_bytes(), name.as_bytes());
        }
    }
}
