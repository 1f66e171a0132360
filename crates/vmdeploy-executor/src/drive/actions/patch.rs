//! A configuration change as the transports carry it: parameters of the API, or options of `qm`.

use crate::drive::job::{Job, volumes_of};
use crate::secrets::in_form;
use crate::{Failure, FailureKind};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pve_api::QemuConfig;
use pve_types::Secret;
use std::collections::BTreeSet;
use vmdeploy_planner::identity::marked_description;
use vmdeploy_planner::plan::{ConfigPatch, DiskSource, GuestRef, PatchValue, SecretForm};

/// One value, ready to be sent.
#[derive(Debug)]
pub(super) enum Sent {
    /// A text.
    Text(String),
    /// A secret, and in which form it is.
    Secret(Secret, SecretForm),
    /// Public keys, one a line.
    Keys(String),
}

/// A configuration change, ready to be sent: the values by key, and the keys that go.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) set: Vec<(String, Sent)>,
    pub(super) delete: Vec<String>,
}

impl Job {
    /// Resolves what is not known before: volumes of earlier steps, secrets, keys of accounts.
    pub(super) async fn ready(&self, patch: &ConfigPatch) -> Result<Ready, Failure> {
        let mut ready = Ready { set: Vec::new(), delete: patch.delete.iter().cloned().collect() };
        for (key, value) in &patch.set {
            ready.set.push((key.clone(), self.ready_value(value).await?));
        }
        Ok(ready)
    }

    /// Merges the desired fields into the guest's current value.
    pub(super) async fn on_what_is_there(
        &self,
        guest: &GuestRef,
        patch: &ConfigPatch,
    ) -> Result<ConfigPatch, Failure> {
        let mut patch = patch.clone();
        let is_relative =
            |value: &PatchValue| matches!(value, PatchValue::Options { .. } | PatchValue::KeptVolumes { .. });
        if !patch.set.values().any(is_relative) {
            return Ok(patch);
        }
        let there = self.config(guest).await?.config;
        for (key, value) in &mut patch.set {
            if let PatchValue::KeptVolumes { slots } = value {
                *value = PatchValue::Text(self.with_volumes(guest, &there, slots)?);
                continue;
            }
            let PatchValue::Options { fields } = value else { continue };
            let desired = fields.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
            let now = there.get(key).ok_or_else(|| {
                Failure::new(FailureKind::DigestChanged, format!("VM {} no longer has `{key}`", guest.vmid))
            })?;
            let text = pve_config::overlay(key, Some(now), desired).map_err(|error| {
                Failure::new(FailureKind::DigestChanged, format!("`{key}` of VM {}: {error}", guest.vmid))
            })?;
            *value = PatchValue::Text(text);
        }
        Ok(patch)
    }

    /// Returns the guest's description, its marker told which volumes the slots hold.
    fn with_volumes(
        &self,
        guest: &GuestRef,
        config: &QemuConfig,
        slots: &BTreeSet<String>,
    ) -> Result<String, Failure> {
        let description = config.get("description").unwrap_or_default();
        let mut marker = self.check_ours(guest, config)?;
        let volumes = volumes_of(config);
        for slot in slots {
            marker.disks.insert(slot.clone(), volumes.get(slot).cloned());
        }
        Ok(marked_description(description, &marker))
    }

    /// Resolves the secrets and accounts of a change, and forgets them: whether they can be had.
    pub(super) async fn try_secrets(&self, patch: &ConfigPatch) -> Result<(), Failure> {
        for value in patch.set.values() {
            if matches!(value, PatchValue::Secret { .. } | PatchValue::PublicKeys { .. }) {
                self.ready_value(value).await?;
            }
        }
        Ok(())
    }

    async fn ready_value(&self, value: &PatchValue) -> Result<Sent, Failure> {
        Ok(match value {
            PatchValue::Text(text) => Sent::Text(text.clone()),
            PatchValue::NewVolume(new) => Sent::Text(new.to_string()),
            PatchValue::Drive { volume, options } => {
                Sent::Text(joined(self.resolve(volume)?.as_str(), options))
            }
            PatchValue::Options { .. } | PatchValue::KeptVolumes { .. } => {
                // `on_what_is_there` has made texts of them; a VM that is being made has nothing there yet.
                return Err(Failure::new(FailureKind::Internal, "options of a drive that does not exist"));
            }
            PatchValue::ImportFrom { storage, source, options } => {
                let source = match source {
                    DiskSource::Path(path) => path.clone(),
                    DiskSource::Volume(volume) => self.resolve(volume)?.to_string(),
                };
                Sent::Text(joined(&format!("{storage}:0,import-from={source}"), options))
            }
            PatchValue::Secret { source, form } => {
                let (resolver, source) = (self.shared.options.0.secrets.clone(), source.clone());
                let secret = blocking(move || resolver.secret(&source)).await?;
                let form = *form;
                Sent::Secret(blocking(move || in_form(&secret, form)).await?, form)
            }
            PatchValue::PublicKeys { keys, fetch } => {
                let mut all = keys.clone();
                for account in fetch {
                    let (resolver, account) = (self.shared.options.0.secrets.clone(), account.clone());
                    all.extend(blocking(move || resolver.public_keys(&account)).await?);
                }
                Sent::Keys(all.join("\n"))
            }
        })
    }
}

