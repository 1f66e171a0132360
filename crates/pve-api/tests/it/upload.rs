//! Uploads: streamed, counted, never chunked, never repeated.

use crate::server::{Reply, Server, timeouts, token};
use libtest_mimic::Trial;
use pve_api::{ApiError, Checksum, Client, FileContent, Timeouts, TookEffect, UploadSource};
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    crate::trials![
        a_file_is_sent_in_one_piece_with_its_parameters_first,
        an_upload_that_stalls_is_given_up,
        an_upload_that_is_cut_off_is_not_repeated,
    ]
}

const UPID: &str = "UPID:pve1:0000C2A1:00A1B2C3:6560A1B2:imgcopy::root@pam!ci:";

fn storage(client: &Client) -> pve_api::NodeStorage {
    client.node(&"pve1".parse().unwrap()).storage(&"local".parse().unwrap())
}

async fn a_file_is_sent_in_one_piece_with_its_parameters_first() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "GET" => Reply::json(r#"{"data":{"version":"9.2.11"}}"#),
        _ => Reply::json(&format!(r#"{{"data":"{UPID}"}}"#)),
    })
    .await;
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    std::fs::write(&path, &content).unwrap();
    let client = server.client(token());
    let checksum = Checksum { algorithm: "sha256".into(), value: "ab".into() };
    let source = UploadSource::file(&path).await.unwrap();
    let mut told = Vec::new();
    let task = storage(&client)
        .upload(FileContent::Import, "debian.qcow2", source, Some(&checksum), |now| told.push(now))
        .await
        .unwrap();
    assert_eq!(task.upid().as_str(), UPID);
    assert_eq!(told.last().map(|now| (now.sent, now.total)), Some((3_000_000, 3_000_000)));

    let seen = server.seen().pop().unwrap();
    assert_eq!(seen.target, "/api2/json/nodes/pve1/storage/local/upload");
    assert_eq!(seen.header("transfer-encoding"), None);
    assert_eq!(seen.header("content-length"), Some(seen.body.len().to_string().as_str()));
    let kind = seen.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
    let part = |name: &str, value: &str| {
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let mut expect =
        part("content", "import") + &part("checksum-algorithm", "sha256") + &part("checksum", "ab");
    expect += &format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"debian.qcow2\"\r\nContent-Type: application/octet-stream\r\n\r\n"
    );
    assert_eq!(String::from_utf8_lossy(&seen.body[..expect.len()]), expect);
    assert!(seen.body[expect.len()..].starts_with(&content));
}

async fn an_upload_that_stalls_is_given_up() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "GET" => Reply::json(r#"{"data":{"version":"9.2.11"}}"#),
        _ => Reply::json("{}").after(Duration::from_secs(60)),
    })
    .await;
    let upload_stall = Duration::from_millis(300);
    let config = server.config(token()).with_timeouts(Timeouts { upload_stall, ..timeouts() });
    let client = Client::https(config).unwrap();
    let source = UploadSource::new(tokio::io::empty(), 0);
    let error = storage(&client).upload(FileContent::Iso, "a.iso", source, None, |_| ()).await.unwrap_err();
    assert!(matches!(error, ApiError::Timeout { .. }), "{error:?}");
    assert_eq!(error.effect(), TookEffect::Maybe);
}

async fn an_upload_that_is_cut_off_is_not_repeated() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "GET" => Reply::json(r#"{"data":{"version":"9.2.11"}}"#),
        _ => Reply::drop(),
    })
    .await;
    let client = server.client(token());
    let source = UploadSource::new(&b"abc"[..], 3);
    let error = storage(&client).upload(FileContent::Iso, "a.iso", source, None, |_| ()).await.unwrap_err();
    assert_eq!(error.effect(), TookEffect::Maybe);
    assert_eq!(server.seen().iter().filter(|seen| seen.method == "POST").count(), 1);
}
