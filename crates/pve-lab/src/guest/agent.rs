//! The QEMU guest agent, as PVE hands it through.

use base64::Engine as _;
use pve_types::Vmid;
use serde_json::{Value, json};

use super::{Runtime, network};
use crate::Params;
use crate::world::World;

/// A command that the agent runs or has run.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    ends: u64,
    exit: i64,
    out: String,
    err: String,
}

const SUPPORTED: [&str; 43] = [
    "guest-network-get-route",
    "guest-get-load",
    "guest-get-cpustats",
    "guest-get-diskstats",
    "guest-ssh-remove-authorized-keys",
    "guest-ssh-add-authorized-keys",
    "guest-ssh-get-authorized-keys",
    "guest-get-osinfo",
    "guest-get-timezone",
    "guest-get-users",
    "guest-get-host-name",
    "guest-exec",
    "guest-exec-status",
    "guest-get-memory-block-info",
    "guest-set-memory-blocks",
    "guest-get-memory-blocks",
    "guest-set-user-password",
    "guest-get-fsinfo",
    "guest-get-disks",
    "guest-set-vcpus",
    "guest-get-vcpus",
    "guest-network-get-interfaces",
    "guest-suspend-hybrid",
    "guest-suspend-ram",
    "guest-suspend-disk",
    "guest-fstrim",
    "guest-fsfreeze-thaw",
    "guest-fsfreeze-freeze-list",
    "guest-fsfreeze-freeze",
    "guest-fsfreeze-status",
    "guest-file-flush",
    "guest-file-seek",
    "guest-file-write",
    "guest-file-read",
    "guest-file-close",
    "guest-file-open",
    "guest-shutdown",
    "guest-info",
    "guest-set-time",
    "guest-get-time",
    "guest-ping",
    "guest-sync",
    "guest-sync-delimited",
];

/// Runs one agent command (`network-get-interfaces`, `exec`, …) on a guest whose agent answers: what PVE puts under
/// `result` (for the simple commands) or the data itself (`exec`, `exec-status`, `file-read`).
///
/// # Errors
/// The text PVE dies with, e.g. `Agent error: …`.
pub fn agent_command(world: &mut World, vmid: Vmid, command: &str, params: &Params) -> Result<Value, String> {
    let now = world.now();
    let cpus = world.guests.get(&vmid).map_or(1, |guest| {
        let number =
            |key: &str| guest.config.get(key).and_then(|value| value.parse::<u64>().ok()).unwrap_or(1);
        guest
            .config
            .get("vcpus")
            .and_then(|value| value.parse().ok())
            .unwrap_or(number("cores") * number("sockets"))
    });
    let Some(guest) = world.guests.get_mut(&vmid) else {
        return Err(format!("Configuration file for VM {vmid} does not exist"));
    };
    let runtime = &mut guest.runtime;
    match command {
        "exec" => exec(runtime, params, now),
        "exec-status" => exec_status(runtime, params, now),
        "file-read" => file_read(runtime, params),
        "file-write" => file_write(runtime, params),
        "fsfreeze-freeze" => {
            runtime.is_frozen = true;
            Ok(json!(1))
        }
        "fsfreeze-thaw" => {
            let thawed = u8::from(std::mem::take(&mut runtime.is_frozen));
            Ok(json!(thawed))
        }
        "fsfreeze-status" => Ok(json!(if runtime.is_frozen { "frozen" } else { "thawed" })),
        "network-get-interfaces" => Ok(network::interfaces(runtime, now)),
        "get-host-name" => Ok(json!({"host-name": runtime.hostname})),
        "get-time" => Ok(json!(now * 1000)),
        "get-vcpus" => {
            Ok((0..cpus).map(|id| json!({"logical-id": id, "online": true, "can-offline": id > 0})).collect())
        }
        other => constant(other)
            .ok_or_else(|| format!("Agent error: The command guest-{other} has not been found")),
    }
}

fn constant(command: &str) -> Option<Value> {
    Some(match command {
        "ping" | "set-user-password" | "shutdown" | "suspend-disk" | "suspend-hybrid" | "suspend-ram" => {
            json!({})
        }
        "fstrim" => json!({"paths": [{"path": "/", "trimmed": 1_621_114_880, "minimum": 0}]}),
        "info" => {
            let commands: Vec<Value> = SUPPORTED.iter().map(|name| json!({"name": name, "enabled": true, "success-response": *name != "guest-shutdown"})).collect();
            json!({"version": "10.0.13", "supported_commands": commands})
        }
        "get-osinfo" => json!({
            "id": "debian", "name": "Debian GNU/Linux", "pretty-name": "Debian GNU/Linux 13 (trixie)",
            "version": "13 (trixie)", "version-id": "13", "machine": "x86_64",
            "kernel-release": "6.12.107+deb13-cloud-amd64",
            "kernel-version": "#1 SMP PREEMPT_DYNAMIC Debian 6.12.107-1 (2026-08-29)",
        }),
        "get-timezone" => json!({"zone": "UTC", "offset": 0}),
        "get-users" => json!([]),
        "get-fsinfo" => json!([{
            "name": "sda1", "mountpoint": "/", "type": "ext4",
            "used-bytes": 386_027_520, "total-bytes": 2_067_025_920, "total-bytes-privileged": 2_199_093_248_u64,
            "disk": [{
                "bus-type": "scsi", "bus": 0, "unit": 0, "target": 0, "dev": "/dev/sda1",
                "serial": "0QEMU_QEMU_HARDDISK_drive-scsi0",
                "pci-controller": {"domain": 0, "bus": 0, "slot": 5, "function": 0},
            }],
        }]),
        "get-memory-block-info" => json!({"size": 134_217_728}),
        "get-memory-blocks" => json!([{"phys-index": 0, "online": true, "can-offline": false}]),
        _ => return None,
    })
}

