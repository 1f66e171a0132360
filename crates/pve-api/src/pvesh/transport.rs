//! Running calls as `pvesh`.

use super::expected::{ExpectedTask, expected_task};
use super::output::{PveshFailure, PveshOutput, read};
use crate::error::{ApiError, Call};
use crate::request::{ApiPath, Method, Params, Request};
use crate::response::Response;
use crate::transport::{Road, Transport};
use futures::future::{BoxFuture, FutureExt as _};
use pve_types::Upid;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Runs an argv as root on a node. Whoever has the SSH session implements it.
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
}

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
    let path = if path.is_empty() { "/".to_owned() } else { path };
    let mut argv = vec!["pvesh".to_owned(), request.method.as_pvesh().to_owned(), path];
    for param in request.params.iter() {
        argv.push(format!("--{}", param.key()));
        argv.push(param.value().to_owned());
    }
    argv.extend(["--output-format".to_owned(), "json".to_owned()]);
    match argv.iter().any(|argument| argument.contains('\0')) {
        true => Err(ApiError::Unusable("an argument holds a NUL byte".to_owned())),
        false => Ok(argv),
    }
}

impl PveshTransport {
    /// Returns the transport that runs its calls with `runner`, each within `timeout` (but for tasks, which are
    /// waited for elsewhere).
    pub fn new(runner: Arc<dyn PveshRunner>, timeout: Duration) -> Self {
        Self { runner, timeout, look_every: Duration::from_millis(1500) }
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

    async fn run(&self, request: &Request) -> Result<Response, ApiError> {
        let run = self.runner.run(pvesh_argv(request)?);
        match tokio::time::timeout(self.timeout, run).await {
            Ok(Ok(output)) => Ok(read(request.method, &output)),
            Ok(Err(failure)) => Err(self.failed(request, failure)),
            Err(_) => Err(ApiError::Timeout { call: Call::of(request), after: self.timeout }),
        }
    }

    /// Runs a call that starts a task, and answers as soon as the task is known.
    async fn run_task(&self, request: &Request, expected: &ExpectedTask) -> Result<Response, ApiError> {
        let argv = pvesh_argv(request)?;
        // What ran before the call is not what the call starts, whatever the node's clock says.
        let before: BTreeSet<Upid> = self.tasks_like(expected).await?.into_iter().collect();
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
        let mut tasks = self.tasks_like(expected).await.ok()?;
        tasks.retain(|upid| !before.contains(upid));
        match tasks.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    async fn tasks_like(&self, expected: &ExpectedTask) -> Result<Vec<Upid>, ApiError> {
        #[derive(serde::Deserialize)]
        struct Item {
            upid: String,
        }
        let path = ApiPath::new(["nodes", expected.node.as_str(), "tasks"]);
        let mut params = Params::new().with("source", "all").with("limit", 100u32);
        if let [only] = expected.types {
            params.push("typefilter", *only);
        }
        if let super::expected::ExpectedId::Guest(vmid) = &expected.id {
            params.push("vmid", vmid.as_str());
        }
        let request = Request::new(Method::Get, path).with(params);
        let response = self.run(&request).await?;
        if !response.is_success() {
            return Err(ApiError::Answered(Box::new(crate::Answer::of(Call::of(&request), &response))));
        }
        let items: Vec<Item> =
            response.decode().map_err(|source| ApiError::Decode { call: Call::of(&request), source })?;
        let upids = items.into_iter().filter_map(|item| item.upid.parse::<Upid>().ok());
        let fits = |upid: &Upid| {
            expected.types.contains(&upid.task_type())
                && expected.id.fits(upid.id())
                && upid.user() == "root@pam"
        };
        Ok(upids.filter(fits).collect())
    }
}

impl Transport for PveshTransport {
    fn road(&self) -> Road {
        Road::Pvesh
    }
    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, ApiError>> {
        async move {
            match expected_task(request) {
                Some(expected) => self.run_task(request, &expected).await,
                None => self.run(request).await,
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
