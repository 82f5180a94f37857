//! Archives of images: what they say of themselves, where they are, and what a server's head means for what is kept.

use agent::download::{Head, Next, next};
use coordinator::archive_file::{self, ArchiveError};
use protocol::archive::Location;

use crate::kind_and_rest;

/// A tar, or, behind a line that says so, a place or a head.
pub(crate) fn archive(bytes: &[u8]) {
    match kind_and_rest(bytes) {
        Some(("location", rest)) => location(rest),
        Some(("head", rest)) => head(rest),
        Some(_) | None => tar(bytes),
    }
}

fn tar(bytes: &[u8]) {
    match archive_file::read(bytes) {
        Ok(inside) => {
            let again = archive_file::read(bytes).expect("what was read is read again");
            assert_eq!(inside, again);
        }
        Err(ArchiveError::Compressed) => assert!(bytes.len() >= 3),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn location(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(read) = text.parse::<Location>() else { return };
    assert_eq!(
        read.to_string().parse::<Location>().as_ref(),
        Ok(&read),
        "it is written as it is read"
    );
    let followed = read.followed(text);
    assert!(
        !matches!(followed, Some(Location::Coordinator(_))),
        "the web leads nobody to the coordinator"
    );
    if let Location::Web { authority, path, .. } = &read {
        assert!(read.host_and_port().is_some_and(|(host, port)| !host.is_empty() && port > 0));
        assert!(path.starts_with('/') && !authority.contains(['/', '@', '?', '#']));
    }
}

/// Bytes: kept, of how many, status, and header lines.
fn head(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.lines();
    let mut number = || lines.next().and_then(|line| line.parse::<u64>().ok());
    let (Some(kept), Some(all), Some(status)) = (number(), number(), number()) else { return };
    let status = u16::try_from(status).ok().and_then(|s| http::StatusCode::from_u16(s).ok());
    let Some(status) = status else { return };
    let mut headers = http::HeaderMap::new();
    for line in lines {
        let Some((name, value)) = line.split_once(": ") else { continue };
        if let (Ok(name), Ok(value)) = (name.parse::<http::HeaderName>(), value.parse()) {
            headers.insert(name, value);
        }
    }
    let head = Head::of(status, &headers);
    if next(kept, all, None, &head) == Next::Append {
        assert_eq!(head.range.map(|(first, _)| first), Some(kept));
        assert!(kept > 0);
    }
}
