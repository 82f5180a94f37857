//! RFC 9180 as its authors computed it, and who may open what.

use super::*;
use crate::keys::SecretKey;

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

fn key() -> OpeningKey {
    OpeningKey::from_bytes([7; 32])
}

struct Named {
    fleet: FleetId,
    environment: EnvironmentName,
    name: SecretName,
    version: u64,
    reader: Reader,
}

impl Named {
    fn new() -> Self {
        Self {
            fleet: "1".repeat(32).parse().unwrap(),
            environment: "default".parse().unwrap(),
            name: "db".parse().unwrap(),
            version: 3,
            reader: Reader::Node("a".repeat(32).parse().unwrap()),
        }
    }

    fn label(&self) -> Label<'_> {
        let Self { fleet, environment, name, version, reader } = self;
        Label { fleet, environment, name, version: *version, reader }
    }
}

fn sealed() -> Sealed {
    let value = Clear::new(b"hunter2".to_vec());
    seal(&Named::new().label(), &key().public(), &value, [9; 32]).unwrap()
}

/// RFC 9180, appendix A.2.1: base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, sequence number 0.
#[test]
fn the_test_vector_of_the_rfc_is_met() {
    let info = hex("4f6465206f6e2061204772656369616e2055726e");
    let aad = hex("436f756e742d30");
    let value = hex("4265617574792069732074727574682c20747275746820626561757479");
    let own = hex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb");
    let own = OpeningKey::from_bytes(own.try_into().unwrap());
    let random = hex("909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b");
    let public = own.public();
    let expected = "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a";
    assert_eq!(public.as_bytes().as_slice(), hex(expected));
    let bytes = seal_bytes(&info, &aad, &public, &value, random.try_into().unwrap()).unwrap();
    let encapsulated = "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a";
    let ciphertext = "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28";
    assert_eq!(bytes, hex(&format!("{encapsulated}{ciphertext}")));
    assert_eq!(open_bytes(&info, &aad, &own, &bytes).unwrap().bytes(), value);
}

#[test]
fn the_form_of_a_copy_stays() {
    let copy = Copy { name: "db".parse().unwrap(), version: 3, sealed: sealed(), registry: None };
    let golden = r#"{"name":"db","version":3,"sealed":"3okjpnXQIYDN19AJe6QEueHikw1WZculjRdlAGNheTsizKb+k2UJ0TIBz3mr34nTMvYYSsXvwQ=="}"#;
    assert_eq!(serde_json::to_string(&copy).unwrap(), golden);
    let opened = open(&Named::new().label(), &key(), &copy.sealed).unwrap();
    assert_eq!(opened.bytes(), b"hunter2");
}

#[test]
fn a_copy_that_is_passed_off_as_another_does_not_open() {
    let other_node = Reader::Node("b".repeat(32).parse().unwrap());
    let operator = Reader::Operator(SecretKey::from_seed([1; 32]).public());
    let cases = [
        ("fleet", Named { fleet: "2".repeat(32).parse().unwrap(), ..Named::new() }),
        ("environment", Named { environment: "staging".parse().unwrap(), ..Named::new() }),
        ("name", Named { name: "db2".parse().unwrap(), ..Named::new() }),
        ("version", Named { version: 4, ..Named::new() }),
        ("node", Named { reader: other_node, ..Named::new() }),
        ("reader", Named { reader: operator, ..Named::new() }),
    ];
    for (what, named) in cases {
        assert_eq!(open(&named.label(), &key(), &sealed()).err(), Some(NotOpened), "{what}");
    }
}

#[test]
fn another_nodes_key_opens_nothing() {
    let other = OpeningKey::from_bytes([8; 32]);
    assert_eq!(open(&Named::new().label(), &other, &sealed()).err(), Some(NotOpened));
}

#[test]
fn any_change_of_a_copy_is_seen() {
    let bytes = BASE64.decode(sealed().0).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        // The highest bit of a point is not part of it (RFC 7748): the one change that must be caught by the transcript.
        changed[at] ^= 0x80;
        let copy = Sealed(BASE64.encode(&changed));
        assert_eq!(open(&Named::new().label(), &key(), &copy).err(), Some(NotOpened), "byte {at}");
    }
    for length in 0..bytes.len() {
        let copy = Sealed(BASE64.encode(&bytes[..length]));
        assert_eq!(open(&Named::new().label(), &key(), &copy).err(), Some(NotOpened), "{length}");
    }
    for text in ["", "!", &"A".repeat(1 << 20)] {
        let copy = Sealed(text.to_owned());
        assert_eq!(open(&Named::new().label(), &key(), &copy).err(), Some(NotOpened));
    }
}

#[test]
fn a_value_has_bounds() {
    let seal_of = |bytes: usize| {
        let value = Clear::new(vec![b'x'; bytes]);
        seal(&Named::new().label(), &key().public(), &value, [9; 32])
    };
    assert_eq!(seal_of(0), Err(NotSealed::Empty));
    let largest = seal_of(MAX_SECRET_BYTES).unwrap();
    let opened = open(&Named::new().label(), &key(), &largest).unwrap();
    assert_eq!(opened.bytes().len(), MAX_SECRET_BYTES);
    let refused = seal_of(MAX_SECRET_BYTES + 1).unwrap_err();
    assert_eq!(refused, NotSealed::TooLarge(MAX_SECRET_BYTES + 1));
    assert!(refused.to_string().contains("16384"), "{refused}");
}

#[test]
fn a_key_of_small_order_is_refused() {
    let nobody = SealKey::from_bytes([0; 32]);
    let value = Clear::new(b"hunter2".to_vec());
    assert_eq!(
        seal(&Named::new().label(), &nobody, &value, [9; 32]).err(),
        Some(NotSealed::BadKey)
    );
}

#[test]
fn a_release_key_opens_what_is_sealed_to_its_public_half() {
    for seed in 0..8 {
        let key = SecretKey::from_seed([seed; 32]);
        let named = Named { reader: Reader::Operator(key.public()), ..Named::new() };
        assert_eq!(key.opening_key().public(), key.public().seal_key());
        let value = Clear::new(b"hunter2".to_vec());
        let copy = seal(&named.label(), &key.public().seal_key(), &value, [9; 32]).unwrap();
        let opened = open(&named.label(), &key.opening_key(), &copy).unwrap();
        assert_eq!(opened.bytes(), b"hunter2");
    }
}

#[test]
fn nothing_in_clear_is_printed() {
    let value = Clear::new(b"hunter2".to_vec());
    let shown = format!("{value:?} {:?} {:?}", key(), sealed());
    assert_eq!(shown, "Clear(7 bytes) OpeningKey(…) Sealed(76 characters)");
}
