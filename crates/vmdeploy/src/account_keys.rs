//! The public SSH keys of an account: `github:NAME` or `gitlab:NAME`, from there or from a server that answers as it does.
//!
//! Only a step of a deployment asks for them: a spec is validated and planned without this.

use crate::environment::names;
use crate::local_files::is_public_key;
use crate::public_https::client_builder;
use reqwest::{Client, Response, StatusCode, Url};
use std::time::Duration;
use vmdeploy_executor::SecretError;

/// A kind of server that shows the public keys of its accounts at `{base}/{NAME}.keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forge {
    /// What stands before the account's name in a spec.
    pub prefix: &'static str,
    /// The variable that names another server.
    pub variable: &'static str,
    /// Where it is, if the variable is not set.
    pub base: &'static str,
}

/// Those that a spec may name.
pub const FORGES: [Forge; 2] = [
    Forge { prefix: "github:", variable: names::GITHUB_URL, base: "https://github.com" },
    Forge { prefix: "gitlab:", variable: names::GITLAB_URL, base: "https://gitlab.com" },
];

impl Forge {
    /// Returns the one that the account is at, e.g. `github:octocat`.
    ///
    /// # Errors
    /// None is known by that name.
    pub fn of(account: &str) -> Result<Self, SecretError> {
        let found = FORGES.into_iter().find(|forge| account.starts_with(forge.prefix));
        found.ok_or_else(|| refused(account, "only `github:NAME` and `gitlab:NAME` are known", IN_THE_SPEC))
    }
}

/// No list of keys is longer than this, in bytes.
const LONGEST_ANSWER: usize = 256 * 1024;
const WHOLE_LIMIT: Duration = Duration::from_secs(30);

/// Fetches the keys of `account`, e.g. `github:octocat`, from `{base}/octocat.keys`. Blocks.
///
/// # Errors
/// The account is of another kind or not there, the server cannot be reached or trusted, or what it sends are no keys.
pub fn fetch(account: &str, base: &str) -> Result<Vec<String>, SecretError> {
    let url = address(account, base)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| refused(account, &format!("no runtime: {error}"), "try again"))?;
    let text = runtime.block_on(download(account, url))?;
    keys_in(account, &text)
}

/// Returns where the account's keys are. Plain HTTP is taken from this machine only: who changes the answer gets in.
fn address(account: &str, base: &str) -> Result<Url, SecretError> {
    let forge = Forge::of(account)?;
    let name = account.strip_prefix(forge.prefix).unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(fits) {
        return Err(refused(account, "no account has such a name", "correct the spec"));
    }
    let unfit =
        |why: &str| refused(account, &format!("{} {why}", forge.variable), "write it as `https://HOST`");
    let url = Url::parse(&format!("{}/{name}.keys", base.trim_end_matches('/')));
    let url = url.map_err(|_| unfit("is not a URL"))?;
    let here = ["127.0.0.1", "[::1]", "localhost"].map(Some).contains(&url.host_str());
    if url.scheme() != "https" && !(url.scheme() == "http" && here) {
        return Err(unfit("is not `https:`"));
    }
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if is_plain { Ok(url) } else { Err(unfit("contains more than a host and a path")) }
}

async fn download(account: &str, url: Url) -> Result<String, SecretError> {
    let shown = url.to_string();
    let lost = |error: reqwest::Error| {
        refused(
            account,
            &format!("{shown}: {}", innermost(&error)),
            "try again, or put the keys into the spec",
        )
    };
    let mut response = client().map_err(lost)?.get(url).send().await.map_err(lost)?;
    check_status(account, &shown, &response)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err(refused(
                account,
                &format!("the answer of {shown} is too large for a list of keys"),
                SEE_THE_SERVER,
            ));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body)
        .map_err(|_| refused(account, &format!("the answer of {shown} is not text"), SEE_THE_SERVER))
}

fn client() -> Result<Client, reqwest::Error> {
    client_builder().redirect(reqwest::redirect::Policy::none()).timeout(WHOLE_LIMIT).build()
}

