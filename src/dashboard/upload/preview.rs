//! What an upload would do, before it is done: the version beside the latest one, migrations, and what a deployment of it would change. All
//! of it is what the node found when it tried the upload.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use crate::catalog::WorkerView;
use crate::control::Trial;
use crate::control::wire::ApiError;
use crate::dashboard::call::Refused;
use crate::dashboard::layout::{self, Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::session::Session;
use crate::dashboard::upload::dropped::Dropped;
use crate::dashboard::upload::plan::{Faulty, Plan, Remarks, environments_of, plan};
use crate::dashboard::upload::{form, path_of};
use crate::dashboard::worker::{command, diff, rollout, version};
use crate::dashboard::{Dashboard, figures, parts, refused};
use crate::domain::allotment::Allotment;
use crate::domain::deployment::CodeUpdate;
use crate::domain::id::{VersionId, WorkerName};
use crate::domain::limits::{DASHBOARD_UPLOAD_LIFE, SLOTS};
use crate::domain::split::Split;
use crate::project::triggers::Triggers;

/// Which environment of the file is meant; its top is the empty text.
#[derive(Debug, Default, Deserialize)]
pub(in crate::dashboard) struct Chosen {
    env: Option<String>,
}

/// `GET /uploads/:key[?env=NAME]`.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Path(key): Path<String>,
    Query(chosen): Query<Chosen>,
) -> Response {
    match dashboard.uploads.get(&session, &key) {
        Some(dropped) => show(&dashboard, &session, &key, &dropped, chosen.env.as_deref(), &html! {}).await,
        None => gone(),
    }
}

/// What is shown in place of files that do not wait any more.
pub(super) fn gone() -> Response {
    let minutes = DASHBOARD_UPLOAD_LIFE.as_secs() / 60;
    let message = format!(
        "These files do not wait here any more: they were uploaded, or were not confirmed within {minutes} minutes, or others came after them. Drop them once more."
    );
    refused::page(StatusCode::NOT_FOUND, "Not here any more", &message)
}

/// The effect of what was dropped, as things are now, or what is wrong with it. `said` stands above it.
pub(super) async fn show(
    dashboard: &Dashboard,
    session: &Session,
    key: &str,
    dropped: &Dropped,
    env: Option<&str>,
    said: &Markup,
) -> Response {
    let about = About { session, key, dropped };
    match plan(dashboard, dropped, env) {
        Err(faulty) => {
            let Faulty { worker, faults, remarks, env } = faulty;
            let body = html! {
                (said)
                (problems("It cannot be uploaded so.", faults.iter().map(|fault| (None, fault.as_str()))))
                (about.remarks(&remarks))
                (about.files(env.as_deref()))
                (about.once_more())
            };
            respond(dashboard, session, worker.as_ref(), body)
        }
        Ok(plan) => {
            let tried = dashboard
                .api
                .try_upload(&plan.worker, &plan.for_deploy("", ""), &plan.program.path, plan.program.digest)
                .await;
            let body = match tried.map_err(Refused::from) {
                Ok(trial) => html! {
                    (said)
                    (about.remarks(&plan.remarks))
                    (about.files(plan.env.as_deref()))
                    (effect(dashboard, &plan, &trial).await)
                    (about.confirmation(&plan))
                },
                Err(refused) => html! {
                    (said)
                    (problems("The node would refuse it.", refused.errors.iter().map(told)))
                    (about.remarks(&plan.remarks))
                    (about.files(plan.env.as_deref()))
                    (about.once_more())
                },
            };
            respond(dashboard, session, Some(&plan.worker), body)
        }
    }
}

/// A page about the upload of a worker, which may not be there yet.
pub(super) fn respond(dashboard: &Dashboard, session: &Session, worker: Option<&WorkerName>, body: Markup) -> Response {
    let view = dashboard.api.catalog.view();
    match worker.and_then(|worker| view.worker(worker)) {
        Some(present) => {
            let place = Place::Below(present, WorkerTab::Versions, format!("Upload to {}", present.name));
            Page { title: format!("Upload to {}", present.name), place, live: None, body }.respond(dashboard, session)
        }
        None => {
            let title = worker.map_or_else(|| "New worker".to_owned(), |worker| format!("New worker {worker}"));
            let body = html! { h1 { (title) } (body) };
            Page { title: title.clone(), place: Place::Top, live: None, body }.respond(dashboard, session)
        }
    }
}

