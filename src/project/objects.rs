//! `[durable_objects]` and `[[migrations]]` of the file: which classes the worker binds, and what makes them (`MIG-1`, `MIG-3`).

use serde_json::{Map, Value, json};

use super::reader::Reader;
use super::resolve::{Findings, Located};
use crate::domain::deployment::CodeUpdate;

/// One of `[[durable_objects.bindings]]`.
#[derive(Debug, PartialEq, Eq)]
pub struct ObjectBinding {
    pub name: String,
    pub class_name: String,
    /// `script_name`, `environment`: sent as they are, for the node to judge.
    pub rest: Map<String, Value>,
}

/// One of `[[migrations]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    pub tag: String,
    /// What it does, without the tag: a step of what is sent.
    pub step: Map<String, Value>,
}

/// The migrations of the file that the worker has not had.
#[derive(Debug, PartialEq)]
pub struct Pending {
    /// As `metadata.migrations` has it.
    pub metadata: Value,
    /// The tag that the worker has afterwards.
    pub new_tag: String,
    /// What is odd about it.
    pub warning: Option<String>,
}

/// The migrations after the one that the worker had last (`MIG-3`); none if that is the last.
pub fn pending(worker: &str, migrations: &[Migration], deployed: Option<&str>) -> Option<Pending> {
    let last = migrations.last()?;
    let known = deployed.map(|tag| migrations.iter().position(|migration| migration.tag == tag));
    let (after, warning) = match known {
        None => (migrations, None),
        Some(Some(index)) => (&migrations[index + 1..], None),
        Some(None) => {
            let tag = deployed.unwrap_or_default();
            let warning = format!(
                "`{worker}` has the migration tag `{tag}`, which is not in the file; you may have deleted it. All migrations of the file are applied"
            );
            (migrations, Some(warning))
        }
    };
    if after.is_empty() {
        return None;
    }
    let steps: Vec<&Map<String, Value>> = after.iter().map(|migration| &migration.step).collect();
    let mut metadata = json!({ "new_tag": last.tag, "steps": steps });
    if let Some(tag) = deployed {
        metadata["old_tag"] = json!(tag);
    }
    Some(Pending { metadata, new_tag: last.tag.clone(), warning })
}

/// The bindings of `durable_objects`.
pub fn read_bindings(located: &Located, findings: &mut Findings) -> Vec<ObjectBinding> {
    let Some(mut reader) = Reader::of(&located.value, &located.path, findings) else {
        return Vec::new();
    };
    let mut bindings = Vec::new();
    for (path, item) in items(&mut reader, "bindings", findings) {
        let Some(mut reader) = Reader::of(item, &path, findings) else { continue };
        let (name, class) = (reader.required_text("name", findings), reader.required_text("class_name", findings));
        let mut rest = Map::new();
        for key in ["script_name", "environment"] {
            rest.extend(reader.text(key, findings).map(|text| (key.to_owned(), Value::String(text))));
        }
        reader.finish(findings);
        bindings.extend(name.zip(class).map(|(name, class_name)| ObjectBinding { name, class_name, rest }));
    }
    reader.any("code_update_strategy");
    reader.finish(findings);
    bindings
}

/// `durable_objects.code_update_strategy` (`DOU-3`), if the file has one.
pub fn read_code_update(located: &Located, findings: &mut Findings) -> Option<CodeUpdate> {
    let strategy = located.value.get("code_update_strategy")?;
    let mut reader = Reader::of(strategy, &format!("{}.code_update_strategy", located.path), findings)?;
    let mode = reader.required_text("mode", findings)?;
    let (mode_path, delay_path) = (reader.path("mode"), reader.path("max_delay"));
    let max_delay = reader.any("max_delay");
    reader.finish(findings);
    let update = match (mode.as_str(), max_delay) {
        ("immediate", None) => Ok(CodeUpdate::Immediate),
        ("immediate", Some(_)) => Err(format!("`{delay_path}` is for `deferred`: `immediate` does not wait")),
        ("deferred", None) => Ok(CodeUpdate::DEFERRED),
        ("deferred", Some(value)) => value
            .as_f64()
            .and_then(CodeUpdate::deferred)
            .ok_or_else(|| format!("`{delay_path}` must be a number of seconds from 0 to 86400, found {value}")),
        (other, _) => Err(format!("`{mode_path}` must be `immediate` or `deferred`, found `{other}`")),
    };
    update.map_err(|fault| findings.faults.push(fault)).ok()
}

/// `[[migrations]]`. What is not known in one is a fault and no warning: it would be a class that is not made, or not spared.
pub fn read_migrations(located: &Located, findings: &mut Findings) -> Vec<Migration> {
    let mut migrations: Vec<Migration> = Vec::new();
    for (index, item) in located.value.as_array().into_iter().flatten().enumerate() {
        let path = format!("{}[{index}]", located.path);
        let Some(mut reader) = Reader::of(item, &path, findings) else { continue };
        let tag = reader.required_text("tag", findings);
        for key in ["new_classes", "new_sqlite_classes", "deleted_classes"] {
            reader.texts(key, findings);
        }
        read_pairs(&mut reader, "renamed_classes", &["from", "to"], findings);
        read_pairs(&mut reader, "transferred_classes", &["from", "from_script", "to"], findings);
        finish(reader, findings);
        let Some(tag) = tag else { continue };
        if migrations.iter().any(|other| other.tag == tag) {
            findings.faults.push(format!("`{path}.tag`: another migration has the tag `{tag}`; tags are unique"));
        }
        let mut step = item.as_object().cloned().unwrap_or_default();
        step.remove("tag");
        migrations.push(Migration { tag, step });
    }
    migrations
}

