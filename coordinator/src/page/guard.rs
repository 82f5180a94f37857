//! Who may ask the page's server: nobody but the browser tab that was opened with the token. Decides only.
//!
//! Everybody on this machine reaches a port of 127.0.0.1, and every web page can make a browser ask there. So:
//! - the host must be this one by number or as `localhost`: a name of somebody else that points here (DNS rebinding) is another host;
//! - the token opens the page and sets a cookie that scripts cannot read and other sites cannot send;
//! - cookies are sent to every port of a host, also to that of another user's server: what asks the coordinator brings the token
//!   too, from the tab's own storage, in a header that no other origin may set;
//! - what changes something must say that it comes from this origin.

use axum::http::{HeaderMap, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use sha2::{Digest as _, Sha256};

use crate::data_dir::{DataDirError, random};

/// Carries the token of a tab.
pub(super) const TOKEN_HEADER: &str = "x-pith-page";
/// The parameter that carries it once.
const PARAMETER: &str = "token";
const FETCH_SITE: &str = "sec-fetch-site";

/// What scripts, styles and requests a browser may make of the page: this origin's, and no frame around it.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// 256 random bits: whoever has it may use the page.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// Where there is no randomness.
    pub fn new() -> Result<Self, DataDirError> {
        let bytes: [u8; 32] = random()?;
        Ok(Self(BASE64URL.encode(bytes)))
    }

    /// The address that opens the page on this port.
    #[must_use]
    pub fn address(&self, port: u16) -> String {
        format!("http://127.0.0.1:{port}/?{PARAMETER}={}", self.0)
    }

    /// Compared by hashes: how long it takes says nothing of how much is right.
    fn is(&self, said: &str) -> bool {
        Sha256::digest(self.0.as_bytes()) == Sha256::digest(said.as_bytes())
    }

    /// The cookie that stands for it; derived, so that a cookie that was seen is not the token.
    fn cookie(&self) -> String {
        BASE64URL.encode(Sha256::digest(format!("cookie of {}", self.0)))
    }
}

/// Who is let in.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    port: u16,
    token: Token,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The document.
    Document,
    /// A file of it.
    File,
    /// Something of the coordinator.
    Coordinator,
}

/// How a request passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pass {
    /// With the token in its address: this `Set-Cookie` goes with the answer.
    Opens(String),
    /// By what it has.
    Known,
}

/// Why it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("this is not the host of this page")]
    Host,
    #[error("another page asks for this")]
    Origin,
    #[error(
        "open the address that `pith page` has printed; that of an earlier run does not open this one"
    )]
    Token,
}

impl Guard {
    pub(super) const fn new(port: u16, token: Token) -> Self {
        Self { port, token }
    }

