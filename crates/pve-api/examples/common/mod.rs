//! The client that the environment describes, with the names that vmdeploy uses; `vmdeploy lab` prints them.

use pve_api::{Client, ClientConfig, Credentials, Endpoint, SecondFactorSource, Trust};
use pve_types::{NodeName, Secret};

pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns what PROXMOX_API_HOST, …_PORT, …_USER, …_PASSWORD, …_TOTP, …_CA, …_FINGERPRINT and PROXMOX_NODE describe:
/// the configuration, a client of it, and the node (`localhost` is whichever node answers).
pub fn environment() -> Result<(ClientConfig, Client, NodeName)> {
    let host = variable("PROXMOX_API_HOST").ok_or("PROXMOX_API_HOST is not set")?;
    let port = variable("PROXMOX_API_PORT").map_or(Ok(Endpoint::PORT), |port| port.parse())?;
    let user = variable("PROXMOX_API_USER").ok_or("PROXMOX_API_USER is not set")?;
    let secret = Secret::new(variable("PROXMOX_API_PASSWORD").ok_or("PROXMOX_API_PASSWORD is not set")?);
    let factor =
        variable("PROXMOX_API_TOTP").map_or(SecondFactorSource::None, |code| SecondFactorSource::totp(&code));
    let fingerprint = variable("PROXMOX_API_FINGERPRINT").map(|text| text.parse()).transpose()?;
    let trust = Trust {
        ca_pem: variable("PROXMOX_API_CA").map(std::fs::read).transpose()?,
        fingerprints: fingerprint.into_iter().collect(),
    };
    let credentials = Credentials::from_user(&user, secret, factor)?;
    let config = ClientConfig::new(Endpoint::new(host, port), credentials).with_trust(trust);
    let node = variable("PROXMOX_NODE").unwrap_or_else(|| "localhost".to_owned()).parse()?;
    Ok((config.clone(), Client::https(config)?, node))
}
