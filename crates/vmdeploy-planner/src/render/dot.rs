//! A plan as a graph for Graphviz.

use super::{clean, summary};
use crate::plan::{Plan, Step, Transport};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Returns the steps and what waits for what, in the DOT language: one cluster per VM, one color per transport.
pub fn dot(plan: &Plan) -> String {
    let mut out = String::from(
        "digraph plan {\n  rankdir=LR;\n  node [shape=box, style=filled, fontname=\"sans-serif\"];\n",
    );
    let mut by_vm: BTreeMap<String, Vec<&Step>> = BTreeMap::new();
    for step in &plan.steps {
        by_vm.entry(step.vm.as_ref().map_or_else(String::new, ToString::to_string)).or_default().push(step);
    }
    for (index, (vm, steps)) in by_vm.iter().enumerate() {
        if vm.is_empty() {
            steps.iter().for_each(|step| node(&mut out, "  ", step));
            continue;
        }
        let _ = writeln!(out, "  subgraph cluster_{index} {{\n    label={};", quoted(vm));
        steps.iter().for_each(|step| node(&mut out, "    ", step));
        out.push_str("  }\n");
    }
    for step in &plan.steps {
        for before in &step.after {
            let _ = writeln!(out, "  {} -> {};", quoted(&before.0), quoted(&step.id.0));
        }
        for before in &step.follows {
            let _ = writeln!(out, "  {} -> {} [style=dashed];", quoted(&before.0), quoted(&step.id.0));
        }
    }
    out.push_str("}\n");
    out
}

fn node(out: &mut String, indent: &str, step: &Step) {
    let color = match step.transport {
        Transport::Api => "#cfe8ff",
        Transport::Ssh => "#ffe2b8",
        Transport::Local => "#e6e6e6",
    };
    let label = format!("{}\n{}: {}", step.id.0, step.transport, summary(&step.action));
    let label: Vec<String> = label.lines().map(|line| clean(line, 60)).collect();
    let label = quoted(&label.join("\n")).replace('\n', "\\n");
    let _ = writeln!(out, "{indent}{} [label={label}, fillcolor=\"{color}\"];", quoted(&step.id.0));
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
