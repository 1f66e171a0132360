//! A process that is really killed (`kill -9`) at twenty points of a ten-VM deployment, and resumed by another.

use crate::fixture::{Fixture, Transports, config, plan, quick_world};
use futures::StreamExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vmdeploy_executor::{Connections, ResumeMode, RunError, RunResult, cancellation, execute};
use vmdeploy_planner::plan::CheckedPlan;

const VMS: u32 = 10;
const POINTS: usize = 20;
/// Tells the child where the lab is.
const ACCESS: &str = "VMDEPLOY_TEST_CHILD";

/// The child: carries the plan out by the access that its parent wrote down. It is killed before its end.
#[test]
#[ignore = "it is the child process of another test, which starts it itself"]
fn child_that_deploys() {
    let folder = std::env::var(ACCESS).unwrap();
    let folder = Path::new(&folder);
    let access = std::fs::read(folder.join("child.json")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let connections = Connections::open(crate::fixture::config_from(&access)).await.unwrap();
        let options = crate::fixture::options_in(folder);
        let (_switch, stop) = cancellation();
        let (sender, _receiver) = tokio::sync::mpsc::unbounded_channel();
        let plan = CheckedPlan::new(plan("r1", VMS)).unwrap();
        execute(plan, &connections, &options, sender, stop).await.unwrap();
    });
}

fn start_child(fixture: &Fixture) -> Child {
    let access = crate::fixture::config_as_json(&config(&fixture.lab, &fixture.folder, Transports::Both));
    std::fs::write(fixture.folder.path().join("child.json"), access).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::child_that_deploys", "--ignored", "--quiet"])
        .env(ACCESS, fixture.folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until the journal has so many records, or the child has ended.
async fn wait_for_records(fixture: &Fixture, child: &mut Child, records: usize) {
    let journal = fixture.runs().path().join("r1/journal.jsonl");
    let until = Instant::now() + Duration::from_secs(120);
    while Instant::now() < until {
        let lines =
            std::fs::read(&journal).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count());
        if lines >= records || child.try_wait().unwrap().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the child does not come to record {records}");
}

async fn killed_at(records: usize) -> (Fixture, bool) {
    let fixture = Fixture::of(quick_world(), "[]", Transports::Both).await;
    let mut child = start_child(&fixture);
    wait_for_records(&fixture, &mut child, records).await;
    child.kill().unwrap();
    let ended_on_its_own = child.wait().unwrap().success();
    (fixture, !ended_on_its_own)
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_real_kills_of_a_ten_vm_deployment_are_resumed() {
    let undisturbed = Fixture::start().await;
    let (report, _) = undisturbed.run(plan("r1", VMS)).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let records = undisturbed.runs().open("r1").unwrap().records.len();
    let expect = (undisturbed.guests(), undisturbed.volumes());
    let points = (0..POINTS).map(|point| 1 + point * (records - 2) / POINTS);
    let looks = points.map(|point| {
        let expect = &expect;
        async move {
            let (fixture, was_killed) = killed_at(point).await;
            let report = match fixture.resume("r1", ResumeMode::Finish).await {
                Err(RunError::NothingToResume { .. }) => fixture.runs().open("r1").unwrap().report(),
                other => other.unwrap(),
            };
            let failures: Vec<_> = report.failures().collect();
            assert_eq!(report.result, RunResult::Done, "killed at {point}: {failures:#?}");
            assert!(
                (fixture.guests(), fixture.volumes()) == *expect,
                "killed at {point}: {:#?}",
                fixture.guests()
            );
            was_killed
        }
    });
    let killed =
        futures::stream::iter(looks).buffer_unordered(4).filter(|k| std::future::ready(*k)).count().await;
    assert!(killed >= POINTS - 2, "only {killed} children were killed before their end");
}
