//! The parts of an image reference, `[host[:port]/]path[:tag][@digest]`, as Docker reads it.

use std::fmt;
use std::str::FromStr;

use protocol::id::Digest;

/// The registry of references without a host.
pub const DOCKER_HUB: &str = "docker.io";
/// Longer names are refused by registries.
const MAX_NAME_BYTES: usize = 255;
const MAX_TAG_BYTES: usize = 128;

/// A reference in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The registry, where it is named.
    pub host: Option<String>,
    /// The repository's path there, without Docker Hub's implied `library/`.
    pub path: String,
    /// Where it is named.
    pub tag: Option<String>,
    /// Where it is pinned already.
    pub digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not an image reference: {rule}")]
pub struct InvalidReference {
    value: String,
    rule: &'static str,
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = |rule| InvalidReference { value: text.chars().take(120).collect(), rule };
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|_| invalid("after `@` comes `sha256:` and 64 hexadecimal digits"))?;
                (name, Some(digest))
            }
        };
        let last_part = name.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match name[last_part..].split_once(':') {
            Some((last, tag)) => (&name[..last_part + last.len()], Some(tag)),
            None => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid("a tag has letters, digits, `_`, `.` and `-`, at most 128"));
        }
        let (host, path) = match name.split_once('/') {
            Some((first, rest)) if is_host(first) => (Some(first), rest),
            Some(_) | None => (None, name),
        };
        if path.is_empty() || !path.split('/').all(is_part) {
            return Err(invalid(
                "a name has lower-case letters and digits, with single `.`, `_`, `-` or `/` between them",
            ));
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(invalid("a name has at most 255 characters"));
        }
        Ok(Self {
            host: host.map(str::to_owned),
            path: path.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

impl Reference {
    /// The registry, Docker Hub where none is named.
    #[must_use]
    pub fn registry(&self) -> &str {
        self.host.as_deref().unwrap_or(DOCKER_HUB)
    }

    /// The path in the registry's API: Docker Hub keeps official images under `library/`.
    #[must_use]
    pub fn repository(&self) -> String {
        if self.registry() == DOCKER_HUB && !self.path.contains('/') {
            return format!("library/{}", self.path);
        }
        self.path.clone()
    }

    /// The tag, `latest` where none is named.
    #[must_use]
    pub fn tag_or_latest(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// Host and path, as in `RepoDigests`.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.host {
            Some(host) => format!("{host}/{}", self.path),
            None => self.path.clone(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// The first part is a registry when it looks like a host: a dot, a port, or `localhost`.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains('.') || part.contains(':')
}

fn is_tag(tag: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=MAX_TAG_BYTES).contains(&tag.len())
        && tag.bytes().all(inner)
        && !tag.starts_with(['.', '-'])
}

fn is_part(part: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inner = |b: u8| plain(b) || matches!(b, b'.' | b'_' | b'-');
    let edge = |b: Option<u8>| b.is_some_and(plain);
    edge(part.bytes().next())
        && edge(part.bytes().next_back())
        && part.bytes().all(inner)
        && !part.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `host|path|tag|digest`, `-` for none.
    fn check(text: &str, expected: &str) {
        let shown = match text.parse::<Reference>() {
            Err(error) => format!("error: {}", error.rule),
            Ok(r) => format!(
                "{}|{}|{}|{}",
                r.host.as_deref().unwrap_or("-"),
                r.path,
                r.tag.as_deref().unwrap_or("-"),
                r.digest.as_ref().map_or("-", |d| &d.as_str()[..10]),
            ),
        };
        assert!(shown.starts_with(expected), "{text}: {shown}");
    }

    #[test]
    fn references_are_read_as_docker_reads_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        check("redis", "-|redis|-|-");
        check("redis:7.2-alpine", "-|redis|7.2-alpine|-");
        check("team/web:v1", "-|team/web|v1|-");
        check("registry.local:5000/web", "registry.local:5000|web|-|-");
        check("registry.local:5000/team/web:v2.0.0", "registry.local:5000|team/web|v2.0.0|-");
        check("localhost/web", "localhost|web|-|-");
        check("ghcr.io/a/b/c:x", "ghcr.io|a/b/c|x|-");
        check(&format!("web@{digest}"), "-|web|-|sha256:aaa");
        check(&format!("r.io/web:v1@{digest}"), "r.io|web|v1|sha256:aaa");
    }

    #[test]
    fn what_is_not_a_reference_is_refused_with_the_rule() {
        for text in ["", "Web", "web:", "web:.x", "web@sha256:abc", "a//b", "/web", "web-", "a..b"]
        {
            check(text, "error");
        }
        check(&"a".repeat(300), "error: a name has at most");
    }

    #[test]
    fn official_images_of_docker_hub_live_under_library() {
        let repository = |text: &str| text.parse::<Reference>().unwrap().repository();
        assert_eq!(repository("redis:7"), "library/redis");
        assert_eq!(repository("team/web"), "team/web");
        assert_eq!(repository("r.io/web"), "web");
    }
}
