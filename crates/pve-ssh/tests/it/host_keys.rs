//! Which hosts are believed.

use crate::sshd::{Sshd, keygen, output};
use crate::{Needs, test};
use libtest_mimic::Trial;
use pve_ssh::{Error, Host, HostConfig, HostKeyError, UnknownHost};

pub fn tests() -> Vec<Trial> {
    vec![
        test("host_keys::an_unknown_host_is_refused_with_what_to_do", Needs::Sshd, unknown_host),
        test("host_keys::the_first_use_is_trusted_when_asked_for", Needs::Sshd, first_use),
        test("host_keys::a_changed_key_is_refused_always", Needs::Sshd, changed_key),
        test("host_keys::files_of_every_form_are_read", Needs::Sshd, every_form),
        test("host_keys::a_revoked_key_is_refused_though_it_is_known", Needs::Sshd, revoked_key),
        test("host_keys::the_known_type_is_asked_for", Needs::Sshd, known_type),
        test("host_keys::another_type_than_the_known_is_a_change", Needs::Sshd, other_type),
        test("host_keys::an_alias_is_looked_up_without_the_port", Needs::Sshd, alias),
        test("host_keys::a_host_certificate_is_checked", Needs::Sshd, host_certificate),
        test("host_keys::a_host_that_signs_with_sha_1_alone_is_refused", Needs::Sshd, sha_1),
        test("host_keys::a_login_with_a_short_rsa_key_is_not_tried", Needs::Sshd, short_login_key),
    ]
}

fn config_knowing(sshd: &Sshd, known: &str) -> HostConfig {
    let file = sshd.path("known_hosts");
    std::fs::write(&file, known).unwrap();
    sshd.config()
}

async fn outcome(sshd: &Sshd, known: &str) -> Result<(), Error> {
    Host::new(config_knowing(sshd, known)).check().await.map(|_| ())
}

fn key_of(sshd: &Sshd, kind: &str) -> String {
    sshd.known_line(kind).split_once(' ').unwrap().1.trim().to_owned()
}

