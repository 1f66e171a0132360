//! PVE's own programs: each command is a method of the API, run by root on the node, with its worker in front.

mod others;
mod pvesh;
mod pvesh_paths;
mod pvesm;
mod pveum;
mod qemu_img;
mod qm;
mod rescan;
mod table;
mod yaml;

use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use super::frame::{self, BadLine, Known, Takes};
use super::{Context, Exit};
use crate::Params;
use crate::api::{Caller, Refusal, Reply};
use crate::schema;
use crate::shell::process::KILL;

pub(super) use qemu_img::qemu_img;

/// What is done with a method's answer.
#[derive(Clone, Copy)]
enum Then {
    /// Nothing is printed.
    Quiet,
    /// The answer is a worker: its output is printed, and its end is the command's.
    Task,
    /// The same, but the command ends well whatever becomes of the worker.
    TaskWhateverItsEnd,
    /// The answer is printed.
    Print(fn(&Value) -> String),
    /// The answer is printed as text, JSON or a table, as `--output-format` says.
    Format,
    /// The command is made by the program itself.
    Own,
}

/// A command of a program: the words it is called by, and the method behind it.
struct Command {
    words: &'static str,
    /// The words that the usage line has, where the command is called by an old name.
    shown: &'static str,
    method: &'static str,
    path: &'static str,
    arguments: &'static [&'static str],
    /// Parameters whose value is not asked for.
    fixed: &'static [(&'static str, &'static str)],
    then: Then,
}

impl Command {
    const fn new(
        words: &'static str,
        method: &'static str,
        path: &'static str,
        arguments: &'static [&'static str],
        then: Then,
    ) -> Self {
        Self { words, shown: words, method, path, arguments, fixed: &[], then }
    }

    const fn fixed(mut self, fixed: &'static [(&'static str, &'static str)]) -> Self {
        self.fixed = fixed;
        self
    }

    /// Another, older name of the command `shown`.
    const fn alias(mut self, words: &'static str) -> Self {
        self.words = words;
        self
    }
}

/// Runs one of PVE's programs.
pub(super) async fn run(context: &Context, name: &str, words: &[String]) -> Exit {
    let world = &context.node.world;
    world.load().count(|counts| *counts.programs.entry(name.to_owned()).or_default() += 1);
    let slot = world.load().cpu_slot(&context.node.name).await;
    let delay = world.with(|world| match name {
        "pvesm" => world.delays.pvesm_ms,
        "pvesh" => world.delays.pvesh_ms,
        _ => world.delays.qm_ms,
    });
    world.pause(Duration::from_millis(delay)).await;
    // What only waits for a guest gives the processor back.
    let _slot = slot.filter(|_| !waits_for_guest(name, words));
    match name {
        "qm" => program(context, "qm", qm::COMMANDS, words).await,
        "pvesm" => program(context, "pvesm", pvesm::COMMANDS, words).await,
        "pveum" => program(context, "pveum", pveum::COMMANDS, words).await,
        "ha-manager" => program(context, "ha-manager", others::HA_COMMANDS, words).await,
        "pvesh" => pvesh::pvesh(context, words).await,
        "pct" => others::pct(context, words).await,
        _ => others::pveversion(context).await,
    }
}

/// Tells whether a command, once it has started, waits for what a guest does.
fn waits_for_guest(name: &str, words: &[String]) -> bool {
    let words: Vec<&str> = words.iter().take(2).map(String::as_str).collect();
    name == "qm"
        && matches!(
            words.as_slice(),
            ["wait" | "shutdown" | "reboot" | "agent", ..] | ["guest", "exec" | "cmd" | "passwd"]
        )
}

async fn program(context: &Context, program: &str, commands: &'static [Command], words: &[String]) -> Exit {
    let names: Vec<&str> = commands.iter().map(|command| command.words).collect();
    match frame::find_command(program, &names, words) {
        Err(text) => {
            let usage = format!("USAGE: {program} <COMMAND> [ARGS] [OPTIONS]");
            context
                .fail(
                    255,
                    format!("ERROR: {text}\n{usage}\n\n       {program} help [<extra-args>] [OPTIONS]"),
                )
                .await
        }
        Ok((index, rest)) => Invocation { context, program, command: &commands[index] }.run(rest).await,
    }
}

/// A command being run.
struct Invocation<'a> {
    context: &'a Context,
    program: &'a str,
    command: &'static Command,
}

