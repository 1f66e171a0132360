//! The same calls through `pvesh`: UPIDs found while it runs, secrets refused.

use futures::future::{BoxFuture, FutureExt as _};
use libtest_mimic::Trial;
use pve_api::{
    ApiError, Client, Params, PveshFailure, PveshOutput, PveshRunner, PveshTransport, Road, TookEffect,
};
use pve_types::Secret;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    crate::trials![
        typed_calls_are_the_same,
        a_short_task_s_upid_is_printed_at_the_end,
        a_long_task_s_upid_is_found_while_it_runs,
        two_tasks_at_once_are_not_guessed_at,
        a_task_that_failed_is_known_by_its_upid,
        a_refused_call_has_started_no_task,
        a_call_with_a_secret_never_runs,
        a_broken_connection_leaves_it_open_or_finds_the_task,
        a_pvesh_that_could_not_be_started_did_nothing,
        files_are_not_uploaded_this_way,
    ]
}

const OLD: &str = "UPID:pve1:0000AAAA:00A1B2C3:65000000:qmstart:100:root@pam:";
const NEW: &str = "UPID:pve1:0000BBBB:00A1B2C9:65000100:qmstart:100:root@pam:";
const OTHER: &str = "UPID:pve1:0000CCCC:00A1B2CA:65000101:qmstart:100:root@pam:";

/// Runs nothing: a call of the task list is answered with `listed`, which changes from call to call, and the call
/// itself after a while.
#[derive(Debug)]
struct Script {
    listed: Vec<Vec<&'static str>>,
    looks: Mutex<usize>,
    takes: Duration,
    ends: fn() -> Result<PveshOutput, PveshFailure>,
    ran: Mutex<Vec<String>>,
}

impl Script {
    fn new(
        listed: Vec<Vec<&'static str>>,
        takes: Duration,
        ends: fn() -> Result<PveshOutput, PveshFailure>,
    ) -> Arc<Self> {
        Arc::new(Self { listed, looks: Mutex::default(), takes, ends, ran: Mutex::default() })
    }
    fn client(self: &Arc<Self>) -> Client {
        let transport = PveshTransport::new(self.clone(), Duration::from_secs(20));
        Client::over(transport.looking_every(Duration::from_millis(30)))
    }
    fn ran(&self) -> Vec<String> {
        self.ran.lock().unwrap().clone()
    }
}

impl PveshRunner for Script {
    fn run(&self, argv: Vec<String>) -> BoxFuture<'static, Result<PveshOutput, PveshFailure>> {
        self.ran.lock().unwrap().push(argv.join(" "));
        if argv[2].ends_with("/tasks") {
            let mut looks = self.looks.lock().unwrap();
            let listed = &self.listed[(*looks).min(self.listed.len() - 1)];
            *looks += 1;
            let items: Vec<_> = listed.iter().map(|upid| serde_json::json!({"upid": upid})).collect();
            let output = done(0, &serde_json::Value::Array(items).to_string(), "");
            return async move { output }.boxed();
        }
        let (takes, ends) = (self.takes, self.ends);
        async move {
            tokio::time::sleep(takes).await;
            ends()
        }
        .boxed()
    }
    fn host(&self) -> String {
        "pve1.example.net".to_owned()
    }
}

fn done(exit: u32, stdout: &str, stderr: &str) -> Result<PveshOutput, PveshFailure> {
    Ok(PveshOutput { exit: Some(exit), stdout: stdout.to_owned(), stderr: stderr.to_owned() })
}

async fn start(script: &Arc<Script>) -> Result<String, ApiError> {
    let vm = script.client().node(&"pve1".parse().unwrap()).qemu("100".parse().unwrap());
    Ok(vm.start().await?.upid().to_string())
}

const FOREVER: Duration = Duration::from_secs(60);

