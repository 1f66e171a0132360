//! Second factors.

use crate::cause::Cause;
use percent_encoding::percent_decode_str;
use pve_types::Secret;
use std::sync::Arc;

/// The answer to a second-factor challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecondFactor {
    /// A code of an authenticator app.
    Totp(Secret),
    /// One of the recovery keys, which is used up.
    Recovery(Secret),
    /// A one-time password of a YubiKey.
    Yubico(Secret),
    /// The JSON of a WebAuthn or U2F response, made elsewhere.
    WebAuthn(Secret),
}

impl SecondFactor {
    /// Returns what a text such as `123456`, `totp:123456` or `recovery:aaaa-bbbb-cccc-dddd` says; without a kind it
    /// is a TOTP code.
    pub fn from_text(text: &str) -> Self {
        let secret = |value: &str| Secret::new(value.trim());
        match text.trim().split_once(':') {
            Some(("recovery", key)) => Self::Recovery(secret(key)),
            Some(("yubico", otp)) => Self::Yubico(secret(otp)),
            Some(("webauthn", json)) => Self::WebAuthn(secret(json)),
            Some(("totp", code)) => Self::Totp(secret(code)),
            _ => Self::Totp(secret(text)),
        }
    }
    /// Returns the kind as PVE writes it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Totp(_) => "totp",
            Self::Recovery(_) => "recovery",
            Self::Yubico(_) => "yubico",
            Self::WebAuthn(_) => "webauthn",
        }
    }
    /// Returns what goes into the second login's `password`: `totp:123456`.
    // PVE: proxmox-rs proxmox-tfa/src/api/mod.rs, TfaResponse.
    pub(crate) fn as_password(&self) -> Secret {
        let (Self::Totp(value) | Self::Recovery(value) | Self::Yubico(value) | Self::WebAuthn(value)) = self;
        Secret::new(format!("{}:{}", self.kind(), value.expose().trim()))
    }
}

/// Asks for a second factor: given the user and what PVE would take, returns the answer.
pub type AskSecondFactor = dyn Fn(&str, &TfaChallenge) -> Result<SecondFactor, Cause> + Send + Sync;

/// Where a second factor comes from.
#[derive(Clone, Default)]
pub enum SecondFactorSource {
    /// There is none: a user who needs one cannot log in.
    #[default]
    None,
    /// It is known already. A TOTP code works once, within its half minute.
    Value(SecondFactor),
    /// It is asked for, in a thread where blocking is allowed, whenever PVE wants one.
    Ask(Arc<AskSecondFactor>),
}

impl SecondFactorSource {
    /// Returns the source that has this TOTP code.
    pub fn totp(code: &str) -> Self {
        Self::Value(SecondFactor::Totp(Secret::new(code)))
    }
    /// Returns the source that calls `ask`.
    pub fn ask(
        ask: impl Fn(&str, &TfaChallenge) -> Result<SecondFactor, Cause> + Send + Sync + 'static,
    ) -> Self {
        Self::Ask(Arc::new(ask))
    }
    /// Tells whether there is none.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

impl std::fmt::Debug for SecondFactorSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Value(_) => "Value(<secret>)",
            Self::Ask(_) => "Ask",
        })
    }
}

/// Which second factors a user has, as told by the first half of a login.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TfaChallenge {
    /// An authenticator app.
    pub totp: bool,
    /// The numbers of the recovery keys that are left.
    pub recovery: Vec<u32>,
    /// A YubiKey in OTP mode.
    pub yubico: bool,
    /// The challenge for a WebAuthn device, as JSON.
    pub webauthn: Option<serde_json::Value>,
    /// The challenge for a U2F device, as JSON.
    pub u2f: Option<serde_json::Value>,
}

impl TfaChallenge {
    /// Returns what a half ticket, `PVE:!tfa!{"totp"%3Atrue}:HHHHHHHH::SIG`, asks for.
    // PVE: pve-access-control src/PVE/AccessControl.pm assemble_ticket; only `:` is escaped.
    pub(crate) fn from_ticket(ticket: &str) -> Option<Self> {
        let rest = ticket.strip_prefix("PVE:!tfa!")?;
        let data = percent_decode_str(rest.split(':').next()?).decode_utf8().ok()?;
        let data: serde_json::Value = serde_json::from_str(&data).ok()?;
        let device = |key: &str| data.get(key).filter(|value| value.is_object()).cloned();
        let flag = |key: &str| {
            data.get(key).is_some_and(|value| value.as_bool().unwrap_or(value.as_u64() == Some(1)))
        };
        let left = data.get("recovery").and_then(|value| value.as_array());
        let number = |value: &serde_json::Value| u32::try_from(value.as_u64()?).ok();
        Some(Self {
            totp: flag("totp"),
            recovery: left.map(|keys| keys.iter().filter_map(number).collect()).unwrap_or_default(),
            yubico: flag("yubico"),
            webauthn: device("webauthn"),
            u2f: device("u2f"),
        })
    }
    /// Returns the kinds that would be taken.
    pub fn kinds(&self) -> Vec<&'static str> {
        let all = [
            ("totp", self.totp),
            ("recovery", !self.recovery.is_empty()),
            ("yubico", self.yubico),
            ("webauthn", self.webauthn.is_some()),
            ("u2f", self.u2f.is_some()),
        ];
        all.into_iter().filter(|&(_, there)| there).map(|(kind, _)| kind).collect()
    }
    /// Tells whether `factor` is of a kind that would be taken.
    pub fn takes(&self, factor: &SecondFactor) -> bool {
        // A server that names no kind at all is left to judge for itself.
        let kinds = self.kinds();
        kinds.is_empty() || kinds.contains(&factor.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_ticket_says_what_it_wants() {
        let check = |ticket: &str, kinds: Option<&[&str]>| {
            let challenge = TfaChallenge::from_ticket(ticket);
            assert_eq!(challenge.map(|challenge| challenge.kinds()).as_deref(), kinds, "{ticket}");
        };
        check(r#"PVE:!tfa!{"totp"%3Atrue,"recovery"%3A[0,1,2]}:65000000::SIG"#, Some(&["totp", "recovery"]));
        check(r#"PVE:!tfa!{"webauthn"%3A{"challenge"%3A"x"}}:65000000::SIG"#, Some(&["webauthn"]));
        check(r#"PVE:!tfa!{"totp"%3A1}:65000000::SIG"#, Some(&["totp"]));
        check("PVE:root@pam:65000000::SIG", None);
        check("PVE:!tfa!x:65000000::SIG", None);
    }

    #[test]
    fn a_factor_is_read_with_or_without_its_kind() {
        let check = |text: &str, kind: &str, sent: &str| {
            let factor = SecondFactor::from_text(text);
            assert_eq!((factor.kind(), factor.as_password().expose()), (kind, sent), "{text}");
        };
        check("123456\n", "totp", "totp:123456");
        check("totp:123456", "totp", "totp:123456");
        check("recovery:aaaa-bbbb", "recovery", "recovery:aaaa-bbbb");
    }

    #[test]
    fn a_factor_is_sent_with_its_kind() {
        let password = SecondFactor::Totp(Secret::new(" 123456\n")).as_password();
        assert_eq!(password.expose(), "totp:123456");
        let password = SecondFactor::Recovery(Secret::new("aaaa-bbbb-cccc-dddd")).as_password();
        assert_eq!(password.expose(), "recovery:aaaa-bbbb-cccc-dddd");
    }
}
