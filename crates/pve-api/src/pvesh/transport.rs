//! Running calls as `pvesh`.

use super::files::{FileCall, file_call, process_file, running};
use super::output::{PveshFailure, PveshOutput, read};
use super::qm::{answer, qm_words};
use crate::error::{ApiError, Call};
use crate::request::{ApiPath, ExpectedId, ExpectedTask, Method, Params, Request, expected_task};
use crate::response::Response;
use crate::transport::{Transport, TransportKind};
use futures::future::{BoxFuture, FutureExt as _};
use pve_types::Upid;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// Runs an argv as root on a node. The owner of the SSH session implements it.
pub trait PveshRunner: Send + Sync + std::fmt::Debug + 'static {
    /// Runs `argv`, each element one argument as it stands, to its end.
    fn run(&self, argv: Vec<String>) -> BoxFuture<'static, Result<PveshOutput, PveshFailure>>;
    /// Returns the node's name or address, for error texts.
    fn host(&self) -> String;
}

/// PVE's API through `pvesh` on a node.
#[derive(Debug, Clone)]
pub struct PveshTransport {
    runner: Arc<dyn PveshRunner>,
    timeout: Duration,
    look_every: Duration,
    /// The node that commands run on, once it was asked.
    node: Arc<OnceCell<Option<String>>>,
}

/// The lists of tasks that a node keeps: of those that run and the last that ended, and of all that ended.
// PVE: pve-common src/PVE/RESTEnvironment.pm active_workers.
const TASK_LISTS: [&str; 2] = ["/var/log/pve/tasks/active", "/var/log/pve/tasks/index"];

/// Returns the command line of a call: `pvesh create /nodes/pve1/qemu --vmid 100 --output-format json`.
///
/// # Errors
/// The call carries a secret, or its path cannot be written as an argument.
pub fn pvesh_argv(request: &Request) -> Result<Vec<String>, ApiError> {
    if let Some(secret) = request.params.iter().find(|param| param.is_secret()) {
        let parameter = secret.key().to_owned();
        return Err(ApiError::SecretOnCommandLine { call: Call::of(request), parameter });
    }
    let path: String = request.path.segments().iter().map(|segment| format!("/{segment}")).collect();
    let path = if path.is_empty() { "/" } else { path.as_str() };
    let first = ["pvesh", request.method.as_pvesh(), path];
    let options = request.params.iter().map(|param| (param.key(), param.value()));
    argv_of(&first, options.chain([("output-format", "json")]))
}

/// Returns the command line of a call as `qm`; `None` where there is none.
fn qm_argv(request: &Request) -> Option<Vec<String>> {
    let (first, placed) = qm_words(request)?;
    let options = request.params.iter().filter(|param| !placed.contains(&param.key()));
    argv_of(&first, options.map(|param| (param.key(), param.value()))).ok()
}

fn argv_of<'a>(
    first: &[&str],
    options: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<String>, ApiError> {
    let options = options.flat_map(|(key, value)| [format!("--{key}"), value.to_owned()]);
    let argv: Vec<String> = first.iter().map(|word| (*word).to_owned()).chain(options).collect();
    match argv.iter().any(|argument| argument.contains('\0')) {
        true => Err(ApiError::Unusable("an argument contains a NUL byte".to_owned())),
        false => Ok(argv),
    }
}

impl PveshTransport {
    /// Returns the transport that runs its calls with `runner`, each within `timeout` (but for tasks, which are
    /// waited for elsewhere).
    pub fn new(runner: Arc<dyn PveshRunner>, timeout: Duration) -> Self {
        Self { runner, timeout, look_every: Duration::from_millis(1500), node: Arc::default() }
    }
    /// Returns the transport that looks for a task's UPID this often.
    pub fn looking_every(mut self, interval: Duration) -> Self {
        self.look_every = interval;
        self
    }

    fn failed(&self, request: &Request, failure: PveshFailure) -> ApiError {
        match failure {
            PveshFailure::NotStarted(source) => {
                ApiError::Connect { endpoints: vec![self.runner.host()], source }
            }
            PveshFailure::Interrupted(source) => ApiError::Interrupted { call: Call::of(request), source },
        }
    }

    /// Returns the command line of a call: of `qm` where its node is the one that commands run on, else of `pvesh`.
    async fn argv(&self, request: &Request) -> Result<Vec<String>, ApiError> {
        // It also tells a call with a secret from others.
        let usual = pvesh_argv(request)?;
        match (qm_argv(request), request.path.segments().get(1)) {
            (Some(argv), Some(node)) if self.is_here(node).await => Ok(argv),
            _ => Ok(usual),
        }
    }

