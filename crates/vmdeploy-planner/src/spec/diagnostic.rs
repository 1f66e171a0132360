//! Faults of a spec, each with its place, and how they are shown.

/// One file of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path, as shown in messages.
    pub name: String,
    /// Its text.
    pub text: std::sync::Arc<str>,
}

impl SourceFile {
    /// Returns the file `name` with this text.
    pub fn new(name: impl Into<String>, text: impl Into<std::sync::Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// Which file of the deployment.
    pub file: u16,
    /// The line, from 1; 0 where there is no place.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The spec is refused.
    Error,
    /// The spec is taken, but probably not meant so.
    Warning,
}

/// One fault of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file's name.
    pub file: String,
    /// Where it is.
    pub span: Span,
    /// The key's path, e.g. `vms.web01.disks.scsi0.size`.
    pub path: String,
    /// What is wrong: a lowercase fragment without a final period.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// The line, with what to point at.
    pub excerpt: Option<Excerpt>,
}

/// A line of a file as it may be shown: secrets hidden, control characters replaced, cut to a length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// What is shown.
    pub line: String,
    /// How many characters stand before what is pointed at.
    pub column: usize,
    /// How many characters are pointed at.
    pub width: usize,
}

impl Diagnostic {
    /// Returns a diagnostic without a hint.
    pub fn new(
        severity: Severity,
        file: impl Into<String>,
        span: Span,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            file: file.into(),
            span,
            path: path.into(),
            message: message.into(),
            hint: None,
            excerpt: None,
        }
    }
    /// Adds what to write instead.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for Diagnostic {
    /// Shows the message, the place, the line with a caret below, and the hint; without a line end after it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        if self.path.is_empty() {
            write!(f, "{word}: {}", self.message)?;
        } else {
            write!(f, "{word}: {}: {}", self.path, self.message)?;
        }
        let Span { line, column, .. } = self.span;
        let gutter = if line == 0 { 1 } else { line.to_string().len() };
        let blank = " ".repeat(gutter);
        if !self.file.is_empty() {
            let file = self.file.escape_debug();
            if line == 0 {
                write!(f, "\n{blank}--> {file}")?;
            } else {
                write!(f, "\n{blank}--> {file}:{line}:{column}")?;
            }
        }
        if let Some(excerpt) = &self.excerpt {
            let (before, carets) = (" ".repeat(excerpt.column), "^".repeat(excerpt.width));
            write!(f, "\n{blank} |\n{line} | {}\n{blank} | {before}{carets}", excerpt.line)?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n{blank} = hint: {hint}"),
            None => Ok(()),
        }
    }
}
