//! The metrics of a node, gathered whenever somebody asks: as text for Prometheus here, as OTLP in [`otlp`](super::otlp). [`TABLE`]
//! says of each its name, kind, labels, unit and meaning: the help texts come from it, and so does the table in the README (a test
//! compares them).

use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::domain::distribution::Distribution;

/// Upper bounds of the histograms' buckets, in microseconds; the last bucket has none.
pub(super) const BOUNDS_US: [u64; 14] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000];

/// How a metric's number moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from the start of the node on.
    Counter,
    /// It is what is there now.
    Gauge,
    /// Durations in seconds, counted in buckets.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// The names of its labels, in their order.
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

const fn metric(name: &'static str, kind: Kind, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind, labels, help }
}

const OF_VERSION: &[&str] = &["worker", "version"];

/// Every metric that a node has.
pub const TABLE: [Metric; 25] = {
    use Kind::{Counter, Gauge, Histogram};
    [
        metric(
            "sluice_requests_total",
            Counter,
            &["worker", "version", "outcome"],
            "Requests that have ended, by outcome.",
        ),
        metric("sluice_responses_total", Counter, &["worker", "version", "class"], "Responses by class of status."),
        metric(
            "sluice_request_seconds",
            Histogram,
            OF_VERSION,
            "Wall time of requests, to the end of the response's body.",
        ),
        metric("sluice_request_cpu_seconds", Histogram, OF_VERSION, "CPU time that guests used for requests."),
        metric(
            "sluice_request_memory_bytes_max",
            Gauge,
            OF_VERSION,
            "The most linear memory that an instance had at the end of a request, since the node started.",
        ),
        metric("sluice_subrequests_total", Counter, OF_VERSION, "Outgoing requests of guests."),
        metric(
            "sluice_instance_reuses_total",
            Counter,
            OF_VERSION,
            "Requests served by an instance that had served before.",
        ),
        metric("sluice_instances", Gauge, OF_VERSION, "Instances that live now, objects not counted."),
        metric(
            "sluice_instance_waits_total",
            Counter,
            OF_VERSION,
            "Requests that had to wait for a permit or for room for an instance.",
        ),
        metric("sluice_instances_waiting", Gauge, OF_VERSION, "Requests that wait for one of these now."),
        metric("sluice_objects_live", Gauge, &[], "Durable Objects in memory."),
        metric(
            "sluice_object_starts_total",
            Counter,
            OF_VERSION,
            "Durable Objects that came to memory, by the version that they ran.",
        ),
        metric(
            "sluice_object_resets_total",
            Counter,
            &["worker", "version", "why"],
            "Durable Objects that were reset, by the version that they ran and why.",
        ),
        metric("sluice_store_commits_total", Counter, &[], "Commits that the store has answered."),
        metric(
            "sluice_store_sync_seconds",
            Histogram,
            &[],
            "How long the disk took to make a group of commits durable.",
        ),
        metric("sluice_unrouted_total", Counter, &[], "Requests whose host matched no worker."),
        metric("sluice_undeployed_total", Counter, &[], "Requests to workers without a deployment."),
        metric("sluice_connections_total", Counter, &[], "Connections accepted by the data listener."),
        metric("sluice_workers", Gauge, &[], "Workers on this node."),
        metric("sluice_versions_ready", Gauge, &[], "Versions that are ready to run."),
        metric(
            "sluice_deployment_share",
            Gauge,
            OF_VERSION,
            "The share of the traffic that the active deployment gives a version, from 0 to 1.",
        ),
        metric(
            "sluice_version_info",
            Gauge,
            &["worker", "version", "number", "tag"],
            "Always 1: the number and the tag of a version that is live.",
        ),
        metric("sluice_request_log_dropped_total", Counter, &[], "Lines of the request log that were dropped."),
        metric(
            "sluice_spans_dropped_total",
            Counter,
            &["why"],
            "Spans that were not exported: the queue was full, or the collector did not take them.",
        ),
        metric("sluice_start_time_seconds", Gauge, &[], "When the node started, in seconds of Unix time."),
    ]
};

/// A dashboard for Grafana that shows them, to be imported there.
pub const GRAFANA: &str = include_str!("grafana.json");

/// Gathers them from every room that keeps some.
pub type Gather = std::sync::Arc<dyn Fn() -> Exposition + Send + Sync>;

/// The values of all metrics at one moment.
#[derive(Debug, Default)]
pub struct Exposition(Vec<Family>);

/// The values of one metric.
#[derive(Debug)]
pub struct Family {
    pub metric: &'static Metric,
    pub points: Vec<Point>,
}

/// One value of a metric.
#[derive(Debug)]
pub struct Point {
    /// A value for each label of the metric.
    pub labels: Vec<String>,
    pub value: Value,
}

/// What a metric can be worth.
#[derive(Debug)]
pub enum Value {
    Whole(u64),
    Real(f64),
    Spread(Spread),
}

/// Durations, counted in the buckets that [`BOUNDS_US`] bounds.
#[derive(Debug)]
pub struct Spread {
    /// How many were at most as long as each bound.
    pub at_most: [u64; BOUNDS_US.len()],
    pub count: u64,
    /// All of them together.
    pub sum: Duration,
}

impl Metric {
    /// Its unit as OTLP has it (UCUM), which its name says too. Without one it is a plain number: "1" would be a ratio.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        if self.name.contains("_seconds") {
            "s"
        } else if self.name.contains("_bytes") {
            "By"
        } else {
            ""
        }
    }
}

impl Exposition {
    /// Begins a metric of the [`TABLE`].
    ///
    /// # Panics
    /// If the table has no such metric.
    pub fn family(&mut self, name: &str) -> &mut Family {
        let metric = TABLE.iter().find(|metric| metric.name == name).expect("every metric is in the table");
        self.0.push(Family { metric, points: Vec::new() });
        self.0.last_mut().expect("it was just added")
    }

