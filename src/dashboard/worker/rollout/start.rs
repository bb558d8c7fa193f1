//! A new rollout: a form with the version, its steps, how long each stands and its guards; its first step's effect; and then the rollout itself,
//! if what was deployed when the effect was shown still is. What is wrong is said at its field, in the API's words.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::Method;
use maud::{Markup, html};
use serde::Deserialize;

use crate::catalog::{Force, WorkerView};
use crate::control::wire::{self, ApiError, RolloutRequest};
use crate::dashboard::call::Refused;
use crate::dashboard::guard::Fields;
use crate::dashboard::layout::{self, Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::session::Session;
use crate::dashboard::worker::rollout::under_way;
use crate::dashboard::worker::wish::{Run, Update, Wish};
use crate::dashboard::worker::{command, deploy, named, plan};
use crate::dashboard::{Dashboard, figures, upload};
use crate::domain::guard::Guard;
use crate::domain::id::VersionId;
use crate::domain::rollout::{Plan, Rollout};
use crate::domain::split::{Share, Split};

/// Which version the form begins with.
#[derive(Debug, Default, Deserialize)]
pub(in crate::dashboard) struct Chosen {
    version: Option<String>,
}

/// A rollout as the form describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    version: String,
    steps: String,
    every: String,
    /// One on each line.
    guards: String,
    force: Force,
    /// The deployment that was active when the form or the effect was shown.
    seen: String,
}

/// A field of the form, and what is wrong with it.
type Faulty = (&'static str, String);

/// Where the form is, with this version.
#[must_use]
pub fn path(worker: &WorkerView, version: Option<VersionId>) -> String {
    let chosen = version.map(|version| format!("?version={version}")).unwrap_or_default();
    format!("{}/start{chosen}", WorkerTab::Rollout.path(worker))
}

/// `GET /workers/:name/rollout/start[?version=ID]`.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Path(name): Path<String>,
    Query(chosen): Query<Chosen>,
) -> Response {
    match named(&dashboard, &name) {
        Ok(worker) => {
            let wanted = Wanted::proposed(&worker, chosen.version.and_then(|id| id.parse().ok()));
            respond(&dashboard, &session, &worker, &wanted, &[], &html! {}).await
        }
        Err(response) => response,
    }
}

/// `POST` of the same: the effect, or the rollout.
pub(in crate::dashboard) async fn act(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Path(name): Path<String>,
    fields: Fields,
) -> Response {
    let worker = match named(&dashboard, &name) {
        Ok(worker) => worker,
        Err(response) => return response,
    };
    let mut wanted = Wanted::of(&fields);
    let (mut above, mut is_late) = (html! {}, false);
    if fields.get("do") == "start" {
        match wanted.ask(&dashboard, &worker, Run::Real).await {
            Ok(_) => return Redirect::to(&WorkerTab::Rollout.path(&worker)).into_response(),
            Err(Wrong::Fields(faults)) => {
                return respond(&dashboard, &session, &worker, &wanted, &faults, &html! {}).await;
            }
            Err(Wrong::Refused(refused)) => {
                is_late = plan::is_outdated(&refused);
                above = refusal(&dashboard, &worker, &refused);
                if !is_late {
                    return respond(&dashboard, &session, &worker, &wanted, &[], &above).await;
                }
            }
        }
    }
    // Somebody may have deployed while we asked.
    let worker = named(&dashboard, &name).unwrap_or(worker);
    wanted.seen = seen(&worker);
    let (told, faults) = preview(&dashboard, &session, &worker, &wanted).await;
    let above = html! { @if is_late { (above) } (told) };
    respond(&dashboard, &session, &worker, &wanted, &faults, &above).await
}

/// What speaks against a rollout.
enum Wrong {
    Fields(Vec<Faulty>),
    Refused(Refused),
}

fn seen(worker: &WorkerView) -> String {
    worker.active.as_ref().map(|active| active.id.to_string()).unwrap_or_default()
}

/// The version that has everything: a rollout starts from it.
fn stable(worker: &WorkerView) -> Option<VersionId> {
    worker.active.as_ref().and_then(|active| active.split.stable())
}

