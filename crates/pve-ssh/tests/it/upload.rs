//! Uploads.

use crate::sshd::{Sshd, eventually, output, signal};
use crate::{Needs, test};
use libtest_mimic::Trial;
use pve_ssh::{Error, Host, Upload, UploadError};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub fn tests() -> Vec<Trial> {
    vec![
        test("upload::a_file_arrives_whole_and_replaces_the_old_one", Needs::Sshd, arrives),
        test("upload::a_text_arrives_with_its_mode", Needs::Sshd, text_arrives),
        test("upload::an_empty_file_arrives", Needs::Sshd, empty),
        test("upload::a_broken_upload_is_resumed", Needs::Sshd, resumed),
        test("upload::a_wrong_beginning_is_found_out_and_sent_again", Needs::Sshd, wrong_beginning),
        test("upload::a_file_that_does_not_fit_is_refused_before_a_byte_is_sent", Needs::Sshd, no_space),
        test("upload::a_missing_folder_is_said_to_be_missing", Needs::Sshd, missing_folder),
        test("upload::a_host_without_sftp_is_said_to_be_one", Needs::Sshd, no_sftp),
        test("upload::a_silent_host_stalls_the_upload_no_longer_than_allowed", Needs::Sshd, stalled),
    ]
}

/// Writes a file of `size` bytes that repeat nowhere.
fn big_file(folder: &Path, size: usize) -> PathBuf {
    let path = folder.join("source.img");
    let mut state = 88_172_645_463_325_252u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(size);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn same(one: &Path, other: &Path) -> bool {
    std::fs::read(one).unwrap() == std::fs::read(other).unwrap()
}

fn parts(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".vmdeploy-part")).count()
}

async fn arrives() {
    let sshd = Sshd::start("");
    let source = big_file(sshd.folder.path(), 10_000_001);
    let target = sshd.path("target dir");
    std::fs::create_dir(&target).unwrap();
    let file = target.join("it's.img");
    std::fs::write(&file, "old").unwrap();
    let mut told = Vec::new();
    let upload = Upload::file(&source, file.to_str().unwrap());
    let done =
        sshd.host().upload(&upload, &mut |done, total| told.push((done.get(), total.get()))).await.unwrap();
    assert!(same(&source, &file));
    assert_eq!((done.size.get(), done.resumed.get()), (10_000_001, 0));
    assert!(output("sha256sum", &[source.to_str().unwrap()]).starts_with(&done.sha256));
    assert!(told.is_sorted() && told.last() == Some(&(10_000_001, 10_000_001)), "{told:?}");
    assert_eq!(parts(&target), 0);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o644);
}

async fn text_arrives() {
    let sshd = Sshd::start("");
    let file = sshd.path("user-data");
    let upload = Upload::private_text("#cloud-config\n", file.to_str().unwrap());
    sshd.host().upload(&upload, &mut |_, _| {}).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "#cloud-config\n");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

async fn empty() {
    let sshd = Sshd::start("");
    let file = sshd.path("empty");
    sshd.host().upload(&Upload::private_text("", file.to_str().unwrap()), &mut |_, _| {}).await.unwrap();
    assert_eq!(std::fs::read(file).unwrap(), b"");
}

async fn resumed() {
    let sshd = Sshd::start("");
    let size = 64 << 20;
    let source = big_file(sshd.folder.path(), size);
    let target = sshd.path("target");
    std::fs::create_dir(&target).unwrap();
    let file = target.join("a.img");
    let upload = Upload::file(&source, file.to_str().unwrap());
    let host = sshd.host();
    let mut cut = false;
    let error = host
        .upload(&upload, &mut |done, _| {
            if done.get() > 40 << 20 && !cut {
                cut = true;
                for pid in sshd.sessions() {
                    signal(pid, "KILL");
                }
            }
        })
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::Upload(UploadError::Lost { .. })), "{error}");
    assert!(error.is_connection());
    assert!(!file.exists());
    assert_eq!(parts(&target), 1);
    let done = host.upload(&upload, &mut |_, _| {}).await.unwrap();
    assert!(done.resumed.get() > 10 << 20, "resumed {}", done.resumed);
    assert!(same(&source, &file));
    assert_eq!(parts(&target), 0);
}

