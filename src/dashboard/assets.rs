//! What pages are made with: one stylesheet, one script, one icon. They are part of the binary, and their addresses hold a digest of
//! them, so that a browser keeps them for ever and never has old ones.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

/// The digits of a digest that stand in an address.
const DIGITS: usize = 16;

/// A file of the binary.
pub struct Asset {
    /// Its whole address.
    pub path: String,
    kind: &'static str,
    text: &'static str,
}

/// How pages look.
pub static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("style", "css", "text/css; charset=utf-8", include_str!("style.css")));
/// What makes them live.
pub static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("script", "js", "text/javascript; charset=utf-8", include_str!("script.js")));
/// The browser's tab.
pub static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("icon.svg")));

impl Asset {
    fn new(name: &str, extension: &str, kind: &'static str, text: &'static str) -> Self {
        let digest = hex::encode(Sha256::digest(text.as_bytes()));
        Self { path: format!("/assets/{name}-{}.{extension}", &digest[..DIGITS]), kind, text }
    }
}

/// `GET /assets/:file`. They tell nothing, so they need no session: the page to sign in is made with them too.
pub(super) async fn asset(Path(file): Path<String>) -> Response {
    let path = format!("/assets/{file}");
    let assets = [&*STYLE, &*SCRIPT, &*ICON];
    let Some(asset) = assets.into_iter().find(|asset| asset.path == path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    (headers, asset.text).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The colours of the first block after `start`.
    fn palette(start: &str) -> BTreeMap<&'static str, [f64; 3]> {
        let block = STYLE.text.split_once(start).unwrap().1.split_once('}').unwrap().0;
        let pairs = block.split(';').filter_map(|line| line.split_once(':'));
        let colours = pairs.filter_map(|(name, value)| {
            let digits = value.trim().strip_prefix('#')?;
            let part = |at: usize| f64::from(u8::from_str_radix(&digits[at..at + 2], 16).unwrap()) / 255.0;
            Some((name.trim(), [part(0), part(2), part(4)]))
        });
        colours.collect()
    }

    /// WCAG 2.2: the ratio of the relative luminances.
    fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
        let linear = |c: f64| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
        let luminance = |[r, g, b]: [f64; 3]| 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn every_colour_can_be_read_on_what_it_stands_on() {
        assert!((contrast([0.0; 3], [1.0; 3]) - 21.0).abs() < 1e-9);
        for (theme, start) in [("light", ":root {"), ("dark", "(prefers-color-scheme: dark) {\n  :root {")] {
            let palette = palette(start);
            let hues: Vec<String> = (0..8).map(|n| format!("--hue-{n}")).collect();
            let texts = ["--text", "--muted", "--accent", "--good", "--warn", "--bad"];
            let backgrounds = ["--page", "--panel", "--raised"];
            let text = texts.iter().flat_map(|text| backgrounds.map(|on| (*text, on, 4.5)));
            let drawn = hues.iter().flat_map(|hue| ["--panel", "--page"].map(|on| (hue.as_str(), on, 3.0)));
            let button = [
                ("--on-accent", "--accent", 4.5),
                ("--control", "--panel", 3.0),
                ("--control", "--page", 3.0),
                ("--focus", "--page", 3.0),
                ("--focus", "--panel", 3.0),
            ];
            for (front, back, least) in text.chain(drawn).chain(button) {
                let ratio = contrast(palette[front], palette[back]);
                assert!(ratio >= least, "{theme}: {front} on {back} has {ratio:.2}, wants {least}");
            }
        }
    }

    #[test]
    fn nothing_is_asked_of_another_host() {
        for asset in [&*STYLE, &*SCRIPT, &*ICON] {
            let text = asset.text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("://") && !text.contains("@import"), "{}", asset.path);
        }
    }
}