// ---- commands in the guest

fn words_of(params: &Params) -> Vec<String> {
    match params.get("command") {
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
        }
        // 7.4 has one string, its arguments divided by NUL.
        Some(Value::String(text)) => text.split('\0').map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn exec(runtime: &mut Runtime, params: &Params, now: u64) -> Result<Value, String> {
    let words = words_of(params);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let input = params.get("input-data").and_then(Value::as_str).unwrap_or_default();
    let command = run_in_guest(runtime, &words, input, now)?;
    let pid = 600 + 18 * (runtime.commands.len() as u64 + 1);
    runtime.commands.insert(pid, command);
    Ok(json!({"pid": pid}))
}

fn ended(now: u64, exit: i64, out: impl Into<String>, err: impl Into<String>) -> Command {
    Command { ends: now, exit, out: out.into(), err: err.into() }
}

/// The programs that the lab's guests have: those that deployers run through the agent.
fn run_in_guest(runtime: &mut Runtime, words: &[&str], input: &str, now: u64) -> Result<Command, String> {
    let Some((program, rest)) = words.split_first() else {
        return Err("Agent error: Invalid parameter 'path'".to_owned());
    };
    let name = program.rsplit('/').next().unwrap_or(program);
    Ok(match (name, rest) {
        ("cloud-init", ["status", options @ ..]) => cloud_init_status(runtime, options, now),
        ("true", _) => ended(now, 0, "", ""),
        ("false", _) => ended(now, 1, "", ""),
        ("echo", _) => ended(now, 0, format!("{}\n", rest.join(" ")), ""),
        ("cat", []) => ended(now, 0, input, ""),
        ("cat", [path]) => match file_of(runtime, path) {
            Some(bytes) => ended(now, 0, String::from_utf8_lossy(&bytes), ""),
            None => ended(now, 1, "", format!("cat: {path}: No such file or directory\n")),
        },
        ("hostname", []) => ended(now, 0, format!("{}\n", runtime.hostname), ""),
        ("whoami", []) => ended(now, 0, "root\n", ""),
        ("id", ["-u"]) => ended(now, 0, "0\n", ""),
        ("uname", ["-r"]) => ended(now, 0, "6.12.107+deb13-cloud-amd64\n", ""),
        ("systemctl", ["is-system-running", ..]) => {
            let booting = runtime.cloud_init_from.is_some_and(|from| now < from);
            ended(now, i64::from(booting), if booting { "starting\n" } else { "running\n" }, "")
        }
        ("systemctl", ["is-active", ..]) => ended(now, 0, "active\n", ""),
        ("sh" | "bash" | "dash", ["-c", script]) => script_in_guest(runtime, script, input, now)?,
        _ => {
            return Err(format!(
                "Agent error: Failed to execute child process “{program}” (No such file or directory)"
            ));
        }
    })
}

/// A shell in the guest: one command of plain words; anything more is refused in the guest's own way.
fn script_in_guest(runtime: &mut Runtime, script: &str, input: &str, now: u64) -> Result<Command, String> {
    let words: Vec<&str> = script.split_whitespace().collect();
    let is_plain = !script.contains(['|', '&', ';', '<', '>', '$', '`', '"', '\'', '\\', '*', '(', ')']);
    if !is_plain {
        return Ok(ended(now, 2, "", format!("sh: 1: the lab's guests run plain commands only: {script}\n")));
    }
    if words.is_empty() {
        return Ok(ended(now, 0, "", ""));
    }
    match run_in_guest(runtime, &words, input, now) {
        Err(_) => Ok(ended(now, 127, "", format!("sh: 1: {}: not found\n", words[0]))),
        done => done,
    }
}

fn cloud_init_status(runtime: &Runtime, options: &[&str], now: u64) -> Command {
    let Some(from) = runtime.cloud_init_from else { return ended(now, 0, "status: disabled\n", "") };
    let (state, exit) = match (now < from, runtime.cloud_init_fails) {
        (true, _) => ("running", 2),
        (false, true) => ("error", 1),
        (false, false) => ("done", 0),
    };
    if options.contains(&"--wait") {
        let (state, exit) = if runtime.cloud_init_fails { ("error", 1) } else { ("done", 0) };
        let dots = if now < from { "\n" } else { "" };
        return Command {
            ends: from.max(now),
            exit,
            out: format!("{dots}status: {state}\n"),
            err: String::new(),
        };
    }
    ended(now, exit, format!("status: {state}\n"), "")
}

fn exec_status(runtime: &mut Runtime, params: &Params, now: u64) -> Result<Value, String> {
    let pid = match params.get("pid") {
        Some(Value::String(text)) => text.parse().unwrap_or(0),
        Some(value) => value.as_u64().unwrap_or(0),
        None => 0,
    };
    let Some(command) = runtime.commands.get(&pid) else {
        return Err(format!("Agent error: PID {pid} does not exist"));
    };
    if now < command.ends {
        return Ok(json!({"exited": 0}));
    }
    let mut status = json!({"exited": 1, "exitcode": command.exit});
    for (key, truncated, text) in
        [("out-data", "out-truncated", &command.out), ("err-data", "err-truncated", &command.err)]
    {
        if !text.is_empty() {
            status[key] = text.as_str().into();
            status[truncated] = 0.into();
        }
    }
    // The agent forgets a command once its end has been told.
    runtime.commands.remove(&pid);
    Ok(status)
}

// ---- files in the guest

fn file_of(runtime: &Runtime, path: &str) -> Option<Vec<u8>> {
    if let Some(bytes) = runtime.files.get(path) {
        return Some(bytes.clone());
    }
    match path {
        "/etc/hostname" => Some(format!("{}\n", runtime.hostname).into_bytes()),
        "/etc/os-release" => {
            Some(b"PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nID=debian\nVERSION_ID=\"13\"\n".to_vec())
        }
        _ => None,
    }
}

fn text<'a>(params: &'a Params, name: &str) -> &'a str {
    params.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn file_read(runtime: &Runtime, params: &Params) -> Result<Value, String> {
    let path = text(params, "file");
    match file_of(runtime, path) {
        Some(bytes) => Ok(json!({"content": String::from_utf8_lossy(&bytes), "bytes-read": bytes.len()})),
        None => {
            Err(format!("Agent error: failed to open file '{path}' (mode: 'r'): No such file or directory"))
        }
    }
}

