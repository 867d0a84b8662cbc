//! Requests that a browser was lured into: a page of another server names a host that it made point
//! here (DNS rebinding), or sends a form to this port.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::Authority};

/// Where a browser says which server the page is of.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// What a page of this server says it sends from, beside nothing at all.
const FETCH_SITES: [&str; 2] = ["none", "same-origin"];

/// The names by which this node may be asked, beside addresses and "localhost". Clones share them.
#[derive(Clone, Debug, Default)]
pub struct OwnNames(Arc<[String]>);

impl OwnNames {
    /// These names; `""` is none.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names = names.into_iter().filter(|name| !name.is_empty());
        Self(names.map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect())
    }

    /// Whether a request means this node. One that does not say whom it means is no browser's.
    pub(super) fn are_meant(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), String> {
        let asked = uri.authority().map(Authority::as_str);
        let host =
            headers.get(header::HOST).map(HeaderValue::as_bytes).map(String::from_utf8_lossy);
        for named in asked.into_iter().chain(host.as_deref()) {
            if !self.contain(named) {
                return Err(named.to_owned());
            }
        }
        Ok(())
    }

    fn contain(&self, named: &str) -> bool {
        // An address in brackets may name an interface, which is none of an authority's characters.
        if let Some((address, _)) = named.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let address = address.split_once('%').map_or(address, |(address, _)| address);
            return address.parse::<Ipv6Addr>().is_ok();
        }
        let Ok(authority) = named.parse::<Authority>() else { return false };
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        host.parse::<IpAddr>().is_ok()
            || host == "localhost"
            || host.ends_with(".localhost")
            || self.0.contains(&host)
    }
}

/// Whether a browser sent this for a page, of this server or of another one.
pub(super) fn is_from_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key(FETCH_SITE)
}

/// Why a change must not be made: it comes from a page of another server. This one is spoken to by `scheme`.
pub(super) fn foreign_page(headers: &HeaderMap, scheme: &str) -> Option<&'static str> {
    let text = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    if text(FETCH_SITE).is_some_and(|site| FETCH_SITES.iter().all(|known| known.as_bytes() != site))
    {
        return Some("changes are not accepted from pages of another server (Sec-Fetch-Site)");
    }
    let origin = text(header::ORIGIN)?;
    let own = text(header::HOST).map(|host| [scheme.as_bytes(), b"://", host].concat());
    if own.as_deref() != Some(origin) {
        return Some("changes are not accepted from pages of another server (Origin)");
    }
    // A form sends its own kinds without asking first; JSON is what only a script of this server may send.
    let kind = text(header::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !kind.eq_ignore_ascii_case(b"application/json") {
        return Some("changes from a page need Content-Type: application/json");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn addresses_localhost_and_own_names_are_meant() {
        let own = OwnNames::new(["Node-1".to_owned(), String::new(), "broker.example".to_owned()]);
        let is_meant = |host| own.are_meant(&Uri::from_static("/"), &headers(&[("host", host)]));
        for host in [
            "127.0.0.1:5580",
            "10.1.2.3",
            "[::1]:5580",
            "[fe80::1]",
            "[fe80::1%eth0]:5580",
            "localhost",
            "LOCALHOST:5581",
            "node-1:5580",
            "NODE-1.",
            "broker.example",
        ] {
            assert_eq!(is_meant(host), Ok(()), "{host}");
        }
        for host in
            ["", "evil.example:5580", "node-1.evil.example", "localhost.evil.example", "a b", "[x]"]
        {
            assert_eq!(is_meant(host), Err(host.to_owned()), "{host}");
        }
        assert_eq!(own.are_meant(&Uri::from_static("/"), &HeaderMap::new()), Ok(()));
        let absolute = Uri::from_static("http://evil.example/api/v1/status");
        let asked = own.are_meant(&absolute, &headers(&[("host", "localhost")]));
        assert_eq!(asked, Err("evil.example".to_owned()));
    }

    #[test]
    fn changes_come_from_programs_and_from_pages_of_this_server() {
        const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
        const HOST: (&str, &str) = ("host", "node-1:5580");
        for (sent, is_ours) in [
            (&[HOST][..], true),
            (&[HOST, JSON, ("origin", "http://node-1:5580")], true),
            (
                &[HOST, JSON, ("origin", "http://node-1:5580"), ("sec-fetch-site", "same-origin")],
                true,
            ),
            (&[HOST, ("sec-fetch-site", "none")], true),
            (&[HOST, ("origin", "http://node-1:5580")], false),
            (&[HOST, ("origin", "http://node-1:5580"), ("content-type", "text/plain")], false),
            (&[HOST, JSON, ("origin", "https://node-1:5580")], false),
            (&[HOST, JSON, ("origin", "http://node-1:5581")], false),
            (&[HOST, JSON, ("origin", "http://node-1")], false),
            (&[HOST, JSON, ("origin", "null")], false),
            (&[JSON, ("origin", "http://node-1:5580")], false),
            (&[HOST, JSON, ("sec-fetch-site", "cross-site")], false),
            (&[HOST, JSON, ("sec-fetch-site", "same-site")], false),
        ] {
            assert_eq!(foreign_page(&headers(sent), "http").is_none(), is_ours, "{sent:?}");
        }
        let secured = headers(&[HOST, JSON, ("origin", "https://node-1:5580")]);
        assert_eq!(foreign_page(&secured, "https"), None);
        let plain = headers(&[HOST, JSON, ("origin", "http://node-1:5580")]);
        assert!(foreign_page(&plain, "https").is_some());
    }
}
