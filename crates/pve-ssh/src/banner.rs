//! What answers must name itself, or it is no SSH server.
//!
//! Both sides send `SSH-2.0-…` as soon as the connection is there, and neither waits for the other's; a server may send
//! lines of text before its own (RFC 4253, section 4.2). A server that speaks TLS says nothing until it is greeted its own
//! way, closes the connection after a while, or answers with a TLS alert.

use crate::error::ConnectCause;
use crate::text::{Escaped, cut};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// So much is kept of what is said before the name: russh takes no more than twenty lines of 255 bytes either.
const KEPT: usize = 8 * 1024;
/// So much of it is shown, in characters.
const SHOWN: usize = 80;

/// What the other end has said so far. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Banner {
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    /// When the connection was there.
    since: Option<Instant>,
    /// What was said before the name; empty once it was said.
    bytes: Vec<u8>,
    named: bool,
}

impl Banner {
    /// Listens to a connection that was just made; reading fails when no name is said within `patience`.
    pub(crate) fn listen<S>(&self, stream: S, patience: Duration) -> Greeted<S> {
        self.heard().since = Some(Instant::now());
        Greeted {
            stream,
            banner: self.clone(),
            named: false,
            deadline: Box::pin(tokio::time::sleep(patience)),
        }
    }
    /// Returns how long a connection that is not named yet has been there; `None` where it is named, or not there.
    pub(crate) fn waited(&self) -> Option<Duration> {
        let heard = self.heard();
        heard.since.filter(|_| !heard.named).map(|since| since.elapsed())
    }
    /// Returns what a connection that came to nothing has to do with what was said. `patience_is_over` says that the host
    /// has had its time, over all connections; it was `patience` long.
    pub(crate) fn explain(
        &self,
        cause: ConnectCause,
        patience: Duration,
        patience_is_over: bool,
    ) -> ConnectCause {
        let heard = self.heard();
        if heard.named || heard.since.is_none() {
            return cause;
        }
        match (&cause, what_speaks(&heard.bytes)) {
            (_, Some(what)) => ConnectCause::NotSsh(what.to_owned()),
            (_, None) if patience_is_over && heard.bytes.is_empty() => ConnectCause::Silent(patience),
            // sshd says why it closes a connection at once, as in `Exceeded MaxStartups`.
            (ConnectCause::Dropped, None) if !patience_is_over => cause,
            (_, None) if heard.bytes.is_empty() => cause,
            (_, None) => ConnectCause::NotSsh(format!("it sent `{}`", first_line(&heard.bytes))),
        }
    }
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn note(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes.iter().take(KEPT.saturating_sub(self.bytes.len())));
        let starts_line = |at: usize| at == 0 || self.bytes[at - 1] == b'\n';
        self.named = self.bytes.windows(4).enumerate().any(|(at, word)| word == b"SSH-" && starts_line(at));
        if self.named {
            self.bytes.clear();
        }
    }
}

/// Returns which protocol begins like this, where it is one that is often met instead.
// A TLS record is its type (20 to 23), the major version 3, and more (RFC 8446, section 5.1).
fn what_speaks(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [20..=23, 3, ..] => Some("it speaks TLS"),
        [b'H', b'T', b'T', b'P', b'/', ..] => Some("it speaks HTTP"),
        _ => None,
    }
}

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    Escaped(&cut(text.lines().next().unwrap_or_default(), SHOWN)).to_string()
}

/// A stream that is listened to until the other end has named itself.
pub(crate) struct Greeted<S> {
    stream: S,
    banner: Banner,
    named: bool,
    deadline: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.named {
            return outcome;
        }
        match outcome {
            Poll::Ready(Ok(())) => {
                let (named, other) = {
                    let mut heard = self.banner.heard();
                    heard.note(&buffer.filled()[before..]);
                    (heard.named, what_speaks(&heard.bytes))
                };
                self.named = named;
                // There is nothing to wait for.
                let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
                Poll::Ready(other.map_or(Ok(()), wrong))
            }
            Poll::Pending => {
                let over =
                    |()| Err(io::Error::new(io::ErrorKind::TimedOut, "the host did not send a banner"));
                self.deadline.as_mut().poll(cx).map(over)
            }
            failed @ Poll::Ready(Err(_)) => failed,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_said_tells_what_is_there() {
        let check = |said: &[u8], is_over: bool, expect: &str| {
            let banner = Banner::default();
            banner.heard().since = Some(Instant::now());
            banner.heard().note(said);
            let cause = banner.explain(ConnectCause::Dropped, LONG, is_over);
            assert!(cause.to_string().contains(expect), "{said:?}: {cause}");
        };
        let dropped = "the host closed the connection during setup";
        check(b"\x15\x03\x01\0\x02\x02\x28", false, "not an SSH server: it speaks TLS");
        check(b"HTTP/1.1 400 Bad Request\r\n", false, "not an SSH server: it speaks HTTP");
        check(b"Exceeded MaxStartups\r\n", false, dropped);
        check(b"", false, dropped);
        check(b"", true, "sent nothing within 60 s");
        check(
            b"220 mail\x1b[2J ready\r\nmore",
            true,
            r"not an SSH server: it sent `220 mail\u{1b}[2J ready`",
        );
        check(b"SSH-2.0-OpenSSH_10.0\r\n", true, dropped);
        check(b"Welcome\r\nSSH-2.0-OpenSSH_10.0\r\n\x15\x03", true, dropped);
        check(b"no SSH-2.0 here\r\n", true, "not an SSH server: it sent");
    }

    #[tokio::test]
    async fn a_name_ends_the_wait_and_silence_is_ended_by_it() {
        let (near, far) = tokio::io::duplex(64);
        let banner = Banner::default();
        let mut stream = banner.listen(near, Duration::ZERO);
        let mut byte = [0];
        assert_eq!(stream.read_exact(&mut byte).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(banner.waited().is_some());
        drop(far);

        let (near, mut far) = tokio::io::duplex(64);
        let banner = Banner::default();
        let mut stream = banner.listen(near, Duration::ZERO);
        tokio::io::AsyncWriteExt::write_all(&mut far, b"SSH-2.0-x\r\nmore").await.unwrap();
        let mut all = [0; 15];
        stream.read_exact(&mut all).await.unwrap();
        assert_eq!((&all, banner.waited()), (b"SSH-2.0-x\r\nmore", None));
        // From now on the connection may be silent.
        let reading = tokio::spawn(async move { stream.read_exact(&mut [0]).await });
        tokio::task::yield_now().await;
        assert!(!reading.is_finished());
        reading.abort();
    }
}
