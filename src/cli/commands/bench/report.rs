//! What came out, for people and for programs: a table of what was measured, the distributions, and what can be said of each
//! version beside the first, with the evidence.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::fingerprint::Fingerprint;
use super::load::Tally;
use super::plot;
use crate::app::lab::Cost;
use crate::cli::render;
use crate::domain::verdict::{self, EFFECT_MIN, Failures, Finding, Judged, MISS_MAX, Verdict};

/// Everything, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub worker: String,
    pub load: Load,
    pub host: Fingerprint,
    pub versions: Vec<Measured>,
    /// Each version but the first beside the first.
    pub comparisons: Vec<Comparison>,
}

/// How it was measured.
#[derive(Debug, Serialize)]
pub struct Load {
    /// `in process`, or the address.
    pub way: String,
    pub request: String,
    /// Requests a second of an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// The most requests under way at once.
    pub connections: usize,
    /// Rounds of each version.
    pub rounds: usize,
    pub round_ms: f64,
    /// Whether it was ended before its time.
    pub interrupted: bool,
    /// What limits what can be said.
    pub remarks: Vec<String>,
}

/// One version.
#[derive(Debug, Serialize)]
pub struct Measured {
    pub label: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Sent, the failed ones among them.
    pub requests: u64,
    pub errors: u64,
    pub errors_by_outcome: BTreeMap<String, u64>,
    /// Answers by their status; in those are the failures that had one.
    pub responses_by_status: BTreeMap<u16, u64>,
    /// The first of each kind, in words.
    pub error_examples: BTreeMap<String, String>,
    pub requests_per_second: f64,
    pub latency_us: Quantiles,
    /// How long the guest ran for a request: making its instance, its code, what it asked of the host meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_us: Option<Quantiles>,
    /// The rest of a request's time, from the decision to the last byte: ours, and with several requests at once waiting too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dispatch_us: Option<Quantiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<Fuel>,
    /// Why there is no fuel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel_missing: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Each of its rounds, in their order: the comparisons rest on those of the same place.
    pub rounds: Vec<RoundOf>,
    /// Latencies: up to so many microseconds, and more than before, so many requests.
    pub latency_histogram: Vec<(f64, u64)>,
}

/// What one round came down to, in microseconds.
#[derive(Debug, Serialize)]
pub struct RoundOf {
    pub requests: usize,
    /// Absent if no request was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<f64>,
    /// Absent if there were too few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<f64>,
}

/// Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

/// Instructions, so to speak, of one request to a fresh instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fuel {
    /// All of it: the least and the most of the runs.
    pub min: u64,
    pub max: u64,
    /// Of it, until the instance was made.
    pub start: u64,
    pub runs: usize,
    /// Whether every run cost the same, to the instruction.
    pub repeatable: bool,
}

/// A version beside the baseline.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub version: String,
    pub baseline: String,
    pub verdict: &'static str,
    pub evidence: String,
    pub measures: Vec<Measure>,
    /// What is said of failures.
    pub failures: &'static str,
}

/// One thing that was compared.
#[derive(Debug, Serialize)]
pub struct Measure {
    pub what: &'static str,
    pub finding: &'static str,
    /// The version's cost, in costs of the baseline.
    pub ratio: f64,
    /// Where the ratio lies, but for one interval in a hundred; absent if nothing is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
    /// Pairs of rounds; 0 for what was counted.
    pub pairs: usize,
    #[serde(skip)]
    judged: Judged,
}

/// A name and what was measured of it.
pub struct Outcome {
    pub name: String,
    pub id: Option<String>,
    pub tally: Tally,
    pub costs: Option<Result<Vec<Cost>, String>>,
}

/// `A`, `B`…: at most 20 versions are measured.
pub fn label(index: usize) -> String {
    char::from(b'A' + u8::try_from(index.min(25)).unwrap_or(25)).to_string()
}

impl Report {
    /// Sums it up.
    pub fn of(worker: String, load: Load, host: Fingerprint, outcomes: &[Outcome]) -> Self {
        let versions = outcomes.iter().enumerate().map(|(index, outcome)| Measured::of(index, outcome)).collect();
        let others = outcomes.iter().enumerate().skip(1);
        let comparisons = others.map(|(index, other)| Comparison::of(&outcomes[0], index, other)).collect();
        Self { worker, load, host, versions, comparisons }
    }