fn read_pairs(reader: &mut Reader<'_>, key: &'static str, texts: &[&'static str], findings: &mut Findings) {
    for (path, item) in items(reader, key, findings) {
        let Some(mut reader) = Reader::of(item, &path, findings) else { continue };
        for text in texts {
            reader.required_text(text, findings);
        }
        finish(reader, findings);
    }
}

fn finish(reader: Reader<'_>, findings: &mut Findings) {
    let before = findings.warnings.len();
    reader.finish(findings);
    let unknown = findings.warnings.split_off(before);
    findings.faults.extend(unknown);
}

/// The entries of a list, each with its path.
fn items<'a>(reader: &mut Reader<'a>, key: &'static str, findings: &mut Findings) -> Vec<(String, &'a Value)> {
    let path = reader.path(key);
    match reader.any(key) {
        None => Vec::new(),
        Some(Value::Array(items)) => {
            items.iter().enumerate().map(|(index, item)| (format!("{path}[{index}]"), item)).collect()
        }
        Some(other) => {
            findings.faults.push(format!("`{path}` must be an array, found {}", super::keys::noun(other)));
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(path: &str, value: Value) -> Located {
        Located { path: path.to_owned(), value }
    }

    fn migrations(value: Value) -> Result<Vec<Migration>, Vec<String>> {
        let mut findings = Findings::default();
        let migrations = read_migrations(&located("migrations", value), &mut findings);
        assert!(findings.warnings.is_empty());
        if findings.faults.is_empty() { Ok(migrations) } else { Err(findings.faults) }
    }

    #[test]
    fn only_what_comes_after_the_workers_tag_is_pending() {
        let file = migrations(json!([
            { "tag": "v1", "new_sqlite_classes": ["A"] },
            { "tag": "v2", "renamed_classes": [{ "from": "A", "to": "B" }] },
            { "tag": "v3", "deleted_classes": ["B"] },
        ]))
        .unwrap();
        let metadata = |deployed| pending("w", &file, deployed).map(|pending| pending.metadata);
        let steps = json!([{ "new_sqlite_classes": ["A"] }, { "renamed_classes": [{ "from": "A", "to": "B" }] }, { "deleted_classes": ["B"] }]);
        assert_eq!(metadata(None), Some(json!({ "new_tag": "v3", "steps": steps })));
        assert_eq!(
            metadata(Some("v2")),
            Some(json!({ "old_tag": "v2", "new_tag": "v3", "steps": [{ "deleted_classes": ["B"] }] }))
        );
        assert_eq!(metadata(Some("v3")), None);
        let unknown = pending("w", &file, Some("v0")).unwrap();
        assert_eq!(unknown.metadata, json!({ "old_tag": "v0", "new_tag": "v3", "steps": steps }));
        assert!(unknown.warning.unwrap().contains("the migration tag `v0`, which is not in the file"));
        assert_eq!(pending("w", &[], Some("v1")), None);
    }

    #[test]
    fn a_migration_is_refused_for_what_it_does_not_say_right() {
        let faults = migrations(json!([
            { "tag": "v1", "new_classes": "A" },
            { "tag": "v1", "new_clases": ["A"], "deleted_classes": [1] },
            { "renamed_classes": [{ "from": "A" }], "transferred_classes": {} },
            7,
        ]))
        .unwrap_err();
        assert_eq!(
            faults,
            [
                "`migrations[0].new_classes` must be an array, found a string",
                "`migrations[1].deleted_classes[0]` must be a string, found a number",
                "`migrations[1].new_clases` is not a known key; did you mean `new_classes`?",
                "`migrations[1].tag`: another migration has the tag `v1`; tags are unique",
                "`migrations[2].tag` is missing",
                "`migrations[2].renamed_classes[0].to` is missing",
                "`migrations[2].transferred_classes` must be an array, found a table",
                "`migrations[3]` must be a table, found a number",
            ]
        );
    }

    #[test]
    fn a_code_update_strategy_is_a_mode_with_perhaps_a_delay() {
        let read = |strategy: Value| {
            let mut findings = Findings::default();
            let table = located("durable_objects", json!({ "code_update_strategy": strategy }));
            let strategy = read_code_update(&table, &mut findings);
            (strategy, findings.faults.len())
        };
        assert_eq!(read(json!({ "mode": "immediate" })), (Some(CodeUpdate::Immediate), 0));
        assert_eq!(read(json!({ "mode": "deferred" })), (Some(CodeUpdate::DEFERRED), 0));
        assert_eq!(
            read(json!({ "mode": "deferred", "max_delay": 0.5 })),
            (Some(CodeUpdate::Deferred { max_delay_s: 1 }), 0)
        );
        for wrong in [
            json!("deferred"),
            json!({}),
            json!({ "mode": "later" }),
            json!({ "mode": "immediate", "max_delay": 1 }),
            json!({ "mode": "deferred", "max_delay": 86_401 }),
            json!({ "mode": "deferred", "max_delay": -1 }),
            json!({ "mode": "deferred", "max_delay": "30s" }),
        ] {
            assert_eq!(read(wrong.clone()), (None, 1), "{wrong}");
        }
    }
}
