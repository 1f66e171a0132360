//! `test` and `[`.

use super::{Context, Exit};
use crate::vfs::{Kind, Stat};

pub(super) async fn test(context: &Context, name: &str, arguments: &[String]) -> Exit {
    let expression = if name == "[" {
        match arguments.split_last() {
            Some((last, rest)) if last == "]" => rest,
            _ => return context.fail(2, "bash: line 1: [: missing `]'").await,
        }
    } else {
        arguments
    };
    let mut evaluation = Evaluation { context, rest: expression, depth: 0 };
    let value = if expression.is_empty() { Ok(false) } else { evaluation.any() };
    match value {
        Ok(value) if evaluation.rest.is_empty() => Ok(i32::from(!value)),
        Ok(_) => context.fail(2, format!("bash: line 1: {name}: too many arguments")).await,
        Err(text) => context.fail(2, format!("bash: line 1: {name}: {text}")).await,
    }
}

struct Evaluation<'a> {
    context: &'a Context,
    rest: &'a [String],
    depth: u32,
}

impl Evaluation<'_> {
    fn peek(&self, ahead: usize) -> Option<&str> {
        self.rest.get(ahead).map(String::as_str)
    }

    fn skip(&mut self, count: usize) {
        self.rest = &self.rest[count.min(self.rest.len())..];
    }

    fn any(&mut self) -> Result<bool, String> {
        let mut value = self.all()?;
        while self.peek(0) == Some("-o") {
            self.skip(1);
            value |= self.all()?;
        }
        Ok(value)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut value = self.one()?;
        while self.peek(0) == Some("-a") {
            self.skip(1);
            value &= self.one()?;
        }
        Ok(value)
    }

    fn one(&mut self) -> Result<bool, String> {
        self.depth += 1;
        if self.depth > 100 {
            return Err("expression too long".into());
        }
        if let (Some(left), Some(operator), Some(right)) = (self.peek(0), self.peek(1), self.peek(2))
            && let Some(value) = self.binary(left, operator, right)
        {
            let value = value?;
            self.skip(3);
            return Ok(value);
        }
        match self.peek(0) {
            None => Err("argument expected".into()),
            Some("!") if self.rest.len() > 1 => {
                self.skip(1);
                self.one().map(|value| !value)
            }
            Some("(") if self.rest.len() > 1 => {
                self.skip(1);
                let value = self.any()?;
                if self.peek(0) != Some(")") {
                    return Err("`)' expected".into());
                }
                self.skip(1);
                Ok(value)
            }
            Some(operator) if operator.len() == 2 && operator.starts_with('-') && self.rest.len() > 1 => {
                let value = self.unary(operator, self.peek(1).unwrap_or_default())?;
                self.skip(2);
                Ok(value)
            }
            Some(text) => {
                let value = !text.is_empty();
                self.skip(1);
                Ok(value)
            }
        }
    }

    fn stat(&self, path: &str) -> Option<Stat> {
        if path.is_empty() {
            return None;
        }
        self.context.node.files(|files| files.stat(&self.context.absolute(path))).ok()
    }

    fn unary(&self, operator: &str, operand: &str) -> Result<bool, String> {
        let kind = |wanted: Kind| self.stat(operand).is_some_and(|stat| stat.kind == wanted);
        Ok(match operator {
            "-e" | "-a" | "-r" | "-w" => self.stat(operand).is_some(),
            "-f" => kind(Kind::File),
            "-d" => kind(Kind::Directory),
            "-c" => kind(Kind::Device),
            "-b" | "-p" | "-S" | "-t" => false,
            "-x" => {
                self.stat(operand).is_some_and(|stat| stat.kind == Kind::Directory || stat.mode & 0o111 != 0)
                    || super::path_of(operand).is_some_and(|path| path == operand)
            }
            "-s" => self.stat(operand).is_some_and(|stat| stat.size > 0),
            "-L" | "-h" => {
                let path = self.context.absolute(operand);
                self.context
                    .node
                    .files(|files| files.stat_link(&path))
                    .is_ok_and(|stat| stat.kind == Kind::Symlink)
            }
            "-n" => !operand.is_empty(),
            "-z" => operand.is_empty(),
            _ => return Err(format!("{operator}: unary operator expected")),
        })
    }

    fn binary(&self, left: &str, operator: &str, right: &str) -> Option<Result<bool, String>> {
        let number = |text: &str| {
            text.trim().parse::<i64>().map_err(|_| format!("{text}: integer expression expected"))
        };
        let compare = |accept: fn(std::cmp::Ordering) -> bool| -> Result<bool, String> {
            Ok(accept(number(left)?.cmp(&number(right)?)))
        };
        Some(match operator {
            "=" | "==" => Ok(left == right),
            "!=" => Ok(left != right),
            "<" => Ok(left < right),
            ">" => Ok(left > right),
            "-eq" => compare(std::cmp::Ordering::is_eq),
            "-ne" => compare(std::cmp::Ordering::is_ne),
            "-lt" => compare(std::cmp::Ordering::is_lt),
            "-le" => compare(std::cmp::Ordering::is_le),
            "-gt" => compare(std::cmp::Ordering::is_gt),
            "-ge" => compare(std::cmp::Ordering::is_ge),
            "-nt" | "-ot" => {
                let (newer, older) = if operator == "-nt" { (left, right) } else { (right, left) };
                let time = |path: &str| self.stat(path).map(|stat| stat.mtime);
                Ok(time(newer).is_some() && time(newer) > time(older))
            }
            "-ef" => {
                Ok(self.stat(left).is_some() && self.context.absolute(left) == self.context.absolute(right))
            }
            _ => return None,
        })
    }
}
