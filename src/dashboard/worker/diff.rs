//! What is different between two versions: configuration, bindings, the module and what it imports and exports. Pure. Of a secret it
//! says that its value changed, never what it is.

use std::collections::BTreeSet;

use maud::{Markup, html};

use crate::dashboard::{figures, parts};
use crate::domain::config::{BindingValue, Config, Isolation};
use crate::domain::id::BindingName;
use crate::domain::module::ModuleFacts;
use crate::domain::version::Version;

/// One thing that is not the same. A side that has no such thing is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub what: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// Changes of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub title: &'static str,
    pub changes: Vec<Change>,
}

/// All that differs, by kind; kinds without a change are left out.
#[must_use]
pub fn of(before: &Version, after: &Version) -> Vec<Group> {
    between((&before.config, &before.module), (&after.config, &after.module))
}

/// The same of what may become a version.
#[must_use]
pub fn between(before: (&Config, &ModuleFacts), after: (&Config, &ModuleFacts)) -> Vec<Group> {
    let ((config, module), (new_config, new_module)) = (before, after);
    let groups = [
        Group { title: "Configuration", changes: settings_changed(config, new_config) },
        Group { title: "Bindings", changes: bindings_changed(config, new_config) },
        Group { title: "Module", changes: module_changed(module, new_module) },
        Group { title: "Imports", changes: names_changed("", &module.imports, &new_module.imports) },
        Group { title: "Exports", changes: names_changed("", &module.exports, &new_module.exports) },
    ];
    groups.into_iter().filter(|group| !group.changes.is_empty()).collect()
}

/// The settings of a version that are no bindings, each with its name; none where nothing was said.
#[must_use]
pub fn settings(config: &Config) -> Vec<(&'static str, Option<String>)> {
    let flags = Some(config.compatibility_flags.join(", ")).filter(|flags| !flags.is_empty());
    let instances = match config.isolation {
        Isolation::ByGuest => "as suits the guest",
        Isolation::Fresh => "a fresh one for each request",
        Isolation::Reuse => "used again",
    };
    vec![
        ("Compatibility date", config.compatibility_date.clone()),
        ("Compatibility flags", flags),
        ("CPU time", Some(figures::duration(Some(config.limits.cpu)))),
        ("Subrequests", Some(figures::count(config.limits.subrequests.into()))),
        ("Instances", Some(instances.to_owned())),
    ]
}

/// A binding in words: its type and what it gives.
#[must_use]
pub fn binding(value: &BindingValue) -> (&'static str, String) {
    match value {
        BindingValue::Text(text) => ("text", text.clone()),
        BindingValue::Json(json) => ("JSON", json.clone()),
        BindingValue::Secret(_) => ("secret", "not shown".to_owned()),
        BindingValue::VersionMetadata => ("version metadata", "its own id, tag and time".to_owned()),
        BindingValue::Service { worker } => ("service", worker.to_string()),
        BindingValue::KvNamespace { namespace } => ("KV namespace", namespace.to_string()),
        BindingValue::DurableObject { class, worker: None } => ("Durable Objects", class.to_string()),
        BindingValue::DurableObject { class, worker: Some(worker) } => {
            ("Durable Objects", format!("{class} of {worker}"))
        }
    }
}

fn settings_changed(before: &Config, after: &Config) -> Vec<Change> {
    let pairs = settings(before).into_iter().zip(settings(after));
    pairs.filter_map(|((what, before), (_, after))| change(what, before, after)).collect()
}

fn bindings_changed(before: &Config, after: &Config) -> Vec<Change> {
    let names: BTreeSet<_> = before.bindings.iter().chain(&after.bindings).map(|binding| &binding.name).collect();
    let value = |config: &Config, name: &BindingName| {
        config.bindings.iter().find(|binding| binding.name == *name).map(|binding| binding.value.clone())
    };
    let told = |value: &BindingValue| {
        let (kind, text) = binding(value);
        format!("{kind}: {text}")
    };
    let changed = names.into_iter().filter_map(|name| match (value(before, name), value(after, name)) {
        (before, after) if before == after => None,
        // Both would read alike.
        (Some(BindingValue::Secret(_)), Some(BindingValue::Secret(_))) => Some(Change {
            what: name.to_string(),
            before: Some("secret".into()),
            after: Some("secret, another value".into()),
        }),
        (before, after) => {
            Some(Change { what: name.to_string(), before: before.as_ref().map(told), after: after.as_ref().map(told) })
        }
    });
    changed.collect()
}

fn module_changed(before: &ModuleFacts, after: &ModuleFacts) -> Vec<Change> {
    let facts = |module: &ModuleFacts| {
        [
            ("SHA-256", module.digest.to_string()),
            ("Size", format!("{} ({} bytes)", figures::size(module.size_bytes), figures::count(module.size_bytes))),
            ("WASI", module.kind.wasi().to_owned()),
        ]
    };
    let pairs = facts(before).into_iter().zip(facts(after));
    pairs.filter_map(|((what, before), (_, after))| change(what, Some(before), Some(after))).collect()
}

/// What of a list of names came and went; `what` they are.
#[must_use]
pub fn names_changed(what: &str, before: &[String], after: &[String]) -> Vec<Change> {
    let all: BTreeSet<&String> = before.iter().chain(after).collect();
    let side = |names: &[String], name: &String| names.contains(name).then(|| name.clone());
    all.into_iter().filter_map(|name| change(what, side(before, name), side(after, name))).collect()
}

