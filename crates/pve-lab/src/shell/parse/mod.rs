//! From a command line to its [`List`]: the subset of the POSIX shell that deployers use.
//!
//! A construct outside the subset is refused before anything runs.

mod heredocs;
mod words;

use super::ast::{Command, Connector, Item, Kind, List, Part, Pipeline, Redirect, Target, Word};
use heredocs::fill_heredocs;
use words::{is_meta, is_name, set_quoted};

/// Deeper nesting is refused, so that no input can exhaust the stack.
const MAX_DEPTH: u32 = 24;
/// Words that begin or end something, where a command may stand.
const RESERVED: [&str; 17] = [
    "if", "then", "elif", "else", "fi", "for", "do", "done", "while", "until", "case", "esac", "in", "{",
    "}", "!", "[[",
];
const UNKNOWN_WORDS: [&str; 5] = ["[[", "function", "select", "coproc", "time"];

/// Why a command line is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SyntaxError {
    /// Not shell grammar; the text is bash's.
    #[error("syntax error {0}")]
    Syntax(String),
    /// Shell grammar that the lab does not have.
    #[error("the lab's shell does not know {0}")]
    Unknown(String),
}

type Parsed<T> = Result<T, SyntaxError>;

fn unexpected(token: &str) -> SyntaxError {
    SyntaxError::Syntax(format!("near unexpected token `{token}'"))
}

fn unterminated(what: &str) -> SyntaxError {
    SyntaxError::Syntax(format!("unexpected EOF while looking for matching `{what}'"))
}

fn unknown(what: &str) -> SyntaxError {
    SyntaxError::Unknown(format!("`{what}`"))
}

/// Parses a whole command line or script.
///
/// # Errors
/// [`SyntaxError`]; then nothing of it must run.
pub(crate) fn parse(script: &str) -> Parsed<List> {
    if script.contains('\0') {
        return Err(unknown("a NUL byte"));
    }
    let mut parser =
        Parser { text: script.chars().collect(), at: 0, depth: 0, heredocs: Vec::new(), bodies: Vec::new() };
    let mut list = parser.list(&[])?;
    parser.skip_blank();
    if let Some(rest) = parser.operator_here() {
        return Err(unexpected(&rest));
    }
    if parser.at < parser.text.len() {
        let word = parser.peek_word();
        return Err(unexpected(&word));
    }
    if !parser.heredocs.is_empty() {
        parser.read_heredocs()?;
    }
    fill_heredocs(&mut list, &parser.bodies);
    Ok(list)
}

struct Heredoc {
    number: usize,
    delimiter: String,
    quoted: bool,
    strip_tabs: bool,
}