    /// Prints it for people.
    pub fn show(&self, outcomes: &[Outcome]) {
        self.host.lines().iter().for_each(render::line);
        render::line("");
        self.table();
        let series: Vec<_> =
            outcomes.iter().enumerate().map(|(i, outcome)| (label(i), &outcome.tally.latency)).collect();
        let plot = plot::lines(&series, render::width());
        if !plot.is_empty() {
            render::line("");
            render::line("Latency on a logarithmic scale; heights are roots of the shares of requests");
            plot.iter().for_each(render::line);
        }
        for version in &self.versions {
            for (kind, count) in &version.errors_by_outcome {
                let example = version.error_examples.get(kind).filter(|text| !text.is_empty());
                let example = example.map(|text| format!(": {text}")).unwrap_or_default();
                render::warn(format_args!("{} failed {count} times with `{kind}`{example}", version.label));
            }
            if let Some(why) = &version.fuel_missing {
                render::warn(format_args!("{}: the fuel was not counted: {why}", version.label));
            }
        }
        self.load.remarks.iter().for_each(render::warn);
        if !self.comparisons.is_empty() {
            render::line("");
        }
        for comparison in &self.comparisons {
            render::line(&comparison.evidence);
        }
    }

    fn table(&self) {
        let mut header = vec![String::new()];
        header.extend(self.versions.iter().map(|version| format!("{}  {}", version.label, ending(&version.name))));
        header.extend(self.comparisons.iter().map(|comparison| format!("{} beside A", comparison.version)));
        let rows = self.rows().into_iter().map(|(what, cell)| {
            let cells = self.versions.iter().map(cell);
            let beside = self.comparisons.iter().map(|comparison| {
                comparison.measures.iter().find(|measure| measure.what == what).map(Measure::cell).unwrap_or_default()
            });
            std::iter::once(what.to_owned()).chain(cells).chain(beside).collect::<Vec<_>>()
        });
        render::grid(header, rows);
    }

    #[expect(clippy::type_complexity, reason = "a row's name, and how its cells are made")]
    fn rows(&self) -> Vec<(&'static str, Box<dyn Fn(&Measured) -> String>)> {
        let mut rows: Vec<(&'static str, Box<dyn Fn(&Measured) -> String>)> = vec![
            ("requests", Box::new(|version| thousands(version.requests))),
            ("errors", Box::new(|version| thousands(version.errors))),
            ("requests a second", Box::new(|version| rate(version.requests_per_second))),
            (P50, Box::new(|version| version.latency_us.cell(|quantiles| quantiles.p50))),
            ("latency p90", Box::new(|version| version.latency_us.cell(|quantiles| quantiles.p90))),
            (P99, Box::new(|version| version.latency_us.cell(|quantiles| quantiles.p99))),
            ("latency p99.9", Box::new(|version| version.latency_us.cell(|quantiles| quantiles.p99_9))),
            ("latency max", Box::new(|version| version.latency_us.cell(|quantiles| quantiles.max))),
        ];
        if self.versions.iter().any(|version| version.guest_us.is_some()) {
            let cell = |quantiles: Option<Quantiles>| {
                quantiles.map_or_else(|| "-".to_owned(), |quantiles| quantiles.cell(|quantiles| quantiles.p50))
            };
            let dispatch = if self.load.connections == 1 { "dispatch p50" } else { "dispatch, waiting p50" };
            rows.push(("guest time p50", Box::new(move |version| cell(version.guest_us))));
            rows.push((dispatch, Box::new(move |version| cell(version.dispatch_us))));
        }
        if self.versions.iter().any(|version| version.fuel.is_some()) {
            let memory = |version: &Measured| version.peak_memory_bytes.map_or_else(|| "-".to_owned(), render::size);
            rows.push((FUEL, Box::new(|version| version.fuel.map_or_else(|| "-".to_owned(), Fuel::cell))));
            rows.push(("peak memory", Box::new(memory)));
        }
        rows
    }
}

const P50: &str = "latency p50";
const P99: &str = "latency p99";
const FUEL: &str = "guest fuel";

