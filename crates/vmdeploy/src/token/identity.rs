//! Whose the credentials are: user and token, when they end, and how privilege separation limits the token.

use pve_api::Client;
use pve_api::access::{Permissions, Token, User};
use pve_types::{Privilege, TokenName, UserId};
use serde::Serialize;
use std::collections::BTreeMap;

/// The credentials' owner, as far as it may be asked.
#[derive(Debug, Clone, Serialize)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// The token; `None` for a password.
    pub token: Option<TokenName>,
    /// Whether the token has only the rights that it was given itself, within its user's; `None` where it may not be asked.
    pub separated: Option<bool>,
    /// When the token ends, in seconds since 1970.
    pub token_expires: Option<u64>,
    /// When the user ends, in seconds since 1970.
    pub user_expires: Option<u64>,
    /// Whether the user may log in.
    pub user_enabled: Option<bool>,
    /// What the user may do, where it may be asked.
    #[serde(skip)]
    pub user_may: Option<Permissions>,
}

impl Identity {
    /// Reads `user@realm` or `user@realm!token`.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self, pve_types::ParseError> {
        let (user, token) = match text.split_once('!') {
            Some((user, token)) => (user, Some(token.parse()?)),
            None => (text, None),
        };
        Ok(Self {
            user: user.parse()?,
            token,
            separated: None,
            token_expires: None,
            user_expires: None,
            user_enabled: None,
            user_may: None,
        })
    }
    /// Returns what is wrong with the account itself, at this time in seconds since 1970.
    pub fn troubles(&self, now: u64) -> Vec<Trouble> {
        let is_over = |end: &u64| *end != 0 && *end <= now;
        let disabled = (self.user_enabled == Some(false)).then(|| Trouble::UserDisabled(self.user.clone()));
        let user = self.user_expires.filter(is_over).map(Trouble::UserExpired);
        let token = self.token_expires.filter(is_over).map(Trouble::TokenExpired);
        [disabled, user, token].into_iter().flatten().collect()
    }
    /// Returns what the reader should know of the account, one sentence each.
    pub fn remarks(&self, now: u64) -> Vec<String> {
        let mut remarks = Vec::new();
        for (what, expires) in [("user", self.user_expires), ("token", self.token_expires)] {
            if let Some(end) = expires.filter(|end| *end > now) {
                remarks.push(format!(
                    "the {what} expires on {} (in {} days)",
                    date(end),
                    (end - now) / 86_400
                ));
            }
        }
        match (&self.token, self.separated) {
            (Some(_), Some(true)) => remarks.push(format!(
                "privilege separation is on: the token has the privileges granted to both itself and {}",
                self.user
            )),
            (Some(_), Some(false)) => {
                remarks.push(format!(
                    "privilege separation is off: the token has all privileges of {}",
                    self.user
                ));
            }
            (Some(_), None) => remarks.push(
                "the token may not read its own settings; with SSH configured, vmdeploy reads them from the node"
                    .to_owned(),
            ),
            (None, _) => {
                remarks.push("this is a password login: there is no token to grant privileges to".to_owned())
            }
        }
        remarks
    }
}

/// What is wrong with an account. It shows as a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The user may not log in.
    UserDisabled(UserId),
    /// The user ended at this time, in seconds since 1970.
    UserExpired(u64),
    /// The token ended at this time, in seconds since 1970.
    TokenExpired(u64),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UserDisabled(user) => write!(f, "the user {user} is disabled"),
            Self::UserExpired(end) => write!(f, "the user has expired ({})", date(*end)),
            Self::TokenExpired(end) => write!(f, "the token has expired ({})", date(*end)),
        }
    }
}

fn date(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.strftime("%Y-%m-%d").to_string())
}

/// Asks all that the caller may know of the account; what is refused stays unknown.
pub async fn look_up(identity: &mut Identity, client: &Client) {
    let access = client.access();
    let (user, token): (Option<User>, Option<Token>) = (
        access.users().get(&identity.user).await.ok(),
        match &identity.token {
            Some(name) => access.tokens(&identity.user).get(name).await.ok(),
            None => None,
        },
    );
    if let Some(user) = user {
        identity.user_enabled = Some(user.enable != Some(false));
        identity.user_expires = user.expire;
    }
    if let Some(token) = token {
        identity.separated = Some(token.is_separated());
        identity.token_expires = token.expire;
    }
    if identity.user_may.is_none() {
        identity.user_may = access.permissions_of(identity.user.as_str(), None).await.ok();
    }
}

/// Why credentials are refused, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, a fragment.
    pub why: String,
    /// The way out.
    pub hint: String,
}

/// Finds out why the credentials were refused, as root over SSH; `None` if that is not possible.
pub async fn why_refused(identity: &Identity, client: &Client, now: u64) -> Option<Refusal> {
    let access = client.access();
    let refusal = |why: String, hint: String| Some(Refusal { why, hint });
    let create = "`vmdeploy fix-token --create` creates the user and the token".to_owned();
    match access.users().get(&identity.user).await {
        Err(error) if error.is_absent() => {
            return refusal(format!("there is no user {}", identity.user), create);
        }
        Err(_) => return None,
        Ok(_) => {}
    }
    let (user, Some(name)) = (&identity.user, &identity.token) else { return None };
    match access.tokens(user).get(name).await {
        Err(error) if error.is_absent() => {
            return refusal(format!("{user} has no token {name}"), create);
        }
        Err(_) => return None,
        Ok(_) => {}
    }
    let mut known = identity.clone();
    look_up(&mut known, client).await;
    let again = format!("`pveum user token remove {user} {name}`, then `vmdeploy fix-token --create`");
    match known.troubles(now).first() {
        Some(trouble @ Trouble::TokenExpired(_)) => refusal(
            trouble.to_string(),
            format!("`pveum user token modify {user} {name} --expire 0` removes the expiry date"),
        ),
        Some(trouble @ (Trouble::UserDisabled(_) | Trouble::UserExpired(_))) => refusal(
            trouble.to_string(),
            format!("`pveum user modify {user} --enable 1 --expire 0` enables it"),
        ),
        None => refusal(
            format!("{user}!{name} exists, so the configured secret is wrong"),
            format!("a secret cannot be read again; recreate the token: {again}"),
        ),
    }
}

/// Returns PVE's permissions with typed privileges; those that no version of PVE has are left out.
pub fn typed(permissions: &Permissions) -> BTreeMap<String, BTreeMap<Privilege, bool>> {
    let privileges = |held: &BTreeMap<String, bool>| {
        held.iter().filter_map(|(name, propagates)| Some((name.parse().ok()?, *propagates))).collect()
    };
    permissions.paths.iter().map(|(path, held)| (path.clone(), privileges(held))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_token_or_a_disabled_user_is_trouble() {
        let mut identity = Identity::parse("ci@pve!deploy").unwrap();
        let troubles = |identity: &Identity, now| {
            identity.troubles(now).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(troubles(&identity, 100), Vec::<String>::new());
        identity.user_enabled = Some(false);
        identity.token_expires = Some(86_400);
        identity.user_expires = Some(0);
        let expect = ["the user ci@pve is disabled", "the token has expired (1970-01-02)"];
        assert_eq!(troubles(&identity, 90_000), expect);
    }
}
