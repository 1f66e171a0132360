//! Who the client is: tokens, passwords, tickets and second factors.

mod credentials;
mod session;
pub(crate) mod ticket;

pub use credentials::{Credentials, CredentialsError, TokenId};
pub use session::{Clock, SystemClock};
pub(crate) use session::{Next, Session};
