//! Routes: which worker a host and a path are for.
//!
//! A [`RoutePattern`] is `[scheme://]host[/path]` with `*` only at the very beginning of the host and at the very end of the
//! path (`RTE-1`); a [`Hostname`] is what a custom domain claims as a whole (`RTE-7`). A [`RouteTable`] holds those of all
//! workers and answers with the most specific one (`RTE-3`).
//!
//! *Most specific* is taken at its word: if everything that one pattern matches is matched by another too, the first wins.
//! So an exact host comes before a suffix, a longer suffix before a shorter one, then an exact path before a prefix, a longer
//! prefix before a shorter one. A scheme comes last: a node cannot tell what a client spoke to the proxy in front of it, so
//! `https://a.test/*` matches whatever came in, and merely wins over the same pattern without a scheme.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::domain::id::WorkerName;
use crate::domain::limits::DNS_LABEL_CHARS_MAX;

/// Characters of a whole host name (RFC 1035).
pub const HOST_CHARS_MAX: usize = 253;
/// Characters of a pattern: a host, and a path as long as anyone writes by hand.
pub const PATTERN_CHARS_MAX: usize = 2048;

/// Why a text is not a pattern or not a host name. Patterns are cut in the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("`{pattern}` is not a route: {fault}")]
    Pattern { pattern: String, fault: &'static str },
    #[error("`{hostname}` is not a custom domain: {fault}")]
    Hostname { hostname: String, fault: &'static str },
}

/// A valid pattern. Two that mean the same are equal: host and scheme are in lower case, and a missing path is `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutePattern {
    /// All of it, which the positions below divide.
    text: Arc<str>,
    host_at: usize,
    path_at: usize,
}

/// A whole host name, in lower case, without wildcard, port and trailing dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(Arc<str>);

/// The routes and custom domains of all workers. Immutable; a change makes a new one.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Routes whose host is exact, most specific first.
    exact: HashMap<Box<str>, Vec<Entry>>,
    /// Routes whose host begins with `*`: by what follows it.
    suffixes: HashMap<Box<str>, Vec<Entry>>,
    /// The lengths of those suffixes, longest first: a host is asked for once with each, however many routes there are.
    suffix_lengths: Vec<usize>,
    domains: HashMap<Hostname, WorkerName>,
}

/// What a route leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit<'a> {
    Worker(&'a WorkerName),
    /// A route without a worker, which disables the less specific ones (`RTE-6`).
    Disabled,
}

#[derive(Debug)]
struct Entry {
    pattern: RoutePattern,
    worker: Option<WorkerName>,
}

impl RoutePattern {
    /// The pattern as text; parsing it again gives an equal pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches. `host` is as [`normalize_host`] gives it; the query counts as part of the path (`RTE-4`).
    #[must_use]
    pub fn matches(&self, host: &str, path_and_query: &str) -> bool {
        let host_fits = match self.host().strip_prefix('*') {
            None => self.host() == host,
            Some(suffix) => fits_suffix(host, suffix),
        };
        host_fits && self.fits_path(path_and_query)
    }

    fn host(&self) -> &str {
        &self.text[self.host_at..self.path_at]
    }

    fn path(&self) -> &str {
        &self.text[self.path_at..]
    }

    fn fits_path(&self, path_and_query: &str) -> bool {
        match self.path().strip_suffix('*') {
            Some(prefix) => path_and_query.starts_with(prefix),
            None => path_and_query == self.path(),
        }
    }

    /// Among patterns of one host: the smallest is the most specific (`RTE-3`). The text makes the order total.
    fn rank(&self) -> (bool, Reverse<usize>, bool, &str) {
        (self.path().ends_with('*'), Reverse(self.path().len()), self.host_at == 0, &self.text)
    }
}

/// Whether `host` is `suffix` with anything before it; if the suffix begins with a dot, there must be something (`RTE-2`).
fn fits_suffix(host: &str, suffix: &str) -> bool {
    host.ends_with(suffix) && !(suffix.starts_with('.') && host.len() == suffix.len())
}