impl Measured {
    fn of(index: usize, Outcome { name, id, tally, costs }: &Outcome) -> Self {
        let costs_or_why = costs.as_ref().map(|costs| costs.as_ref());
        let counted = costs_or_why.and_then(Result::ok);
        Self {
            label: label(index),
            name: name.clone(),
            id: id.clone(),
            requests: tally.sent,
            errors: tally.failed(),
            errors_by_outcome: tally.faults.clone(),
            responses_by_status: tally.statuses.clone(),
            error_examples: tally.details.clone(),
            requests_per_second: tally.rate(),
            latency_us: Quantiles::of(&tally.latency),
            guest_us: (!tally.guest.is_empty()).then(|| Quantiles::of(&tally.guest)),
            dispatch_us: (!tally.rest.is_empty()).then(|| Quantiles::of(&tally.rest)),
            fuel: counted.and_then(|costs| Fuel::of(costs)),
            fuel_missing: costs_or_why.and_then(Result::err).cloned(),
            peak_memory_bytes: counted.and_then(|costs| costs.iter().map(|cost| cost.memory_bytes).max()),
            rounds: tally.rounds.iter().map(RoundOf::of).collect(),
            latency_histogram: buckets(&tally.latency),
        }
    }
}

impl RoundOf {
    fn of(round: &super::load::Round) -> Self {
        let us = |ns: f64| ns.is_finite().then_some(ns / 1_000.0);
        Self { requests: round.requests, p50_us: us(round.p50), p99_us: us(round.p99) }
    }
}

/// A histogram in buckets of a tenth each, those that are empty left out.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds, to three digits")]
fn buckets(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    let counted =
        histogram.iter_log(1_000, 1.1).map(|bucket| (bucket.value_iterated_to(), bucket.count_since_last_iteration()));
    counted.filter(|(_, requests)| *requests > 0).map(|(ns, requests)| (ns as f64 / 1_000.0, requests)).collect()
}

/// What is to be said of a version that mostly answers that it will not: such an answer is no failure, and seldom what was meant.
pub fn refused(index: usize, tally: &Tally) -> Option<String> {
    let of_client = |(status, _): &(&u16, &u64)| (400..500).contains(*status);
    let refused: u64 = tally.statuses.iter().filter(of_client).map(|(_, answers)| answers).sum();
    let (status, _) = tally.statuses.iter().filter(of_client).max_by_key(|(_, answers)| **answers)?;
    (refused * 2 > tally.sent).then(|| {
        let (version, refused, sent) = (label(index), thousands(refused), thousands(tally.sent));
        format!(
            "{version} answered {refused} of {sent} requests with {status}, which is no failure, but may not be what was to be measured: \
             see `--path`, `--method`, and the host"
        )
    })
}

impl Quantiles {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds, to three digits")]
    fn of(histogram: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1_000.0;
        let at = |quantile: f64| us(histogram.value_at_quantile(quantile));
        Self {
            mean: histogram.mean() / 1_000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: us(histogram.max()),
        }
    }

    fn cell(&self, pick: impl Fn(&Self) -> f64) -> String {
        // No answer took no time.
        if self.max == 0.0 { "-".to_owned() } else { time(pick(self) * 1_000.0) }
    }
}

impl Fuel {
    fn of(costs: &[Cost]) -> Option<Self> {
        let totals = || costs.iter().map(|cost| cost.start_fuel + cost.request_fuel);
        let (min, max) = (totals().min()?, totals().max()?);
        Some(Self { min, max, start: costs[0].start_fuel, runs: costs.len(), repeatable: min == max })
    }

    fn cell(self) -> String {
        if self.repeatable {
            thousands(self.min)
        } else {
            format!("{} to {}", thousands(self.min), thousands(self.max))
        }
    }
}

// === comparisons ===

