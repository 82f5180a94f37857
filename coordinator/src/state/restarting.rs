//! A restart on one node alone. The count stands beside what is assigned and goes into the template when the manifest is signed,
//! so that it outlives rollouts, and no other node notices.

use protocol::id::{NodeName, ServiceId};
use protocol::reason::Reason;

use super::{At, Refused, State};

impl State {
    /// Starts every instance on one node anew, by the node's own rolling update: its template is another from now on, whatever
    /// revision runs there.
    ///
    /// # Errors
    /// Where there is no such service or node, it does not run there, or it is being rolled out.
    pub fn restart_on(
        &mut self,
        id: &ServiceId,
        node: &NodeName,
        by: &str,
        at: At,
    ) -> Result<(), Refused> {
        let service = self.services.get(id).ok_or_else(|| Refused::NoService(id.clone()))?;
        if let Some(revision) = service.active() {
            return Err(Refused::Busy { service: id.clone(), revision });
        }
        let named = self
            .nodes
            .values_mut()
            .find(|known| known.record.name == *node && known.record.environment == id.environment);
        let named = named.ok_or_else(|| Refused::NoNode(node.to_string()))?;
        if !named.intent.assigned.contains_key(&id.name) {
            return Err(Refused::NotOnNode { service: id.clone(), node: node.clone() });
        }
        let node_id = named.record.id.clone();
        self.check_agreed(id, [node])?;
        if let Some(known) = self.nodes.get_mut(&node_id) {
            *known.intent.restarts.entry(id.name.clone()).or_default() += 1;
        }
        self.touched.insert(node_id);
        self.note_service(id, Some(Reason::Requested), format!("{by} restarts it on {node}"), at);
        Ok(())
    }
}
