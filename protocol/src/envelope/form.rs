//! The form of verified bytes: one strict walk, then the format, then the type.
//!
//! serde's maps and sets take the last of two equal keys and say nothing; two readers could then see two documents in
//! the same signed bytes. The walk refuses equal keys at every depth, and nesting beyond the limit, before that.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{MAX_DEPTH, Rejected};
use crate::payload::Payload;

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Parses verified bytes: strictly in form, then the format, then strictly into the type.
pub(super) fn parse<T: Payload>(bytes: &[u8]) -> Result<T, Rejected> {
    check(bytes)?;
    let bad = |e: serde_json::Error| Rejected::BadPayload(e.to_string());
    let Format { format } = serde_json::from_slice(bytes).map_err(bad)?;
    if format == 0 || format > crate::FORMAT {
        return Err(Rejected::UnknownFormat { found: format, supported: crate::FORMAT });
    }
    serde_json::from_slice(bytes).map_err(bad)
}

/// One JSON document, no key twice in one object, no deeper than [`MAX_DEPTH`].
fn check(bytes: &[u8]) -> Result<(), Rejected> {
    let too_deep = Cell::new(false);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let walk = Walk { depth: 0, too_deep: &too_deep }.deserialize(&mut reader);
    match walk.and_then(|()| reader.end()) {
        Ok(()) => Ok(()),
        Err(_) if too_deep.get() => Err(Rejected::TooDeep),
        Err(error) => Err(Rejected::BadPayload(error.to_string())),
    }
}

/// A visitor of any value that keeps nothing.
#[derive(Clone, Copy)]
struct Walk<'a> {
    depth: usize,
    too_deep: &'a Cell<bool>,
}

impl Walk<'_> {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            self.too_deep.set(true);
            return Err(E::custom("nested too deep"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if keys.contains(&key) {
                let shown: String = key.chars().take(80).collect();
                return Err(de::Error::custom(format_args!("key {shown:?} stands twice")));
            }
            map.next_value_seed(inner)?;
            keys.insert(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_refused_at_every_depth_and_in_every_spelling() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"[[{"a":1,"b":2,"a":3}]]"#,
            r#"{"a":1,"\u0061":2}"#,
        ] {
            let refused = check(text.as_bytes()).expect_err(text);
            assert!(refused.to_string().contains("stands twice"), "{text}: {refused}");
        }
        assert_eq!(check(br#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#), Ok(()));
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(nested(MAX_DEPTH).as_bytes()), Ok(()));
        assert_eq!(check(nested(MAX_DEPTH + 1).as_bytes()), Err(Rejected::TooDeep));
        assert_eq!(check("[".repeat(100_000).as_bytes()), Err(Rejected::TooDeep));
    }

    #[test]
    fn what_is_not_one_json_document_is_refused() {
        for bytes in
            [&b""[..], b"\xef\xbb\xbf{}", b"{}\0", b"{} {}", b"{\"a\":\"\0\"}", b"\xff", b"NaN"]
        {
            assert!(matches!(check(bytes), Err(Rejected::BadPayload(_))), "{bytes:?}");
        }
    }
}
