//! Programs that run other programs.

use std::sync::Arc;

use super::options::Options;
use super::{Context, Exit};
use crate::shell::process::{KILL, TERM, signal_number};
use crate::shell::run::{Ended, Shell};

/// Runs another command line in the same process.
async fn pass(context: &Context, arguments: &[String]) -> Exit {
    if context.depth > 16 {
        return context.fail(126, "the lab does not nest commands this deep").await;
    }
    let mut inner = context.again();
    inner.depth += 1;
    match super::run(inner, arguments.to_vec()).await {
        Ended::Status(status) => Ok(status),
        Ended::Signal(signal) => Ok(128 + signal),
    }
}

pub(super) async fn env(context: &Context, name: &str, arguments: &[String]) -> Exit {
    let mut inner = context.again();
    let mut rest = arguments;
    while let Some(first) = rest.first() {
        if let Some((name, value)) = first.split_once('=') {
            inner.variables.insert(name.to_owned(), value.to_owned());
        } else if first == "-i" {
            inner.variables.clear();
        } else if first.starts_with('-') {
            return context.fail(125, format!("{name}: the lab does not know the option {first}")).await;
        } else {
            break;
        }
        rest = &rest[1..];
    }
    if name == "printenv" && !rest.is_empty() {
        return match inner.variables.get(&rest[0]) {
            Some(value) => context.line(value).await.map(|()| 0),
            None => Ok(1),
        };
    }
    if rest.is_empty() {
        for (name, value) in &inner.variables {
            context.line(format!("{name}={value}")).await?;
        }
        return Ok(0);
    }
    pass(&inner, rest).await
}

pub(super) async fn pass_on(context: &Context, name: &str, arguments: &[String]) -> Exit {
    let known: &[&str] = match name {
        "setsid" => &["w|wait", "f|fork", "c"],
        "nice" => &["n|adjustment="],
        _ => &["c|class=", "n|classdata=", "t"],
    };
    // The list is one of the three above, whose entries live as long as the program.
    let known: Vec<&'static str> = known.to_vec();
    let options = match Options::parse_leading(arguments, &known) {
        Ok(options) => options,
        Err(text) => return context.fail(1, format!("{name}: {text}")).await,
    };
    if options.has("f") {
        return context.fail(1, format!("{name}: the lab does not know the option -f; use `&`")).await;
    }
    if name == "setsid" {
        context.process.lead_own_group();
    }
    if options.operands.is_empty() {
        return context.fail(1, format!("{name}: no command specified")).await;
    }
    pass(context, &options.operands).await
}

pub(super) async fn timeout(context: &Context, arguments: &[String]) -> Exit {
    let known = &["k|kill-after=", "s|signal=", "foreground", "preserve-status", "v|verbose"];
    let options = match Options::parse_leading(arguments, known) {
        Ok(options) => options,
        Err(text) => {
            return context
                .fail(125, format!("timeout: {text}\nTry 'timeout --help' for more information."))
                .await;
        }
    };
    let Some((limit, command)) = options.operands.split_first().filter(|(_, command)| !command.is_empty())
    else {
        return context
            .fail(125, "timeout: missing operand\nTry 'timeout --help' for more information.")
            .await;
    };
    let Some(limit) = super::system::duration_of(limit) else {
        return context
            .fail(
                125,
                format!(
                    "timeout: invalid time interval ‘{limit}’\nTry 'timeout --help' for more information."
                ),
            )
            .await;
    };
    let kill_after = match options.value("k").map(super::system::duration_of) {
        Some(None) => return context.fail(125, "timeout: invalid time interval").await,
        other => other.flatten(),
    };
    let signal = match options.value("s").map_or(Some(TERM), signal_number) {
        Some(signal) => signal,
        None => {
            return context
                .fail(125, format!("timeout: {}: invalid signal", options.value("s").unwrap_or_default()))
                .await;
        }
    };
    // The command is a process of its own in the group, so that the limit ends it and not `timeout`.
    let running = context.node.processes.start(Some(context.process.group()), &command.join(" "));
    let child = Arc::clone(&running.process);
    let mut inner = context.again();
    inner.process = Arc::clone(&child);
    inner.depth += 1;
    let command = command.to_vec();
    if inner.depth > 16 {
        return context.fail(126, "the lab does not nest commands this deep").await;
    }
    let mut work = tokio::spawn(async move {
        let ended = super::run(inner, command).await;
        drop(running);
        ended
    });
    let no_limit = limit.is_zero();
    let (ended, timed_out) = tokio::select! {
        ended = &mut work => (ended, false),
        sent = context.process.signalled() => {
            child.send(sent);
            (work.await, false)
        }
        () = tokio::time::sleep(limit), if !no_limit => {
            child.send(signal);
            match kill_after {
                None => (work.await, true),
                Some(after) => match tokio::time::timeout(after, &mut work).await {
                    Ok(ended) => (ended, true),
                    Err(_) => {
                        child.send(KILL);
                        let _ = work.await;
                        return Ok(128 + KILL);
                    }
                },
            }
        }
    };
    let status = ended.map_or(128 + KILL, Ended::status);
    Ok(if timed_out && !options.has("preserve-status") {
        if signal == KILL { 128 + KILL } else { 124 }
    } else {
        status
    })
}