impl Invocation<'_> {
    async fn run(&self, words: &[String]) -> Exit {
        let known = self.known();
        if known.is_empty() && !matches!(self.command.then, Then::Own) {
            return self
                .context
                .fail(255, format!("the lab does not have `{} {}`", self.program, self.command.words))
                .await;
        }
        let fixed = self.fixed_names();
        let line = match frame::parse_line(words, &known, self.command.arguments, &fixed) {
            Ok(line) => line,
            Err(bad) => return self.bad_line(&known, bad).await,
        };
        let mut params = line.params;
        if let Err(text) = self.map_files(&mut params) {
            return self.context.fail(2, text).await;
        }
        if let Err(text) = self.ask_for_passwords(&mut params).await {
            return self.context.fail(255, text).await;
        }
        match self.command.then {
            Then::Own => match self.program {
                "qm" => qm::own(self, params).await,
                _ => pvesm::own(self, params).await,
            },
            _ => self.call(params).await,
        }
    }

    fn fixed_names(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = self.command.fixed.iter().map(|(name, _)| *name).collect();
        names.push("node");
        names
    }

    fn known(&self) -> Vec<Known> {
        let version = self.context.node.world.with(|world| world.version);
        let endpoint = schema::table(version)
            .endpoints()
            .iter()
            .find(|endpoint| endpoint.method == self.command.method && endpoint.path == self.command.path);
        let mut known = endpoint.map(|endpoint| frame::known_options(&endpoint.params)).unwrap_or_default();
        if matches!(self.command.then, Then::Format) && !known.is_empty() | endpoint.is_some() {
            known.push(Known::own("output-format", Takes::Text));
            known.extend(
                ["human-readable", "noborder", "noheader", "quiet"].map(|name| Known::own(name, Takes::Flag)),
            );
        }
        if endpoint.is_some() && known.is_empty() {
            // A method without parameters is a command all the same.
            known.push(Known::own("quiet", Takes::Flag));
        }
        known.extend(self.own_options());
        for option in known.iter_mut().filter(|option| self.is_asked_for(&option.name)) {
            option.takes = Takes::Asked;
        }
        known
    }

    /// Tells whether an option's value is asked for where the command line leaves it out.
    // PVE: qemu-server src/PVE/CLI/qm.pm param_mapping
    fn is_asked_for(&self, option: &str) -> bool {
        self.program == "qm" && matches!(self.command.words, "create" | "set") && option == "cipassword"
    }

    /// Reads a password that the command line leaves out: two lines of standard input, which must be the same.
    // PVE: pve-common src/PVE/PTY.pm get_confirmed_password, read_password
    async fn ask_for_passwords(&self, params: &mut Params) -> Result<(), String> {
        let asked =
            params.get("cipassword").and_then(Value::as_str) == Some("") && self.is_asked_for("cipassword");
        if !asked {
            return Ok(());
        }
        let mut lines = Vec::new();
        for _ in 0..2 {
            let line = self.context.streams.stdin.read_line().await;
            let line = line.filter(|line| !line.is_empty()).ok_or("EOF while reading password")?;
            lines.push(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned());
        }
        if lines[0] != lines[1] {
            return Err("passwords do not match".to_owned());
        }
        params.insert("cipassword".into(), lines.swap_remove(0).into());
        Ok(())
    }

    fn own_options(&self) -> Vec<Known> {
        let text =
            |names: &[&str]| names.iter().map(|name| Known::own(name, Takes::Text)).collect::<Vec<_>>();
        match (self.program, self.command.shown) {
            ("qm", "disk import") => text(&["vmid", "source", "storage", "format", "target-disk"]),
            ("qm", "status") => vec![Known::own("verbose", Takes::Flag)],
            ("qm", "guest exec") => {
                let mut all = text(&["vmid", "extra-args", "timeout"]);
                all.extend(["synchronous", "pass-stdin"].map(|name| Known::own(name, Takes::Flag)));
                all
            }
            ("qm", "unlock") => text(&["vmid"]),
            ("qm", "wait") => text(&["vmid", "timeout"]),
            ("qm", "disk rescan") => {
                let mut all = text(&["vmid"]);
                all.push(Known::own("dryrun", Takes::Flag));
                all
            }
            ("pvesm", "path") => text(&["volume"]),
            ("pveum", "user token permissions") => text(&["tokenid"]),
            _ => Vec::new(),
        }
    }

    fn usage(&self, known: &[Known]) -> String {
        frame::usage(
            &format!("{} {}", self.program, self.command.shown),
            known,
            self.command.arguments,
            &self.fixed_names(),
        )
    }

    async fn bad_line(&self, known: &[Known], bad: BadLine) -> Exit {
        for warning in bad.warnings {
            self.context.complain(warning).await?;
        }
        self.context.fail(255, format!("400 {}\n{}", bad.text, self.usage(known))).await
    }

    /// `--sshkeys FILE` reads the file, here as in PVE.
    // PVE: qemu-server src/PVE/CLI/qm.pm param_mapping
    fn map_files(&self, params: &mut Params) -> Result<(), String> {
        if self.program != "qm" || !matches!(self.command.words, "create" | "set") {
            return Ok(());
        }
        let Some(name) = params.get("sshkeys").and_then(Value::as_str).map(str::to_owned) else {
            return Ok(());
        };
        let path = self.context.absolute(&name);
        let bytes = self
            .context
            .node
            .files(|files| files.read(&path))
            .map_err(|error| format!("can't open '{name}' - {error}"))?;
        params.insert("sshkeys".into(), uri_escape(&bytes).into());
        Ok(())
    }

    /// The method's path, with the parameters that stand in it taken out.
    fn path(&self, params: &mut Params) -> String {
        let parts = self.command.path.split('/').map(|part| {
            match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                Some("node") => self.context.node.name.clone(),
                Some(name) => match params.remove(name) {
                    Some(Value::String(text)) => text,
                    other => other.map(|value| value.to_string()).unwrap_or_default(),
                },
                None => part.to_owned(),
            }
        });
        parts.collect::<Vec<_>>().join("/")
    }

    /// Calls the command's method.
    async fn call(&self, mut params: Params) -> Exit {
        let formats = table::Wanted::take(&mut params, matches!(self.command.then, Then::Format));
        for (name, value) in self.command.fixed {
            params.insert((*name).to_owned(), (*value).into());
        }
        if self.known().len() == 1 {
            params.remove("quiet");
        }
        if self.command.words == "user token permissions"
            && let (Some(user), Some(token)) = (params.remove("userid"), params.remove("tokenid"))
        {
            params.insert("userid".into(), format!("{}!{}", scalar(&user), scalar(&token)).into());
        }
        let path = self.path(&mut params);
        match api(self.context, self.command.method, &path, &params).await {
            Err(refusal) => self.refused(&refusal).await,
            Ok(reply) => self.answered(reply, &formats).await,
        }
    }

    async fn refused(&self, refusal: &Refusal) -> Exit {
        print_lines(self.context, &refusal.output).await?;
        let (text, status) = frame::refusal_text(refusal, &self.usage(&self.known()));
        self.context.streams.stderr.write(text).await?;
        Ok(status)
    }

    async fn answered(&self, reply: Reply, formats: &table::Wanted) -> Exit {
        print_lines(self.context, &reply.output).await?;
        match self.command.then {
            Then::Quiet | Then::Own => Ok(0),
            Then::Task => follow(self.context, &reply.data).await,
            Then::TaskWhateverItsEnd => follow(self.context, &reply.data).await.map(|_| 0),
            Then::Print(show) => self.context.print(show(&reply.data)).await.map(|()| 0),
            Then::Format if self.command.path == "/access/permissions" && formats.is_text() => {
                self.context.print(formats.permissions(&reply.data)).await.map(|()| 0)
            }
            Then::Format => match formats.show(&reply.data) {
                Ok(text) => self.context.print(text).await.map(|()| 0),
                Err(text) => self.context.fail(255, text).await,
            },
        }
    }
}

