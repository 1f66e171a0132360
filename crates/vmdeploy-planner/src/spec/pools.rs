//! Address pools.

use super::diagnostic::Span;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Addresses of one network that NICs draw from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPool {
    /// Its name.
    pub name: String,
    /// Where the spec names it.
    pub span: Span,
    /// The first address.
    pub first: Ipv4Addr,
    /// The last address; not before the first.
    pub last: Ipv4Addr,
    /// The prefix length of the network, 8 to 32.
    pub prefix: u8,
    /// The gateway of NICs that do not say their own.
    pub gateway: Option<Ipv4Addr>,
    /// Addresses that are never drawn.
    pub exclude: BTreeSet<Ipv4Addr>,
}

impl AddressPool {
    /// Tells whether the address is one of the range.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }
    /// Returns the addresses that may be drawn, the lowest first.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let all = (u32::from(self.first)..=u32::from(self.last)).map(Ipv4Addr::from);
        all.filter(|address| !self.exclude.contains(address) && self.gateway != Some(*address))
    }
}

/// Reads `FIRST-LAST`.
pub(crate) fn parse_range(text: &str) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (first, last) = text.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}
