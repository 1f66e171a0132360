//! Transcripts of whole commands, one file each.

mod access;
mod account_keys;
mod counts;
mod deploy;
mod general;
mod hostile;
mod images;
mod init;
mod interrupt;
mod lab;
mod tokens;
