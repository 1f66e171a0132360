//! What a command line means, before anything is expanded.

/// A piece of a word.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// Text; quoted text is neither split nor a pattern.
    Literal { text: String, quoted: bool },
    /// `$name`, `${name…}`.
    Parameter { name: String, operation: Option<Operation>, quoted: bool },
    /// `$(…)` or backquotes.
    Substitution { list: List, quoted: bool },
    /// A leading `~`.
    Home,
}

/// What `${name…}` does with its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operation {
    /// `${#name}`.
    Length,
    /// `-`, `=`, `?` or `+`; with `:` an empty value counts as unset.
    Default { kind: char, empty_is_unset: bool, word: Word },
    /// `#`, `##`, `%`, `%%`.
    Trim { kind: char, longest: bool, pattern: Word },
}

pub(crate) type Word = Vec<Part>;

/// One redirection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Redirect {
    /// The file descriptor, 0 to 2.
    pub(crate) fd: u8,
    pub(crate) target: Target,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    Read(Word),
    Write(Word),
    Append(Word),
    /// `n>&m`.
    Duplicate(u8),
    /// `n>&-`.
    Close,
    /// A here-document or here-string.
    Text(Word),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Command {
    pub(crate) kind: Kind,
    pub(crate) redirects: Vec<Redirect>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Simple { assignments: Vec<(String, Word)>, words: Vec<Word> },
    Group(List),
    Subshell(List),
    If { branches: Vec<(List, List)>, otherwise: Option<List> },
    For { name: String, words: Option<Vec<Word>>, body: List },
    While { until: bool, condition: List, body: List },
    Case { word: Word, arms: Vec<(Vec<Word>, List)> },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pipeline {
    pub(crate) negated: bool,
    pub(crate) commands: Vec<Command>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Connector {
    And,
    Or,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) first: Pipeline,
    pub(crate) rest: Vec<(Connector, Pipeline)>,
    pub(crate) background: bool,
}

pub(crate) type List = Vec<Item>;
