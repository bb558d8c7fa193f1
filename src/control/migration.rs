//! The `migrations` of an upload's metadata (`MIG-3`): JSON from a stranger becomes a [`Migration`], or all that is wrong with it.
//! Whether it can be applied is the domain's to say.

use serde_json::{Map, Value};

use crate::domain::config::{Fault, FaultKind};
use crate::domain::migration::{Migration, Rename, Step, Transfer};

/// What one is.
const SHAPE: &str = "`migrations` is `{\"old_tag\": tag, \"new_tag\": tag, \"steps\": [{\"new_sqlite_classes\": [name, …]}, …]}`, without `old_tag` for the first";
/// The keys of a step.
const STEP_KEYS: [&str; 5] =
    ["new_classes", "new_sqlite_classes", "renamed_classes", "deleted_classes", "transferred_classes"];

/// Reads one, with several steps, or with one that stands in it directly.
pub(super) fn read(value: Value) -> Result<Migration, Vec<Fault>> {
    let Value::Object(object) = value else {
        let what = if value.is_array() { ", and not the list of a configuration file" } else { "" };
        return Err(vec![fault("migrations", format!("{SHAPE}{what}"))]);
    };
    let mut reader = Reader { faults: Vec::new() };
    let mut migration = Migration::default();
    let (mut alone, mut new_tag, mut steps) = (Map::new(), None, None);
    for (key, value) in object {
        match key.as_str() {
            _ if value.is_null() => {}
            "old_tag" => migration.old_tag = reader.text("migrations.old_tag", value).filter(|tag| !tag.is_empty()),
            "new_tag" | "tag" => new_tag = reader.text("migrations.new_tag", value),
            "steps" => steps = Some(value),
            key if STEP_KEYS.contains(&key) => drop(alone.insert(key.to_owned(), value)),
            unknown => reader.unknown("migrations", unknown),
        }
    }
    match (steps, alone.is_empty()) {
        (None, _) => migration.steps.push(reader.step("migrations", alone)),
        (Some(Value::Array(steps)), true) => {
            for (index, step) in steps.into_iter().enumerate() {
                let path = format!("migrations.steps[{index}]");
                match step {
                    Value::Object(step) => migration.steps.push(reader.step(&path, step)),
                    _ => reader.fault(&path, "a step is an object, such as `{\"new_sqlite_classes\": [name]}`"),
                }
            }
        }
        (Some(_), true) => reader.fault("migrations.steps", "`steps` is a list"),
        (Some(_), false) => reader.fault("migrations.steps", "what a step does stands in `steps`, or without `steps`"),
    }
    match new_tag {
        Some(tag) => migration.new_tag = tag,
        None => reader.fault("migrations.new_tag", "a migration needs `new_tag`, the tag that the worker has after it"),
    }
    if reader.faults.is_empty() { Ok(migration) } else { Err(reader.faults) }
}

struct Reader {
    faults: Vec<Fault>,
}

impl Reader {
    fn step(&mut self, path: &str, object: Map<String, Value>) -> Step {
        let mut step = Step::default();
        for (key, value) in object {
            let at = format!("{path}.{key}");
            match key.as_str() {
                _ if value.is_null() => {}
                "new_classes" => step.new_classes = self.names(&at, value),
                "new_sqlite_classes" => step.new_sqlite_classes = self.names(&at, value),
                "deleted_classes" => step.deleted_classes = self.names(&at, value),
                "renamed_classes" => {
                    for (at, mut entry) in self.objects(&at, value) {
                        if let [Some(from), Some(to)] = self.texts(&at, &mut entry, ["from", "to"]) {
                            step.renamed_classes.push(Rename { from, to });
                        }
                    }
                }
                "transferred_classes" => {
                    for (at, mut entry) in self.objects(&at, value) {
                        let keys = ["from", "from_script", "to"];
                        if let [Some(from), Some(from_script), Some(to)] = self.texts(&at, &mut entry, keys) {
                            step.transferred_classes.push(Transfer { from, from_script, to });
                        }
                    }
                }
                // The tag of the list in a configuration file: the upload has one for all its steps.
                "tag" => {}
                unknown => self.unknown(path, unknown),
            }
        }
        step
    }

    fn names(&mut self, path: &str, value: Value) -> Vec<String> {
        let Value::Array(names) = value else {
            self.fault(path, "expected a list of class names");
            return Vec::new();
        };
        let names = names.into_iter().enumerate();
        names.filter_map(|(index, name)| self.text(&format!("{path}[{index}]"), name)).collect()
    }

