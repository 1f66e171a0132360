//! Groups of similar VMs.

use super::rules;
use super::vm::VM;
use super::{Kind, Nullable, Object, field};
use Kind::{Choice, Int, List, Map, OneOf, Text};

/// How many members a group may have.
const MAX_MEMBERS: i64 = 10_000;

pub(crate) const GROUP: Object = Object::new(
    "group",
    "Similar VMs. Each member is a VM of its own, made from `vm` and its entry in `overrides`.",
    &[
        field("count", Int(0, MAX_MEMBERS), "the number of members, which are numbered from 1"),
        field("members", List(&Text(&rules::GUEST)), "the members by name"),
        field(
            "name",
            Text(&rules::NAME_PATTERN),
            "the names of counted members: `{}` is the member's number, `{:02}` pads it with zeros",
        )
        .default("`GROUP{:02}`"),
        field(
            "vm",
            Kind::Object(&VM),
            "the keys that all members have; a member takes profiles and `defaults` too",
        )
        .required(),
        field(
            "overrides",
            Map(&rules::GUEST, &Kind::Object(&VM), Nullable::No),
            "keys of single members by name, merged over `vm`",
        )
        .default("none"),
        field("rollout", Kind::Object(&ROLLOUT), "how work that interrupts its members is spread over time")
            .default("the spec's `rollout`"),
    ],
)
.exactly_one(&["count", "members"]);

pub(crate) const ROLLOUT: Object = Object::new(
    "rollout",
    "How restarts, shutdowns and replacements of existing VMs are spread over time.",
    &[
        field(
            "max_unavailable",
            OneOf(&[Int(1, MAX_MEMBERS), Text(&rules::PERCENT)]),
            "the number of VMs that are interrupted at the same time; a percentage of the group is rounded down, to at least 1",
        )
        .default("1"),
        field(
            "on_failure",
            Choice(&["stop", "continue"]),
            "what happens to later batches when a VM fails or does not become ready",
        )
        .default("stop"),
    ],
)
.shorthand("max_unavailable");
