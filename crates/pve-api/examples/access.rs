//! Makes a role, a user and a token that may only look at VMs, shows what the token may do, and removes them again.

#![expect(clippy::print_stdout, reason = "an example prints its results")]
mod common;

use pve_api::Client;
use pve_api::access::{Grant, Subject, TokenSettings, UserSettings};
use pve_types::Privilege;

#[tokio::main]
async fn main() -> common::Result {
    let (mut config, client, _) = common::environment()?;
    let access = client.access();
    let (role, user, name) = ("ExampleViewer".parse()?, "example@pve".parse()?, "look".parse()?);
    access.roles().create(&role, &[Privilege::VmAudit]).await?;
    access.users().create(&user, &UserSettings::default(), None).await?;
    let token = access.tokens(&user).create(&name, &TokenSettings::default()).await?;
    // A token has what both it and its user have.
    let subjects = vec![Subject::User(user.clone()), Subject::Token(token.id.clone())];
    let grant = Grant { path: "/vms".into(), roles: vec![role.clone()], subjects, propagate: true };
    access.acl().grant(&grant).await?;

    config.credentials = token.credentials();
    let permissions = Client::https(config)?.access().permissions().await?;
    println!("{} may look at VMs: {}", token.id, permissions.has("/vms", Privilege::VmAudit));

    access.users().delete(&user).await?;
    access.roles().delete(&role).await?;
    Ok(())
}
