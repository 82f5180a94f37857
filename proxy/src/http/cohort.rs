//! What a request says about its cohort: a header for one request, a cookie for all of a client's.
//!
//! Owns both notations. Must not decide who serves; `live::split` does.

use crate::live::split::Claim;
use crate::table::{POINTS, Split};
use std::fmt::Write;

/// How long a client keeps its point, in seconds: a day.
const COOKIE_MAX_AGE_S: u32 = 86_400;

/// The claim of a request with these lines. The header goes before the cookie.
pub(super) fn claim(headers: &[httparse::Header<'_>], split: &Split) -> Option<Claim> {
    let asked = split.header.as_ref().and_then(|name| {
        values(headers, name).find_map(|value| match value {
            b"canary" => Some(Claim::Candidate),
            b"stable" => Some(Claim::Stable),
            _ => None,
        })
    });
    asked.or_else(|| {
        let name = split.cookie.as_ref()?;
        values(headers, "cookie").find_map(|value| point(value, name)).map(Claim::Point)
    })
}

/// Appends the line that lets the client keep its point, if the split wants that (RFC 6265 §4.1).
pub(super) fn remember(claim: Claim, split: Option<&Split>, out: &mut String) {
    let (Claim::Point(point), Some(name)) = (claim, split.and_then(|one| one.cookie.as_ref()))
    else {
        return;
    };
    // Writing to a String does not fail.
    let _ = write!(
        out,
        "Set-Cookie: {name}={point}; Path=/; Max-Age={COOKIE_MAX_AGE_S}; SameSite=Lax; HttpOnly\r\n"
    );
}

fn values<'a>(headers: &[httparse::Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let named = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.map(|header| header.value)
}

/// The point in one `Cookie` line; only a plain number in range is trusted.
fn point(line: &[u8], name: &str) -> Option<u32> {
    line.split(|byte| *byte == b';').find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        let is_plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok()?.parse().ok()?;
        (is_plain && number < POINTS).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[(&'static str, &'static str)]) -> Option<Claim> {
        let split = Split {
            release: "new".into(),
            share: 5000,
            cookie: Some("side".into()),
            header: Some("X-Cohort".into()),
        };
        let headers: Vec<_> = lines
            .iter()
            .map(|&(name, value)| httparse::Header { name, value: value.as_bytes() })
            .collect();
        claim(&headers, &split)
    }

    #[test]
    fn a_cookie_is_trusted_only_as_a_plain_number_in_range() {
        for (line, expected) in [
            ("side=0", Some(0)),
            ("a=1; side=9999;b=2", Some(9999)),
            ("side=x; side=7", Some(7)),
            ("side=10000", None),
            ("side=99999999999999999999", None),
            ("side=+7", None),
            ("side=-7", None),
            ("side=7x", None),
            ("side=\"7\"", None),
            ("side=", None),
            ("side", None),
            ("aside=7", None),
            ("sides=7", None),
            ("Side=7", None),
        ] {
            assert_eq!(check(&[("Cookie", line)]), expected.map(Claim::Point), "{line}");
        }
        assert_eq!(check(&[("cookie", "a=1"), ("cookie", "side=7")]), Some(Claim::Point(7)));
    }

    #[test]
    fn the_header_goes_before_the_cookie_and_other_values_of_it_say_nothing() {
        let cookie = ("Cookie", "side=7");
        assert_eq!(check(&[cookie, ("x-cohort", "canary")]), Some(Claim::Candidate));
        assert_eq!(check(&[("X-COHORT", "stable"), cookie]), Some(Claim::Stable));
        assert_eq!(check(&[("X-Cohort", "beta"), cookie]), Some(Claim::Point(7)));
        assert_eq!(check(&[("X-Cohort", "beta")]), None);
    }
}