    /// Whether this request may pass.
    ///
    /// # Errors
    /// Says why not.
    pub(super) fn check(
        &self,
        (method, wanted): (&Method, Wanted),
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Pass, Refusal> {
        let host = one(headers, header::HOST.as_str()).ok_or(Refusal::Host)?;
        if !self.hosts().iter().any(|own| own == host) {
            return Err(Refusal::Host);
        }
        let says_origin = headers.contains_key(header::ORIGIN);
        let is_own = one(headers, header::ORIGIN.as_str()) == Some(&format!("http://{host}"));
        let looks = method == Method::GET;
        // Browsers say it with every change, and of what looks where it goes to another origin.
        if !is_own && (says_origin || !looks) {
            return Err(Refusal::Origin);
        }
        if wanted == Wanted::Document {
            let said = query.and_then(|query| {
                query.split('&').find_map(|pair| pair.strip_prefix(PARAMETER)?.strip_prefix('='))
            });
            return match said {
                Some(said) if looks && self.token.is(said) => Ok(Pass::Opens(self.set_cookie())),
                // A wrong one is not mended by a cookie: whoever has that needs no token.
                Some(_) => Err(Refusal::Token),
                None if self.has_cookie(headers) => Ok(Pass::Known),
                None => Err(Refusal::Token),
            };
        }
        // Browsers say who makes them ask; those that do not say it are held by the cookie and the header alone.
        if headers.contains_key(FETCH_SITE) && one(headers, FETCH_SITE) != Some("same-origin") {
            return Err(Refusal::Origin);
        }
        if !self.has_cookie(headers) {
            return Err(Refusal::Token);
        }
        match wanted {
            Wanted::Document | Wanted::File => Ok(Pass::Known),
            Wanted::Coordinator => match one(headers, TOKEN_HEADER) {
                Some(said) if self.token.is(said) => Ok(Pass::Known),
                Some(_) | None => Err(Refusal::Token),
            },
        }
    }

    fn hosts(&self) -> [String; 2] {
        [format!("127.0.0.1:{}", self.port), format!("localhost:{}", self.port)]
    }

    /// Cookies know no port: its name does.
    fn name(&self) -> String {
        format!("pith-page-{}", self.port)
    }

    fn set_cookie(&self) -> String {
        format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.name(), self.token.cookie())
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let (name, value) = (self.name(), Sha256::digest(self.token.cookie()));
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs =
            lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        pairs.any(|(key, said)| key.trim() == name && Sha256::digest(said.trim()) == value)
    }
}

