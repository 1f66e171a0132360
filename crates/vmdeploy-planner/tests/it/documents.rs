//! The plans in `docs/plan.md` are what the program prints.

use crate::pve::Pve;
use crate::specs::{load, local_files, told};
use std::path::Path;
use vmdeploy_planner::make_plan;
use vmdeploy_planner::plan::PlanContext;
use vmdeploy_planner::render::{RenderOptions, text};

/// Returns the fenced blocks of a page: language and content.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, content)), None) => {
                content.push_str(line);
                content.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn the_plans_in_the_documentation_are_what_the_program_prints() {
    check_page("plan.md", 2);
    check_page("fleets.md", 2);
}

/// Compares each plan of a page with that of the spec above it; each is carried out before the next is made.
fn check_page(name: &str, plans: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let blocks = blocks(&page);
    let is_plan = |pair: &&[(String, String)]| pair[0].0 == "yaml" && pair[1].0 == "text";
    let pairs: Vec<_> = blocks.windows(2).filter(is_plan).collect();
    assert_eq!(pairs.len(), plans, "{name}");
    let mut pve = Pve::new();
    let mut fresh = page.clone();
    for pair in pairs {
        let deployment = load(&pair[0].1);
        let observed = pve.observed();
        let mut context = PlanContext::new("run-1", &observed);
        context.local_files = local_files(&deployment);
        let plan = make_plan(&deployment, &context).unwrap_or_else(|faults| panic!("{}", told(&faults)));
        let printed = text(&plan, RenderOptions::default());
        fresh = fresh.replacen(&format!("```text\n{}```", pair[1].1), &format!("```text\n{printed}```"), 1);
        pve.apply(&plan);
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &fresh).expect("the page can be written");
    }
    assert_eq!(page, fresh, "run the test with UPDATE_DOCS=1 and read what changed");
}