impl FromStr for RoutePattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |fault| Error::Pattern { pattern: shortened(text), fault };
        if text.len() > PATTERN_CHARS_MAX {
            return Err(refuse("it has more than 2048 characters"));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(refuse("write other characters than printable ASCII percent-encoded, and a host as `xn--…`"));
        }
        let (scheme, rest) = match text.split_once("://") {
            // Only before the first `/` is it a scheme.
            Some((scheme, rest)) if !scheme.contains('/') => (Some(scheme.to_ascii_lowercase()), rest),
            _ => (None, text),
        };
        if scheme.as_deref().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
            return Err(refuse("the scheme is `http` or `https`, or left out"));
        }
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = if path.is_empty() { "/" } else { path };
        if rest.contains(['?', '#']) {
            return Err(refuse("a route has no query; end the path with `*` to match any (RTE-4)"));
        }
        if path.trim_end_matches('*').contains('*') || path.ends_with("**") {
            return Err(refuse("`*` stands only at the beginning of the host and at the end of the path"));
        }
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix('.').filter(|name| *name != "*").unwrap_or(&host);
        let (stars, name) = host.split_at(usize::from(host.starts_with('*')));
        if let Some(fault) = pattern_host_fault(stars, name) {
            return Err(refuse(fault));
        }
        let scheme = scheme.map(|scheme| scheme + "://").unwrap_or_default();
        let (host_at, path_at) = (scheme.len(), scheme.len() + host.len());
        Ok(Self { text: format!("{scheme}{host}{path}").into(), host_at, path_at })
    }
}

/// What is wrong with the host of a pattern: `stars` is `*` or nothing, `name` what follows.
fn pattern_host_fault(stars: &str, name: &str) -> Option<&'static str> {
    match (stars, name) {
        ("", "") => Some("there is no host"),
        // Every host there is.
        (_, "") => None,
        (_, name) if name.contains('*') => {
            Some("`*` stands only at the beginning of the host and at the end of the path")
        }
        ("", name) => host_fault(name),
        // What follows the star may begin in the middle of a label, or with its dot.
        (_, name) => host_fault(&format!("x{name}")),
    }
}

/// What is wrong with a host name in lower case.
fn host_fault(name: &str) -> Option<&'static str> {
    if name.contains(':') {
        return Some("leave the port out: a route matches every port");
    }
    if name.len() > HOST_CHARS_MAX {
        return Some("the host has more than 253 characters");
    }
    let fits = |label: &str| {
        (1..=DNS_LABEL_CHARS_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (!name.split('.').all(fits)).then_some(
        "the host is no host name: labels of 1 to 63 letters, digits and `-`, divided by dots, not beginning or ending with `-`",
    )
}

impl Hostname {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// So that a table can be asked with borrowed text. Hash and order are those of the text.
impl std::borrow::Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hostname {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |fault| Error::Hostname { hostname: shortened(text), fault };
        if text.contains(['*', '/']) {
            return Err(refuse("it is a whole host, without wildcard and path; use a route for those (RTE-7)"));
        }
        let name = text.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        match host_fault(name) {
            Some(fault) => Err(refuse(fault)),
            None => Ok(Self(name.into())),
        }
    }
}

/// The host of a request as tables know it: in lower case, without port and trailing dot. `None` if it is longer than any host.
///
/// Nothing is allocated: the name is written into `buffer`.
pub fn normalize_host<'b>(host: &str, buffer: &'b mut [u8; HOST_CHARS_MAX]) -> Option<&'b str> {
    // A colon within brackets belongs to an IPv6 address.
    let name = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let place = buffer.get_mut(..name.len())?;
    place.copy_from_slice(name.as_bytes());
    place.make_ascii_lowercase();
    std::str::from_utf8(place).ok()
}