impl Wanted {
    /// The defaults, for the version that was chosen, or the newest that does not have everything already.
    fn proposed(worker: &WorkerView, chosen: Option<VersionId>) -> Self {
        let stable = stable(worker);
        let newest = worker.deployable().map(|version| version.id).find(|id| Some(*id) != stable);
        let version = chosen.filter(|id| worker.version(*id).is_some()).or(newest);
        let guards: Vec<String> = Guard::defaults().iter().map(ToString::to_string).collect();
        Self {
            version: version.map(|id| id.to_string()).unwrap_or_default(),
            steps: Plan::STEPS.map(|step| step.to_string()).join(", "),
            every: format!("{}m", Plan::EVERY.as_secs() / 60),
            guards: guards.join("\n"),
            force: Force::No,
            seen: seen(worker),
        }
    }

    fn of(fields: &Fields) -> Self {
        let text = |name: &str| fields.get(name).trim().replace("\r\n", "\n");
        Self {
            version: text("version"),
            steps: text("steps"),
            every: text("every"),
            guards: text("guards"),
            force: if fields.get("force") == "on" { Force::Yes } else { Force::No },
            seen: text("seen"),
        }
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.guards.lines().map(str::trim).filter(|line| !line.is_empty())
    }

    fn parts(&self) -> impl Iterator<Item = &str> {
        self.steps
            .split(|c: char| c == ',' || c.is_whitespace())
            .map(|step| step.trim_end_matches('%'))
            .filter(|step| !step.is_empty())
    }

    /// The same for the API, or what cannot be read.
    fn request(&self) -> Result<RolloutRequest, Vec<Faulty>> {
        let mut faults = Vec::new();
        let mut steps = Vec::new();
        for step in self.parts() {
            match step.parse::<f64>() {
                Ok(step) if step.is_finite() => steps.push(step),
                _ => faults.push((
                    "steps",
                    format!("`{step}` is no number: percentages, separated by commas, such as 5, 25.5, 100"),
                )),
            }
        }
        let every = seconds(&self.every);
        if every.is_none() {
            faults.push(("every", format!("`{}` is no time: such as 30s, 5m or 2h", self.every)));
        }
        if faults.is_empty() {
            let guards = Some(self.lines().map(str::to_owned).collect());
            Ok(RolloutRequest { version_id: self.version.clone(), steps: Some(steps), every_seconds: every, guards })
        } else {
            Err(faults)
        }
    }

    /// Asks the API for it, or whether it could be. It is refused if another deployment is active than the one that was seen.
    async fn ask(&self, dashboard: &Dashboard, worker: &WorkerView, run: Run) -> Result<wire::Rollout, Wrong> {
        let request = self.request().map_err(Wrong::Fields)?;
        let query: Vec<&str> =
            [(run == Run::Dry).then_some("dry_run=true"), (self.force == Force::Yes).then_some("force=true")]
                .into_iter()
                .flatten()
                .collect();
        let path = format!("/scripts/{}/rollout?{}", worker.name, query.join("&"));
        let seen = Some(self.seen.as_str()).filter(|seen| !seen.is_empty());
        match dashboard.call_if(Method::POST, &path, seen, Some(&request)).await {
            Ok(Some(rollout)) => Ok(rollout),
            Ok(None) => Err(Wrong::Refused(Refused::by_us("the node said nothing of the rollout"))),
            Err(refused) => Err(match refused.errors.iter().map(of_field).collect::<Option<Vec<Faulty>>>() {
                Some(faults) if !faults.is_empty() => Wrong::Fields(faults),
                _ => Wrong::Refused(refused),
            }),
        }
    }

    /// `sluice rollout start` for it.
    fn command(&self, worker: &WorkerView) -> String {
        let version = self.version.parse().map_or_else(|_| self.version.clone(), |id| command::name(worker, id));
        let mut words = vec!["sluice rollout start".to_owned(), worker.name.to_string(), "--to".to_owned(), version];
        words.extend(["--steps".to_owned(), self.parts().collect::<Vec<_>>().join(",")]);
        words.extend(["--every".to_owned(), command::quoted(&self.every)]);
        words.extend(self.lines().flat_map(|guard| ["--guard".to_owned(), command::quoted(guard)]));
        words.extend((self.force == Force::Yes).then(|| "--force".to_owned()));
        words.join(" ")
    }
}

