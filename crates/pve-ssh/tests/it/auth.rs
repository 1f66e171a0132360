//! Logging in with every kind of key.

use crate::sshd::{Sshd, has_program, keygen, output};
use crate::{Needs, test};
use libtest_mimic::Trial;
use pve_ssh::{AskPassphrase, Credential, Error, Host, HostConfig, KeyError, Keyring, Passphrase};
use pve_types::Secret;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub fn tests() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (kind, extra) in [
        ("ed25519", &[][..]),
        ("ecdsa", &[]),
        ("rsa", &[]),
        ("rsa", &["-m", "PEM"]),
        ("ecdsa", &["-b", "384"]),
        ("ecdsa", &["-b", "521"]),
        ("ecdsa", &["-m", "PEM"]),
        ("ecdsa", &["-b", "521", "-m", "PKCS8"]),
        ("rsa", &["-m", "PKCS8"]),
    ] {
        let name = format!("auth::{}_logs_in", [&[kind][..], extra].concat().join("_").replace('-', ""));
        trials.push(test(&name, Needs::Sshd, move || key_logs_in(kind, extra)));
    }
    for (kind, extra) in [
        ("ed25519", &[][..]),
        ("rsa", &["-m", "PEM"]),
        ("rsa", &["-m", "PKCS8"]),
        ("ecdsa", &["-m", "PKCS8"]),
        ("ecdsa", &["-Z", "aes256-gcm@openssh.com"]),
    ] {
        let form = extra.iter().map(|word| word.trim_start_matches('-').replace(['@', '.'], "_"));
        let name = form.fold(format!("auth::encrypted_{kind}"), |name, word| format!("{name}_{word}"));
        let name = format!("{name}_asks_once_for_all_connections");
        trials.push(test(&name, Needs::Sshd, move || encrypted_key(kind, extra)));
    }
    for kind in ["ed25519", "rsa", "ecdsa"] {
        let name = format!("auth::{kind}_user_certificate_logs_in");
        trials.push(test(&name, Needs::Sshd, move || user_certificate(kind)));
    }
    trials.extend([
        test("auth::agent_logs_in_with_every_kind", Needs::Sshd, agent),
        test("auth::ecdsa_keys_with_short_numbers_log_in", Needs::Sshd, short_numbers),
        test("auth::a_key_that_no_passphrase_opens_is_said_to_be_one", Needs::Sshd, no_passphrase_helps),
        test("auth::a_wrong_passphrase_is_said_to_be_wrong", Needs::Sshd, wrong_passphrase),
        test(
            "auth::an_encrypted_key_without_a_passphrase_source_is_refused",
            Needs::Sshd,
            no_passphrase_source,
        ),
        test("auth::a_key_that_others_can_read_is_refused", Needs::Sshd, readable_key),
        test("auth::a_refused_log_in_says_what_was_tried", Needs::Sshd, refused),
        test("auth::the_second_key_logs_in_after_the_first_was_refused", Needs::Sshd, second_key),
        test("auth::a_jump_host_is_passed_and_judged", Needs::Sshd, jump),
        test("auth::a_silent_listener_times_out", Needs::Sshd, silent_listener),
    ]);
    trials
}

/// Makes a key, enables it, and returns its path.
fn new_key(sshd: &Sshd, kind: &str, arguments: &[&str]) -> PathBuf {
    let path = sshd.path(&format!("key_{kind}"));
    let mut all = vec!["-t", kind, "-f", path.to_str().unwrap()];
    if kind == "rsa" {
        all.extend(["-b", "2048"]);
    }
    all.extend(arguments);
    keygen(&all);
    sshd.authorize(&path.with_extension("pub"));
    path
}

fn config_with(sshd: &Sshd, credential: Credential) -> HostConfig {
    let mut config = sshd.config();
    config.credentials = vec![credential];
    config
}