pub(super) async fn shell(context: &Context, name: &str, arguments: &[String]) -> Exit {
    let mut rest = arguments;
    let mut errexit = false;
    let mut script = None;
    while let Some(first) = rest.first().filter(|first| first.len() > 1 && first.starts_with('-')) {
        rest = &rest[1..];
        if first == "--" {
            break;
        }
        for letter in first[1..].chars() {
            match letter {
                'e' => errexit = true,
                'c' => script = Some(()),
                'l' => {}
                _ => {
                    return context
                        .fail(2, format!("{name}: the lab does not know the option {first}"))
                        .await;
                }
            }
        }
        if script.is_some() {
            break;
        }
    }
    let (text, positional) = match (script, rest.split_first()) {
        (Some(()), Some((text, rest))) => (text.clone(), rest),
        (Some(()), None) => return context.fail(2, format!("{name}: -c: option requires an argument")).await,
        (None, None) => {
            (String::from_utf8_lossy(&context.read_all(1 << 20).await).into_owned(), &[] as &[String])
        }
        (None, Some((argument, rest))) if argument == "-s" => {
            (String::from_utf8_lossy(&context.read_all(1 << 20).await).into_owned(), rest)
        }
        (None, Some((file, rest))) => match context.node.files(|files| files.read(&context.absolute(file))) {
            Ok(bytes) => (String::from_utf8_lossy(&bytes).into_owned(), rest),
            Err(error) => return context.fail(127, format!("{name}: {file}: {error}")).await,
        },
    };
    let mut shell = Shell::within(context, name);
    shell.options.errexit = errexit;
    if script.is_some()
        && let Some((zero, values)) = positional.split_first()
    {
        shell.name = zero.clone();
        shell.positional = values.to_vec();
    } else {
        shell.positional = positional.to_vec();
    }
    let streams = context.streams.clone();
    let process = Arc::clone(&context.process);
    let mut work = Box::pin(async move { shell.run_script(&text, &streams).await });
    tokio::select! {
        status = &mut work => Ok(status),
        signal = process.signalled() => Ok(128 + signal),
    }
}

pub(super) async fn sudo(context: &Context, arguments: &[String]) -> Exit {
    let options = match Options::parse_leading(
        arguments,
        &["n|non-interactive", "u|user=", "H|set-home", "E|preserve-env", "S|stdin", "k", "v", "l", "i", "s"],
    ) {
        Ok(options) => options,
        Err(text) => return context.fail(1, format!("sudo: {text}")).await,
    };
    if ["i", "s", "l"].iter().any(|option| options.has(option)) {
        return context.fail(1, "sudo: the lab knows `sudo [-n] [-u root] COMMAND` only").await;
    }
    match options.value("u") {
        None | Some("root") => {}
        Some(user) => {
            return context
                .fail(
                    1,
                    format!("sudo: unknown user {user}\nsudo: error initializing audit plugin sudoers_audit"),
                )
                .await;
        }
    }
    if options.operands.is_empty() {
        let quiet = options.has("v") || options.has("k");
        return if quiet { Ok(0) } else { context.fail(1, "usage: sudo -h | -K | -k | -V").await };
    }
    pass(context, &options.operands).await
}
