//! What answers at the port is no SSH server.

use crate::{Needs, test};
use libtest_mimic::Trial;
use pve_ssh::{ConnectCause, Error, Host, HostConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub fn tests() -> Vec<Trial> {
    vec![
        test("banner::what_speaks_something_else_is_named_and_not_tried_again", Needs::Nothing, others),
        test("banner::what_goes_silent_after_its_name_is_given_up", Needs::Nothing, silent_later),
        test("banner::what_closes_without_a_word_is_tried_again", Needs::Nothing, closing),
    ]
}

/// A server that says something once it was greeted, and closes the connection, or keeps it.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(says: &'static [u8], closes: bool) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), connections: Arc::default() };
        let connections = server.connections.clone();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let mut greeted = [0; 8];
                stream.read_exact(&mut greeted).await.unwrap();
                assert_eq!(&greeted, b"SSH-2.0-", "we name ourselves at once, too");
                stream.write_all(says).await.unwrap();
                if !closes {
                    kept.push(stream);
                }
            }
        });
        server
    }

    /// Connects, and returns why that came to nothing, and how many connections were made.
    async fn refusal(&self, banner: Duration) -> (ConnectCause, usize) {
        let mut config = HostConfig::new("127.0.0.1", "root");
        config.port = self.port;
        config.timeouts.banner = banner;
        match Host::new(config).check().await.unwrap_err() {
            Error::Connect { source, .. } => (source, self.connections.load(Ordering::SeqCst)),
            other => panic!("{other}"),
        }
    }
}

const LONG: Duration = Duration::from_secs(600);

async fn others() {
    for (says, closes, expect) in [
        (&b"\x15\x03\x01\0\x02\x02\x28"[..], true, "it speaks TLS"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", true, "it speaks HTTP"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", false, "it speaks HTTP"),
    ] {
        let (cause, connections) = Server::start(says, closes).await.refusal(LONG).await;
        assert!(matches!(&cause, ConnectCause::NotSsh(what) if what == expect), "{cause}");
        assert_eq!(connections, 1, "{expect}");
    }
}

async fn silent_later() {
    let server = Server::start(b"SSH-2.0-x\r\n", false).await;
    let mut config = HostConfig::new("127.0.0.1", "root");
    config.port = server.port;
    config.timeouts.connect = Duration::from_millis(300);
    let error = Host::new(config).check().await.unwrap_err();
    // Whether it could name itself in this time is the machine's affair.
    let cause = |source: &ConnectCause| matches!(source, ConnectCause::Timeout(_) | ConnectCause::Silent(_));
    assert!(matches!(&error, Error::Connect { source, .. } if cause(source)), "{error}");
}

/// sshd does so under load, and its time for a name is not used up by that.
async fn closing() {
    let (cause, connections) = Server::start(b"Exceeded MaxStartups\r\n", true).await.refusal(LONG).await;
    assert!(matches!(cause, ConnectCause::Dropped), "{cause}");
    assert!(connections > 1);
    // Without patience there is one try.
    let (cause, connections) = Server::start(b"", true).await.refusal(Duration::ZERO).await;
    assert!(matches!(cause, ConnectCause::Silent(_)) && connections <= 1, "{cause}");
}
