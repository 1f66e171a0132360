//! Errors that answer the caller's questions.

use crate::server::{Reply, Server, password, timeouts, token};
use libtest_mimic::Trial;
use pve_api::{ApiError, Client, Params, SecondFactorSource, Timeouts, TookEffect};
use pve_types::{Secret, Vmid};
use serde_json::Value;
use std::error::Error as _;
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    crate::trials![
        absent_refused_and_unreachable_are_told_apart,
        a_reason_phrase_with_other_than_ascii_is_read_from_the_body,
        a_call_without_an_answer_times_out,
        an_answer_that_is_not_understood_took_effect,
        an_answer_that_is_too_large_is_cut_off,
        no_secret_is_in_an_error_a_debug_or_a_log,
        a_failed_task_shows_its_last_lines,
        a_task_is_followed_through_lost_looks,
        a_task_that_does_not_end_in_time_is_left_running,
    ]
}

async fn config_error(status: &'static str, body: &'static str) -> ApiError {
    let server = Server::start(move |_| Reply::status(status, body)).await;
    let client = server.client(token());
    let node = "pve1".parse().unwrap();
    client.node(&node).qemu(Vmid::new(100).unwrap()).config().await.unwrap_err()
}

async fn absent_refused_and_unreachable_are_told_apart() {
    let told = |error: &ApiError| (error.is_absent(), error.is_denied(), error.is_unreachable());
    let absent = "500 Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist";
    assert_eq!(told(&config_error(absent, r#"{"data":null}"#).await), (true, false, false));
    let denied = config_error("403 Permission check failed (/vms/100, VM.Audit)", "{}").await;
    assert_eq!(told(&denied), (false, true, false));
    assert_eq!(
        denied.to_string(),
        "GET `/nodes/pve1/qemu/100/config` was refused with 403: Permission check failed (/vms/100, VM.Audit)"
    );
    assert_eq!(told(&config_error("595 No route to host", "").await), (false, false, true));
    let unauthenticated = config_error("401 invalid token value!", "").await;
    assert!(unauthenticated.is_unauthenticated() && !unauthenticated.is_denied());
}

async fn a_reason_phrase_with_other_than_ascii_is_read_from_the_body() {
    let body = "{\"data\":null,\"message\":\"kein Speicher für 100\\n\"}";
    let error = config_error("500 kein Speicher f\u{fc}r 100", body).await;
    assert_eq!(error.said(), Some("kein Speicher für 100"));
    let error = config_error("500 \u{fc}", "").await;
    assert_eq!(error.status(), Some(500));
    assert!(!error.said().unwrap().is_empty());
}

async fn a_call_without_an_answer_times_out() {
    let server = Server::start(|_| Reply::json("{}").after(Duration::from_secs(60))).await;
    let request = Duration::from_millis(200);
    let config = server.config(token()).with_timeouts(Timeouts { request, ..timeouts() });
    let client = Client::https(config).unwrap();
    let error = client.get::<Value>("/version", Params::new()).await.unwrap_err();
    assert!(matches!(error, ApiError::Timeout { after, .. } if after == request), "{error:?}");
    assert_eq!(error.effect(), TookEffect::No);
    let error = client.post::<Value>("/w", Params::new()).await.unwrap_err();
    assert_eq!(error.effect(), TookEffect::Maybe);
    assert_eq!(server.seen().len(), 3, "a read that timed out is sent once more, and a write is not");
}

async fn an_answer_that_is_not_understood_took_effect() {
    let server = Server::start(|_| Reply::json(r#"{"data":{"a":1}}"#)).await;
    let client = server.client(token());
    let error = client.post::<Vec<String>>("/w", Params::new()).await.unwrap_err();
    assert_eq!(error.effect(), TookEffect::Yes);
    assert_eq!(error.to_string(), "the answer to POST `/w` has an unknown format");
    assert!(error.source().is_some());
}

async fn an_answer_that_is_too_large_is_cut_off() {
    let server = Server::start(|_| Reply::json(&format!("{{\"data\":\"{}\"}}", "x".repeat(5000)))).await;
    let mut config = server.config(token());
    config.limits.answer_bytes = 4096;
    let client = Client::https(config).unwrap();
    let error = client.post::<Value>("/w", Params::new()).await.unwrap_err();
    assert!(matches!(error, ApiError::Interrupted { .. }), "{error:?}");
}

/// Everything that is logged while a test runs.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn no_secret_is_in_an_error_a_debug_or_a_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    // A server that gives every secret back, in every place it can.
    let server = Server::start(|seen| {
        let body = seen.body_text();
        if seen.target.ends_with("/access/ticket") && !body.contains("refuse") {
            return Reply::json(r#"{"data":{"ticket":"PVE:ann@pve:6500::SECRETTICKET","CSRFPreventionToken":"65:SECRETCSRF"}}"#);
        }
        Reply::status("400 got 'hunter2hunter2'", r#"{"errors":{"password":"got 'hunter2hunter2'"},"message":"hunter2hunter2"}"#)
    })
    .await;
    let config = server.config(password(SecondFactorSource::totp("987654")));
    let client = Client::https(config.clone()).unwrap();
    let mut texts = vec![format!("{config:?}"), format!("{client:?}")];
    let user = "bob@pve".parse().unwrap();
    let secret = Secret::new("hunter2hunter2");
    let error = client.access().set_password(&user, &secret, None).await.unwrap_err();
    texts.extend([format!("{error}"), format!("{error:?}"), format!("{client:?}")]);
    let error =
        client.delete::<Value>("/access/tfa/bob@pve/1", Params::new().with("password", "hunter2hunter2"));
    let error = error.await.unwrap_err();
    texts.extend([format!("{error}"), format!("{error:?}")]);
    let dropped = Server::start(|_| Reply::drop()).await;
    let client = dropped.client(token());
    let error =
        client.delete::<Value>("/access/tfa/bob@pve/1", Params::new().with("password", "hunter2hunter2"));
    let error = error.await.unwrap_err();
    texts.extend([format!("{error:?}"), format!("{:?}", error.source())]);
    texts.push(String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned());
    assert!(texts.last().unwrap().contains("/access/password"), "the log has the calls themselves");
    for secret in ["hunter2", "annspassword", "987654", "SECRETTICKET", "SECRETCSRF", "11111111-2222"] {
        for text in &texts {
            let at = text.find(secret).map(|at| &text[at.saturating_sub(200)..at + secret.len()]);
            assert_eq!(at, None, "`{secret}` is shown");
        }
    }
}

const UPID: &str = "UPID:pve1:0000C2A1:00A1B2C3:6560A1B2:qmstart:100:root@pam!ci:";

fn wait() -> pve_api::Wait {
    pve_api::Wait { fastest: Duration::from_millis(5), ..pve_api::Wait::at_most(Duration::from_secs(30)) }
}

async fn a_failed_task_shows_its_last_lines() {
    let server = Server::start(|seen| {
        if seen.target.contains("/log?") {
            return Reply::json(
                r#"{"data":[{"n":1,"t":"starting"},{"n":2,"t":"TASK ERROR: no\u001b[31m space"}],"total":2}"#,
            );
        }
        Reply::json(r#"{"data":{"status":"stopped","exitstatus":"no\u001b[31m space"}}"#)
    })
    .await;
    let task = server.client(token()).task(&UPID.parse().unwrap());
    let error = task.wait(wait()).await.unwrap_err();
    assert_eq!(error.to_string(), "task `qmstart` on `pve1` failed: no\\u{1b}[31m space");
    let ApiError::Task { log, .. } = error else { panic!("{error:?}") };
    assert_eq!(log, ["starting", "TASK ERROR: no\\u{1b}[31m space"]);
}

async fn a_task_is_followed_through_lost_looks() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |seen| {
        if seen.target.contains("/log?start=0") {
            return Reply::json(r#"{"data":[{"n":1,"t":"transferred 1 of 2 (50.00%)"}]}"#);
        }
        if seen.target.contains("/log?") {
            return Reply::json(r#"{"data":[]}"#);
        }
        match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Reply::json(r#"{"data":{"status":"running"}}"#),
            1 => Reply::status("596 Connection timed out", ""),
            2 => Reply::status("595 Connection refused", ""),
            _ => Reply::json(r#"{"data":{"status":"stopped","exitstatus":"OK"}}"#),
        }
    })
    .await;
    let task = server.client(token()).task(&UPID.parse().unwrap());
    let mut told = Vec::new();
    let tell = |progress: pve_api::TaskProgress<'_>| told.push((progress.lines.len(), progress.percent));
    let finished = task.wait_with(wait(), tell).await.unwrap();
    assert_eq!(finished.status, pve_types::TaskStatus::Ok);
    assert_eq!(told, [(1, Some(50.0))]);
    // The log of a task that ends immediately is not read.
    let asked = server.seen().len();
    let wait = pve_api::Wait { follow_after: Duration::from_secs(3600), ..wait() };
    task.wait_with(wait, |_| panic!("its log was told")).await.unwrap();
    assert!(server.seen()[asked..].iter().all(|seen| seen.target.ends_with("/status")));
}

async fn a_task_that_does_not_end_in_time_is_left_running() {
    let server = Server::start(|_| Reply::json(r#"{"data":{"status":"running"}}"#)).await;
    let task = server.client(token()).task(&UPID.parse().unwrap());
    let wait = pve_api::Wait { timeout: Duration::from_millis(100), ..wait() };
    let error = task.wait(wait).await.unwrap_err();
    assert!(matches!(error, ApiError::TaskTimeout { .. }), "{error:?}");
    assert_eq!(error.effect(), TookEffect::Maybe);
    assert!(server.seen().iter().all(|seen| seen.method == "GET"), "nothing is stopped unasked");
}