    /// A metric without labels.
    pub fn single(&mut self, name: &str, value: impl Into<Value>) {
        self.family(name).value(&[], value);
    }

    /// Every metric with what it is worth.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.0
    }

    /// All of it as Prometheus reads it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for Family { metric, points } in &self.0 {
            // Writing to a text never fails, here and below.
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {}", metric.help, metric.kind, name = metric.name);
            points.iter().for_each(|point| point.write(metric, &mut text));
        }
        text
    }
}

impl Family {
    /// One value, with a value for each label of the metric.
    pub fn value(&mut self, labels: &[&str], value: impl Into<Value>) {
        debug_assert_eq!(labels.len(), self.metric.labels.len(), "{}", self.metric.name);
        let labels = labels.iter().map(ToString::to_string).collect();
        self.points.push(Point { labels, value: value.into() });
    }

    /// One distribution, whose durations were `sum` together.
    pub fn distribution(&mut self, labels: &[&str], distribution: &Distribution, sum: Duration) {
        let at_most = BOUNDS_US.map(|us| distribution.at_most(Duration::from_micros(us)));
        self.value(labels, Value::Spread(Spread { at_most, count: distribution.count(), sum }));
    }
}

impl Point {
    fn write(&self, metric: &Metric, text: &mut String) {
        match &self.value {
            Value::Whole(number) => self.line(metric, text, ("", None), number),
            Value::Real(number) => self.line(metric, text, ("", None), number),
            Value::Spread(Spread { at_most, count, sum }) => {
                for (us, so_many) in BOUNDS_US.iter().zip(at_most) {
                    let bound = Duration::from_micros(*us).as_secs_f64().to_string();
                    self.line(metric, text, ("_bucket", Some(&bound)), so_many);
                }
                self.line(metric, text, ("_bucket", Some("+Inf")), count);
                self.line(metric, text, ("_sum", None), sum.as_secs_f64());
                self.line(metric, text, ("_count", None), count);
            }
        }
    }

    fn line(&self, metric: &Metric, text: &mut String, (suffix, bound): (&str, Option<&str>), value: impl Display) {
        let named = metric.labels.iter().copied().zip(self.labels.iter().map(String::as_str));
        let _ = write!(text, "{}{suffix}", metric.name);
        for (place, (label, value)) in named.chain(bound.map(|bound| ("le", bound))).enumerate() {
            let _ = write!(text, "{}{label}=\"{}\"", if place == 0 { '{' } else { ',' }, Escaped(value));
        }
        let end = if self.labels.is_empty() && bound.is_none() { "" } else { "}" };
        let _ = writeln!(text, "{end} {value}");
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Whole(number as u64)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

/// A label's value: tags are what a user typed.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' | '"' => write!(f, "\\{character}")?,
                '\n' => f.write_str("\\n")?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as the README has it.
    fn as_markdown() -> String {
        let mut text = "| metric | kind | labels | |\n|---|---|---|---|\n".to_owned();
        for metric in &TABLE {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(text, "| `{}` | {} | {} | {} |", metric.name, metric.kind, labels.join(" "), metric.help);
        }
        text
    }

    #[test]
    fn the_readme_has_the_table() {
        let table = as_markdown();
        assert!(include_str!("../../README.md").contains(&table), "README.md needs this table:\n{table}");
    }

    #[test]
    fn the_grafana_dashboard_asks_only_for_what_there_is() {
        let dashboard: serde_json::Value = serde_json::from_str(GRAFANA).unwrap();
        let mut asked = std::collections::BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let query = target["expr"].as_str().unwrap();
                let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
                asked.extend(words.filter(|word| word.starts_with("sluice_")).map(str::to_owned));
            }
        }
        assert!(asked.len() > 10, "{asked:?}");
        for name in asked {
            let histogram = name.strip_suffix("_bucket").unwrap_or(&name);
            assert!(TABLE.iter().any(|metric| metric.name == name || metric.name == histogram), "{name}");
        }
    }

    #[test]
    fn names_say_kind_and_unit() {
        for metric in &TABLE {
            assert!(metric.name.starts_with("sluice_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.kind != Kind::Histogram || metric.name.ends_with("_seconds"), "{}", metric.name);
            assert_eq!(metric.unit() == "s", metric.name.ends_with("_seconds"), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            assert_eq!(TABLE.iter().filter(|other| other.name == metric.name).count(), 1);
        }
    }

    #[test]
    fn buckets_are_cumulative_and_labels_escaped() {
        let mut text = Exposition::default();
        let mut distribution = Distribution::default();
        [1, 2, 700].iter().for_each(|ms| distribution.add(Duration::from_millis(*ms)));
        text.family("sluice_request_seconds").distribution(&["w", "v"], &distribution, Duration::from_millis(703));
        text.family("sluice_version_info").value(&["w", "v", "1", "a\"b\\c\nd"], 1_u64);
        text.single("sluice_workers", 3_u64);
        let text = text.to_text();
        for line in [
            "# TYPE sluice_request_seconds histogram\n",
            "sluice_request_seconds_bucket{worker=\"w\",version=\"v\",le=\"0.001\"} 1\n",
            "le=\"0.0025\"} 2\n",
            "le=\"+Inf\"} 3\n",
            "sluice_request_seconds_sum{worker=\"w\",version=\"v\"} 0.703\n",
            "sluice_request_seconds_count{worker=\"w\",version=\"v\"} 3\n",
            "tag=\"a\\\"b\\\\c\\nd\"} 1\n",
            "\nsluice_workers 3\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