async fn key_logs_in(kind: &str, arguments: &'static [&str]) {
    let sshd = Sshd::start("");
    std::fs::write(sshd.path("authorized_keys"), "").unwrap();
    let key = new_key(&sshd, kind, arguments);
    Host::new(config_with(&sshd, Credential::key_file(&key))).check().await.unwrap();
    let text = Secret::new(std::fs::read_to_string(key).unwrap());
    Host::new(config_with(&sshd, Credential::Key(text))).check().await.unwrap();
}

struct Asker {
    answer: &'static str,
    asked: AtomicU32,
}

impl AskPassphrase for Asker {
    fn ask(&self, _path: &Path, _attempt: u32) -> Passphrase {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = Secret::new(self.answer);
        Box::pin(async move { Ok(answer) })
    }
}

fn asker(answer: &'static str) -> Arc<Asker> {
    Arc::new(Asker { answer, asked: AtomicU32::new(0) })
}

async fn encrypted_key(kind: &str, arguments: &'static [&str]) {
    let sshd = Sshd::start("");
    let key = new_key(&sshd, kind, &[&["-N", "open sesame"], arguments].concat());
    let asker = asker("open sesame");
    let mut config = config_with(&sshd, Credential::key_file(key));
    config.keyring = Arc::new(Keyring::with_asker(asker.clone()));
    let (one, two) = (Host::new(config.clone()), Host::new(config));
    let (first, second) = tokio::join!(one.check(), two.check());
    first.unwrap();
    second.unwrap();
    assert_eq!(asker.asked.load(Ordering::SeqCst), 1);
}

async fn wrong_passphrase() {
    let sshd = Sshd::start("");
    let key = new_key(&sshd, "ed25519", &["-N", "open sesame"]);
    let asker = asker("wrong");
    let mut config = config_with(&sshd, Credential::key_file(key));
    config.keyring = Arc::new(Keyring::with_asker(asker));
    let error = Host::new(config).check().await.unwrap_err();
    assert!(matches!(&error, Error::Key(KeyError::WrongPassphrase { .. })), "{error}");
    assert!(error.is_access());
}

/// Makes a P-256 (32), P-384 (48) or P-521 (66) key whose private number is `number`, as ssh-keygen writes it.
fn ecdsa_key(sshd: &Sshd, size: usize, number: &[u8], arguments: &[&str]) -> PathBuf {
    use base64::Engine as _;
    // RFC 5915: SEQUENCE { 1, the number in full length, [0] { the curve } }.
    let curve: &[u8] = match size {
        32 => &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
        48 => &[0x06, 5, 0x2b, 0x81, 4, 0, 34],
        _ => &[0x06, 5, 0x2b, 0x81, 4, 0, 35],
    };
    let mut der = vec![2, 1, 1, 4, size as u8];
    der.extend(std::iter::repeat_n(0, size - number.len()));
    der.extend(number);
    der.extend([0xa0, curve.len() as u8]);
    der.extend(curve);
    der.splice(0..0, [0x30, der.len() as u8]);
    let body = base64::prelude::BASE64_STANDARD.encode(der);
    let pem = format!("-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----\n");
    let key = russh::keys::decode_secret_key(&pem, None).unwrap();
    let path = sshd.path(&format!("key_{size}_{}{}", number.len(), arguments.concat()));
    key.write_openssh_file(&path, russh::keys::ssh_key::LineEnding::LF).unwrap();
    // ssh-keygen reads it, and writes it as it writes its own.
    let file = path.to_str().unwrap();
    output("ssh-keygen", &["-q", "-p", "-P", "", "-N", "", "-f", file]);
    let text = std::fs::read_to_string(&path).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let container = base64::prelude::BASE64_STANDARD.decode(body).unwrap();
    let written = [&(number.len() as u32).to_be_bytes(), number].concat();
    assert!(container.windows(written.len()).any(|window| window == written), "{size} {}", number.len());
    if !arguments.is_empty() {
        output("ssh-keygen", &[&["-q", "-p", "-P", "", "-f", file], arguments].concat());
    }
    let public = path.with_extension("pub");
    std::fs::write(&public, output("ssh-keygen", &["-y", "-P", "open sesame", "-f", file])).unwrap();
    sshd.authorize(&public);
    path
}

