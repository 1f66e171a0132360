//! The battery: what a person does with vmdeploy from the first deployment to the last destruction, by each transport,
//! on the lab and, where `VMDEPLOY_REAL_ENV` names a file with the PROXMOX_* variables of a spare node, on that node.
//!
//! docs/real-node.md says how it is run, and what it leaves alone.

mod battery;
mod compare;
mod ground;
mod loaded;
mod privileges;
mod specs;
mod state;

#[expect(dead_code, reason = "the other test program uses more of it")]
#[path = "../it/transcript.rs"]
mod transcript;

use ground::{Ground, Settings};
use libtest_mimic::{Arguments, Failed, Trial};

const TRANSPORTS: [&str; 4] = ["api", "auto", "hybrid", "ssh"];

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = TRANSPORTS
        .into_iter()
        .map(|transport| {
            Trial::test(format!("the_lab_passes_the_battery_by_{transport}"), move || on_lab(transport))
        })
        .collect();
    let settings = Settings::from_environment();
    if settings.is_ok() {
        // The node has the machine to itself, and each trial the range of VMIDs.
        arguments.test_threads = Some(1);
    }
    for transport in TRANSPORTS {
        trials.push(gated(&format!("a_real_node_passes_the_battery_by_{transport}"), &settings, {
            move |settings| on_node(settings, transport)
        }));
    }
    trials.push(Trial::test("the_lab_refuses_what_check_token_says", || {
        privileges::on(&Ground::lab(&compare::Likeness::usual())?)
    }));
    trials.push(gated("a_real_node_refuses_what_check_token_says", &settings, privileges::one_less));
    trials.push(gated("a_real_node_deploys_4_vms_under_load", &settings, |settings| {
        loaded::rounds(settings, 4)
    }));
    trials.push(gated("a_real_node_deploys_20_vms_under_load", &settings, |settings| {
        loaded::rounds(settings, 20)
    }));
    libtest_mimic::run(&arguments, trials).exit();
}

/// Returns the test, ignored with the reason in its name where no node is named.
fn gated(
    name: &str,
    settings: &Result<Settings, String>,
    test: impl Fn(&Settings) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    match settings {
        Ok(settings) => {
            let settings = settings.clone();
            Trial::test(name, move || test(&settings))
        }
        Err(missing) => {
            Trial::test(format!("{name} [ignored: {missing}]"), || Ok(())).with_ignored_flag(true)
        }
    }
}

fn on_lab(transport: &str) -> Result<(), Failed> {
    let ground = Ground::lab(&compare::Likeness::usual())?;
    battery::run(&ground, transport)?;
    Ok(())
}

/// Passes the battery on the node, and compares what was there after each act with what the lab has.
fn on_node(settings: &Settings, transport: &str) -> Result<(), Failed> {
    let node = Ground::real(settings)?;
    let likeness = compare::Likeness::of(&node)?;
    let real = battery::run(&node, transport)?;
    let lab = battery::run(&Ground::lab(&likeness)?, transport)?;
    compare::same(&real, &lab)
}