fn told(error: &ApiError) -> (Option<&str>, &str) {
    (error.source.as_ref().map(|source| source.pointer.as_str()), error.message.as_str())
}

/// All that is wrong, each with its place.
fn problems<'a>(title: &str, faults: impl Iterator<Item = (Option<&'a str>, &'a str)>) -> Markup {
    html! {
        div.problem role="alert" {
            p { strong { (title) } }
            ul.faults {
                @for (place, what) in faults { li { @if let Some(place) = place { code { (place) } ": " } (what) } }
            }
        }
    }
}

/// What was dropped, and by whom.
struct About<'a> {
    session: &'a Session,
    key: &'a str,
    dropped: &'a Dropped,
}

impl About<'_> {
    fn remarks(&self, remarks: &Remarks) -> Markup {
        let file = self.dropped.configuration.as_ref().map_or("", |file| file.file_name.as_str());
        html! {
            @if !remarks.warnings.is_empty() {
                div.warning role="note" { ul.faults { @for warning in &remarks.warnings { li { (file) ": " (warning) } } } }
            }
            @if !remarks.notes.is_empty() {
                ul.notes { @for note in &remarks.notes { li { (note) } } }
            }
        }
    }

    /// The files, and which environment of the configuration is looked at.
    fn files(&self, env: Option<&str>) -> Markup {
        let environments = environments_of(self.dropped);
        html! {
            section aria-labelledby="files-title" {
                h2 #files-title { "Files" }
                dl.facts.plain {
                    @if let Some(module) = &self.dropped.module {
                        @let digest = module.file.digest.to_string();
                        dt { (module.file_name) } dd { (figures::size(module.file.size_bytes)) ", SHA-256 " (parts::id(&digest)) }
                    }
                    @if let Some(file) = &self.dropped.configuration {
                        dt { (file.file_name) } dd { (figures::size(file.text.len() as u64)) @if let Some(env) = env { ", environment " code { (env) } } }
                    }
                }
                @if !environments.is_empty() {
                    form.filters method="get" action=(path_of(self.key)) {
                        div {
                            label for="env" { "Environment" }
                            select #env name="env" {
                                option value="" selected[env.is_none()] { "the top of the file" }
                                @for name in &environments { option value=(name) selected[env == Some(name)] { (name) } }
                            }
                        }
                        button type="submit" { "Show" }
                    }
                }
                p.muted { "They wait here for " (DASHBOARD_UPLOAD_LIFE.as_secs() / 60) " minutes. Nothing is uploaded yet." }
            }
        }
    }

    /// The way on when something is wrong: a file that is not chosen anew stays.
    fn once_more(&self) -> Markup {
        let action =
            self.dropped.on.as_ref().map_or_else(|| "/upload".to_owned(), |on| format!("/workers/{on}/upload"));
        html! {
            section aria-labelledby="again-title" {
                h2 #again-title { "Put it right" }
                p { "Drop what has changed. The other file is taken as it is above." }
                (form(self.session, &action, self.key))
            }
        }
    }

    fn confirmation(&self, plan: &Plan) -> Markup {
        let number = plan.present.as_ref().and_then(|present| present.latest()).map_or(0, |latest| latest.number) + 1;
        let seen = Seen::of(plan.present.as_deref());
        let (upload, deploy) = (self.command("sluice versions upload", plan), self.command("sluice deploy", plan));
        html! {
            section aria-labelledby="confirm-title" {
            h2 #confirm-title { "Upload" }
                form.confirm method="post" action=(path_of(self.key)) data-once {
                    (layout::form_secret(self.session))
                    input type="hidden" name="env" value=(plan.env.as_deref().unwrap_or_default());
                    input type="hidden" name="latest" value=(seen.latest);
                    input type="hidden" name="active" value=(seen.active);
                    label for="message" { "Message" }
                    input #message name="message" maxlength="1000" autocomplete="off";
                    label for="tag" { "Tag" }
                    input #tag name="tag" maxlength="100" autocomplete="off" spellcheck="false";
                    @match plan.must_deploy() {
                        None => {
                            p.buttons { button.primary type="submit" name="do" value="version" { "Make version #" (number) } span.muted { "It gets no traffic until it is deployed." } }
                            div data-command=(upload) data-message="message" data-tag="tag" { (command::shown(&upload)) }
                            p.buttons { button type="submit" name="do" value="deploy" { "Make version #" (number) " and deploy it" } span.muted { "It gets all the traffic." } }
                        },
                        Some(why) => {
                            p.buttons { button.primary type="submit" name="do" value="deploy" { "Make version #" (number) " and deploy it" } span.muted { (why) } }
                        },
                    }
                    div data-command=(deploy) data-message="message" data-tag="tag" { (command::shown(&deploy)) }
                    @if self.dropped.configuration.is_none() {
                        p.muted { "On the command line the version gets the configuration of the project’s wrangler.toml." }
                    }
                }
            }
        }
    }

    /// The command that does the same in the folder of the files.
    fn command(&self, verb: &str, plan: &Plan) -> String {
        // A name that begins with a dash is none of the options.
        let file =
            |name: &str| command::quoted(&if name.starts_with('-') { format!("./{name}") } else { name.to_owned() });
        let mut words = vec![verb.to_owned()];
        words.extend(self.dropped.module.as_ref().map(|module| file(&module.file_name)));
        match &self.dropped.configuration {
            Some(configuration) => words.extend(["--config".to_owned(), file(&configuration.file_name)]),
            None => words.extend(["--name".to_owned(), plan.worker.to_string()]),
        }
        words.extend(plan.env.iter().flat_map(|env| ["--env".to_owned(), command::quoted(env)]));
        words.join(" ")
    }
}