async fn short_numbers() {
    let sshd = Sshd::start("");
    std::fs::write(sshd.path("authorized_keys"), "").unwrap();
    let digits: Vec<u8> = (1..=66).collect();
    let logs_in = async |key: &Path| {
        let mut config = config_with(&sshd, Credential::key_file(key));
        config.keyring = Arc::new(Keyring::with_asker(asker("open sesame")));
        Host::new(config).check().await.unwrap_or_else(|error| panic!("{}: {error}", key.display()));
    };
    // The shortest that OpenSSH takes have a little more than half the bits of their curve.
    for (size, lengths) in [(32, &[32, 31, 30, 17][..]), (48, &[48, 47, 32, 31, 25]), (66, &[65, 64, 48, 34])]
    {
        for &length in lengths {
            logs_in(&ecdsa_key(&sshd, size, &digits[..length], &[])).await;
        }
    }
    for cipher in ["aes256-ctr", "aes256-cbc", "aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"] {
        for (size, length) in [(32, 31), (48, 31), (66, 34)] {
            let arguments = ["-N", "open sesame", "-Z", cipher];
            logs_in(&ecdsa_key(&sshd, size, &digits[..length], &arguments)).await;
        }
    }
    // A wrong passphrase is found out here, too.
    let key = ecdsa_key(&sshd, 32, &digits[..30], &["-N", "open sesame"]);
    let mut config = config_with(&sshd, Credential::key_file(key));
    config.keyring = Arc::new(Keyring::with_asker(asker("wrong")));
    let error = Host::new(config).check().await.unwrap_err();
    assert!(matches!(&error, Error::Key(KeyError::WrongPassphrase { .. })), "{error}");
}

/// A key that exists but cannot be parsed is not a wrong passphrase, and the passphrase is not requested three times.
async fn no_passphrase_helps() {
    let sshd = Sshd::start("");
    for (kind, arguments, expected) in [
        ("ed25519", &["-Z", "3des-cbc"][..], "encrypted by 3des-cbc, which is not supported"),
        ("ecdsa", &["-m", "PEM"], "`ssh-keygen -p -f FILE` rewrites it"),
    ] {
        let key = new_key(&sshd, kind, &[arguments, &["-N", "open sesame"]].concat());
        let asker = asker("open sesame");
        let mut config = config_with(&sshd, Credential::key_file(key));
        config.keyring = Arc::new(Keyring::with_asker(asker.clone()));
        let error = Host::new(config).check().await.unwrap_err();
        assert!(matches!(&error, Error::Key(KeyError::Format { .. })), "{kind}: {error}");
        assert!(error.to_string().contains(expected), "{kind}: {error}");
        assert!(asker.asked.load(Ordering::SeqCst) <= 1);
    }
}

async fn no_passphrase_source() {
    let sshd = Sshd::start("");
    let key = new_key(&sshd, "ed25519", &["-N", "open sesame"]);
    let error = Host::new(config_with(&sshd, Credential::key_file(key))).check().await.unwrap_err();
    assert!(matches!(&error, Error::Key(KeyError::Locked { .. })), "{error}");
}

async fn readable_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let sshd = Sshd::start("");
    let key = sshd.path("user");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = sshd.host().check().await.unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

async fn user_certificate(kind: &str) {
    let sshd = Sshd::start("TrustedUserCAKeys FOLDER/authority.pub");
    let authority = sshd.path("authority");
    keygen(&["-t", "ed25519", "-f", authority.to_str().unwrap()]);
    let key = new_key(&sshd, kind, &[]);
    // Only the certificate lets in.
    std::fs::write(sshd.path("authorized_keys"), "").unwrap();
    output(
        "ssh-keygen",
        &[
            "-q",
            "-s",
            authority.to_str().unwrap(),
            "-I",
            "test",
            "-n",
            "root",
            &format!("{}.pub", key.display()),
        ],
    );
    Host::new(config_with(&sshd, Credential::key_file(&key))).check().await.unwrap();
    let certificate = sshd.path("elsewhere.pub");
    std::fs::rename(format!("{}-cert.pub", key.display()), &certificate).unwrap();
    let named = Credential::KeyFile { path: key.clone(), certificate: Some(certificate) };
    Host::new(config_with(&sshd, named)).check().await.unwrap();
    let error = Host::new(config_with(&sshd, Credential::key_file(key))).check().await.unwrap_err();
    assert!(matches!(error, Error::Auth { .. }));
}

