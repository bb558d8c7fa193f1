//! Variables and secrets: each change is a new version, which copies the latest one in all else and gets no traffic until it is
//! deployed. The value of a secret goes in and never out.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::Method;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::catalog::WorkerView;
use crate::control::wire::{self, Annotations, SecretValue, VersionPatch};
use crate::dashboard::call::Refused;
use crate::dashboard::guard::Fields;
use crate::dashboard::layout::{self, Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::session::Session;
use crate::dashboard::worker::{Named, command, plan};
use crate::dashboard::{Dashboard, parts};
use crate::domain::config::{Binding, BindingValue, Config, Isolation};
use crate::domain::limits::{CPU_TIME_MAX, SUBREQUESTS_MAX};
use crate::domain::version::Version;

/// What separates the parts of an upload that we make; a module is most unlikely to contain it, and is checked for it.
const BOUNDARY: &str = "sluice-dashboard-5c1f0a7e93d24b86";

/// What the forms begin with.
#[derive(Debug, Default, Deserialize)]
pub(in crate::dashboard) struct Chosen {
    #[serde(default)]
    variable: String,
    #[serde(default)]
    secret: String,
}

/// Where they are edited.
#[must_use]
pub fn path(worker: &WorkerView) -> String {
    format!("/workers/{}/variables", worker.name)
}

/// `GET /workers/:name/variables[?variable=N][?secret=N]`.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Named(worker): Named,
    Query(chosen): Query<Chosen>,
) -> Response {
    show(&dashboard, &session, &worker, &chosen, &html! {})
}

/// `POST` of the same: sets or removes one.
pub(in crate::dashboard) async fn act(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Named(worker): Named,
    fields: Fields,
) -> Response {
    let made = match worker.latest() {
        None => Err(Refused::by_us("There is no version yet to make another one from. Upload one first.")),
        // The form shows what was there when it was made: a change of something else is not built on.
        Some(latest) if latest.id.to_string() != fields.get("latest") => Err(Refused::by_us(&format!(
            "Somebody made version #{} meanwhile. Nothing was changed; look at what is there now, and do it again.",
            latest.number
        ))),
        Some(latest) => change(&dashboard, &worker, latest, &fields).await,
    };
    match made {
        Ok(version) => Redirect::to(&format!("/workers/{}/versions/{}", worker.name, version.id)).into_response(),
        Err(refused) => {
            let is_secret = fields.get("do").ends_with("secret");
            let named = |wanted: bool| if wanted { fields.get("name").to_owned() } else { String::new() };
            let chosen = Chosen { variable: named(!is_secret), secret: named(is_secret) };
            let said = plan::refusal("No version was made.", &refused);
            show(&dashboard, &session, &worker, &chosen, &said)
        }
    }
}

async fn change(
    dashboard: &Dashboard,
    worker: &WorkerView,
    latest: &Version,
    fields: &Fields,
) -> Result<wire::Version, Refused> {
    // Browsers send ends of lines as network protocols have them.
    let (name, value) = (fields.get("name").trim(), fields.get("value").replace("\r\n", "\n"));
    match fields.get("do") {
        "set-secret" => secret(dashboard, worker, name, Some(value)).await,
        "remove-secret" => secret(dashboard, worker, name, None).await,
        "set-variable" => {
            let value = match fields.get("kind") {
                "json" => {
                    let value: Value = serde_json::from_str(&value)
                        .map_err(|error| Refused::by_us(&format!("The value is not JSON: {error}.")))?;
                    json!({ "name": name, "type": "json", "json": value })
                }
                _ => json!({ "name": name, "type": "plain_text", "text": value }),
            };
            variable(dashboard, worker, latest, name, Some(value)).await
        }
        _ => variable(dashboard, worker, latest, name, None).await,
    }
}

async fn secret(
    dashboard: &Dashboard,
    worker: &WorkerView,
    name: &str,
    value: Option<String>,
) -> Result<wire::Version, Refused> {
    let what = if value.is_some() { "Updated" } else { "Deleted" };
    let value = value.map(|text| SecretValue { kind: "secret_text".to_owned(), text });
    let patch = VersionPatch {
        env: BTreeMap::from([(name.to_owned(), value)]),
        annotations: Annotations { message: Some(format!("{what} secret \"{name}\"")), ..Annotations::default() },
    };
    let path = format!("/workers/{}/versions/latest", worker.name);
    let made = dashboard.call(Method::PATCH, &path, Some(&patch)).await?;
    made.ok_or_else(|| Refused::by_us("the node said nothing of the version"))
}

