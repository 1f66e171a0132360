//! A VM that is being planned from nothing: its spec, its steps so far, and why.

use super::chain::Chain;
use super::images::Shared;
use super::input::{Findings, PlanInput, Resolved};
use super::keeping::Keeping;
use crate::plan::{GuestRef, Reason};
use crate::spec::Vm;

/// What planning one VM works with.
pub(crate) struct Making<'m, 'a> {
    pub(crate) input: &'m PlanInput<'a>,
    pub(crate) shared: &'m mut Shared,
    pub(crate) findings: &'m mut Findings,
    pub(crate) vm: &'m Vm,
    pub(crate) guest: &'m GuestRef,
    pub(crate) chain: Chain,
    pub(crate) reasons: Vec<Reason>,
    /// What it takes over from the VM that it replaces.
    pub(crate) keeping: Keeping,
}

impl<'m, 'a> Making<'m, 'a> {
    /// Starts planning a VM that is to be made.
    pub(crate) fn new(
        input: &'m PlanInput<'a>,
        shared: &'m mut Shared,
        findings: &'m mut Findings,
        resolved: &'m Resolved<'a>,
    ) -> Self {
        let chain = Chain::new(&resolved.guest.name);
        let (vm, guest) = (resolved.vm, &resolved.guest);
        let (reasons, keeping) = (Vec::new(), Keeping::default());
        Self { input, shared, findings, vm, guest, chain, reasons, keeping }
    }
}
