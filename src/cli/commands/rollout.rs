//! `rollout start|status|pause|resume|step|abort`: what the node does is asked for and shown here; nothing is decided.

use std::time::Duration;

use crate::cli::args::{Common, RolloutChangeArgs, RolloutCommand, RolloutStartArgs, RolloutStatusArgs};
use crate::cli::client::{Api, Intent, Listing};
use crate::cli::fault::{Fault, failed, usage};
use crate::cli::render::{self, Format, ago, ahead, or_dash, percent};
use crate::cli::settings::parse_duration;
use crate::control::wire::{Rollout, RolloutGuard, RolloutMeasures, RolloutRequest, RolloutVersion};
use crate::domain::evidence::words;
use crate::domain::guard::Guard;

use super::versions;

/// How often a rollout that is watched is asked for.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How often it is said how it stands, in looks, while nothing but the numbers changes.
const QUIET_MAX: u32 = 10;

/// `sluice rollout …`.
pub async fn run(command: RolloutCommand, common: &Common) -> anyhow::Result<()> {
    match command {
        RolloutCommand::Start(args) => start(&args, common).await,
        RolloutCommand::Status(args) => status(&args, common).await,
        RolloutCommand::Pause(args) => change("pause", &args, common).await,
        RolloutCommand::Resume(args) => change("resume", &args, common).await,
        RolloutCommand::Step(args) => change("step", &args, common).await,
        RolloutCommand::Abort(args) => change("abort", &args, common).await,
    }
}

async fn start(args: &RolloutStartArgs, common: &Common) -> anyhow::Result<()> {
    let mut request = request(args)?;
    let (worker, api) = (worker(args.worker.as_ref(), common)?, common.client()?);
    request.version_id = versions::resolve(&api, &worker, &args.to, Listing::Deployable).await?;
    let intent = if args.force { Intent::Force } else { Intent::Deploy };
    let rollout = api.start_rollout(&worker, &request, intent).await?;
    let format = Format::from(args.json);
    if args.watch {
        return watch(&api, &worker, rollout, format).await;
    }
    match format {
        Format::Json => render::json(&rollout),
        Format::Human => {
            render::line(format_args!(
                "Started the rollout of {worker} to version {}: {} of the traffic",
                called(&rollout.new),
                percent(rollout.percentage)
            ));
            render::note(format_args!("it goes on by itself; `sluice rollout status {worker}` shows how it stands"));
        }
    }
    Ok(())
}

async fn status(args: &RolloutStatusArgs, common: &Common) -> anyhow::Result<()> {
    let (worker, api) = (worker(args.worker.as_ref(), common)?, common.client()?);
    let rollout = api.rollout(&worker).await?;
    match Format::from(args.json) {
        format if args.watch => return watch(&api, &worker, rollout, format).await,
        Format::Json => render::json(&rollout),
        Format::Human => show(&worker, &rollout),
    }
    Ok(())
}

async fn change(what: &str, args: &RolloutChangeArgs, common: &Common) -> anyhow::Result<()> {
    let (worker, api) = (worker(args.worker.as_ref(), common)?, common.client()?);
    let rollout = api.change_rollout(&worker, what).await?;
    match Format::from(args.json) {
        Format::Json => render::json(&rollout),
        Format::Human => render::line(format_args!("{worker}: {}", rollout.reason)),
    }
    Ok(())
}

fn worker(typed: Option<&String>, common: &Common) -> anyhow::Result<String> {
    match typed {
        Some(worker) => Ok(worker.clone()),
        None => common.selection().worker(),
    }
}

/// What is asked of the node, but for the version. What cannot be read is told before anything is sent.
fn request(args: &RolloutStartArgs) -> Result<RolloutRequest, Fault> {
    let every = |text: &String| {
        let time = parse_duration(text).or_else(|| hours(text));
        time.map(|time| time.as_secs_f64())
            .ok_or_else(|| usage(format!("--every {text}: expected a time such as 30s, 5m or 2h")))
    };
    for guard in &args.guards {
        guard.parse::<Guard>().map_err(|error| usage(format!("--guard: {error}")))?;
    }
    let unless_empty = |guards: &Vec<String>| (!guards.is_empty()).then(|| guards.clone());
    Ok(RolloutRequest {
        version_id: String::new(),
        steps: (!args.steps.is_empty()).then(|| args.steps.clone()),
        every_seconds: args.every.as_ref().map(every).transpose()?,
        guards: unless_empty(&args.guards),
    })
}

