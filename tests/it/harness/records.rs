//! What a node tells of its requests and of itself: records, metrics, and what the system counts for its process.

use serde_json::Value;

use crate::harness::http::{self, Reply};
use crate::harness::{Node, until};

/// One line of the request log.
#[derive(Debug, Clone)]
pub struct Record(pub Value);

impl Record {
    /// A field that is text; empty where it is null or absent.
    pub fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    /// A field that is a number.
    pub fn number(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or_else(|| panic!("no number `{name}` in {}", self.0))
    }

    /// `outcome/blame`, the blame empty if there is none.
    pub fn end(&self) -> String {
        format!("{}/{}", self.text("outcome"), self.text("blame"))
    }

    /// What the guest printed: `stdout: line`.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.0["lines"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        lines.iter().map(|line| format!("{}: {}", text(&line["stream"]), text(&line["line"]))).collect()
    }
}

impl Node {
    /// All records so far, of a node that was started by [`Node::logging`].
    pub fn records(&self) -> Vec<Record> {
        let text = std::fs::read_to_string(self.dir().join("requests.jsonl")).unwrap_or_default();
        // The last line may still be on its way.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| Record(serde_json::from_str(line).expect("a record is JSON"))).collect()
    }

    /// The first record that `fits`, once it is written.
    pub fn record(&self, what: &str, fits: impl Fn(&Record) -> bool) -> Record {
        until(&format!("the record of {what}"), || self.records().into_iter().find(|record| fits(record)))
    }

    /// The record of the one request to this path of a worker.
    pub fn record_of(&self, worker: &str, path: &str) -> Record {
        self.record(path, |record| record.text("worker") == worker && record.text("path") == path)
    }

    /// The record that an error response names.
    pub fn record_named_by(&self, reply: &Reply) -> Record {
        let text = reply.text();
        let id = text.rsplit("(request ").next().and_then(|rest| rest.get(..16)).expect("an id").to_owned();
        self.record(&id, |record| record.text("id") == id)
    }

    /// The metrics as text.
    pub fn metrics(&self) -> Reply {
        http::request(self.control, "GET", "/metrics", &[("host", &self.control.to_string())], b"")
    }

    /// The value of the metric whose name and labels are `series`.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics().text();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// A line of the process's status in MiB: `VmRSS` for what it has in memory, `VmHWM` for the most it ever had.
    pub fn memory_mib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process is there");
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of that name");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
        kib / 1024
    }

    /// Seconds of CPU time that the process has used.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the process is there");
        // The second field is the name in brackets, and may hold spaces.
        let rest = stat.rsplit(')').next().expect("a name in brackets");
        let ticks = |place: usize| rest.split_whitespace().nth(place).and_then(|text| text.parse::<f64>().ok());
        // 100 ticks a second on every Linux.
        (ticks(11).expect("user time") + ticks(12).expect("system time")) / 100.0
    }

    /// Waits until the process does nothing, for a fifth of a second: what it was given is done, or waits.
    pub fn until_quiet(&self) {
        let (mut used, mut idle_for) = (self.cpu_seconds(), 0);
        until("the node is quiet", || {
            let now = self.cpu_seconds();
            idle_for = if (now - used).abs() < f64::EPSILON { idle_for + 1 } else { 0 };
            used = now;
            (idle_for >= 40).then_some(())
        });
    }
}
