//! Here-documents: read at the end of their line, then put where their numbers are.

use super::super::ast::{Command, Kind, List, Part, Target, Word};
use super::{Heredoc, Parsed, Parser, SyntaxError};

impl Parser {
    pub(super) fn heredoc(&mut self) -> Parsed<Target> {
        let strip_tabs = self.eat("-");
        let word = self.redirect_word()?;
        let mut delimiter = String::new();
        let mut is_quoted = false;
        for part in word {
            match part {
                Part::Literal { text, quoted } => {
                    delimiter.push_str(&text);
                    is_quoted |= quoted;
                }
                _ => return Err(SyntaxError::Unknown("an expansion as the end of a here-document".into())),
            }
        }
        let number = self.bodies.len();
        self.bodies.push(Word::new());
        self.heredocs.push(Heredoc { number, delimiter, quoted: is_quoted, strip_tabs });
        // The number stands in for the body until the line has ended.
        Ok(Target::Text(vec![Part::Parameter { name: format!("\0{number}"), operation: None, quoted: true }]))
    }

    pub(super) fn read_heredocs(&mut self) -> Parsed<()> {
        for heredoc in std::mem::take(&mut self.heredocs) {
            let mut body = String::new();
            loop {
                if self.at >= self.text.len() {
                    break;
                }
                let mut line: String =
                    self.text[self.at..].iter().take_while(|character| **character != '\n').collect();
                self.at += line.chars().count() + 1;
                if heredoc.strip_tabs {
                    line = line.trim_start_matches('\t').to_owned();
                }
                if line == heredoc.delimiter {
                    break;
                }
                body.push_str(&line);
                body.push('\n');
            }
            self.at = self.at.min(self.text.len());
            self.bodies[heredoc.number] = if heredoc.quoted {
                vec![Part::Literal { text: body, quoted: true }]
            } else {
                self.expand_heredoc(&body)?
            };
        }
        Ok(())
    }

    pub(super) fn expand_heredoc(&mut self, body: &str) -> Parsed<Word> {
        let mut inner = Parser {
            text: body.chars().collect(),
            at: 0,
            depth: self.depth,
            heredocs: Vec::new(),
            bodies: Vec::new(),
        };
        let mut word = Word::new();
        inner.quoted_parts(&mut word, None)?;
        Ok(word)
    }
}

pub(super) fn fill_heredocs(list: &mut List, bodies: &[Word]) {
    if bodies.is_empty() {
        return;
    }
    for item in list {
        let pipelines =
            std::iter::once(&mut item.first).chain(item.rest.iter_mut().map(|(_, pipeline)| pipeline));
        for command in pipelines.flat_map(|pipeline| pipeline.commands.iter_mut()) {
            fill_command(command, bodies);
        }
    }
}

fn fill_command(command: &mut Command, bodies: &[Word]) {
    for redirect in &mut command.redirects {
        if let Target::Text(word) = &mut redirect.target
            && let [Part::Parameter { name, .. }] = word.as_slice()
            && let Some(body) = name.strip_prefix('\0').and_then(|number| number.parse::<usize>().ok())
        {
            *word = bodies.get(body).cloned().unwrap_or_default();
        }
    }
    match &mut command.kind {
        Kind::Simple { assignments, words } => {
            words.iter_mut().chain(assignments.iter_mut().map(|(_, word)| word)).flatten().for_each(|part| {
                if let Part::Substitution { list, .. } = part {
                    fill_heredocs(list, bodies);
                }
            });
        }
        Kind::Group(list) | Kind::Subshell(list) => fill_heredocs(list, bodies),
        Kind::If { branches, otherwise } => {
            for (condition, body) in branches {
                fill_heredocs(condition, bodies);
                fill_heredocs(body, bodies);
            }
            otherwise.iter_mut().for_each(|list| fill_heredocs(list, bodies));
        }
        Kind::For { body, .. } => fill_heredocs(body, bodies),
        Kind::While { condition, body, .. } => {
            fill_heredocs(condition, bodies);
            fill_heredocs(body, bodies);
        }
        Kind::Case { arms, .. } => arms.iter_mut().for_each(|(_, list)| fill_heredocs(list, bodies)),
    }
}
