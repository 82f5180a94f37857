//! What the loop's state begins with where nothing is around it.

use std::sync::Arc;

use super::super::*;
use crate::load::Detail;
use crate::testing;
use planner::node::Probed;
use protocol::hello::Load;
use protocol::manifest::Version;

/// What people configured: nothing.
pub(super) fn settings() -> Settings {
    Settings {
        name: "board".parse().unwrap(),
        labels: BTreeMap::new(),
        listen: Vec::new(),
        address: None,
        broker: None,
        coordinators: Coordinators::default(),
        own_broker: None,
        between: Between { port: None, certificates: None, floor: mqtt::VerifyAt::default() },
        remove_images: true,
        metered: false,
        vault: Vault::default(),
        own: crate::update::Own::alone(),
    }
}

/// The loop's state begins here, and remembers nothing.
pub(super) fn beginning(settings: Settings, opened_at: Now) -> Beginning {
    Beginning {
        node: testing::identity(),
        key: testing::node_key(),
        root: testing::root(),
        settings,
        ledger: Arc::default(),
        boot_id: "boot".to_owned(),
        opened_at,
        unix_ms: 0,
        cores: 1,
    }
}

/// Around a loop's state that runs nothing: how many nonces it has given.
#[derive(Default)]
pub(super) struct Around(u8);

impl Surroundings for Around {
    fn probed(&self, _container: &str) -> Option<Probed> {
        None
    }

    fn memory_available(&self) -> Option<u64> {
        None
    }

    fn own_address(&self) -> Option<IpAddr> {
        None
    }

    fn load(&mut self, _: &str, _: Version, _: Option<Detail<'_>>) -> Option<Load> {
        None
    }

    fn nonce(&mut self) -> [u8; 16] {
        self.0 += 1;
        [self.0; 16]
    }
}