/// `2h`.
fn hours(text: &str) -> Option<Duration> {
    let hours: u64 = text.strip_suffix('h')?.trim().parse().ok()?;
    hours.checked_mul(3_600).map(Duration::from_secs)
}

// === watching ===

/// Follows it to its end, which is what the exit code tells.
async fn watch(api: &Api, worker: &str, first: Rollout, format: Format) -> anyhow::Result<()> {
    let mut rollout = first;
    let (mut told, mut last, mut quiet) = (0, String::new(), 0);
    loop {
        match format {
            Format::Json => {
                let text = serde_json::to_string(&rollout)?;
                if text != last && !render::line_to_reader(&text) {
                    return Ok(());
                }
                last = text;
            }
            Format::Human => {
                // The record forgets the oldest when it is full.
                for event in rollout.events.iter().skip(told) {
                    if !render::line_to_reader(format_args!("{}  {}", event.on, event.what)) {
                        return Ok(());
                    }
                }
                told = rollout.events.len();
                let findings = progress(&rollout, finding);
                quiet += 1;
                if !is_over(&rollout) && (findings != last || quiet >= QUIET_MAX) {
                    render::note(progress(&rollout, lacking));
                    (last, quiet) = (findings, 0);
                }
            }
        }
        if is_over(&rollout) {
            return outcome(worker, &rollout);
        }
        tokio::time::sleep(WATCH_EVERY).await;
        rollout = api.rollout(worker).await?;
    }
}

fn is_over(rollout: &Rollout) -> bool {
    !matches!(rollout.state.as_str(), "running" | "paused")
}

fn outcome(worker: &str, rollout: &Rollout) -> anyhow::Result<()> {
    match rollout.state.as_str() {
        "done" => Ok(()),
        state => {
            let fault = failed(format!("the rollout of {worker} to version {} {}", called(&rollout.new), ended(state)));
            Err(fault.hint(rollout.reason.clone()).into())
        }
    }
}

fn ended(state: &str) -> &'static str {
    match state {
        "failed" => "failed, and the old version has everything again",
        "aborted" => "was aborted, and the old version has everything again",
        _ => "was superseded: the traffic is as someone else wanted it",
    }
}

/// One line on how it stands.
fn progress(rollout: &Rollout, tell: fn(&RolloutGuard) -> String) -> String {
    let guards: Vec<String> = rollout.guards.iter().map(|guard| format!("{} {}", guard.guard, tell(guard))).collect();
    format!("{} at {}: {}", rollout.state, percent(rollout.percentage), guards.join(", "))
}

// === showing ===

fn show(worker: &str, rollout: &Rollout) {
    let fact = |label: &str, value: String| render::line(format_args!("{label:<10}{value}"));
    fact("Rollout:", format!("{worker}, version {} after {}", called(&rollout.new), called(&rollout.old)));
    fact("State:", format!("{}, {} of the traffic", rollout.state, percent(rollout.percentage)));
    fact("Started:", format!("{} by {}", ago(&rollout.started_on), or_dash(Some(&rollout.author_email))));
    fact("Next:", next(rollout));
    if let Some(trouble) = &rollout.trouble {
        render::warn(format_args!("it cannot deploy, and tries again each second: {trouble}"));
    }
    render::line("");
    let steps = rollout.steps.iter().map(|step| {
        let live = step.live_on.as_deref().map(ago);
        [percent(step.percentage), or_dash(live.as_deref()), or_dash(step.deployment_id.as_deref())]
    });
    render::table(["Step", "Live", "Deployment ID"], steps);
    if let Some(window) = &rollout.window {
        render::line("");
        render::note(format_args!("counted since {} ({})", window.since, ago(&window.since)));
        let rows = [("new", &rollout.new, &window.new), ("old", &rollout.old, &window.old)].map(measures);
        render::table(["", "Requests", "Errors", "p50", "p99", "CPU p50", "CPU p99"], rows);
    }
    render::line("");
    let guards = rollout
        .guards
        .iter()
        .map(|guard| [guard.guard.clone(), lacking(guard), guard.measured.clone(), evidence(guard)]);
    render::table(["Guard", "Finding", "Measured", "Evidence against"], guards);
    render::line("");
    for event in &rollout.events {
        render::line(format_args!("{}  {}", event.on, event.what));
    }
}