/// What was the latest version and the active deployment when the effect was shown; empty where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) latest: String,
    pub(super) active: String,
}

impl Seen {
    pub(super) fn of(present: Option<&WorkerView>) -> Self {
        let latest = present.and_then(WorkerView::latest).map(|latest| latest.id.to_string());
        let active = present.and_then(|present| present.active.as_ref()).map(|active| active.id.to_string());
        Self { latest: latest.unwrap_or_default(), active: active.unwrap_or_default() }
    }
}

async fn effect(dashboard: &Dashboard, plan: &Plan, trial: &Trial) -> Markup {
    let latest = plan.present.as_ref().and_then(|present| Some((present, present.latest()?)));
    html! {
        section #effect aria-labelledby="effect-title" {
            h2 #effect-title { "What it would do" }
            p {
                @match latest {
                    Some((present, latest)) => { "It makes version #" (latest.number + 1) " of " strong { (present.name) } ", and was proven to start." },
                    None => { "It makes the worker " strong { (plan.worker) } " with version #1, and was proven to start." },
                }
            }
            dl.facts.plain {
                dt { "Module" } dd { (figures::size(trial.module.size_bytes)) ", WASI " (trial.module.kind.wasi()) ", " (trial.module.imports.len()) " imports" }
                dt { "Compiled in" } dd { (figures::compilation(trial.startup)) }
                dt { "Start-up" } dd { (figures::startup(trial.startup)) ", " (figures::size(trial.startup.memory_bytes)) " of memory" }
            }
            @match latest {
                Some((present, latest)) => {
                    h3 { "Compared with " (Legend::of(present).tagged(latest.id)) }
                    (diff::table(&diff::between((&latest.config, &latest.module), (&trial.config, &trial.module))))
                },
                None => { h3 { "Configuration" } (version::configured(&trial.config)) },
            }
            @if !trial.notes.is_empty() { ul.notes { @for note in &trial.notes { li { (note) } } } }
            @if let Some(pending) = &plan.pending { (migrations(&pending.new_tag, &pending.metadata)) }
            h3 { "If it is deployed" }
            (deployed(dashboard, plan).await)
        }
    }
}

