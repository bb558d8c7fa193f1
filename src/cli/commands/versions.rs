//! `versions list`, `view` and `delete`, and how a version that was typed becomes one that the node has.

use serde_json::Value;

use crate::cli::args::{Common, ListArgs};
use crate::cli::client::{Api, Listing};
use crate::cli::names::{self, Name};
use crate::cli::render::{self, Format, ago, or_dash, percent};
use crate::control::wire::{Annotations, Binding, Version, VersionFacts};
use crate::domain::module::CodeOrigin;

use super::deploy::short;

/// `sluice versions list`: the newest that can be deployed, oldest first as in wrangler.
pub async fn list(args: &ListArgs, common: &Common) -> anyhow::Result<()> {
    let (api, worker) = (common.client()?, common.selection().worker()?);
    let mut versions = api.versions(&worker, Listing::Deployable).await?;
    versions.truncate(args.limit);
    versions.reverse();
    if args.json {
        render::json(&versions);
        return Ok(());
    }
    if versions.is_empty() {
        render::note(format_args!("The Worker {worker} has no versions."));
        return Ok(());
    }
    let active = api.deployments(&worker).await?.into_iter().next();
    let share = |id: &str| {
        let shares = active.iter().flat_map(|active| &active.versions);
        shares.filter(|share| share.version_id == id).map(|share| percent(share.percentage)).next()
    };
    let rows = versions.iter().map(|version| {
        let Annotations { tag, message, .. } = &version.annotations;
        [
            version.number.to_string(),
            version.id.clone(),
            ago(&version.metadata.created_on),
            or_dash(share(&version.id).as_deref()),
            or_dash(tag.as_deref()),
            or_dash(message.as_deref()),
        ]
    });
    render::table(["#", "Version ID", "Created", "Traffic", "Tag", "Message"], rows);
    Ok(())
}

/// `sluice versions view`.
pub async fn view(name: &str, format: Format, common: &Common) -> anyhow::Result<()> {
    let (api, worker) = (common.client()?, common.selection().worker()?);
    let id = resolve(&api, &worker, name, Listing::All).await?;
    let version = api.version(&worker, &id).await?;
    if format == Format::Json {
        render::json(&version);
        return Ok(());
    }
    for (label, value) in facts(&version) {
        render::line(format_args!("{label:<16}{value}"));
    }
    show_bindings(&version.resources.bindings);
    Ok(())
}

/// `sluice versions delete`.
pub async fn delete(name: &str, common: &Common) -> anyhow::Result<()> {
    let (api, worker) = (common.client()?, common.selection().worker()?);
    let id = resolve(&api, &worker, name, Listing::All).await?;
    api.delete_version(&worker, &id).await?;
    render::line(format_args!("Deleted version {id} of {worker}"));
    Ok(())
}

/// The id of the version that `name` means. A whole id is taken as it is.
pub async fn resolve(api: &Api, worker: &str, name: &str, listing: Listing) -> anyhow::Result<String> {
    if names::is_id(name) {
        return Ok(name.to_ascii_lowercase());
    }
    let versions = api.versions(worker, listing).await?;
    Ok(names::find(&versions, &Name::Any(name.to_owned()))?.id.clone())
}

/// `#3 dc8dcd28`, as a version is named in a sentence.
pub fn called(id: &str, number: Option<u64>) -> String {
    number.map_or_else(|| short(id).to_owned(), |number| format!("#{number} {}", short(id)))
}