async fn wrong_beginning() {
    let sshd = Sshd::start("");
    let source = big_file(sshd.folder.path(), 20 << 20);
    let target = sshd.path("target");
    std::fs::create_dir(&target).unwrap();
    let file = target.join("a.img");
    let upload = Upload::file(&source, file.to_str().unwrap());
    let host = sshd.host();
    // An interrupted upload leaves a partial file; another process changes it.
    let cut = tokio_cut(&host, &upload, &sshd).await;
    assert!(cut.is_err());
    let part = std::fs::read_dir(&target).unwrap().next().unwrap().unwrap().path();
    let length = std::fs::metadata(&part).unwrap().len().max(12 << 20);
    std::fs::write(&part, vec![7u8; length as usize]).unwrap();
    let done = host.upload(&upload, &mut |_, _| {}).await.unwrap();
    assert_eq!(done.resumed.get(), 0);
    assert!(same(&source, &file));
}

async fn tokio_cut(host: &Host, upload: &Upload, sshd: &Sshd) -> Result<pve_ssh::Uploaded, Error> {
    host.upload(upload, &mut |done, _| {
        if done.get() > 8 << 20 {
            for pid in sshd.sessions() {
                signal(pid, "KILL");
            }
        }
    })
    .await
}

async fn no_space() {
    let sshd = Sshd::start("");
    // A sparse file larger than any disk.
    let source = sshd.path("huge");
    std::fs::File::create(&source).unwrap().set_len(1 << 43).unwrap();
    let target = sshd.path("target");
    std::fs::create_dir(&target).unwrap();
    let upload = Upload::file(&source, target.join("a.img").to_str().unwrap());
    let error = sshd.host().upload(&upload, &mut |_, _| panic!("a byte was sent")).await.unwrap_err();
    assert!(matches!(&error, Error::Upload(UploadError::NoSpace { .. })), "{error}");
    assert_eq!(std::fs::read_dir(target).unwrap().count(), 0);
}

async fn missing_folder() {
    let sshd = Sshd::start("");
    let upload = Upload::private_text("x", "/nowhere/at/all/x");
    let error = sshd.host().upload(&upload, &mut |_, _| {}).await.unwrap_err();
    assert!(error.to_string().contains("`/nowhere/at/all`: the folder does not exist"), "{error}");
}

async fn no_sftp() {
    let sshd = Sshd::start("");
    let config = std::fs::read_to_string(sshd.path("sshd_config")).unwrap();
    std::fs::write(sshd.path("sshd_config"), config.replace("Subsystem sftp internal-sftp\n", "")).unwrap();
    let mut sshd = sshd;
    sshd.restart();
    let file = sshd.path("x");
    let upload = Upload::private_text("x", file.to_str().unwrap());
    let error = sshd.host().upload(&upload, &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(&error, Error::Upload(UploadError::NoSftp { .. })), "{error}");
}

async fn stalled() {
    let sshd = Sshd::start("");
    let source = big_file(sshd.folder.path(), 64 << 20);
    let file = sshd.path("a.img");
    let mut upload = Upload::file(&source, file.to_str().unwrap());
    upload.stall = Duration::from_secs(2);
    let host = sshd.host();
    let mut stopped = false;
    let started = std::time::Instant::now();
    let error = host
        .upload(&upload, &mut |done, _| {
            if done.get() > 8 << 20 && !stopped {
                stopped = true;
                for pid in sshd.sessions() {
                    signal(pid, "STOP");
                }
            }
        })
        .await
        .unwrap_err();
    assert!(error.is_connection(), "{error}");
    assert!(started.elapsed() < Duration::from_secs(60));
    for pid in sshd.sessions() {
        signal(pid, "KILL");
    }
    eventually("no one is served any more", || sshd.sessions().is_empty()).await;
}
