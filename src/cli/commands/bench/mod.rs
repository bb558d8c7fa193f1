//! `bench`: versions of a worker measured beside each other, in this process or over HTTP, and what can be said of them.
//!
//! Reading order: [`subjects`] finds what is measured, [`load`] sends the requests (over HTTP by [`http`]), [`report`] sums up
//! and prints, with a [`plot`] and the machine's [`fingerprint`]. What is better is the domain's to say
//! ([`crate::domain::verdict`]); the inside of a node is lent by [`crate::app::lab`].

pub mod fingerprint;
pub mod http;
pub mod load;
pub mod plot;
pub mod report;
pub mod stage;
pub mod subjects;

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use anyhow::Context as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::lab::{Cost, Template};
use crate::cli::args::{BenchArgs, Common};
use crate::cli::fault::{Fault, failed, usage};
use crate::cli::render;
use crate::cli::settings::parse_duration;

use super::explain::parse_header;
use super::node;
use fingerprint::Fingerprint;
use load::{Pace, Pool, Tally, Target};
use report::{Load, Outcome, Report};
use stage::Stage;

/// Requests at once if nothing else is said: one at a time is what a request costs; with a rate, enough not to hold it up.
const CONNECTIONS_CLOSED: usize = 1;
const CONNECTIONS_OPEN: usize = 256;
/// How often instructions are counted: often enough to see that they vary.
const COUNTS: usize = 5;

/// The longest time that can be asked for: a mistyped unit is not to run for years.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What was typed, understood.
struct Plan {
    pace: Pace,
    duration: Duration,
    warmup: Duration,
}

/// `sluice bench`.
pub async fn run(args: &BenchArgs, common: &Common) -> anyhow::Result<()> {
    let plan = Plan::of(args)?;
    // What the guests print, and every request that fails, would stand between the lines of the table.
    node::install_log("error");
    let stop = CancellationToken::new();
    let (told, token) = (node::until_told_to_stop()?, stop.clone());
    tokio::spawn(async move {
        told.await;
        token.cancel();
    });
    let host = Fingerprint::take();
    let stage = tokio::select! {
        stage = Stage::set(args, common) => stage?,
        () = stop.cancelled() => return Err(failed("stopped before anything was measured").into()),
    };
    let outcome = measure(&plan, &stage, &stop).await;
    let shown = outcome.map(|measurement| tell(&plan, &stage, host, measurement, args));
    stage.strike().await;
    shown
}

/// What came of the load.
struct Measurement {
    tallies: Vec<Tally>,
    costs: Vec<Option<Result<Vec<Cost>, String>>>,
    round: Duration,
    ending: Ending,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    InTime,
    /// It was told to.
    Early,
    /// Its requests took far longer than there was time for.
    Late,
}

async fn measure(plan: &Plan, stage: &Stage, stop: &CancellationToken) -> anyhow::Result<Measurement> {
    let costs = tokio::select! {
        costs = stage.count(COUNTS) => costs,
        () = stop.cancelled() => return Err(failed("stopped before anything was measured").into()),
    };
    let target = &stage.target;
    let versions = target.count();
    let pool = Pool::new(plan.pace.connections());
    let latency = warm_up(plan, target, &pool, stop).await?;
    let (rounds, length) = plan.pace.rounds(plan.duration, versions, latency);
    let mut tallies = (0..versions).map(|_| Tally::new()).collect::<anyhow::Result<Vec<_>>>()?;
    render::note(format_args!(
        "measuring {}: {rounds} rounds of {} ms each",
        (0..versions).map(report::label).collect::<Vec<_>>().join(", "),
        length.as_millis()
    ));
    let bar = render::bar(u64::from(rounds), "measuring");
    let mut ending = Ending::InTime;
    let began = Instant::now();
    'rounds: for number in 0..rounds {
        // A round counts when all versions have had theirs.
        let mut done = Vec::new();
        for turn in 0..versions {
            let index = if number % 2 == 0 { turn } else { versions - 1 - turn };
            let Some((shots, took)) = load::round(target, index, plan.pace, length, &pool, stop).await else {
                ending = Ending::Early;
                break 'rounds;
            };
            done.push((index, shots, took));
        }
        for (index, shots, took) in done {
            tallies[index].add(shots, took);
        }
        bar.inc(1);
        bar.set_message(so_far(&tallies));
        if number + 1 < rounds && began.elapsed() > overtime(plan.duration) {
            ending = Ending::Late;
            break;
        }
    }
    bar.finish_and_clear();
    if tallies[0].rounds.is_empty() {
        return Err(failed("stopped before anything was measured").into());
    }
    Ok(Measurement { tallies, costs, round: length, ending })
}

