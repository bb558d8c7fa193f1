//! `kv`: namespaces and what they hold, with wrangler's words. Nothing is asked; `--remote` is what it does anyway.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use crate::cli::args::{BesideArgs, Common, KvBulkCommand, KvCommand, KvKeyCommand, KvNamespaceCommand, NamespaceArgs};
use crate::cli::client::Api;
use crate::cli::fault::{failed, usage};
use crate::cli::kv::Beside;
use crate::cli::render::{self, Format};
use crate::control::wire_kv::{self, KvKey, KvPair};
use crate::project::config::KvNamespace;

/// `sluice kv …`.
pub async fn run(command: KvCommand, common: &Common) -> anyhow::Result<()> {
    let api = common.client()?;
    match command {
        KvCommand::Namespace { command } => namespaces(command, &api, common).await,
        KvCommand::Key { command } => keys(command, &api, common).await,
        KvCommand::Bulk { command } => bulk(command, &api, common).await,
    }
}

async fn namespaces(command: KvNamespaceCommand, api: &Api, common: &Common) -> anyhow::Result<()> {
    match command {
        KvNamespaceCommand::Create { title, binding, json } => {
            let made = api.create_namespace(&title).await?;
            if json {
                render::json(&made);
                return Ok(());
            }
            render::line(format_args!("Created the namespace {} with the id {}", made.title, made.id));
            let binding = binding.unwrap_or_else(|| binding_of(&title));
            let (id, text) = (&made.id, "to bind it, add this to the configuration, and deploy:");
            render::hint(format_args!("{text}\n[[kv_namespaces]]\nbinding = \"{binding}\"\nid = \"{id}\""));
        }
        KvNamespaceCommand::List { json } => {
            let list = api.namespaces().await?;
            match Format::from(json) {
                Format::Json => render::json(&list),
                Format::Human if list.is_empty() => render::note("There are no namespaces."),
                Format::Human => render::table(["Title", "Id"], list.into_iter().map(|one| [one.title, one.id])),
            }
        }
        KvNamespaceCommand::Rename { title, namespace_id, new_name } => {
            let id = match namespace_id {
                Some(id) => id,
                None => titled(api, title.as_deref()).await?.id,
            };
            let renamed = api.rename_namespace(&id, &new_name).await?;
            render::line(format_args!("The namespace {id} is called {} now", renamed.title));
        }
        KvNamespaceCommand::Delete { title, of, .. } => {
            let id = match title {
                Some(title) => titled(api, Some(&title)).await?.id,
                None => of.resolve(api, common).await?,
            };
            api.delete_namespace(&id).await?;
            render::line(format_args!("Deleted the namespace {id} with all that it held"));
        }
    }
    Ok(())
}

async fn keys(command: KvKeyCommand, api: &Api, common: &Common) -> anyhow::Result<()> {
    match command {
        KvKeyCommand::Put { key, value, path, beside, of } => {
            let beside = beside.read()?;
            let value = match (value, path) {
                (Some(value), None) => value.into_bytes(),
                (None, Some(path)) => read(&path)?,
                _ => return Err(usage("give the value, or --path FILE").into()),
            };
            let id = of.resolve(api, common).await?;
            let size = value.len();
            api.put_key(&id, &key, value, &beside).await?;
            render::line(format_args!("Wrote {} to the key {key}", render::size(size as u64)));
        }
        KvKeyCommand::Get { key, of, .. } => {
            let id = of.resolve(api, common).await?;
            render::bytes(&api.get_key(&id, &key).await?);
        }
        KvKeyCommand::List { prefix, json, of } => {
            let id = of.resolve(api, common).await?;
            let list = api.keys(&id, prefix.as_deref().unwrap_or_default()).await?;
            match Format::from(json) {
                Format::Json => render::json(&list),
                Format::Human if list.is_empty() => render::note("There are no such keys."),
                Format::Human => render::table(["Key", "Ends", "Metadata"], list.into_iter().map(row)),
            }
        }
        KvKeyCommand::Delete { key, of } => {
            let id = of.resolve(api, common).await?;
            api.delete_key(&id, &key).await?;
            render::line(format_args!("Deleted the key {key}"));
        }
    }
    Ok(())
}

