//! A second factor is asked for on the terminal, where PVE wants one and the environment has none.

use crate::{escape, output};
use pve_api::{Cause, SecondFactor, SecondFactorSource, TfaChallenge};
use std::io::BufRead as _;

/// Returns the source that asks the person at the terminal, if there is one.
pub fn ask() -> SecondFactorSource {
    SecondFactorSource::ask(question)
}

fn question(user: &str, challenge: &TfaChallenge) -> Result<SecondFactor, Cause> {
    if !output::can_ask() {
        return Err(
            "there is no terminal to ask for the code: set PROXMOX_API_TOTP, or use an API token".into()
        );
    }
    let kinds = challenge.kinds().join(", ");
    let user = escape::one_line(user);
    output::write_stderr(&format!("Second factor of {user} ({kinds}; a code, or `recovery:KEY`): "));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    crate::redact::register(answer.trim());
    match answer.trim() {
        "" => Err("no code was entered".into()),
        text => Ok(SecondFactor::from_text(text)),
    }
}