async fn typed_calls_are_the_same() {
    let script = Script::new(vec![vec![]], Duration::ZERO, || done(0, r#"{"version":"9.2.11"}"#, ""));
    let client = script.client();
    assert_eq!(client.road(), Road::Pvesh);
    assert!(client.is_logged_in().await);
    assert!(client.version().await.unwrap().is_at_least(9, 2));
    assert_eq!(script.ran(), ["pvesh get /version --output-format json"]);
}

async fn a_short_task_s_upid_is_printed_at_the_end() {
    let ends = || done(0, &format!("some chatter\n\"{NEW}\"\n"), "");
    let script = Script::new(vec![vec![OLD]], Duration::ZERO, ends);
    assert_eq!(start(&script).await.unwrap(), NEW);
    let ran = script.ran();
    assert_eq!(
        ran[0],
        "pvesh get /nodes/pve1/tasks --source all --limit 100 --vmid 100 --output-format json"
    );
    assert_eq!(ran[1], "pvesh create /nodes/pve1/qemu/100/status/start --output-format json");
    assert_eq!(ran.len(), 2);
}

async fn a_long_task_s_upid_is_found_while_it_runs() {
    let listed = vec![vec![OLD], vec![OLD], vec![NEW, OLD]];
    let script = Script::new(listed, FOREVER, || done(0, "", ""));
    assert_eq!(start(&script).await.unwrap(), NEW);
}

async fn two_tasks_at_once_are_not_guessed_at() {
    let ends = || done(0, OTHER, "");
    let script = Script::new(vec![vec![], vec![NEW, OTHER]], Duration::from_millis(200), ends);
    assert_eq!(start(&script).await.unwrap(), OTHER);
}

async fn a_task_that_failed_is_known_by_its_upid() {
    let ends = || done(255, "", "VM 100 already running\n");
    let script = Script::new(vec![vec![OLD], vec![OLD, NEW]], Duration::ZERO, ends);
    assert_eq!(start(&script).await.unwrap(), NEW);
}

async fn a_refused_call_has_started_no_task() {
    let ends = || done(2, "", "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist\n");
    let script = Script::new(vec![vec![OLD]], Duration::ZERO, ends);
    let error = start(&script).await.unwrap_err();
    assert!(error.is_absent(), "{error}");
    assert_eq!(error.effect(), TookEffect::No);
}

async fn a_call_with_a_secret_never_runs() {
    let script = Script::new(vec![vec![]], Duration::ZERO, || done(0, "", ""));
    let client = script.client();
    let (user, secret) = ("ann@pve".parse().unwrap(), Secret::new("hunter2"));
    let error = client.access().set_password(&user, &secret, None).await.unwrap_err();
    assert!(matches!(error, ApiError::SecretOnCommandLine { .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("hunter2"));
    let vm = client.node(&"pve1".parse().unwrap()).qemu("100".parse().unwrap());
    let error = vm.set_config(Params::new().with("cipassword", "$6$a$b")).await.unwrap_err();
    assert!(error.was_not_sent(), "{error:?}");
    assert_eq!(script.ran(), Vec::<String>::new());
}

async fn a_broken_connection_leaves_it_open_or_finds_the_task() {
    let ends = || Err(PveshFailure::Interrupted("connection reset".into()));
    let script = Script::new(vec![vec![OLD], vec![OLD, NEW]], Duration::ZERO, ends);
    assert_eq!(start(&script).await.unwrap(), NEW);
    let script = Script::new(vec![vec![OLD]], Duration::ZERO, ends);
    let error = start(&script).await.unwrap_err();
    assert_eq!((error.effect(), error.was_not_sent()), (TookEffect::Maybe, false), "{error}");
}

async fn a_pvesh_that_could_not_be_started_did_nothing() {
    let ends = || Err(PveshFailure::NotStarted("no route to host".into()));
    let script = Script::new(vec![vec![]], Duration::ZERO, ends);
    let error = start(&script).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot connect to pve1.example.net");
    assert!(error.is_unreachable() && error.effect() == TookEffect::No);
}

async fn files_are_not_uploaded_this_way() {
    let script = Script::new(vec![vec![]], Duration::ZERO, || done(0, "", ""));
    let storage = script.client().node(&"pve1".parse().unwrap()).storage(&"local".parse().unwrap());
    let source = pve_api::UploadSource::new(tokio::io::empty(), 0);
    let error = storage.upload(pve_api::FileContent::Iso, "a.iso", source, None, |_| ()).await.unwrap_err();
    assert!(matches!(error, ApiError::Unusable(_)), "{error:?}");
    assert!(script.ran().is_empty());
}
