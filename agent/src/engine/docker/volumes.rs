//! Named volumes of ours: only an uninstalling looks at them as such, and only with `--volumes` they go.

use bollard::query_parameters as query;

use super::observe::label_filter;
use super::{CHANGE_DEADLINE_MS, Docker, QUERY_DEADLINE_MS, gone_is_done, within};
use crate::engine::{EngineError, Ours};

impl Docker {
    /// The names of the volumes of ours, in order.
    ///
    /// # Errors
    /// As everywhere.
    pub async fn volumes(&self, ours: &Ours) -> Result<Vec<String>, EngineError> {
        let filters = label_filter(ours);
        let options = query::ListVolumesOptionsBuilder::new().filters(&filters).build();
        let listed = within(QUERY_DEADLINE_MS, self.client()?.list_volumes(Some(options))).await?;
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
