//! Transcripts of whole commands, one file each.

mod access;
mod account_keys;
mod adversity;
mod counts;
mod deploy;
mod doctor;
mod fleet;
mod foreign;
mod general;
mod gitops;
mod hostile;
mod identity;
mod images;
mod init;
mod interrupt;
mod json;
mod lab;
mod loaded;
mod migrating;
mod permissions;
mod power;
mod semantics;
mod specs;
mod status;
mod tokens;
mod trust;