impl Comparison {
    fn of(base: &Outcome, index: usize, other: &Outcome) -> Self {
        let pairs = |pick: fn(&super::load::Round) -> f64| -> Vec<(f64, f64)> {
            base.tally.rounds.iter().map(pick).zip(other.tally.rounds.iter().map(pick)).collect()
        };
        let p50 = verdict::of_rounds(&pairs(|round| round.p50));
        let p99 = verdict::of_rounds(&pairs(|round| round.p99));
        let mut measures = vec![Measure::of(P50, p50), Measure::of(P99, p99)];
        let fuel = |outcome: &Outcome| Fuel::of(outcome.costs.as_ref()?.as_ref().ok()?);
        if let (Some(base), Some(other)) = (fuel(base), fuel(other)) {
            measures.push(Measure::of(FUEL, verdict::of_counts((base.min, base.max), (other.min, other.max))));
        }
        let failures = |outcome: &Outcome| Failures { failed: outcome.tally.failed(), sent: outcome.tally.sent };
        let (base_failures, other_failures) = (failures(base), failures(other));
        let failing = verdict::of_failures(base_failures, other_failures);
        let mut others: Vec<Finding> = measures[1..].iter().map(|measure| measure.judged.finding).collect();
        others.push(failing);
        let verdict = Verdict::of(&[p50.finding], &others);
        let (version, baseline) = (label(index), label(0));
        let silent = |outcome: &Outcome| outcome.tally.sent > 0 && outcome.tally.latency.is_empty();
        let mut evidence = if silent(base) && silent(other) {
            format!("Nothing to compare: all requests to {version} failed, and all to {baseline}.")
        } else {
            evidence(verdict, &version, &baseline, &measures)
        };
        if matches!(failing, Finding::Better | Finding::Worse) {
            let part = |failures: Failures| format!("{} of {}", thousands(failures.failed), thousands(failures.sent));
            evidence +=
                &format!(" {version} failed {} requests, {baseline} {}.", part(other_failures), part(base_failures));
        }
        Self { version, baseline, verdict: verdict.as_str(), evidence, measures, failures: failing.as_str() }
    }
}

/// The verdict and what it rests on, in a sentence or two.
fn evidence(verdict: Verdict, version: &str, baseline: &str, measures: &[Measure]) -> String {
    let head = match verdict {
        Verdict::Better | Verdict::Worse => format!("{version} is {} than {baseline}", verdict.as_str()),
        Verdict::Mixed => format!("{version} is better than {baseline} in one thing, and worse in another"),
        Verdict::Same => format!("No difference that matters between {version} and {baseline}"),
        Verdict::NotEnoughData => format!("Not enough data to tell {version} from {baseline}"),
    };
    // What was found, or else what all rests on.
    let decided: Vec<&Measure> =
        measures.iter().filter(|measure| matches!(measure.judged.finding, Finding::Better | Finding::Worse)).collect();
    let same = measures.iter().filter(|measure| measure.judged.finding == Finding::Same);
    let told: Vec<String> = match verdict {
        Verdict::Better | Verdict::Worse | Verdict::Mixed => decided.iter().map(|measure| measure.words()).collect(),
        Verdict::Same => same.map(Measure::words).collect(),
        Verdict::NotEnoughData => measures[..1].iter().map(Measure::words).collect(),
    };
    let mut text = if told.is_empty() { format!("{head}.") } else { format!("{head}: {}.", told.join("; ")) };
    match verdict {
        Verdict::NotEnoughData => text += " A longer `--duration`, or a quieter machine, narrows it.",
        Verdict::Same => text += &format!(" Less than {} % either way does not matter.", EFFECT_MIN * 100.0),
        _ => {}
    }
    text
}

impl Measure {
    fn of(what: &'static str, judged: Judged) -> Self {
        let Judged { finding, ratio, pairs } = judged;
        let interval = ratio.high.is_finite().then_some((ratio.low, ratio.high));
        Self { what, finding: finding.as_str(), ratio: ratio.estimate, interval, pairs, judged }
    }

    /// `+13.9 % (12.1 to 15.2), worse`.
    fn cell(&self) -> String {
        let Some((low, high)) = self.interval else { return self.finding.to_owned() };
        if self.judged.finding == Finding::Same && self.is_exact() && self.ratio == 1.0 {
            return "the same".to_owned();
        }
        let range = if self.is_exact() { String::new() } else { format!(" ({} to {})", change(low), change(high)) };
        let finding = match self.judged.finding {
            Finding::Same => "no difference",
            Finding::NotEnoughData => "unsure",
            other => other.as_str(),
        };
        format!("{} %{range}, {finding}", change(self.ratio))
    }

    fn is_exact(&self) -> bool {
        self.pairs == 0 && self.interval.is_some_and(|(low, high)| low == high)
    }

