//! The page: what an operator sees in a browser. `pith page` serves it on the operator's own machine and asks the coordinator with
//! what `pith` itself has there, a socket or a login; a browser never has either.
//!
//! ```text
//! browser --127.0.0.1, token--> guard.rs (host, token, cookie, origin) -> serving.rs: the files, and six requests, no more
//!                                                                             -> Client -> coordinator: role, audit, as ever
//! ```
//! What is asked for is typed here: a page that was taken over could steer rollouts as far as the role goes, and could not let a node
//! in, invite anybody or take a backup.

mod files;
mod guard;
mod opening;
mod serving;

pub use guard::Token;
pub use opening::open;
pub use serving::{Page, serve};