    async fn run(&self, request: &Request) -> Result<Response, ApiError> {
        let argv = self.argv(request).await?;
        let is_qm = argv.first().is_some_and(|program| program == "qm");
        let run = self.runner.run(argv);
        match tokio::time::timeout(self.timeout, run).await {
            Ok(Ok(output)) if is_qm => Ok(answer(request, &output)),
            Ok(Ok(output)) => Ok(read(request.method, &output)),
            Ok(Err(failure)) => Err(self.failed(request, failure)),
            Err(_) => Err(ApiError::Timeout { call: Call::of(request), after: self.timeout }),
        }
    }

    /// Runs a command that only looks; no answer at all is left to `pvesh` to explain.
    async fn look(&self, argv: &[&str]) -> Option<PveshOutput> {
        let run = self.runner.run(argv.iter().map(|word| (*word).to_owned()).collect());
        tokio::time::timeout(self.timeout, run).await.ok()?.ok()
    }

    /// Returns what a command prints that ends well.
    async fn printed(&self, argv: &[&str]) -> Option<String> {
        self.look(argv).await.filter(|output| output.exit == Some(0)).map(|output| output.stdout)
    }

    /// Returns the answer of a call that a file of the node tells.
    async fn file_answer(&self, request: &Request) -> Option<Response> {
        let call = file_call(request)?;
        let seen = self.look(&["cat", "--", &call.path()]).await?;
        if seen.exit != Some(0) {
            let is_absent = seen.stderr.trim_end().ends_with(": No such file or directory");
            return call.answer_without().filter(|_| is_absent);
        }
        match (call.answer(&seen.stdout), &call) {
            (None, FileCall::TaskStatus(upid)) => {
                match self.printed(&["cat", "--", &process_file(upid)?]).await {
                    Some(process) => running(upid, &process),
                    // It has ended since its log was read.
                    None => call.answer(&self.printed(&["cat", "--", &call.path()]).await?),
                }
            }
            (answer, _) => answer,
        }
    }

    /// Tells whether commands run on this node.
    async fn is_here(&self, node: &str) -> bool {
        let ask = || async { Some(self.printed(&["hostname"]).await?.trim().split('.').next()?.to_owned()) };
        self.node.get_or_init(ask).await.as_deref() == Some(node)
    }

    /// Returns the UPIDs in the task lists of the node that commands run on; `None` when that is another node.
    async fn listed_upids(&self, node: &str) -> Option<Vec<Upid>> {
        if !self.is_here(node).await {
            return None;
        }
        let [active, index] = TASK_LISTS;
        let text = self.printed(&["tail", "-q", "-n", "200", "--", active, index]).await?;
        Some(text.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect())
    }

    /// Runs a call that starts a task, and answers as soon as the task is known.
    async fn run_task(&self, request: &Request, expected: &ExpectedTask) -> Result<Response, ApiError> {
        let argv = self.argv(request).await?;
        // What ran before the call is not what the call starts, whatever the node's clock says.
        let before = self.tasks_like(expected).await?;
        let mut running = tokio::spawn(self.runner.run(argv));
        loop {
            let ended = tokio::time::timeout(self.look_every, &mut running).await;
            if let Ok(ended) = ended {
                let ended =
                    ended.map_err(|error| self.failed(request, PveshFailure::Interrupted(error.into())))?;
                return self.ended(request, expected, &before, ended).await;
            }
            // `pvesh` goes on in its own time: the task is followed by its UPID from here.
            if let Some(upid) = self.new_task(expected, &before).await {
                return Ok(Response::success(Value::String(upid.to_string())));
            }
        }
    }

    /// Returns the answer of a `pvesh` that ended before its task was found.
    async fn ended(
        &self,
        request: &Request,
        expected: &ExpectedTask,
        before: &BTreeSet<Upid>,
        ended: Result<PveshOutput, PveshFailure>,
    ) -> Result<Response, ApiError> {
        let response = match ended {
            Ok(output) => read(request.method, &output),
            Err(failure @ PveshFailure::NotStarted(_)) => return Err(self.failed(request, failure)),
            Err(failure) => {
                return match self.new_task(expected, before).await {
                    Some(upid) => Ok(Response::success(Value::String(upid.to_string()))),
                    None => Err(self.failed(request, failure)),
                };
            }
        };
        let has_upid = response.data.as_str().is_some_and(|text| text.parse::<Upid>().is_ok());
        if response.is_success() && (has_upid || request.method == Method::Put) {
            return Ok(response);
        }
        // The task itself failed (its error is in its status), or its UPID was not printed.
        match self.new_task(expected, before).await {
            Some(upid) => Ok(Response::success(Value::String(upid.to_string()))),
            None => Ok(response),
        }
    }

