//! Lists a node's newest tasks, and the log of the newest.

#![expect(clippy::print_stdout, reason = "an example prints its results")]
mod common;

use pve_api::{TaskFilter, TaskSource};

#[tokio::main]
async fn main() -> common::Result {
    let (_, client, node) = common::environment()?;
    let filter = TaskFilter { source: Some(TaskSource::All), limit: Some(10), ..TaskFilter::default() };
    let tasks = client.node(&node).tasks(&filter).await?;
    for task in &tasks {
        println!("{} {}", task.upid, task.status.as_deref().unwrap_or("running"));
    }
    if let Some(newest) = tasks.first() {
        for line in client.task(&newest.upid.parse()?).whole_log().await? {
            println!("  {}", line.t);
        }
    }
    Ok(())
}
