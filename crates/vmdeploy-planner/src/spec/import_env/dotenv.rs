//! The variables of a `.env` file: assignments as a shell reads them, without running anything.

use super::line_span;
use crate::spec::diagnostic::Span;
use crate::spec::faults::Faults;
use std::collections::BTreeMap;

/// The variables of vm-deploy that a spec can say, or that are known to be for something else.
pub(super) const KNOWN: &[&str] = &[
    "PROXMOX_API_USER",
    "PROXMOX_API_PASSWORD",
    "PROXMOX_API_HOST",
    "PROXMOX_NODE",
    "PROXMOX_SSH_USER",
    "PROXMOX_SSH_KEY",
    "OPENSUSE_IMAGE_PATH",
    "OPENSUSE_IMAGE_NAME",
    "GITHUB_USERNAME",
    "STORAGE_POOL",
    "DATA_DISK_SIZE",
    "MON_DISK_SIZE",
    "PRIVATE_BRIDGE",
    "PUBLIC_BRIDGE",
    "VM_DEFAULT_MEMORY",
    "VM_DEFAULT_CORES",
    "VM_DEFAULT_SOCKETS",
    "VM_CPU_TYPE",
    "AUTO_START",
    "VM_ROOT_PASSWORD",
    "NUM_VMS",
];

/// Tells whether vm-deploy has, or we have, a variable of this name.
pub(super) fn is_known(name: &str) -> bool {
    let families = ["BUILD_VM_", "KIWI_", "CEPH_", "PROXMOX_", "VMDEPLOY_"];
    let of_vm = |rest: &str| {
        let (number, part) = rest.split_once('_').unwrap_or((rest, ""));
        matches!(number, "1" | "2" | "3" | "4")
            && ["NAME", "VMID", "MEMORY", "CORES", "SOCKETS", "ONBOOT", "IP"].contains(&part)
    };
    KNOWN.contains(&name)
        || families.iter().any(|family| name.starts_with(family))
        || name.strip_prefix("VM").is_some_and(of_vm)
}

/// The variables that are set to something, with the places of their values.
pub(super) struct Variables(BTreeMap<String, (String, Span)>);

impl Variables {
    /// Reads the file; a later assignment replaces an earlier one.
    pub(super) fn read(text: &str, faults: &mut Faults) -> Self {
        let mut variables = Self(BTreeMap::new());
        // Some editors begin a file with a byte order mark.
        for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            match variables.assignment(line) {
                Ok((name, value, column)) => {
                    variables.0.insert(name, (value, line_span(at + 1, column)));
                }
                Err(message) => {
                    let span = line_span(at + 1, 1);
                    // Whatever cannot be read may be a part of a secret.
                    faults.conceal(span);
                    faults.error_hint(span, "", message, "write `export NAME=\"value\"`");
                }
            }
        }
        variables
    }

    /// Returns a variable's value and place; an empty one counts as not set, as in vm-deploy.
    pub(super) fn get(&self, name: &str) -> Option<(&str, Span)> {
        self.0.get(name).filter(|(value, _)| !value.is_empty()).map(|(value, span)| (value.as_str(), *span))
    }
    /// Returns the names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Reads `[export] NAME=VALUE`; returns name, value, and the value's column from 1.
    fn assignment(&self, line: &str) -> Result<(String, String, usize), String> {
        let rest = line.trim_start();
        let exported = rest.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
        let rest = exported.map_or(rest, str::trim_start);
        let (name, value) = rest.split_once('=').ok_or("this line is not an assignment")?;
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err("this is not a variable name".to_owned());
        }
        let column = line.chars().count() - value.chars().count() + 1;
        Ok((name.to_owned(), self.value(value)?, column))
    }

    /// Reads a value: quoted, or up to a blank. Within a word a `#` begins no comment.
    fn value(&self, text: &str) -> Result<String, String> {
        let unclosed = || "the closing quotation mark is missing".to_owned();
        if let Some(rest) = text.strip_prefix('\'') {
            return rest.split_once('\'').map(|(value, _)| value.to_owned()).ok_or_else(unclosed);
        }
        if let Some(rest) = text.strip_prefix('"') {
            let end = rest.char_indices().find(|(at, c)| *c == '"' && !rest[..*at].ends_with('\\'));
            let (end, _) = end.ok_or_else(unclosed)?;
            return Ok(self.expanded(&rest[..end]).replace("\\\"", "\"").replace("\\$", "$"));
        }
        let value = text.split([' ', '\t']).next().unwrap_or_default();
        Ok(self.expanded(value))
    }

    /// Replaces `$NAME`, `${NAME}` and `${NAME:-default}` by what was assigned above.
    fn expanded(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$').filter(|at| !rest[..*at].ends_with('\\')) {
            out.push_str(&rest[..at]);
            let tail = &rest[at + 1..];
            let (name, default, after) = match tail.strip_prefix('{').and_then(|inner| inner.split_once('}'))
            {
                Some((inner, after)) => {
                    let (name, default) = inner.split_once(":-").unwrap_or((inner, ""));
                    (name, default, after)
                }
                None => {
                    let end =
                        tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tail.len());
                    (&tail[..end], "", &tail[end..])
                }
            };
            out.push_str(self.get(name).map_or(default, |(value, _)| value));
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read_as_a_shell_reads_them() {
        let text =
            "export A=\"x y\" # note\nB='$A'\nC=${A}-$B-${D:-z} # x\n  D=1#2\nE=\n#F=1\nG=\"a\\\"b\"\n";
        let mut faults = Faults::default();
        let variables = Variables::read(text, &mut faults);
        let check = |name, expect: Option<&str>| {
            assert_eq!(variables.get(name).map(|(value, _)| value), expect, "{name}")
        };
        check("A", Some("x y"));
        check("B", Some("$A"));
        check("C", Some("x y-$A-z"));
        check("D", Some("1#2"));
        check("E", None);
        check("F", None);
        check("G", Some("a\"b"));
        assert_eq!(variables.get("A").unwrap().1, line_span(1, 10));
        assert!(!faults.has_errors());
        Variables::read("echo hi\nA-B=1\nA=\"x\n", &mut faults);
        assert!(faults.has_errors());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[A-C$\\{\\}:=\"'\\\\ #\n-]{0,60}") {
            Variables::read(&text, &mut Faults::default());
        }
    }
}
