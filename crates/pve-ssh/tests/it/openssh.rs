//! `~/.ssh/config`, asked of the `ssh` that is installed.

use crate::sshd::{Sshd, has_program};
use crate::{Needs, test};
use libtest_mimic::Trial;
use pve_ssh::openssh::{Asking, OpenSshError, resolve};
use pve_ssh::{Command, Host, Keyring, UnknownHost};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub fn tests() -> Vec<Trial> {
    vec![
        test("openssh::a_host_of_the_configuration_is_reached_by_its_name", Needs::Sshd, by_name),
        test("openssh::a_jump_of_the_configuration_is_taken", Needs::Sshd, by_jump),
        test("openssh::what_the_caller_says_comes_first", Needs::Sshd, what_the_caller_says_comes_first),
        test("openssh::mistakes_are_told_in_the_words_of_ssh", Needs::Sshd, mistakes),
    ]
}

fn asking(sshd: &Sshd, config: &str) -> Asking {
    assert!(has_program("ssh"));
    std::fs::write(sshd.path("ssh_config"), config).unwrap();
    Asking {
        program: PathBuf::from("ssh"),
        config_file: Some(sshd.path("ssh_config")),
        home: sshd.folder.path().to_owned(),
        agent: None,
        default_user: "root".to_owned(),
        keys: Vec::new(),
        known_hosts: Vec::new(),
        jumps: Vec::new(),
        user: None,
        port: None,
        keyring: Arc::new(Keyring::default()),
        unknown: UnknownHost::Refuse,
    }
}

fn entry(name: &str, sshd: &Sshd) -> String {
    let known = sshd.config().known_hosts.files[0].display().to_string();
    format!(
        "Host {name}\n  HostName 127.0.0.1\n  Port {}\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
         UserKnownHostsFile {known}\n",
        sshd.port,
        sshd.path("user").display()
    )
}

async fn by_name() {
    let sshd = Sshd::start("");
    // A Match block, an include and a wildcard, as people have them.
    std::fs::write(sshd.path("more"), entry("pve1", &sshd)).unwrap();
    let config = format!(
        "Include {}\nMatch host other\n  Port 1\nHost *\n  User nobody\n",
        sshd.path("more").display()
    );
    let found = resolve("pve1", &asking(&sshd, &config)).await.unwrap();
    assert_eq!((found.host.as_str(), found.port, found.user.as_str()), ("127.0.0.1", sshd.port, "root"));
    let output =
        Host::new(found).run_to_success(&Command::new("whoami"), Duration::from_secs(30)).await.unwrap();
    assert_eq!(output.stdout, "root\n");
}

async fn by_jump() {
    let (near, far) = (Sshd::start(""), Sshd::start(""));
    let config = format!("{}{}  ProxyJump near\n", entry("near", &near), entry("far", &far));
    let found = resolve("far", &asking(&far, &config)).await.unwrap();
    assert_eq!(found.jump.as_ref().map(|jump| jump.port), Some(near.port));
    Host::new(found).run_to_success(&Command::new("true"), Duration::from_secs(30)).await.unwrap();
    assert!(std::fs::read_to_string(near.path("log")).unwrap().contains("Accepted publickey"));
}

async fn what_the_caller_says_comes_first() {
    let (near, far) = (Sshd::start(""), Sshd::start(""));
    let nobody = entry("far", &far).replace(&far.port.to_string(), "1").replace("User root", "User nobody");
    let mut asking = asking(&far, &format!("{}{nobody}", entry("near", &near)));
    asking.user = Some("root".to_owned());
    asking.port = Some(far.port);
    asking.keys = vec![far.path("user")];
    asking.jumps = vec!["near".to_owned()];
    asking.known_hosts = vec![far.path("all_known_hosts")];
    std::fs::write(
        far.path("all_known_hosts"),
        format!("{}{}", near.known_line("ed25519"), far.known_line("ed25519")),
    )
    .unwrap();
    far.authorize(&near.path("user.pub"));
    near.authorize(&far.path("user.pub"));
    let found = resolve("far", &asking).await.unwrap();
    Host::new(found).run_to_success(&Command::new("true"), Duration::from_secs(30)).await.unwrap();
    // Without a setting, the default applies.
    let silent = resolve("127.0.0.1", &Asking { user: None, ..asking }).await.unwrap();
    assert_eq!(silent.user, "root");
}

async fn mistakes() {
    let sshd = Sshd::start("");
    let error = resolve("pve1", &asking(&sshd, "Nonsense yes\n")).await.unwrap_err();
    assert!(
        matches!(&error, OpenSshError::Failed { .. }) && error.to_string().contains("onsense"),
        "{error}"
    );
    for host in ["-oProxyCommand=id", "", "a b"] {
        let error = resolve(host, &asking(&sshd, "")).await.unwrap_err();
        assert!(matches!(error, OpenSshError::Host { .. }));
    }
}
