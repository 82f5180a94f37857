//! Named volumes of ours: only an uninstalling looks at them as such, and only with `--volumes` they go.

use bollard::query_parameters as query;

use super::answers::Volumes;
use super::ask::path_of_ours;
use super::{CHANGE_DEADLINE_MS, Docker, gone_is_done, within};
use crate::engine::{EngineError, Ours};

impl Docker {
    /// The names of the volumes of ours, in order.
    ///
    /// # Errors
    /// As everywhere.
    pub async fn volumes(&self, ours: &Ours) -> Result<Vec<String>, EngineError> {
        let listed: Volumes = self.get(&path_of_ours("/volumes", ours)).await?;
        let mut names: Vec<String> =
            listed.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect();
        names.sort();
        Ok(names)
    }

    /// Removes a volume with what is in it; gone is done.
    ///
    /// # Errors
    /// As everywhere; one in use is a [`EngineError::Conflict`].
    pub async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let options = None::<query::RemoveVolumeOptions>;
        gone_is_done(within(CHANGE_DEADLINE_MS, self.client()?.remove_volume(name, options)).await)
    }
}
