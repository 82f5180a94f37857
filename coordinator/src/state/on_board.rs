//! Where the image of a revision still is, as nodes report it. Reads only.

use super::State;
use super::records::Revision;
use super::shown::OnBoard;

impl State {
    /// Nodes that are gone do not count.
    pub(super) fn on_board(&self, revision: &Revision) -> OnBoard {
        let mut found = OnBoard::default();
        let Some(stored) = self.releases.get(&revision.release) else { return found };
        let pin = stored.release.image.pin.short();
        let nodes = revision.order.iter().filter_map(|name| self.node_named(name));
        for node in nodes.filter(|node| self.is_admitted(&node.record.id)) {
            let images = node.record.report.as_ref().and_then(|report| report.images.as_ref());
            match images {
                Some(images) => {
                    found.of += 1;
                    found.here += usize::from(images.iter().any(|image| image == pin));
                }
                None => found.silent += 1,
            }
        }
        found
    }
}
