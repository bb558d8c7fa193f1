//! What comes to a worker now, by version: how much, how it ends, how long it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use maud::{Markup, html};

use crate::catalog::WorkerView;
use crate::dashboard::legend::Legend;
use crate::dashboard::live::Part;
use crate::dashboard::{Dashboard, figures, parts};
use crate::domain::id::VersionId;
use crate::domain::split::Share;
use crate::observe::history::{POINTS, Traffic};

/// How far back shares are counted, at most.
const SHARES_SPAN: Duration = Duration::from_secs(5 * 60);

/// The traffic of a worker's versions at one moment.
pub struct Live {
    pub rows: Vec<Row>,
    /// Whether shares are counted since the active deployment, which is younger than [`SHARES_SPAN`].
    is_young: bool,
    /// The versions that share a series, if any had requests.
    others: Option<Traffic>,
}

/// One version of the active deployment, or one that has traffic all the same.
pub struct Row {
    pub id: VersionId,
    /// None if it is not in the active deployment.
    pub configured: Option<Share>,
    pub traffic: Traffic,
}

impl Live {
    /// The versions of the active deployment in its order, then those that had requests all the same.
    #[must_use]
    pub fn of(dashboard: &Dashboard, worker: &WorkerView) -> Self {
        let since_ms = worker.active.as_ref().map_or(0, |active| active.created_ms);
        let mut traffic = dashboard.observer.history.traffic(&worker.name, since_ms);
        let entries = worker.active.iter().flat_map(|active| active.split.entries());
        let mut rows: Vec<Row> = entries
            .map(|(id, share)| {
                let traffic = traffic.remove(&Some(*id)).unwrap_or_else(quiet);
                Row { id: *id, configured: Some(*share), traffic }
            })
            .collect();
        let others = traffic.remove(&None).filter(|traffic| traffic.recent.requests > 0);
        rows.extend(beside(traffic).map(|(id, traffic)| Row { id, configured: None, traffic }));
        let span_ms = u64::try_from(SHARES_SPAN.as_millis()).unwrap_or(u64::MAX);
        let is_young = dashboard.clock.now_ms().saturating_sub(since_ms) < span_ms;
        Self { rows, is_young, others }
    }

    /// The requests that achieved shares are of.
    #[must_use]
    pub fn total(&self) -> u64 {
        let deployed = self.rows.iter().filter(|row| row.configured.is_some());
        deployed.map(|row| row.traffic.since.requests).sum()
    }

    /// Since when shares are counted.
    #[must_use]
    pub fn since_text(&self) -> &'static str {
        if self.is_young { "since this deployment" } else { "of the last 5 minutes" }
    }
}

/// Versions that are not deployed, and had requests in the last minutes.
fn beside(traffic: BTreeMap<Option<VersionId>, Traffic>) -> impl Iterator<Item = (VersionId, Traffic)> {
    let busy = traffic.into_iter().filter(|(_, traffic)| traffic.recent.requests > 0);
    busy.filter_map(|(id, traffic)| Some((id?, traffic)))
}

fn quiet() -> Traffic {
    Traffic { points: vec![Default::default(); POINTS], ..Traffic::default() }
}

/// The table.
pub(super) fn section(dashboard: &Dashboard, worker: &WorkerView, legend: &Legend<'_>, live: &Live) -> Part {
    let caption = "Live traffic by version";
    let total = live.total();
    let table = html! {
        table.traffic {
            caption.unseen { (caption) }
            thead {
                tr {
                    th scope="col" { "Version" }
                    th.number scope="col" { "Share" }
                    th.number scope="col" { "Achieved" }
                    th.number scope="col" { "Requests/s" }
                    th.number scope="col" { "Errors" }
                    th.number scope="col" { "p50" }
                    th.number scope="col" { "p99" }
                    th.number scope="col" { "CPU p50" }
                    th.number scope="col" { "CPU p99" }
                    th.number scope="col" { "Memory" }
                    th scope="col" { "Last 5 minutes" }
                }
            }
            tbody {
                @for row in &live.rows { (line(dashboard, worker, legend, row, total)) }
                @if let Some(others) = &live.others { (shared(others)) }
            }
        }
    };
    let element = html! {
        section #traffic aria-labelledby="traffic-title" {
            h2 #traffic-title { "Live traffic" }
            @if live.rows.is_empty() && live.others.is_none() {
                p.muted { "No version is deployed, and none had a request in the last five minutes." }
            } @else {
                (parts::scrolling(caption, &table))
                p.note {
                    "Requests/s of the last ten seconds; errors of the last five minutes; durations of the last minute, from the first byte of the request to the last of the answer; memory is the most that an instance had since the node started. "
                    "Achieved counts all requests to deployed versions, those with a key or an override among them."
                }
            }
        }
    };
    Part::new("traffic", element)
}

fn line(dashboard: &Dashboard, worker: &WorkerView, legend: &Legend<'_>, row: &Row, total: u64) -> Markup {
    let (metrics, traffic) = (&dashboard.observer.metrics, &row.traffic);
    let minute = dashboard.observer.history.last_minute(metrics, &worker.name, row.id);
    let memory = metrics.memory_bytes_max(&worker.name, row.id).filter(|bytes| *bytes > 0);
    html! {
        tr {
            th scope="row" { (legend.tagged(row.id)) }
            td.number {
                @match row.configured {
                    Some(share) => { (figures::share(share)) },
                    None => { span.muted title="It is not in the active deployment" { (figures::NONE) } },
                }
            }
            td.number {
                @match row.configured.and_then(|_| figures::part_of(traffic.since.requests, total)) {
                    Some(part) => { (part) },
                    None => { span.muted { (figures::NONE) } },
                }
            }
            td.number { (figures::rate(traffic.rate)) }
            td.number.bad[traffic.recent.errors > 0] { (figures::errors(traffic.recent)) }
            td.number { (figures::duration(minute.wall.quantile(0.5))) }
            td.number { (figures::duration(minute.wall.quantile(0.99))) }
            td.number { (figures::duration(minute.cpu.quantile(0.5))) }
            td.number { (figures::duration(minute.cpu.quantile(0.99))) }
            td.number { (memory.map_or_else(|| figures::NONE.to_owned(), figures::size)) }
            td { (parts::line(&traffic.points)) }
        }
    }
}

/// Versions without series of their own: there are more than a node keeps apart.
fn shared(traffic: &Traffic) -> Markup {
    html! {
        tr {
            th scope="row" { "others" }
            td.number { (figures::NONE) }
            td.number { (figures::NONE) }
            td.number { (figures::rate(traffic.rate)) }
            td.number { (figures::errors(traffic.recent)) }
            td.muted colspan="5" { "counted together: this node has run too many versions to keep them apart" }
            td { (parts::line(&traffic.points)) }
        }
    }
}