fn check_status(account: &str, shown: &str, response: &Response) -> Result<(), SecretError> {
    match response.status() {
        StatusCode::OK => Ok(()),
        StatusCode::NOT_FOUND => Err(refused(
            account,
            &format!("{shown} does not exist"),
            "correct the account's name in the spec",
        )),
        status => Err(refused(account, &format!("{shown} answers {}", status.as_u16()), SEE_THE_SERVER)),
    }
}

/// Returns the keys, one a line; anything else among them refuses all.
fn keys_in(account: &str, text: &str) -> Result<Vec<String>, SecretError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Vec<String> = lines.map(str::to_owned).collect();
    let is_key = |line: &String| is_public_key(line) && !line.chars().any(char::is_control);
    if !keys.iter().all(is_key) {
        return Err(refused(account, "the answer does not contain public keys", SEE_THE_SERVER));
    }
    if keys.is_empty() {
        return Err(refused(account, "the account has none", "add a key to the account, or to the spec"));
    }
    Ok(keys)
}

const IN_THE_SPEC: &str = "put the public key into the spec, or name its file";
const SEE_THE_SERVER: &str =
    "check the server in VMDEPLOY_GITHUB_URL or VMDEPLOY_GITLAB_URL, or put the keys into the spec";

fn refused(account: &str, why: &str, hint: &str) -> SecretError {
    SecretError {
        what: format!("the keys of `{account}` cannot be fetched: {why}"),
        hint: Some(hint.to_owned()),
    }
}

/// Returns the cause that says something: the outer ones repeat the address.
fn innermost(error: &reqwest::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_the_base_over_tls_or_from_this_machine() {
        const GITHUB: &str = FORGES[0].base;
        let check = |account: &str, base: &str, expect: Result<&str, &str>| {
            let got = address(account, base);
            let prefix = format!("the keys of `{account}` cannot be fetched: ");
            let got =
                got.as_ref().map(Url::as_str).map_err(|error| error.what.strip_prefix(&prefix).unwrap());
            assert_eq!(got, expect, "{account} {base}");
        };
        check("github:octocat", GITHUB, Ok("https://github.com/octocat.keys"));
        check("github:a-b", "https://git.example.net/x/", Ok("https://git.example.net/x/a-b.keys"));
        check("github:a", "http://127.0.0.1:8080", Ok("http://127.0.0.1:8080/a.keys"));
        check("github:a", "http://git.example.net", Err("VMDEPLOY_GITHUB_URL is not `https:`"));
        check("github:a", "file:///etc", Err("VMDEPLOY_GITHUB_URL is not `https:`"));
        let more = Err("VMDEPLOY_GITHUB_URL contains more than a host and a path");
        check("github:a", "https://u:p@git.example.net", more);
        check("github:a", "https://git.example.net/?x=", more);
        check("github:a", "git.example.net", Err("VMDEPLOY_GITHUB_URL is not a URL"));
        check("github:a/../b", GITHUB, Err("no account has such a name"));
        check("gitlab:a", FORGES[1].base, Ok("https://gitlab.com/a.keys"));
        check("gitlab:a", "http://git.example.net", Err("VMDEPLOY_GITLAB_URL is not `https:`"));
        check("sourcehut:a", GITHUB, Err("only `github:NAME` and `gitlab:NAME` are known"));
    }

    #[test]
    fn one_line_that_is_no_key_refuses_all() {
        let check = |text: &str, expect: Option<usize>| {
            assert_eq!(keys_in("github:a", text).ok().map(|keys| keys.len()), expect, "{text:?}");
        };
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA a";
        check(&format!("{key}\n\n{key}\r\n"), Some(2));
        check(&format!("{key}\n<html>\n"), None);
        check(&format!("command=\"id\" {key}\n"), None);
        check(&format!("{key}\u{1b}[2J\n"), None);
        check("\n", None);
    }
}