/// The steps of the migrations that the worker has not had.
fn migrations(new_tag: &str, metadata: &Value) -> Markup {
    let steps = metadata["steps"].as_array().into_iter().flatten().filter_map(Value::as_object).flatten();
    let listed = |value: &Value| -> String {
        let one = |value: &Value| match (&value["from"], &value["to"], &value["from_script"]) {
            (Value::String(from), Value::String(to), Value::String(script)) => format!("{from} of {script} to {to}"),
            (Value::String(from), Value::String(to), _) => format!("{from} to {to}"),
            _ => value.as_str().unwrap_or_default().to_owned(),
        };
        value.as_array().into_iter().flatten().map(one).collect::<Vec<_>>().join(", ")
    };
    html! {
        h3 { "Migrations, up to the tag " code { (new_tag) } }
        ul.faults {
            @for (what, classes) in steps {
                li {
                    @match what.as_str() {
                        "new_classes" | "new_sqlite_classes" => { "new: " },
                        "deleted_classes" => { strong.bad { "deleted with all their objects: " } },
                        "renamed_classes" => { "renamed: " },
                        "transferred_classes" => { "taken over: " },
                        other => { (other) ": " },
                    }
                    (listed(classes))
                }
            }
        }
    }
}

/// What a deployment of it at 100 % changes beside the version.
async fn deployed(dashboard: &Dashboard, plan: &Plan) -> Markup {
    let present = plan.present.as_deref();
    let active = present.and_then(|present| present.active.as_ref().map(|active| (present, active)));
    // Any version that is none of those there are: whatever it is, all goes to it.
    let next = Split::all_to(VersionId::from_random([0; 16]));
    let objects = match active {
        Some((present, active)) => {
            dashboard.api.objects.plan(present, &Allotment::derive(Some(&active.allotment), &next)).await.ok()
        }
        None => None,
    };
    let update = plan.code_update().unwrap_or(CodeUpdate::Immediate);
    html! {
        @if let Some(present) = present { (rollout::warning(dashboard, present).await) }
        @match active {
            Some((present, active)) => {
                @let legend = Legend::of(present);
                div.bars { span.what { "now" } (legend.bar(active)) }
                p.split { (legend.words(active.split.entries())) }
                p { strong { (figures::count(SLOTS.into())) " of " (figures::count(SLOTS.into())) " slots" } " move to it: it gets all the traffic." }
            },
            None => { p { "It is the first deployment: requests to this worker are answered from then on." } },
        }
        @if let Some(objects) = objects.filter(|objects| objects.objects > 0) {
            p {
                "Durable Objects: " strong { "all " @if objects.is_estimate { "(about " (figures::count(objects.objects)) ")" } @else { (figures::count(objects.objects)) } } " change their version. "
                (update.resets_in_words(objects.live_moving))
                @if objects.live_moving > 0 { " What they have written stays." }
            }
        }
        @if let Some(config) = &plan.config { (addresses(present, &config.triggers)) }
    }
}

/// Routes, domains and switches, which a deployment sets as the file says.
fn addresses(present: Option<&WorkerView>, triggers: &Triggers) -> Markup {
    let (mut routes, mut domains, mut is_on_own_host, mut has_previews) = (Vec::new(), Vec::new(), true, true);
    if let Some(present) = present {
        let before = &present.triggers;
        routes.extend(before.routes.iter().map(|route| route.pattern.to_string()));
        domains.extend(before.domains.iter().map(ToString::to_string));
        (is_on_own_host, has_previews) = (before.workers_dev, before.previews_enabled);
    }
    let switch = |is_on: bool| if is_on { "answers" } else { "is off" };
    let own_host = triggers.is_on_own_host();
    let mut changes = Vec::new();
    if let Some(after) = &triggers.routes {
        let patterns: Vec<String> = after.patterns.iter().map(|route| route.pattern.clone()).collect();
        changes.extend(diff::names_changed("Route", &routes, &patterns));
        changes.extend(diff::names_changed("Domain", &domains, &after.domains));
    }
    let switched = |what: &str, before: bool, after: bool| {
        diff::change(what, Some(switch(before).to_owned()), Some(switch(after).to_owned()))
    };
    changes.extend(switched("Its own host", is_on_own_host, own_host));
    changes.extend(switched("Hosts of versions", has_previews, triggers.preview_urls.unwrap_or(own_host)));
    html! {
        @if !changes.is_empty() { (diff::table(&[diff::Group { title: "Routes and addresses", changes }])) }
    }
}
