//! Running commands.

use crate::sshd::{Sshd, eventually, running, signal};
use crate::{Needs, test};
use libtest_mimic::Trial;
use pve_ssh::{Command, Ended, Error, Host, Output, RunOptions, Stream, TookEffect};
use std::time::{Duration, Instant};

pub fn tests() -> Vec<Trial> {
    vec![
        test("exec::streams_and_status_come_back_apart", Needs::Sshd, streams_and_status),
        test("exec::arguments_arrive_byte_by_byte", Needs::Sshd, arguments_arrive),
        test("exec::lines_are_told_as_they_come", Needs::Sshd, lines_as_they_come),
        test("exec::a_signal_is_no_status", Needs::Sshd, a_signal_is_no_status),
        test("exec::a_deadline_ends_the_command_and_its_children", Needs::Sshd, deadline_ends),
        test("exec::cancelling_ends_the_command", Needs::Sshd, cancelling_ends),
        test("exec::a_host_that_says_something_before_is_no_obstacle", Needs::Sshd, noise_before),
        test("exec::dropping_the_future_ends_the_command", Needs::Sshd, dropping_ends),
        test("exec::stdin_does_not_hang_when_the_command_ends_early", Needs::Sshd, stdin_ends_early),
        test("exec::stdin_arrives_whole", Needs::Sshd, stdin_arrives),
        test("exec::endless_output_is_cut_and_the_command_ended", Needs::Sshd, endless_output),
        test("exec::a_killed_server_is_a_lost_connection", Needs::Sshd, killed_server),
        test("exec::a_silent_server_is_lost_within_the_keepalive_time", Needs::Sshd, silent_server),
        test("exec::a_new_connection_follows_a_lost_one", Needs::Sshd, new_connection_after_loss),
        test("exec::a_process_left_behind_is_ended_over_a_new_connection", Needs::Sshd, left_behind),
        test("exec::errors_hold_no_control_characters", Needs::Sshd, errors_are_fit),
    ]
}

fn quick() -> RunOptions {
    RunOptions::within(Duration::from_secs(30))
}

async fn run(host: &Host, command: &Command, options: RunOptions) -> Result<Output, Error> {
    host.run(command, options, &mut |_, _| {}).await
}

fn sh(script: &str) -> Command {
    Command::new("sh").arg("-c").arg(script)
}

async fn streams_and_status() {
    let sshd = Sshd::start("");
    let host = sshd.host();
    let output = host.run(&sh("echo out; echo err >&2; exit 3"), quick(), &mut |_, _| {}).await.unwrap();
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (3, "out\n", "err\n"));
    let error = host.run_to_success(&sh("echo why >&2; exit 3"), Duration::from_secs(30)).await.unwrap_err();
    assert!(matches!(&error, Error::Exit { status: 3, message, .. } if message == "why"), "{error}");
}

async fn arguments_arrive() {
    let sshd = Sshd::start("");
    let every: Vec<u8> = (1..=255).collect();
    let command = Command::new("printf").arg("%s|%s|%s").arg("it's $HOME `id` \\").arg("").arg("-n");
    let output = sshd.host().run_to_success(&command, Duration::from_secs(30)).await.unwrap();
    assert_eq!(output.stdout, "it's $HOME `id` \\||-n");
    let command = sh("printf %s \"$1\" | od -An -v -tx1 | tr -d ' \\n'").arg("sh").arg(&every);
    let output = sshd.host().run_to_success(&command, Duration::from_secs(30)).await.unwrap();
    let expect: String = every.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(output.stdout, expect);
}

async fn lines_as_they_come() {
    let sshd = Sshd::start("");
    let host = sshd.host();
    let gate = sshd.path("gate");
    let script = format!("echo first; while ! test -e {}; do sleep 0.05; done; printf last", gate.display());
    let mut lines = Vec::new();
    let mut on_line = |stream: Stream, line: &str| {
        lines.push((stream, line.to_owned()));
        std::fs::write(&gate, "").unwrap();
    };
    host.run(&sh(&script), quick(), &mut on_line).await.unwrap();
    assert_eq!(lines, [(Stream::Stdout, "first".to_owned()), (Stream::Stdout, "last".to_owned())]);
}

async fn a_signal_is_no_status() {
    let sshd = Sshd::start("");
    let error = sshd.host().run(&sh("kill -KILL $$"), quick(), &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(&error, Error::Signal { signal, .. } if signal == "KILL"), "{error}");
    assert_eq!(error.took_effect(), TookEffect::Maybe);
}

async fn deadline_ends() {
    let sshd = Sshd::start("");
    let command = sh("sleep 4000.111 & sleep 4000.111; wait");
    let options = RunOptions::within(Duration::from_millis(1500));
    let error = sshd.host().run(&command, options, &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(&error, Error::Deadline { ended: Ended::Yes, .. }), "{error}");
    eventually("both processes are gone", || running("sleep 4000.111") == 0).await;
}

