//! Users who are not root.

use crate::node::{LIMIT, Node, eventually, run};
use crate::test;
use libtest_mimic::Trial;
use pve_ssh::{
    Command, Ended, Error, Host, HostConfig, Privilege, RunOptions, SudoProblem, TookEffect, Upload,
};
use std::time::Duration;

pub fn tests() -> Vec<Trial> {
    vec![
        test("sudo::a_user_with_sudo_runs_commands_as_root", as_root),
        test("sudo::a_user_with_sudo_uploads_where_only_root_may_write", uploads),
        test("sudo::a_command_of_root_is_ended_for_a_user_with_sudo", ends),
        test("sudo::a_user_without_sudo_is_told_what_to_do", refused),
        test("sudo::a_host_without_sudo_is_told_apart", not_installed),
    ]
}

/// Three users with root's key: one that may use sudo, one that sudo asks for a password, and one that may not use it.
pub const USERS: &str = "for u in deploy asked guest; do useradd -m -d /srv/$u -s /bin/bash $u; mkdir /srv/$u/.ssh; \
    cp /root/.ssh/authorized_keys /srv/$u/.ssh/; chown -R $u: /srv/$u/.ssh; done; \
    echo 'deploy ALL=(root) NOPASSWD: ALL' > /etc/sudoers.d/vmdeploy; \
    echo 'asked ALL=(root) ALL' > /etc/sudoers.d/asked;";

fn config_of(node: &Node, user: &str) -> HostConfig {
    HostConfig { user: user.to_owned(), ..node.config() }
}

async fn as_root() {
    let node = Node::start("", USERS).await;
    let host = Host::new(config_of(&node, "deploy"));
    assert_eq!(host.check().await.unwrap(), Privilege::Sudo);
    assert_eq!(run(&host, &["whoami"]).await, "root\n");
    assert_eq!(run(&host, &["printf", "%s|", "it's", "$HOME", "a b"]).await, "it's|$HOME|a b|");
    run(&host, &["true"]).await;
    // It was found out once: `sudo true` was run for it, and for the last command.
    let log = node.sh("grep -c 'Accepted publickey' /var/log/sshd.log").await;
    assert_eq!(log.trim(), "1");
}

async fn uploads() {
    let node = Node::start("", USERS).await;
    let host = Host::new(config_of(&node, "deploy"));
    node.sh("mkdir -m 700 /root/private").await;
    let upload = Upload::private_text("content\n", "/root/private/it's");
    host.upload(&upload, &mut |_, _| {}).await.unwrap();
    assert_eq!(node.sh("cat /root/private/*; stat -c '%U %a' /root/private/*").await, "content\nroot 600\n");
}

async fn ends() {
    let node = Node::start("", USERS).await;
    let host = Host::new(config_of(&node, "deploy"));
    let options = RunOptions::within(Duration::from_secs(2));
    let command = Command::new("sleep").arg("4000.1");
    let error = host.run(&command, options, &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(&error, Error::Deadline { ended: Ended::Yes, .. }), "{error}");
    eventually("the process is gone", async || !node.runs("4000.1").await).await;
}

async fn refused() {
    let node = Node::start("", USERS).await;
    for user in ["guest", "asked"] {
        let host = Host::new(config_of(&node, user));
        let error = host.run_to_success(&Command::new("whoami"), LIMIT).await.unwrap_err();
        let Error::Sudo { why: SudoProblem::Refused(said), .. } = &error else { panic!("{user}: {error}") };
        assert!(said.contains("password is required"), "{user}: {said}");
        assert!(error.is_access() && error.took_effect() == TookEffect::No, "{user}: {error}");
        assert!(error.to_string().contains(&format!("`{user} ALL=(root) NOPASSWD: ALL`")), "{error}");
    }
}

async fn not_installed() {
    let node = Node::start("", &format!("{USERS} rm $(command -v sudo);")).await;
    let host = Host::new(config_of(&node, "deploy"));
    let error = host.run_to_success(&Command::new("whoami"), LIMIT).await.unwrap_err();
    assert!(matches!(&error, Error::Sudo { why: SudoProblem::NotInstalled, .. }), "{error}");
    assert!(error.to_string().contains("`apt install sudo`"), "{error}");
}