impl RouteTable {
    /// The table of `routes` (without a worker: disabled) and of custom `domains`. Of a pattern or a domain that is given twice
    /// one counts; the catalog's claims see to it that none is.
    #[must_use]
    pub fn new(
        routes: impl IntoIterator<Item = (RoutePattern, Option<WorkerName>)>,
        domains: impl IntoIterator<Item = (Hostname, WorkerName)>,
    ) -> Self {
        let mut exact: HashMap<Box<str>, Vec<Entry>> = HashMap::new();
        let mut suffixes: HashMap<Box<str>, Vec<Entry>> = HashMap::new();
        for (pattern, worker) in routes {
            let group = match pattern.host().strip_prefix('*') {
                None => exact.entry(pattern.host().into()),
                Some(suffix) => suffixes.entry(suffix.into()),
            };
            group.or_default().push(Entry { pattern, worker });
        }
        for group in exact.values_mut().chain(suffixes.values_mut()) {
            group.sort_unstable_by(|a, b| a.pattern.rank().cmp(&b.pattern.rank()));
        }
        let mut suffix_lengths: Vec<usize> = suffixes.keys().map(|suffix| suffix.len()).collect();
        suffix_lengths.sort_unstable_by_key(|length| Reverse(*length));
        suffix_lengths.dedup();
        Self { exact, suffixes, suffix_lengths, domains: domains.into_iter().collect() }
    }

    /// Where a request goes. `host` is as [`normalize_host`] gives it.
    ///
    /// Routes come before custom domains. A disabled route lets a request through to the custom domain of its host, since that
    /// worker is the origin (`RTE-7`) and no route.
    #[must_use]
    pub fn lookup(&self, host: &str, path_and_query: &str) -> Option<Hit<'_>> {
        let of_group = |group: &'_ [Entry]| group.iter().position(|entry| entry.pattern.fits_path(path_and_query));
        let exact = self.exact.get(host).and_then(|group| of_group(group).map(|index| &group[index]));
        let route = exact.or_else(|| {
            self.suffix_lengths.iter().find_map(|length| {
                let suffix = host.get(host.len().checked_sub(*length)?..)?;
                let group = self.suffixes.get(suffix).filter(|_| fits_suffix(host, suffix))?;
                of_group(group).map(|index| &group[index])
            })
        });
        match (route.map(|entry| entry.worker.as_ref()), self.domains.get(host)) {
            (Some(Some(worker)), _) | (Some(None) | None, Some(worker)) => Some(Hit::Worker(worker)),
            (Some(None), None) => Some(Hit::Disabled),
            (None, None) => None,
        }
    }
}

macro_rules! display_as_text {
    ($($name:ident $field:tt),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.$field)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.$field)
            }
        }
    )*};
}
display_as_text!(RoutePattern text, Hostname 0);

