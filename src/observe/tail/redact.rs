//! What a tail may not show: values of headers that carry credentials, and ids in URLs that may be capabilities (`OBS-5`).

use http::HeaderName;

/// What stands in place of what may not be shown.
pub(super) const REDACTED: &str = "REDACTED";

/// Parts of the names of headers whose values are credentials.
const SECRET_PARTS: [&str; 5] = ["auth", "key", "secret", "token", "jwt"];
/// Hexadecimal digits that make an id, separators aside: a UUID's.
const HEX_ID_DIGITS: usize = 32;
/// Characters of an id in Base64, two of each kind among them.
const BASE64_ID_CHARS: usize = 21;

/// Whether the values of this header are left out.
#[must_use]
pub(super) fn is_secret(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "cookie" | "set-cookie") || SECRET_PARTS.iter().any(|part| name.contains(part))
}

/// The URL without what looks like an id.
#[must_use]
pub(in crate::observe) fn url(url: &str) -> String {
    let mut shown = String::with_capacity(url.len());
    let in_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '_');
    let mut rest = url;
    while !rest.is_empty() {
        let end = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        shown.push_str(if is_id(word) { REDACTED } else { word });
        let next = after.find(in_word).unwrap_or(after.len());
        shown.push_str(&after[..next]);
        rest = &after[next..];
    }
    shown
}

fn is_id(word: &str) -> bool {
    let count = |is: fn(&u8) -> bool| word.bytes().filter(&is).count();
    let (hex, letters) = (count(u8::is_ascii_hexdigit), count(u8::is_ascii_alphanumeric));
    if hex == letters && hex >= HEX_ID_DIGITS {
        return true;
    }
    word.len() >= BASE64_ID_CHARS
        && count(u8::is_ascii_uppercase) >= 2
        && count(u8::is_ascii_lowercase) >= 2
        && count(u8::is_ascii_digit) >= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_the_names_of_their_headers() {
        for (name, secret) in [
            ("cookie", true),
            ("set-cookie", true),
            ("authorization", true),
            ("x-api-key", true),
            ("cf-access-jwt-assertion", true),
            ("cookie-consent", false),
            ("user-agent", false),
        ] {
            assert_eq!(is_secret(&HeaderName::from_static(name)), secret, "{name}");
        }
    }

    #[test]
    fn ids_in_urls_are_left_out_and_words_are_not() {
        for (given, shown) in [
            ("http://a.test/users/dc8dcd28-271b-4367-9840-6c244f84cb40/x?a=1", "http://a.test/users/REDACTED/x?a=1"),
            ("/0123456789abcdef0123456789abcdef", "/REDACTED"),
            ("/0123456789abcdef0123456789abcde", "/0123456789abcdef0123456789abcde"),
            ("/t?key=AbCd01234567890123456&b=é", "/t?key=REDACTED&b=é"),
            (
                "http://dc8dcd28-my-worker.localhost:8787/a-long-and-readable-path",
                "http://dc8dcd28-my-worker.localhost:8787/a-long-and-readable-path",
            ),
            ("", ""),
        ] {
            assert_eq!(url(given), shown);
        }
    }
}
