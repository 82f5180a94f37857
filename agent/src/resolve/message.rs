//! The bytes of multicast DNS, as far as one question about a host needs them (RFC 1035 §4, RFC 6762 §6.7). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// RFC 6762 §17.
pub const MAX_MESSAGE_BYTES: usize = 9000;
/// Records of one message that are looked at.
const MAX_RECORDS: usize = 256;
/// Jumps within one name; each leads further back.
const MAX_JUMPS: usize = 64;
const MAX_LABEL_BYTES: usize = 63;
const MAX_NAME_BYTES: usize = 255;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
/// The highest bit of a class means something else in multicast DNS (§10.2).
const CLASS_MASK: u16 = 0x7fff;
const IS_RESPONSE: u8 = 0x80;
const HEAD_BYTES: usize = 12;

/// Why bytes are no answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// It ends before it should.
    #[error("it ends too early")]
    Short,
    /// More bytes or records than anybody needs.
    #[error("it is too long")]
    TooLong,
    /// A name that leads nowhere, or in a circle.
    #[error("a name in it cannot be read")]
    Name,
    /// A question, or an answer to another.
    #[error("it is no answer to this question")]
    Other,
}

/// An address that an answer gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The address.
    pub address: IpAddr,
    /// How long it is good, in seconds.
    pub ttl_s: u32,
}

/// The question for all addresses of a name.
///
/// # Errors
/// Where it is no name of DNS.
pub fn question(id: u16, name: &str) -> Result<Vec<u8>, BadMessage> {
    let name = encoded(name)?;
    // No flags; two questions, no records.
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0, 2, 0, 0, 0, 0, 0, 0]);
    for kind in [TYPE_A, TYPE_AAAA] {
        bytes.extend(&name);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(CLASS_IN.to_be_bytes());
    }
    Ok(bytes)
}

/// The addresses of `name` in what came back under `id`; none: it says other things.
///
/// # Errors
/// Where the bytes cannot be read, or answer something else.
pub fn answers(bytes: &[u8], id: u16, name: &str) -> Result<Vec<Answer>, BadMessage> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(BadMessage::TooLong);
    }
    let wanted = encoded(name)?;
    let mut reader = Reader { bytes, at: 0 };
    let own_id = reader.u16()?;
    let flags = reader.u16()?.to_be_bytes();
    // Neither cut off nor an error.
    if own_id != id || flags[0] & IS_RESPONSE == 0 || flags[1] & 0x0f != 0 {
        return Err(BadMessage::Other);
    }
    let questions = usize::from(reader.u16()?);
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?].map(usize::from);
    let records: usize = counts.iter().sum();
    if questions + records > MAX_RECORDS {
        return Err(BadMessage::TooLong);
    }
    debug_assert_eq!(reader.at, HEAD_BYTES);
    for _ in 0..questions {
        let _ = reader.name()?;
        let _ = reader.take(4)?;
    }
    let mut found = Vec::new();
    for _ in 0..records {
        let owner = reader.name()?;
        let (kind, class) = (reader.u16()?, reader.u16()? & CLASS_MASK);
        let ttl_s = u32::from_be_bytes([reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?]);
        let length = usize::from(reader.u16()?);
        let data = reader.take(length)?;
        if class != CLASS_IN || !owner.eq_ignore_ascii_case(&wanted) {
            continue;
        }
        // A time of 0 takes an answer back (§10.1).
        let address = address(kind, data).filter(|_| ttl_s > 0);
        found.extend(address.map(|address| Answer { address, ttl_s }));
    }
    Ok(found)
}

fn address(kind: u16, data: &[u8]) -> Option<IpAddr> {
    let address = match kind {
        TYPE_A => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?)),
        TYPE_AAAA => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?)),
        _ => return None,
    };
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}

