//! The first packet of an MQTT client, read before anything is believed of it (MQTT 3.1.1, §3.1).

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A client id, a will and its topic fit many times.
const MAX_CONNECT_BYTES: usize = 8 * 1024;
const CONNECT: u8 = 0x10;
const LEVEL_3_1_1: u8 = 4;
const HAS_USER: u8 = 0x80;
const HAS_PASSWORD: u8 = 0x40;
const HAS_WILL: u8 = 0x04;
/// QoS and retain of the will, and the clean session.
const KEPT_FLAGS: u8 = 0x3e;
const RESERVED: u8 = 0x01;

/// Why the first packet is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// Something else came first.
    #[error("the first packet is not a CONNECT")]
    NotConnect,
    /// Beyond [`MAX_CONNECT_BYTES`].
    #[error("a CONNECT of {0} bytes")]
    TooLarge(usize),
    /// Another version of MQTT.
    #[error("MQTT level {0}, where 4 (3.1.1) is spoken")]
    Version(u8),
    /// Not what the standard says.
    #[error("a malformed CONNECT: {0}")]
    Malformed(&'static str),
}

/// A CONNECT without the login that it may have brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Who it says it is.
    pub client_id: String,
    flags: u8,
    keep_alive: [u8; 2],
    /// Topic and payload.
    will: Option<(Vec<u8>, Vec<u8>)>,
}

impl Connect {
    /// Reads one CONNECT, and not a byte more.
    ///
    /// # Errors
    /// Where the connection breaks, or it is not a CONNECT of MQTT 3.1.1 within the bound.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Self, ConnectError> {
        if stream.read_u8().await? != CONNECT {
            return Err(ConnectError::NotConnect);
        }
        let length = read_length(stream).await?;
        if length > MAX_CONNECT_BYTES {
            return Err(ConnectError::TooLarge(length));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        Self::parse(&body)
    }

    /// What stands behind the fixed header.
    ///
    /// # Errors
    /// As [`Connect::read`].
    pub fn parse(body: &[u8]) -> Result<Self, ConnectError> {
        let mut rest = body;
        let name = field(&mut rest)?;
        let [level, flags, high, low, rest @ ..] = rest else {
            return Err(ConnectError::Malformed("it is cut off"));
        };
        let mut rest = rest;
        // MQTT 3.1 has level 3 under the name of MQIsdp.
        if name != b"MQTT" || *level != LEVEL_3_1_1 {
            return Err(ConnectError::Version(*level));
        }
        if flags & RESERVED != 0 {
            return Err(ConnectError::Malformed("the reserved flag is set"));
        }
        let client_id = std::str::from_utf8(field(&mut rest)?)
            .map_err(|_| ConnectError::Malformed("the client id is not UTF-8"))?;
        let mut will = None;
        if flags & HAS_WILL != 0 {
            will = Some((field(&mut rest)?.to_vec(), field(&mut rest)?.to_vec()));
        }
        for login in [HAS_USER, HAS_PASSWORD] {
            if flags & login != 0 {
                field(&mut rest)?;
            }
        }
        if !rest.is_empty() {
            return Err(ConnectError::Malformed("bytes are left over"));
        }
        let (client_id, keep_alive) = (client_id.to_owned(), [*high, *low]);
        Ok(Self { client_id, flags: flags & KEPT_FLAGS, keep_alive, will })
    }

    /// The same packet with another login, as it travels.
    #[must_use]
    pub fn with_login(&self, user: &str, password: &str) -> Vec<u8> {
        let mut body = Vec::with_capacity(256);
        push(&mut body, b"MQTT");
        body.extend([LEVEL_3_1_1, self.flags | HAS_USER | HAS_PASSWORD]);
        body.extend(self.keep_alive);
        push(&mut body, self.client_id.as_bytes());
        if let Some((topic, payload)) = &self.will {
            push(&mut body, topic);
            push(&mut body, payload);
        }
        push(&mut body, user.as_bytes());
        push(&mut body, password.as_bytes());
        let mut packet = vec![CONNECT];
        push_length(&mut packet, body.len());
        packet.extend(body);
        packet
    }
}

