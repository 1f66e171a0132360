//! Login calls and tickets, as data.

use crate::error::LoginError;
use crate::factor::{SecondFactor, TfaChallenge};
use crate::request::{ApiPath, Method, Params, Request};
use crate::response::Response;
use pve_types::{Secret, UserId};

/// A ticket: what a browser would hold as its session.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    /// Goes in the cookie.
    pub ticket: Secret,
    /// Goes with every write.
    pub csrf: Secret,
}

/// What a login was answered with.
#[derive(Debug)]
pub(crate) enum LoginAnswer {
    /// A full ticket.
    Done(Ticket),
    /// Half a ticket: a second factor must follow.
    Half { ticket: Secret, challenge: TfaChallenge },
}

/// Returns the login call with a password, or with a valid ticket in its place.
pub(crate) fn login_request(user: &UserId, password: &Secret) -> Request {
    let params = Params::new().with("username", user).with_secret("password", password);
    // Before 8 the new second-factor flow must be asked for; later the parameter changes nothing.
    // PVE: pve-access-control src/PVE/API2/AccessControl.pm create_ticket.
    Request::new(Method::Post, ApiPath::new(["access", "ticket"])).with(params.with("new-format", true))
}

/// Returns the second half of a login.
pub(crate) fn factor_request(user: &UserId, half: &Secret, factor: &SecondFactor) -> Request {
    let params = Params::new()
        .with("username", user)
        .with_secret("password", &factor.as_password())
        .with_secret("tfa-challenge", half)
        .with("new-format", true);
    Request::new(Method::Post, ApiPath::new(["access", "ticket"])).with(params)
}

/// Returns what a login's successful answer holds.
pub(crate) fn read_login(response: &Response) -> Result<LoginAnswer, LoginError> {
    #[derive(serde::Deserialize)]
    struct Data {
        ticket: Option<String>,
        #[serde(rename = "CSRFPreventionToken")]
        csrf: Option<String>,
        #[serde(rename = "NeedTFA")]
        need_tfa: Option<bool>,
    }
    let data: Data = response.decode().map_err(|_| LoginError::Odd("its data is not an object"))?;
    let ticket = data.ticket.map(Secret::new).ok_or(LoginError::Odd("it contains no ticket"))?;
    if let Some(challenge) = TfaChallenge::from_ticket(ticket.expose()) {
        return Ok(LoginAnswer::Half { ticket, challenge });
    }
    if data.need_tfa == Some(true) {
        return Err(LoginError::Odd("its second-factor challenge cannot be read"));
    }
    let csrf = data.csrf.map(Secret::new).ok_or(LoginError::Odd("it contains no CSRF token"))?;
    Ok(LoginAnswer::Done(Ticket { ticket, csrf }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_login_calls_are_what_pve_reads() {
        let user: UserId = "root@pam".parse().unwrap();
        let first = login_request(&user, &Secret::new("p&=ss"));
        assert_eq!(first.target(), "/api2/json/access/ticket");
        assert_eq!(first.body().unwrap(), "username=root%40pam&password=p%26%3Dss&new-format=1");
        let factor = SecondFactor::Totp(Secret::new("123456"));
        let second = factor_request(&user, &Secret::new("PVE:!tfa!x:1::S"), &factor);
        assert_eq!(
            second.body().unwrap(),
            "username=root%40pam&password=totp%3A123456&tfa-challenge=PVE%3A%21tfa%21x%3A1%3A%3AS&new-format=1"
        );
    }

    #[test]
    fn a_login_answer_is_a_ticket_half_a_ticket_or_odd() {
        let read = |data| read_login(&Response::success(data));
        let full =
            json!({"username": "root@pam", "ticket": "PVE:root@pam:6500::S", "CSRFPreventionToken": "65:x"});
        assert!(matches!(read(full), Ok(LoginAnswer::Done(_))));
        let half = json!({"ticket": "PVE:!tfa!{\"totp\"%3Atrue}:6500::S", "NeedTFA": 1});
        assert!(matches!(read(half), Ok(LoginAnswer::Half { challenge, .. }) if challenge.totp));
        for odd in [json!(null), json!({}), json!({"ticket": "tfa!root@pam", "NeedTFA": 1})] {
            assert!(matches!(read(odd.clone()), Err(LoginError::Odd(_))), "{odd}");
        }
    }
}
