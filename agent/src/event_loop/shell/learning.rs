//! Keeps where the coordinator is.

use protocol::join::Coordinators;

use super::{Event, Outside, Told, tell};
use crate::engine::Engine;

impl<E: Engine> Outside<E> {
    /// A card may take its time to write.
    pub(super) fn learn(&self, known: Coordinators) {
        let (told, keeper) = (self.told.clone(), self.keeper.clone());
        tokio::task::spawn_local(async move {
            let kept = tokio::task::spawn_blocking(move || keeper.keep(&known)).await;
            let result = match kept {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            tell(&told, Told::Event(Event::Learned(result))).await;
        });
    }
}
