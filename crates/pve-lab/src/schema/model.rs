//! What the table says of an endpoint and of its parameters.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// A value's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// 0 or 1.
    Boolean,
    /// Several values.
    Array,
}

impl Kind {
    /// PVE's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Array => "array",
        }
    }
}

/// The form of a string.
#[derive(Debug, Clone)]
pub enum Format {
    /// A form with a name, `-list` for several.
    Named(String),
    /// A property string: `key=value,…`.
    Property(Arc<PropertyFormat>),
}

/// A parameter, or a key of a property string.
#[derive(Debug, Clone)]
pub struct Param {
    /// Its name, without a number.
    pub name: String,
    /// For a numbered one (`net0` … `net31`): how many there are.
    pub count: Option<u32>,
    /// Whether it must be given.
    pub required: bool,
    /// Its type.
    pub kind: Kind,
    /// Whether a value without a key is this one's.
    pub default_key: bool,
    /// The least value.
    pub minimum: Option<f64>,
    /// The greatest value.
    pub maximum: Option<f64>,
    /// The least length.
    pub min_length: Option<usize>,
    /// The greatest length.
    pub max_length: Option<usize>,
    /// The parameter that must come with it.
    pub needs: Option<String>,
    /// The values it may have; empty for any.
    pub values: Vec<String>,
    /// Its form.
    pub format: Option<Format>,
    /// The items of an array.
    pub items: Option<Box<Param>>,
    /// A pattern for the whole value.
    pub pattern: Option<Pattern>,
    /// The key that this is another name of.
    pub alias: Option<String>,
    /// The key that gets this one's name as its value (`virtio=MAC` is also `model=virtio`).
    pub key_alias: Option<String>,
    /// Storage or rule types that have it; empty for all.
    pub only_for: Vec<String>,
}

impl Param {
    /// Tells whether a comma-separated list is meant, so that a repeated parameter is joined.
    pub fn is_list(&self) -> bool {
        matches!(&self.format, Some(Format::Named(name)) if name.ends_with("-list"))
    }
}

/// A pattern, made into an automaton when first used.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// As PVE writes it.
    pub text: String,
    compiled: Arc<OnceLock<Option<regex::Regex>>>,
}

impl Pattern {
    /// Keeps the pattern.
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), compiled: Arc::default() }
    }
    /// Tells whether the whole value fits.
    pub fn matches(&self, value: &str) -> bool {
        let compile = || {
            // Perl writes a compiled pattern's flags as `(?^i:`.
            let text = self.text.replace("(?^i:", "(?i:").replace("(?^:", "(?:");
            regex::Regex::new(&format!("^(?:{text})$")).ok()
        };
        self.compiled.get_or_init(compile).as_ref().is_some_and(|regex| regex.is_match(value))
    }
}

/// A set of parameters, or the keys of a property string.
#[derive(Debug, Clone, Default)]
pub struct ParamSet {
    params: Vec<Param>,
    by_name: BTreeMap<String, usize>,
}

impl ParamSet {
    /// Takes the parameters; a later one of the same name wins.
    pub fn new(params: Vec<Param>) -> Self {
        let key = |param: &Param| match param.count {
            Some(_) => format!("{}[n]", param.name),
            None => param.name.clone(),
        };
        let by_name = params.iter().enumerate().map(|(at, param)| (key(param), at)).collect();
        Self { params, by_name }
    }
    /// The parameter with this name, numbered ones by any of their names (`net7`).
    pub fn get(&self, name: &str) -> Option<&Param> {
        if let Some(at) = self.by_name.get(name) {
            return self.params.get(*at);
        }
        let base = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let number = &name[base.len()..];
        if number.is_empty() || (number.len() > 1 && number.starts_with('0')) {
            return None;
        }
        let param = self.params.get(*self.by_name.get(&format!("{base}[n]"))?)?;
        let number: u32 = number.parse().ok()?;
        (number < param.count.unwrap_or(0)).then_some(param)
    }
    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Param> {
        self.params.iter()
    }
}

/// The keys of a property string.
#[derive(Debug, Default)]
pub struct PropertyFormat {
    /// The name it has in the table.
    pub name: String,
    /// Its keys.
    pub keys: ParamSet,
}

/// Who may call an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// root@pam, and no token.
    Root,
    /// Any user.
    All,
    /// Any user.
    World,
    /// The users that the expression allows.
    Check(Check),
}

/// A permission expression: a list that begins with what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// A word, a path, or privileges joined by commas.
    Word(String),
    /// `(and …)`, `(or …)`, `(perm PATH PRIVILEGES …)`, …
    List(Vec<Check>),
}

/// An endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// GET, POST, PUT or DELETE.
    pub method: String,
    /// Its path, with `{name}` where a parameter stands.
    pub path: String,
    /// Its parameters, those of the path included.
    pub params: ParamSet,
    /// Who may call it.
    pub permission: Permission,
    /// The path parameter whose node it runs on.
    pub proxied_to: Option<String>,
    /// Whether it runs as root.
    pub protected: bool,
    /// Whether a token may call it at all.
    pub allows_tokens: bool,
}
