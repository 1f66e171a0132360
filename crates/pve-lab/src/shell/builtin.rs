//! Commands that the shell does itself, because they change the shell.

use super::io::Streams;
use super::run::{Shell, Stop};
use crate::cli;
use crate::vfs::Kind;

/// Names of the built-in commands, for `command -v` and `type`.
pub(crate) const NAMES: [&str; 25] = [
    ":", ".", "break", "cd", "command", "continue", "eval", "exec", "exit", "export", "false", "hash",
    "jobs", "kill", "read", "return", "set", "shift", "trap", "true", "type", "ulimit", "umask", "unset",
    "wait",
];

/// Runs a built-in; `None` when the name is none.
pub(super) async fn run(
    shell: &mut Shell,
    arguments: &[String],
    streams: &Streams,
) -> Option<Result<i32, Stop>> {
    let (name, rest) = arguments.split_first()?;
    Some(match name.as_str() {
        ":" | "true" => Ok(0),
        "false" => Ok(1),
        "exit" | "return" => Err(Stop::Exit(exit_status(shell, rest))),
        "break" => Err(Stop::Break(level(rest))),
        "continue" => Err(Stop::Continue(level(rest))),
        "cd" => Ok(change_directory(shell, rest, streams).await),
        "pwd" => Ok(i32::from(streams.stdout.line(&shell.directory).await.is_err())),
        "export" | "readonly" | "local" => Ok(export(shell, name, rest, streams).await),
        "unset" => {
            rest.iter().for_each(|name| {
                shell.variables.remove(name);
            });
            Ok(0)
        }
        "set" => Ok(set(shell, rest, streams).await),
        "shift" => {
            let count =
                rest.first().and_then(|count| count.parse().ok()).unwrap_or(1).min(shell.positional.len());
            shell.positional.drain(..count);
            Ok(0)
        }
        "umask" => Ok(umask(shell, rest, streams).await),
        "wait" => Ok(wait(shell, rest).await),
        "eval" => Box::pin(evaluate(shell, &rest.join(" "), streams)).await,
        "exec" => execute(shell, rest, streams).await,
        "command" | "builtin" => return command(shell, rest, streams).await,
        "type" | "hash" => Ok(type_of(rest, streams).await),
        "read" => Ok(read(shell, rest, streams).await),
        "trap" => Ok(trap(shell, rest, streams).await),
        "jobs" => Ok(0),
        "." | "source" | "alias" | "ulimit" | "getopts" | "declare" | "typeset" | "let" | "pushd"
        | "popd" | "shopt" | "disown" => {
            shell.complain(streams, &format!("{name}: the lab's shell does not have this command")).await;
            Ok(127)
        }
        _ => return None,
    })
}

fn exit_status(shell: &Shell, rest: &[String]) -> i32 {
    match rest.first() {
        None => shell.last_status,
        Some(text) => text.parse::<i64>().map_or(2, |status| (status & 255) as i32),
    }
}

fn level(rest: &[String]) -> u32 {
    rest.first().and_then(|level| level.parse().ok()).unwrap_or(1).max(1)
}

