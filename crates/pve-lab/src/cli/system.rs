//! Programs about the node: its name, its time, its processes, its neighbors.

use super::files::options;
use super::options::Options;
use super::{Context, Exit};
use crate::calendar::written;
use crate::shell::process::{TERM, signal_number};

pub(super) async fn hostname(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(
        context,
        "hostname",
        arguments,
        &["s|short", "f|fqdn|long", "I|all-ip-addresses", "i|ip-address", "d|domain"]
    );
    let name = &context.node.name;
    let address = || {
        context
            .node
            .world
            .with(|world| world.nodes.get(name).map(|node| node.address.clone()).unwrap_or_default())
    };
    let text = match () {
        () if options.has("I") => format!("{} ", address()),
        () if options.has("i") => address(),
        () if options.has("f") => format!("{name}.lab.test"),
        () if options.has("d") => "lab.test".into(),
        () if options.operands.is_empty() => name.clone(),
        () => return context.fail(1, "hostname: the lab's nodes keep their names").await,
    };
    context.line(text).await.map(|()| 0)
}

pub(super) async fn id(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(context, "id", arguments, &["u|user", "g|group", "G|groups", "n|name"]);
    if let Some(user) = options.operands.iter().find(|user| *user != "root") {
        return context.fail(1, format!("id: ‘{user}’: no such user")).await;
    }
    let numbers = ["u", "g", "G"].iter().any(|option| options.has(option));
    let text = match (numbers, options.has("n")) {
        (true, true) => "root",
        (true, false) => "0",
        (false, _) => "uid=0(root) gid=0(root) groups=0(root)",
    };
    context.line(text).await.map(|()| 0)
}

pub(super) async fn uname(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(
        context,
        "uname",
        arguments,
        &["a|all", "s", "n|nodename", "r|kernel-release", "v", "m|machine", "o", "p", "i"]
    );
    let is_nine = context.node.world.with(|world| world.version.at_least(9, 0));
    let (release, version) = if is_nine {
        ("6.17.4-2-pve", "#1 SMP PREEMPT_DYNAMIC PMX 6.17.4-2 (2025-12-19T07:49Z)")
    } else {
        ("6.8.12-17-pve", "#1 SMP PREEMPT_DYNAMIC PMX 6.8.12-17 (2025-11-21T11:16Z)")
    };
    let all = options.has("a");
    let parts = [
        ("s", "Linux"),
        ("n", &context.node.name),
        ("r", release),
        ("v", version),
        ("m", "x86_64"),
        ("o", "GNU/Linux"),
    ];
    let mut chosen: Vec<&str> =
        parts.iter().filter(|(option, _)| all || options.has(option)).map(|(_, text)| *text).collect();
    if chosen.is_empty() {
        chosen.push("Linux");
    }
    context.line(chosen.join(" ")).await.map(|()| 0)
}

/// Fills a format of `date`.
fn dated(format: &str, seconds: u64, micros: u64) -> Result<String, String> {
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        out.push_str(&match characters.next() {
            Some('s') => seconds.to_string(),
            Some('N') => format!("{:09}", micros * 1000),
            Some('Y') => written(seconds, "%Y"),
            Some('m') => written(seconds, "%m"),
            Some('d') => written(seconds, "%d"),
            Some('e') => written(seconds, "%e"),
            Some('H') => written(seconds, "%H"),
            Some('M') => written(seconds, "%M"),
            Some('S') => written(seconds, "%S"),
            Some('F') => written(seconds, "%F"),
            Some('T') => written(seconds, "%T"),
            Some('a') => written(seconds, "%a"),
            Some('b') => written(seconds, "%b"),
            Some('Z') => "UTC".into(),
            Some('z') => "+0000".into(),
            Some('%') | None => "%".into(),
            Some(other) => return Err(format!("date: the lab does not know %{other}")),
        });
    }
    Ok(out)
}

pub(super) async fn date(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(context, "date", arguments, &["u|utc", "I", "Iseconds", "d|date=", "R"]);
    let now = context.node.world.with(|world| world.now());
    let seconds = match options.value("d") {
        None => now / 1_000_000,
        Some(text) => match text.strip_prefix('@').and_then(|seconds| seconds.parse().ok()) {
            Some(seconds) => seconds,
            None => {
                return context
                    .fail(1, format!("date: the lab knows dates as @SECONDS only, not ‘{text}’"))
                    .await;
            }
        },
    };
    let format = match options.operands.first() {
        Some(operand) => match operand.strip_prefix('+') {
            Some(format) => format,
            None => return context.fail(1, "date: the lab's clock cannot be set").await,
        },
        None if options.has("I") => "%F",
        None => "%a %b %e %H:%M:%S UTC %Y",
    };
    match dated(format, seconds, now % 1_000_000) {
        Ok(text) => context.line(text).await.map(|()| 0),
        Err(text) => context.fail(1, text).await,
    }
}

/// Parses `5`, `0.5`, `2m` into a duration.
pub(super) fn duration_of(text: &str) -> Option<std::time::Duration> {
    let (digits, unit) = match text.chars().next_back()? {
        's' => (&text[..text.len() - 1], 1.0),
        'm' => (&text[..text.len() - 1], 60.0),
        'h' => (&text[..text.len() - 1], 3600.0),
        'd' => (&text[..text.len() - 1], 86_400.0),
        _ => (text, 1.0),
    };
    let plain =
        !digits.is_empty() && digits.chars().all(|character| character.is_ascii_digit() || character == '.');
    let seconds = digits.parse::<f64>().ok().filter(|_| plain)? * unit;
    std::time::Duration::try_from_secs_f64(seconds.min(1e9)).ok()
}

