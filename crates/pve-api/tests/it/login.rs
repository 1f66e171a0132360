//! Tickets: had once, renewed in time, by one call at a time.

use crate::server::{Reply, Seen, Server, password, token};
use libtest_mimic::Trial;
use pve_api::{ApiError, Client, Clock, LoginError, Params, SecondFactor, SecondFactorSource};
use pve_types::Secret;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    crate::trials![
        a_token_is_sent_only_in_the_header,
        a_ticket_goes_in_the_cookie_and_writes_carry_the_csrf_token,
        many_calls_log_in_once,
        a_refused_ticket_is_replaced_once_by_one_login,
        a_second_refusal_is_the_answer,
        renewal_happens_once_among_many_and_with_the_ticket_as_password,
        a_failed_renewal_uses_the_old_ticket_on,
        an_old_ticket_is_not_renewed_but_replaced,
        a_second_factor_is_given_or_asked_for,
        a_second_factor_that_is_missing_or_wrong_is_a_clear_error,
        a_wrong_password_is_told_without_a_second_try,
        logging_out_forgets_the_ticket,
    ]
}

const FULL: &str =
    r#"{"data":{"username":"ann@pve","ticket":"PVE:ann@pve:65000000::AA+/=","CSRFPreventionToken":"65:C"}}"#;
const HALF: &str = r#"{"data":{"username":"ann@pve","NeedTFA":1,"ticket":"PVE:!tfa!{\"totp\"%3Atrue,\"recovery\"%3A[0,1]}:65000000::AA"}}"#;

fn is_login(seen: &Seen) -> bool {
    seen.target == "/api2/json/access/ticket"
}

fn logins(server: &Server) -> Vec<Seen> {
    server.seen().into_iter().filter(is_login).collect()
}

async fn get(client: &Client) -> Result<Value, ApiError> {
    client.get("/version", Params::new()).await
}

/// A clock that a test sets.
#[derive(Debug, Default)]
struct Hand(AtomicU64);

