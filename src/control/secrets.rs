//! Secrets: names are listed, values go in and never out (`SEC-7`). Every edit is a new version that copies all else (`SEC-9`).
//!
//! `secret …` deploys that version and so needs the latest one to be live (`SEC-2`); `versions secret …` does not (`SEC-4`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;

use crate::catalog::{SecretEdit, SecretTarget, WorkerView};
use crate::control::fault::{Code, Fault, Outcome};
use crate::control::read::existing;
use crate::control::request::{Caller, Params, json};
use crate::control::shape::{self, Answer};
use crate::control::{Api, wire};
use crate::domain::config::SecretText;
use crate::domain::version::{self, Provenance};

const KIND: &str = "secret_text";

/// `GET …/secrets`: those of the latest version, or those that wait on a draft.
pub(super) async fn list(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<Vec<wire::SecretItem>>> {
    let view = api.catalog.view();
    Ok(Answer::of(items(existing(&view, &params.worker()?)?)))
}

/// `GET …/secrets/:k`: whether it is there.
pub(super) async fn get(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<wire::SecretItem>> {
    let view = api.catalog.view();
    let worker = existing(&view, &params.worker()?)?;
    let found = items(worker).into_iter().find(|item| item.name == params.get("secret"));
    found.map(Answer::of).ok_or_else(|| unknown(worker, params.get("secret")))
}

/// `PUT …/secrets`: sets one.
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    params: Params,
    Caller(provenance): Caller,
    body: Body,
) -> Outcome<Answer<wire::SecretItem>> {
    let worker = params.worker()?;
    existing(&api.catalog.view(), &worker)?;
    let put: wire::SecretPut = json(body, "`{\"name\": text, \"text\": text, \"type\": \"secret_text\"}`").await?;
    check_kind(&put.kind, "type")?;
    let mut edit = edit(provenance);
    edit.set.insert(put.name.clone(), SecretText::new(put.text));
    api.catalog.edit_secrets(&worker, edit, SecretTarget::LatestDeployed).await?;
    Ok(Answer::of(shape::secret(put.name)))
}

/// `DELETE …/secrets/:k`: the name comes percent-encoded, and is decoded after routing.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    params: Params,
    Caller(provenance): Caller,
) -> Outcome<Answer<()>> {
    let worker = params.worker()?;
    let name = params.get("secret");
    {
        let view = api.catalog.view();
        let record = existing(&view, &worker)?;
        if !items(record).iter().any(|item| item.name == name) {
            return Err(unknown(record, name));
        }
    }
    let mut edit = edit(provenance);
    edit.remove.insert(name.to_owned());
    api.catalog.edit_secrets(&worker, edit, SecretTarget::LatestDeployed).await?;
    Ok(Answer::done())
}

/// `PATCH …/secrets-bulk`: sets some and, with `null`, removes some, in one version.
pub(super) async fn bulk(
    State(api): State<Arc<Api>>,
    params: Params,
    Caller(provenance): Caller,
    body: Body,
) -> Outcome<Answer<Vec<wire::SecretItem>>> {
    let worker = params.worker()?;
    existing(&api.catalog.view(), &worker)?;
    let bulk: wire::SecretsBulk =
        json(body, "`{\"secrets\": {name: {\"name\": text, \"text\": text, \"type\": \"secret_text\"} or null, …}}`")
            .await?;
    let mut edit = edit(provenance);
    for (name, secret) in bulk.secrets {
        match secret {
            None => edit.remove.insert(name),
            Some(secret) => {
                check_kind(&secret.kind, &format!("secrets.{name}.type"))?;
                if secret.name != name {
                    let message = "the secret's `name` is not the key that it stands under";
                    return Err(Fault::at(Code::Invalid, format!("secrets.{name}.name"), message));
                }
                edit.set.insert(name, SecretText::new(secret.text)).is_none()
            }
        };
    }
    check_any(&edit)?;
    api.catalog.edit_secrets(&worker, edit, SecretTarget::LatestDeployedInBulk).await?;
    let view = api.catalog.view();
    Ok(Answer::of(items(existing(&view, &worker)?)))
}

/// `PATCH …/workers/workers/:n/versions/latest`: a version with other secrets, not deployed.
pub(super) async fn patch_latest(
    State(api): State<Arc<Api>>,
    params: Params,
    Caller(provenance): Caller,
    body: Body,
) -> Outcome<Answer<wire::Version>> {
    let worker = params.worker()?;
    existing(&api.catalog.view(), &worker)?;
    let patch: wire::VersionPatch =
        json(body, "`{\"env\": {name: {\"type\": \"secret_text\", \"text\": text} or null, …}}`").await?;
    let mut edit = edit(provenance);
    edit.message = version::message(patch.annotations.message.as_deref().unwrap_or_default());
    edit.tag = version::tag(patch.annotations.tag.as_deref().unwrap_or_default())
        .map_err(|error| Fault::at(Code::Invalid, "annotations.workers/tag", error.to_string()))?;
    for (name, secret) in patch.env {
        match secret {
            None => {
                edit.remove.insert(name);
            }
            Some(secret) => {
                check_kind(&secret.kind, &format!("env.{name}.type"))?;
                edit.set.insert(name, SecretText::new(secret.text));
            }
        }
    }
    check_any(&edit)?;
    let edited = api.catalog.edit_secrets(&worker, edit, SecretTarget::LatestNotDeployed).await?;
    let view = api.catalog.view();
    let record = existing(&view, &worker)?;
    let Some(version) = edited.version else {
        return Err(crate::catalog::Error::NoVersions { worker }.into());
    };
    Ok(Answer::of(shape::version(record, &version, api.data_addr)))
}

fn edit(provenance: Provenance) -> SecretEdit {
    SecretEdit { set: BTreeMap::new(), remove: BTreeSet::new(), message: None, tag: None, provenance }
}

fn items(worker: &WorkerView) -> Vec<wire::SecretItem> {
    match worker.latest() {
        Some(version) => version.config.secrets().keys().map(|name| shape::secret(name.as_str())).collect(),
        None => worker.draft_secrets.keys().map(|name| shape::secret(name.as_str())).collect(),
    }
}

fn check_kind(kind: &str, place: &str) -> Outcome<()> {
    if kind == KIND {
        return Ok(());
    }
    Err(Fault::at(
        Code::Invalid,
        place,
        format!("the only type of secret here is `{KIND}`; other bindings come with an upload"),
    ))
}

fn check_any(edit: &SecretEdit) -> Outcome<()> {
    if edit.set.is_empty() && edit.remove.is_empty() {
        return Err(Fault::new(Code::Invalid, "the call names no secret, so there is nothing to change"));
    }
    Ok(())
}

fn unknown(worker: &WorkerView, name: &str) -> Fault {
    let name = name.chars().take(80).collect();
    crate::catalog::Error::SecretUnknown { worker: worker.name.clone(), name }.into()
}
