//! `github:NAME` and `gitlab:NAME`: fetched by the step that needs the keys, and by nothing before it.

use crate::lab_run::LabRun;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vmdeploy::environment::Environment;
use vmdeploy::secrets::Resolver;
use vmdeploy_executor::SecretResolver as _;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIG4Nx5gFmS3v9Fv1yQ8HqS9m0Gd3W4Zb7yqkQ1x2T3u";

/// Answers every request with the same bytes, and counts them; ends with the process.
fn server(answer: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::SeqCst);
            serve(stream, &answer);
        }
    });
    (base, asked)
}

fn serve(mut stream: TcpStream, answer: &str) {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    // One who has seen enough hangs up.
    let _ = stream.write_all(answer.as_bytes());
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn spec() -> String {
    crate::tidy::read("deployments/demo.yaml").replace("{file: demo.pub}", "'github:octocat'")
}

#[test]
fn only_deploy_fetches_an_accounts_keys_and_once_for_all_vms() {
    let (base, asked) = server(answer("200 OK", &format!("{KEY}\n{KEY} second\n")));
    let mut lab = LabRun::demo();
    lab.user.add_variable("VMDEPLOY_GITHUB_URL", &base);
    lab.user.write("demo.yaml", &spec());
    let code = |arguments: &[&str]| lab.user.output(arguments).status.code();
    assert_eq!(code(&["validate", "demo.yaml"]), Some(0));
    assert_eq!(code(&["plan", "demo.yaml"]), Some(0));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    let deployed = lab.user.output(&["deploy", "demo.yaml", "--yes"]);
    assert_eq!(deployed.status.code(), Some(0), "{}", String::from_utf8_lossy(&deployed.stderr));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let body = KEY.rsplit(' ').next().unwrap();
    lab.world().with(|world| {
        assert_eq!(world.guests.len(), 3);
        let keys =
            world.guests.values().map(|guest| guest.config.get("sshkeys").cloned().unwrap_or_default());
        keys.for_each(|keys| assert_eq!(keys.matches(body).count(), 2, "{keys}"));
    });
    assert_eq!(code(&["plan", "demo.yaml", "--detailed-exitcode"]), Some(0));
}

#[test]
fn keys_that_cannot_be_had_stop_the_vm_with_its_step_named() {
    let (base, _) = server(answer("404 Not Found", ""));
    let mut lab = LabRun::demo();
    lab.user.add_variable("VMDEPLOY_GITHUB_URL", &base);
    lab.user.write("demo.yaml", &spec());
    let output = lab.user.output(&["deploy", "demo.yaml", "--yes", "--target", "web01", "--json"]);
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let failed = events.rfind(|event| event["event"]["type"] == "step_failed").expect("a step failed");
    let failure = &failed["event"]["failure"];
    assert_eq!(failure["vm"], "web01", "{failure}");
    assert_eq!(failure["took_effect"], "no", "{failure}");
    assert!(failure["step"].as_str().is_some_and(|step| step.starts_with("web01/")), "{failure}");
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.contains("`github:octocat`") && message.ends_with("/octocat.keys does not exist"),
        "{message}"
    );
}

#[test]
fn an_answer_that_is_no_list_of_keys_or_cannot_be_trusted_is_refused() {
    let check = |base: &str, expect: &str| {
        let environment = Environment::of([("VMDEPLOY_GITHUB_URL", base)]);
        let resolver = Resolver::new(&environment, vmdeploy_executor::LocalFiles::of("."), false);
        let error = resolver.public_keys("github:octocat").unwrap_err();
        assert!(error.what.contains(expect), "{}", error.what);
        assert!(error.hint.is_some());
    };
    let says = |text: String| server(text).0;
    check(&says(answer("200 OK", "<html>sign in</html>")), "does not contain public keys");
    check(&says(answer("200 OK", "")), "the account has none");
    check(&says(answer("200 OK", &format!("{KEY}\n").repeat(4_000))), "is too large for a list of keys");
    check(&says(answer("302 Found\r\nLocation: http://127.0.0.1:1/", "")), "answers 302");
    check(&says(answer("500 Oops", "")), "answers 500");
    check("http://127.0.0.1:1", "refused");
    let lab = LabRun::demo();
    let api = format!("https://{}:{}", lab.variable("PROXMOX_API_HOST"), lab.variable("PROXMOX_API_PORT"));
    check(&api, "certificate");
}

#[test]
fn a_gitlab_account_s_keys_come_from_its_own_server() {
    let (base, asked) = server(answer("200 OK", &format!("{KEY}\n")));
    let mut lab = LabRun::demo();
    lab.user.add_variable("VMDEPLOY_GITLAB_URL", &base);
    lab.user.write("demo.yaml", &spec().replace("github:octocat", "gitlab:tanuki"));
    let deployed = lab.user.output(&["deploy", "demo.yaml", "--yes"]);
    assert_eq!(deployed.status.code(), Some(0), "{}", String::from_utf8_lossy(&deployed.stderr));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