struct Parser {
    text: Vec<char>,
    at: usize,
    depth: u32,
    heredocs: Vec<Heredoc>,
    bodies: Vec<Word>,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += 1;
        Some(character)
    }

    fn eat(&mut self, text: &str) -> bool {
        let matches =
            text.chars().enumerate().all(|(index, character)| self.peek_at(index) == Some(character));
        if matches {
            self.at += text.chars().count();
        }
        matches
    }

    fn skip_blank(&mut self) {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r') => self.at += 1,
                Some('\\') if self.peek_at(1) == Some('\n') => self.at += 2,
                Some('#') => {
                    while self.peek().is_some_and(|character| character != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn skip_newlines(&mut self) -> Parsed<()> {
        loop {
            self.skip_blank();
            if self.peek() != Some('\n') {
                return Ok(());
            }
            self.at += 1;
            self.read_heredocs()?;
        }
    }

    fn enter(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(SyntaxError::Unknown("nesting this deep".into())) } else { Ok(()) }
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    /// The operator at this place, for messages.
    fn operator_here(&self) -> Option<String> {
        let character = self.peek()?;
        if !matches!(character, '&' | '|' | ';' | '(' | ')' | '<' | '>' | '\n') {
            return None;
        }
        let doubled = self.peek_at(1) == Some(character) && matches!(character, '&' | '|' | ';' | '<' | '>');
        Some(match character {
            '\n' => "newline".into(),
            _ if doubled => format!("{character}{character}"),
            _ => character.to_string(),
        })
    }

    /// The unquoted word at this place, without moving.
    fn peek_word(&self) -> String {
        self.text[self.at..].iter().take_while(|character| !is_meta(**character)).collect()
    }

    fn at_reserved(&self, word: &str) -> bool {
        self.peek_word() == word
    }

    fn expect_reserved(&mut self, word: &str) -> Parsed<()> {
        self.skip_newlines()?;
        if !self.at_reserved(word) {
            return Err(self.what_is_here());
        }
        self.at += word.len();
        Ok(())
    }

    fn what_is_here(&self) -> SyntaxError {
        match self.operator_here() {
            Some(operator) => unexpected(&operator),
            None if self.at >= self.text.len() => SyntaxError::Syntax("unexpected end of file".into()),
            None => unexpected(&self.peek_word()),
        }
    }

    // ---- lists and pipelines

    /// Commands up to one of the reserved words, a closing bracket or the end.
    fn list(&mut self, ends: &[&str]) -> Parsed<List> {
        self.enter()?;
        let mut items = List::new();
        loop {
            self.skip_newlines()?;
            if self.at_end_of_list(ends) {
                break;
            }
            let mut item = self.and_or()?;
            self.skip_blank();
            let separated = match (self.peek(), self.peek_at(1)) {
                (Some(';'), Some(';')) => false,
                (Some(';'), _) => self.eat(";"),
                (Some('&'), _) => {
                    self.at += 1;
                    item.background = true;
                    true
                }
                (Some('\n'), _) => true,
                _ => false,
            };
            items.push(item);
            if !separated {
                break;
            }
        }
        self.leave();
        Ok(items)
    }

    fn at_end_of_list(&self, ends: &[&str]) -> bool {
        match self.peek() {
            None | Some(')') => true,
            Some(';') if self.peek_at(1) == Some(';') => true,
            _ => ends.iter().any(|end| self.at_reserved(end)),
        }
    }

    fn filled_list(&mut self, ends: &[&str]) -> Parsed<List> {
        let list = self.list(ends)?;
        if list.is_empty() { Err(self.what_is_here()) } else { Ok(list) }
    }

    fn and_or(&mut self) -> Parsed<Item> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            self.skip_blank();
            let connector = if self.eat("&&") {
                Connector::And
            } else if self.eat("||") {
                Connector::Or
            } else {
                return Ok(Item { first, rest, background: false });
            };
            self.skip_newlines()?;
            rest.push((connector, self.pipeline()?));
        }
    }

    fn pipeline(&mut self) -> Parsed<Pipeline> {
        let mut negated = false;
        self.skip_blank();
        while self.at_reserved("!") {
            self.at += 1;
            negated = !negated;
            self.skip_blank();
        }
        let mut commands = vec![self.command()?];
        loop {
            self.skip_blank();
            if self.peek() != Some('|') || self.peek_at(1) == Some('|') {
                return Ok(Pipeline { negated, commands });
            }
            self.at += 1;
            if self.peek() == Some('&') {
                return Err(unknown("|&"));
            }
            self.skip_newlines()?;
            commands.push(self.command()?);
        }
    }

    // ---- commands

    fn command(&mut self) -> Parsed<Command> {
        self.enter()?;
        self.skip_blank();
        let word = self.peek_word();
        if UNKNOWN_WORDS.contains(&word.as_str()) {
            return Err(unknown(&word));
        }
        let kind = match word.as_str() {
            "if" => Some(self.if_command()?),
            "for" => Some(self.for_command()?),
            "while" | "until" => Some(self.while_command(word == "until")?),
            "case" => Some(self.case_command()?),
            "{" => Some(self.group()?),
            _ if self.peek() == Some('(') => Some(self.subshell()?),
            _ => None,
        };
        let command = match kind {
            Some(kind) => Command { kind, redirects: self.redirects()? },
            None => self.simple()?,
        };
        self.leave();
        Ok(command)
    }

    fn group(&mut self) -> Parsed<Kind> {
        self.at += 1;
        let list = self.filled_list(&["}"])?;
        self.expect_reserved("}")?;
        Ok(Kind::Group(list))
    }

    fn subshell(&mut self) -> Parsed<Kind> {
        self.at += 1;
        if self.peek() == Some('(') {
            return Err(unknown("(("));
        }
        let list = self.filled_list(&[])?;
        self.skip_newlines()?;
        if !self.eat(")") {
            return Err(self.what_is_here());
        }
        Ok(Kind::Subshell(list))
    }

    fn if_command(&mut self) -> Parsed<Kind> {
        self.at += 2;
        let mut branches = Vec::new();
        loop {
            let condition = self.filled_list(&["then"])?;
            self.expect_reserved("then")?;
            let body = self.filled_list(&["elif", "else", "fi"])?;
            branches.push((condition, body));
            self.skip_newlines()?;
            if self.at_reserved("elif") {
                self.at += 4;
                continue;
            }
            let otherwise = if self.at_reserved("else") {
                self.at += 4;
                Some(self.filled_list(&["fi"])?)
            } else {
                None
            };
            self.expect_reserved("fi")?;
            return Ok(Kind::If { branches, otherwise });
        }
    }

    fn while_command(&mut self, until: bool) -> Parsed<Kind> {
        self.at += 5;
        let condition = self.filled_list(&["do"])?;
        Ok(Kind::While { until, condition, body: self.do_group()? })
    }

    fn do_group(&mut self) -> Parsed<List> {
        self.expect_reserved("do")?;
        let body = self.filled_list(&["done"])?;
        self.expect_reserved("done")?;
        Ok(body)
    }

    fn for_command(&mut self) -> Parsed<Kind> {
        self.at += 3;
        self.skip_blank();
        let name = self.peek_word();
        if !is_name(&name) {
            return Err(self.what_is_here());
        }
        self.at += name.len();
        self.skip_newlines()?;
        let words = if self.at_reserved("in") {
            self.at += 2;
            let mut words = Vec::new();
            while let Some(word) = self.word()? {
                words.push(word);
            }
            Some(words)
        } else {
            None
        };
        self.skip_blank();
        self.eat(";");
        Ok(Kind::For { name, words, body: self.do_group()? })
    }

    fn case_command(&mut self) -> Parsed<Kind> {
        self.at += 4;
        let word = self.word()?.ok_or_else(|| self.what_is_here())?;
        self.expect_reserved("in")?;
        let mut arms = Vec::new();
        loop {
            self.skip_newlines()?;
            if self.at_reserved("esac") {
                break;
            }
            self.eat("(");
            let mut patterns = Vec::new();
            loop {
                patterns.push(self.word()?.ok_or_else(|| self.what_is_here())?);
                self.skip_blank();
                if !self.eat("|") {
                    break;
                }
            }
            if !self.eat(")") {
                return Err(self.what_is_here());
            }
            arms.push((patterns, self.list(&["esac"])?));
            self.skip_newlines()?;
            if !self.eat(";;") {
                break;
            }
        }
        self.expect_reserved("esac")?;
        Ok(Kind::Case { word, arms })
    }

    fn redirects(&mut self) -> Parsed<Vec<Redirect>> {
        let mut all = Vec::new();
        while let Some(found) = self.redirect()? {
            all.extend(found);
        }
        Ok(all)
    }

    fn simple(&mut self) -> Parsed<Command> {
        let (mut assignments, mut words, mut redirects) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            if let Some(found) = self.redirect()? {
                redirects.extend(found);
                continue;
            }
            if words.is_empty() {
                let text = self.peek_word();
                if assignments.is_empty() && redirects.is_empty() && RESERVED.contains(&text.as_str()) {
                    return Err(unexpected(&text));
                }
                if let Some(assignment) = self.assignment()? {
                    assignments.push(assignment);
                    continue;
                }
            }
            match self.word()? {
                Some(word) => words.push(word),
                None => break,
            }
        }
        if self.peek() == Some('(') {
            return Err(if words.len() == 1 {
                SyntaxError::Unknown("functions".into())
            } else {
                unexpected("(")
            });
        }
        if words.is_empty() && assignments.is_empty() && redirects.is_empty() {
            return Err(self.what_is_here());
        }
        Ok(Command { kind: Kind::Simple { assignments, words }, redirects })
    }

    fn assignment(&mut self) -> Parsed<Option<(String, Word)>> {
        self.skip_blank();
        let name: String = self.text[self.at..]
            .iter()
            .take_while(|character| character.is_ascii_alphanumeric() || **character == '_')
            .collect();
        if !is_name(&name) || self.peek_at(name.len()) != Some('=') {
            return Ok(None);
        }
        self.at += name.len() + 1;
        if self.peek() == Some('(') {
            return Err(SyntaxError::Unknown("arrays".into()));
        }
        let value =
            if self.peek().is_none_or(is_meta) { Word::new() } else { self.word()?.unwrap_or_default() };
        Ok(Some((name, value)))
    }

    fn redirect(&mut self) -> Parsed<Option<Vec<Redirect>>> {
        self.skip_blank();
        let start = self.at;
        let digits: String =
            self.text[self.at..].iter().take_while(|character| character.is_ascii_digit()).collect();
        self.at += digits.len();
        if digits.is_empty() && self.eat("&>") {
            let append = self.eat(">");
            let word = self.redirect_word()?;
            let target = if append { Target::Append(word) } else { Target::Write(word) };
            return Ok(Some(vec![
                Redirect { fd: 1, target },
                Redirect { fd: 2, target: Target::Duplicate(1) },
            ]));
        }
        let Some(direction @ ('<' | '>')) = self.peek() else {
            self.at = start;
            return Ok(None);
        };
        self.at += 1;
        let fd = match digits.as_str() {
            "" => u8::from(direction == '>'),
            "0" => 0,
            "1" => 1,
            "2" => 2,
            other => return Err(SyntaxError::Unknown(format!("file descriptor {other}"))),
        };
        let target = if direction == '>' { self.output_target()? } else { self.input_target()? };
        Ok(Some(vec![Redirect { fd, target }]))
    }

    fn redirect_word(&mut self) -> Parsed<Word> {
        self.skip_blank();
        if matches!(self.peek(), Some('(')) {
            return Err(SyntaxError::Unknown("process substitution".into()));
        }
        self.word()?.ok_or_else(|| match self.peek() {
            None => unexpected("newline"),
            Some(_) => self.what_is_here(),
        })
    }

    fn output_target(&mut self) -> Parsed<Target> {
        if self.eat(">") {
            return Ok(Target::Append(self.redirect_word()?));
        }
        if self.eat("&") {
            return self.duplicate();
        }
        self.eat("|");
        Ok(Target::Write(self.redirect_word()?))
    }

    fn input_target(&mut self) -> Parsed<Target> {
        if self.eat("<<") {
            return Ok(Target::Text(self.here_string()?));
        }
        if self.eat("<") {
            return self.heredoc();
        }
        if self.eat("&") {
            return self.duplicate();
        }
        if self.peek() == Some('>') {
            return Err(unknown("<>"));
        }
        Ok(Target::Read(self.redirect_word()?))
    }

    fn duplicate(&mut self) -> Parsed<Target> {
        match self.next() {
            Some('-') => Ok(Target::Close),
            Some(digit @ '0'..='2') if self.peek().is_none_or(is_meta) => {
                Ok(Target::Duplicate(digit as u8 - b'0'))
            }
            _ => Err(SyntaxError::Unknown("this form of `>&`".into())),
        }
    }

    fn here_string(&mut self) -> Parsed<Word> {
        let mut word = self.redirect_word()?;
        for part in &mut word {
            set_quoted(part);
        }
        word.push(Part::Literal { text: "\n".into(), quoted: true });
        Ok(word)
    }
}

#[cfg(test)]
mod tests;