async fn change_directory(shell: &mut Shell, rest: &[String], streams: &Streams) -> i32 {
    let rest = if rest.first().is_some_and(|first| first == "--") { &rest[1..] } else { rest };
    let target = match rest.first() {
        Some(target) => target.clone(),
        None => shell.variable("HOME").unwrap_or_else(|| "/root".into()),
    };
    let path = shell.absolute(&target);
    let problem = match shell.node.files(|files| files.stat(&path)) {
        Ok(stat) if stat.kind == Kind::Directory => None,
        Ok(_) => Some("Not a directory".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    match problem {
        None => {
            shell.directory = crate::vfs::normalize("/", &path);
            shell.set_variable("PWD", shell.directory.clone());
            0
        }
        Some(problem) => {
            shell.complain(streams, &format!("cd: {target}: {problem}")).await;
            1
        }
    }
}

async fn export(shell: &mut Shell, name: &str, rest: &[String], streams: &Streams) -> i32 {
    for argument in rest {
        if argument.starts_with('-') {
            shell
                .complain(streams, &format!("{name}: {argument}: the lab's shell does not know this option"))
                .await;
            return 2;
        }
        if let Some((name, value)) = argument.split_once('=') {
            shell.set_variable(name, value.to_owned());
        }
    }
    0
}

async fn set(shell: &mut Shell, rest: &[String], streams: &Streams) -> i32 {
    let mut arguments = rest.iter();
    while let Some(argument) = arguments.next() {
        let on = argument.starts_with('-');
        match argument.as_str() {
            "--" => {
                shell.positional = arguments.cloned().collect();
                return 0;
            }
            "-o" | "+o" => match arguments.next().map(String::as_str) {
                Some("pipefail") => shell.options.pipefail = on,
                Some("errexit") => shell.options.errexit = on,
                Some("nounset") => shell.options.nounset = on,
                other => return unknown_option(shell, other.unwrap_or("-o"), streams).await,
            },
            flags if flags.len() > 1 && flags.starts_with(['-', '+']) => {
                for flag in flags[1..].chars() {
                    match flag {
                        // `set -euo pipefail`
                        'o' => match arguments.next().map(String::as_str) {
                            Some("pipefail") => shell.options.pipefail = on,
                            other => return unknown_option(shell, other.unwrap_or(flags), streams).await,
                        },
                        'e' => shell.options.errexit = on,
                        'u' => shell.options.nounset = on,
                        'f' => shell.options.noglob = on,
                        'm' | 'b' | 'h' => {}
                        _ => return unknown_option(shell, flags, streams).await,
                    }
                }
            }
            _ => {
                shell.positional = std::iter::once(argument).chain(arguments).cloned().collect();
                return 0;
            }
        }
    }
    0
}

async fn unknown_option(shell: &Shell, option: &str, streams: &Streams) -> i32 {
    shell.complain(streams, &format!("set: {option}: the lab's shell does not know this option")).await;
    2
}

async fn umask(shell: &mut Shell, rest: &[String], streams: &Streams) -> i32 {
    match rest.first() {
        None => i32::from(streams.stdout.line(format!("{:04o}", shell.umask)).await.is_err()),
        Some(text) => match u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777) {
            Some(mask) => {
                shell.umask = mask;
                0
            }
            None => {
                shell
                    .complain(streams, &format!("umask: {text}: the lab's shell knows octal masks only"))
                    .await;
                1
            }
        },
    }
}

async fn wait(shell: &mut Shell, rest: &[String]) -> i32 {
    if rest.is_empty() {
        for job in std::mem::take(&mut shell.jobs) {
            let _ = job.handle.await;
        }
        return 0;
    }
    let mut status = 127;
    for argument in rest {
        let index = shell.jobs.iter().position(|job| job.pid.to_string() == *argument);
        status = match index {
            Some(index) => shell.jobs.remove(index).handle.await.unwrap_or(128 + 9),
            None => 127,
        };
    }
    status
}

async fn evaluate(shell: &mut Shell, script: &str, streams: &Streams) -> Result<i32, Stop> {
    match super::parse::parse(script) {
        Ok(list) => shell.run_list(&list, streams).await,
        Err(error) => {
            shell.complain(streams, &format!("eval: {error}")).await;
            Ok(2)
        }
    }
}

async fn execute(shell: &mut Shell, rest: &[String], streams: &Streams) -> Result<i32, Stop> {
    if rest.is_empty() {
        shell.complain(streams, "exec: the lab's shell does not redirect itself").await;
        return Ok(2);
    }
    // The command takes the shell's number, so that who knows the one can end the other.
    if shell.own.is_none() {
        shell.own = shell.exec_target.clone();
    }
    let ended = shell.run_program(rest.to_vec(), Vec::new(), streams).await;
    Err(Stop::Exit(ended.status()))
}

async fn command(shell: &mut Shell, rest: &[String], streams: &Streams) -> Option<Result<i32, Stop>> {
    match rest.first().map(String::as_str) {
        None => Some(Ok(0)),
        Some("-v" | "-V") => {
            let mut status = 0;
            for name in &rest[1..] {
                match cli::path_of(name) {
                    Some(path) => {
                        let _ = streams.stdout.line(path).await;
                    }
                    None if NAMES.contains(&name.as_str()) => {
                        let _ = streams.stdout.line(name).await;
                    }
                    None => status = 1,
                }
            }
            Some(Ok(status))
        }
        Some(_) => {
            if let Some(done) = Box::pin(run(shell, rest, streams)).await {
                return Some(done);
            }
            Some(Ok(shell.run_program(rest.to_vec(), Vec::new(), streams).await.status()))
        }
    }
}

async fn type_of(rest: &[String], streams: &Streams) -> i32 {
    let mut status = 0;
    for name in rest.iter().filter(|name| !name.starts_with('-')) {
        let line = match cli::path_of(name) {
            Some(path) => format!("{name} is {path}"),
            None if NAMES.contains(&name.as_str()) => format!("{name} is a shell builtin"),
            None => {
                status = 1;
                let _ = streams.stderr.line(format!("bash: line 1: type: {name}: not found")).await;
                continue;
            }
        };
        let _ = streams.stdout.line(line).await;
    }
    status
}

async fn read(shell: &mut Shell, rest: &[String], streams: &Streams) -> i32 {
    let names: Vec<&String> = rest.iter().filter(|name| *name != "-r").collect();
    if let Some(option) = names.iter().find(|name| name.starts_with('-')) {
        shell.complain(streams, &format!("read: {option}: the lab's shell does not know this option")).await;
        return 2;
    }
    let Some(line) = streams.stdin.read_line().await else { return 1 };
    let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
    let mut left = text.trim_matches([' ', '\t']);
    for (index, name) in names.iter().enumerate() {
        let (value, after) = if index + 1 == names.len() {
            (left, "")
        } else {
            left.split_once([' ', '\t']).unwrap_or((left, ""))
        };
        shell.set_variable(name, value.to_owned());
        left = after.trim_start_matches([' ', '\t']);
    }
    if names.is_empty() {
        shell.set_variable("REPLY", text);
    }
    i32::from(line.last() != Some(&b'\n'))
}

/// Handlers are not run: only traps that ask for nothing or for the default are taken.
async fn trap(shell: &mut Shell, rest: &[String], streams: &Streams) -> i32 {
    match rest.first().map(String::as_str) {
        None | Some("-") => 0,
        Some(_) => {
            shell.complain(streams, "trap: the lab's shell runs no handlers").await;
            2
        }
    }
}
