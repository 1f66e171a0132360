//! Logging in, in every way.

use crate::node::{Node, keygen, run};
use crate::test;
use libtest_mimic::Trial;
use pve_ssh::{AskPassphrase, Credential, Error, Host, Keyring, Passphrase};
use pve_types::Secret;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub fn tests() -> Vec<Trial> {
    vec![
        test("auth::keys_of_every_kind_log_in", every_kind),
        test("auth::encrypted_keys_log_in", encrypted),
        test("auth::the_agent_logs_in", agent),
        test("auth::user_certificates_log_in", certificates),
        test("auth::a_password_logs_in_when_it_is_given", password),
        test("auth::a_password_is_given_to_prompts_as_well", prompts),
        test("auth::nothing_but_what_was_given_is_tried", only_what_was_given),
    ]
}

/// Makes a key that alone may log in.
async fn new_key(node: &Node, name: &str, arguments: &[&str]) -> PathBuf {
    let path = node.path(name);
    keygen(&[&["-f", path.to_str().unwrap()], arguments].concat());
    let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    node.sh(&format!("echo '{}' > /root/.ssh/authorized_keys", public.trim())).await;
    path
}

async fn logs_in(node: &Node, credential: Credential, keyring: Keyring) {
    let mut config = node.config();
    config.credentials = vec![credential];
    config.keyring = Arc::new(keyring);
    assert_eq!(run(&Host::new(config), &["whoami"]).await, "root\n");
}

async fn every_kind() {
    let node = Node::start("", "").await;
    for arguments in [
        &["-t", "ed25519"][..],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        &["-t", "rsa", "-b", "2048"],
        &["-t", "rsa", "-b", "3072", "-m", "PEM"],
    ] {
        let key = new_key(&node, &arguments[1..].concat(), arguments).await;
        logs_in(&node, Credential::key_file(key), Keyring::default()).await;
    }
}

struct Sesame;

impl AskPassphrase for Sesame {
    fn ask(&self, _path: &Path, _attempt: u32) -> Passphrase {
        Box::pin(async { Ok(Secret::new("open sesame")) })
    }
}

async fn encrypted() {
    let node = Node::start("", "").await;
    for arguments in [&["-t", "ed25519"][..], &["-t", "rsa", "-m", "PEM"], &["-t", "ecdsa"]] {
        let with_passphrase = [arguments, &["-N", "open sesame"]].concat();
        let key = new_key(&node, &arguments[1..].concat(), &with_passphrase).await;
        logs_in(&node, Credential::key_file(key), Keyring::with_asker(Arc::new(Sesame))).await;
    }
}

async fn agent() {
    let node = Node::start("", "").await;
    let key = new_key(&node, "agent-key", &["-t", "ed25519"]).await;
    let socket = node.path("agent");
    let mut agent = std::process::Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&socket)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    crate::node::eventually("the agent listens", async || socket.exists()).await;
    let added =
        std::process::Command::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket).status();
    assert!(added.unwrap().success());
    logs_in(&node, Credential::Agent { socket, only: Vec::new() }, Keyring::default()).await;
    agent.kill().unwrap();
    agent.wait().unwrap();
}

async fn certificates() {
    let node = Node::start("TrustedUserCAKeys /etc/ssh/authority.pub", ": > /etc/ssh/authority.pub;").await;
    let authority = node.path("authority");
    keygen(&["-t", "ed25519", "-f", authority.to_str().unwrap()]);
    let public = std::fs::read_to_string(authority.with_extension("pub")).unwrap();
    node.sh(&format!("echo '{}' > /etc/ssh/authority.pub", public.trim())).await;
    for kind in ["ed25519", "rsa", "ecdsa"] {
        let key = new_key(&node, &format!("certified-{kind}"), &["-t", kind]).await;
        node.sh(": > /root/.ssh/authorized_keys").await;
        let public = key.with_extension("pub");
        keygen(&["-s", authority.to_str().unwrap(), "-I", "test", "-n", "root", public.to_str().unwrap()]);
        logs_in(&node, Credential::key_file(key), Keyring::default()).await;
    }
}

const SET_PASSWORD: &str = "echo 'root:correct horse' | chpasswd;";

async fn password() {
    let node = Node::start("PermitRootLogin yes\nPasswordAuthentication yes", SET_PASSWORD).await;
    logs_in(&node, Credential::Password(Secret::new("correct horse")), Keyring::default()).await;
    let mut config = node.config();
    config.credentials = vec![Credential::Password(Secret::new("wrong horse"))];
    let error = Host::new(config).check().await.unwrap_err();
    assert!(matches!(&error, Error::Auth { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("horse"));
}

async fn prompts() {
    let config = "PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication yes";
    let node = Node::start(config, SET_PASSWORD).await;
    logs_in(&node, Credential::Password(Secret::new("correct horse")), Keyring::default()).await;
}

async fn only_what_was_given() {
    let node = Node::start("", ": > /root/.ssh/authorized_keys;").await;
    let error = node.host().check().await.unwrap_err();
    assert!(matches!(&error, Error::Auth { .. }), "{error}");
    let log = node.sh("cat /var/log/sshd.log").await;
    assert!(!log.contains("Accepted"), "{log}");
}
