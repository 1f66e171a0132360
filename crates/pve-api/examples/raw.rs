//! Reads any path as JSON: `cargo run --example raw /cluster/resources type=vm`.

#![expect(clippy::print_stdout, reason = "an example prints its results")]
mod common;

use pve_api::Params;

#[tokio::main]
async fn main() -> common::Result {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "/version".to_owned());
    let pairs: Vec<String> = arguments.collect();
    let params: Params = pairs.iter().filter_map(|pair| pair.split_once('=')).collect();
    let answer: serde_json::Value = common::environment()?.1.get(&path, params).await?;
    println!("{}", serde_json::to_string_pretty(&answer)?);
    Ok(())
}
