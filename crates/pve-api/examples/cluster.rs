//! Shows nodes, guests and the next free number.

#![expect(clippy::print_stdout, reason = "an example prints its results")]
mod common;

use pve_api::ResourceKind;

#[tokio::main]
async fn main() -> common::Result {
    let (_, client, _) = common::environment()?;
    for node in client.nodes().await? {
        println!("node {} {}", node.node, if node.is_online() { "online" } else { "not online" });
    }
    for guest in client.cluster().resources(Some(ResourceKind::Guests)).await? {
        let name = guest.name.as_deref().unwrap_or("-");
        println!("{} {name} {}", guest.id, guest.status.as_deref().unwrap_or("?"));
    }
    println!("next free number: {}", client.cluster().next_id().await?);
    Ok(())
}
