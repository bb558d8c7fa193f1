//! W3C trace context in headers: what a request says of its trace, and what is said to whoever is called next.

use std::borrow::Cow;
use std::str::FromStr as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// Characters of a `traceparent` of version 00: `00-<32>-<16>-<2>`.
const PARENT_CHARS: usize = 55;

/// The span that `headers` name, if they name one. What is wrong is as if it were not there; of a wrong `tracestate` only that
/// is lost.
pub(super) fn read(headers: &HeaderMap) -> Option<SpanContext> {
    let mut parents = headers.get_all(PARENT).iter();
    let (parent, None) = (parents.next()?, parents.next()) else { return None };
    let (trace, span, flags) = parse_parent(parent.to_str().ok()?.trim())?;
    let context = SpanContext::new(trace, span, flags, true, read_state(headers).unwrap_or_default());
    context.is_valid().then_some(context)
}

/// The fields of a `traceparent`. The library's own propagator takes fields that are too short.
fn parse_parent(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let (known, more) = text.split_at_checked(PARENT_CHARS)?;
    let mut fields = known.split('-');
    let mut field = |chars: usize| {
        let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        fields.next().filter(|field| field.len() == chars && field.bytes().all(is_hex))
    };
    let (version, trace, span, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
    // A later version may add fields behind ours; the last version is none.
    let fits = if version == "00" { more.is_empty() } else { more.is_empty() || more.starts_with('-') };
    if version == "ff" || !fits {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    Some((TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?, flags))
}

/// Several lines of `tracestate` are one list.
fn read_state(headers: &HeaderMap) -> Option<TraceState> {
    let mut lines = headers.get_all(STATE).iter();
    let mut list = Cow::Borrowed(lines.next()?.to_str().ok()?);
    for line in lines {
        list = Cow::Owned(format!("{list},{}", line.to_str().ok()?));
    }
    TraceState::from_str(&list).ok()
}

/// Names `span` in `headers`.
pub(super) fn write(headers: &mut HeaderMap, span: &SpanContext) {
    let parent = format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags());
    // Digits, letters and dashes are always a value.
    if let Ok(value) = HeaderValue::try_from(parent) {
        headers.insert(PARENT, value);
    }
    match HeaderValue::try_from(span.trace_state().header()) {
        Ok(state) if !state.is_empty() => drop(headers.insert(STATE, state)),
        _ => drop(headers.remove(STATE)),
    }
}

/// Names `next` in the headers of what a guest sends, whose own span is `own`: in place of nothing, of what is wrong, and of
/// `own`, which it was told. A guest that names another span has made one of its own, or hands on a trace that is none of ours:
/// its choice stands.
pub(super) fn pass_on(headers: &mut HeaderMap, own: &SpanContext, next: &SpanContext) {
    let is_own = |named: &SpanContext| (named.trace_id(), named.span_id()) == (own.trace_id(), own.span_id());
    if read(headers).is_none_or(|named| is_own(&named)) {
        write(headers, next);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn parent(text: &str) -> Option<SpanContext> {
        read(&headers(&[("traceparent", text)]))
    }

    #[test]
    fn what_a_request_says_is_said_again() {
        let said = headers(&[("traceparent", VALID), ("tracestate", "a=1"), ("tracestate", "b=2, c=3")]);
        let span = read(&said).unwrap();
        assert!(span.is_sampled() && span.is_remote());
        let mut again = HeaderMap::new();
        write(&mut again, &span);
        assert_eq!((again[PARENT].to_str().unwrap(), again[STATE].to_str().unwrap()), (VALID, "a=1,b=2,c=3"));
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more";
        assert!(!parent(later).unwrap().is_sampled());
    }

    #[test]
    fn what_is_wrong_is_as_if_it_were_not_there() {
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
        ] {
            assert_eq!(parent(wrong), None, "{wrong}");
        }
        assert_eq!(read(&headers(&[("traceparent", VALID), ("traceparent", VALID)])), None);
        let state = read(&headers(&[("traceparent", VALID), ("tracestate", "no list")])).unwrap();
        assert_eq!(state.trace_state().header(), "");
    }

    #[test]
    fn a_guest_that_names_a_span_of_its_own_is_left_alone() {
        let own = parent(VALID).unwrap();
        let next = SpanContext::new(own.trace_id(), SpanId::from(7), own.trace_flags(), false, TraceState::default());
        let sent = |lines: &[(&'static str, &str)]| {
            let mut headers = headers(lines);
            pass_on(&mut headers, &own, &next);
            (headers[PARENT].to_str().unwrap().to_owned(), headers.contains_key(STATE))
        };
        let ours = "00-0af7651916cd43dd8448eb211c80319c-0000000000000007-01".to_owned();
        assert_eq!(sent(&[]), (ours.clone(), false));
        assert_eq!(sent(&[("traceparent", "nonsense"), ("tracestate", "a=1")]), (ours.clone(), false));
        assert_eq!(sent(&[("traceparent", VALID), ("tracestate", "a=1")]), (ours, false));
        let theirs = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
        assert_eq!(sent(&[("traceparent", theirs), ("tracestate", "a=1")]), (theirs.to_owned(), true));
    }

    proptest! {
        #[test]
        fn nothing_that_a_client_sends_is_trusted(text in "[ -~]{0,70}", valid in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}") {
            let _ = parent(&text);
            if let Some(span) = parent(&valid) {
                prop_assert!(span.is_valid());
                prop_assert_eq!(&valid[3..52], format!("{}-{}", span.trace_id(), span.span_id()));
            }
        }
    }
}
