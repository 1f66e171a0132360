//! Which hosts are believed, and hosts behind others.

use crate::node::{Node, run};
use crate::test;
use libtest_mimic::Trial;
use pve_ssh::{Error, Host, HostKeyError, UnknownHost};

pub fn tests() -> Vec<Trial> {
    vec![
        test("hosts::an_unknown_host_is_added_only_when_asked_for", first_use),
        test("hosts::a_reinstalled_host_is_refused", new_keys),
        test("hosts::a_container_is_reached_through_another", jump),
        test("hosts::a_jump_that_forwards_nothing_is_said_to_do_so", jump_without_forwarding),
    ]
}

async fn first_use() {
    let node = Node::start("", "").await;
    let known = std::fs::read_to_string(node.path("known_hosts")).unwrap();
    std::fs::write(node.path("known_hosts"), "").unwrap();
    let mut config = node.config();
    let error = Host::new(config.clone()).check().await.unwrap_err();
    assert!(matches!(error, Error::HostKey(HostKeyError::Unknown(_))), "{error}");
    config.known_hosts.unknown = UnknownHost::TrustOnFirstUse;
    Host::new(config).check().await.unwrap();
    assert_eq!(std::fs::read_to_string(node.path("known_hosts")).unwrap(), known);
}

async fn new_keys() {
    let node = Node::start("", "").await;
    node.host().check().await.unwrap();
    node.stop_sshd().await;
    node.sh("rm /etc/ssh/ssh_host_*; ssh-keygen -A >/dev/null").await;
    node.start_sshd().await;
    let mut config = node.config();
    config.known_hosts.unknown = UnknownHost::TrustOnFirstUse;
    let error = Host::new(config).check().await.unwrap_err();
    assert!(matches!(&error, Error::HostKey(HostKeyError::Changed(_))), "{error}");
}

async fn jump() {
    let (near, far) = (Node::start("", "").await, Node::start("", "").await);
    let mut config = far.config();
    config.jump = Some(Box::new(near.config()));
    let host = Host::new(config);
    let name = far.sh("hostname").await;
    assert_eq!(run(&host, &["hostname"]).await, name);
    // sshd of the far one sees the near one.
    let log = far.sh("cat /var/log/sshd.log").await;
    assert!(log.contains(&format!("from {}", near.address)), "{log}");
}

async fn jump_without_forwarding() {
    let near = Node::start("AllowTcpForwarding no", "").await;
    let far = Node::start("", "").await;
    let mut config = far.config();
    config.jump = Some(Box::new(near.config()));
    let error = Host::new(config).check().await.unwrap_err();
    assert!(matches!(&error, Error::Jump { .. }), "{error}");
    use std::error::Error as _;
    let cause = error.source().and_then(|source| source.source()).unwrap().to_string();
    assert!(cause.contains("does not forward"), "{cause}");
}