async fn bulk(command: KvBulkCommand, api: &Api, common: &Common) -> anyhow::Result<()> {
    match command {
        KvBulkCommand::Put { file, beside, of } => {
            let beside = beside.read()?;
            let mut pairs: Vec<KvPair> = parse(&file, "an array of `{\"key\": text, \"value\": text, …}`")?;
            for pair in &mut pairs {
                if pair.expiration.is_none() && pair.expiration_ttl.is_none() {
                    (pair.expiration, pair.expiration_ttl) = (beside.expiration, beside.ttl);
                }
                if pair.metadata.is_none() {
                    pair.metadata.clone_from(&beside.metadata);
                }
            }
            let id = of.resolve(api, common).await?;
            api.put_bulk(&id, &pairs).await?;
            render::line(format_args!("Wrote {} keys", pairs.len()));
        }
        KvBulkCommand::Get { file, of, .. } => {
            let keys = names(&file)?;
            let id = of.resolve(api, common).await?;
            render::json(&api.get_bulk(&id, &keys).await?);
        }
        KvBulkCommand::Delete { file, of, .. } => {
            let keys = names(&file)?;
            let id = of.resolve(api, common).await?;
            api.delete_bulk(&id, &keys).await?;
            render::line(format_args!("Deleted {} keys", keys.len()));
        }
    }
    Ok(())
}

impl NamespaceArgs {
    /// The namespace's id: as typed; else that of the file; else that of the deployed worker, where wrangler made it.
    async fn resolve(&self, api: &Api, common: &Common) -> anyhow::Result<String> {
        let binding = match (&self.namespace_id, &self.binding) {
            (Some(id), _) => return Ok(id.clone()),
            (None, Some(binding)) => binding,
            (None, None) => return Err(usage("which namespace? Give --namespace-id ID or --binding NAME").into()),
        };
        let selection = common.selection();
        let bound = selection.namespaces()?;
        let Some(KvNamespace { id, .. }) = bound.iter().find(|one| one.binding == *binding) else {
            let known: Vec<&str> = bound.iter().map(|one| one.binding.as_str()).collect();
            let hint = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
            let message = format!("the configuration has no KV namespace with the binding `{binding}`");
            return Err(failed(message).hint(hint).into());
        };
        if let Some(id) = id {
            return Ok(id.clone());
        }
        let found = api.bound_namespace(&selection.worker()?, binding).await?;
        found.ok_or_else(|| {
            failed(format!("the binding `{binding}` has no `id`, and the worker's latest version has no such binding"))
                .hint("`sluice kv namespace create TITLE` makes a namespace and shows what to add")
                .into()
        })
    }
}

impl BesideArgs {
    fn read(&self) -> anyhow::Result<Beside> {
        let metadata = self.metadata.as_deref().map(serde_json::from_str::<Value>).transpose();
        let metadata = metadata.map_err(|error| usage(format!("--metadata is not JSON: {error}")))?;
        Ok(Beside { ttl: self.ttl, expiration: self.expiration, metadata })
    }
}

async fn titled(api: &Api, title: Option<&str>) -> anyhow::Result<wire_kv::KvNamespace> {
    let title = title.ok_or_else(|| usage("which namespace? Give its title, or --namespace-id ID"))?;
    let found = api.namespaces().await?.into_iter().find(|one| one.title == title);
    found.ok_or_else(|| {
        let hint = "`sluice kv namespace list` shows those there are";
        failed(format!("there is no namespace with the title `{title}`")).hint(hint).into()
    })
}

/// A title as a name of a binding: `my-notes 2` becomes `my_notes_2`.
fn binding_of(title: &str) -> String {
    let name: String = title.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn row(key: KvKey) -> [String; 3] {
    let time = key.expiration.and_then(|second| jiff::Timestamp::from_second(i64::try_from(second).ok()?).ok());
    let metadata = key.metadata.map(|value| value.to_string()).unwrap_or_default();
    [key.name, time.map(|time| time.to_string()).unwrap_or_default(), metadata]
}

/// The keys in a file: texts, or what `kv key list --json` prints.
fn names(file: &Path) -> anyhow::Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Name {
        Text(String),
        Listed { name: String },
    }
    let names: Vec<Name> = parse(file, "an array of keys")?;
    Ok(names
        .into_iter()
        .map(|name| match name {
            Name::Text(name) | Name::Listed { name } => name,
        })
        .collect())
}

fn parse<T: serde::de::DeserializeOwned>(file: &Path, shape: &str) -> anyhow::Result<T> {
    let bytes = read(file)?;
    serde_json::from_slice(&bytes).with_context(|| format!("`{}` is not {shape}", file.display()))
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file != Path::new("-") {
        return std::fs::read(file).with_context(|| format!("cannot read `{}`", file.display()));
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("cannot read stdin")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_becomes_a_name_that_can_be_bound() {
        for (title, name) in [("notes", "notes"), ("my-notes 2", "my_notes_2"), ("2nd", "_2nd"), ("é", "_")] {
            assert_eq!(binding_of(title), name);
            assert!(name.parse::<crate::domain::id::BindingName>().is_ok());
        }
    }

    #[test]
    fn a_list_of_keys_is_texts_or_what_a_list_printed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.json");
        std::fs::write(&file, r#"["a", {"name": "b", "expiration": 5}]"#).unwrap();
        assert_eq!(names(&file).unwrap(), ["a", "b"]);
    }
}