/// The latest version's module once more, with one variable other than it was.
async fn variable(
    dashboard: &Dashboard,
    worker: &WorkerView,
    latest: &Version,
    name: &str,
    value: Option<Value>,
) -> Result<wire::Version, Refused> {
    let known = latest.config.bindings.iter().find(|binding| binding.name.as_str() == name);
    match known {
        Some(binding) if !is_variable(binding) => {
            return Err(Refused::by_us(&format!("`{name}` is a binding of another type, so it can be no variable.")));
        }
        None if value.is_none() => return Err(Refused::by_us(&format!("There is no variable `{name}`."))),
        _ => {}
    }
    let what = if value.is_some() { "Updated" } else { "Deleted" };
    let metadata = metadata(&latest.config, name, value, &format!("{what} variable \"{name}\""));
    let module = dashboard.api.catalog.modules().read(latest.module.digest).await.map_err(|error| {
        tracing::error!(%error, module = %latest.module.digest, "cannot read a module");
        Refused::by_us("The module cannot be read; the log of the node says why.")
    })?;
    let body = multipart(&metadata, &module)
        .ok_or_else(|| Refused::by_us("This module can only be uploaded by the command line."))?;
    let path = format!("/scripts/{}/versions", worker.name);
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let made = dashboard.call_with(Method::POST, &path, &[], &kind, Body::from(body)).await?;
    made.ok_or_else(|| Refused::by_us("the node said nothing of the version"))
}

fn is_variable(binding: &Binding) -> bool {
    matches!(binding.value, BindingValue::Text(_) | BindingValue::Json(_))
}

/// The metadata of a version that is like the one of `config` but for one variable; of no name, it is like it in all.
pub(in crate::dashboard) fn metadata(config: &Config, name: &str, value: Option<Value>, message: &str) -> Value {
    let others = config.bindings.iter().filter(|binding| binding.name.as_str() != name);
    let inherited = others.map(|binding| json!({ "name": binding.name.as_str(), "type": "inherit" }));
    let bindings: Vec<Value> = inherited.chain(value).collect();
    let limits = config.limits;
    let mut metadata = json!({
        "main_module": "module.wasm",
        "bindings": bindings,
        "compatibility_date": config.compatibility_date,
        "compatibility_flags": config.compatibility_flags,
        "annotations": { "workers/message": message },
        "limits": {
            "cpu_ms": (limits.cpu != CPU_TIME_MAX).then(|| u64::try_from(limits.cpu.as_millis()).unwrap_or(u64::MAX)),
            "subrequests": (limits.subrequests != SUBREQUESTS_MAX).then_some(limits.subrequests),
        },
    });
    let reuse = match config.isolation {
        Isolation::ByGuest => None,
        Isolation::Fresh => Some(false),
        Isolation::Reuse => Some(true),
    };
    if let Some(reuse) = reuse {
        metadata["sluice"] = json!({ "instance_reuse": reuse });
    }
    metadata
}

/// An upload's body. None if the module contains what separates its parts.
fn multipart(metadata: &Value, module: &[u8]) -> Option<Vec<u8>> {
    if memchr::memmem::find(module, BOUNDARY.as_bytes()).is_some() {
        return None;
    }
    let (before, after) = around_module(metadata, BOUNDARY);
    Some([before.as_bytes(), module, after.as_bytes()].concat())
}

/// What stands before and after the module in the body of an upload.
pub(in crate::dashboard) fn around_module(metadata: &Value, boundary: &str) -> (String, String) {
    let before = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{metadata}\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"module.wasm\"; filename=\"module.wasm\"\r\n\
         Content-Type: application/wasm\r\n\r\n"
    );
    (before, format!("\r\n--{boundary}--\r\n"))
}

fn show(dashboard: &Dashboard, session: &Session, worker: &WorkerView, chosen: &Chosen, said: &Markup) -> Response {
    let body = html! {
        (said)
        @match worker.latest() {
            None => { p.muted { "There is no version yet. Upload one first." } },
            Some(latest) => {
                p {
                    "A change makes version #" (latest.number + 1) ": like the latest one, "
                    (Legend::of(worker).tagged(latest.id)) ", but for the change. It gets no traffic until you deploy it."
                }
                (variables(session, worker, latest, &chosen.variable))
                (secrets(session, worker, latest, &chosen.secret))
            },
        }
    };
    let place = Place::Below(worker, WorkerTab::Versions, "Variables and secrets".to_owned());
    Page { title: format!("Variables of {}", worker.name), place, live: None, body }.respond(dashboard, session)
}

