//! Parameters of a request.

use super::path::ENCODED;
use percent_encoding::utf8_percent_encode;
use pve_types::Secret;
use zeroize::Zeroize as _;

/// The parameters of a request, in order; a key may be repeated, which PVE reads as a list.
///
/// Values of keys that hold secrets (see [`Params::is_secret_key`]) are hidden however they were added.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Params {
    items: Vec<Param>,
}

/// One parameter.
#[derive(Clone, PartialEq, Eq)]
pub struct Param {
    key: String,
    value: String,
    secret: bool,
}

impl Param {
    /// Returns the name.
    pub fn key(&self) -> &str {
        &self.key
    }
    /// Returns the value, which may be a secret: look at [`Param::is_secret`] before showing it.
    pub fn value(&self) -> &str {
        &self.value
    }
    /// Tells whether the value must not be shown, logged or put in an argv.
    pub fn is_secret(&self) -> bool {
        self.secret
    }
}

impl Drop for Param {
    fn drop(&mut self) {
        if self.secret {
            self.value.zeroize();
        }
    }
}

impl std::fmt::Debug for Param {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.secret { "<secret>" } else { &self.value };
        write!(f, "{}={value:?}", self.key)
    }
}

impl std::fmt::Debug for Params {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.items).finish()
    }
}

/// Parameters whose values are secrets, wherever they occur in the API.
// PVE: the parameters named so in pve-access-control src/PVE/API2, qemu-server src/PVE/API2/Qemu and
// pve-storage src/PVE/Storage/*Plugin.pm.
const SECRET_KEYS: [&str; 12] = [
    "password",
    "cipassword",
    "confirmation-password",
    "tfa-challenge",
    "otp",
    "totp",
    "client-key",
    "encryption-key",
    "keyring",
    "ticket",
    "vncticket",
    "response",
];

impl Params {
    /// Returns no parameters.
    pub fn new() -> Self {
        Self::default()
    }
    /// Tells whether a parameter of this name holds a secret.
    pub fn is_secret_key(key: &str) -> bool {
        SECRET_KEYS.contains(&key)
    }
    /// Returns the parameters with one more. Booleans are written 0 and 1.
    pub fn with(mut self, key: &str, value: impl IntoParam) -> Self {
        self.push(key, value);
        self
    }
    /// Returns the parameters with one more if there is a value.
    pub fn with_some(mut self, key: &str, value: Option<impl IntoParam>) -> Self {
        if let Some(value) = value {
            self.push(key, value);
        }
        self
    }
    /// Returns the parameters with `key` once for each of `values`.
    pub fn with_each<V: IntoParam>(mut self, key: &str, values: impl IntoIterator<Item = V>) -> Self {
        values.into_iter().for_each(|value| self.push(key, value));
        self
    }
    /// Returns the parameters with `values` joined by commas, or unchanged when there are none.
    pub fn with_list<V: IntoParam>(self, key: &str, values: impl IntoIterator<Item = V>) -> Self {
        let values: Vec<String> = values.into_iter().map(IntoParam::into_param).collect();
        match values.is_empty() {
            true => self,
            false => self.with(key, values.join(",")),
        }
    }
    /// Returns the parameters with one more that is never shown, whatever its name.
    pub fn with_secret(mut self, key: &str, value: &Secret) -> Self {
        let value = value.expose().to_owned();
        self.items.push(Param { key: key.to_owned(), value, secret: true });
        self
    }
    /// Returns these parameters followed by `more`.
    pub fn and(mut self, more: Self) -> Self {
        self.items.extend(more.items);
        self
    }
    /// Adds one parameter.
    pub fn push(&mut self, key: &str, value: impl IntoParam) {
        let secret = Self::is_secret_key(key);
        self.items.push(Param { key: key.to_owned(), value: value.into_param(), secret });
    }
    /// Returns the first value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.items.iter().find(|item| item.key == key).map(|item| item.value.as_str())
    }
    /// Returns the parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = &Param> {
        self.items.iter()
    }
    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }
    /// Returns the values that must not be shown.
    pub fn secrets(&self) -> impl Iterator<Item = &str> + Clone {
        self.items.iter().filter(|item| item.secret).map(|item| item.value.as_str())
    }
    /// Returns the form encoding: `a=1&b=x%20y`.
    // PVE cuts a value at a second, unencoded `=`, so everything but unreserved characters is encoded.
    pub fn encoded(&self) -> String {
        let pairs = self.items.iter().map(|item| {
            let key = utf8_percent_encode(&item.key, ENCODED);
            format!("{key}={}", utf8_percent_encode(&item.value, ENCODED))
        });
        pairs.collect::<Vec<_>>().join("&")
    }
}