    /// `latency p50 is 13.9 % higher (12.1 to 15.2 in 99 % of cases, 40 pairs of rounds)`.
    fn words(&self) -> String {
        let what = self.what;
        let Some((low, high)) = self.interval else {
            return format!("{what} rests on {} pairs of rounds, which is too few", self.pairs);
        };
        let by = (self.ratio - 1.0).abs() * 100.0;
        let difference = if self.ratio == 1.0 {
            format!("{what} is the same")
        } else {
            format!("{what} is {by:.1} % {}", if self.ratio > 1.0 { "higher" } else { "lower" })
        };
        if self.pairs == 0 {
            return if self.is_exact() { format!("{difference}, exactly") } else { difference };
        }
        let sure = (1.0 - MISS_MAX) * 100.0;
        let (low, high) = (change(low), change(high));
        format!("{difference} ({sure} % interval {low} to {high} %, {} pairs of rounds)", self.pairs)
    }
}

/// A ratio as a signed percentage: `+13.9`.
fn change(ratio: f64) -> String {
    let percent = (ratio - 1.0) * 100.0;
    // No sign before nothing.
    if percent.abs() < 0.05 { "0.0".to_owned() } else { format!("{percent:+.1}") }
}

// === how values read ===

/// Nanoseconds with three digits: `80.1 µs`.
pub fn time(ns: f64) -> String {
    let (amount, unit) = match ns {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = match amount {
        amount if amount.fract() == 0.0 => 0,
        amount if amount < 10.0 => 2,
        amount if amount < 100.0 => 1,
        _ => 0,
    };
    format!("{amount:.digits$} {unit}")
}

/// `12,345`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of requests")]
fn rate(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { thousands(rate.round() as u64) }
}

/// As much of a name as leaves room for two columns: of a path, the end says most.
fn ending(name: &str) -> String {
    const CHARS_MAX: usize = 24;
    let chars = name.chars().count();
    if chars <= CHARS_MAX {
        return name.to_owned();
    }
    std::iter::once('…').chain(name.chars().skip(chars + 1 - CHARS_MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_people_say_them() {
        assert_eq!([time(80.0), time(80_123.0), time(1.234e6), time(2e9)], ["80 ns", "80.1 µs", "1.23 ms", "2 s"]);
        assert_eq!([thousands(0), thousands(999), thousands(1_234_567)], ["0", "999", "1,234,567"]);
        assert_eq!([change(1.139), change(0.9), change(1.0001)], ["+13.9", "-10.0", "0.0"]);
        assert_eq!([label(0), label(1), label(19)], ["A", "B", "T"]);
        assert_eq!(ending("hello.wasm"), "hello.wasm");
        assert_eq!(ending("/somewhere/far/away/hello.wasm"), "…ere/far/away/hello.wasm");
    }

    fn measures(p50: &[(f64, f64)], fuel: Option<(u64, u64)>) -> Vec<Measure> {
        let mut measures = vec![Measure::of(P50, verdict::of_rounds(p50)), Measure::of(P99, verdict::of_rounds(&[]))];
        measures.extend(fuel.map(|(a, b)| Measure::of(FUEL, verdict::of_counts((a, a), (b, b)))));
        measures
    }

    #[test]
    fn a_verdict_says_what_it_rests_on() {
        let told = |verdict, measures: &[Measure]| evidence(verdict, "B", "A", measures);
        let slower = measures(&[(100.0, 110.0); 20], Some((1_000, 1_250)));
        assert_eq!(
            told(Verdict::Worse, &slower),
            "B is worse than A: latency p50 is 10.0 % higher (99 % interval +10.0 to +10.0 %, 20 pairs of rounds); \
             guest fuel is 25.0 % higher, exactly."
        );
        assert_eq!(slower[0].cell(), "+10.0 % (+10.0 to +10.0), worse");
        let same = measures(&[(100.0, 100.0); 20], Some((1_000, 1_000)));
        assert_eq!(
            told(Verdict::Same, &same),
            "No difference that matters between B and A: latency p50 is the same (99 % interval 0.0 to 0.0 %, 20 pairs \
             of rounds); guest fuel is the same, exactly. Less than 3 % either way does not matter."
        );
        assert_eq!(same[2].cell(), "the same");
        let few = measures(&[(100.0, 100.0); 3], None);
        assert_eq!(
            told(Verdict::NotEnoughData, &few),
            "Not enough data to tell B from A: latency p50 rests on 3 pairs of rounds, which is too few. A longer \
             `--duration`, or a quieter machine, narrows it."
        );
        assert_eq!(few[0].cell(), "not enough data");
    }
}