    fn objects(&mut self, path: &str, value: Value) -> Vec<(String, Map<String, Value>)> {
        let Value::Array(entries) = value else {
            self.fault(path, "expected a list of objects");
            return Vec::new();
        };
        let mut objects = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            match entry {
                Value::Object(entry) => objects.push((path, entry)),
                _ => self.fault(&path, "expected an object"),
            }
        }
        objects
    }

    fn texts<const N: usize>(
        &mut self,
        path: &str,
        entry: &mut Map<String, Value>,
        keys: [&str; N],
    ) -> [Option<String>; N] {
        let texts = keys.map(|key| {
            let value = entry.remove(key).unwrap_or_default();
            self.text(&format!("{path}.{key}"), value)
        });
        for unknown in entry.keys() {
            self.unknown(path, unknown);
        }
        texts
    }

    fn text(&mut self, path: &str, value: Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text),
            _ => {
                self.fault(path, "expected a text");
                None
            }
        }
    }

    /// Nothing is ignored here: a key that was mistyped would be a class that is not made, or one that is not spared.
    fn unknown(&mut self, path: &str, key: &str) {
        let key: String = key.chars().take(80).collect();
        self.fault(path, &format!("the key `{key}` is unknown; a step has {}", STEP_KEYS.join(", ")));
    }

    fn fault(&mut self, path: &str, message: &str) {
        self.faults.push(fault(path, message.to_owned()));
    }
}

fn fault(path: &str, message: String) -> Fault {
    Fault { kind: FaultKind::Migration, path: path.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn places(value: Value) -> Vec<String> {
        read(value).unwrap_err().into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn what_wrangler_sends_becomes_a_migration() {
        let step = |name: &str| Step { new_sqlite_classes: vec![name.to_owned()], ..Step::default() };
        let first = read(json!({ "new_tag": "v1", "steps": [{ "new_sqlite_classes": ["Counter"] }] })).unwrap();
        assert_eq!(first, Migration { old_tag: None, new_tag: "v1".into(), steps: vec![step("Counter")] });
        let next = read(json!({ "old_tag": "v1", "new_tag": "v3", "steps": [
            { "renamed_classes": [{ "from": "Counter", "to": "Tally" }], "deleted_classes": ["Old"], "new_classes": null },
            { "transferred_classes": [{ "from": "A", "from_script": "other", "to": "B" }], "new_classes": ["Log"] }] }))
        .unwrap();
        assert_eq!((next.old_tag.as_deref(), next.steps.len()), (Some("v1"), 2));
        assert_eq!(next.steps[0].renamed_classes, [Rename { from: "Counter".into(), to: "Tally".into() }]);
        assert_eq!(next.steps[0].deleted_classes, ["Old"]);
        let transfer = Transfer { from: "A".into(), from_script: "other".into(), to: "B".into() };
        assert_eq!(
            (&next.steps[1].transferred_classes[..], &next.steps[1].new_classes[..]),
            (&[transfer][..], &["Log".to_owned()][..])
        );
    }

    #[test]
    fn one_step_may_stand_alone() {
        let migration = read(json!({ "old_tag": "", "tag": "v1", "new_sqlite_classes": ["A"] })).unwrap();
        assert_eq!((migration.old_tag, migration.new_tag.as_str(), migration.steps.len()), (None, "v1", 1));
        assert_eq!(migration.steps[0].new_sqlite_classes, ["A"]);
    }

    #[test]
    fn everything_wrong_is_found_at_once_and_nothing_is_ignored() {
        let bad = json!({ "old_tag": 1, "steps": [
            "x", { "new_classes": "A" }, { "new_clases": ["A"] }, { "deleted_classes": [1, "B"] },
            { "renamed_classes": [{ "from": "A" }, "x"] }, { "transferred_classes": [{ "from": "A", "from_script": "s", "to": "B", "if": 1 }] }] });
        assert_eq!(
            places(bad),
            [
                "migrations.old_tag",
                "migrations.steps[0]",
                "migrations.steps[1].new_classes",
                "migrations.steps[2]",
                "migrations.steps[3].deleted_classes[0]",
                "migrations.steps[4].renamed_classes[1]",
                "migrations.steps[4].renamed_classes[0].to",
                "migrations.steps[5].transferred_classes[0]",
                "migrations.new_tag",
            ]
        );
        let list = read(json!([{ "tag": "v1", "new_classes": ["A"] }])).unwrap_err();
        assert!(list[0].message.contains("not the list of a configuration file"), "{list:?}");
        assert_eq!(places(json!({ "new_tag": "v1", "steps": [], "new_classes": ["A"] })), ["migrations.steps"]);
        assert_eq!(places(json!({ "new_tag": "v1", "step": [] })), ["migrations"]);
    }
}
