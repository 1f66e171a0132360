use super::*;
use crate::journal::{Entry, Record};
use crate::{FailureKind, TookEffect, report_of};
use vmdeploy_planner::plan::Plan;

/// A plan of one VM whose names and reasons are as hostile as they may be.
fn plan() -> Plan {
    let text = include_str!("../../../tests/samples/hostile-plan.json");
    serde_json::from_str(text).unwrap()
}

fn records() -> Vec<Record> {
    let at = |second: i64| jiff::Timestamp::from_second(1_795_000_000 + second).unwrap();
    let step = |name: &str| vmdeploy_planner::plan::StepId(name.to_owned());
    let failure = Failure::new(FailureKind::TaskFailed, "task <b>failed</b> & \"more\"")
        .effect(TookEffect::Maybe)
        .log(["<script>alert(1)</script>".to_owned()])
        .hint("type `x` > y");
    let failure = Failure { step: Some(step("web01/start")), ..failure };
    let entries = [
        Entry::RunStarted {
            format_version: 1,
            run: "r1".into(),
            project: "web".into(),
            plan_digest: "d".into(),
        },
        Entry::Started { step: step("web01/create"), attempt: 1 },
        Entry::Succeeded {
            step: step("web01/create"),
            outcome: Outcome::Done,
            warnings: vec!["<i>w</i>".into()],
        },
        Entry::Started { step: step("web01/start"), attempt: 1 },
        Entry::Failed { step: step("web01/start"), failure, again: false },
        Entry::Finished { result: RunResult::Left },
    ];
    entries.into_iter().enumerate().map(|(second, entry)| Record { at: at(second as i64), entry }).collect()
}

#[test]
fn hostile_text_is_only_text() {
    let plan = plan();
    let page = html_page(&plan, &report_of(&plan, &records()));
    for markup in ["<script", "<b>", "<i>", "<img", "onerror=\"", "javascript:"] {
        assert!(!page.contains(markup), "{markup} is in the page");
    }
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let plan = plan();
    let page = html_page(&plan, &report_of(&plan, &records()));
    for outside in ["http://", "https://", " src=\"", "url(", "@import", "<link", "<script"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn tags_are_balanced() {
    let plan = plan();
    let page = html_page(&plan, &report_of(&plan, &records()));
    for tag in [
        "section", "table", "tbody", "tr", "td", "details", "summary", "span", "div", "p", "h1", "h2", "ul",
        "li",
    ] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn what_became_of_a_failed_step_is_said_as_things_stand_now() {
    let plan = plan();
    let step = vmdeploy_planner::plan::StepId("web01/start".to_owned());
    let page = html_page(&plan, &report_of(&plan, &records()));
    assert!(page.contains("it may have taken effect"));
    assert!(page.contains(" · 1 VM · 1 of "), "{page}");

    let mut rolled_back = records();
    let last = rolled_back.pop().unwrap();
    for entry in [
        Entry::RevertStarted { step: step.clone() },
        Entry::RevertFinished { step, note: crate::RevertNote::Removed { what: "it".to_owned() } },
        Entry::Finished { result: RunResult::RolledBack },
    ] {
        rolled_back.push(Record { at: last.at, entry });
    }
    let page = html_page(&plan, &report_of(&plan, &rolled_back));
    assert!(page.contains("its changes are rolled back"));
    assert_eq!(page.matches("class=\"bar api failed\"").count(), 1, "the step failed, its revert did not");
    assert!(!page.contains("may have taken effect"));
}

#[test]
fn durations_are_said_as_people_say_them() {
    let check = |milliseconds: i64, expect: &str| assert_eq!(duration(milliseconds), expect);
    check(7, "7 ms");
    check(1_250, "1.2 s");
    check(61_000, "1 min 1 s");
    check(3_700_000, "1 h 1 min");
}