/// A name as it stands in a message, without jumps.
fn encoded(name: &str) -> Result<Vec<u8>, BadMessage> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|_| label.len() <= MAX_LABEL_BYTES);
        let length = length.filter(|length| *length > 0).ok_or(BadMessage::Name)?;
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    if bytes.len() > MAX_NAME_BYTES { Err(BadMessage::Name) } else { Ok(bytes) }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], BadMessage> {
        let end = self.at.checked_add(length).ok_or(BadMessage::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(BadMessage::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, BadMessage> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, BadMessage> {
        Ok(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    /// A name, its jumps followed; what is read next stands behind it.
    fn name(&mut self) -> Result<Vec<u8>, BadMessage> {
        let (mut name, mut behind, mut jumps) = (Vec::new(), None, 0);
        loop {
            let start = self.at;
            let length = self.u8()?;
            match length >> 6 {
                0 if length == 0 => {
                    name.push(0);
                    break;
                }
                0 => {
                    name.push(length);
                    name.extend(self.take(usize::from(length))?);
                    if name.len() >= MAX_NAME_BYTES {
                        return Err(BadMessage::Name);
                    }
                }
                3 => {
                    let to = usize::from(u16::from_be_bytes([length & 0x3f, self.u8()?]));
                    behind = behind.or(Some(self.at));
                    jumps += 1;
                    // Back alone: no circle can be made of that.
                    if to >= start || jumps > MAX_JUMPS {
                        return Err(BadMessage::Name);
                    }
                    self.at = to;
                }
                _ => return Err(BadMessage::Name),
            }
        }
        self.at = behind.unwrap_or(self.at);
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "opi.local";

    proptest::proptest! {
        #[test]
        fn whatever_comes_back_is_read_or_refused(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300), places in proptest::collection::vec((0..60usize, proptest::num::u8::ANY), 0..6)) {
            let _ = check(&bytes);
            // Near to what is right.
            let mut near = response(7, TYPE_A, 10, &[10, 0, 0, 2]);
            near.append(&mut bytes);
            for (place, byte) in places {
                if let Some(there) = near.get_mut(place) {
                    *there = byte;
                }
            }
            let _ = check(&near);
        }
    }

    /// A response with the question again, and a record behind a jump to it.
    fn response(id: u16, kind: u16, ttl_s: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = question(id, NAME).unwrap();
        (bytes[2], bytes[7]) = (0x84, 1);
        bytes.extend([0xc0, 12]);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0x80, 1]);
        bytes.extend(ttl_s.to_be_bytes());
        bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        bytes.extend(data);
        bytes
    }

    fn check(bytes: &[u8]) -> Result<Vec<IpAddr>, BadMessage> {
        answers(bytes, 7, NAME).map(|found| found.iter().map(|one| one.address).collect())
    }

    #[test]
    fn a_question_asks_for_both_kinds_of_addresses() {
        let bytes = question(0x0102, "opi.local.").unwrap();
        assert_eq!(bytes[..12], [1, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[12..27], *b"\x03opi\x05local\0\0\x01\0\x01");
        assert_eq!(bytes.len(), 12 + 2 * 15);
        for name in ["", "a..local", &format!("{}.local", "a".repeat(64)), &"a.".repeat(140)] {
            assert_eq!(question(1, name), Err(BadMessage::Name), "{name}");
        }
    }

    #[test]
    fn addresses_are_read_whatever_the_case_of_the_name() {
        assert_eq!(
            check(&response(7, TYPE_A, 10, &[10, 0, 0, 2])),
            Ok(vec!["10.0.0.2".parse().unwrap()])
        );
        let v6: Ipv6Addr = "fe80::1".parse().unwrap();
        assert_eq!(check(&response(7, TYPE_AAAA, 10, &v6.octets())), Ok(vec![v6.into()]));
        let mut loud = response(7, TYPE_A, 10, &[10, 0, 0, 2]);
        loud[13..16].copy_from_slice(b"OPI");
        assert_eq!(check(&loud).unwrap().len(), 1);
    }

    #[test]
    fn what_answers_something_else_gives_nothing() {
        assert_eq!(check(&response(8, TYPE_A, 10, &[10, 0, 0, 2])), Err(BadMessage::Other));
        assert_eq!(check(&question(7, NAME).unwrap()), Err(BadMessage::Other));
        assert_eq!(check(&response(7, 16, 10, b"text")), Ok(vec![]));
        assert_eq!(check(&response(7, TYPE_A, 0, &[10, 0, 0, 2])), Ok(vec![]), "taken back");
        for data in [&[10, 0, 0][..], &[0, 0, 0, 0], &[224, 0, 0, 251]] {
            assert_eq!(check(&response(7, TYPE_A, 10, data)), Ok(vec![]), "{data:?}");
        }
        let other = answers(&response(7, TYPE_A, 10, &[10, 0, 0, 2]), 7, "opj.local");
        assert_eq!(other, Ok(vec![]));
    }

    #[test]
    fn circles_and_ends_are_found() {
        let good = response(7, TYPE_A, 10, &[10, 0, 0, 2]);
        for end in 0..good.len() {
            assert!(check(&good[..end]).is_err(), "{end}");
        }
        let jump = good.len() - 16;
        assert_eq!(good[jump], 0xc0);
        for to in [jump, jump + 1, 0x3fff] {
            let mut circle = good.clone();
            circle[jump..jump + 2]
                .copy_from_slice(&(0xc000 | u16::try_from(to).unwrap()).to_be_bytes());
            assert_eq!(check(&circle), Err(BadMessage::Name), "{to}");
        }
        let mut many = good.clone();
        many[6] = 0xff;
        assert_eq!(check(&many), Err(BadMessage::TooLong));
        assert_eq!(check(&vec![0; MAX_MESSAGE_BYTES + 1]), Err(BadMessage::TooLong));
    }
}
