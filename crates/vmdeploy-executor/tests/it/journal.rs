//! Journals that earlier versions wrote are still read.

use vmdeploy_executor::{RunResult, RunsFolder, StepState};

/// A run that was written by format 1, as it must be readable for ever.
#[test]
fn a_journal_of_format_1_is_readable() {
    let samples = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples/runs");
    let runs = RunsFolder::new(samples);
    let stored = runs.open("format-1").unwrap();
    let report = stored.report();
    assert_eq!(report.project, "web");
    assert_eq!(report.result, RunResult::Left);
    assert_eq!(report.steps[0].state, StepState::Succeeded);
    assert_eq!(report.steps[1].state, StepState::Failed);
    assert!(report.steps[1].upid.is_some());
    assert!(stored.is_resumable(vmdeploy_executor::ResumeMode::Finish));
    let summary = &runs.list().unwrap()[0];
    assert_eq!((summary.run.as_str(), summary.steps_done, summary.steps), ("format-1", 1, 2));
}
