//! What a proxy reads: its control socket, its copy of the table, and heads of clients and backends.

use proxy::control::{Event, Reply, Request};
use proxy::table::Table;

use crate::envelopes::same;

/// Lines of the control socket, from either side, and the copy of the table.
pub(crate) fn proxy_control(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(Request::Set { table }) = serde_json::from_slice::<Request>(line) {
            table_holds(&table);
        }
        if let Ok(reply) = serde_json::from_slice::<Reply>(line) {
            let text = serde_json::to_vec(&reply).expect("a reply serialises");
            serde_json::from_slice::<Reply>(&text).expect("and reads");
        }
        same(&serde_json::from_slice::<Event>(line));
    }
    if let Ok(table) = serde_json::from_slice::<Table>(bytes) {
        table_holds(&table);
    }
}

fn table_holds(table: &Table) {
    let text = serde_json::to_vec(table).expect("a table serialises");
    same(&serde_json::from_slice::<Table>(&text));
    if let Err(error) = table.check() {
        assert!(!error.to_string().is_empty());
    }
}

/// The head of a request or an answer, and a chunked body.
pub(crate) fn proxy_http(bytes: &[u8]) {
    proxy::fed::feed(bytes);
}