fn file_write(runtime: &mut Runtime, params: &Params) -> Result<Value, String> {
    let (path, content) = (text(params, "file"), text(params, "content"));
    let is_encoded = params
        .get("encode")
        .is_some_and(|value| value == "0" || value == &json!(0) || value == &json!(false));
    let bytes = if is_encoded {
        base64::prelude::BASE64_STANDARD
            .decode(content)
            .map_err(|_| "Agent error: Invalid parameter 'buf-b64'".to_owned())?
    } else {
        content.as_bytes().to_vec()
    };
    runtime.files.insert(path.to_owned(), bytes);
    Ok(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(runtime: &mut Runtime, words: &[&str], now: u64) -> Result<Value, String> {
        let params = Params::from([("command".to_owned(), json!(words))]);
        let pid = exec(runtime, &params, now)?["pid"].clone();
        exec_status(runtime, &Params::from([("pid".to_owned(), pid)]), now)
    }

    #[test]
    fn cloud_init_is_running_first_and_done_later() {
        let mut runtime = Runtime { cloud_init_from: Some(100), ..Runtime::default() };
        let running = run(&mut runtime, &["cloud-init", "status"], 50).unwrap();
        assert_eq!(
            running,
            json!({"exited": 1, "exitcode": 2, "out-data": "status: running\n", "out-truncated": 0})
        );
        let waiting = run(&mut runtime, &["cloud-init", "status", "--wait"], 50).unwrap();
        assert_eq!(waiting, json!({"exited": 0}));
        let done = run(&mut runtime, &["sh", "-c", "cloud-init status"], 100).unwrap();
        assert_eq!((done["exitcode"].as_i64(), done["out-data"].as_str()), (Some(0), Some("status: done\n")));
    }

    #[test]
    fn what_is_not_in_the_guest_is_an_agent_error() {
        let mut runtime = Runtime::default();
        let error = run(&mut runtime, &["/usr/bin/frob"], 0).unwrap_err();
        assert_eq!(
            error,
            "Agent error: Failed to execute child process “/usr/bin/frob” (No such file or directory)"
        );
        assert_eq!(
            exec_status(&mut runtime, &Params::new(), 0).unwrap_err(),
            "Agent error: PID 0 does not exist"
        );
    }

    #[test]
    fn files_are_written_and_read() {
        let mut runtime = Runtime::default();
        let params = |content: &str, encode: &str| {
            Params::from(
                [("file", "/tmp/x"), ("content", content), ("encode", encode)]
                    .map(|(key, value)| (key.to_owned(), json!(value))),
            )
        };
        file_write(&mut runtime, &params("aGk=", "0")).unwrap();
        assert_eq!(file_read(&runtime, &params("", "1")).unwrap(), json!({"content": "hi", "bytes-read": 2}));
    }
}
