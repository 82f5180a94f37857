//! The line that an operator pastes on a board: `pith1_` and base64url of JSON.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::id::{FleetId, hex, sha256_hex};
use crate::whereabouts::{MAX_ADDRESSES, is_address};

/// What every token of this version begins with.
pub const TOKEN_PREFIX: &str = "pith1_";
/// Longer text is not looked at.
const MAX_TOKEN_CHARS: usize = 4096;
const SECRET_BYTES: usize = 32;

/// Which token: 16 hexadecimal digits; not secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(String);

/// The right to join once. Its secret is shown to whoever holds it: it is never logged, and stored as a hash.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The fleet to join.
    pub fleet: FleetId,
    /// Where the coordinator is, `host:port`; tried in this order.
    pub addresses: Vec<String>,
    /// sha256 of the DER of the fleet's CA, in hexadecimal: it must be in the chain that the coordinator shows.
    pub ca_sha256: String,
    /// Which token.
    pub id: TokenId,
    /// 32 random bytes, base64url.
    pub secret: String,
}

/// A new token's own part, before fleet, addresses and CA are added.
#[derive(Clone)]
pub struct Offer {
    /// Which token.
    pub id: TokenId,
    /// Its secret.
    pub secret: String,
}

/// Why text is not a token; says what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Nothing was given.
    #[error("the token is empty: paste the whole line that `pith node token` prints")]
    Empty,
    /// Another thing, or a later version's.
    #[error("this is not a token: it begins with `{TOKEN_PREFIX}`, and this with `{0}`")]
    Prefix(String),
    /// Too long.
    #[error("this is not a token: {0} characters are too many")]
    TooLong(usize),
    /// A character that base64url does not have; most often a line break or a part that was not copied.
    #[error("the token is damaged at character {0}: copy the whole line again")]
    Damaged(usize),
    /// Cut off, or changed.
    #[error("the token is cut off or damaged: copy the whole line again ({0})")]
    Content(String),
    /// A part that cannot be right.
    #[error("the token's {part} is wrong: {problem}")]
    Part {
        /// Which.
        part: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
}

impl TokenId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TokenId {
    type Error = BadToken;
    fn try_from(text: String) -> Result<Self, BadToken> {
        let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if text.len() != 16 || !digits {
            return Err(BadToken::Part {
                part: "id",
                problem: "16 hexadecimal digits are expected",
            });
        }
        Ok(Self(text))
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Offer {
    /// From random bytes drawn by the caller. The id is the head of the secret's hash, so that two never meet.
    #[must_use]
    pub fn from_random(bytes: [u8; SECRET_BYTES]) -> Self {
        let secret = BASE64URL.encode(bytes);
        let id = TokenId(hex(&Sha256::digest(format!("token/v1\n{secret}")))[..16].to_owned());
        Self { id, secret }
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offer({}, …)", self.id)
    }
}

impl Token {
    /// The line to paste.
    #[must_use]
    pub fn encode(&self) -> String {
        let json = serde_json::to_vec(self).expect("a token of strings serialises");
        format!("{TOKEN_PREFIX}{}", BASE64URL.encode(json))
    }

    /// What the coordinator keeps of a secret.
    #[must_use]
    pub fn secret_sha256(secret: &str) -> String {
        sha256_hex(secret.as_bytes())
    }

    fn check(self) -> Result<Self, BadToken> {
        let part = |part, problem| Err(BadToken::Part { part, problem });
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if self.ca_sha256.len() != 64 || !self.ca_sha256.bytes().all(is_hex) {
            return part("hash of the CA", "64 hexadecimal digits are expected");
        }
        if BASE64URL.decode(&self.secret).map_or(0, |bytes| bytes.len()) != SECRET_BYTES {
            return part("secret", "32 bytes are expected");
        }
        if self.addresses.is_empty() || self.addresses.len() > MAX_ADDRESSES {
            return part("list of addresses", "1 to 8 are expected");
        }
        if !self.addresses.iter().all(|address| is_address(address)) {
            return part("list of addresses", "each is host:port");
        }
        Ok(self)
    }
}

impl FromStr for Token {
    type Err = BadToken;
    fn from_str(text: &str) -> Result<Self, BadToken> {
        let text = text.trim();
        if text.is_empty() {
            return Err(BadToken::Empty);
        }
        if text.len() > MAX_TOKEN_CHARS {
            return Err(BadToken::TooLong(text.len()));
        }
        let Some(body) = text.strip_prefix(TOKEN_PREFIX) else {
            // Never more than the prefix's length: the rest may be a secret of something else.
            let begin = text.chars().take(TOKEN_PREFIX.len()).flat_map(char::escape_default);
            return Err(BadToken::Prefix(begin.collect()));
        };
        let foreign = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if let Some(at) = body.chars().position(foreign) {
            return Err(BadToken::Damaged(TOKEN_PREFIX.len() + at + 1));
        }
        let json = BASE64URL.decode(body).map_err(|_| BadToken::Content("base64".into()))?;
        let token: Self = serde_json::from_slice(&json).map_err(|error| {
            BadToken::Content(format!("line {}, column {}", error.line(), error.column()))
        })?;
        token.check()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} of {}, …)", self.id, self.fleet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        let Offer { id, secret } = Offer::from_random([7; 32]);
        Token {
            fleet: FleetId::from_random([0xf1; 16]),
            addresses: vec!["10.0.0.2:8883".into(), "[fd00::1]:8883".into()],
            ca_sha256: sha256_hex(b"ca"),
            id,
            secret,
        }
    }

    fn check(text: &str, says: &str) {
        let error = text.parse::<Token>().unwrap_err().to_string();
        assert!(error.contains(says), "`{says}` is not in: {error}");
        assert!(!error.contains(&token().secret), "{error}");
    }

    #[test]
    fn a_token_is_one_word_and_reads_back() {
        let line = token().encode();
        assert!(line.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
        assert_eq!(format!(" {line}\n").parse::<Token>(), Ok(token()));
    }

    #[test]
    fn what_is_wrong_with_a_token_is_said() {
        let line = token().encode();
        check("", "empty");
        check("K10abcdef", "begins with `pith1_`, and this with `K10abc`");
        check(&line[..line.len() - 9], "cut off");
        check(&line.replacen("eyJ", "ey\n", 1), "damaged at character 9");
        check(&format!("pith1_{}", "A".repeat(5000)), "too many");
        let changed = |change: fn(&mut Token)| {
            let mut token = token();
            change(&mut token);
            token.encode()
        };
        check(&changed(|t| t.ca_sha256 = "00".into()), "hash of the CA is wrong");
        check(&changed(|t| t.secret = "AAAA".into()), "secret is wrong");
        check(&changed(|t| t.addresses.clear()), "addresses is wrong: 1 to 8");
        check(&changed(|t| t.addresses = vec!["fd00::1".into()]), "each is host:port");
    }

    #[test]
    fn a_token_is_not_printed() {
        assert!(!format!("{:?}", token()).contains(&token().secret));
        assert!(!format!("{:?}", Offer::from_random([7; 32])).contains(&token().secret));
    }
}
