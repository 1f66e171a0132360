//! Tickets: had once, renewed in time, and by one call at a time.

use super::transport::{Authorisation, Inner};
use crate::auth::ticket::{LoginAnswer, Ticket, factor_request, login_request, read_login};
use crate::auth::{Credentials, Next};
use crate::error::{Answer, ApiError, Call, LoginError};
use crate::factor::{SecondFactor, SecondFactorSource, TfaChallenge};
use crate::request::Request;
use crate::response::Response;
use pve_types::{Secret, UserId};

impl Inner {
    /// Returns what the next call is authorised by, logging in or renewing where that is due.
    ///
    /// The lock is held meanwhile, so that of many calls one logs in and the others wait for it.
    pub(super) async fn authorisation(&self) -> Result<Authorisation, ApiError> {
        let (user, password, factor) = match &self.config.credentials {
            Credentials::Token { id, secret } => {
                return Ok(Authorisation::Token { id: id.to_string(), secret: secret.clone() });
            }
            Credentials::Anonymous => return Ok(Authorisation::None),
            Credentials::Password { user, password, second_factor } => (user, password, second_factor),
        };
        let mut session = self.session.lock().await;
        let now = self.config.clock.elapsed();
        let ticket = match session.next(now) {
            Next::Use(ticket) => ticket,
            Next::LogIn => {
                let ticket = self.log_in(user, password, factor).await?;
                session.take(ticket.clone(), now);
                ticket
            }
            Next::Renew(old) => match self.log_in(user, &old.ticket, &SecondFactorSource::None).await {
                Ok(ticket) => {
                    session.take(ticket.clone(), now);
                    ticket
                }
                // The old one is no longer taken (its key is gone, or the user changed): start over.
                Err(LoginError::Api(error)) => {
                    tracing::debug!(%error, "the ticket could not be renewed; using the old one");
                    session.pause_renewal(now);
                    old
                }
                Err(_) => {
                    let ticket = self.log_in(user, password, factor).await?;
                    session.take(ticket.clone(), now);
                    ticket
                }
            },
        };
        Ok(Authorisation::Ticket { ticket, generation: session.generation() })
    }

    /// Does both halves of a login.
    async fn log_in(
        &self,
        user: &UserId,
        password: &Secret,
        factor: &SecondFactorSource,
    ) -> Result<Ticket, LoginError> {
        let first = self.login_call(&login_request(user, password)).await?;
        let (half, challenge) = match read_login(&first)? {
            LoginAnswer::Done(ticket) => return Ok(ticket),
            LoginAnswer::Half { ticket, challenge } => (ticket, Box::new(challenge)),
        };
        let factor = second_factor(user, factor, challenge).await?;
        let second = self.login_call(&factor_request(user, &half, &factor)).await?;
        match read_login(&second)? {
            LoginAnswer::Done(ticket) => Ok(ticket),
            LoginAnswer::Half { .. } => Err(LoginError::Odd("it requires another second factor")),
        }
    }

    async fn login_call(&self, request: &Request) -> Result<Response, LoginError> {
        let answer = self.send(request, &Authorisation::None).await;
        let response = answer.map_err(|error| LoginError::Api(Box::new(error)))?;
        if response.is_success() {
            return Ok(response);
        }
        let answer = Box::new(Answer::of(Call::of(request), &response));
        match response.status {
            400 | 401 | 403 => Err(LoginError::Refused(answer)),
            _ => Err(LoginError::Api(Box::new(ApiError::Answered(answer)))),
        }
    }
}

async fn second_factor(
    user: &UserId,
    source: &SecondFactorSource,
    challenge: Box<TfaChallenge>,
) -> Result<SecondFactor, LoginError> {
    let factor = match source {
        SecondFactorSource::None => {
            return Err(LoginError::SecondFactorNeeded { user: user.to_string(), challenge });
        }
        SecondFactorSource::Value(factor) => factor.clone(),
        SecondFactorSource::Ask(ask) => {
            let (ask, name, asked) = (ask.clone(), user.to_string(), challenge.clone());
            // A person types slowly: other work goes on meanwhile.
            let answer = tokio::task::spawn_blocking(move || ask(&name, &asked)).await;
            let answer = answer.unwrap_or_else(|_| Err("the request for it failed unexpectedly".into()));
            answer.map_err(|source| LoginError::NoFactorGiven { user: user.to_string(), source })?
        }
    };
    match challenge.takes(&factor) {
        true => Ok(factor),
        false => {
            Err(LoginError::WrongKindOfFactor { user: user.to_string(), given: factor.kind(), challenge })
        }
    }
}
