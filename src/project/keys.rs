//! The one table of configuration keys: every key that wrangler knows (SEMANTICS A23) and our own `sluice`, with where it
//! may stand, what shape it has, and what we do with it. Reading, environment inheritance and the messages about keys
//! follow from this table alone.

use serde_json::Value;

/// One key of the configuration file.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub reach: Reach,
    pub shape: Shape,
    pub treatment: Treatment,
}

/// How a key at the top of the file reaches `env.<name>` (`CFG-2`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Applies to every environment that does not set it.
    Inherited,
    /// Must be repeated in each environment.
    Repeated,
    /// Has no meaning inside an environment.
    TopLevel,
}

/// What a value must look like before it is read more closely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Text,
    Bool,
    Table,
    List,
    /// Several shapes, or none that matters here.
    Any,
}

/// What we do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    Honoured,
    /// Accepted, and said to be without effect: the worker answers as it would without it.
    Noted,
    /// Would change what the worker does, and we do not offer it. The text ends the sentence that says so.
    Refused(&'static str),
}

use Reach::{Inherited, Repeated, TopLevel};
use Shape::{Any, Bool, List, Table, Text};
use Treatment::{Honoured, Noted, Refused};

const EXPORTS: Treatment = Refused("make, rename and delete classes of Durable Objects by `migrations` instead");
const QUEUES: Treatment = Refused("queues come with a later release of Sluice");
const ASSETS: Treatment = Refused("static assets come with a later release of Sluice");
const CRONS: Treatment = Refused("cron triggers come with a later release of Sluice");
const CLOUD: Treatment = Refused("Sluice has no such binding");
const FORMAT: Treatment = Refused("it belongs to the service-worker format; name the module by `main` instead");

