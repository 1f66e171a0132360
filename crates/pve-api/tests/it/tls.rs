//! Which certificates are trusted.

use crate::server::{Reply, Server, timeouts, token};
use libtest_mimic::Trial;
use pve_api::{ApiError, Client, ClientConfig, Endpoint, Params, TookEffect, Trust};
use serde_json::Value;

pub fn trials() -> Vec<Trial> {
    crate::trials![
        a_fingerprint_is_trusted_and_a_changed_one_is_refused,
        a_fingerprint_must_match_even_where_a_ca_is_set,
        a_ca_is_trusted_and_another_is_not,
        the_system_s_roots_refuse_a_certificate_of_our_own_and_show_its_fingerprint,
        a_name_that_is_not_in_the_certificate_is_refused,
        a_changed_certificate_is_no_reason_to_try_another_endpoint,
    ]
}

async fn server() -> Server {
    Server::start(|_| Reply::json(r#"{"data":1}"#)).await
}

async fn get(endpoint: Endpoint, trust: Trust) -> Result<Value, ApiError> {
    let config = ClientConfig::new(endpoint, token()).with_trust(trust).with_timeouts(timeouts());
    Client::https(config)?.get("/version", Params::new()).await
}

fn plain(server: &Server) -> Endpoint {
    Endpoint::new("127.0.0.1", server.address.port())
}

fn refused(error: ApiError) -> String {
    let ApiError::Certificate { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!((error.effect(), error.was_not_sent()), (TookEffect::No, true));
    source.to_string()
}

async fn a_fingerprint_is_trusted_and_a_changed_one_is_refused() {
    let (server, other) = (server().await, server().await);
    get(plain(&server), Trust::fingerprint(server.fingerprint)).await.unwrap();
    let error = get(plain(&server), Trust::fingerprint(other.fingerprint)).await.unwrap_err();
    let expect = format!("its fingerprint was {} and is now {}", other.fingerprint, server.fingerprint);
    assert_eq!(refused(error), expect);
    assert_eq!(server.seen().len(), 1, "nothing is sent to a server that is not trusted");
}

async fn a_fingerprint_must_match_even_where_a_ca_is_set() {
    let (server, other) = (server().await, server().await);
    let both = |fingerprint| Trust {
        ca_pem: Some(server.ca_pem.clone().into_bytes()),
        fingerprints: vec![fingerprint],
    };
    get(plain(&server), both(server.fingerprint)).await.unwrap();
    refused(get(plain(&server), both(other.fingerprint)).await.unwrap_err());
    // And the CA must have signed it, even where the fingerprint matches.
    let wrong_ca =
        Trust { ca_pem: Some(other.ca_pem.clone().into_bytes()), fingerprints: vec![server.fingerprint] };
    refused(get(plain(&server), wrong_ca).await.unwrap_err());
}

async fn a_ca_is_trusted_and_another_is_not() {
    let (server, other) = (server().await, server().await);
    get(plain(&server), Trust::ca(server.ca_pem.clone())).await.unwrap();
    let text = refused(get(plain(&server), Trust::ca(other.ca_pem.clone())).await.unwrap_err());
    assert!(text.contains(&server.fingerprint.to_string()), "{text}");
}

async fn the_system_s_roots_refuse_a_certificate_of_our_own_and_show_its_fingerprint() {
    let server = server().await;
    match get(plain(&server), Trust::system()).await.unwrap_err() {
        error @ ApiError::Certificate { .. } => {
            let hint = error.hint().unwrap();
            assert!(hint.contains(&server.fingerprint.to_string()), "{hint}");
        }
        // A machine without any root certificate cannot trust the system's.
        ApiError::Unusable(why) => assert!(why.contains("root certificates"), "{why}"),
        error => panic!("{error:?}"),
    }
}

async fn a_name_that_is_not_in_the_certificate_is_refused() {
    let server = server().await;
    let endpoint = Endpoint::new("localhost", server.address.port());
    refused(get(endpoint, Trust::ca(server.ca_pem.clone())).await.unwrap_err());
}

async fn a_changed_certificate_is_no_reason_to_try_another_endpoint() {
    let (changed, good) = (server().await, server().await);
    let config = ClientConfig::new(plain(&changed).with_fingerprint(good.fingerprint), token())
        .with_endpoint(good.endpoint())
        .with_timeouts(timeouts());
    let error = Client::https(config).unwrap().get::<Value>("/version", Params::new()).await.unwrap_err();
    refused(error);
    assert!(good.seen().is_empty());
}
