//! What a client proves itself with.

use crate::factor::SecondFactorSource;
use pve_types::{ParseError, Secret, TokenName, UserId};

/// An API token's full ID, `user@realm!name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId {
    /// The user that the token belongs to.
    pub user: UserId,
    /// The token's own name.
    pub name: TokenName,
}

impl std::fmt::Display for TokenId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}!{}", self.user, self.name)
    }
}

impl std::str::FromStr for TokenId {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (user, name) = text
            .rsplit_once('!')
            .ok_or_else(|| ParseError::new("token ID", text, "write it as `user@realm!name`"))?;
        Ok(Self { user: user.parse()?, name: name.parse()? })
    }
}

/// What a client proves itself with. No secret of it is ever shown.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// An API token: no login, no second factor, no expiry of its own accord.
    Token {
        /// The token.
        id: TokenId,
        /// Its secret.
        secret: Secret,
    },
    /// A user's password, for a ticket that is renewed as long as the client lives.
    Password {
        /// The user.
        user: UserId,
        /// The password.
        password: Secret,
        /// Where a second factor comes from, should PVE ask for one.
        second_factor: SecondFactorSource,
    },
    /// None: only the few calls that need no login work, such as the list of realms.
    Anonymous,
}

/// Why credentials are not complete, or too many.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// Both a password and a token's secret were given.
    #[error("both a password and a token secret are set for `{user}`: set only one")]
    Both {
        /// The user or token.
        user: String,
    },
    /// Neither was given.
    #[error("neither a password nor a token secret is set for `{user}`")]
    Neither {
        /// The user or token.
        user: String,
    },
    /// A token's secret was given for a plain user.
    #[error("`{user}` is a user, not a token: a token is written as `user@realm!name`")]
    SecretWithoutToken {
        /// The user.
        user: String,
    },
    /// A password was given for a token.
    #[error("`{user}` is a token, which has a secret and no password")]
    PasswordForToken {
        /// The token.
        user: String,
    },
    /// A second factor was given for a token, which never needs one.
    #[error("`{user}` is a token, which takes no second factor")]
    FactorForToken {
        /// The token.
        user: String,
    },
    /// The user or token is malformed.
    #[error("the API user cannot be used")]
    Malformed(#[from] ParseError),
}

impl Credentials {
    /// Returns the credentials of `user`, where `user@realm!name` is a token and anything else has a password.
    ///
    /// # Errors
    /// The user is malformed, the secret is empty, or a second factor is given for a token.
    pub fn from_user(
        user: &str,
        secret: Secret,
        second_factor: SecondFactorSource,
    ) -> Result<Self, CredentialsError> {
        match user.contains('!') {
            true => Self::choose(user, None, Some(secret), second_factor),
            false => Self::choose(user, Some(secret), None, second_factor),
        }
    }
    /// Returns the credentials made of what is there: exactly one of a password and a token's secret.
    ///
    /// # Errors
    /// Both are given, or none, or the one that does not go with `user`.
    pub fn choose(
        user: &str,
        password: Option<Secret>,
        token_secret: Option<Secret>,
        second_factor: SecondFactorSource,
    ) -> Result<Self, CredentialsError> {
        let given = |secret: Option<Secret>| secret.filter(|secret| !secret.expose().is_empty());
        let name = || user.to_owned();
        match (given(password), given(token_secret), user.contains('!')) {
            (Some(_), Some(_), _) => Err(CredentialsError::Both { user: name() }),
            (None, None, _) => Err(CredentialsError::Neither { user: name() }),
            (None, Some(_), false) => Err(CredentialsError::SecretWithoutToken { user: name() }),
            (Some(_), None, true) => Err(CredentialsError::PasswordForToken { user: name() }),
            (None, Some(_), true) if !second_factor.is_none() => {
                Err(CredentialsError::FactorForToken { user: name() })
            }
            (None, Some(secret), true) => Ok(Self::Token { id: user.parse()?, secret }),
            (Some(password), None, false) => {
                Ok(Self::Password { user: user.parse()?, password, second_factor })
            }
        }
    }
    /// Returns the user or the token, as PVE shows it.
    pub fn user(&self) -> Option<String> {
        match self {
            Self::Token { id, .. } => Some(id.to_string()),
            Self::Password { user, .. } => Some(user.to_string()),
            Self::Anonymous => None,
        }
    }
    /// Tells whether this is an API token.
    pub fn is_token(&self) -> bool {
        matches!(self, Self::Token { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(user: &str, password: &str, token: &str) -> Result<Credentials, CredentialsError> {
        let secret = |text: &str| (!text.is_empty()).then(|| Secret::new(text));
        Credentials::choose(user, secret(password), secret(token), SecondFactorSource::None)
    }

    #[test]
    fn a_bang_means_a_token() {
        let token =
            Credentials::from_user("root@pam!ci", Secret::new("s"), SecondFactorSource::None).unwrap();
        assert!(token.is_token() && token.user().unwrap() == "root@pam!ci");
        let password =
            Credentials::from_user("root@pam", Secret::new("s"), SecondFactorSource::None).unwrap();
        assert!(!password.is_token() && password.user().unwrap() == "root@pam");
    }

    #[test]
    fn exactly_one_secret_is_taken_and_it_must_go_with_the_user() {
        let check = |user: &str, password: &str, token: &str, expect: &str| {
            let error = choose(user, password, token).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("root@pam", "a", "b", "both a password and a token secret");
        check("root@pam", "", "", "neither a password nor a token secret");
        check("root@pam", "", "b", "is a user, not a token");
        check("root@pam!ci", "a", "", "is a token, which has a secret and no password");
        check("root", "a", "", "the API user cannot be used");
        check("root@pam!", "", "b", "the API user cannot be used");
        let totp = SecondFactorSource::totp("123456");
        let error = Credentials::from_user("a@pve!ci", Secret::new("s"), totp).unwrap_err();
        assert!(matches!(error, CredentialsError::FactorForToken { .. }));
    }

    #[test]
    fn no_secret_is_shown() {
        let shown = format!(
            "{:?}",
            Credentials::from_user("a@pve", Secret::new("hunter2"), SecondFactorSource::totp("987654"))
        );
        assert!(!shown.contains("hunter2") && !shown.contains("987654"), "{shown}");
    }
}
