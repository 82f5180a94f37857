//! What an answer means for what is kept: a decision about numbers, without IO.

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

/// What matters of an answer's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Of HTTP.
    pub status: u16,
    /// Of a part: its first byte, and the length of the whole where it is told.
    pub range: Option<(u64, Option<u64>)>,
    /// Of the body, where it is told.
    pub length: Option<u64>,
    /// What the server calls these very bytes, fit for `If-Range`.
    pub validator: Option<String>,
}

/// What to do with the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It goes on where what is kept ends.
    Append,
    /// It is the whole file: what is kept is thrown away first.
    Begin,
    /// It is nothing: what is kept is thrown away, and asked for from the start.
    AskAnew,
    /// Another file is there.
    Another {
        /// Its length.
        there: u64,
    },
    /// No such file.
    NotFound,
    /// Not for us.
    Denied,
    /// Asked again, it may be another one.
    Later,
}

impl Head {
    /// Of an answer.
    #[must_use]
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        // A weak ETag says that files mean the same, not that their bytes are (RFC 9110 §13.1.5).
        let etag = text(ETAG).filter(|etag| etag.starts_with('"'));
        Self {
            status: status.as_u16(),
            range: text(CONTENT_RANGE).and_then(range),
            length: text(CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            validator: etag.or_else(|| text(LAST_MODIFIED)).map(str::to_owned),
        }
    }
}

/// `bytes 5-9/10` (RFC 9110 §14.4).
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (part, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
    let first = part.split_once('-')?.0.parse().ok()?;
    Some((first, whole.parse().ok()))
}

/// What an answer means where `len` of `bytes` are kept, which the server called `validator`.
#[must_use]
pub fn next(len: u64, bytes: u64, validator: Option<&str>, head: &Head) -> Next {
    match head.status {
        206 => part(len, bytes, validator, head),
        200 => match head.length {
            Some(there) if there != bytes => Next::Another { there },
            Some(_) | None => Next::Begin,
        },
        416 if len > 0 => Next::AskAnew,
        404 | 410 => Next::NotFound,
        401 | 403 | 407 | 451 => Next::Denied,
        _ => Next::Later,
    }
}

fn part(len: u64, bytes: u64, validator: Option<&str>, head: &Head) -> Next {
    let is_renamed = match (validator, head.validator.as_deref()) {
        (Some(then), Some(now)) => then != now,
        (Some(_), None) | (None, Some(_) | None) => false,
    };
    match head.range {
        Some((_, Some(there))) if there != bytes => Next::Another { there },
        Some((first, _)) if first == len && len > 0 && !is_renamed => Next::Append,
        // Another part than was asked for, or of another file.
        Some(_) | None => Next::AskAnew,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(status: u16) -> Head {
        Head { status, range: None, length: None, validator: None }
    }

    fn part_from(first: u64, whole: u64, validator: &str) -> Head {
        let range = Some((first, Some(whole)));
        Head { range, validator: Some(validator.to_owned()), ..head(206) }
    }

    #[test]
    fn a_part_goes_on_only_where_what_is_kept_ends() {
        assert_eq!(next(5, 10, Some("\"a\""), &part_from(5, 10, "\"a\"")), Next::Append);
        assert_eq!(next(5, 10, None, &part_from(5, 10, "\"a\"")), Next::Append);
        assert_eq!(next(5, 10, Some("\"a\""), &part_from(4, 10, "\"a\"")), Next::AskAnew);
        assert_eq!(next(5, 10, Some("\"a\""), &head(206)), Next::AskAnew);
        assert_eq!(next(0, 10, None, &part_from(0, 10, "\"a\"")), Next::AskAnew, "not asked for");
    }

    #[test]
    fn a_file_that_changed_is_begun_anew_and_one_of_another_length_is_another() {
        assert_eq!(next(5, 10, Some("\"a\""), &part_from(5, 10, "\"b\"")), Next::AskAnew);
        assert_eq!(next(5, 10, None, &part_from(5, 11, "\"a\"")), Next::Another { there: 11 });
        assert_eq!(next(5, 10, None, &Head { length: Some(10), ..head(200) }), Next::Begin);
        assert_eq!(next(5, 10, None, &head(200)), Next::Begin);
        let short = Head { length: Some(9), ..head(200) };
        assert_eq!(next(0, 10, None, &short), Next::Another { there: 9 });
        assert_eq!(next(5, 10, None, &head(416)), Next::AskAnew);
        assert_eq!(next(0, 10, None, &head(416)), Next::Later);
    }

    #[test]
    fn what_mends_itself_is_told_from_what_does_not() {
        for status in [404, 410] {
            assert_eq!(next(5, 10, None, &head(status)), Next::NotFound);
        }
        for status in [401, 403] {
            assert_eq!(next(5, 10, None, &head(status)), Next::Denied);
        }
        for status in [204, 408, 429, 500, 502, 503, 504] {
            assert_eq!(next(5, 10, None, &head(status)), Next::Later);
        }
    }

    #[test]
    fn heads_are_read_as_they_are_written() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_RANGE, "bytes 5-9/10".parse().unwrap());
        headers.insert(CONTENT_LENGTH, "5".parse().unwrap());
        headers.insert(ETAG, "W/\"weak\"".parse().unwrap());
        headers.insert(LAST_MODIFIED, "Wed, 21 Oct 2026 07:28:00 GMT".parse().unwrap());
        let head = Head::of(StatusCode::PARTIAL_CONTENT, &headers);
        assert_eq!((head.range, head.length), (Some((5, Some(10))), Some(5)));
        assert_eq!(head.validator.as_deref(), Some("Wed, 21 Oct 2026 07:28:00 GMT"));
        assert_eq!(range("bytes 5-9/*"), Some((5, None)));
        for bad in ["", "bytes", "bytes */10", "bytes x-9/10", "items 5-9/10"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }

    proptest! {
        /// Whatever a server says: bytes are appended only to those of the same file, at their place, and never past its end.
        #[test]
        fn nothing_is_appended_at_another_place(
            len in 0_u64..20, bytes in 1_u64..20, status in prop_oneof![Just(200_u16), Just(206), Just(416), 100_u16..600],
            first in prop::option::of((0_u64..20, prop::option::of(0_u64..20))), length in prop::option::of(0_u64..20),
            then in prop::option::of("[ab]"), now in prop::option::of("[ab]"),
        ) {
            let head = Head { status, range: first, length, validator: now.clone() };
            match next(len.min(bytes), bytes, then.as_deref(), &head) {
                Next::Append => {
                    let (first, whole) = first.expect("a part says where it begins");
                    prop_assert_eq!(status, 206);
                    prop_assert_eq!(first, len.min(bytes));
                    prop_assert!(whole.is_none_or(|whole| whole == bytes));
                    prop_assert!(then.is_none() || now.is_none() || then == now);
                }
                Next::Begin => prop_assert!(status == 200 && length.is_none_or(|length| length == bytes)),
                Next::Another { there } => prop_assert_ne!(there, bytes),
                Next::AskAnew | Next::NotFound | Next::Denied | Next::Later => {}
            }
        }
    }
}