fn facts(version: &Version) -> Vec<(&'static str, String)> {
    let Annotations { tag, message, alias, .. } = &version.annotations;
    let mut facts = vec![
        ("Version ID:", version.id.clone()),
        ("Number:", version.number.to_string()),
        ("Created:", format!("{} ({})", version.metadata.created_on, ago(&version.metadata.created_on))),
        ("Author:", or_dash(Some(&version.metadata.author_email))),
        ("Source:", source(&version.annotations, &version.metadata.source)),
        ("Tag:", or_dash(tag.as_deref())),
        ("Message:", or_dash(message.as_deref())),
    ];
    facts.extend(alias.clone().map(|alias| ("Alias:", alias)));
    let runtime = &version.resources.script_runtime;
    facts.extend(runtime.compatibility_date.clone().map(|date| ("Compatibility:", date)));
    if !runtime.compatibility_flags.is_empty() {
        facts.push(("Flags:", runtime.compatibility_flags.join(", ")));
    }
    facts.extend(runtime.limits.cpu_ms.map(|ms| ("CPU limit:", format!("{ms} ms"))));
    facts.extend(runtime.limits.subrequests.map(|count| ("Subrequests:", format!("{count} at most"))));
    facts.extend(version.startup_time_ms.map(|ms| ("Starts in:", format!("{ms} ms"))));
    if let Some(found) = &version.sluice {
        facts.extend(compiled(found).map(|compiled| ("Compiled in:", compiled)));
        let guest = serde_json::to_value(found.guest).ok().and_then(|guest| guest.as_str().map(str::to_owned));
        let reuse = if found.instance_reuse { "instances are reused" } else { "a fresh instance for each request" };
        facts.push(("Guest:", format!("WASI {}, {reuse}", guest.unwrap_or_default())));
        facts.push((
            "Module:",
            format!("{}, sha256 {}", render::size(found.size_bytes), short_digest(&found.module_sha256)),
        ));
        facts.push(("Memory:", format!("{} at the start", render::size(found.startup_memory_bytes))));
        facts.push(("Imports:", or_dash(Some(&found.imports.join(", ")))));
        facts.push(("Exports:", or_dash(Some(&found.exports.join(", ")))));
        facts.extend(found.urls.iter().map(|url| ("URL:", url.clone())));
    }
    facts
}

/// How long its code took, and why that may be next to nothing.
fn compiled(found: &VersionFacts) -> Option<String> {
    let remark = found.code.as_deref().and_then(CodeOrigin::from_name).and_then(CodeOrigin::remark);
    let remark = remark.map(|remark| format!(" ({remark})")).unwrap_or_default();
    Some(format!("{} ms{remark}", found.compile_time_ms?))
}

fn short_digest(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

/// Bindings with what they hold; a secret holds nothing that can be shown.
pub fn show_bindings(bindings: &[Binding]) {
    if bindings.is_empty() {
        return;
    }
    let rows = bindings.iter().map(|binding| [binding.name.clone(), binding.kind.clone(), held(binding)]);
    render::line("");
    render::table(["Binding", "Type", "Value"], rows);
}

fn held(binding: &Binding) -> String {
    match binding.kind.as_str() {
        "plain_text" => binding.rest.get("text").and_then(Value::as_str).unwrap_or_default().to_owned(),
        "json" => binding.rest.get("json").map(Value::to_string).unwrap_or_default(),
        "secret_text" => "(hidden)".to_owned(),
        _ => {
            let rest = binding.rest.iter().map(|(key, value)| match value {
                Value::String(text) => format!("{key}: {text}"),
                other => format!("{key}: {other}"),
            });
            or_dash(Some(&rest.collect::<Vec<_>>().join(", ")))
        }
    }
}

/// What made it, in wrangler's words (`VER-6`).
pub fn source(annotations: &Annotations, source: &str) -> String {
    let known = match annotations.triggered_by.as_deref() {
        Some("upload") => "Upload",
        Some("version_upload") => "Version Upload",
        Some("deployment") => "Deployment",
        Some("secret") => "Secret Change",
        Some("rollback") => "Rollback",
        Some("promotion") => "Promotion",
        Some(other) => return format!("Unknown ({other})"),
        None => match source {
            "wrangler" => "Wrangler",
            "sluice" => "Sluice",
            "api" => "API",
            "dash" => "Dashboard",
            "terraform" => "Terraform",
            other => return format!("Other ({other})"),
        },
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_triggered_a_version_wins_over_its_source() {
        let by = |triggered_by: Option<&str>| Annotations {
            triggered_by: triggered_by.map(str::to_owned),
            ..Annotations::default()
        };
        assert_eq!(source(&by(Some("secret")), "wrangler"), "Secret Change");
        assert_eq!(source(&by(Some("new")), "wrangler"), "Unknown (new)");
        assert_eq!(source(&by(None), "api"), "API");
        assert_eq!(source(&by(None), "x"), "Other (x)");
    }

    #[test]
    fn a_binding_shows_what_it_holds_but_never_a_secret() {
        let binding = |json: &str| serde_json::from_str::<Binding>(json).unwrap();
        for (json, shown) in [
            (r#"{"name":"A","type":"plain_text","text":"hello"}"#, "hello"),
            (r#"{"name":"A","type":"json","json":{"a":1}}"#, r#"{"a":1}"#),
            (r#"{"name":"A","type":"secret_text","text":"oops"}"#, "(hidden)"),
            (r#"{"name":"A","type":"service","service":"other"}"#, "service: other"),
            (r#"{"name":"A","type":"version_metadata"}"#, "-"),
        ] {
            assert_eq!(held(&binding(json)), shown);
        }
    }
}
