//! Downloads, and commands whose output is only followed.

use crate::sshd::{Sshd, output};
use crate::{Needs, test};
use libtest_mimic::Trial;
use pve_ssh::command::{Command, build};
use pve_ssh::{Download, DownloadError, Error, Keep, RunOptions, Stream};
use std::time::Duration;

pub fn tests() -> Vec<Trial> {
    vec![
        test("download::a_file_arrives_whole_and_replaces_the_old_one", Needs::Sshd, arrives),
        test("download::what_is_not_there_leaves_the_target_alone", Needs::Sshd, absent),
        test("download::a_followed_command_may_print_more_than_is_kept", Needs::Sshd, followed),
        test("download::a_build_gets_its_environment_by_stdin_alone", Needs::Sshd, environment),
    ]
}

async fn arrives() {
    let sshd = Sshd::start("");
    let source = sshd.path("it's.img");
    let bytes: Vec<u8> =
        (0..3_000_001_u32).flat_map(|number| (number ^ (number >> 5)).to_le_bytes()).collect();
    std::fs::write(&source, &bytes).unwrap();
    let target = sshd.path("target.img");
    std::fs::write(&target, "old").unwrap();
    let mut told = (0, 0);
    let download = Download::new(source.to_str().unwrap(), &target);
    let done =
        sshd.host().download(&download, &mut |done, size| told = (done.get(), size.get())).await.unwrap();
    assert!(std::fs::read(&target).unwrap() == bytes);
    let sum = output("sha256sum", &[source.to_str().unwrap()]);
    assert_eq!((done.size.get(), told), (bytes.len() as u64, (bytes.len() as u64, bytes.len() as u64)));
    assert!(sum.trim_start_matches('\\').starts_with(&done.sha256), "{sum}");
}

async fn absent() {
    let sshd = Sshd::start("");
    let folder = sshd.path("here");
    std::fs::create_dir(&folder).unwrap();
    let target = folder.join("target.img");
    std::fs::write(&target, "old").unwrap();
    for source in ["/nonexistent/file", "/tmp"] {
        let failed = sshd.host().download(&Download::new(source, &target), &mut |_, _| {}).await.unwrap_err();
        assert!(matches!(&failed, Error::Download(DownloadError::Refused { .. })), "{failed:?}");
    }
    assert_eq!(std::fs::read(&target).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no part is left");
}

async fn followed() {
    let sshd = Sshd::start("");
    let command = Command::new("seq").arg("300000");
    let options =
        RunOptions { output_limit: 10_000, keep: Keep::Tail, ..RunOptions::within(Duration::from_secs(60)) };
    let mut lines = 0_u32;
    let output = sshd
        .host()
        .run(&command, options, &mut |stream, line| {
            lines += 1;
            assert_eq!((stream, line), (Stream::Stdout, lines.to_string().as_str()));
        })
        .await
        .unwrap();
    assert_eq!((output.status, lines), (0, 300_000));
    assert!(output.stdout.len() <= 10_000 && output.stdout.ends_with("\n300000\n"));
}

async fn environment() {
    let sshd = Sshd::start("");
    let folder = sshd.path("work").to_str().unwrap().to_owned();
    let host = sshd.host();
    host.run_to_success(&build::make_folder(&folder), Duration::from_secs(20)).await.unwrap();
    host.run_to_success(&build::make_folder(&folder), Duration::from_secs(20)).await.unwrap_err();
    let variables = build::environment([("A", "it's\n$HOME"), ("B", "")]).unwrap();
    let stdin = Box::new(std::io::Cursor::new(variables));
    let options = RunOptions { stdin: Some(stdin), ..RunOptions::within(Duration::from_secs(20)) };
    let command =
        build::run(&folder, "pwd; printf '%s|%s|' \"$A\" \"$B\"; wc -c; env | grep -c vmdeploy_ || true");
    let output = host.run(&command, options, &mut |_, _| {}).await.unwrap();
    assert_eq!(output.stdout, format!("{folder}\nit's\n$HOME||0\n0\n"), "{}", output.stderr);
}