/// The field that the API finds fault with, if it is one of the form's.
fn of_field(error: &ApiError) -> Option<Faulty> {
    let pointer = error.source.as_ref()?.pointer.as_str();
    let (name, line) = pointer.split_once('[').map_or((pointer, None), |(name, line)| (name, Some(line)));
    let field = match name {
        "version_id" => "version",
        "steps" => "steps",
        "every_seconds" => "every",
        "guards" => "guards",
        _ => return None,
    };
    let line = line.and_then(|line| line.trim_end_matches(']').parse::<usize>().ok());
    Some((field, line.map_or_else(|| error.message.clone(), |line| format!("Line {}: {}", line + 1, error.message))))
}

/// Seconds of a time as people type it: `30s`, `5m`, `2h`, `1500ms`; a number alone is seconds.
fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    };
    let digits = digits.trim();
    let is_plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    is_plain.then(|| digits.parse::<f64>().ok()).flatten().map(|number| number * factor)
}

/// What it would do, with the button that starts it; or what is wrong with which field.
async fn preview(
    dashboard: &Dashboard,
    session: &Session,
    worker: &Arc<WorkerView>,
    wanted: &Wanted,
) -> (Markup, Vec<Faulty>) {
    let told = match wanted.ask(dashboard, worker, Run::Dry).await {
        Ok(rollout) => match effect(dashboard, worker, wanted, &rollout).await {
            Ok(effect) => html! { (effect) (confirm(session, worker, wanted)) },
            Err(refused) => plan::refusal("The node would refuse it.", &refused),
        },
        Err(Wrong::Fields(faults)) => {
            let told =
                html! { p.problem role="alert" { strong { "It cannot be started so. What is wrong is said below." } } };
            return (told, faults);
        }
        Err(Wrong::Refused(refused)) => html! {
            (refusal(dashboard, worker, &refused))
            @if plan::is_for_secrets(&refused) { (by_force(session, worker, wanted)) }
        },
    };
    let told = html! {
        section #effect aria-labelledby="effect-title" {
            h2 #effect-title { "What it would do" }
            (told)
        }
    };
    (told, Vec::new())
}

/// The plan in a sentence, and the effect of its first step: the API's answer to a dry run.
async fn effect(
    dashboard: &Dashboard,
    worker: &Arc<WorkerView>,
    wanted: &Wanted,
    rollout: &wire::Rollout,
) -> Result<Markup, Refused> {
    let unread = |_| Refused::by_us("the node told of a version that cannot be read");
    let (old, new) = (rollout.old.id.parse().map_err(unread)?, rollout.new.id.parse().map_err(unread)?);
    let first = rollout.steps.first().map_or(0.0, |step| step.percentage);
    let split = Split::from_percentages(&[(old, 100.0 - first), (new, first)]);
    let share = split.as_ref().ok().and_then(|split| split.share_of(new)).unwrap_or(Share::ALL);
    let active = worker.active.as_ref().map(|active| &active.split);
    let entries = active.map(|active| Rollout::entries(old, new, active, share)).unwrap_or_default();
    let split = Split::from_percentages(&entries).map_err(|error| Refused::by_us(&error.to_string()))?;
    let wish = Wish { update: Update::Immediate, force: wanted.force, ..Wish::again(worker, &split) };
    let deployment = wish.ask(dashboard, worker, Run::Dry).await?;
    let (legend, count) = (Legend::of(worker), rollout.steps.len());
    let every = std::time::Duration::try_from_secs_f64(rollout.every_seconds).unwrap_or_default();
    let whole = every.saturating_mul(u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX));
    Ok(html! {
        p {
            (legend.tagged(new)) " gets more and more of the traffic of " (legend.tagged(old)) ", in " (count) " steps: "
            @for (index, step) in rollout.steps.iter().enumerate() { @if index > 0 { ", " } (step.percentage) } " %. "
            "Each stands for " (figures::span(every)) " at the least, so it is done in " (figures::span(whole)) " at the earliest. "
            "If one of these guards is broken, " (legend.version(old)) " gets everything back at once:"
        }
        ul { @for guard in &rollout.guards { li { code { (guard.guard) } } } }
        h3 { "Its first step" }
        (plan::effect(worker, &wish, &split, &deployment))
    })
}