/// Runs something that may block where that is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::SecretError> + Send + 'static,
) -> Result<T, Failure> {
    let outcome = tokio::task::spawn_blocking(work).await;
    let outcome =
        outcome.map_err(|_| Failure::new(FailureKind::Internal, "reading a secret failed unexpectedly"))?;
    outcome.map_err(|error| {
        let failure = Failure::new(FailureKind::Secret, error.to_string());
        error.hint.into_iter().fold(failure, Failure::hint)
    })
}

fn joined(first: &str, options: &str) -> String {
    if options.is_empty() { first.to_owned() } else { format!("{first},{options}") }
}

impl Ready {
    /// Tells whether nothing is left to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.delete.is_empty()
    }
    /// Takes out the secrets that `qm` may be given as a hash where `pvesh` must not be.
    pub(super) fn split_off_hashes(&mut self) -> Vec<(String, Sent)> {
        let is_hash = |sent: &Sent| matches!(sent, Sent::Secret(_, SecretForm::Sha512Crypt));
        let (hashes, rest) = std::mem::take(&mut self.set).into_iter().partition(|(_, sent)| is_hash(sent));
        self.set = rest;
        hashes
    }
    /// Returns the parameters of an API call.
    pub(super) fn params(&self) -> pve_api::Params {
        let mut params = pve_api::Params::new();
        for (key, sent) in &self.set {
            params = match sent {
                Sent::Text(text) => params.with(key, text),
                Sent::Secret(secret, _) => params.with_secret(key, secret),
                Sent::Keys(keys) => params.with(key, encoded(keys)),
            };
        }
        params.with_list("delete", self.delete.iter())
    }
}

/// What is escaped in `sshkeys`.
// PVE: pve-common src/PVE/JSONSchema.pm, format urlencoded: what encodeURIComponent leaves alone is left alone.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// Percent-encodes as PVE wants `sshkeys`, whichever way it then travels.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Returns what of a patch is not in the configuration yet.
///
/// A value that allocates is done when its slot holds a volume; any other is done when it is the same by meaning.
pub(super) fn missing(patch: &ConfigPatch, config: &QemuConfig) -> ConfigPatch {
    let volumes = volumes_of(config);
    let is_missing = |key: &String, value: &PatchValue| match value {
        value if value.allocates_on().is_some() => !volumes.contains_key(key),
        PatchValue::Text(text) => !config.get(key).is_some_and(|now| pve_config::same_value(key, now, text)),
        _ => true,
    };
    let set = patch.set.iter().filter(|(key, value)| is_missing(key, value));
    let delete = patch.delete.iter().filter(|key| config.get(key).is_some());
    ConfigPatch { set: set.map(|(k, v)| (k.clone(), v.clone())).collect(), delete: delete.cloned().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_encoded_as_pve_wants_them() {
        assert_eq!(encoded("ssh-ed25519 AA+/= a@b\nk2"), "ssh-ed25519%20AA%2B%2F%3D%20a%40b%0Ak2");
        assert_eq!(encoded("it's (a) ~*!"), "it's%20(a)%20~*!");
    }

    #[test]
    fn only_what_is_missing_is_sent_again() {
        let mut config: QemuConfig = serde_json::from_str(
            r#"{"scsi0":"local-lvm:vm-201-disk-0,size=10G","ide2":"local-lvm:vm-201-cloudinit,media=cdrom","cores":2,"digest":"x"}"#,
        )
        .unwrap();
        config.digest = None;
        let text = |text: &str| PatchValue::Text(text.to_owned());
        let new =
            |slot: &str, text: &str| PatchValue::NewVolume(pve_config::NewVolume::read(slot, text).unwrap());
        let patch = ConfigPatch {
            set: [
                ("scsi0".to_owned(), new("scsi0", "local-lvm:10")),
                ("scsi1".to_owned(), new("scsi1", "local-lvm:20")),
                ("ide2".to_owned(), new("ide2", "local-lvm:cloudinit")),
                ("cores".to_owned(), text("2")),
                ("memory".to_owned(), text("4096")),
            ]
            .into(),
            delete: ["net3".to_owned(), "cores".to_owned()].into(),
        };
        let rest = missing(&patch, &config);
        assert_eq!(rest.set.keys().collect::<Vec<_>>(), ["memory", "scsi1"]);
        assert_eq!(rest.delete.iter().collect::<Vec<_>>(), ["cores"]);
    }
}
