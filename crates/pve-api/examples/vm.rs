//! Creates a small VM, starts it, looks at it, and removes it again.

#![expect(clippy::print_stdout, reason = "an example prints its results")]
mod common;

use pve_api::{ApiError, DeleteVm, Params, Wait};
use std::time::Duration;

#[tokio::main]
async fn main() -> common::Result {
    let (_, client, node) = common::environment()?;
    let wait = Wait::at_most(Duration::from_secs(120));
    let vmid = client.cluster().next_id().await?;
    let vm = client.node(&node).qemu(vmid);

    let params = Params::new().with("name", "example").with("memory", 256u32).with("cores", 1u32);
    client.node(&node).qemu_create(vmid, params).await?.wait(wait).await?;
    vm.start()
        .await?
        .wait_with(wait, |now| now.lines.iter().for_each(|line| println!("  {}", line.t)))
        .await?;
    println!("VM {vmid} runs: {}", vm.status().await?.is_running());

    // The digest of what was read prevents overwriting a concurrent change.
    let config = vm.config().await?;
    vm.set_config(Params::new().with("description", "made by an example").with_some("digest", config.digest))
        .await?;

    vm.stop().await?.wait(wait).await?;
    vm.delete(DeleteVm::default()).await?.wait(wait).await?;
    match vm.config().await {
        Err(error) if error.is_absent() => println!("VM {vmid} is gone"),
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(ApiError::Unusable(format!("VM {vmid} is still there")).into()),
    }
    Ok(())
}