fn other_key(sshd: &Sshd) -> String {
    let file = sshd.path("other_host");
    if !file.exists() {
        keygen(&["-t", "ed25519", "-f", file.to_str().unwrap()]);
    }
    let public = std::fs::read_to_string(file.with_extension("pub")).unwrap();
    public.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

async fn unknown_host() {
    let sshd = Sshd::start("");
    let error = outcome(&sshd, "# nobody\n").await.unwrap_err();
    let text = error.to_string();
    let Error::HostKey(HostKeyError::Unknown(unknown)) = error else { panic!("{text}") };
    let listed = output("ssh-keygen", &["-l", "-f", sshd.path("host_ed25519.pub").to_str().unwrap()]);
    assert!(listed.contains(&unknown.fingerprint), "{listed} {unknown:?}");
    assert_eq!(format!("{}\n", unknown.line), sshd.known_line("ed25519"));
    assert_eq!(unknown.keyscan, format!("ssh-keyscan -p {} -t ed25519 127.0.0.1", sshd.port));
    assert!(text.contains(&unknown.keyscan) && text.contains(&unknown.fingerprint), "{text}");
    // The line that the command prints makes the host known.
    let scanned = output("ssh-keyscan", &["-p", &sshd.port.to_string(), "-t", "ed25519", "127.0.0.1"]);
    outcome(&sshd, &scanned).await.unwrap();
}

async fn first_use() {
    let sshd = Sshd::start("");
    let mut config = config_knowing(&sshd, "# no line end");
    config.known_hosts.unknown = UnknownHost::TrustOnFirstUse;
    Host::new(config.clone()).check().await.unwrap();
    let text = std::fs::read_to_string(sshd.path("known_hosts")).unwrap();
    assert_eq!(text, format!("# no line end\n{}", sshd.known_line("ed25519")));
    Host::new(sshd.config()).check().await.unwrap();
    // A file that is missing is made, readable by its owner alone.
    let file = sshd.path("new/known_hosts");
    config.known_hosts.files = vec![file.clone()];
    Host::new(config).check().await.unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

async fn changed_key() {
    let sshd = Sshd::start("");
    let known = format!("[127.0.0.1]:{} {}\n", sshd.port, other_key(&sshd));
    let mut config = config_knowing(&sshd, &known);
    for unknown in [UnknownHost::Refuse, UnknownHost::TrustOnFirstUse] {
        config.known_hosts.unknown = unknown;
        let error = Host::new(config.clone()).check().await.unwrap_err();
        let Error::HostKey(HostKeyError::Changed(changed)) = error else { panic!("{error}") };
        assert_eq!(changed.line, 1);
        assert!(changed.to_string().contains("ssh-keygen -f"), "{changed}");
    }
    assert_eq!(std::fs::read_to_string(sshd.path("known_hosts")).unwrap(), known);
}

async fn every_form() {
    let sshd = Sshd::start("");
    let (port, key, other) = (sshd.port, key_of(&sshd, "ed25519"), other_key(&sshd));
    for known in [
        format!("[127.0.0.1]:{port} {key}\n"),
        format!("[127.0.0.*]:{port} {key}\n"),
        format!("*,![10.0.0.1]:{port} {key}\n"),
        format!("# a comment\n\n\t[127.0.0.1]:{port}\t{key}\ta comment\r\n"),
        format!("[127.0.0.1]:{port} {other}\n[127.0.0.1]:{port} {key}\n"),
        format!("[127.0.0.1]:{port} ssh-ed25519 broken\n[127.0.0.1]:{port} {key}\n"),
        format!("127.0.0.1 {key}\n"),
    ] {
        outcome(&sshd, &known).await.unwrap_or_else(|error| panic!("{known}{error}"));
    }
    for known in [
        format!("[127.0.0.1]:{} {key}\n", port ^ 1),
        format!("*,![127.0.0.1]:{port} {key}\n"),
        format!("@cert-authority [127.0.0.1]:{port} {key}\n"),
    ] {
        let error = outcome(&sshd, &known).await.unwrap_err();
        assert!(matches!(error, Error::HostKey(HostKeyError::Unknown(_))), "{known}{error}");
    }
    let file = sshd.path("known_hosts");
    std::fs::write(&file, sshd.known_line("ed25519")).unwrap();
    output("ssh-keygen", &["-q", "-H", "-f", file.to_str().unwrap()]);
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("|1|"));
    sshd.host().check().await.unwrap();
}

async fn revoked_key() {
    let sshd = Sshd::start("");
    let known = format!("{}@revoked * {}\n", sshd.known_line("ed25519"), key_of(&sshd, "ed25519"));
    let error = outcome(&sshd, &known).await.unwrap_err();
    assert!(matches!(error, Error::HostKey(HostKeyError::Revoked { line: 2, .. })), "{error}");
}

async fn known_type() {
    let sshd = Sshd::start_with_host_keys(&["ed25519", "ecdsa", "rsa"], "");
    for kind in ["ed25519", "ecdsa", "rsa"] {
        outcome(&sshd, &sshd.known_line(kind)).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}

async fn other_type() {
    let sshd = Sshd::start_with_host_keys(&["ed25519"], "");
    let file = sshd.path("host_ecdsa");
    keygen(&["-t", "ecdsa", "-f", file.to_str().unwrap()]);
    let mut config = config_knowing(&sshd, &sshd.known_line("ecdsa"));
    config.known_hosts.unknown = UnknownHost::TrustOnFirstUse;
    let error = Host::new(config).check().await.unwrap_err();
    assert!(matches!(error, Error::HostKey(HostKeyError::Changed(_))), "{error}");
}

async fn alias() {
    let sshd = Sshd::start("");
    let mut config = config_knowing(&sshd, &format!("pve1 {}\n", key_of(&sshd, "ed25519")));
    config.known_hosts.alias = Some("pve1".to_owned());
    Host::new(config).check().await.unwrap();
}

async fn host_certificate() {
    let mut sshd = Sshd::start("HostCertificate FOLDER/host_ed25519-cert.pub");
    let authority = sshd.path("authority");
    keygen(&["-t", "ed25519", "-f", authority.to_str().unwrap()]);
    let public = std::fs::read_to_string(sshd.path("authority.pub")).unwrap();
    let known = format!("@cert-authority [127.0.0.*]:{} {public}", sshd.port);
    let host_key = sshd.path("host_ed25519.pub");
    let sign = |arguments: &[&str]| {
        let mut all = vec!["-q", "-s", authority.to_str().unwrap(), "-I", "test"];
        all.extend(arguments);
        all.push(host_key.to_str().unwrap());
        output("ssh-keygen", &all);
    };
    sign(&["-h", "-n", "127.0.0.1"]);
    sshd.restart();
    outcome(&sshd, &known).await.unwrap();
    for (arguments, reason) in [
        (&["-h", "-n", "another"][..], "is not for this host"),
        (&["-h", "-n", "127.0.0.1", "-V", "20200101:20200102"], "has expired"),
        (&["-h", "-n", "127.0.0.1", "-V", "+52w:+53w"], "not valid yet"),
    ] {
        sign(arguments);
        sshd.restart();
        let error = outcome(&sshd, &known).await.unwrap_err();
        assert!(matches!(&error, Error::HostKey(HostKeyError::BadCertificate { .. })), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    // Signed by an authority that is not known for this host, its key alone counts.
    sign(&["-h", "-n", "127.0.0.1"]);
    sshd.restart();
    let error = outcome(&sshd, &format!("@cert-authority other.example.org {public}")).await.unwrap_err();
    assert!(matches!(error, Error::HostKey(HostKeyError::Unknown(_))), "{error}");
    outcome(&sshd, &sshd.known_line("ed25519")).await.unwrap();
}

async fn sha_1() {
    for (algorithms, expect) in [("rsa-sha2-512", true), ("rsa-sha2-256", true), ("ssh-rsa", false)] {
        let sshd = Sshd::start_with_host_keys(&["rsa"], &format!("HostKeyAlgorithms {algorithms}"));
        let got = outcome(&sshd, &sshd.known_line("rsa")).await;
        assert_eq!(got.is_ok(), expect, "{algorithms}: {got:?}");
        if let Err(error) = got {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            assert!(cause.contains("insecure host keys (ssh-rsa)"), "{error}: {cause}");
        }
    }
}

async fn short_login_key() {
    let sshd = Sshd::start("");
    let file = sshd.path("short");
    keygen(&["-t", "rsa", "-b", "1024", "-f", file.to_str().unwrap()]);
    let mut config = config_knowing(&sshd, &sshd.known_line("ed25519"));
    config.credentials = vec![pve_ssh::Credential::key_file(&file)];
    let error = Host::new(config).check().await.unwrap_err().to_string();
    assert!(error.contains("RSA key of 1024 bits"), "{error}");
}
