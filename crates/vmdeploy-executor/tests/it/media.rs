//! CD drives: what PVE changes together with one is reverted with it.

use crate::fixture::{Fixture, create_action, guest, new_disk, patch, plan_of, step, text};
use vmdeploy_executor::RunResult;
use vmdeploy_planner::plan::{Action, Revert, Transport, Verb};

#[tokio::test(flavor = "multi_thread")]
async fn the_rollback_of_a_cd_leaves_the_boot_order_as_it_was() {
    for transport in [Transport::Api, Transport::Ssh] {
        let fixture = Fixture::start().await;
        let mut action = create_action("r0", &guest(1));
        if let Action::CreateVm { config, .. } = &mut action {
            config.set.insert("scsi0".to_owned(), new_disk("1"));
            for (key, value) in [("sata0", "none,media=cdrom"), ("boot", "order=scsi0")] {
                config.set.insert(key.to_owned(), text(value));
            }
        }
        let create = step("vm1", "create", action, Transport::Api, &[]);
        let order = || Action::SetConfig {
            guest: guest(1),
            patch: patch([("boot", text("order=scsi0"))]),
            digest: None,
        };
        let created = step("vm1", "boot", order(), Transport::Api, &["create"]);
        fixture.run(plan_of("r0", &[guest(1)], vec![create, created])).await;
        let before = fixture.guests();
        let set = |options: &str| Action::SetConfig {
            guest: guest(1),
            patch: patch([("sata0", text(options))]),
            digest: None,
        };
        let mut change = step("vm1", "set", set("cdrom,media=cdrom"), transport, &[]);
        change.revert = Revert::Run { action: Box::new(set("none,media=cdrom")) };
        let mut boot = step("vm1", "boot", order(), transport, &["set"]);
        boot.revert = Revert::Run { action: Box::new(order()) };
        let wrong =
            Action::SetConfig { guest: guest(1), patch: patch([("cores", text("many"))]), digest: None };
        let wrong = step("vm1", "wrong", wrong, transport, &["boot"]);
        let mut plan = plan_of("r1", &[guest(1)], vec![change, boot, wrong]);
        plan.changes[0].verb = Verb::Update;
        let (report, _) = fixture.run(plan).await;
        assert_eq!(report.result, RunResult::RolledBack, "{transport}: {report:#?}");
        assert_eq!(fixture.guests(), before, "{transport}");
    }
}
