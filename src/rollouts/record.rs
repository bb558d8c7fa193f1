//! The stored shape of a rollout: JSON with a `format` number, one record for each worker, the newest rollout's.
//!
//! | Key (family, components) | Record |
//! |---|---|
//! | `50` worker | [`Stored`] |
//!
//! A new field is optional and has a default; whatever would change the meaning of what is there takes a new format number.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::id::WorkerName;
use crate::domain::rollout::{Event, Live, Plan, Rollout, State};
use crate::domain::split::Share;
use crate::domain::version::{Provenance, Source};
use crate::store::{Entry, Family, Key, Range};

const ROLLOUTS: Family = Family::new(0x50);
/// The format that is written, and the newest that is read.
const FORMAT: u32 = 1;

/// A rollout of a worker.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    /// The worker's tag: tells it from another one that had its name before.
    pub(super) tag: String,
    pub(super) rollout: Rollout,
}

/// Why a stored record is no rollout.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    #[error("it has format {found}, and this Sluice knows formats up to {FORMAT}; start a newer Sluice")]
    NewerFormat { found: u32 },
    #[error("it is not the JSON that was expected")]
    Json { source: serde_json::Error },
    #[error("its `{field}` is not valid")]
    Field { field: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
}

pub(super) fn key(worker: &WorkerName) -> Key {
    Key::family(ROLLOUTS).text(worker.as_str())
}

pub(super) fn all() -> Range {
    Range::under(&Key::family(ROLLOUTS))
}

/// The worker whose rollout is stored under `key`.
pub(super) fn worker_of(key: &Key) -> Result<WorkerName, Damaged> {
    let name = key.parts(ROLLOUTS).and_then(|mut parts| parts.text());
    parse("worker", &name.map_err(|source| field("worker", source))?)
}

#[derive(Deserialize)]
struct Header {
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    worker_tag: String,
    old: String,
    new: String,
    author: String,
    source: String,
    state: String,
    /// In slots, so that nothing is rounded.
    steps: Vec<u32>,
    every_ms: u64,
    guards: Vec<String>,
    live: Vec<LiveRecord>,
    since_ms: u64,
    windows: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    events: Vec<EventRecord>,
}

#[derive(Serialize, Deserialize)]
struct LiveRecord {
    slots: u32,
    at_ms: u64,
    deployment: String,
}

#[derive(Serialize, Deserialize)]
struct EventRecord {
    at_ms: u64,
    what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deployment: Option<String>,
}

pub(super) fn encode(stored: &Stored) -> Vec<u8> {
    let Stored { tag, rollout } = stored;
    let live = rollout.live.iter().map(|live| LiveRecord {
        slots: live.share.slots(),
        at_ms: live.at_ms,
        deployment: live.deployment.to_string(),
    });
    let events = rollout.events.iter().map(|event| EventRecord {
        at_ms: event.at_ms,
        what: event.what.clone(),
        deployment: event.deployment.map(|id| id.to_string()),
    });
    let record = Record {
        format: FORMAT,
        worker_tag: tag.clone(),
        old: rollout.old.to_string(),
        new: rollout.new.to_string(),
        author: rollout.provenance.author.clone(),
        source: rollout.provenance.source.as_str().to_owned(),
        state: rollout.state.as_str().to_owned(),
        steps: rollout.plan.steps().iter().map(|share| share.slots()).collect(),
        every_ms: u64::try_from(rollout.plan.every().as_millis()).unwrap_or(u64::MAX),
        guards: rollout.plan.guards().iter().map(ToString::to_string).collect(),
        live: live.collect(),
        since_ms: rollout.since_ms,
        windows: rollout.windows,
        events: events.collect(),
    };
    serde_json::to_vec(&record).expect("records are plain data")
}

pub(super) fn decode(entry: &Entry) -> Result<Stored, Damaged> {
    let json = |source| Damaged::Json { source };
    // The format first: of a newer one nothing else may be taken for granted.
    let header: Header = serde_json::from_slice(&entry.value).map_err(json)?;
    if header.format > FORMAT {
        return Err(Damaged::NewerFormat { found: header.format });
    }
    let record: Record = serde_json::from_slice(&entry.value).map_err(json)?;
    let percentages: Vec<f64> = record.steps.iter().map(|slots| Share::from_slots(*slots).percent()).collect();
    let guards = record.guards.iter().map(|guard| parse("guards", guard)).collect::<Result<_, _>>()?;
    let plan = Plan::new(&percentages, Duration::from_millis(record.every_ms), guards);
    let live = record.live.iter().map(|live| {
        let deployment = parse("live", &live.deployment)?;
        Ok(Live { share: Share::from_slots(live.slots), at_ms: live.at_ms, deployment })
    });
    let events = record.events.into_iter().map(|event| {
        let deployment = event.deployment.map(|id| parse("events", &id)).transpose()?;
        Ok(Event { at_ms: event.at_ms, what: event.what, deployment })
    });
    let rollout = Rollout {
        plan: plan.map_err(|source| field("steps", source))?,
        old: parse("old", &record.old)?,
        new: parse("new", &record.new)?,
        provenance: Provenance { author: record.author, source: Source::from_name(&record.source) },
        state: state(&record.state)?,
        live: live.collect::<Result<_, Damaged>>()?,
        since_ms: record.since_ms,
        windows: record.windows,
        events: events.collect::<Result<_, Damaged>>()?,
    };
    Ok(Stored { tag: record.worker_tag, rollout })
}

fn state(name: &str) -> Result<State, Damaged> {
    let known = State::ALL.into_iter().find(|state| state.as_str() == name);
    known.ok_or_else(|| Damaged::Field { field: "state", source: format!("`{name}` is no state").into() })
}

fn field(field: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Damaged {
    Damaged::Field { field, source: Box::new(source) }
}

fn parse<T>(name: &'static str, text: &str) -> Result<T, Damaged>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    text.parse().map_err(|source| field(name, source))
}
