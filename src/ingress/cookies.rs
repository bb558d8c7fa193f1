//! The dashboard's session stays with the dashboard. Browsers do not tell the ports of a host apart: who has signed in at
//! `127.0.0.1:8788` shows that cookie to a worker at `127.0.0.1:8787` too, and with it the worker could deploy.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use memchr::memmem;

use crate::domain::limits::DASHBOARD_COOKIE;

/// Takes the cookie away. All others stay as they were sent.
pub(super) fn without_session(headers: &mut HeaderMap) {
    let has_it = |value: &HeaderValue| memmem::find(value.as_bytes(), DASHBOARD_COOKIE.as_bytes()).is_some();
    if !headers.get_all(COOKIE).iter().any(has_it) {
        return;
    }
    let kept: Vec<HeaderValue> = headers.get_all(COOKIE).iter().filter_map(kept_of).collect();
    headers.remove(COOKIE);
    for value in kept {
        headers.append(COOKIE, value);
    }
}

/// What is left of one header, if anything is.
fn kept_of(value: &HeaderValue) -> Option<HeaderValue> {
    let is_other = |cookie: &&[u8]| {
        let name = cookie.split(|byte| *byte == b'=').next().unwrap_or_default();
        name.trim_ascii() != DASHBOARD_COOKIE.as_bytes()
    };
    let others: Vec<&[u8]> = value.as_bytes().split(|byte| *byte == b';').filter(is_other).collect();
    let kept = others.join(&b';');
    HeaderValue::from_bytes(kept.trim_ascii()).ok().filter(|kept| !kept.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(lines: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, line.parse().unwrap());
        }
        without_session(&mut headers);
        headers.get_all(COOKIE).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_session_is_taken_away_and_nothing_else() {
        assert_eq!(left(&["a=b; c=d"]), ["a=b; c=d"]);
        assert_eq!(left(&["sluice-session=x"]), Vec::<String>::new());
        assert_eq!(left(&["sluice-session"]), Vec::<String>::new());
        assert_eq!(left(&["a=b; sluice-session=x; c=d", "e=f"]), ["a=b; c=d", "e=f"]);
        assert_eq!(left(&["sluice-session=x;a=b;  sluice-session = y"]), ["a=b"]);
        assert_eq!(left(&["a=sluice-session; my-sluice-session=z"]), ["a=sluice-session; my-sluice-session=z"]);
    }
}
