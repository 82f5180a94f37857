//! Secrets: what is sent is sealed already.

use protocol::id::{EnvironmentName, SecretName};
use reqwest::Method;

use super::{Client, ClientError};
use crate::state::requests::{AddCopies, SetSecret};
use crate::state::shown::{SecretRemoved, SecretSet, SecretsShown, SyncShown, UnsyncedShown};

impl Client {
    /// Secrets of an environment, and whom a new one is sealed to.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all that follow.
    pub async fn secrets(
        &self,
        environment: &EnvironmentName,
    ) -> Result<SecretsShown, ClientError> {
        self.get(&format!("secrets/{environment}"), &[]).await
    }

    /// A new value.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_secret(
        &self,
        environment: &EnvironmentName,
        name: &SecretName,
        set: &SetSecret,
    ) -> Result<SecretSet, ClientError> {
        let path = format!("secrets/{environment}/secret/{name}");
        self.send(Method::POST, &path, &[], Some(set)).await
    }

    /// Forgets a secret.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove_secret(
        &self,
        environment: &EnvironmentName,
        name: &SecretName,
    ) -> Result<SecretRemoved, ClientError> {
        let path = format!("secrets/{environment}/secret/{name}");
        self.send::<(), _>(Method::DELETE, &path, &[], None).await
    }

    /// What has to be sealed again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn unsynced(
        &self,
        environment: &EnvironmentName,
    ) -> Result<UnsyncedShown, ClientError> {
        self.get(&format!("secrets/{environment}/unsynced"), &[]).await
    }

    /// What was sealed again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn add_copies(
        &self,
        environment: &EnvironmentName,
        copies: &AddCopies,
    ) -> Result<SyncShown, ClientError> {
        self.send(Method::POST, &format!("secrets/{environment}/unsynced"), &[], Some(copies)).await
    }
}
