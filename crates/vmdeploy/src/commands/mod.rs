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
    /// Write a .env and a first spec to fill in
    Init(init::Args),
    /// Say whether the credentials are enough, and what is missing
    CheckToken(check_token::Args),
    /// Grant exactly what the credentials lack
    FixToken(fix_token::Args),
    /// Check everything between this machine and the nodes
    Doctor(doctor::Args),
    /// Check specs without a network, a secret or a command
    Validate(validate::Args),
    /// Show what deploy would do, and change nothing
    Plan(plan::Args),
    /// Make the VMs as the spec says
    #[command(visible_alias = "apply")]
    Deploy(Box<deploy::Args>),
    /// Destroy the spec's VMs
    Destroy(Box<destroy::Args>),
    /// Give a VM another name, in place and in the spec
    Rename(Box<rename::Args>),
    /// Show the spec's VMs as they are
    Status(status::Args),
    /// Start VMs of the spec, in the order of their startup
    Start(power::Args),
    /// Ask VMs of the spec to shut down
    Shutdown(power::ShutdownArgs),
    /// Stop VMs of the spec at once
    Stop(power::Args),
    /// Reboot VMs of the spec
    Reboot(power::Args),
    /// Move a VM to another node
    Migrate(migrate::Args),
    /// Log in to a VM of the spec with ssh
    Ssh(ssh::Args),
    /// Print the inventory for Ansible and others
    Inventory(inventory::Args),
    /// Write a spec of guests that were made by hand
    Adopt(adopt::Args),
    /// Print the JSON Schema of specs, for editors
    Schema(schema::Args),
    /// Print the spec that makes what vm-deploy makes of its .env
    ImportEnv(import_env::Args),
    /// Look after the images that a spec names
    Image(image::Args),
    /// Show a whole deployment on an embedded Proxmox VE
    #[cfg(feature = "lab")]
    Demo(demo::Args),
    /// Go on with a run that was interrupted or failed, or take it back
    Resume(resume::Args),
    /// List the runs that are recorded here
    Runs(runs::Args),
    /// Say what a recorded run did
    Report(report::Args),
    /// Print the address of a VM
    Ip(ip::Args),
    /// Call any path of Proxmox VE's API
    Api(api::Args),
    /// Manage users, groups, roles, ACLs, realms, tokens and passwords
    Access(access::Args),
    /// Run an embedded Proxmox VE, to try everything without a host
    #[cfg(feature = "lab")]
    Lab(lab::Args),
    /// Print the completions for a shell
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