/// A text of a stranger, cut so that an error message stays one line.
fn shortened(text: &str) -> String {
    text.chars().take(100).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> RoutePattern {
        text.parse().unwrap()
    }

    fn table(routes: &[(&str, Option<&str>)], domains: &[(&str, &str)]) -> RouteTable {
        RouteTable::new(
            routes.iter().map(|(text, worker)| (pattern(text), worker.map(|name| name.parse().unwrap()))),
            domains.iter().map(|(host, worker)| (host.parse().unwrap(), worker.parse().unwrap())),
        )
    }

    fn ask(table: &RouteTable, url: &str) -> String {
        let (host, path) = url.split_at(url.find('/').unwrap());
        let mut buffer = [0; HOST_CHARS_MAX];
        match table.lookup(normalize_host(host, &mut buffer).unwrap(), path) {
            Some(Hit::Worker(worker)) => worker.to_string(),
            Some(Hit::Disabled) => "disabled".into(),
            None => "none".into(),
        }
    }

    #[test]
    fn a_star_leads_the_host_or_ends_the_path() {
        for good in [
            "example.com",
            "example.com/",
            "*example.com/*",
            "*.example.com/api*",
            "https://a.test/x",
            "*/*",
            "*-x.a.test/*",
            "HTTP://A.Test/X",
            "localhost/*",
            "a.test./*",
            "a.test/p://q",
        ] {
            assert!(good.parse::<RoutePattern>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "**/*",
            "a.*.com/*",
            "a*.com/*",
            "a.test/*/b",
            "a.test/**",
            "a.test/?x",
            "a.test/x?y=*",
            "ftp://a.test/*",
            "a.test:80/*",
            "a..test/*",
            "*..test/*",
            "*./*",
            "-a.test/*",
            "é.test/*",
            "a.test/é",
            "a b/*",
            "://a/*",
            "a.test/#x",
        ] {
            assert!(bad.parse::<RoutePattern>().is_err(), "{bad}");
        }
        assert_eq!(pattern("HTTPS://Example.COM/Path").as_str(), "https://example.com/Path");
        assert_eq!(pattern("example.com"), pattern("Example.com/"));
    }

    #[test]
    fn a_star_without_a_dot_matches_the_host_itself() {
        let plain = pattern("*example.com/*");
        let dotted = pattern("*.example.com/*");
        for host in ["example.com", "www.example.com", "myexample.com"] {
            assert!(plain.matches(host, "/"), "{host}");
        }
        assert!(dotted.matches("www.example.com", "/") && !dotted.matches("example.com", "/"));
        assert!(!dotted.matches("myexample.com", "/"));
    }

    #[test]
    fn the_query_is_part_of_the_path() {
        let table = table(&[("example.com/cat.png", Some("exact")), ("example.com/dog*", Some("open"))], &[]);
        assert_eq!(ask(&table, "example.com/cat.png"), "exact");
        assert_eq!(ask(&table, "example.com/cat.png?x=1"), "none");
        assert_eq!(ask(&table, "example.com/dog?x=1"), "open");
        assert_eq!(ask(&table, "example.com/Dog"), "none");
        assert_eq!(ask(&table, "EXAMPLE.com.:8787/dog"), "open");
    }

    #[test]
    fn the_most_specific_route_wins() {
        let table = table(
            &[
                ("*/*", Some("all")),
                ("*example.com/*", Some("ends")),
                ("*.example.com/*", Some("sub")),
                ("*.a.example.com/*", Some("subsub")),
                ("*.example.com/deep/*", Some("subdeep")),
                ("www.example.com/*", Some("host")),
                ("https://www.example.com/*", Some("scheme")),
                ("www.example.com/a*", Some("prefix")),
                ("www.example.com/a", Some("exact")),
                ("www.example.com/off/*", None),
            ],
            &[("www.example.com", "domain"), ("bare.test", "bare"), ("x.example.com", "origin")],
        );
        for (url, worker) in [
            ("other.test/", "all"),
            ("myexample.com/", "ends"),
            ("x.example.com/", "sub"),
            ("x.a.example.com/deep/", "subsub"),
            ("x.example.com/deep/", "subdeep"),
            ("www.example.com/", "scheme"),
            ("www.example.com/ab", "prefix"),
            ("www.example.com/a", "exact"),
            // The custom domain's worker is the origin behind the disabled route.
            ("www.example.com/off/1", "domain"),
        ] {
            assert_eq!(ask(&table, url), worker, "{url}");
        }
    }

    #[test]
    fn a_route_without_a_worker_disables_less_specific_ones() {
        let table = table(&[("a.test/*", Some("w")), ("a.test/off*", None)], &[("b.test", "bare")]);
        assert_eq!(ask(&table, "a.test/off/1"), "disabled");
        assert_eq!(ask(&table, "a.test/on"), "w");
        assert_eq!(ask(&table, "b.test/any?q"), "bare");
        assert_eq!(ask(&table, "c.b.test/"), "none");
    }

    #[test]
    fn custom_domains_are_whole_hosts() {
        assert_eq!("Shop.Example.com.".parse::<Hostname>().unwrap().as_str(), "shop.example.com");
        for bad in ["", "*.a.test", "a.test/", "a.test:80", "a_.b c", "-a.test", "[::1]", &"a.".repeat(200)] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_lose_port_case_and_trailing_dot() {
        let mut buffer = [0; HOST_CHARS_MAX];
        for (host, name) in
            [("A.Test:80", "a.test"), ("a.test.", "a.test"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", "")]
        {
            assert_eq!(normalize_host(host, &mut buffer), Some(name));
        }
        assert_eq!(normalize_host(&"a".repeat(254), &mut buffer), None);
    }

    fn host() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a.test", "b.a.test", "c.b.a.test", "ba.test", "test"]).prop_map(String::from)
    }

    fn path() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["/", "/x", "/x/y", "/x?q", "/xy", "/z"]).prop_map(String::from)
    }

    fn route() -> impl Strategy<Value = String> {
        let star = prop::sample::select(vec!["", "*", "*."]);
        let scheme = prop::sample::select(vec!["", "", "https://"]);
        (scheme, star, host(), prop::sample::select(vec!["/", "/x", "/x/y", "/*", "/x*", "/x/*", "/xy"]))
            .prop_map(|(scheme, star, host, path)| format!("{scheme}{star}{host}{path}"))
    }

    /// As far as two patterns can be compared by what they match: `a` matches only what `b` matches too, and not the reverse.
    fn strictly_within(a: &RoutePattern, b: &RoutePattern) -> bool {
        let hosts = [
            "a.test",
            "b.a.test",
            "c.b.a.test",
            "ba.test",
            "test",
            "q.test",
            "xa.test",
            "q.a.test",
            "qtest",
            "q.b.a.test",
            "qb.a.test",
            "q.ba.test",
            "qba.test",
            "q.c.b.a.test",
            "qc.b.a.test",
        ];
        let paths = ["/", "/x", "/x/y", "/x?q", "/xy", "/z", "/x/", "/x/y/z"];
        let all = || hosts.iter().flat_map(|host| paths.iter().map(move |path| (host, path)));
        all().all(|(host, path)| !a.matches(host, path) || b.matches(host, path))
            && all().any(|(host, path)| b.matches(host, path) && !a.matches(host, path))
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}", pieces in prop::collection::vec(prop::sample::select(vec!["*", ".", "/", "a", "://", "http", ":", "?", "é", "-", "]", "["]), 0..8)) {
            for text in [text, pieces.concat()] {
                if let Ok(pattern) = text.parse::<RoutePattern>() {
                    prop_assert_eq!(&pattern.as_str().parse::<RoutePattern>().unwrap(), &pattern);
                    let _ = pattern.matches("a", "/");
                }
                if let Ok(hostname) = text.parse::<Hostname>() {
                    prop_assert_eq!(hostname.as_str().parse::<Hostname>().unwrap(), hostname);
                }
                let mut buffer = [0; HOST_CHARS_MAX];
                if let Some(host) = normalize_host(&text, &mut buffer) {
                    let _ = RouteTable::default().lookup(host, &text);
                }
            }
        }

        #[test]
        fn the_table_finds_a_match_that_no_other_is_within(
            routes in prop::collection::btree_set(route(), 0..12), host in host(), path in path(),
        ) {
            let patterns: Vec<RoutePattern> = routes.iter().map(|text| pattern(text)).collect();
            let worker = |index: usize| format!("w{index}").parse::<WorkerName>().unwrap();
            let table = RouteTable::new(
                patterns.iter().enumerate().map(|(index, pattern)| (pattern.clone(), Some(worker(index)))), []);
            let matching: Vec<usize> = (0..patterns.len()).filter(|index| patterns[*index].matches(&host, &path)).collect();
            // Brute force: the least by (host class, suffix length, path, scheme) among all that match.
            let best = matching.iter().copied().min_by_key(|index| {
                let pattern = &patterns[*index];
                (pattern.host().starts_with('*'), Reverse(pattern.host().trim_start_matches('*').len()),
                 pattern.path().ends_with('*'), Reverse(pattern.path().len()), pattern.host_at == 0)
            });
            let found = match table.lookup(&host, &path) {
                Some(Hit::Worker(found)) => matching.iter().copied().find(|index| worker(*index) == *found),
                _ => None,
            };
            prop_assert_eq!(found, best);
            if let Some(found) = found {
                for other in matching {
                    let (inner, outer) = (&patterns[other], &patterns[found]);
                    // By host first: only patterns of one host are compared by path.
                    if inner.host() == outer.host() || inner.path() == outer.path() {
                        prop_assert!(!strictly_within(inner, outer), "{:?} is within {:?}", inner, outer);
                    }
                }
            }
        }
    }
}
