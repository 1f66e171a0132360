//! Serves a lab until Ctrl-C: `serve [WORLD.yaml]`. Prints the environment that leads a client to it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example prints its results")]

use pve_lab::{Lab, LabOptions, WorldSpec};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let world = match std::env::args().nth(1) {
        Some(path) => WorldSpec::from_yaml(&std::fs::read_to_string(path)?)?,
        None => WorldSpec::demo(),
    };
    let started = std::time::Instant::now();
    let lab = Lab::start(LabOptions { world, ..LabOptions::default() }).await?;
    eprintln!("ready after {} ms", started.elapsed().as_millis());
    let folder = tempfile::tempdir()?;
    for (name, value) in lab.write_environment(folder.path())? {
        println!("export {name}={value:?}");
    }
    tokio::signal::ctrl_c().await?;
    lab.stop().await;
    Ok(())
}