/// The value of a header that stands there once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() {
        return None;
    }
    first.to_str().ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    const PORT: u16 = 40_123;

    fn guard() -> Guard {
        Guard::new(PORT, Token("right".to_owned()))
    }

    /// What a tab sends that was opened with the token.
    fn own() -> Vec<(&'static str, String)> {
        let cookie = format!("other=1; pith-page-{PORT}={}", guard().token.cookie());
        vec![
            ("host", format!("127.0.0.1:{PORT}")),
            ("origin", format!("http://127.0.0.1:{PORT}")),
            ("sec-fetch-site", "same-origin".to_owned()),
            ("cookie", cookie),
            (TOKEN_HEADER, "right".to_owned()),
        ]
    }

    fn with(name: &'static str, value: &str) -> Vec<(&'static str, String)> {
        let mut sent = own();
        sent.retain(|(other, _)| *other != name);
        sent.push((name, value.to_owned()));
        sent
    }

    fn without(name: &str) -> Vec<(&'static str, String)> {
        own().into_iter().filter(|(other, _)| *other != name).collect()
    }

    fn check(
        method: &Method,
        wanted: Wanted,
        query: Option<&str>,
        sent: &[(&'static str, String)],
    ) -> Result<Pass, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        guard().check((method, wanted), query, &headers)
    }

    #[test]
    fn the_token_opens_the_page_and_the_cookie_keeps_it_open() {
        let fresh = [("host", format!("localhost:{PORT}")), ("sec-fetch-site", "none".to_owned())];
        let open = |query| check(&Method::GET, Wanted::Document, query, &fresh);
        let Ok(Pass::Opens(cookie)) = open(Some("token=right")) else { panic!("it opens") };
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
        assert!(!cookie.contains("right"), "a cookie that was seen is not the token");
        for query in
            [None, Some("token="), Some("token=wrong"), Some("xtoken=right"), Some("token=right2")]
        {
            assert_eq!(open(query), Err(Refusal::Token), "{query:?}");
        }
        let kept = check(&Method::GET, Wanted::Document, None, &without("origin"));
        assert_eq!(kept, Ok(Pass::Known), "a reload");
        let wrong = check(&Method::GET, Wanted::Document, Some("token=old"), &own());
        assert_eq!(wrong, Err(Refusal::Token));
    }

    #[test]
    fn only_this_host_is_answered_whatever_else_is_right() {
        let rebound = format!("evil.example:{PORT}");
        let longer = format!("127.0.0.1:{PORT}.evil.example");
        let by_name = format!("[::1]:{PORT}");
        for host in
            [rebound.as_str(), &longer, &by_name, "evil.example", "127.0.0.1", "127.0.0.1:1", ""]
        {
            for (wanted, query) in [
                (Wanted::Document, Some("token=right")),
                (Wanted::File, None),
                (Wanted::Coordinator, None),
            ] {
                let refused = check(&Method::GET, wanted, query, &with("host", host));
                assert_eq!(refused, Err(Refusal::Host), "{host}");
            }
        }
        let ask = |sent: &[_]| check(&Method::GET, Wanted::Coordinator, None, sent);
        let mut two = own();
        two.push(("host", "evil.example".to_owned()));
        assert_eq!(ask(&two), Err(Refusal::Host));
        assert_eq!(ask(&without("host")), Err(Refusal::Host));
    }

    #[test]
    fn the_coordinator_is_asked_with_cookie_and_token_and_not_with_either_alone() {
        let ask = |sent: &[_]| check(&Method::GET, Wanted::Coordinator, None, sent);
        assert_eq!(ask(&own()), Ok(Pass::Known));
        assert_eq!(ask(&without("cookie")), Err(Refusal::Token));
        assert_eq!(
            ask(&without(TOKEN_HEADER)),
            Err(Refusal::Token),
            "the cookie is sent to any port"
        );
        assert_eq!(ask(&with(TOKEN_HEADER, "wrong")), Err(Refusal::Token));
        let of_another_port = format!("pith-page-1={}", guard().token.cookie());
        assert_eq!(ask(&with("cookie", &of_another_port)), Err(Refusal::Token));
        assert_eq!(ask(&with("cookie", &format!("pith-page-{PORT}=x"))), Err(Refusal::Token));
        let file = |sent: &[_]| check(&Method::GET, Wanted::File, None, sent);
        assert_eq!(
            file(&without(TOKEN_HEADER)),
            Ok(Pass::Known),
            "a browser asks for files by itself"
        );
        assert_eq!(file(&without("cookie")), Err(Refusal::Token));
    }

    #[test]
    fn what_changes_something_says_that_it_comes_from_this_page() {
        let change = |sent: &[_]| check(&Method::POST, Wanted::Coordinator, None, sent);
        assert_eq!(change(&own()), Ok(Pass::Known));
        assert_eq!(change(&without("origin")), Err(Refusal::Origin));
        let port = PORT + 1;
        for origin in [
            "null",
            "http://evil.example",
            &format!("http://127.0.0.1:{port}"),
            &format!("http://localhost:{PORT}"),
        ] {
            assert_eq!(change(&with("origin", origin)), Err(Refusal::Origin), "{origin}");
        }
        for site in ["same-site", "cross-site", "none"] {
            assert_eq!(change(&with("sec-fetch-site", site)), Err(Refusal::Origin), "{site}");
        }
        assert_eq!(change(&without("sec-fetch-site")), Ok(Pass::Known), "an older browser");
        let another = with("origin", "http://evil.example");
        let looked = check(&Method::GET, Wanted::Coordinator, None, &another);
        assert_eq!(looked, Err(Refusal::Origin), "nor may another page look");
    }

    #[test]
    fn the_policy_lets_nothing_in_from_elsewhere_and_nobody_frame_the_page() {
        let rules: Vec<&str> = POLICY.split("; ").map(str::trim).collect();
        assert_eq!(rules[0], "default-src 'none'");
        for rule in [
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(rules.contains(&rule), "{rule}");
        }
        assert!(!POLICY.contains("unsafe") && !POLICY.contains('*') && !POLICY.contains("http"));
    }

    #[test]
    fn tokens_are_long_differ_and_are_not_printed_by_accident() {
        let (one, other) = (Token::new().unwrap(), Token::new().unwrap());
        assert_ne!(one.0, other.0);
        assert_eq!(one.0.len(), 43);
        assert!(!format!("{one:?}").contains(&one.0));
        assert_eq!(one.address(80), format!("http://127.0.0.1:80/?token={}", one.0));
    }
}
