//! Logs in with a password and, where PVE asks for it, a second factor typed on the terminal.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example prints its results")]
mod common;

use pve_api::{Client, Credentials, SecondFactor, SecondFactorSource};
use pve_types::Secret;

#[tokio::main]
async fn main() -> common::Result {
    let (mut config, _, _) = common::environment()?;
    if let Credentials::Password { second_factor, .. } = &mut config.credentials {
        *second_factor = SecondFactorSource::ask(|user, challenge| {
            eprintln!("{user} has {}; TOTP code:", challenge.kinds().join(", "));
            let mut code = String::new();
            std::io::stdin().read_line(&mut code)?;
            Ok(SecondFactor::Totp(Secret::new(code.trim())))
        });
    }
    let client = Client::https(config)?;
    client.log_in().await?;
    println!("logged in: {}", client.is_logged_in().await);
    println!("PVE {}", client.version().await?.version);
    client.log_out().await;
    Ok(())
}
