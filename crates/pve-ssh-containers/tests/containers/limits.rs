//! sshd's own limits.

use crate::node::{LIMIT, Node};
use crate::test;
use libtest_mimic::Trial;
use pve_ssh::{Command, Host};

pub fn tests() -> Vec<Trial> {
    vec![
        test("limits::the_default_max_sessions_is_enough_for_64_commands", || sessions("", 64)),
        test("limits::max_sessions_1_is_enough_for_12_commands", || sessions("MaxSessions 1", 12)),
        test("limits::max_startups_is_outlived", startups),
    ]
}

async fn sessions(config: &'static str, count: usize) {
    let node = Node::start(config, "").await;
    let host = node.host();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..count {
        let host = host.clone();
        tasks.spawn(async move {
            let command = Command::new("sh").arg("-c").arg(format!("sleep 0.1; echo {number}"));
            let output = host.run_to_success(&command, LIMIT).await.unwrap();
            assert_eq!(output.stdout, format!("{number}\n"));
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let accepted = node.sh("grep -c 'Accepted publickey' /var/log/sshd.log").await;
    assert!(accepted.trim().parse::<usize>().unwrap() <= 4, "{accepted}");
}

async fn startups() {
    let node = Node::start("MaxStartups 1:60:3", "").await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let host = Host::new(node.config());
        tasks.spawn(async move { host.run_to_success(&Command::new("true"), LIMIT).await });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap().unwrap();
    }
}
