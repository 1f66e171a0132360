//! Words: quotes, expansions, and what cannot be one.

use super::super::ast::{Operation, Part, Word};
use super::{Parsed, Parser, SyntaxError, unknown, unterminated};

impl Parser {
    pub(super) fn word(&mut self) -> Parsed<Option<Word>> {
        self.skip_blank();
        if self.peek().is_none_or(is_meta) {
            return Ok(None);
        }
        let mut word = Word::new();
        if self.peek() == Some('~') && self.peek_at(1).is_none_or(|next| is_meta(next) || next == '/') {
            self.at += 1;
            word.push(Part::Home);
        }
        let start = self.at;
        while let Some(character) = self.peek() {
            if is_meta(character) {
                break;
            }
            self.word_part(&mut word, character)?;
        }
        refuse_braces(&self.text[start..self.at])?;
        Ok(Some(word))
    }

    pub(super) fn word_part(&mut self, word: &mut Word, character: char) -> Parsed<()> {
        match character {
            '\'' => {
                self.at += 1;
                let text = self.until('\'')?;
                word.push(Part::Literal { text, quoted: true });
            }
            '"' => {
                self.at += 1;
                word.push(Part::Literal { text: String::new(), quoted: true });
                self.quoted_parts(word, Some('"'))?;
            }
            '\\' => {
                self.at += 1;
                match self.next() {
                    Some('\n') => {}
                    Some(escaped) => push_literal(word, escaped, true),
                    None => push_literal(word, '\\', true),
                }
            }
            '$' => self.dollar(word, false)?,
            '`' => self.backquoted(word, false)?,
            other => {
                self.at += 1;
                push_literal(word, other, false);
            }
        }
        Ok(())
    }

    pub(super) fn until(&mut self, end: char) -> Parsed<String> {
        let mut text = String::new();
        loop {
            match self.next() {
                Some(character) if character == end => return Ok(text),
                Some(character) => text.push(character),
                None => return Err(unterminated(&end.to_string())),
            }
        }
    }

    /// The inside of double quotes up to `end`, or of a here-document up to its end.
    pub(super) fn quoted_parts(&mut self, word: &mut Word, end: Option<char>) -> Parsed<()> {
        loop {
            match self.peek() {
                None if end.is_none() => return Ok(()),
                None => return Err(unterminated("\"")),
                Some(character) if Some(character) == end => {
                    self.at += 1;
                    return Ok(());
                }
                Some('\\') => {
                    self.at += 1;
                    match self.next() {
                        Some('\n') => {}
                        Some(escaped @ ('$' | '`' | '\\')) => push_literal(word, escaped, true),
                        Some('"') if end.is_some() => push_literal(word, '"', true),
                        Some(other) => {
                            push_literal(word, '\\', true);
                            push_literal(word, other, true);
                        }
                        None => push_literal(word, '\\', true),
                    }
                }
                Some('$') => self.dollar(word, true)?,
                Some('`') => self.backquoted(word, true)?,
                Some(other) => {
                    self.at += 1;
                    push_literal(word, other, true);
                }
            }
        }
    }

    pub(super) fn dollar(&mut self, word: &mut Word, quoted: bool) -> Parsed<()> {
        self.at += 1;
        match self.peek() {
            Some('(') if self.peek_at(1) == Some('(') => Err(unknown("$((")),
            Some('(') => {
                self.at += 1;
                let list = self.list(&[])?;
                self.skip_newlines()?;
                if !self.eat(")") {
                    return Err(unterminated(")"));
                }
                word.push(Part::Substitution { list, quoted });
                Ok(())
            }
            Some('{') => {
                self.at += 1;
                let part = self.braced(quoted)?;
                word.push(part);
                Ok(())
            }
            Some('\'') if !quoted => {
                self.at += 1;
                let text = self.ansi_quoted()?;
                word.push(Part::Literal { text, quoted: true });
                Ok(())
            }
            Some('"') if !quoted => Err(unknown("$\"")),
            Some('[') => Err(unknown("$[")),
            Some(special @ ('?' | '$' | '!' | '#' | '@' | '*' | '-' | '0'..='9')) => {
                self.at += 1;
                word.push(Part::Parameter { name: special.to_string(), operation: None, quoted });
                Ok(())
            }
            Some(first) if first.is_ascii_alphabetic() || first == '_' => {
                let name = self.name();
                word.push(Part::Parameter { name, operation: None, quoted });
                Ok(())
            }
            _ => {
                push_literal(word, '$', true);
                Ok(())
            }
        }
    }