/// One thing, if it is not the same.
#[must_use]
pub fn change(what: &str, before: Option<String>, after: Option<String>) -> Option<Change> {
    (before != after).then(|| Change { what: what.to_owned(), before, after })
}

/// The changes as a table.
#[must_use]
pub fn table(groups: &[Group]) -> Markup {
    html! {
        @if groups.is_empty() { p { "They are the same but for their notes." } }
        @for group in groups {
            h3 { (group.title) }
            ul.changes {
                @for change in &group.changes {
                    li {
                        @if !change.what.is_empty() { span.what { (change.what) } }
                        @if let Some(before) = &change.before { (side("removed", "−", "before", before)) }
                        @if let Some(after) = &change.after { (side("added", "+", "after", after)) }
                    }
                }
            }
        }
    }
}

/// A sign as well as a colour, and a word for who sees neither.
fn side(class: &str, sign: &str, word: &str, text: &str) -> Markup {
    html! {
        div class=(class) {
            span aria-hidden="true" { (sign) } span.unseen { (word) ": " }
            code { (parts::text_or_none(Some(text))) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::config::{Binding, RequestLimits, SecretText};
    use crate::domain::module::{GuestKind, ModuleDigest};

    fn config(bindings: &[(&str, BindingValue)]) -> Config {
        let bindings = bindings
            .iter()
            .map(|(name, value)| Binding { name: name.parse().unwrap(), value: value.clone() })
            .collect();
        let limits = RequestLimits { cpu: Duration::from_millis(50), subrequests: 1000 };
        let (date, flags) = (Some("2026-01-01".to_owned()), Vec::new());
        Config { bindings, compatibility_date: date, compatibility_flags: flags, limits, isolation: Isolation::ByGuest }
    }

    fn text(text: &str) -> BindingValue {
        BindingValue::Text(text.to_owned())
    }

    fn secret(text: &str) -> BindingValue {
        BindingValue::Secret(SecretText::new(text.to_owned()))
    }

    fn told(changes: &[Change]) -> Vec<(&str, Option<&str>, Option<&str>)> {
        changes.iter().map(|c| (c.what.as_str(), c.before.as_deref(), c.after.as_deref())).collect()
    }

    #[test]
    fn bindings_are_compared_by_name() {
        let before =
            config(&[("A", text("1")), ("B", text("same")), ("KEY", secret("s3cret-one")), ("GONE", secret("x"))]);
        let after = config(&[("KEY", secret("s3cret-two")), ("B", text("same")), ("A", text("2")), ("NEW", text("n"))]);
        let changes = bindings_changed(&before, &after);
        assert_eq!(
            told(&changes),
            [
                ("A", Some("text: 1"), Some("text: 2")),
                ("GONE", Some("secret: not shown"), None),
                ("KEY", Some("secret"), Some("secret, another value")),
                ("NEW", None, Some("text: n")),
            ]
        );
        assert!(!format!("{changes:?}").contains("s3cret"));
        assert!(bindings_changed(&before, &before).is_empty());
        // The order of bindings is no difference.
        assert!(
            bindings_changed(
                &config(&[("A", text("1")), ("B", text("2"))]),
                &config(&[("B", text("2")), ("A", text("1"))])
            )
            .is_empty()
        );
    }

    #[test]
    fn settings_are_compared_one_by_one() {
        let before = config(&[]);
        let after = Config {
            compatibility_date: None,
            compatibility_flags: vec!["a".into(), "b".into()],
            limits: RequestLimits { cpu: Duration::from_millis(50), subrequests: 7 },
            isolation: Isolation::Fresh,
            ..config(&[])
        };
        assert_eq!(
            told(&settings_changed(&before, &after)),
            [
                ("Compatibility date", Some("2026-01-01"), None),
                ("Compatibility flags", None, Some("a, b")),
                ("Subrequests", Some("1,000"), Some("7")),
                ("Instances", Some("as suits the guest"), Some("a fresh one for each request")),
            ]
        );
    }

    #[test]
    fn a_module_is_compared_by_its_bytes_and_its_interfaces() {
        let module = |n: u8, size_bytes, imports: &[&str]| ModuleFacts {
            digest: ModuleDigest::from_bytes([n; 32]),
            size_bytes,
            kind: GuestKind::Wasi02,
            imports: imports.iter().map(ToString::to_string).collect(),
            exports: Vec::new(),
        };
        let (before, after) = (module(1, 2048, &["a:x", "b:y"]), module(2, 4096, &["b:y", "c:z"]));
        let changes = module_changed(&before, &after);
        assert_eq!(told(&changes[1..]), [("Size", Some("2.0 KiB (2,048 bytes)"), Some("4.0 KiB (4,096 bytes)"))]);
        assert_eq!(
            told(&names_changed("", &before.imports, &after.imports)),
            [("", Some("a:x"), None), ("", None, Some("c:z"))]
        );
    }

    #[test]
    fn what_a_developer_wrote_is_no_markup() {
        let changes = bindings_changed(&config(&[]), &config(&[("A", text("</code><script>x</script>"))]));
        let made = table(&[Group { title: "Bindings", changes }]).0;
        assert!(!made.contains("<script") && made.contains("&lt;script&gt;"), "{made}");
    }
}
