//! `secret` changes what is deployed, `versions secret` makes a version that waits for its deployment (`SEC-2`, `SEC-4`). Values are
//! read from stdin or a file and are never printed.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::args::{Common, NoteArgs, SecretCommand, VersionsSecretCommand};
use crate::cli::client::{Api, Listing};
use crate::cli::fault::failed;
use crate::cli::refused::is_missing_worker;
use crate::cli::render::{self, Format};
use crate::cli::secrets::{self, Changes};
use crate::control::wire::{Annotations, Binding, SecretItem, SecretPut, SecretValue, SecretsBulk, VersionPatch};

const KIND: &str = "secret_text";

/// `sluice secret …`.
pub async fn deployed(command: SecretCommand, common: &Common) -> anyhow::Result<()> {
    let (api, worker) = (common.client()?, common.selection().worker()?);
    match command {
        SecretCommand::Put(args) => {
            let secret = secret(&args.key, secrets::read_value(args.value_file.as_deref())?);
            if let Err(error) = api.put_secret(&worker, &secret).await {
                draft_or(&api, &worker, error).await?;
                api.put_secret(&worker, &secret).await?;
            }
            render::line(format_args!("Secret {} of {worker} is set", args.key));
        }
        SecretCommand::Bulk(args) => {
            let changes = secrets::read_changes(args.file.as_deref())?;
            let (set, deleted) = counts(&changes);
            let bulk = SecretsBulk {
                secrets: changes
                    .into_iter()
                    .map(|(name, value)| (name.clone(), value.map(|v| secret(&name, v))))
                    .collect(),
            };
            if let Err(error) = api.bulk_secrets(&worker, &bulk).await {
                draft_or(&api, &worker, error).await?;
                api.bulk_secrets(&worker, &bulk).await?;
            }
            render::line(format_args!("Secrets of {worker}: {set} set, {deleted} deleted"));
        }
        SecretCommand::List { json } => {
            let list = api.secrets(&worker).await?;
            show(&list, Format::from(json), &worker);
        }
        SecretCommand::Delete { key } => {
            api.delete_secret(&worker, &key).await?;
            render::line(format_args!("Secret {key} of {worker} is deleted"));
        }
    }
    Ok(())
}

/// `sluice versions secret …`.
pub async fn in_version(command: VersionsSecretCommand, common: &Common) -> anyhow::Result<()> {
    let (api, worker) = (common.client()?, common.selection().worker()?);
    let (changes, message, note) = match command {
        VersionsSecretCommand::Put { put, note } => {
            let value = secrets::read_value(put.value_file.as_deref())?;
            (Changes::from([(put.key.clone(), Some(value))]), format!("Updated secret \"{}\"", put.key), note)
        }
        VersionsSecretCommand::Delete { key, note } => {
            (Changes::from([(key.clone(), None)]), format!("Deleted secret \"{key}\""), note)
        }
        VersionsSecretCommand::Bulk { bulk, note } => {
            let changes = secrets::read_changes(bulk.file.as_deref())?;
            let message = format!("Bulk updated {} secrets", changes.len());
            (changes, message, note)
        }
        VersionsSecretCommand::List { latest_version, json } => {
            let list = if latest_version { of_latest(&api, &worker).await? } else { of_active(&api, &worker).await? };
            show(&list, Format::from(json), &worker);
            return Ok(());
        }
    };
    let made = api.patch_latest(&worker, &patch(changes, message, note)).await?;
    let id = made.get("id").and_then(Value::as_str).unwrap_or("-");
    render::line(format_args!("Worker Version ID: {id}"));
    render::hint(format_args!("`sluice versions deploy {}@100` gives it traffic", super::deploy::short(id)));
    Ok(())
}

fn patch(changes: Changes, message: String, note: NoteArgs) -> VersionPatch {
    let value = |text: String| SecretValue { kind: KIND.to_owned(), text };
    VersionPatch {
        env: changes.into_iter().map(|(name, text)| (name, text.map(value))).collect::<BTreeMap<_, _>>(),
        annotations: Annotations {
            message: Some(note.message.unwrap_or(message)),
            tag: note.tag,
            ..Annotations::default()
        },
    }
}

/// A worker that is not there becomes a draft that keeps its secrets until the first upload, as wrangler makes one.
async fn draft_or(api: &Api, worker: &str, error: anyhow::Error) -> anyhow::Result<()> {
    if !is_missing_worker(&error) {
        return Err(error);
    }
    api.put_draft(worker).await?;
    render::note(format_args!("{worker} is new: made a draft that keeps the secret until `sluice deploy`"));
    Ok(())
}

/// Secrets of all versions that are deployed.
async fn of_active(api: &Api, worker: &str) -> anyhow::Result<Vec<SecretItem>> {
    let active = api.deployments(worker).await?.into_iter().next();
    let active = active.ok_or_else(|| {
        failed(format!("The Worker {worker} has no deployments."))
            .hint("`--latest-version` lists those of the latest version")
    })?;
    let mut list = Vec::new();
    for share in &active.versions {
        list.extend(items(&api.version(worker, &share.version_id).await?.resources.bindings));
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list.dedup();
    Ok(list)
}

async fn of_latest(api: &Api, worker: &str) -> anyhow::Result<Vec<SecretItem>> {
    let versions = api.versions(worker, Listing::Deployable).await?;
    Ok(versions.first().map(|latest| items(&latest.resources.bindings).collect()).unwrap_or_default())
}

fn items(bindings: &[Binding]) -> impl Iterator<Item = SecretItem> + '_ {
    let secrets = bindings.iter().filter(|binding| binding.kind == KIND);
    secrets.map(|binding| SecretItem { name: binding.name.clone(), kind: binding.kind.clone() })
}

fn show(list: &[SecretItem], format: Format, worker: &str) {
    if format == Format::Json {
        render::json(&list);
    } else if list.is_empty() {
        render::note(format_args!("The Worker {worker} has no secrets."));
    } else {
        render::table(["Secret", "Type"], list.iter().map(|item| [item.name.clone(), item.kind.clone()]));
    }
}

fn secret(name: &str, text: String) -> SecretPut {
    SecretPut { name: name.to_owned(), text, kind: KIND.to_owned() }
}

fn counts(changes: &Changes) -> (usize, usize) {
    let set = changes.values().filter(|value| value.is_some()).count();
    (set, changes.len() - set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_sets_deletes_and_says_so() {
        let changes = Changes::from([("A".to_owned(), Some("1".to_owned())), ("B".to_owned(), None)]);
        assert_eq!(counts(&changes), (1, 1));
        let note = NoteArgs { message: None, tag: Some("t1".to_owned()) };
        let patch = serde_json::to_value(patch(changes, "Bulk updated 2 secrets".to_owned(), note)).unwrap();
        let wanted = serde_json::json!({"env": {"A": {"type": "secret_text", "text": "1"}, "B": null},
            "annotations": {"workers/message": "Bulk updated 2 secrets", "workers/tag": "t1"}});
        assert_eq!(patch, wanted);
    }
}