fn refusal(dashboard: &Dashboard, worker: &WorkerView, refused: &Refused) -> Markup {
    if plan::is_outdated(refused) {
        return plan::meanwhile(worker, dashboard.clock.now_ms());
    }
    plan::refusal("No rollout was started.", refused)
}

fn hidden(wanted: &Wanted) -> Markup {
    html! {
        input type="hidden" name="version" value=(wanted.version);
        input type="hidden" name="steps" value=(wanted.steps);
        input type="hidden" name="every" value=(wanted.every);
        input type="hidden" name="guards" value=(wanted.guards);
        input type="hidden" name="seen" value=(wanted.seen);
    }
}

fn confirm(session: &Session, worker: &WorkerView, wanted: &Wanted) -> Markup {
    html! {
        form.confirm method="post" action=(path(worker, None)) {
            (layout::form_secret(session))
            (hidden(wanted))
            @if wanted.force == Force::Yes { input type="hidden" name="force" value="on"; }
            p.muted { "The same on the command line:" }
            (command::shown(&wanted.command(worker)))
            p.buttons {
                button.primary type="submit" name="do" value="start" { "Start the rollout" }
                a href=(WorkerTab::Rollout.path(worker)) { "Cancel" }
            }
        }
    }
}

/// The way past secrets that have changed: their old values come back, so it is asked for once more.
fn by_force(session: &Session, worker: &WorkerView, wanted: &Wanted) -> Markup {
    html! {
        form method="post" action=(path(worker, None)) {
            (layout::form_secret(session))
            (hidden(wanted))
            input type="hidden" name="force" value="on";
            p { "If their old values are to be live again, go on by force." }
            p.buttons { button type="submit" name="do" value="preview" { "Show what it would do by force" } }
        }
    }
}

async fn respond(
    dashboard: &Dashboard,
    session: &Session,
    worker: &WorkerView,
    wanted: &Wanted,
    faults: &[Faulty],
    above: &Markup,
) -> Response {
    let obstacle = obstacle(dashboard, worker).await;
    let body = html! {
        (above)
        section aria-labelledby="start-title" {
            h2 #start-title { "Version, steps and guards" }
            @match obstacle { Some(obstacle) => { (obstacle) }, None => { (form(session, worker, wanted, faults)) } }
        }
    };
    let place = Place::Below(worker, WorkerTab::Rollout, "Start a rollout".to_owned());
    Page { title: format!("Start a rollout of {}", worker.name), place, live: None, body }.respond(dashboard, session)
}

/// Why nothing can be started now, and what can be done about it.
async fn obstacle(dashboard: &Dashboard, worker: &WorkerView) -> Option<Markup> {
    let legend = Legend::of(worker);
    if let Some(status) = under_way(dashboard, worker).await {
        return Some(html! {
            p { "A rollout to " (legend.version(status.rollout.new)) " is under way. A worker has one at a time." }
            p { a href=(WorkerTab::Rollout.path(worker)) { "See the rollout" } }
        });
    }
    let Some(stable) = stable(worker) else {
        return Some(html! {
            p { "A rollout starts from one version that has all the traffic, and none has." }
            p { a href=(deploy::path(worker, None)) { "Deploy one at 100 %" } }
        });
    };
    if worker.deployable().all(|version| version.id == stable) {
        return Some(html! {
            p { "There is no other version to give traffic to than " (legend.version(stable)) ", which has all of it." }
            p { a href=(upload::path(Some(worker))) { "Upload one" } }
        });
    }
    None
}

