//! What goes wrong on the cluster: lost answers, refusals, timeouts, tasks that fail.

use crate::draw::Draw;

/// Returns a few faults, as YAML; an empty list more often than not.
pub fn some(draw: &mut Draw, transport: &str) -> String {
    let mut text = String::new();
    if draw.percent(35) {
        return "[]".to_owned();
    }
    for _ in 0..1 + draw.below(3) {
        text.push_str(&one(draw, transport));
    }
    text
}

fn one(draw: &mut Draw, transport: &str) -> String {
    let moment = draw.of(&["before", "after"]);
    let kind = match transport {
        "api" => draw.below(8),
        "ssh" => 4 + draw.below(6),
        _ => draw.below(10),
    };
    let (when, effect) = match kind {
        0 | 1 => {
            let method = draw.of(&["POST", "PUT", "DELETE"]);
            (format!("listener: api, method: {method}"), format!("{{drop: {moment}}}"))
        }
        2 => {
            let method = draw.of(&["POST", "PUT", "DELETE"]);
            let (status, reason) = draw.of(&[
                (500, "no luck"),
                (503, "Service Unavailable"),
                (596, "Broken pipe"),
                (500, "got timeout"),
            ]);
            let effect = format!("{{refuse: {{status: {status}, reason: {reason}, at: {moment}}}}}");
            (format!("listener: api, method: {method}"), effect)
        }
        3 => ("listener: api, path: '/nodes/*/qemu/*/config'".to_owned(), "lock-timeout".to_owned()),
        4 | 5 => {
            let kinds = [
                "qmcreate",
                "qmconfig",
                "qmmove",
                "resize",
                "qmstart",
                "qmdestroy",
                "imgdel",
                "qmclone",
                "qmtemplate",
                "qmshutdown",
                "qmstop",
            ];
            (format!("task: {}", draw.of(&kinds)), format!("{{fail-task: {{text: no luck, at: {moment}}}}}"))
        }
        6 => (
            format!("storage: {}", draw.of(&["local-lvm", "fast", "tank", "local"])),
            "storage-full".to_owned(),
        ),
        7 => {
            let effect = draw.of(&["{refuse: {status: 503, reason: busy}}", "{drop: before}"]);
            ("listener: api, method: GET".to_owned(), effect.to_owned())
        }
        8 => {
            let command = draw.of(&[
                "qm *",
                "pvesh *",
                "qm importdisk *",
                "qm disk *",
                "pvesm *",
                "qm set *",
                "qm create *",
            ]);
            let effect = draw.of(&[
                "{drop: before}",
                "{drop: after}",
                "{cut: {after_ms: 1}}",
                "lock-timeout",
                "{refuse: {reason: no luck, exit: 255}}",
                "{refuse: {reason: no luck, exit: 255, at: after}}",
            ]);
            (format!("command: '{command}'"), effect.to_owned())
        }
        _ => ("listener: ssh".to_owned(), format!("{{drop: {moment}}}")),
    };
    let from = 1 + draw.below(5);
    let times = draw.of(&[1, 1, 2, 12]);
    format!("- {{when: {{{when}, from: {from}, times: {times}}}, do: {effect}}}\n")
}
