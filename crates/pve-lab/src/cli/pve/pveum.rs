//! `pveum`.

use super::{Command, Then};

const USER: &[&str] = &["userid"];
const TOKEN: &[&str] = &["userid", "tokenid"];
const TOKEN_PATH: &str = "/access/users/{userid}/token/{tokenid}";

// PVE: pve-access-control src/PVE/CLI/pveum.pm
pub(super) const COMMANDS: &[Command] = &[
    Command::new("user add", "POST", "/access/users", USER, Then::Quiet),
    Command::new("user modify", "PUT", "/access/users/{userid}", USER, Then::Quiet),
    Command::new("user delete", "DELETE", "/access/users/{userid}", USER, Then::Quiet),
    Command::new("user list", "GET", "/access/users", &[], Then::Format),
    Command::new("user permissions", "GET", "/access/permissions", &["[userid]"], Then::Format),
    Command::new("user token add", "POST", TOKEN_PATH, TOKEN, Then::Format),
    Command::new("user token modify", "PUT", TOKEN_PATH, TOKEN, Then::Quiet),
    Command::new("user token delete", "DELETE", TOKEN_PATH, TOKEN, Then::Quiet),
    Command::new("user token delete", "DELETE", TOKEN_PATH, TOKEN, Then::Quiet).alias("user token remove"),
    Command::new("user token list", "GET", "/access/users/{userid}/token", USER, Then::Format),
    Command::new("user token permissions", "GET", "/access/permissions", TOKEN, Then::Format),
    Command::new("user tfa list", "GET", "/access/tfa/{userid}", USER, Then::Format),
    Command::new("user tfa unlock", "PUT", "/access/users/{userid}/unlock-tfa", USER, Then::Quiet),
    Command::new("group add", "POST", "/access/groups", &["groupid"], Then::Quiet),
    Command::new("group modify", "PUT", "/access/groups/{groupid}", &["groupid"], Then::Quiet),
    Command::new("group delete", "DELETE", "/access/groups/{groupid}", &["groupid"], Then::Quiet),
    Command::new("group list", "GET", "/access/groups", &[], Then::Format),
    Command::new("role add", "POST", "/access/roles", &["roleid"], Then::Quiet),
    Command::new("role modify", "PUT", "/access/roles/{roleid}", &["roleid"], Then::Quiet),
    Command::new("role delete", "DELETE", "/access/roles/{roleid}", &["roleid"], Then::Quiet),
    Command::new("role list", "GET", "/access/roles", &[], Then::Format),
    Command::new("acl modify", "PUT", "/access/acl", &["path"], Then::Quiet).fixed(&[("delete", "0")]),
    Command::new("acl delete", "PUT", "/access/acl", &["path"], Then::Quiet).fixed(&[("delete", "1")]),
    Command::new("acl list", "GET", "/access/acl", &[], Then::Format),
    Command::new("realm add", "POST", "/access/domains", &["realm"], Then::Quiet),
    Command::new("realm modify", "PUT", "/access/domains/{realm}", &["realm"], Then::Quiet),
    Command::new("realm delete", "DELETE", "/access/domains/{realm}", &["realm"], Then::Quiet),
    Command::new("realm list", "GET", "/access/domains", &[], Then::Format),
    Command::new("pool add", "POST", "/pools", &["poolid"], Then::Quiet),
    Command::new("pool modify", "PUT", "/pools", &["poolid"], Then::Quiet),
    Command::new("pool delete", "DELETE", "/pools", &["poolid"], Then::Quiet),
    Command::new("pool list", "GET", "/pools", &[], Then::Format),
    Command::new("passwd", "PUT", "/access/password", USER, Then::Quiet),
    Command::new("user add", "POST", "/access/users", USER, Then::Quiet).alias("useradd"),
    Command::new("user modify", "PUT", "/access/users/{userid}", USER, Then::Quiet).alias("usermod"),
    Command::new("user delete", "DELETE", "/access/users/{userid}", USER, Then::Quiet).alias("userdel"),
    Command::new("group add", "POST", "/access/groups", &["groupid"], Then::Quiet).alias("groupadd"),
    Command::new("group modify", "PUT", "/access/groups/{groupid}", &["groupid"], Then::Quiet)
        .alias("groupmod"),
    Command::new("group delete", "DELETE", "/access/groups/{groupid}", &["groupid"], Then::Quiet)
        .alias("groupdel"),
    Command::new("role add", "POST", "/access/roles", &["roleid"], Then::Quiet).alias("roleadd"),
    Command::new("role modify", "PUT", "/access/roles/{roleid}", &["roleid"], Then::Quiet).alias("rolemod"),
    Command::new("role delete", "DELETE", "/access/roles/{roleid}", &["roleid"], Then::Quiet)
        .alias("roledel"),
    Command::new("acl modify", "PUT", "/access/acl", &["path"], Then::Quiet)
        .fixed(&[("delete", "0")])
        .alias("aclmod"),
    Command::new("acl delete", "PUT", "/access/acl", &["path"], Then::Quiet)
        .fixed(&[("delete", "1")])
        .alias("acldel"),
];