fn form(session: &Session, worker: &WorkerView, wanted: &Wanted, faults: &[Faulty]) -> Markup {
    let stable = stable(worker);
    let is_faulty = |field: &str| faults.iter().any(|(of, _)| *of == field).then_some("true");
    let said = |field: &str| {
        html! {
            @if is_faulty(field).is_some() {
                div id=(format!("{field}-fault")) {
                    @for (_, message) in faults.iter().filter(|(of, _)| *of == field) { p.fault { (message) } }
                }
            }
        }
    };
    html! {
        form.deploy method="post" action=(path(worker, None)) {
            (layout::form_secret(session))
            input type="hidden" name="seen" value=(wanted.seen);
            label for="version" { "Version that is to get everything" }
            select #version name="version" aria-invalid=[is_faulty("version")] aria-describedby="version-fault" {
                @for version in worker.deployable().filter(|version| Some(version.id) != stable) {
                    option value=(version.id) selected[version.id.to_string() == wanted.version] {
                        "#" (version.number)
                        @if !version.tag().is_empty() { " " (version.tag()) }
                        @if let Some(message) = &version.annotations.message { " – " (figures::cut(message, 60)) }
                    }
                }
            }
            (said("version"))
            label for="steps" { "Steps " span.muted { "(its shares in percent, rising, the last is 100)" } }
            input #steps name="steps" value=(wanted.steps) autocomplete="off" inputmode="text" aria-invalid=[is_faulty("steps")] aria-describedby="steps-fault";
            (said("steps"))
            label for="every" { "How long each stands at the least " span.muted { "(30s, 5m, 2h)" } }
            input #every name="every" value=(wanted.every) autocomplete="off" aria-invalid=[is_faulty("every")] aria-describedby="every-fault";
            (said("every"))
            label for="guards" { "Guards " span.muted { "(one on each line)" } }
            textarea #guards .code name="guards" rows="4" spellcheck="false" autocomplete="off" aria-invalid=[is_faulty("guards")] aria-describedby="guards-help guards-fault" { (wanted.guards) }
            (said("guards"))
            p.note #guards-help {
                code { "error_rate<1%" } " at most so many errors, " code { "error_rate<+1%" } " one percentage point more than the old version at most, "
                code { "error_rate<1.5x" } " one and a half times its share; " code { "p99<250ms" } " so long, " code { "p99<1.2x" }
                " 1.2 times what the old version takes; also p50, p90, p95, p999, and cpu_p50 and so on for CPU time."
            }
            p.buttons {
                button.primary type="submit" name="do" value="preview" { "Preview" }
                span.muted { "Nothing is started yet by this." }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::wire::ErrorSource;

    fn wanted(steps: &str, every: &str, guards: &str) -> Wanted {
        let (version, seen) = (String::new(), String::new());
        let [steps, every, guards] = [steps, every, guards].map(str::to_owned);
        Wanted { version, steps, every, guards, force: Force::No, seen }
    }

    #[test]
    fn steps_times_and_guards_are_read_as_they_are_typed() {
        let request = wanted("1, 5 25%,100", "5m", "error_rate<1%\n\n  p99<1.2x ").request().unwrap();
        assert_eq!(request.steps, Some(vec![1.0, 5.0, 25.0, 100.0]));
        assert_eq!(request.every_seconds, Some(300.0));
        assert_eq!(request.guards, Some(vec!["error_rate<1%".to_owned(), "p99<1.2x".to_owned()]));
        for (text, expected) in [
            ("30s", Some(30.0)),
            ("30", Some(30.0)),
            ("2h", Some(7_200.0)),
            ("1500ms", Some(1.5)),
            ("0.5 m", Some(30.0)),
            ("soon", None),
            ("", None),
            ("5d", None),
            ("-5m", None),
            ("1e9s", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
        let faults = wanted("1, ten, 100, NaN", "soon", "").request().unwrap_err();
        let fields: Vec<&str> = faults.iter().map(|(field, _)| *field).collect();
        assert_eq!(fields, ["steps", "steps", "every"]);
        assert!(faults[0].1.contains("`ten` is no number"));
    }

    #[test]
    fn a_fault_is_said_at_its_field() {
        let error = |pointer: Option<&str>| ApiError {
            code: 95040,
            message: "why".to_owned(),
            documentation_url: None,
            source: pointer.map(|pointer| ErrorSource { pointer: pointer.to_owned() }),
        };
        let of = |pointer| of_field(&error(Some(pointer)));
        assert_eq!(of("version_id"), Some(("version", "why".to_owned())));
        assert_eq!(of("guards[1]"), Some(("guards", "Line 2: why".to_owned())));
        assert_eq!(of("every_seconds"), Some(("every", "why".to_owned())));
        assert_eq!((of("If-Match"), of_field(&error(None))), (None, None));
    }
}
