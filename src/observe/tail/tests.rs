//! Tails by a clock that stands still: who is told what, and when a tail is over.

use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::Value;

use super::*;
use crate::clock::ManualClock;
use crate::domain::outcome::Outcome;
use crate::observe::record::{Heard, sample};

struct Fixture {
    clock: Arc<ManualClock>,
    tails: Arc<Tails>,
}

impl Fixture {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(1_000));
        let port: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        Self { clock, tails: Tails::new(port) }
    }

    fn create(&self, number: u8, filters: Vec<Filter>) -> TailId {
        self.tails.create(TailId::from_random([number; 16]), hello(), filters).unwrap().id
    }

    fn tell(&self, outcome: Outcome) {
        let heard = Heard { headers: http::HeaderMap::new(), client: None, protocol: http::Version::HTTP_11 };
        self.tails.tell(&hello(), &Record { outcome, heard: Some(&heard), ..sample() });
    }
}

fn hello() -> WorkerName {
    "hello".parse().unwrap()
}

/// What is there now.
fn take(reader: &Reader) -> Option<Result<Value, End>> {
    let next = reader.next().now_or_never()?;
    Some(next.map(|event| serde_json::from_slice(&event).unwrap()))
}

#[test]
fn only_what_is_read_is_listened_to() {
    let fixture = Fixture::new();
    let id = fixture.create(1, Vec::new());
    assert!(!fixture.tails.listen_to(&hello()));
    let reader = fixture.tails.open(&id).unwrap();
    assert!(fixture.tails.listen_to(&hello()));
    assert!(!fixture.tails.listen_to(&"other".parse().unwrap()));
    fixture.tell(Outcome::Ok);
    assert_eq!(take(&reader).unwrap().unwrap()["scriptName"], "hello");
    assert_eq!(take(&reader), None);
    drop(reader);
    assert!(!fixture.tails.listen_to(&hello()));
}

#[test]
fn each_reader_gets_what_its_filters_admit() {
    let fixture = Fixture::new();
    let all = fixture.tails.open(&fixture.create(1, Vec::new())).unwrap();
    let failures = vec![Filter::Outcome(vec![Outcome::Exception])];
    let failures = fixture.tails.open(&fixture.create(2, failures)).unwrap();
    fixture.tell(Outcome::Ok);
    fixture.tell(Outcome::Exception);
    assert_eq!(take(&all).unwrap().unwrap()["outcome"], "ok");
    assert_eq!(take(&all).unwrap().unwrap()["outcome"], "exception");
    assert_eq!(take(&failures).unwrap().unwrap()["outcome"], "exception");
    assert_eq!(take(&failures), None);
}

#[test]
fn a_slow_reader_is_told_what_it_missed() {
    let fixture = Fixture::new();
    let reader = fixture.tails.open(&fixture.create(1, Vec::new())).unwrap();
    (0..3_000).for_each(|_| fixture.tell(Outcome::Ok));
    let mut events = Vec::new();
    while let Some(event) = take(&reader) {
        events.push(event.unwrap());
    }
    let notices: Vec<&Value> = events.iter().filter(|event| event["event"]["type"].is_string()).collect();
    assert_eq!(notices.len(), 2);
    assert_eq!(notices[0]["event"]["type"], "overload");
    assert_eq!(notices[0]["event"]["dropped"].as_u64().unwrap(), 3_000 - (events.len() as u64 - 2));
    assert!(notices[0]["logs"].is_array() && notices[0]["exceptions"].is_array());
    assert_eq!(notices[1]["event"]["type"], "overload-stop");
}

#[test]
fn a_tail_has_one_reader_at_a_time() {
    let fixture = Fixture::new();
    let id = fixture.create(1, Vec::new());
    let reader = fixture.tails.open(&id).unwrap();
    assert_eq!(fixture.tails.open(&id).err(), Some(OpenError::Taken));
    drop(reader);
    assert!(fixture.tails.open(&id).is_ok());
    assert_eq!(fixture.tails.open(&TailId::named("nope")).err(), Some(OpenError::Unknown));
}

#[test]
fn a_tail_that_nobody_reads_is_forgotten() {
    let fixture = Fixture::new();
    let id = fixture.create(1, Vec::new());
    fixture.clock.advance(TAIL_UNUSED_MAX - Duration::from_millis(1));
    let reader = fixture.tails.open(&id).unwrap();
    fixture.clock.advance(TAIL_UNUSED_MAX * 2);
    assert_eq!(fixture.tails.of(&hello()).len(), 1);
    drop(reader);
    fixture.clock.advance(TAIL_UNUSED_MAX);
    assert_eq!(fixture.tails.open(&id).err(), Some(OpenError::Unknown));
}

#[test]
fn a_tail_ends_when_it_is_deleted_when_it_is_old_and_when_the_node_stops() {
    let fixture = Fixture::new();
    let id = fixture.create(1, Vec::new());
    let reader = fixture.tails.open(&id).unwrap();
    assert!(!fixture.tails.delete(&"other".parse().unwrap(), &id));
    assert!(fixture.tails.delete(&hello(), &id));
    assert!(!fixture.tails.delete(&hello(), &id));
    assert_eq!(take(&reader), Some(Err(End::Deleted)));

    let reader = fixture.tails.open(&fixture.create(2, Vec::new())).unwrap();
    fixture.clock.advance(TAIL_LIFE);
    assert!(fixture.tails.of(&hello()).is_empty());
    assert_eq!(take(&reader), Some(Err(End::Expired)));

    let reader = fixture.tails.open(&fixture.create(3, Vec::new())).unwrap();
    fixture.tails.end_all();
    assert_eq!(take(&reader), Some(Err(End::Stopped)));
}

#[test]
fn tails_are_bounded() {
    let fixture = Fixture::new();
    for number in 0..TAILS_MAX {
        fixture.create(u8::try_from(number).unwrap(), Vec::new());
    }
    let another = || fixture.tails.create(TailId::from_random([255; 16]), hello(), Vec::new());
    assert_eq!(another(), Err(Full));
    fixture.clock.advance(TAIL_UNUSED_MAX);
    assert!(another().is_ok());
}