fn next(rollout: &Rollout) -> String {
    let Some(next) = &rollout.next else { return "-".to_owned() };
    match (&next.due_on, rollout.waiting_for.as_deref()) {
        (None, _) => format!("{} when it is resumed", percent(next.percentage)),
        (Some(_), Some("data")) => format!("{} as soon as every guard holds", percent(next.percentage)),
        (Some(due), _) => format!("{} {} at the earliest", percent(next.percentage), ahead(due)),
    }
}

fn measures((name, version, measures): (&str, &RolloutVersion, &RolloutMeasures)) -> [String; 7] {
    let time = |ms: Option<f64>| or_dash(ms.map(|ms| words::seconds(ms / 1e3)).as_deref());
    let share = measures.error_rate.map(|share| format!(" ({})", words::percent(share))).unwrap_or_default();
    [
        format!("{name} {}", called(version)),
        words::grouped(measures.requests),
        format!("{}{share}", words::grouped(measures.errors)),
        time(measures.p50_ms),
        time(measures.p99_ms),
        time(measures.cpu_p50_ms),
        time(measures.cpu_p99_ms),
    ]
}

fn finding(guard: &RolloutGuard) -> String {
    guard.state.replace('_', " ")
}

/// The same with what is missing.
fn lacking(guard: &RolloutGuard) -> String {
    let finding = finding(guard);
    match &guard.missing {
        Some(_) if guard.requests > 0 && guard.requests < guard.requests_needed => {
            let (requests, needed) = (words::grouped(guard.requests), words::grouped(guard.requests_needed));
            format!("{finding} ({requests} of {needed} requests)")
        }
        Some(missing) => format!("{finding} ({missing})"),
        None => finding,
    }
}

/// `0.4 of 1,600`: what there is, and what breaks the guard.
fn evidence(guard: &RolloutGuard) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for people, and saturates")]
    let bound = guard.broken_at.round() as u64;
    format!("{:.1} of {}", guard.evidence, words::grouped(bound))
}

fn called(version: &RolloutVersion) -> String {
    versions::called(&version.id, version.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(every: &str, guards: &[&str]) -> RolloutStartArgs {
        RolloutStartArgs {
            worker: None,
            to: "7".to_owned(),
            steps: vec![],
            every: Some(every.to_owned()),
            guards: guards.iter().map(|guard| (*guard).to_owned()).collect(),
            force: false,
            watch: false,
            json: false,
        }
    }

    #[test]
    fn what_is_typed_is_checked_before_anything_is_sent() {
        for (every, seconds) in [("1s", 1.0), ("5m", 300.0), ("2h", 7200.0), ("1500ms", 1.5), ("30", 30.0)] {
            let request = request(&args(every, &["p99<1.2x"])).unwrap();
            assert_eq!((request.every_seconds, request.steps), (Some(seconds), None), "{every}");
        }
        assert!(request(&args("soon", &[])).unwrap_err().to_string().contains("expected a time such as 30s, 5m or 2h"));
        let error = request(&args("5m", &["p98<1.2x"])).unwrap_err().to_string();
        assert!(error.contains("`p98` is nothing that a guard measures"), "{error}");
        assert_eq!(request(&args("5m", &[])).unwrap().guards, None);
    }

    #[test]
    fn the_exit_tells_the_outcome() {
        let of = |state: &str| {
            let rollout = Rollout { state: state.to_owned(), reason: "why".to_owned(), ..Rollout::default() };
            outcome("w", &rollout).map_err(|error| error.to_string())
        };
        assert_eq!(of("done"), Ok(()));
        assert!(of("failed").unwrap_err().contains("failed, and the old version has everything again"));
        assert!(of("superseded").unwrap_err().contains("as someone else wanted it"));
    }
}
