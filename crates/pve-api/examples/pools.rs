//! Lists pools with their members.

#![expect(clippy::print_stdout, reason = "an example prints its results")]
mod common;

#[tokio::main]
async fn main() -> common::Result {
    let (_, client, _) = common::environment()?;
    let pools = client.pools();
    for item in pools.list().await? {
        let pool = pools.get(&item.poolid).await?;
        let members: Vec<&str> = pool.members.iter().map(|member| member.id.as_str()).collect();
        println!("{}: {}", item.poolid, members.join(" "));
    }
    Ok(())
}
