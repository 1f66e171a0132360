//! Prints the version, and whether it is new enough for HA rules.

#![expect(clippy::print_stdout, reason = "an example prints its results")]
mod common;

#[tokio::main]
async fn main() -> common::Result {
    let (_, client, _) = common::environment()?;
    let version = client.version().await?;
    println!("PVE {} (release {})", version.version, version.release.as_deref().unwrap_or("?"));
    println!("has HA rules: {}", version.is_at_least(9, 0));
    Ok(())
}
