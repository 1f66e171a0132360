//! Shows what HA manages, by groups or rules as the version has them, and the backup jobs.

#![expect(clippy::print_stdout, reason = "an example prints its results")]
mod common;

#[tokio::main]
async fn main() -> common::Result {
    let (_, client, _) = common::environment()?;
    let ha = client.cluster().ha();
    for resource in ha.resources().await? {
        println!("{} {}", resource.sid, resource.state.as_deref().unwrap_or("?"));
    }
    if client.version().await?.is_at_least(9, 0) {
        for rule in ha.rules().await? {
            println!("rule {}: {}", rule.rule, rule.resources.as_deref().unwrap_or(""));
        }
    } else {
        for group in ha.groups().await? {
            println!("group {}: {}", group.group, group.nodes.as_deref().unwrap_or(""));
        }
    }
    for job in client.cluster().backup_jobs().list().await? {
        println!("job {} at {}", job.id, job.schedule.as_deref().unwrap_or("?"));
    }
    Ok(())
}