/// Every known key.
pub const KEYS: &[Key] = &[
    key("name", Inherited, Text, Honoured),
    key("account_id", Inherited, Text, Honoured),
    key("main", Inherited, Text, Honoured),
    key("compatibility_date", Inherited, Text, Honoured),
    key("compatibility_flags", Inherited, List, Honoured),
    key("workers_dev", Inherited, Bool, Honoured),
    key("preview_urls", Inherited, Bool, Honoured),
    key("route", Inherited, Any, Honoured),
    key("routes", Inherited, List, Honoured),
    key("limits", Inherited, Table, Honoured),
    key("build", Inherited, Table, Honoured),
    key("sluice", Inherited, Table, Honoured),
    key("triggers", Inherited, Table, CRONS),
    key("migrations", Inherited, List, Honoured),
    key("exports", Inherited, Table, EXPORTS),
    key("assets", Inherited, Any, ASSETS),
    key("placement", Inherited, Table, Noted),
    key("observability", Inherited, Table, Noted),
    key("cache", Inherited, Table, Noted),
    key("logpush", Inherited, Bool, Noted),
    key("upload_source_maps", Inherited, Bool, Noted),
    key("no_bundle", Inherited, Bool, Noted),
    key("minify", Inherited, Bool, Noted),
    key("keep_names", Inherited, Bool, Noted),
    key("preserve_file_names", Inherited, Bool, Noted),
    key("find_additional_modules", Inherited, Bool, Noted),
    key("first_party_worker", Inherited, Bool, Noted),
    key("base_dir", Inherited, Text, Noted),
    key("tsconfig", Inherited, Text, Noted),
    key("jsx_factory", Inherited, Text, Noted),
    key("jsx_fragment", Inherited, Text, Noted),
    key("compliance_region", Inherited, Text, Noted),
    key("rules", Inherited, List, Noted),
    key("logfwdr", Inherited, Table, Noted),
    key("python_modules", Inherited, Any, Noted),
    key("access", Inherited, Any, Noted),
    key("previews", Inherited, Any, Noted),
    key("vars", Repeated, Table, Honoured),
    key("secrets", Repeated, Table, Honoured),
    key("services", Repeated, List, Honoured),
    key("version_metadata", Repeated, Table, Honoured),
    key("unsafe", Repeated, Table, Honoured),
    key("define", Repeated, Table, Noted),
    key("tail_consumers", Repeated, List, Noted),
    key("streaming_tail_consumers", Repeated, List, Noted),
    key("durable_objects", Repeated, Table, Honoured),
    key("kv_namespaces", Repeated, List, Honoured),
    key("queues", Repeated, Table, QUEUES),
    key("r2_buckets", Repeated, List, CLOUD),
    key("d1_databases", Repeated, List, CLOUD),
    key("ratelimits", Repeated, List, CLOUD),
    key("analytics_engine_datasets", Repeated, List, CLOUD),
    key("send_email", Repeated, List, CLOUD),
    key("hyperdrive", Repeated, List, CLOUD),
    key("vectorize", Repeated, List, CLOUD),
    key("workflows", Repeated, List, CLOUD),
    key("pipelines", Repeated, List, CLOUD),
    key("mtls_certificates", Repeated, List, CLOUD),
    key("dispatch_namespaces", Repeated, List, CLOUD),
    key("secrets_store_secrets", Repeated, List, CLOUD),
    key("worker_loaders", Repeated, List, CLOUD),
    key("vpc_services", Repeated, List, CLOUD),
    key("vpc_networks", Repeated, List, CLOUD),
    key("containers", Repeated, List, CLOUD),
    key("artifacts", Repeated, List, CLOUD),
    key("flagship", Repeated, List, CLOUD),
    key("agent_memory", Repeated, List, CLOUD),
    key("ai_search", Repeated, List, CLOUD),
    key("ai_search_namespaces", Repeated, List, CLOUD),
    key("websearch", Repeated, Any, CLOUD),
    key("connect", Repeated, Any, CLOUD),
    key("ai", Repeated, Table, CLOUD),
    key("browser", Repeated, Table, CLOUD),
    key("images", Repeated, Table, CLOUD),
    key("media", Repeated, Table, CLOUD),
    key("stream", Repeated, Table, CLOUD),
    key("cloudchamber", Repeated, Table, CLOUD),
    key("$schema", TopLevel, Any, Honoured),
    key("env", TopLevel, Table, Honoured),
    key("dev", TopLevel, Table, Honoured),
    key("keep_vars", TopLevel, Bool, Honoured),
    key("send_metrics", TopLevel, Bool, Noted),
    key("alias", TopLevel, Table, Noted),
    key("dependencies_instrumentation", TopLevel, Any, Noted),
    key("pages_build_output_dir", TopLevel, Text, Refused("Sluice hosts Workers, not Pages")),
    key("addresses", TopLevel, Any, CLOUD),
    key("site", TopLevel, Table, ASSETS),
    key("wasm_modules", TopLevel, Table, FORMAT),
    key("text_blobs", TopLevel, Table, FORMAT),
    key("data_blobs", TopLevel, Table, FORMAT),
];

const fn key(name: &'static str, reach: Reach, shape: Shape, treatment: Treatment) -> Key {
    Key { name, reach, shape, treatment }
}

/// The entry of `name`.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The known name that `typed` was most likely meant to be.
pub fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Jaro-Winkler favours common beginnings, which is how keys are mistyped; 0.8 still takes `compatability_date`.
    const SIMILARITY_MIN: f64 = 0.8;
    known
        .map(|name| (strsim::jaro_winkler(typed, name), name))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

impl Shape {
    /// Whether `value` has this shape.
    pub fn fits(self, value: &Value) -> bool {
        match self {
            Text => value.is_string(),
            Bool => value.is_boolean(),
            Table => value.is_object(),
            List => value.is_array(),
            Any => true,
        }
    }

    /// As messages say it: "must be …".
    pub fn noun(self) -> &'static str {
        match self {
            Text => "a string",
            Bool => "true or false",
            Table => "a table",
            List => "an array",
            Any => "a value",
        }
    }
}

/// What `value` is, as messages say it: "found …".
pub fn noun(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "a table",
    }
}

/// Whether a value asks for nothing (`crons = []`, `{}`, `false`), so that refusing it would be pedantic.
pub fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(asks_for_nothing),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_stands_twice_in_the_table() {
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_mistyped_key_finds_its_neighbour() {
        let known = || KEYS.iter().map(|key| key.name);
        for (typed, meant) in [("compatability_date", "compatibility_date"), ("var", "vars"), ("service", "services")] {
            assert_eq!(nearest(typed, known()), Some(meant));
        }
        assert_eq!(nearest("zzz", known()), None);
    }
}
