//! Which settings can be used, and what is wrong with the others.

use super::Check;
use crate::environment::{Environment, names};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::reach::Transports;
use vmdeploy_executor::{ApiAccess, Connections, ConnectionsConfig, SshAccess};

/// A transport: what is wrong with its settings, and how it is taken all the same.
pub(super) struct Transport<A> {
    /// Whether anything is set for it.
    pub is_set: bool,
    /// What is wrong.
    pub faults: Vec<Check>,
    /// How it is taken; `None` where the faults are in the way of that.
    pub access: Option<A>,
}

impl<A> Transport<A> {
    fn unset() -> Self {
        Self { is_set: false, faults: Vec::new(), access: None }
    }
    fn ready(access: A) -> Self {
        Self { is_set: true, faults: Vec::new(), access: Some(access) }
    }
    fn faulty(name: &str, failure: &Failure) -> Self {
        Self { is_set: true, faults: vec![fault(name, failure)], access: None }
    }
}

/// Returns how the API is asked. Where a certificate or fingerprint cannot be used nothing is sent there at all.
pub(super) async fn api(transports: &mut Transports) -> Transport<ApiAccess> {
    let access = match std::mem::replace(&mut transports.api, Ok(None)) {
        Ok(None) => return Transport::unset(),
        Ok(Some(access)) => access,
        Err(failure) => return Transport::faulty("API settings", &failure),
    };
    let alone = ConnectionsConfig { api: Some(access.clone()), ssh: None };
    match Connections::open(alone).await {
        Ok(_) => Transport::ready(access),
        Err(failure) => {
            Transport { is_set: true, faults: vec![refused("API settings", failure)], access: None }
        }
    }
}

/// Returns how nodes are reached. A key that is not there is no reason not to go and look: other keys may do.
pub(super) async fn ssh(
    transports: &mut Transports,
    environment: &Environment,
    read: impl Fn(&Environment) -> Transports,
) -> Transport<SshAccess> {
    let mut faults = Vec::new();
    let access = match std::mem::replace(&mut transports.ssh, Ok(None)) {
        Ok(None) => return Transport::unset(),
        Ok(Some(access)) => access,
        Err(failure) => match read(&environment.with(names::SSH_KEY, "")).ssh {
            Ok(Some(access)) => {
                faults.push(fault("SSH key", &failure));
                access
            }
            _ => return Transport::faulty("SSH settings", &failure),
        },
    };
    faults.extend(missing_known_hosts(&access));
    let alone = ConnectionsConfig { api: None, ssh: Some(access.clone()) };
    match Connections::open(alone).await {
        Ok(_) => Transport { faults, ..Transport::ready(access) },
        Err(failure) => {
            faults.push(refused("SSH settings", failure));
            Transport { is_set: true, faults, access: None }
        }
    }
}

/// A file that is named and is not there counts as empty; it is more likely mistyped.
fn missing_known_hosts(access: &SshAccess) -> Option<Check> {
    // Where none is named, those are looked at that there may be.
    let [named] = access.known_hosts.as_slice() else { return None };
    let is_there = named.exists() && !named.is_dir();
    let hint =
        "correct PROXMOX_SSH_KNOWN_HOSTS or the spec's `known_hosts`, or add the node's key to that file";
    (!is_there && !access.trust_on_first_use).then(|| {
        Check::failed("SSH known hosts", format!("`{}` is not a file", named.display()), hint).about_trust()
    })
}

/// Returns where the environment says that the API is, for settings that say no more.
pub(super) fn api_places(environment: &Environment) -> Vec<(String, u16)> {
    let Ok(scope) = environment.connection() else { return Vec::new() };
    let Ok(port) = scope.number(names::API_PORT) else { return Vec::new() };
    let hosts = scope.get(names::API_HOST).unwrap_or_default().split(',').map(str::trim);
    let is_host = |host: &&str| !host.is_empty() && !host.contains(['/', '@', ' ']);
    hosts.filter(is_host).map(|host| (host.to_owned(), port.unwrap_or(8006))).collect()
}

/// Turns what is wrong with a transport as a whole into a line.
fn refused(name: &str, failure: vmdeploy_executor::Failure) -> Check {
    let hint = failure.hint.unwrap_or_else(|| "correct it in .env".to_owned());
    let text = failure.causes.iter().fold(failure.message, |text, cause| format!("{text}: {cause}"));
    Check::failed(name, text, hint).about_trust()
}

/// Turns what is wrong with a setting into a line.
pub(super) fn fault(name: &str, failure: &Failure) -> Check {
    let hint = match failure.hints() {
        [] => "correct it in .env".to_owned(),
        hints => hints.join("; "),
    };
    let check = Check::failed(name, failure.text(), hint);
    if failure.exit() == Exit::RIGHTS { check.about_trust() } else { check }
}
