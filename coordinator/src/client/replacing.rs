//! A board in the place of another.

use reqwest::Method;

use super::{Client, ClientError, named};
use crate::state::requests::Replace;
use crate::state::shown::ReplacementShown;

impl Client {
    /// What another board would get in a node's place, and what would be gone.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn replacement(&self, who: &str) -> Result<ReplacementShown, ClientError> {
        self.get(&format!("nodes/{}/replacement", named(who)?), &[]).await
    }

    /// Gives its place to another.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn replace(&self, who: &str, by: &Replace) -> Result<ReplacementShown, ClientError> {
        self.send(Method::POST, &format!("nodes/{}/replace", named(who)?), &[], Some(by)).await
    }
}
