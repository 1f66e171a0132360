//! Connections as pveproxy likes them.

use crate::server::{Reply, Server, token};
use libtest_mimic::Trial;
use pve_api::{Client, Limits, Params, TookEffect};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    crate::trials![
        calls_one_after_the_other_share_a_connection,
        no_connection_has_more_than_a_hundred_calls,
        calls_at_one_time_are_limited_per_host,
        an_idle_connection_is_given_up,
        a_connection_that_saw_an_error_is_given_up,
        a_closed_keep_alive_is_survived_by_reads_and_writes,
        a_dropped_read_is_sent_again_and_a_dropped_write_is_not,
        a_call_is_sent_in_one_piece,
        another_endpoint_takes_over_when_one_cannot_be_reached,
    ]
}

async fn get(client: &Client) -> Result<Value, pve_api::ApiError> {
    client.get("/version", Params::new()).await
}

fn calls_by_connection(server: &Server) -> BTreeMap<usize, usize> {
    let mut calls = BTreeMap::new();
    for seen in server.seen() {
        *calls.entry(seen.connection).or_default() += 1;
    }
    calls
}

async fn calls_one_after_the_other_share_a_connection() {
    let server = Server::start(|_| Reply::json(r#"{"data":1}"#)).await;
    let client = server.client(token());
    for _ in 0..20 {
        get(&client).await.unwrap();
        // A call that comes at the very moment its predecessor ends may open a connection of its own.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let calls = calls_by_connection(&server);
    assert!(calls.len() <= 10, "{calls:?}");
}

async fn no_connection_has_more_than_a_hundred_calls() {
    let server = Server::start(|_| Reply::json(r#"{"data":1}"#)).await;
    let client = server.client(token());
    for _ in 0..230 {
        get(&client).await.unwrap();
    }
    let calls = calls_by_connection(&server);
    assert_eq!(calls.values().sum::<usize>(), 230);
    assert!(calls.values().all(|&calls| calls <= 100), "{calls:?}");
}

async fn calls_at_one_time_are_limited_per_host() {
    let server = Server::start(|_| Reply::json(r#"{"data":1}"#).after(Duration::from_millis(20))).await;
    let mut config = server.config(token());
    config.limits = Limits { concurrent: 3, ..Limits::default() };
    let client = Client::https(config).unwrap();
    let results = futures::future::join_all((0..30).map(|_| get(&client))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(server.most_in_flight(), 3);
    let calls = calls_by_connection(&server);
    assert!(calls.len() < 30, "each slot keeps its connection: {calls:?}");
}

async fn an_idle_connection_is_given_up() {
    let server = Server::start(|_| Reply::json(r#"{"data":1}"#)).await;
    let mut config = server.config(token());
    config.limits = Limits { idle: Duration::from_millis(50), ..Limits::default() };
    let client = Client::https(config).unwrap();
    get(&client).await.unwrap();
    tokio::time::sleep(Duration::from_millis(120)).await;
    get(&client).await.unwrap();
    assert_eq!(calls_by_connection(&server).len(), 2);
}

async fn a_connection_that_saw_an_error_is_given_up() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/api2/json/version" => Reply::json(r#"{"data":1}"#),
        _ => Reply::status("500 no", r#"{"data":null}"#),
    })
    .await;
    let client = server.client(token());
    get(&client).await.unwrap();
    client.get::<Value>("/bad", Params::new()).await.unwrap_err();
    get(&client).await.unwrap();
    let connections: Vec<usize> = server.seen().iter().map(|seen| seen.connection).collect();
    assert!(connections[2] > connections[1], "{connections:?}");
}

async fn a_closed_keep_alive_is_survived_by_reads_and_writes() {
    // The server promises to keep the connection, and closes it after every answer.
    let server = Server::start(|_| Reply::json(r#"{"data":1}"#).and_close()).await;
    let client = server.client(token());
    for _ in 0..10 {
        get(&client).await.unwrap();
        tokio::task::yield_now().await;
    }
    // A write on a connection that was closed meanwhile is either sent on another one, or reported as unsure:
    // it is never sent twice.
    for _ in 0..10 {
        let result = client.post::<Value>("/w", Params::new()).await;
        if let Err(error) = result {
            assert_eq!(error.effect(), TookEffect::Maybe);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(server.seen().iter().filter(|seen| seen.method == "POST").count() <= 10);
}

async fn a_dropped_read_is_sent_again_and_a_dropped_write_is_not() {
    let server = Server::start(|seen| match (seen.method.as_str(), seen.connection) {
        ("GET", 0 | 1) => Reply::drop(),
        ("GET", _) => Reply::json(r#"{"data":1}"#),
        _ => Reply::drop(),
    })
    .await;
    let client = server.client(token());
    get(&client).await.unwrap();
    assert_eq!(server.seen().len(), 3);
    let error =
        client.post::<Value>("/nodes/pve1/qemu", Params::new().with("vmid", 100u32)).await.unwrap_err();
    assert_eq!((error.effect(), error.was_not_sent()), (TookEffect::Maybe, false), "{error}");
    assert_eq!(error.to_string(), "POST `/nodes/pve1/qemu` was interrupted");
    assert_eq!(server.seen().iter().filter(|seen| seen.method == "POST").count(), 1);
}

/// pveproxy drops about one in ten of the calls whose head and body come apart.
async fn a_call_is_sent_in_one_piece() {
    let server = Server::start(|_| Reply::json(r#"{"data":null}"#)).await;
    let client = server.client(token());
    for number in 0..50u32 {
        client.post::<Value>("/w", Params::new().with("number", number)).await.unwrap();
    }
    assert!(server.seen().iter().all(|seen| seen.reads == 1));
}

async fn another_endpoint_takes_over_when_one_cannot_be_reached() {
    let server = Server::start(|_| Reply::json(r#"{"data":1}"#)).await;
    let dead = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut config = server.config(token());
    config.endpoints.insert(0, pve_api::Endpoint::new("127.0.0.1", dead));
    let client = Client::https(config.clone()).unwrap();
    client.post::<Value>("/w", Params::new()).await.unwrap();
    get(&client).await.unwrap();
    assert_eq!(server.seen().len(), 2, "a write moves on too: it was certainly not sent");

    config.endpoints.pop();
    let error = get(&Client::https(config).unwrap()).await.unwrap_err();
    assert!(error.is_unreachable() && error.was_not_sent(), "{error}");
    assert_eq!(error.to_string(), format!("cannot connect to 127.0.0.1:{dead}"));
    assert_eq!(error.effect(), TookEffect::No);
}