/// Requests that are not counted, to each version in turn. Returns how long one takes, of the slowest version.
async fn warm_up(
    plan: &Plan,
    target: &Arc<Target>,
    pool: &Arc<Pool>,
    stop: &CancellationToken,
) -> anyhow::Result<Duration> {
    const TURNS: u32 = 4;
    let length = plan.warmup / TURNS / u32::try_from(target.count()).unwrap_or(u32::MAX).max(1);
    let mut slowest = Duration::ZERO;
    let bar = render::bar(u64::from(TURNS), "warming up");
    let began = Instant::now();
    for turn in 0..TURNS {
        if turn > 0 && began.elapsed() > overtime(plan.warmup) {
            break;
        }
        slowest = Duration::ZERO;
        for index in 0..target.count() {
            let shots = load::round(target, index, plan.pace, length, pool, stop).await;
            let Some((shots, _)) = shots else { return Err(failed("stopped before anything was measured").into()) };
            let mut walls: Vec<Duration> = shots.iter().map(|shot| shot.wall).collect();
            walls.sort_unstable();
            slowest = slowest.max(walls.get(walls.len() / 2).copied().unwrap_or_default());
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(slowest)
}

/// How long something may take that was to take `planned`. What is under way is waited for, and a guest may spin to its limit.
fn overtime(planned: Duration) -> Duration {
    planned * 2 + Duration::from_secs(3)
}

/// `A 80.1 µs  B 91.2 µs`.
fn so_far(tallies: &[Tally]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds, to three digits")]
    let median = |tally: &Tally| match tally.latency.len() {
        0 => "fails".to_owned(),
        _ => report::time(tally.latency.value_at_quantile(0.5) as f64),
    };
    let all = tallies.iter().enumerate().map(|(index, tally)| format!("{} {}", report::label(index), median(tally)));
    all.collect::<Vec<_>>().join("  ")
}

fn tell(plan: &Plan, stage: &Stage, host: Fingerprint, measurement: Measurement, args: &BenchArgs) {
    let Measurement { tallies, costs, round, ending } = measurement;
    let rounds = tallies[0].rounds.len();
    let outcomes: Vec<Outcome> = stage
        .names
        .iter()
        .zip(tallies)
        .zip(costs)
        .map(|(((name, id), tally), costs)| Outcome { name: name.clone(), id: id.clone(), tally, costs })
        .collect();
    let mut remarks = host.remarks();
    remarks.extend(stage.remarks.iter().cloned());
    if let Pace::Open { rate, .. } = plan.pace
        && let Some(slowest) = outcomes.iter().map(|outcome| outcome.tally.rate()).min_by(f64::total_cmp)
    {
        #[expect(clippy::cast_precision_loss, reason = "requests a second")]
        let kept = slowest / rate as f64;
        if kept < 0.95 {
            remarks.push(format!(
                "only {:.0} % of the rate was answered in time: the latencies are those of a queue",
                kept * 100.0
            ));
        }
    }
    let load = Load {
        way: stage.way.clone(),
        request: stage.request.clone(),
        rate: match plan.pace {
            Pace::Open { rate, .. } => Some(rate),
            Pace::Closed { .. } => None,
        },
        connections: plan.pace.connections(),
        rounds,
        round_ms: round.as_secs_f64() * 1e3,
        interrupted: ending != Ending::InTime,
        remarks: Vec::new(),
    };
    if ending == Ending::Late {
        remarks.push(format!("ended after {rounds} rounds: the requests take longer than `--duration` has room for"));
    }
    remarks.extend(outcomes.iter().enumerate().filter_map(|(index, outcome)| report::refused(index, &outcome.tally)));
    let load = Load { remarks, ..load };
    let report = Report::of(stage.worker.clone(), load, host, &outcomes);
    if args.json {
        render::json(&report);
        return;
    }
    if ending == Ending::Early {
        render::note(format_args!("ended early; this is what {rounds} rounds said"));
    }
    report.show(&outcomes);
}

impl Plan {
    fn of(args: &BenchArgs) -> Result<Self, Fault> {
        let time = |name: &str, text: &str| match parse_duration(text) {
            Some(time) if time <= TIME_MAX => Ok(time),
            Some(_) => Err(usage(format!("{name} {text}: at most a day can be asked for"))),
            None => Err(usage(format!("{name} {text}: expected a time such as 10s or 500ms"))),
        };
        let duration = time("--duration", &args.duration)?;
        if duration.is_zero() {
            return Err(usage("--duration: in no time nothing can be measured"));
        }
        let typed = args.connections.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        let pace = match args.rate {
            Some(rate) => Pace::Open { rate, connections: typed.unwrap_or(CONNECTIONS_OPEN) },
            None => Pace::Closed { connections: typed.unwrap_or(CONNECTIONS_CLOSED) },
        };
        Ok(Self { pace, duration, warmup: time("--warmup", &args.warmup)? })
    }
}

/// The request that was typed, to `base`, whose path is taken if none was typed.
fn template(args: &BenchArgs, base: Uri) -> anyhow::Result<Template> {
    let body = match args.body.as_deref() {
        None => Vec::new(),
        Some(text) => match text.strip_prefix('@') {
            Some(file) => std::fs::read(file).with_context(|| format!("--body: cannot read `{file}`"))?,
            None => text.as_bytes().to_vec(),
        },
    };
    let method = match &args.method {
        Some(method) => {
            let method = method.to_ascii_uppercase();
            Method::from_bytes(method.as_bytes()).map_err(|_| usage(format!("`--method {method}` is no method")))?
        }
        None if args.body.is_some() => Method::POST,
        None => Method::GET,
    };
    let mut headers = HeaderMap::new();
    for text in &args.headers {
        let (name, value) = parse_header(text)?;
        let wrong = || usage(format!("`--header {text}`: this cannot be a header"));
        headers.append(
            HeaderName::try_from(name).map_err(|_| wrong())?,
            HeaderValue::try_from(value).map_err(|_| wrong())?,
        );
    }
    let mut uri = base.into_parts();
    if let Some(path) = &args.path {
        let wrong = || usage(format!("`--path {path}`: a path begins with `/`"));
        uri.path_and_query = Some(path.parse().map_err(|_| wrong())?);
        if !path.starts_with('/') {
            return Err(wrong().into());
        }
    }
    Ok(Template { method, uri: Uri::from_parts(uri)?, headers, body: body.into() })
}
