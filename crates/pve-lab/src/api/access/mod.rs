//! `/access`: users, groups, roles, ACLs, realms, tokens, tickets, second factors.

mod acl;
mod domains;
mod factors;
mod groups;
mod password;
mod roles;
pub(crate) mod ticket;
mod tokens;
mod users;

use serde_json::{Value, json};

use super::{Call, Methods, Refusal};

/// The methods below `/access`.
pub const METHODS: &[Methods] = &[
    &[("GET", "/access", index)],
    acl::METHODS,
    domains::METHODS,
    factors::METHODS,
    groups::METHODS,
    password::METHODS,
    roles::METHODS,
    ticket::METHODS,
    tokens::METHODS,
    users::METHODS,
];

fn index(_: &mut Call<'_>) -> Result<Value, Refusal> {
    let names = ["acl", "domains", "groups", "openid", "password", "roles", "tfa", "ticket", "users"];
    Ok(names.iter().map(|name| json!({ "subdir": name })).collect())
}
