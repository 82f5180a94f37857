//! What comes back to a question by multicast: anybody in the network may send it.

use agent::resolve::message::{MAX_MESSAGE_BYTES, answers, question};

const NAME: &str = "opi.local";

/// An answer, under the id that it claims.
pub(crate) fn names(bytes: &[u8]) {
    let id = bytes.get(..2).map_or(0, |id| u16::from_be_bytes([id[0], id[1]]));
    if let Ok(found) = answers(bytes, id, NAME) {
        assert!(bytes.len() <= MAX_MESSAGE_BYTES);
        for one in &found {
            assert!(one.ttl_s > 0 && !one.address.is_unspecified() && !one.address.is_multicast());
        }
        // Each takes four bytes of address at least, beside the head.
        assert!(found.len() * 4 < bytes.len());
        if !found.is_empty() {
            assert!(
                answers(bytes, id.wrapping_add(1), NAME).is_err(),
                "nobody asked under this id"
            );
        }
    }
    if let Ok(name) = std::str::from_utf8(bytes)
        && let Ok(asked) = question(id, name)
    {
        assert!(answers(&asked, id, name).is_err(), "a question answers nothing");
    }
}
