//! What leads to a worker: routes, custom domains and the two switches of its own host names. Not part of a version
//! (`NV-3`); `deploy` sends them after the deployment. How a pattern matches is the node's to know.

use serde_json::Value;

use super::keys;
use super::reader::Reader;
use super::resolve::{Findings, Located, Values};
use crate::control::wire::{Domain, DomainRecords, Route, Subdomain};

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
    pub patterns: Vec<Route>,
    pub domains: Vec<Domain>,
}

impl Triggers {
    /// The switches as the API takes them. `workers_dev` is on unless there are routes and the key is absent.
    pub fn subdomain(&self) -> Subdomain {
        let routed =
            self.routes.as_ref().is_some_and(|routes| !routes.patterns.is_empty() || !routes.domains.is_empty());
        Subdomain { enabled: self.workers_dev.unwrap_or(!routed), previews_enabled: self.preview_urls }
    }
}

impl Routes {
    /// The body of `PUT …/domains/records`.
    pub fn records(&self) -> DomainRecords {
        DomainRecords {
            override_scope: true,
            override_existing_origin: true,
            override_existing_dns_record: true,
            origins: self.domains.clone(),
        }
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
    let plain = |pattern: String| Route { pattern, zone_name: None, zone_id: None };
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
                (false, _) => routes.patterns.push(Route { pattern, zone_name, zone_id }),
                (true, true) if pattern.contains(['*', '/']) => findings.faults.push(format!(
                    "`{path}.pattern` is a custom domain, which takes a host name without `*` and without a path, \
                     found `{pattern}`"
                )),
                (true, true) => routes.domains.push(Domain { hostname: pattern }),
                (true, false) => {}
            }
        }
        other => {
            findings.faults.push(format!("`{path}` must be a string or a table, found {}", keys::noun(other)));
        }
    }
}