async fn cancelling_ends() {
    let sshd = Sshd::start("");
    let host = sshd.host();
    let options = quick();
    let cancel = options.cancel.clone();
    let command = Command::new("sleep").arg("4000.222");
    let command_run = run(&host, &command, options);
    let giving_up = async {
        eventually("the command runs", || running("sleep 4000.222") > 0).await;
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(command_run, giving_up);
    assert!(matches!(outcome.unwrap_err(), Error::Cancelled { ended: Ended::Yes, .. }));
    eventually("the process is gone", || running("sleep 4000.222") == 0).await;
}

/// A start-up file of the shell that prints, and a shell that complains of its locale, come before the command.
async fn noise_before() {
    let sshd = Sshd::start("ForceCommand echo first >&2; echo second >&2; eval \"$SSH_ORIGINAL_COMMAND\"");
    let host = sshd.host();
    let mut lines = Vec::new();
    let output =
        host.run(&sh("echo err >&2; exit 3"), quick(), &mut |_, line| lines.push(line.to_owned())).await;
    let output = output.unwrap();
    assert_eq!((output.status, output.stderr.as_str()), (3, "first\nsecond\nerr\n"));
    assert_eq!(lines, ["first", "second", "err"]);
    let options = RunOptions::within(Duration::from_secs(1));
    let error = run(&host, &Command::new("sleep").arg("4000.444"), options).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { ended: Ended::Yes, .. }), "{error}");
    eventually("the process is gone", || running("sleep 4000.444") == 0).await;
}

async fn dropping_ends() {
    let sshd = Sshd::start("");
    let host = sshd.host();
    let command = Command::new("sleep").arg("4000.333");
    tokio::select! {
        _ = run(&host, &command, quick()) => panic!("it ended on its own"),
        () = eventually("the command runs", || running("sleep 4000.333") > 0) => {}
    }
    // Closing waits for it, so a program that ends now leaves nothing behind.
    host.close().await;
    assert_eq!(running("sleep 4000.333"), 0);
}

async fn stdin_ends_early() {
    let sshd = Sshd::start("");
    let mut options = quick();
    options.stdin = Some(Box::new(std::io::Cursor::new(vec![b'x'; 20 << 20])));
    let output = sshd.host().run(&sh("head -c1; exit 3"), options, &mut |_, _| {}).await.unwrap();
    assert_eq!((output.status, output.stdout.as_str()), (3, "x"));
}

async fn stdin_arrives() {
    let sshd = Sshd::start("");
    let mut options = quick();
    options.stdin = Some(Box::new(std::io::Cursor::new(vec![b'x'; 5_000_001])));
    let output = sshd.host().run(&Command::new("wc").arg("-c"), options, &mut |_, _| {}).await.unwrap();
    assert_eq!(output.stdout.trim(), "5000001");
}

async fn endless_output() {
    let sshd = Sshd::start("");
    let mut options = quick();
    options.output_limit = 1 << 20;
    let command = Command::new("yes").arg("mark-4000.444");
    let error = sshd.host().run(&command, options, &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(&error, Error::TooMuchOutput { ended: Ended::Yes, .. }), "{error}");
    eventually("the process is gone", || running("yes mark-4000.444") == 0).await;
}

async fn killed_server() {
    let mut sshd = Sshd::start("");
    let host = sshd.host();
    let command = sh("echo go; exec sleep 30.555");
    // Once it has said something, its process number is known as well.
    let outcome = host.run(&command, quick(), &mut |_, _| sshd.stop()).await;
    let error = outcome.unwrap_err();
    assert!(matches!(&error, Error::Lost { pid: Some(_), .. }), "{error}");
    assert_eq!(error.took_effect(), TookEffect::Maybe);
    assert!(error.is_connection());
}

async fn silent_server() {
    let sshd = Sshd::start("");
    let mut config = sshd.config();
    config.timeouts.keepalive = Duration::from_secs(1);
    config.timeouts.keepalive_max = 2;
    let host = pve_ssh::Host::new(config);
    let command = Command::new("sleep").arg("30.666");
    let command_run = run(&host, &command, RunOptions::within(Duration::from_secs(60)));
    let stop = async {
        eventually("the command runs", || running("sleep 30.666") > 0).await;
        for pid in sshd.sessions() {
            signal(pid, "STOP");
        }
        Instant::now()
    };
    let (outcome, stopped) = tokio::join!(command_run, stop);
    let error = outcome.unwrap_err();
    assert!(matches!(&error, Error::Lost { reason, .. } if reason.contains("keepalive")), "{error}");
    assert!(stopped.elapsed() < Duration::from_secs(15));
    for pid in sshd.sessions() {
        signal(pid, "KILL");
    }
}

async fn new_connection_after_loss() {
    let mut sshd = Sshd::start("");
    let host = sshd.host();
    host.run_to_success(&Command::new("true"), Duration::from_secs(30)).await.unwrap();
    sshd.restart();
    let mut outcome = host.run_to_success(&Command::new("true"), Duration::from_secs(30)).await;
    if outcome.as_ref().is_err_and(Error::is_connection) {
        outcome = host.run_to_success(&Command::new("true"), Duration::from_secs(30)).await;
    }
    outcome.unwrap();
}

async fn left_behind() {
    let mut sshd = Sshd::start("");
    let host = sshd.host();
    // A command that does not notice that the connection is closed.
    let command = sh("echo go; exec sleep 300.777");
    let outcome = host.run(&command, quick(), &mut |_, _| sshd.restart()).await;
    let Error::Lost { pid: Some(pid), .. } = outcome.unwrap_err() else { panic!("not lost") };
    assert!(running("sleep 300.777") > 0, "it is still running, as it was not stopped");
    assert_eq!(host.end_left_behind(pid).await, Ended::Yes);
    eventually("the process is gone", || running("sleep 300.777") == 0).await;
}

async fn errors_are_fit() {
    let sshd = Sshd::start("");
    let command = sh("printf 'a\\033[31mred\\007\\n' >&2; exit 1");
    let error = sshd.host().run_to_success(&command, Duration::from_secs(30)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(r"a\u{1b}[31mred\u{7}"), "{text}");
    assert!(!text.chars().any(char::is_control), "{text}");
}