impl<K: AsRef<str>, V: IntoParam> FromIterator<(K, V)> for Params {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut params = Self::new();
        pairs.into_iter().for_each(|(key, value)| params.push(key.as_ref(), value));
        params
    }
}

impl<K: AsRef<str>, V: IntoParam> Extend<(K, V)> for Params {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        pairs.into_iter().for_each(|(key, value)| self.push(key.as_ref(), value));
    }
}

/// A value that a parameter can have.
pub trait IntoParam {
    /// Returns the text that PVE reads.
    fn into_param(self) -> String;
}

impl IntoParam for bool {
    // PVE: pve-common src/PVE/JSONSchema.pm: over HTTP only 0 and 1 are booleans.
    fn into_param(self) -> String {
        if self { "1" } else { "0" }.to_owned()
    }
}

impl IntoParam for String {
    fn into_param(self) -> String {
        self
    }
}

macro_rules! by_display {
    ($($type:ty),*) => {$(
        impl IntoParam for $type {
            fn into_param(self) -> String {
                self.to_string()
            }
        }
    )*};
}
by_display!(&str, &String, u16, u32, u64, i32, i64, usize, f64, std::borrow::Cow<'_, str>);

macro_rules! by_display_and_reference {
    ($($type:ty),*) => {$(
        by_display!($type, &$type);
    )*};
}
by_display_and_reference!(
    pve_types::Vmid,
    pve_types::NodeName,
    pve_types::StorageId,
    pve_types::VolumeId,
    pve_types::GuestName,
    pve_types::PoolId,
    pve_types::BridgeName,
    pve_types::UserId,
    pve_types::TokenName,
    pve_types::RealmId,
    pve_types::RoleId,
    pve_types::GroupId,
    pve_types::Upid,
    pve_types::MacAddr
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_as_pve_reads_them() {
        let check = |params: Params, expect: &str| assert_eq!(params.encoded(), expect);
        check(Params::new(), "");
        check(Params::new().with("a", true).with("b", false).with("c", 3u32), "a=1&b=0&c=3");
        check(Params::new().with("net[0]", "virtio,bridge=vmbr0"), "net%5B0%5D=virtio%2Cbridge%3Dvmbr0");
        check(Params::new().with_each("command", ["ls", "-l /a b"]), "command=ls&command=-l%20%2Fa%20b");
        check(Params::new().with_list("delete", ["net1", "scsi2"]), "delete=net1%2Cscsi2");
        check(Params::new().with_list::<&str>("delete", []), "");
        check(Params::new().with_some("x", None::<&str>).with_some("y", Some("ä+")), "y=%C3%A4%2B");
        // An sshkeys value is percent-encoded text itself, and encoded once more here.
        check(Params::new().with("sshkeys", "ssh-ed25519%20AAAA%2B"), "sshkeys=ssh-ed25519%2520AAAA%252B");
    }

    #[test]
    fn secrets_are_hidden_by_name_or_on_request() {
        let secret = Secret::new("tokenvalue1");
        let params =
            Params::new().with("cipassword", "$6$abc").with_secret("content", &secret).with("name", "web");
        let shown = format!("{params:?}");
        assert_eq!(shown, r#"[cipassword="<secret>", content="<secret>", name="web"]"#);
        assert_eq!(params.secrets().collect::<Vec<_>>(), ["$6$abc", "tokenvalue1"]);
    }
}