impl Hand {
    fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

async fn a_token_is_sent_only_in_the_header() {
    let server = Server::start(|_| Reply::json(r#"{"data":1}"#)).await;
    let client = server.client(token());
    assert!(client.is_logged_in().await);
    client.post::<Value>("/w", Params::new().with("a", "b=c")).await.unwrap();
    let seen = &server.seen()[0];
    let expect = "PVEAPIToken=root@pam!ci=11111111-2222-3333-4444-555555555555";
    assert_eq!(seen.header("authorization"), Some(expect));
    assert_eq!((seen.header("cookie"), seen.header("csrfpreventiontoken")), (None, None));
    assert_eq!(seen.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(seen.body_text(), "a=b%3Dc");
}

async fn a_ticket_goes_in_the_cookie_and_writes_carry_the_csrf_token() {
    let server = Server::start(|seen| Reply::json(if is_login(seen) { FULL } else { r#"{"data":1}"# })).await;
    let client = server.client(password(SecondFactorSource::None));
    assert!(!client.is_logged_in().await);
    get(&client).await.unwrap();
    assert!(client.is_logged_in().await);
    client.delete::<Value>("/w", Params::new().with("purge", true)).await.unwrap();
    let [login, read, write] = &server.seen()[..] else { panic!() };
    assert_eq!(login.body_text(), "username=ann%40pve&password=annspassword&new-format=1");
    assert_eq!(login.header("cookie"), None);
    let cookie = "PVEAuthCookie=PVE%3Aann%40pve%3A65000000%3A%3AAA%2B%2F%3D";
    assert_eq!((read.header("cookie"), read.header("csrfpreventiontoken")), (Some(cookie), None));
    assert_eq!((write.header("cookie"), write.header("csrfpreventiontoken")), (Some(cookie), Some("65:C")));
    assert_eq!((write.target.as_str(), write.body.len()), ("/api2/json/w?purge=1", 0));
    assert_eq!(write.header("content-length"), None, "a body on DELETE is answered with 501");
}

async fn many_calls_log_in_once() {
    let server = Server::start(|seen| match is_login(seen) {
        true => Reply::json(FULL).after(Duration::from_millis(50)),
        false => Reply::json(r#"{"data":1}"#),
    })
    .await;
    let client = server.client(password(SecondFactorSource::None));
    let results = futures::future::join_all((0..20).map(|_| get(&client))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(logins(&server).len(), 1);
}

async fn a_refused_ticket_is_replaced_once_by_one_login() {
    let refused = Arc::new(AtomicBool::new(false));
    let flag = refused.clone();
    let server = Server::start(move |seen| {
        if is_login(seen) {
            flag.store(false, Ordering::SeqCst);
            return Reply::json(FULL);
        }
        match flag.load(Ordering::SeqCst) {
            true => Reply::status("401 permission denied - invalid PVE ticket", "").and_close(),
            false => Reply::json(r#"{"data":1}"#),
        }
    })
    .await;
    let client = server.client(password(SecondFactorSource::None));
    get(&client).await.unwrap();
    refused.store(true, Ordering::SeqCst);
    let results = futures::future::join_all((0..10).map(|_| get(&client))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(logins(&server).len(), 2);
}

async fn a_second_refusal_is_the_answer() {
    let server = Server::start(|seen| match is_login(seen) {
        true => Reply::json(FULL),
        false => Reply::status("401 Authentication failed!", "").and_close(),
    })
    .await;
    let client = server.client(password(SecondFactorSource::None));
    let error = get(&client).await.unwrap_err();
    let said = error.said().unwrap();
    assert!(said.starts_with("Authentication failed! (the credentials of `ann@pve` at 127.0.0.1:"), "{said}");
    assert!(error.is_unauthenticated());
    assert_eq!(logins(&server).len(), 2, "one re-login, no more");
}

async fn renewal_happens_once_among_many_and_with_the_ticket_as_password() {
    let server = Server::start(|seen| match is_login(seen) {
        true => Reply::json(FULL).after(Duration::from_millis(30)),
        false => Reply::json(r#"{"data":1}"#),
    })
    .await;
    let clock = Arc::new(Hand::default());
    let mut config = server.config(password(SecondFactorSource::None));
    config.clock = clock.clone();
    let client = Client::https(config).unwrap();
    get(&client).await.unwrap();
    clock.set(3599);
    get(&client).await.unwrap();
    assert_eq!(logins(&server).len(), 1);
    clock.set(3601);
    let results = futures::future::join_all((0..10).map(|_| get(&client))).await;
    assert!(results.iter().all(Result::is_ok));
    let logins = logins(&server);
    assert_eq!(logins.len(), 2);
    let renewal = logins[1].body_text();
    assert!(renewal.contains("password=PVE%3Aann%40pve%3A65000000%3A%3AAA%2B%2F%3D"), "{renewal}");
}

async fn a_failed_renewal_uses_the_old_ticket_on() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |seen| match is_login(seen) {
        true if count.fetch_add(1, Ordering::SeqCst) == 1 => Reply::status("500 cluster not ready", ""),
        true => Reply::json(FULL),
        false => Reply::json(r#"{"data":1}"#),
    })
    .await;
    let clock = Arc::new(Hand::default());
    let mut config = server.config(password(SecondFactorSource::None));
    config.clock = clock.clone();
    let client = Client::https(config).unwrap();
    get(&client).await.unwrap();
    clock.set(4000);
    get(&client).await.unwrap();
    get(&client).await.unwrap();
    assert_eq!(logins(&server).len(), 2, "the next attempt waits a while");
    clock.set(4061);
    get(&client).await.unwrap();
    assert_eq!(logins(&server).len(), 3);
}

async fn an_old_ticket_is_not_renewed_but_replaced() {
    let server = Server::start(|seen| Reply::json(if is_login(seen) { FULL } else { r#"{"data":1}"# })).await;
    let clock = Arc::new(Hand::default());
    let mut config = server.config(password(SecondFactorSource::None));
    config.clock = clock.clone();
    let client = Client::https(config).unwrap();
    get(&client).await.unwrap();
    clock.set(7200);
    assert!(!client.is_logged_in().await);
    get(&client).await.unwrap();
    assert!(logins(&server)[1].body_text().contains("password=annspassword"));
}

async fn two_step_server() -> Server {
    Server::start(|seen| match (is_login(seen), seen.body_text().contains("tfa-challenge=")) {
        (true, false) => Reply::json(HALF),
        (true, true) => Reply::json(FULL),
        _ => Reply::json(r#"{"data":1}"#),
    })
    .await
}

async fn a_second_factor_is_given_or_asked_for() {
    let ask = SecondFactorSource::ask(|user, challenge| {
        assert_eq!((user, challenge.kinds()), ("ann@pve", vec!["totp", "recovery"]));
        Ok(SecondFactor::Recovery(Secret::new("aaaa-bbbb-cccc-dddd")))
    });
    for (source, expect) in [
        (SecondFactorSource::totp("123456"), "password=totp%3A123456"),
        (ask, "password=recovery%3Aaaaa-bbbb-cccc-dddd"),
    ] {
        let server = two_step_server().await;
        get(&server.client(password(source))).await.unwrap();
        let second = logins(&server)[1].body_text();
        let challenge = "tfa-challenge=PVE%3A%21tfa%21%7B%22totp%22%253Atrue%2C%22recovery%22%253A%5B0%2C1%5D%7D%3A65000000%3A%3AAA";
        assert!(second.contains(expect) && second.contains(challenge), "{second}");
    }
}

async fn a_second_factor_that_is_missing_or_wrong_is_a_clear_error() {
    let server = two_step_server().await;
    let check = async |source: SecondFactorSource, text: &str| {
        let error = get(&server.client(password(source))).await.unwrap_err();
        assert!(error.is_unauthenticated() && error.was_not_sent(), "{error:?}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, text);
    };
    check(SecondFactorSource::None, "user `ann@pve` needs a second factor (totp, recovery)").await;
    let yubico = SecondFactorSource::Value(SecondFactor::Yubico(Secret::new("x")));
    check(yubico, "user `ann@pve` has no second factor of kind yubico, but totp, recovery").await;
    let none = SecondFactorSource::ask(|_, _| Err("no terminal to confirm it on".into()));
    check(none, "no second factor was given for user `ann@pve`").await;
}

async fn a_wrong_password_is_told_without_a_second_try() {
    let server = Server::start(|_| Reply::status("401 authentication failure", r#"{"data":null}"#)).await;
    let error = get(&server.client(password(SecondFactorSource::None))).await.unwrap_err();
    assert!(
        matches!(&error, ApiError::Login(error) if matches!(**error, LoginError::Refused(_))),
        "{error:?}"
    );
    assert!(error.is_unauthenticated() && error.hint().is_some());
    assert_eq!(server.seen().len(), 1);
}

async fn logging_out_forgets_the_ticket() {
    let server = Server::start(|seen| Reply::json(if is_login(seen) { FULL } else { r#"{"data":1}"# })).await;
    let client = server.client(password(SecondFactorSource::None));
    client.log_in().await.unwrap();
    client.log_out().await;
    assert!(!client.is_logged_in().await);
    get(&client).await.unwrap();
    assert_eq!(logins(&server).len(), 2);
}