pub(super) async fn sleep(context: &Context, arguments: &[String]) -> Exit {
    if arguments.is_empty() {
        return super::files::missing_operand(context, "sleep").await;
    }
    let mut total = std::time::Duration::ZERO;
    for argument in arguments {
        match duration_of(argument) {
            Some(part) => total += part,
            None => return context
                .fail(
                    1,
                    format!(
                        "sleep: invalid time interval ‘{argument}’\nTry 'sleep --help' for more information."
                    ),
                )
                .await,
        }
    }
    tokio::time::sleep(total).await;
    Ok(0)
}

pub(super) async fn nproc(context: &Context) -> Exit {
    let cpus =
        context.node.world.with(|world| world.nodes.get(&context.node.name).map_or(1, |node| node.spec.cpus));
    context.line(cpus.to_string()).await.map(|()| 0)
}

pub(super) async fn uptime(context: &Context) -> Exit {
    let seconds = context
        .node
        .world
        .with(|world| world.nodes.get(&context.node.name).map_or(0, |node| node.spec.uptime_seconds));
    context
        .line(format!(
            " up {} days, {:02}:{:02},  1 user,  load average: 0.00, 0.00, 0.00",
            seconds / 86_400,
            seconds / 3600 % 24,
            seconds / 60 % 60
        ))
        .await
        .map(|()| 0)
}

/// `kill`: only what the lab itself runs can be reached.
pub(crate) async fn kill(context: &Context, arguments: &[String]) -> Exit {
    let mut rest = arguments;
    let mut signal = TERM;
    while let Some(first) = rest.first().filter(|first| first.len() > 1 && first.starts_with('-')) {
        let (name, used) = match first.as_str() {
            "--" => {
                rest = &rest[1..];
                break;
            }
            "-l" | "-L" => return context.line("HUP INT QUIT KILL TERM").await.map(|()| 0),
            "-s" | "-n" => (rest.get(1).cloned().unwrap_or_default(), 2),
            // After a signal, or as the only argument, `-5` is a process group.
            group if rest.len() < arguments.len() && group[1..].parse::<u32>().is_ok() => break,
            other => (other[1..].to_owned(), 1),
        };
        match signal_number(&name) {
            Some(number) => signal = number,
            None => {
                return context
                    .fail(1, format!("bash: line 1: kill: {name}: invalid signal specification"))
                    .await;
            }
        }
        rest = &rest[used.min(rest.len())..];
    }
    if rest.is_empty() {
        return context.fail(2, "kill: usage: kill [-s sigspec | -n signum | -sigspec] pid | jobspec ... or kill -l [sigspec]").await;
    }
    let mut status = 0;
    for target in rest {
        let found = match target.parse::<i64>() {
            Ok(0) => context.node.processes.signal(-i64::from(context.process.group()), signal),
            Ok(number) => context.node.processes.signal(number, signal),
            Err(_) => {
                context
                    .complain(format!("bash: line 1: kill: {target}: arguments must be process or job IDs"))
                    .await?;
                status = 1;
                continue;
            }
        };
        if !found {
            context.complain(format!("bash: line 1: kill: ({target}) - No such process")).await?;
            status = 1;
        }
    }
    Ok(status)
}

pub(super) async fn ps(context: &Context) -> Exit {
    context.line("    PID  PGID COMMAND").await?;
    for process in context.node.processes.list() {
        context.line(format!("{:>7} {:>5} {}", process.pid, process.group(), process.command)).await?;
    }
    Ok(0)
}

pub(super) async fn ip(context: &Context, arguments: &[String]) -> Exit {
    let words: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| !matches!(*word, "-4" | "-o" | "-br")).collect();
    let as_json = words.contains(&"-j") || words.contains(&"-json");
    let words: Vec<&str> = words.into_iter().filter(|word| !matches!(*word, "-j" | "-json")).collect();
    let mut rest = words.iter().skip(1);
    if !matches!(words.first(), Some(&("neigh" | "neighbor" | "neighbour" | "n"))) {
        return context.fail(255, "ip: the lab knows `ip neigh` only").await;
    }
    let mut device = None;
    while let Some(word) = rest.next() {
        match *word {
            "show" | "list" | "ls" => {}
            "dev" => device = rest.next().copied(),
            other => return context.fail(255, format!("ip: the lab does not know `{other}`")).await,
        }
    }
    let all = context.node.world.with(|world| crate::guest::neighbors(world, &context.node.name));
    let shown: Vec<_> =
        all.into_iter().filter(|entry| device.is_none_or(|device| device == entry.bridge)).collect();
    if as_json {
        let entries: Vec<_> = shown.iter().map(|entry| serde_json::json!({"dst": entry.address, "dev": entry.bridge, "lladdr": entry.mac, "state": ["STALE"]})).collect();
        return context.line(serde_json::Value::Array(entries).to_string()).await.map(|()| 0);
    }
    for entry in shown {
        let device = if device.is_some() { String::new() } else { format!(" dev {}", entry.bridge) };
        context.line(format!("{}{device} lladdr {} STALE", entry.address, entry.mac)).await?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, expect) in [
            ("1", Some(1000)),
            ("0.5", Some(500)),
            ("2m", Some(120_000)),
            ("x", None),
            ("-1", None),
            ("inf", None),
            ("", None),
        ] {
            assert_eq!(duration_of(text).map(|duration| duration.as_millis()), expect, "{text}");
        }
    }

    #[test]
    fn dates_are_formatted() {
        assert_eq!(dated("%F %T %s %a", 1_795_303_019, 0).unwrap(), "2026-11-21 23:16:59 1795303019 Sat");
    }
}
