//! The same calls through `pvesh`: UPIDs found while it runs, secrets refused.

use futures::future::{BoxFuture, FutureExt as _};
use libtest_mimic::Trial;
use pve_api::{
    ApiError, Client, Params, PveshFailure, PveshOutput, PveshRunner, PveshTransport, TookEffect,
    TransportKind,
};
use pve_types::{MappingKind, Secret};
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
        what_a_file_of_the_node_tells_is_read_from_it,
        the_agent_is_asked_by_qm_on_its_own_node,
        what_no_file_tells_is_asked,
        a_task_is_found_in_the_node_s_own_lists,
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
        if argv[0] == "hostname" {
            // Commands run on another node than the VM's, whose files are not at hand.
            return async { done(0, "pve9\n", "") }.boxed();
        }
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
    assert_eq!(client.kind(), TransportKind::Pvesh);
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

/// A node with files: answers `hostname`, `cat` and `tail` from them, and everything else with an empty list.
#[derive(Debug, Default)]
struct Files {
    files: Vec<(&'static str, String)>,
    /// What `qm` prints.
    prints: &'static str,
    ran: Mutex<Vec<String>>,
}

impl PveshRunner for Files {
    fn run(&self, argv: Vec<String>) -> BoxFuture<'static, Result<PveshOutput, PveshFailure>> {
        self.ran.lock().unwrap().push(argv.join(" "));
        let file = |path: &String| self.files.iter().find(|(name, _)| name == path);
        let output = match argv[0].as_str() {
            "hostname" => done(0, "pve1.example.net\n", ""),
            "cat" => match file(&argv[2]) {
                Some((_, text)) => done(0, text, ""),
                None => done(1, "", &format!("cat: {}: No such file or directory\n", argv[2])),
            },
            "tail" => done(0, &self.files.iter().map(|(_, text)| text.as_str()).collect::<String>(), ""),
            "qm" => done(0, self.prints, ""),
            _ => done(0, r#"{"cores": 7, "digest": "asked"}"#, ""),
        };
        async move { output }.boxed()
    }
    fn host(&self) -> String {
        "pve1.example.net".to_owned()
    }
}

async fn what_a_file_of_the_node_tells_is_read_from_it() {
    let config = "cores: 2\nmemory: 512\n\n[PENDING]\ncores: 4\n".to_owned();
    let log = "swap: enabled\nTASK WARNINGS: 1\n".to_owned();
    let log_path = "/var/log/pve/tasks/0/UPID:pve1:0000BBBB:00A1B2C9:65000100:qmstart:100:root@pam:";
    let files = vec![("/etc/pve/nodes/pve1/qemu-server/100.conf", config), (log_path, log)];
    let node = Arc::new(Files { files, ..Files::default() });
    let client = Client::over(PveshTransport::new(node.clone(), FOREVER));
    let vm = client.node(&"pve1".parse().unwrap()).qemu("100".parse().unwrap());
    assert_eq!(vm.config().await.unwrap().get("cores"), Some("4"));
    let task = client.task(&NEW.parse().unwrap());
    assert_eq!(task.status().await.unwrap().exitstatus.as_deref(), Some("WARNINGS: 1"));
    assert_eq!(task.whole_log().await.unwrap().len(), 2);
    let ran = node.ran.lock().unwrap().clone();
    assert!(ran.iter().all(|line| line.starts_with("cat -- /")), "{ran:?}");
}

async fn the_agent_is_asked_by_qm_on_its_own_node() {
    let prints = r#"[ { "name" : "eth0", "hardware-address" : "bc:24:11:00:00:01" } ]"#;
    let node = Arc::new(Files { prints, ..Files::default() });
    let client = Client::over(PveshTransport::new(node.clone(), FOREVER));
    let vm = |node: &str| client.node(&node.parse().unwrap()).qemu("100".parse().unwrap());
    assert_eq!(vm("pve1").agent().network_interfaces().await.unwrap()[0].name, "eth0");
    assert!(vm("pve2").agent().network_interfaces().await.unwrap().is_empty());
    let ran = node.ran.lock().unwrap().clone();
    let expect = [
        "hostname",
        "qm guest cmd 100 network-get-interfaces",
        "pvesh get /nodes/pve2/qemu/100/agent/network-get-interfaces --output-format json",
    ];
    assert_eq!(ran, expect);
}

async fn what_no_file_tells_is_asked() {
    let files = vec![("/etc/pve/ha/rules.cfg", "node-affinity: a\n".to_owned())];
    let node = Arc::new(Files { files, ..Files::default() });
    let client = Client::over(PveshTransport::new(node.clone(), FOREVER));
    // No resource was created, so their file does not exist.
    assert!(client.cluster().ha().resources().await.unwrap().is_empty());
    assert!(client.cluster().mappings(MappingKind::Dir).await.unwrap().is_empty());
    client.cluster().ha().rules().await.unwrap_err();
    let vm = client.node(&"pve1".parse().unwrap()).qemu("100".parse().unwrap());
    assert_eq!(vm.config().await.unwrap().digest.as_deref(), Some("asked"));
    let ran = node.ran.lock().unwrap().clone();
    let expect = [
        "cat -- /etc/pve/ha/resources.cfg",
        "cat -- /etc/pve/mapping/directory.cfg",
        "cat -- /etc/pve/ha/rules.cfg",
        "pvesh get /cluster/ha/rules --output-format json",
        "cat -- /etc/pve/nodes/pve1/qemu-server/100.conf",
        "pvesh get /nodes/pve1/qemu/100/config --output-format json",
    ];
    assert_eq!(ran, expect);
}

async fn a_task_is_found_in_the_node_s_own_lists() {
    // The call prints no UPID: the one that was not listed before is its own. Here all were.
    let files =
        vec![("active", format!("{OLD} 1 65000050 OK\n")), ("index", format!("{OTHER} 650000F0 OK\n"))];
    let node = Arc::new(Files { files, prints: "\"chatter\"", ..Files::default() });
    let client = Client::over(PveshTransport::new(node.clone(), FOREVER));
    let vm = client.node(&"pve1".parse().unwrap()).qemu("100".parse().unwrap());
    assert!(vm.start().await.is_err(), "no task is new");
    let ran = node.ran.lock().unwrap().clone();
    let lists = "tail -q -n 200 -- /var/log/pve/tasks/active /var/log/pve/tasks/index";
    assert_eq!(ran, ["hostname", lists, "qm start 100", lists]);
}
