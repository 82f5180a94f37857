//! A line on the board's local socket: root writes it, and still it moves no terminal's cursor and is of a known form.

use agent::local::{MAX_REQUEST_BYTES, Request, Wish};
use protocol::report::MAX_HOLD_REASON_BYTES;

/// What a conversation begins with.
pub(crate) fn local(bytes: &[u8]) {
    let request = match Request::read(bytes) {
        Ok(request) => request,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(bytes.len() <= MAX_REQUEST_BYTES);
    let reason = match &request.wish {
        Wish::Ps => None,
        Wish::Hold(change) | Wish::Undo(change) | Wish::Release(change) => change.reason.as_ref(),
    };
    for text in reason.into_iter().chain(&request.user) {
        assert!(text.len() <= MAX_HOLD_REASON_BYTES && !text.contains(char::is_control));
    }
    let line = serde_json::to_vec(&request).expect("a request serialises");
    if line.len() <= MAX_REQUEST_BYTES {
        assert_eq!(Request::read(&line), Ok(request), "and reads");
    }
}
