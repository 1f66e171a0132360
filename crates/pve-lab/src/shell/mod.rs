//! The nodes' shell: a small interpreter of its own, which can reach nothing but the world.

mod ast;
mod builtin;
mod expand;
pub(crate) mod io;
pub(crate) mod node;
mod parse;
pub(crate) mod process;
pub(crate) mod run;

use std::sync::Arc;

use io::Streams;
use parse::SyntaxError;
use process::Running;
use run::{Ended, Shell};

/// Runs a command line as sshd's `bash -c` does, until it ends or a signal ends it.
pub(crate) async fn run_session(
    mut shell: Shell,
    running: Arc<Running>,
    script: String,
    streams: Streams,
) -> Ended {
    let process = Arc::clone(&running.process);
    let mut work = Box::pin(async move {
        let status = shell.run_script(&script, &streams).await;
        shell.ended_by.map_or(Ended::Status(status), Ended::Signal)
    });
    let ended = tokio::select! {
        ended = &mut work => return ended,
        signal = process.signalled() => Ended::Signal(signal),
    };
    // A command that took over the shell's process deals with the signal in its own way.
    if process.is_taken_over() {
        return work.await;
    }
    ended
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::io::{Connection, Input, Output, Streams};
    use super::node::Node;
    use super::run::{Ended, Shell};
    use crate::world::{World, WorldHandle, WorldSpec};

    /// Runs a command line on a fresh node; what it does not finish in time is left alone.
    fn run(node: &Arc<Node>, line: &str, limit: Duration) -> (Option<Ended>, String) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (cut, _) = tokio::sync::watch::channel(false);
        let streams = Streams {
            stdin: Input::bytes("some input\n"),
            stdout: Output::Capture(Arc::clone(&kept)),
            stderr: Output::Capture(Arc::clone(&kept)),
            connection: Connection::new(Arc::new(cut)),
        };
        let running = Arc::new(node.processes.start(None, line));
        let shell = Shell::new(Arc::clone(node), Arc::clone(&running));
        let work = super::run_session(shell, running, line.to_owned(), streams);
        let ended = runtime.block_on(async { tokio::time::timeout(limit, work).await.ok() });
        runtime.shutdown_timeout(Duration::ZERO);
        let text = String::from_utf8_lossy(&kept.lock().unwrap()).into_owned();
        (ended, text)
    }

    fn node() -> Arc<Node> {
        Node::new(WorldHandle::new(World::new(&WorldSpec::demo(), 1)), "pve1")
    }

    const PIECES: [&str; 60] = [
        "qm",
        "pvesm",
        "pvesh",
        "pveum",
        "cat",
        "ls",
        "rm -rf",
        "mkdir -p",
        "mv",
        "cp",
        "printf",
        "echo",
        "test",
        "[",
        "]",
        "if",
        "then",
        "fi",
        "for x in",
        "do",
        "done",
        "while",
        "case",
        "esac",
        "{",
        "}",
        "(",
        ")",
        "$(",
        "`",
        "'",
        "\"",
        "\\",
        "&&",
        "||",
        "|",
        ";",
        "&",
        ">",
        ">>",
        "<",
        "2>&1",
        "<<E\n",
        "\n",
        "$x",
        "${x:-",
        "$$",
        "*",
        "/etc/pve/*",
        "/tmp/a",
        "~",
        "100",
        "--name",
        "set",
        "create",
        "timeout 0.01",
        "sudo -n",
        "sh -c",
        "%s",
        "kill",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>(), words in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..20)) {
            let _ = super::parse::parse(&text);
            let _ = super::parse::parse(&words.join(" "));
            let _ = super::parse::parse(&words.concat());
        }

        #[test]
        fn quoted_text_arrives_as_it_is(text in "[^\u{0}]{0,40}") {
            let quoted = format!("'{}'", text.replace('\'', "'\\''"));
            let (ended, out) = run(&node(), &format!("printf %s {quoted}"), Duration::from_secs(5));
            prop_assert_eq!(ended, Some(Ended::Status(0)));
            prop_assert_eq!(out, text);
        }
    }

    #[test]
    fn no_command_line_panics() {
        static PANICS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            before(info);
        }));
        let mut random: u64 = 7;
        for _ in 0..200 {
            let mut line = String::new();
            for _ in 0..12 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                line.push_str(PIECES[(random >> 33) as usize % PIECES.len()]);
                line.push(' ');
            }
            run(&node(), &line, Duration::from_millis(40));
            assert_eq!(PANICS.load(std::sync::atomic::Ordering::SeqCst), 0, "{line}");
        }
        let _ = std::panic::take_hook();
    }

    /// Nothing there can start a program or open a file of the machine: the names are not even there.
    #[test]
    fn the_code_has_no_way_to_the_machine() {
        fn check(folder: &std::path::Path) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    check(&path);
                } else {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                    for name in [
                        "process::Command",
                        "tokio::process",
                        "File::open",
                        "File::create",
                        "OpenOptions",
                        "std::fs::read",
                        "std::fs::write",
                        "tokio::fs",
                        "TcpStream::connect",
                        "UnixStream",
                        "std::env",
                    ] {
                        assert!(!code.contains(name), "{} has {name}", path.display());
                    }
                }
            }
        }
        for folder in ["cli", "shell", "ssh", "vfs", "guest"] {
            check(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder));
        }
    }

    #[test]
    fn command_lines_of_deployers_do_what_bash_does() {
        let node = node();
        for (line, status, out) in [
            ("x=1; y=$x$x; echo ${y}0 ${z:-none} ${#y}", 0, "110 none 2\n"),
            ("set -e; false; echo no", 1, ""),
            ("set -e; if false; then :; fi; false || true; echo yes", 0, "yes\n"),
            ("set -o pipefail; false | cat", 1, ""),
            ("echo a b c | { read -r x y; echo \"$y $x\"; }", 0, "b c a\n"),
            ("case web01 in db*) echo db;; web*|app*) echo web;; esac", 0, "web\n"),
            (
                "cat <<'EOF' > /tmp/u.yaml && cat /tmp/u.yaml\n#cloud-config\nx: $y\nEOF",
                0,
                "#cloud-config\nx: $y\n",
            ),
            ("f=/a/b.tar.gz; echo ${f##*/} ${f%.*}", 0, "b.tar.gz /a/b.tar\n"),
            ("for i in 1 2 3; do [ $i = 2 ] && continue; echo $i; done", 0, "1\n3\n"),
            ("i=; while [ \"$i\" != xxx ]; do i=x$i; done; echo $i", 0, "xxx\n"),
            ("sh -c 'exit 9'; echo $?", 0, "9\n"),
            ("bash -c 'set -euo pipefail; x=$(false | cat); echo no'", 1, ""),
            ("(cd /tmp && pwd); pwd", 0, "/tmp\n/root\n"),
            ("echo x >/nope/y", 1, "bash: line 1: /nope/y: No such file or directory\n"),
            ("echo $((1+1))", 2, "bash: the lab's shell does not know `$((`\n"),
            ("awk 1", 127, "bash: line 1: awk: the lab does not have this program\n"),
            (
                "mkdir /etc/pve/priv/lock/x && mkdir /etc/pve/priv/lock/x; rmdir /etc/pve/priv/lock/x && ls /etc/pve/priv/lock",
                0,
                "mkdir: cannot create directory '/etc/pve/priv/lock/x': File exists\n",
            ),
            (
                "qm create 100 --name a && cat /etc/pve/nodes/*/qemu-server/*.conf | grep ^name",
                0,
                "name: a\n",
            ),
            (
                "rm /etc/pve/qemu-server/100.conf",
                1,
                "rm: cannot remove '/etc/pve/qemu-server/100.conf': Operation not permitted\n",
            ),
            (
                "qm status 100 --frob",
                255,
                "Unknown option: frob\n400 unable to parse option\nqm status <vmid> [OPTIONS]\n",
            ),
            ("qm status", 255, "400 not enough arguments\nqm status <vmid> [OPTIONS]\n"),
            (
                "pvesm alloc local 100 vm-100-disk-0.raw 1G >/dev/null; qm rescan --vmid 100",
                0,
                "rescan volumes...\nVM 100: add unreferenced volume 'local:100/vm-100-disk-0.raw' as 'unused0' to config\n",
            ),
            (
                "qm set 100 --scsi0 local:100/vm-100-disk-0.raw >/dev/null; qm disk rescan; pvesm path local:100/vm-100-disk-0.raw",
                0,
                "rescan volumes...\n/var/lib/vz/images/100/vm-100-disk-0.raw\n",
            ),
            ("timeout 5 qm status 100; command -v qm", 0, "status: stopped\n/usr/sbin/qm\n"),
        ] {
            assert_eq!(
                run(&node, line, Duration::from_secs(5)),
                (Some(Ended::Status(status)), out.to_owned()),
                "{line}"
            );
        }
    }
}