/// An ssh-agent that ends with the value.
struct Agent {
    socket: PathBuf,
    child: std::process::Child,
}

impl Agent {
    async fn start(sshd: &Sshd) -> Self {
        let socket = sshd.path("agent");
        let child = std::process::Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let agent = Self { socket, child };
        crate::sshd::eventually("the agent listens", || agent.socket.exists()).await;
        agent
    }

    fn add(&self, key: &Path) {
        let mut run = std::process::Command::new("ssh-add");
        assert!(run_ok(run.arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket)));
    }
}

fn run_ok(command: &mut std::process::Command) -> bool {
    command.stderr(std::process::Stdio::null()).status().unwrap().success()
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn agent() {
    assert!(has_program("ssh-agent") && has_program("ssh-add"));
    let sshd = Sshd::start("");
    std::fs::write(sshd.path("authorized_keys"), "").unwrap();
    let agent = Agent::start(&sshd).await;
    for kind in ["ed25519", "rsa", "ecdsa"] {
        let key = new_key(&sshd, kind, &[]);
        agent.add(&key);
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        let only = Credential::Agent { socket: agent.socket.clone(), only: vec![public] };
        Host::new(config_with(&sshd, only)).check().await.unwrap();
    }
    let all = Credential::Agent { socket: agent.socket.clone(), only: Vec::new() };
    Host::new(config_with(&sshd, all)).check().await.unwrap();
    let gone = Credential::Agent { socket: sshd.path("nowhere"), only: Vec::new() };
    let error = Host::new(config_with(&sshd, gone)).check().await.unwrap_err();
    assert!(error.to_string().contains("ssh-agent"), "{error}");
}

async fn refused() {
    let sshd = Sshd::start("");
    std::fs::write(sshd.path("authorized_keys"), "").unwrap();
    let error = sshd.host().check().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Auth { .. }), "{text}");
    assert!(
        text.contains("`root` cannot log in") && text.contains("/user") && text.contains("publickey"),
        "{text}"
    );
}

async fn second_key() {
    let sshd = Sshd::start("");
    let other = sshd.path("other");
    keygen(&["-t", "ed25519", "-f", other.to_str().unwrap()]);
    let mut config = sshd.config();
    config.credentials = vec![
        Credential::key_file(sshd.path("none")),
        Credential::key_file(other),
        Credential::key_file(sshd.path("user")),
    ];
    Host::new(config).check().await.unwrap();
}

async fn jump() {
    let (near, far) = (Sshd::start(""), Sshd::start(""));
    let mut config = far.config();
    config.jump = Some(Box::new(near.config()));
    let host = Host::new(config.clone());
    let output =
        host.run_to_success(&pve_ssh::Command::new("whoami"), std::time::Duration::from_secs(30)).await;
    assert_eq!(output.unwrap().stdout, "root\n");
    // The host between is judged as any other.
    let mut unknown = near.config();
    unknown.known_hosts.files = vec![near.path("empty")];
    config.jump = Some(Box::new(unknown));
    let error = Host::new(config).check().await.unwrap_err();
    assert!(matches!(&error, Error::Jump { source, .. } if matches!(**source, Error::HostKey(_))), "{error}");
    assert!(error.is_access());
}

async fn silent_listener() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = HostConfig::new("127.0.0.1", "root");
    config.port = listener.local_addr().unwrap().port();
    config.timeouts.banner = std::time::Duration::from_millis(300);
    let error = Host::new(config).check().await.unwrap_err();
    assert!(matches!(&error, Error::Connect { .. }) && error.is_connection(), "{error}");
    use std::error::Error as _;
    assert_eq!(
        error.source().unwrap().to_string(),
        "the service there sent nothing within 0.3 s; an SSH server sends a banner immediately"
    );
}
