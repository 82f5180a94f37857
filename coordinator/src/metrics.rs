//! `/metrics`: the fleet as Prometheus reads it. Pure: what is shown goes in, text comes out, the same text for the same fleet.
//!
//! ```text
//! State::measured + Own -> nodes.rs, services.rs: which series -> exposition.rs: Page, bounded and without doubles -> text
//!                             families.rs: every name, unit and sentence of help
//! ```
//! What a node has not said is no series, never 0. A node that is not heard of keeps `pith_node_up` 0, its description and when it was
//! heard last.

mod exposition;
mod families;
mod nodes;
mod services;
#[cfg(test)]
mod tests;

pub use exposition::{Format, MAX_SERIES_PER_NODE};
use exposition::{Page, Value};

use crate::state::measured::Measured;

/// What the coordinator says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    /// When the certificate on its own port ends, Unix seconds; none: it has no such port.
    pub certificate_until: Option<u64>,
    /// Whoever asks: the name in their certificate, and its end in Unix seconds. None: a process of this machine.
    pub scraper: Option<(String, u64)>,
    /// Requests answered since the start, by the first digit of their status: 1xx, 2xx, 3xx, 4xx, 5xx.
    pub answered: [u64; CLASSES.len()],
}

/// Classes of HTTP's statuses.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The whole text, in pieces: of a large fleet it is large.
#[must_use]
pub fn text(fleet: &Measured, own: &Own, format: Format) -> Vec<String> {
    let mut page = Page::new(format);
    page.add(&families::BUILD, &[("version", env!("CARGO_PKG_VERSION"))], Value::Whole(1));
    own_series(&mut page, own);
    services::add(&mut page, fleet);
    let mut nodes: Vec<_> = fleet.nodes.iter().collect();
    nodes.sort_by(|a, b| a.shown.name.cmp(&b.shown.name));
    for node in nodes {
        let name = node.shown.name.as_str();
        page.begin_node();
        nodes::add(&mut page, node);
        if node.online {
            services::add_on_node(&mut page, fleet, node);
        }
        let dropped = page.end_node();
        page.add(&families::DROPPED, &[("node", name)], Value::Whole(dropped));
    }
    page.render()
}

fn own_series(page: &mut Page, own: &Own) {
    for (class, count) in CLASSES.iter().zip(own.answered) {
        page.add(&families::API_REQUESTS, &[("status", class)], Value::Whole(count));
    }
    if let Some(until) = own.certificate_until {
        let labels = [("holder", "coordinator"), ("name", "coordinator")];
        page.add(&families::CERTIFICATE, &labels, Value::Whole(until));
    }
    if let Some((name, until)) = &own.scraper {
        let labels = [("holder", "scraper"), ("name", name.as_str())];
        page.add(&families::CERTIFICATE, &labels, Value::Whole(*until));
    }
}
