//! The faults of a spec as they are found: each once, and not without end.

use super::diagnostic::{Diagnostic, Severity, SourceFile, Span};
use std::collections::HashSet;

/// How many faults are kept; a file of two million wrong keys has one answer, not two million.
const MAX_FAULTS: usize = 200;

/// Where in the spec the reader is, for messages: a list from the inside out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path<'p> {
    outer: Option<&'p Path<'p>>,
    key: &'p str,
}

impl<'p> Path<'p> {
    /// The top of a spec.
    pub(crate) const TOP: Path<'static> = Path { outer: None, key: "" };

    /// Tells whether this is a key of a VM, a profile, a group's `vm` or `overrides`, or of `defaults`: there `null` may replace what lies below it.
    pub(crate) fn is_layered(&self) -> bool {
        match self.keys()[..] {
            ["vms" | "profiles" | "defaults", _, ..] => true,
            ["groups", _, "overrides", _, _, ..] => true,
            ["groups", _, "overrides", ..] => false,
            ["groups", _, _, _, ..] => true,
            _ => false,
        }
    }
    /// Returns the keys, the outermost first.
    fn keys(&self) -> Vec<&'p str> {
        let mut keys = self.outer.filter(|outer| outer.outer.is_some()).map(Path::keys).unwrap_or_default();
        keys.push(self.key);
        keys
    }
    /// Returns the path of a key of this place.
    pub(crate) fn key(&'p self, key: &'p str) -> Path<'p> {
        Path { outer: Some(self), key }
    }
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(outer) = self.outer.filter(|outer| !outer.key.is_empty()) {
            write!(f, "{outer}.")?;
        }
        let shown: String = self.key.chars().take(80).collect();
        write!(f, "{}", shown.escape_debug())
    }
}

/// Collects faults.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    list: Vec<Diagnostic>,
    seen: HashSet<(Span, String)>,
    /// Where secrets stand that must not be shown.
    concealed: Vec<Span>,
    left_out: bool,
    given_up: bool,
}

impl Faults {
    /// Adds an error.
    pub(crate) fn error(&mut self, span: Span, path: impl std::fmt::Display, message: impl Into<String>) {
        self.add(Severity::Error, span, &path, message.into(), None);
    }
    /// Adds an error with what to write instead.
    pub(crate) fn error_hint(
        &mut self,
        span: Span,
        path: impl std::fmt::Display,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Severity::Error, span, &path, message.into(), Some(hint.into()));
    }
    /// Adds a warning.
    pub(crate) fn warn(
        &mut self,
        span: Span,
        path: impl std::fmt::Display,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Severity::Warning, span, &path, message.into(), Some(hint.into()));
    }
    /// Notes that the value at `span` may be a secret: no message shows its line from there on.
    pub(crate) fn conceal(&mut self, span: Span) {
        self.concealed.push(span);
    }
    /// Tells whether no more are kept, so that looking for more is idle.
    pub(crate) fn are_full(&mut self) -> bool {
        self.left_out = self.left_out || self.list.len() >= MAX_FAULTS;
        self.left_out
    }
    /// Tells whether a key of a VM, or of what it may have it from, is known to be wrong already.
    pub(crate) fn has_faulty_key(&self, vm: &str, key: &str) -> bool {
        let shared = format!(".{key}");
        self.list.iter().filter(|fault| fault.severity == Severity::Error).any(|fault| {
            let is_own =
                || fault.path.strip_prefix("vms.").and_then(|rest| rest.strip_prefix(vm)) == Some(&shared);
            let shared_by = ["defaults.", "profiles.", "groups."];
            let is_shared = shared_by.iter().any(|place| fault.path.starts_with(place));
            (is_shared && fault.path.ends_with(&shared)) || is_own()
        })
    }
    /// Notes that the spec is not worth reading any further.
    pub(crate) fn give_up(&mut self) {
        self.given_up = true;
    }
    /// Tells whether the spec is not worth reading any further.
    pub(crate) fn have_given_up(&mut self) -> bool {
        self.given_up || self.are_full()
    }
    /// Tells whether there are errors.
    pub(crate) fn has_errors(&self) -> bool {
        self.list.iter().any(|fault| fault.severity == Severity::Error)
    }

    fn add(
        &mut self,
        severity: Severity,
        span: Span,
        path: &dyn std::fmt::Display,
        message: String,
        hint: Option<String>,
    ) {
        if self.list.len() >= MAX_FAULTS {
            self.left_out = true;
            return;
        }
        if self.seen.insert((span, message.clone())) {
            let mut fault = Diagnostic::new(severity, "", span, path.to_string(), message);
            fault.hint = hint;
            self.list.push(fault);
        }
    }

    /// Returns all faults in the order of the files, with the names and lines of these.
    pub(crate) fn finish(mut self, files: &[SourceFile]) -> Vec<Diagnostic> {
        self.list.sort_by_key(|fault| (fault.span, fault.severity));
        if self.left_out
            && let Some(last) = self.list.last()
        {
            let message = "more errors exist; they are shown once these are fixed";
            let (severity, span) = (last.severity, last.span);
            self.list.push(Diagnostic::new(severity, "", span, "", message));
        }
        let mut lines = super::excerpt::Lines::new(files);
        for fault in &mut self.list {
            let at = usize::from(fault.span.file);
            fault.file = files.get(at).map_or_else(String::new, |file| file.name.clone());
            fault.excerpt = lines.excerpt(fault.span, &self.concealed);
        }
        self.list
    }
}