async fn read_length(stream: &mut (impl AsyncRead + Unpin)) -> Result<usize, ConnectError> {
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let byte = stream.read_u8().await?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(length);
        }
    }
    Err(ConnectError::Malformed("its length has more than four bytes"))
}

/// Two bytes of length, then so many.
fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], ConnectError> {
    let cut_off = ConnectError::Malformed("it is cut off");
    let Some((length, after)) = rest.split_first_chunk::<2>() else { return Err(cut_off) };
    let Some((found, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))
    else {
        return Err(cut_off);
    };
    *rest = after;
    Ok(found)
}

/// Fields are bounded by [`MAX_CONNECT_BYTES`] or our own, far below what two bytes can count.
fn push(body: &mut Vec<u8>, field: &[u8]) {
    let length = u16::try_from(field.len()).unwrap_or(u16::MAX);
    body.extend(length.to_be_bytes());
    body.extend(&field[..usize::from(length)]);
}

fn push_length(packet: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or(0);
        length >>= 7;
        if length == 0 {
            packet.push(low);
            return;
        }
        packet.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_will() -> Vec<u8> {
        let mut body = Vec::new();
        push(&mut body, b"MQTT");
        // User, password, will retained with QoS 1, clean session.
        body.extend([4, 0xee, 0, 120]);
        for part in ["a-node", "its/topic", "gone", "user", "secret"] {
            push(&mut body, part.as_bytes());
        }
        body
    }

    #[test]
    fn a_login_is_replaced_and_everything_else_is_kept() {
        let connect = Connect::parse(&with_will()).unwrap();
        let packet = connect.with_login("a-node", &"x".repeat(64));
        assert_eq!(packet[0], 0x10);
        assert_eq!(usize::from(packet[1]), packet.len() - 2);
        assert!(!String::from_utf8_lossy(&packet).contains("secret"));
        assert_eq!(Connect::parse(&packet[2..]).unwrap(), connect);
        // Longer than one byte of length can say.
        let long = connect.with_login("a-node", &"x".repeat(200));
        assert_eq!(usize::from(long[1] & 0x7f) + (usize::from(long[2]) << 7), long.len() - 3);
        assert_eq!(Connect::parse(&long[3..]).unwrap(), connect);
    }

    #[test]
    fn every_cut_and_every_wrong_first_byte_is_refused() {
        let body = with_will();
        for length in 0..body.len() {
            assert!(Connect::parse(&body[..length]).is_err(), "{length}");
        }
        let mut longer = body.clone();
        longer.push(0);
        assert!(matches!(Connect::parse(&longer), Err(ConnectError::Malformed(_))));
        let changed = |at: usize, to: u8| {
            let mut body = body.clone();
            body[at] = to;
            Connect::parse(&body).unwrap_err()
        };
        assert!(matches!(changed(6, 5), ConnectError::Version(5)));
        assert!(matches!(changed(7, 0xef), ConnectError::Malformed(_)));
        assert!(matches!(changed(12, 0xff), ConnectError::Malformed(_)));
    }

    #[tokio::test]
    async fn what_is_no_connect_or_too_large_is_refused_unread() {
        let read = async |bytes: &[u8]| Connect::read(&mut &bytes[..]).await.unwrap_err();
        assert!(matches!(read(&[0x30, 0]).await, ConnectError::NotConnect));
        assert!(matches!(read(&[0x10, 0xff, 0xff, 0x7f]).await, ConnectError::TooLarge(2_097_151)));
        assert!(matches!(
            read(&[0x10, 0xff, 0xff, 0xff, 0xff, 1]).await,
            ConnectError::Malformed(_)
        ));
        assert!(matches!(read(&[0x10, 20, 0]).await, ConnectError::Io(_)));
    }
}
