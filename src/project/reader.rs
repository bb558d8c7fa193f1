//! Reads one table of the file key by key: takes what fits, and writes down what does not with its path. Whatever was
//! never asked for is unknown, and [`Reader::finish`] says so.

use serde_json::{Map, Value};

use super::keys;
use super::resolve::{Findings, unknown};

/// A table, its path, and the keys that were asked for.
pub struct Reader<'a> {
    path: String,
    table: &'a Map<String, Value>,
    asked: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    /// A reader of `value`, if it is a table.
    pub fn of(value: &'a Value, path: &str, findings: &mut Findings) -> Option<Self> {
        let Value::Object(table) = value else {
            findings.faults.push(format!("`{path}` must be a table, found {}", keys::noun(value)));
            return None;
        };
        Some(Self { path: path.to_owned(), table, asked: Vec::new() })
    }

    /// The path of a key in this table.
    pub fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// The value as it stands.
    pub fn any(&mut self, key: &'static str) -> Option<&'a Value> {
        self.asked.push(key);
        self.table.get(key)
    }

    pub fn text(&mut self, key: &'static str, findings: &mut Findings) -> Option<String> {
        self.take(key, "a string", findings, |value| value.as_str().map(str::to_owned))
    }

    /// A text that must be there.
    pub fn required_text(&mut self, key: &'static str, findings: &mut Findings) -> Option<String> {
        let missing = !self.table.contains_key(key);
        if missing {
            findings.faults.push(format!("`{}` is missing", self.path(key)));
        }
        self.text(key, findings).filter(|text| {
            if text.is_empty() {
                findings.faults.push(format!("`{}` must not be empty", self.path(key)));
            }
            !text.is_empty()
        })
    }

    pub fn truth(&mut self, key: &'static str, findings: &mut Findings) -> Option<bool> {
        self.take(key, "true or false", findings, Value::as_bool)
    }

    pub fn whole(&mut self, key: &'static str, findings: &mut Findings) -> Option<u64> {
        let value = self.any(key)?;
        let whole = value.as_u64();
        if whole.is_none() {
            let found = if value.is_number() { value.to_string() } else { keys::noun(value).to_owned() };
            findings.faults.push(format!("`{}` must be a whole number of 0 or more, found {found}", self.path(key)));
        }
        whole
    }

    /// A list of texts; the path of one that is none names its place.
    pub fn texts(&mut self, key: &'static str, findings: &mut Findings) -> Vec<String> {
        let path = self.path(key);
        self.any(key).map(|value| texts(value, &path, findings)).unwrap_or_default()
    }

    fn take<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        findings: &mut Findings,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.any(key)?;
        let taken = read(value);
        if taken.is_none() {
            findings.faults.push(format!("`{}` must be {wanted}, found {}", self.path(key), keys::noun(value)));
        }
        taken
    }

    /// Warns of every key that was never asked for.
    pub fn finish(self, findings: &mut Findings) {
        for key in self.table.keys().filter(|key| !self.asked.contains(&key.as_str())) {
            findings.warnings.push(unknown(&self.path(key), key, self.asked.iter().copied()));
        }
    }
}

/// `value` as a list of texts.
pub fn texts(value: &Value, path: &str, findings: &mut Findings) -> Vec<String> {
    let Value::Array(items) = value else {
        findings.faults.push(format!("`{path}` must be an array, found {}", keys::noun(value)));
        return Vec::new();
    };
    let mut list = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match item.as_str() {
            Some(text) => list.push(text.to_owned()),
            None => findings.faults.push(format!("`{path}[{index}]` must be a string, found {}", keys::noun(item))),
        }
    }
    list
}