    /// Returns the one task that is like `expected` and was not there before; none while it is not certain.
    async fn new_task(&self, expected: &ExpectedTask, before: &BTreeSet<Upid>) -> Option<Upid> {
        let tasks = self.tasks_like(expected).await.ok()?;
        let mut new = tasks.difference(before);
        new.next().filter(|_| new.next().is_none()).cloned()
    }

    async fn tasks_like(&self, expected: &ExpectedTask) -> Result<BTreeSet<Upid>, ApiError> {
        let upids = match self.listed_upids(&expected.node).await {
            Some(upids) => upids,
            None => self.told_upids(expected).await?,
        };
        let fits = |upid: &Upid| {
            expected.types.contains(&upid.task_type())
                && expected.id.fits(upid.id())
                && upid.user() == "root@pam"
        };
        Ok(upids.into_iter().filter(fits).collect())
    }

    /// Returns the UPIDs that `pvesh` lists for a task.
    async fn told_upids(&self, expected: &ExpectedTask) -> Result<Vec<Upid>, ApiError> {
        #[derive(serde::Deserialize)]
        struct Item {
            upid: String,
        }
        let path = ApiPath::new(["nodes", expected.node.as_str(), "tasks"]);
        let mut params = Params::new().with("source", "all").with("limit", 100u32);
        if let [only] = expected.types {
            params.push("typefilter", *only);
        }
        if let ExpectedId::Guest(vmid) = &expected.id {
            params.push("vmid", vmid.as_str());
        }
        let request = Request::new(Method::Get, path).with(params);
        let response = self.run(&request).await?;
        if !response.is_success() {
            return Err(ApiError::Answered(Box::new(crate::Answer::of(Call::of(&request), &response))));
        }
        let items: Vec<Item> =
            response.decode().map_err(|source| ApiError::Decode { call: Call::of(&request), source })?;
        Ok(items.into_iter().filter_map(|item| item.upid.parse::<Upid>().ok()).collect())
    }
}

impl Transport for PveshTransport {
    fn kind(&self) -> TransportKind {
        TransportKind::Pvesh
    }
    fn addresses(&self) -> Vec<String> {
        vec![self.runner.host()]
    }
    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, ApiError>> {
        async move {
            match expected_task(request) {
                Some(expected) => self.run_task(request, &expected).await,
                None => match self.file_answer(request).await {
                    Some(response) => Ok(response),
                    None => self.run(request).await,
                },
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_an_argv() {
        let params = Params::new().with("vmid", 100u32).with("onboot", true).with("boot", "order=scsi0");
        let request = Request::new(Method::Post, "/nodes/pve1/qemu".parse().unwrap()).with(params);
        let argv = pvesh_argv(&request).unwrap();
        let expect =
            "pvesh create /nodes/pve1/qemu --vmid 100 --onboot 1 --boot order=scsi0 --output-format json";
        assert_eq!(argv.join(" "), expect);
        let request = Request::new(Method::Get, "".parse().unwrap());
        assert_eq!(pvesh_argv(&request).unwrap()[2], "/");
    }

    #[test]
    fn a_call_is_a_shorter_argv_where_qm_has_it() {
        let check = |method, path: &str, expect: Option<&str>| {
            let params = Params::new().with("vmid", 100u32).with("name", "web 1");
            let request = Request::new(method, path.parse().unwrap()).with(params);
            assert_eq!(qm_argv(&request).map(|argv| argv.join("|")).as_deref(), expect, "{path}");
        };
        check(Method::Post, "/nodes/pve1/qemu", Some("qm|create|100|--name|web 1"));
        check(Method::Post, "/nodes/pve1/qemu/7/status/start", Some("qm|start|7|--vmid|100|--name|web 1"));
        check(Method::Post, "/nodes/pve1/qemu/7/status/stop", None);
        let params = Params::new().with("vmid", 100u32).with("sshkeys", "ssh-ed25519%20AAAA");
        let request = Request::new(Method::Post, "/nodes/pve1/qemu".parse().unwrap()).with(params);
        assert_eq!(qm_argv(&request), None, "its `--sshkeys` is a file");
        check(Method::Get, "/nodes/pve1/qemu", None);
    }

    #[test]
    fn a_secret_is_refused_before_anything_runs() {
        let params = Params::new().with("cipassword", "$6$x");
        let request = Request::new(Method::Put, "/nodes/pve1/qemu/100/config".parse().unwrap()).with(params);
        let error = pvesh_argv(&request).unwrap_err();
        assert!(
            matches!(&error, ApiError::SecretOnCommandLine { parameter, .. } if parameter == "cipassword")
        );
        assert_eq!(error.effect(), crate::TookEffect::No);
        assert!(!error.to_string().contains("$6$"), "{error}");
    }
}