/// Calls a method as root on the node.
async fn api(context: &Context, method: &str, path: &str, params: &Params) -> Result<Reply, Refusal> {
    let caller = Caller::root_cli(&context.node.name);
    context.node.world.call(&caller, method, path, params).await
}

async fn print_lines(context: &Context, lines: &[String]) -> Result<(), crate::shell::io::WriteError> {
    for line in lines {
        context.line(line).await?;
    }
    Ok(())
}

/// Follows a worker to its end: prints what it prints, and returns the exit status that its end makes. A signal ends
/// the worker first, as the one that waits in front of it passes it on.
// PVE: pve-common src/PVE/RESTEnvironment.pm fork_worker
async fn follow(context: &Context, upid: &Value) -> Exit {
    let Some(upid) = upid.as_str() else { return Ok(0) };
    let (sender, mut lines) = mpsc::unbounded_channel::<String>();
    let world = context.node.world.clone();
    let mut end = Box::pin(world.wait_task(upid, move |line| {
        let _ = sender.send(line.to_owned());
    }));
    let mut interrupted = false;
    let status = loop {
        tokio::select! {
            biased;
            Some(line) = lines.recv() => context.line(line).await?,
            status = &mut end => break status,
            signal = context.process.signalled(), if !interrupted => {
                interrupted = true;
                if signal != KILL {
                    world.with(|world| {
                        if let Some(key) = world.tasks.key(upid) {
                            world.interrupt_task(key);
                        }
                    });
                }
            }
        }
    };
    drop(end);
    while let Ok(line) = lines.try_recv() {
        context.line(line).await?;
    }
    match status.as_deref() {
        None | Some("OK") => Ok(0),
        Some(text) => match text.strip_prefix("WARNINGS: ") {
            Some(count) => context.fail(0, format!("Task finished with {count} warning(s)!")).await,
            None => context.fail(255, text).await,
        },
    }
}

/// Percent-encodes what Perl's `URI::Escape` does.
fn uri_escape(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!*'()".contains(byte);
    bytes
        .iter()
        .map(|byte| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A value as Perl prints it.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(is) => u8::from(*is).to_string(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
