//! A lab in this process, and the program as a child that is led to it.

use crate::transcript::Session;
use pve_lab::{Fault, WorldHandle, WorldSpec};
use tokio::runtime::Runtime;
use vmdeploy::lab_session::LabSession;

/// A running lab with a folder to work in.
pub struct LabRun {
    /// The folder, and the way to run commands.
    pub user: Session,
    runtime: Runtime,
    lab: Option<LabSession>,
}

impl LabRun {
    /// Starts the demo's world.
    pub fn demo() -> Self {
        Self::start(WorldSpec::demo(), Vec::new())
    }
    /// Starts this world with these faults.
    pub fn start(world: WorldSpec, faults: Vec<Fault>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Runtime::new().expect("a runtime can be made");
        let lab = runtime
            .block_on(LabSession::start(world, faults))
            .unwrap_or_else(|failure| panic!("{}", failure.render()));
        let user = Session::new().with_variables(lab.variables());
        user.write("demo.yaml", &crate::tidy::read("deployments/demo.yaml"));
        user.write("demo.pub", &crate::tidy::read("deployments/demo.pub"));
        Self { user, runtime, lab: Some(lab) }
    }
    /// Returns the world, to look at it and to change it.
    pub fn world(&self) -> WorldHandle {
        self.lab().lab().world()
    }
    /// Returns the value of one of the variables that lead to the lab.
    pub fn variable(&self, name: &str) -> String {
        let found = self.lab().variables().iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.clone()).expect(name)
    }
    /// Runs the command, and returns its transcript.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.user.run(arguments)
    }
    fn lab(&self) -> &LabSession {
        self.lab.as_ref().expect("it runs until it is dropped")
    }
}

impl Drop for LabRun {
    fn drop(&mut self) {
        if let Some(lab) = self.lab.take() {
            self.runtime.block_on(lab.stop());
        }
    }
}
