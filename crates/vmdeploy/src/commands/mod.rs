//! The subcommands, one file each. To add one: a file here with `Args` and `run`, and one line in each list below.

pub mod access;
pub mod adopt;
pub mod api;
pub mod check_token;
pub mod completions;
#[cfg(feature = "lab")]
pub mod demo;
pub mod deploy;
pub mod destroy;
pub mod doctor;
pub mod fix_token;
pub mod image;
pub mod import_env;
pub mod init;
pub mod inventory;
pub mod ip;
#[cfg(feature = "lab")]
pub mod lab;
pub mod man;
pub mod migrate;
pub mod plan;
pub mod power;
pub mod rename;
pub mod report;
pub mod resume;
pub mod runs;
pub mod schema;
pub mod ssh;
pub mod status;
pub mod validate;

use crate::context::Context;
use crate::failure::CommandResult;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write a .env file and a first spec to fill in
    Init(init::Args),
    /// Check whether the credentials have the privileges that a spec needs
    CheckToken(check_token::Args),
    /// Grant the privileges that the credentials lack
    FixToken(fix_token::Args),
    /// Check the connection to the cluster, from DNS to bridges, and suggest fixes
    Doctor(doctor::Args),
    /// Check specs offline, without reading secrets or running commands
    Validate(validate::Args),
    /// Show what deploy would do, without changing anything
    Plan(plan::Args),
    /// Create and update VMs to match the spec
    #[command(visible_alias = "apply")]
    Deploy(Box<deploy::Args>),
    /// Destroy the VMs of a spec
    Destroy(Box<destroy::Args>),
    /// Rename a VM in place, on the cluster and in the spec
    Rename(Box<rename::Args>),
    /// Show the state, address and drift of VMs
    Status(status::Args),
    /// Start VMs, in the order of their `startup` option
    Start(power::Args),
    /// Shut down VMs cleanly
    Shutdown(power::ShutdownArgs),
    /// Stop VMs immediately, like pulling the plug
    Stop(power::Args),
    /// Reboot VMs
    Reboot(power::Args),
    /// Migrate a VM to another node
    Migrate(migrate::Args),
    /// Log in to a VM with ssh, or run a command on it
    Ssh(ssh::Args),
    /// Print an inventory for Ansible and other tools
    Inventory(inventory::Args),
    /// Write a spec for existing guests, to manage them with vmdeploy
    Adopt(adopt::Args),
    /// Print the JSON Schema of specs, for editors
    Schema(schema::Args),
    /// Convert a .env file of vm-deploy into a spec
    ImportEnv(import_env::Args),
    /// Check, upload and build the images of a spec
    Image(image::Args),
    /// Show a complete deployment on an embedded Proxmox VE
    #[cfg(feature = "lab")]
    Demo(demo::Args),
    /// Continue an interrupted or failed run, or roll it back
    Resume(resume::Args),
    /// List recorded runs
    Runs(runs::Args),
    /// Show what a recorded run did
    Report(report::Args),
    /// Print the IP address of a VM
    Ip(ip::Args),
    /// Call any path of the Proxmox VE API
    Api(api::Args),
    /// Manage users, groups, roles, ACLs, realms, tokens and passwords
    Access(access::Args),
    /// Run an embedded Proxmox VE, to try vmdeploy without a host
    #[cfg(feature = "lab")]
    Lab(lab::Args),
    /// Print shell completions
    Completions(completions::Args),
    /// Print the manual page
    Man(man::Args),
}

impl Command {
    /// Tells whether the command's own `--env-file` names a file to write.
    pub fn writes_env_file(&self) -> bool {
        #[cfg(feature = "lab")]
        return matches!(self, Self::Lab(_));
        #[cfg(not(feature = "lab"))]
        false
    }
    /// Runs it. `whole` is the command line that it belongs to.
    ///
    /// # Errors
    /// Whatever the subcommand failed with.
    pub async fn run(self, context: &Context, whole: clap::Command) -> CommandResult {
        match self {
            Self::Init(args) => init::run(&args),
            Self::CheckToken(args) => check_token::run(&args, context).await,
            Self::FixToken(args) => fix_token::run(&args, context).await,
            Self::Doctor(args) => doctor::run(&args, context).await,
            Self::Validate(args) => validate::run(&args, context),
            Self::Plan(args) => plan::run(&args, context).await,
            Self::Deploy(args) => deploy::run(&args, context).await,
            Self::Destroy(args) => destroy::run(&args, context).await,
            Self::Rename(args) => rename::run(&args, context).await,
            Self::Status(args) => status::run(&args, context).await,
            Self::Start(args) => power::start(&args, context).await,
            Self::Shutdown(args) => power::shutdown(&args, context).await,
            Self::Stop(args) => power::stop(&args, context).await,
            Self::Reboot(args) => power::reboot(&args, context).await,
            Self::Migrate(args) => migrate::run(&args, context).await,
            Self::Ssh(args) => ssh::run(&args, context).await,
            Self::Inventory(args) => inventory::run(&args, context).await,
            Self::Adopt(args) => adopt::run(&args, context).await,
            Self::Schema(args) => schema::run(&args),
            Self::ImportEnv(args) => import_env::run(&args),
            Self::Image(args) => image::run(&args, context).await,
            #[cfg(feature = "lab")]
            Self::Demo(args) => demo::run(&args).await,
            Self::Resume(args) => resume::run(&args, context).await,
            Self::Runs(args) => runs::run(&args, context),
            Self::Report(args) => report::run(&args, context),
            Self::Ip(args) => ip::run(&args, context).await,
            Self::Api(args) => api::run(&args, context).await,
            Self::Access(args) => access::run(&args, context).await,
            #[cfg(feature = "lab")]
            Self::Lab(args) => lab::run(&args).await,
            Self::Completions(args) => completions::run(&args, whole),
            Self::Man(args) => man::run(&args, whole),
        }
    }
}
