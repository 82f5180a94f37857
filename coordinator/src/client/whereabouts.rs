//! Where nodes look for the coordinator.

use reqwest::Method;

use super::{Client, ClientError, number};
use crate::state::shown::AddressesShown;
use crate::state::whereabouts::Moving;

impl Client {
    /// What nodes are told, and who has learned it; waits for something newer than `after`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn addresses(&self, after: Option<u64>) -> Result<AddressesShown, ClientError> {
        self.get("coordinator/addresses", &[("after", number(after))]).await
    }

    /// Changes what nodes are told.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn tell_addresses(&self, moving: &Moving) -> Result<AddressesShown, ClientError> {
        self.send(Method::POST, "coordinator/addresses", &[], Some(moving)).await
    }
}
