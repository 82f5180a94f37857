//! An image in a file: where archives are, and what a release says of one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::Digest;

/// A larger archive is refused: boards have cards of some gigabytes.
pub const MAX_ARCHIVE_BYTES: u64 = 16 << 30;
/// Characters of where it is.
const MAX_LOCATION_CHARS: usize = 2_000;
const RULE: &str = "expected \"https://HOST/FILE.tar\", \"http://HOST/FILE.tar\", or \"pith://SHA256\" as `pith push` prints it";
/// Where the coordinator's port gives archives to nodes; the sha256 follows.
pub const BLOBS_PATH: &str = "/v1/blobs/";
/// Who a node is that asks there; its certificate must be that node's.
pub const NODE_HEADER: &str = "pith-node";

/// What an archive is pinned to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Of the file, every byte: checked before Docker sees one.
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
    /// The image's configuration, which is its id in Docker.
    pub image_id: Digest,
    /// The image's manifest, where the archive names one: its id in a Docker that keeps images in containerd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
}

/// Where an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// At the coordinator, wherever that is now: `pith://SHA256`.
    Coordinator(Digest),
    /// On a web server.
    Web {
        /// With TLS.
        is_secure: bool,
        /// `host` or `host:port`.
        authority: String,
        /// With its query; begins with `/`.
        path: String,
    },
}

/// Not where an archive could be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{RULE}")]
pub struct InvalidLocation;

impl FromStr for Location {
    type Err = InvalidLocation;

    fn from_str(text: &str) -> Result<Self, InvalidLocation> {
        if text.len() > MAX_LOCATION_CHARS || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(InvalidLocation);
        }
        let (scheme, rest) = text.split_once("://").ok_or(InvalidLocation)?;
        let is_secure = match scheme {
            "pith" => {
                let digest = format!("sha256:{rest}").parse().map_err(|_| InvalidLocation)?;
                return Ok(Self::Coordinator(digest));
            }
            "https" => true,
            "http" => false,
            _ => return Err(InvalidLocation),
        };
        // What follows `#` is never sent.
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) if rest[at..].starts_with('/') => (&rest[..at], rest[at..].to_owned()),
            Some(at) => (&rest[..at], format!("/{}", &rest[at..])),
            None => (rest, "/".to_owned()),
        };
        if !is_authority(authority) {
            return Err(InvalidLocation);
        }
        Ok(Self::Web { is_secure, authority: authority.to_owned(), path })
    }
}

/// A host, and perhaps a port; no login: it would stand in every release.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, after)) => {
                (host, after.strip_prefix(':').or(after.is_empty().then_some("1")))
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("1")),
        },
    };
    let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    !host.is_empty()
        && host.bytes().all(is_host)
        && port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

impl Location {
    /// A web server's host, without brackets, and its port.
    #[must_use]
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        let Self::Web { is_secure, authority, .. } = self else { return None };
        let usual = if *is_secure { 443 } else { 80 };
        if let Some(rest) = authority.strip_prefix('[') {
            let (host, after) = rest.split_once(']')?;
            let port = after.strip_prefix(':').and_then(|port| port.parse().ok());
            return Some((host, port.unwrap_or(usual)));
        }
        match authority.split_once(':') {
            Some((host, port)) => Some((host, port.parse().ok()?)),
            None => Some((authority, usual)),
        }
    }

    /// Where a redirection leads that an answer from here names; none: nowhere that is known.
    #[must_use]
    pub fn followed(&self, to: &str) -> Option<Self> {
        let Self::Web { is_secure, authority, .. } = self else { return None };
        let scheme = if *is_secure { "https" } else { "http" };
        let whole = if let Some(rest) = to.strip_prefix("//") {
            format!("{scheme}://{rest}")
        } else if to.starts_with('/') {
            format!("{scheme}://{authority}{to}")
        } else {
            to.to_owned()
        };
        match whole.parse() {
            Ok(Self::Coordinator(_)) | Err(InvalidLocation) => None,
            Ok(web @ Self::Web { .. }) => Some(web),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator(sha256) => write!(f, "pith://{}", sha256.hex()),
            Self::Web { is_secure, authority, path } => {
                let scheme = if *is_secure { "https" } else { "http" };
                write!(f, "{scheme}://{authority}{path}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, u16, &str)>) {
        let location = text.parse::<Location>().ok();
        let seen = location.as_ref().and_then(|location| {
            let Location::Web { path, .. } = location else { return None };
            let (host, port) = location.host_and_port()?;
            Some((host, port, path.as_str()))
        });
        assert_eq!(seen, expected, "{text}");
    }

    #[test]
    fn a_web_address_is_host_port_and_path() {
        check("https://a.example/app.tar", Some(("a.example", 443, "/app.tar")));
        check("http://10.0.0.7:8000/x/app.tar?v=2#top", Some(("10.0.0.7", 8000, "/x/app.tar?v=2")));
        check("http://[fd00::1]:81/a", Some(("fd00::1", 81, "/a")));
        check("http://[fd00::1]/a", Some(("fd00::1", 80, "/a")));
        check("http://a.example", Some(("a.example", 80, "/")));
        check("http://a.example?x", Some(("a.example", 80, "/?x")));
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "app.tar",
            "ftp://a/b",
            "http://",
            "http:///x",
            "http://user:pw@a/b",
            "http://a:0/b",
            "http://a:99999/b",
            "http://a b/c",
            "https://[::1/x",
            "pith://abc",
            "http://a\u{e9}/x",
        ] {
            assert_eq!(text.parse::<Location>(), Err(InvalidLocation), "{text}");
        }
    }

    #[test]
    fn the_coordinators_archives_are_named_by_their_content_alone() {
        let hex = "ab".repeat(32);
        let location: Location = format!("pith://{hex}").parse().unwrap();
        let Location::Coordinator(digest) = &location else { panic!("{location:?}") };
        assert_eq!(digest.hex(), hex);
        assert_eq!(location.to_string(), format!("pith://{hex}"));
        assert_eq!(location.followed("http://a/b"), None);
    }

    #[test]
    fn a_redirection_leads_to_another_web_address_alone() {
        let from: Location = "https://a.example:444/x/y".parse().unwrap();
        let to = |text: &str| from.followed(text).map(|to| to.to_string());
        assert_eq!(to("/z"), Some("https://a.example:444/z".to_owned()));
        assert_eq!(to("//b.example/z"), Some("https://b.example/z".to_owned()));
        assert_eq!(to("http://c.example/z"), Some("http://c.example/z".to_owned()));
        assert_eq!(to(&format!("pith://{}", "ab".repeat(32))), None);
        assert_eq!(to("file:///etc/passwd"), None);
    }
}
