//! What leads to a worker: routes, custom domains and the two switches of its own host names. Not part of a version
//! (`NV-3`); who deploys the file sends them after the deployment. How a pattern matches is the node's to know.

use serde_json::Value;

use super::keys;
use super::reader::Reader;
use super::resolve::{Findings, Located, Values};

/// The triggers that the file names.
#[derive(Debug, Default, PartialEq)]
pub struct Triggers {
    /// `None`: the file says nothing about routes, so those that are set stay.
    pub routes: Option<Routes>,
    pub workers_dev: Option<bool>,
    pub preview_urls: Option<bool>,
}

/// All routes and custom domains: they replace what was set before.
#[derive(Debug, Default, PartialEq)]
pub struct Routes {
    pub patterns: Vec<Pattern>,
    /// Host names of custom domains.
    pub domains: Vec<String>,
}

/// A route that is no custom domain, as the file writes it.
#[derive(Debug, PartialEq)]
pub struct Pattern {
    pub pattern: String,
    pub zone_name: Option<String>,
    pub zone_id: Option<String>,
}

impl Triggers {
    /// Whether the worker's own host name leads to it: unless there are routes and `workers_dev` is absent.
    pub fn is_on_own_host(&self) -> bool {
        let is_routed =
            self.routes.as_ref().is_some_and(|routes| !routes.patterns.is_empty() || !routes.domains.is_empty());
        self.workers_dev.unwrap_or(!is_routed)
    }
}

/// Reads `route`, `routes`, `workers_dev` and `preview_urls`.
pub fn read(values: &Values, findings: &mut Findings) -> Triggers {
    let switch = |key: &str| values.get(key).and_then(|located| located.value.as_bool());
    let mut triggers =
        Triggers { routes: None, workers_dev: switch("workers_dev"), preview_urls: switch("preview_urls") };
    if let Some(Located { path, value }) = values.get("route") {
        read_route(value, path, triggers.routes.get_or_insert_default(), findings);
    }
    if let Some(Located { path, value }) = values.get("routes") {
        let routes = triggers.routes.get_or_insert_default();
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            read_route(item, &format!("{path}[{index}]"), routes, findings);
        }
    }
    triggers
}

fn read_route(value: &Value, path: &str, routes: &mut Routes, findings: &mut Findings) {
    let plain = |pattern: String| Pattern { pattern, zone_name: None, zone_id: None };
    match value {
        Value::String(pattern) if pattern.is_empty() => findings.faults.push(format!("`{path}` must not be empty")),
        Value::String(pattern) => routes.patterns.push(plain(pattern.clone())),
        Value::Object(_) => {
            let Some(mut reader) = Reader::of(value, path, findings) else {
                return;
            };
            let pattern = reader.required_text("pattern", findings);
            let (zone_name, zone_id) = (reader.text("zone_name", findings), reader.text("zone_id", findings));
            let custom = reader.truth("custom_domain", findings).unwrap_or(false);
            let enabled = reader.truth("enabled", findings).unwrap_or(true);
            reader.truth("previews_enabled", findings);
            reader.finish(findings);
            let Some(pattern) = pattern else { return };
            match (custom, enabled) {
                (false, _) => routes.patterns.push(Pattern { pattern, zone_name, zone_id }),
                (true, true) if pattern.contains(['*', '/']) => findings.faults.push(format!(
                    "`{path}.pattern` is a custom domain, which takes a host name without `*` and without a path, \
                     found `{pattern}`"
                )),
                (true, true) => routes.domains.push(pattern),
                (true, false) => {}
            }
        }
        other => {
            findings.faults.push(format!("`{path}` must be a string or a table, found {}", keys::noun(other)));
        }
    }
}
