//! Connections shared by many commands at once.

use crate::sshd::Sshd;
use crate::{Needs, test};
use libtest_mimic::Trial;
use pve_ssh::{Command, Error, Host};
use std::time::Duration;

pub fn tests() -> Vec<Trial> {
    vec![
        test("pool::many_commands_share_few_connections", Needs::Sshd, || many("", 64, 4)),
        test("pool::a_low_max_sessions_is_lived_with", Needs::Sshd, || many("MaxSessions 2", 16, 4)),
        test("pool::one_session_a_connection_is_enough", Needs::Sshd, || many("MaxSessions 1", 8, 4)),
        test("pool::no_session_at_all_is_an_error", Needs::Sshd, no_sessions),
        test("pool::hosts_that_connect_at_once_outlive_max_startups", Needs::Sshd, max_startups),
    ]
}

async fn many(extra: &'static str, count: usize, connections: usize) {
    let sshd = Sshd::start(extra);
    let host = sshd.host();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..count {
        let host = host.clone();
        tasks.spawn(async move {
            let command = Command::new("sh").arg("-c").arg(format!("sleep 0.2; echo {number}"));
            let output = host.run_to_success(&command, Duration::from_secs(60)).await.unwrap();
            assert_eq!(output.stdout, format!("{number}\n"));
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let log = std::fs::read_to_string(sshd.path("log")).unwrap();
    let accepted = log.matches("Accepted publickey").count();
    assert!(accepted <= connections, "{accepted} connections for {count} commands");
}

async fn no_sessions() {
    let sshd = Sshd::start("MaxSessions 0");
    let error = sshd.host().run_to_success(&Command::new("true"), Duration::from_secs(30)).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { .. }), "{error}");
    assert!(error.to_string().contains("MaxSessions"), "{error}");
}

async fn max_startups() {
    let sshd = Sshd::start("MaxStartups 2:50:4");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let host = Host::new(sshd.config());
        tasks.spawn(async move { host.run_to_success(&Command::new("true"), Duration::from_secs(60)).await });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap().unwrap();
    }
}
