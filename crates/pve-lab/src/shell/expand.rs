//! From the words of a command line to the arguments of a command.

use super::ast::{Operation, Part, Word};
use super::io::Streams;
use super::run::{Shell, Stop};
use crate::vfs::glob_matches;

/// One character run of an expanded word: quoted text is neither split nor a pattern.
struct Run {
    text: String,
    quoted: bool,
}

/// A field in the making.
#[derive(Default)]
struct Field {
    runs: Vec<Run>,
    /// A quoted empty string makes a field, too.
    present: bool,
}

impl Field {
    fn push(&mut self, text: &str, quoted: bool) {
        self.present |= quoted || !text.is_empty();
        self.runs.push(Run { text: text.to_owned(), quoted });
    }

    fn text(&self) -> String {
        self.runs.iter().map(|run| run.text.as_str()).collect()
    }

    fn is_pattern(&self) -> bool {
        self.runs.iter().any(|run| !run.quoted && run.text.contains(['*', '?', '[']))
    }

    /// The field as a pattern, its quoted characters escaped.
    fn pattern(&self) -> String {
        let mut pattern = String::new();
        for run in &self.runs {
            for character in run.text.chars() {
                if run.quoted && matches!(character, '*' | '?' | '[' | ']' | '\\' | '!' | '-' | '^') {
                    pattern.push('\\');
                }
                pattern.push(character);
            }
        }
        pattern
    }
}

impl Shell {
    /// Expands words into arguments: parameters, substitutions, splitting, names that match patterns.
    pub(super) async fn expand_words(
        &mut self,
        words: &[Word],
        streams: &Streams,
    ) -> Result<Vec<String>, Stop> {
        let mut arguments = Vec::new();
        for word in words {
            for field in self.fields(word, streams).await? {
                self.match_names(&field, &mut arguments);
            }
        }
        Ok(arguments)
    }

    /// Expands a word into one text, without splitting or patterns.
    pub(super) async fn expand_text(&mut self, word: &Word, streams: &Streams) -> Result<String, Stop> {
        let mut text = String::new();
        for part in word {
            text.push_str(&self.part_text(part, streams).await?);
        }
        Ok(text)
    }

    /// Expands a word into a pattern for `case` and `${x%…}`.
    pub(super) async fn expand_pattern(&mut self, word: &Word, streams: &Streams) -> Result<String, Stop> {
        let mut field = Field::default();
        for part in word {
            let text = self.part_text(part, streams).await?;
            field.push(&text, is_quoted(part));
        }
        Ok(field.pattern())
    }

    async fn fields(&mut self, word: &Word, streams: &Streams) -> Result<Vec<Field>, Stop> {
        let mut fields = vec![Field::default()];
        for part in word {
            if let Part::Parameter { name, operation: None, quoted } = part
                && (name == "@" || (name == "*" && !quoted))
            {
                self.push_positional(&mut fields, *quoted);
                continue;
            }
            let text = self.part_text(part, streams).await?;
            let splits =
                !is_quoted(part) && matches!(part, Part::Parameter { .. } | Part::Substitution { .. });
            if splits {
                push_split(&mut fields, &text);
            } else if let Some(field) = fields.last_mut() {
                field.push(&text, is_quoted(part) || matches!(part, Part::Home));
            }
        }
        fields.retain(|field| field.present);
        Ok(fields)
    }

    fn push_positional(&self, fields: &mut Vec<Field>, quoted: bool) {
        for (index, value) in self.positional.iter().enumerate() {
            if index > 0 {
                fields.push(Field::default());
            }
            if quoted {
                if let Some(field) = fields.last_mut() {
                    field.push(value, true);
                }
            } else {
                push_split(fields, value);
            }
        }
    }

    async fn part_text(&mut self, part: &Part, streams: &Streams) -> Result<String, Stop> {
        match part {
            Part::Literal { text, .. } => Ok(text.clone()),
            Part::Home => Ok(self.variable("HOME").unwrap_or_else(|| "/root".into())),
            Part::Substitution { list, .. } => Box::pin(self.capture(list, streams)).await,
            Part::Parameter { name, operation: None, .. } => match self.parameter(name) {
                Some(value) => Ok(value),
                None if self.options.nounset && !matches!(name.as_str(), "@" | "*") => {
                    self.complain(streams, &format!("{name}: unbound variable")).await;
                    Err(Stop::Exit(127))
                }
                None => Ok(String::new()),
            },
            Part::Parameter { name, operation: Some(operation), .. } => {
                Box::pin(self.operate(name, operation, streams)).await
            }
        }
    }

