//! A record as a tail shows it (`OBS-3`): the JSON that `wrangler tail` prints, with our own facts under `sluice`.

use serde_json::{Map, Value, json};

use crate::domain::decision::Reason;
use crate::domain::outcome::Blame;
use crate::observe::log_line::version;
use crate::observe::record::{Heard, Line, Record, whole_millis};
use crate::observe::tail::redact;

/// The event of a request.
#[must_use]
pub fn of_request(record: &Record<'_>, heard: &Heard) -> String {
    let (logs, whole) = logs(record);
    let response = record.status.map(|status| json!({ "status": status }));
    let mut event = json!({
        "wallTime": whole_millis(record.wall),
        "cpuTime": whole_millis(record.cpu),
        "truncated": !whole || record.lines_truncated,
        "executionModel": if record.object.is_some() { "durableObject" } else { "stateless" },
        "outcome": record.outcome.as_str(),
        "scriptName": record.worker,
        "scriptVersion": record.version.map(version),
        "scriptTags": [],
        "dispatchNamespace": null,
        "entrypoint": record.object.map(|object| object.class),
        "diagnosticsChannelEvents": [],
        "exceptions": exceptions(record),
        "logs": logs,
        "eventTimestamp": record.began_ms,
        "event": event_of(record, heard),
        "sluice": {
            "id": record.id.to_string(),
            "versionNumber": record.version.map(|version| version.number),
            "reason": record.reason.map(Reason::as_str),
            "blame": record.blame.map(Blame::as_str),
            "depth": record.depth,
        },
    });
    if let Some(object) = record.object {
        event["durableObjectId"] = object.id.to_string().into();
    }
    if let Some(response) = response.filter(|_| !record.is_alarm()) {
        event["event"]["response"] = response;
    }
    event.to_string()
}

/// What happened: a request, or an alarm, which wrangler knows by its time.
fn event_of(record: &Record<'_>, heard: &Heard) -> Value {
    if record.is_alarm() {
        let at = i64::try_from(record.began_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        return json!({ "scheduledTime": at.unwrap_or(jiff::Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string() });
    }
    json!({
        "request": {
            "url": redact::url(&record.url()),
            "method": record.method,
            "headers": headers(heard),
            "cf": { "httpProtocol": format!("{:?}", heard.protocol), "clientIp": heard.client },
        },
    })
}

/// The notice that events are missing here, or that none are any more.
#[must_use]
pub fn of_tail_itself(worker: &str, now_ms: u64, kind: &str, message: &str, dropped: u64) -> String {
    let event = json!({ "type": kind, "message": message, "dropped": dropped });
    json!({
        "outcome": "ok",
        "scriptName": worker,
        "exceptions": [],
        "logs": [],
        "eventTimestamp": now_ms,
        "event": event,
    })
    .to_string()
}

fn logs(record: &Record<'_>) -> (Vec<Value>, bool) {
    let (lines, whole) = record.lines_to_show();
    let log = |line: &Line<'_>| json!({ "level": line.level(), "message": [line.text], "timestamp": line.at_ms });
    (lines.iter().map(log).collect(), whole)
}

fn exceptions(record: &Record<'_>) -> Vec<Value> {
    let exception = record.exception();
    let shown = exception.map(|(name, message, at_ms)| json!({ "name": name, "message": message, "timestamp": at_ms }));
    shown.into_iter().collect()
}

/// Values of one name are joined, as in a `Headers` object.
fn headers(heard: &Heard) -> Map<String, Value> {
    let mut shown = Map::new();
    for name in heard.headers.keys() {
        let value = if redact::is_secret(name) {
            redact::REDACTED.to_owned()
        } else {
            let values = heard.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            values.collect::<Vec<_>>().join(", ")
        };
        shown.insert(name.as_str().to_owned(), value.into());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::Outcome;
    use crate::observe::record::{ObjectEvent, ObjectRef, sample};

    #[test]
    fn an_event_has_the_shape_that_wrangler_reads() {
        let mut headers = http::HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-a", "2"), ("authorization", "Bearer s3cret"), ("cookie", "s3cret")] {
            headers.append(name, value.parse().unwrap());
        }
        let heard = Heard { headers, client: Some([127, 0, 0, 1].into()), protocol: http::Version::HTTP_11 };
        let lines = [
            Line { stream: "stdout", text: "hello", at_ms: 1_002 },
            Line { stream: "stderr", text: "oh", at_ms: 1_003 },
        ];
        let record = Record {
            path: "/users/dc8dcd28-271b-4367-9840-6c244f84cb40?a=1",
            lines: &lines,
            outcome: Outcome::Exception,
            blame: Some(Blame::Guest),
            error: "wasm trap: unreachable",
            heard: Some(&heard),
            ..sample()
        };
        let event: Value = serde_json::from_str(&of_request(&record, &heard)).unwrap();
        assert_eq!(event["event"]["request"]["url"], "http://hello.localhost/users/REDACTED?a=1");
        let shown = &event["event"]["request"]["headers"];
        assert_eq!(*shown, json!({ "x-a": "1, 2", "authorization": "REDACTED", "cookie": "REDACTED" }));
        assert_eq!(event["event"]["response"]["status"], 200);
        assert_eq!(
            event["logs"],
            json!([
                { "level": "log", "message": ["hello"], "timestamp": 1_002 },
                { "level": "error", "message": ["oh"], "timestamp": 1_003 },
            ])
        );
        assert_eq!(
            event["exceptions"],
            json!([{ "name": "Error", "message": "wasm trap: unreachable", "timestamp": 1_007 }])
        );
        assert_eq!(event["scriptVersion"]["tag"], "v1");
        assert_eq!(event["scriptVersion"]["message"], "the first");
        assert_eq!(event["outcome"], "exception");
        assert_eq!(event["eventTimestamp"], 1_000);
    }

    #[test]
    fn a_flood_of_lines_is_cut_in_the_event() {
        let text = "x".repeat(16 * 1024);
        let lines: Vec<Line<'_>> = (0..20).map(|_| Line { stream: "stdout", text: &text, at_ms: 0 }).collect();
        let (shown, whole) = logs(&Record { lines: &lines, ..sample() });
        assert!(!whole);
        assert_eq!(shown.len(), 15);
    }

    #[test]
    fn an_event_of_an_object_names_it_and_an_alarm_has_a_time_in_place_of_a_request() {
        let id = crate::domain::object::ObjectNamespaceId::from_bytes([7; 16]).id_from_name("a");
        let heard = Heard { headers: http::HeaderMap::new(), client: None, protocol: http::Version::HTTP_11 };
        let mut record = sample();
        record.object = Some(ObjectRef { class: "Clock", id, event: ObjectEvent::Fetch });
        let event: Value = serde_json::from_str(&of_request(&record, &heard)).unwrap();
        assert_eq!(
            (&event["executionModel"], &event["durableObjectId"]),
            (&json!("durableObject"), &json!(id.to_string()))
        );
        assert_eq!(event["event"]["request"]["method"], "GET");
        record.object = Some(ObjectRef { class: "Clock", id, event: ObjectEvent::Alarm });
        let event: Value = serde_json::from_str(&of_request(&record, &heard)).unwrap();
        assert_eq!(event["event"], json!({ "scheduledTime": "1970-01-01T00:00:01.000Z" }));
    }
}