fn variables(session: &Session, worker: &WorkerView, latest: &Version, chosen: &str) -> Markup {
    let known = || latest.config.bindings.iter().filter(|binding| is_variable(binding));
    let present = known().find(|binding| binding.name.as_str() == chosen).map(|binding| &binding.value);
    let (value, is_json) = match present {
        Some(BindingValue::Json(json)) => (json.as_str(), true),
        Some(BindingValue::Text(text)) => (text.as_str(), false),
        _ => ("", false),
    };
    let caption = "Variables of the latest version";
    let table = html! {
        table {
            caption.unseen { (caption) }
            thead { tr { th scope="col" { "Name" } th scope="col" { "Value" } th scope="col" { "Edit" } } }
            tbody {
                @for binding in known() {
                    tr {
                        th scope="row" { code { (binding.name) } }
                        td.text { code { @match &binding.value { BindingValue::Text(text) | BindingValue::Json(text) => { (text) }, _ => {} } } }
                        td { a href=(format!("{}?variable={}#variable", path(worker), binding.name)) aria-label=(format!("Edit {}", binding.name)) { "Edit" } }
                    }
                }
            }
        }
    };
    html! {
        section #variable aria-labelledby="variables-title" {
            h2 #variables-title { "Variables" }
            @if known().next().is_some() { (parts::scrolling(caption, &table)) } @else { p.muted { "There are none." } }
            form.edit method="post" action=(path(worker)) {
                (layout::form_secret(session))
                input type="hidden" name="latest" value=(latest.id);
                label for="variable-name" { "Name" }
                input #variable-name name="name" value=(chosen) required autocomplete="off" spellcheck="false";
                label for="variable-value" { "Value" }
                // A line end right after the tag is not part of the value.
                textarea #variable-value name="value" rows="3" spellcheck="false" { "\n" (value) }
                fieldset {
                    legend { "Type" }
                    label.choice { input type="radio" name="kind" value="text" checked[!is_json]; " text" }
                    label.choice { input type="radio" name="kind" value="json" checked[is_json]; " JSON" }
                }
                p.buttons {
                    button.primary type="submit" name="do" value="set-variable" { "Make a version with it" }
                    button type="submit" name="do" value="remove-variable" { "Make a version without it" }
                }
                p.muted { "On the command line: edit " code { "[vars]" } " of the project’s wrangler.toml, then:" }
                (command::shown(&format!("sluice versions upload --name {}", worker.name)))
            }
        }
    }
}

fn secrets(session: &Session, worker: &WorkerView, latest: &Version, chosen: &str) -> Markup {
    let names: Vec<_> = latest.config.secrets().into_keys().collect();
    let word = if chosen.is_empty() { "NAME".to_owned() } else { command::quoted(chosen) };
    html! {
        section #secret aria-labelledby="secrets-title" {
            h2 #secrets-title { "Secrets" }
            @if names.is_empty() { p.muted { "There are none." } }
            @else {
                ul { @for name in &names { li { code { (name) } " " a href=(format!("{}?secret={name}#secret", path(worker))) aria-label=(format!("Change {name}")) { "Change" } } } }
            }
            form.edit method="post" action=(path(worker)) {
                (layout::form_secret(session))
                input type="hidden" name="latest" value=(latest.id);
                label for="secret-name" { "Name" }
                input #secret-name name="name" value=(chosen) required autocomplete="off" spellcheck="false";
                label for="secret-value" { "Value " span.muted { "(it is never shown again)" } }
                textarea #secret-value .masked name="value" rows="2" autocomplete="off" spellcheck="false" {}
                p.buttons {
                    button.primary type="submit" name="do" value="set-secret" { "Make a version with it" }
                    button type="submit" name="do" value="remove-secret" { "Make a version without it" }
                }
                p.muted { "The same on the command line, which reads the value from standard input:" }
                (command::shown(&format!("sluice versions secret put {word} --name {}", worker.name)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::config::{RequestLimits, SecretText};

    #[test]
    fn all_but_one_variable_is_inherited() {
        let binding = |name: &str, value| Binding { name: name.parse().unwrap(), value };
        let config = Config {
            bindings: vec![
                binding("A", BindingValue::Text("1".into())),
                binding("KEY", BindingValue::Secret(SecretText::new("s3cret".into()))),
                binding("B", BindingValue::Text("2".into())),
            ],
            compatibility_date: Some("2026-01-01".into()),
            compatibility_flags: Vec::new(),
            limits: RequestLimits { cpu: Duration::from_millis(50), subrequests: SUBREQUESTS_MAX },
            isolation: Isolation::Reuse,
        };
        let value = json!({ "name": "A", "type": "plain_text", "text": "new" });
        let made = metadata(&config, "A", Some(value.clone()), "m");
        let inherit = |name: &str| json!({ "name": name, "type": "inherit" });
        assert_eq!(made["bindings"], json!([inherit("KEY"), inherit("B"), value]));
        assert_eq!((&made["limits"]["cpu_ms"], &made["limits"]["subrequests"]), (&json!(50), &Value::Null));
        assert_eq!(
            (&made["sluice"]["instance_reuse"], &made["compatibility_date"]),
            (&json!(true), &json!("2026-01-01"))
        );
        assert!(!made.to_string().contains("s3cret"));
        assert_eq!(metadata(&config, "B", None, "m")["bindings"], json!([inherit("A"), inherit("KEY")]));
    }

    #[test]
    fn a_module_cannot_end_its_own_part() {
        assert!(multipart(&json!({}), format!("a{BOUNDARY}b").as_bytes()).is_none());
        let made = multipart(&json!({ "main_module": "module.wasm" }), b"\0asm").unwrap();
        assert!(made.ends_with(format!("\0asm\r\n--{BOUNDARY}--\r\n").as_bytes()));
    }
}