    async fn operate(
        &mut self,
        name: &str,
        operation: &Operation,
        streams: &Streams,
    ) -> Result<String, Stop> {
        let value = self.parameter(name);
        match operation {
            Operation::Length => Ok(value.unwrap_or_default().chars().count().to_string()),
            Operation::Trim { kind, longest, pattern } => {
                let pattern = self.expand_pattern(pattern, streams).await?;
                Ok(trim(&value.unwrap_or_default(), *kind, *longest, &pattern))
            }
            Operation::Default { kind, empty_is_unset, word } => {
                let set = value.filter(|value| !(*empty_is_unset && value.is_empty()));
                match (kind, set) {
                    ('+', Some(_)) => self.expand_text(word, streams).await,
                    ('+', None) => Ok(String::new()),
                    (_, Some(value)) => Ok(value),
                    ('=', None) => {
                        let text = self.expand_text(word, streams).await?;
                        self.set_variable(name, text.clone());
                        Ok(text)
                    }
                    ('?', None) => {
                        let text = self.expand_text(word, streams).await?;
                        let text =
                            if text.is_empty() { "parameter null or not set".to_owned() } else { text };
                        self.complain(streams, &format!("{name}: {text}")).await;
                        Err(Stop::Exit(127))
                    }
                    (_, None) => self.expand_text(word, streams).await,
                }
            }
        }
    }

    /// Replaces a pattern by the names that match it, or leaves it as it is.
    fn match_names(&self, field: &Field, arguments: &mut Vec<String>) {
        if field.is_pattern() && !self.options.noglob {
            let mut names = self.glob(&field.pattern());
            if !names.is_empty() {
                arguments.append(&mut names);
                return;
            }
        }
        arguments.push(field.text());
    }

    fn glob(&self, pattern: &str) -> Vec<String> {
        let absolute = pattern.starts_with('/');
        let mut found = vec![String::new()];
        for (index, part) in pattern.split('/').enumerate() {
            if part.is_empty() {
                if index > 0 || absolute {
                    found.iter_mut().for_each(|path| path.push('/'));
                }
                continue;
            }
            found = found.iter().flat_map(|base| self.glob_step(base, part)).collect();
            if found.is_empty() || found.len() > 100_000 {
                return Vec::new();
            }
        }
        found
    }

    fn glob_step(&self, base: &str, part: &str) -> Vec<String> {
        let joined = |name: &str| {
            if base.is_empty() || base.ends_with('/') {
                format!("{base}{name}")
            } else {
                format!("{base}/{name}")
            }
        };
        let directory = self.absolute(if base.is_empty() { "." } else { base });
        self.node.files(|files| {
            if !part.contains(['*', '?', '[', '\\']) {
                let name = joined(part);
                return files.stat_link(&self.absolute(&name)).map(|_| vec![name]).unwrap_or_default();
            }
            let names = files.list(&directory).unwrap_or_default();
            let shown = |name: &&String| {
                (!name.starts_with('.') || part.starts_with('.')) && glob_matches(part, name)
            };
            names.iter().filter(shown).map(|name| joined(name)).collect()
        })
    }
}

fn is_quoted(part: &Part) -> bool {
    match part {
        Part::Literal { quoted, .. } | Part::Parameter { quoted, .. } | Part::Substitution { quoted, .. } => {
            *quoted
        }
        Part::Home => true,
    }
}

/// Splits at blanks: text before the first joins the last field, text after the last begins a new one.
fn push_split(fields: &mut Vec<Field>, text: &str) {
    let mut first = true;
    for piece in text.split([' ', '\t', '\n']) {
        if !first && fields.last().is_some_and(|field| field.present) {
            fields.push(Field::default());
        }
        first = false;
        if let Some(field) = fields.last_mut().filter(|_| !piece.is_empty()) {
            field.push(piece, false);
        }
    }
}

fn trim(value: &str, kind: char, longest: bool, pattern: &str) -> String {
    let mut cuts: Vec<usize> = value.char_indices().map(|(index, _)| index).chain([value.len()]).collect();
    // A suffix is longest when cut early, a prefix when cut late.
    if (kind == '#') == longest {
        cuts.reverse();
    }
    let (prefix, cut_matches) = (kind == '#', |cut: &usize| {
        glob_matches(pattern, if kind == '#' { &value[..*cut] } else { &value[*cut..] })
    });
    match cuts.into_iter().find(|cut| cut_matches(cut)) {
        Some(cut) if prefix => value[cut..].to_owned(),
        Some(cut) => value[..cut].to_owned(),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_suffixes_are_trimmed_short_or_long() {
        for (kind, longest, pattern, expect) in [
            ('%', false, ".*", "/a/b.tar"),
            ('%', true, ".*", "/a/b"),
            ('#', false, "*/", "a/b.tar.gz"),
            ('#', true, "*/", "b.tar.gz"),
            ('#', false, "x", "/a/b.tar.gz"),
        ] {
            assert_eq!(trim("/a/b.tar.gz", kind, longest, pattern), expect);
        }
    }
}