    pub(super) fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(character) =
            self.peek().filter(|character| character.is_ascii_alphanumeric() || *character == '_')
        {
            name.push(character);
            self.at += 1;
        }
        name
    }

    pub(super) fn braced(&mut self, quoted: bool) -> Parsed<Part> {
        if self.peek() == Some('#') && self.peek_at(1) != Some('}') {
            self.at += 1;
            let name = self.parameter_name()?;
            if !self.eat("}") {
                return Err(SyntaxError::Unknown("this form of `${#…}`".into()));
            }
            return Ok(Part::Parameter { name, operation: Some(Operation::Length), quoted });
        }
        let name = self.parameter_name()?;
        let operation = match self.peek() {
            Some('}') => None,
            _ => Some(self.operation(quoted)?),
        };
        if !self.eat("}") {
            return Err(unterminated("}"));
        }
        Ok(Part::Parameter { name, operation, quoted })
    }

    pub(super) fn parameter_name(&mut self) -> Parsed<String> {
        let mut name = self.name();
        if name.is_empty() {
            match self.next() {
                Some(special @ ('?' | '$' | '!' | '#' | '@' | '*' | '-')) => name.push(special),
                _ => return Err(SyntaxError::Unknown("this form of `${…}`".into())),
            }
        }
        Ok(name)
    }

    pub(super) fn operation(&mut self, quoted: bool) -> Parsed<Operation> {
        let empty_is_unset = self.eat(":");
        match self.next() {
            Some(kind @ ('-' | '=' | '?' | '+')) => {
                Ok(Operation::Default { kind, empty_is_unset, word: self.braced_word(quoted)? })
            }
            Some(kind @ ('#' | '%')) if !empty_is_unset => {
                let longest = self.eat(&kind.to_string());
                Ok(Operation::Trim { kind, longest, pattern: self.braced_word(false)? })
            }
            _ => Err(SyntaxError::Unknown("this form of `${…}`".into())),
        }
    }

    pub(super) fn braced_word(&mut self, quoted: bool) -> Parsed<Word> {
        self.enter()?;
        let mut word = Word::new();
        loop {
            match self.peek() {
                None => return Err(unterminated("}")),
                Some('}') => break,
                Some('\'') if quoted => {
                    self.at += 1;
                    push_literal(&mut word, '\'', true);
                }
                Some(character) => self.word_part(&mut word, character)?,
            }
        }
        self.leave();
        Ok(word)
    }

    pub(super) fn backquoted(&mut self, word: &mut Word, quoted: bool) -> Parsed<()> {
        self.at += 1;
        let mut script = String::new();
        loop {
            match self.next() {
                None => return Err(unterminated("`")),
                Some('`') => break,
                Some('\\') => match self.next() {
                    Some(escaped @ ('`' | '\\' | '$')) => script.push(escaped),
                    Some('"') if quoted => script.push('"'),
                    Some(other) => script.extend(['\\', other]),
                    None => script.push('\\'),
                },
                Some(character) => script.push(character),
            }
        }
        self.enter()?;
        let mut inner = Parser {
            text: script.chars().collect(),
            at: 0,
            depth: self.depth,
            heredocs: Vec::new(),
            bodies: Vec::new(),
        };
        let list = inner.list(&[])?;
        if inner.at < inner.text.len() || !inner.heredocs.is_empty() {
            return Err(inner.what_is_here());
        }
        self.leave();
        word.push(Part::Substitution { list, quoted });
        Ok(())
    }

    pub(super) fn ansi_quoted(&mut self) -> Parsed<String> {
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(unterminated("'")),
                Some('\'') => return Ok(text),
                Some('\\') => match self.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some('e') => text.push('\u{1b}'),
                    Some(plain @ ('\\' | '\'' | '"' | '?')) => text.push(plain),
                    _ => return Err(SyntaxError::Unknown("this escape in `$'…'`".into())),
                },
                Some(character) => text.push(character),
            }
        }
    }
}

pub(super) fn is_meta(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n' | '&' | '|' | ';' | '(' | ')' | '<' | '>')
}

pub(super) fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|character| character.is_ascii_alphanumeric() || character == '_')
}

fn push_literal(word: &mut Word, character: char, quoted: bool) {
    if let Some(Part::Literal { text, quoted: same }) = word.last_mut()
        && *same == quoted
    {
        text.push(character);
        return;
    }
    word.push(Part::Literal { text: character.to_string(), quoted });
}

pub(super) fn set_quoted(part: &mut Part) {
    match part {
        Part::Literal { quoted, .. } | Part::Parameter { quoted, .. } | Part::Substitution { quoted, .. } => {
            *quoted = true
        }
        Part::Home => {}
    }
}

/// bash would expand `{a,b}` and `{1..3}`; the lab does not, so it must not pass them on as text.
fn refuse_braces(source: &[char]) -> Parsed<()> {
    let (mut quote, mut open, mut several) = (None, 0_u32, false);
    let mut index = 0;
    while index < source.len() {
        let character = source[index];
        match (quote, character) {
            (None | Some('"'), '\\') => index += 1,
            (Some(end), _) if character == end => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(character),
            (None, '$') if source.get(index + 1) == Some(&'{') => {
                quote = Some('}');
                index += 1;
            }
            (None, '$') if source.get(index + 1) == Some(&'(') => return Ok(()),
            (None, '{') => (open, several) = (open + 1, false),
            (None, ',') if open > 0 => several = true,
            (None, '.') if open > 0 && source.get(index + 1) == Some(&'.') => several = true,
            (None, '}') if open > 0 && several => {
                return Err(SyntaxError::Unknown("brace expansion; quote the braces".into()));
            }
            (None, '}') => open = open.saturating_sub(1),
            _ => {}
        }
        index += 1;
    }
    Ok(())
}
