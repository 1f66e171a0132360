//! Prints what a guest runs and its address: `cargo run --example agent 100`.

#![expect(clippy::print_stdout, reason = "an example prints its results")]
mod common;

use pve_api::{AddressFilter, AgentTrouble, choose_address};

#[tokio::main]
async fn main() -> common::Result {
    let vmid = std::env::args().nth(1).ok_or("which VM?")?.parse()?;
    let (_, client, node) = common::environment()?;
    let vm = client.node(&node).qemu(vmid);
    let config = vm.config().await?;
    let interfaces = match vm.agent().network_interfaces().await {
        Ok(interfaces) => interfaces,
        Err(error) => match AgentTrouble::of(&error) {
            Some(trouble) => {
                println!("the agent cannot be asked: {trouble:?}");
                return Ok(());
            }
            None => return Err(error.into()),
        },
    };
    let macs = config.mac_addresses().into_iter().map(|(_, mac)| mac).collect();
    match choose_address(&interfaces, &AddressFilter { macs, ..AddressFilter::default() }) {
        Some(found) => println!("{} on {}", found.address, found.interface),
        None => println!("no address yet"),
    }
    println!("{}", vm.agent().os_info().await?.pretty_name.unwrap_or_default());
    Ok(())
}
