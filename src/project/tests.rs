//! Projects from their text to the metadata that is sent.

use serde_json::{Value, json};

use super::config::Config;
use super::metadata::{self, Extras, KeepVars};
use super::resolve::Findings;
use super::syntax::{self, Language};
use crate::domain::deployment::CodeUpdate;

fn read(toml: &str, env: Option<&str>) -> (Config, Findings) {
    super::read(&syntax::parse(toml, Language::Toml).unwrap(), env)
}

/// The configuration of a text without a fault.
fn config(toml: &str, env: Option<&str>) -> Config {
    let (config, findings) = read(toml, env);
    assert!(findings.faults.is_empty(), "{findings:?}");
    config
}

fn faults(toml: &str) -> String {
    read(toml, None).1.faults.join("\n")
}

const FULL: &str = r#"
name = "shop"
main = "dist/shim.js"
compatibility_date = "2026-01-01"
compatibility_flags = ["a"]
routes = ["shop.test/*", { pattern = "www.shop.test", custom_domain = true }]
[vars]
GREETING = "hello"
COUNT = 3
[secrets]
required = ["API_KEY", "TOKEN"]
[[services]]
binding = "OTHER"
service = "other"
[[durable_objects.bindings]]
name = "ROOMS"
class_name = "Room"
[[durable_objects.bindings]]
name = "LOGS"
class_name = "Log"
script_name = "logger"
[[migrations]]
tag = "v1"
new_sqlite_classes = ["Room"]
[version_metadata]
binding = "CF_VERSION"
[limits]
cpu_ms = 50
[sluice]
instance_reuse = false
[unsafe.metadata]
runtime = { world = "x" }
compatibility_flags = ["b"]
main_module = "worker.wasm"
[[unsafe.bindings]]
name = "CUSTOM"
type = "my-binding"
foo = "bar"
"#;

#[test]
fn metadata_is_what_wrangler_would_send() {
    let config = config(FULL, None);
    let extras = Extras {
        tag: Some("v1".to_owned()),
        message: Some("first".to_owned()),
        vars: vec![("GREETING".to_owned(), "hi".to_owned())],
        secrets: vec![("TOKEN".to_owned(), "s3cret".to_owned())],
        keep_vars: KeepVars::Always,
        ..Extras::default()
    };
    let metadata = Value::Object(metadata::build(&config, &extras, "app.wasm"));
    let wanted = json!({
        "main_module": "app.wasm",
        "bindings": [
            {"name": "COUNT", "type": "json", "json": 3},
            {"name": "GREETING", "type": "plain_text", "text": "hi"},
            {"name": "TOKEN", "type": "secret_text", "text": "s3cret"},
            {"name": "API_KEY", "type": "inherit"},
            {"name": "CF_VERSION", "type": "version_metadata"},
            {"name": "OTHER", "type": "service", "service": "other"},
            {"name": "ROOMS", "type": "durable_object_namespace", "class_name": "Room"},
            {"name": "LOGS", "type": "durable_object_namespace", "class_name": "Log", "script_name": "logger"},
            {"name": "CUSTOM", "type": "my-binding", "foo": "bar"},
        ],
        "compatibility_date": "2026-01-01",
        "compatibility_flags": ["b"],
        "keep_bindings": ["plain_text", "json", "secret_text", "secret_key"],
        "limits": {"cpu_ms": 50},
        "annotations": {"workers/message": "first", "workers/tag": "v1"},
        "sluice": {"instance_reuse": false},
        "runtime": {"world": "x"},
    });
    assert_eq!(metadata, wanted);
}

#[test]
fn without_extras_only_secrets_are_kept_and_nothing_is_annotated() {
    let config = config("name = \"a\"\nmain = \"a.wasm\"", None);
    let metadata = Value::Object(metadata::build(&config, &Extras::default(), "a.wasm"));
    assert_eq!(
        metadata,
        json!({"main_module": "a.wasm", "bindings": [], "compatibility_flags": [],
            "keep_bindings": ["secret_text", "secret_key"]})
    );
}

#[test]
fn an_environment_has_its_own_bindings_and_inherits_the_migrations_unless_it_has_some() {
    let project = |env| {
        let text = r#"
            name = "w"
            [[migrations]]
            tag = "v1"
            new_sqlite_classes = ["Room"]
            [durable_objects]
            bindings = [{ name = "ROOMS", class_name = "Room" }]
            code_update_strategy = { mode = "deferred", max_delay = 30 }
            [env.plain]
            [env.own]
            migrations = [{ tag = "a" }, { tag = "b", new_classes = ["Log"] }]
            durable_objects.bindings = [{ name = "LOGS", class_name = "Log" }]
        "#;
        config(text, env)
    };
    let tags = |env| project(env).migrations.into_iter().map(|migration| migration.tag).collect::<Vec<_>>();
    assert_eq!((tags(None), tags(Some("plain"))), (vec!["v1".to_owned()], vec!["v1".to_owned()]));
    assert_eq!(tags(Some("own")), ["a", "b"], "`MIG-12`: the whole list");
    let bound = |env| project(env).objects.into_iter().map(|binding| binding.class_name).collect::<Vec<_>>();
    assert_eq!(bound(None), ["Room"]);
    assert_eq!((bound(Some("plain")), bound(Some("own"))), (vec![], vec!["Log".to_owned()]));
    let strategy = |env| project(env).code_update;
    assert_eq!(strategy(None), Some(CodeUpdate::Deferred { max_delay_s: 30 }));
    assert_eq!(strategy(Some("own")), None);
}

#[test]
fn triggers_follow_the_routes() {
    let triggers = config(FULL, None).triggers;
    assert!(!triggers.is_on_own_host());
    let routes = triggers.routes.unwrap();
    assert_eq!((routes.patterns[0].pattern.as_str(), routes.patterns.len()), ("shop.test/*", 1));
    assert_eq!(routes.domains, ["www.shop.test"]);

    let triggers = config("name = \"a\"\npreview_urls = false", None).triggers;
    assert_eq!((triggers.is_on_own_host(), triggers.preview_urls), (true, Some(false)));
    assert_eq!(triggers.routes, None);
}

#[test]
fn every_fault_of_the_file_is_told_with_its_path() {
    let text = faults(
        r#"
        name = "Shop"
        compatibility_date = "soon"
        compatibility_flags = ["a", 1]
        routes = [{ pattern = "a.test/*", custom_domain = true }, 7, { zone_name = "a.test" }]
        services = [{ binding = "A", service = "x" }, { service = 3 }]
        kv_namespaces = [{ binding = "KV" }, { id = 3, preview_id = "x" }]
        [vars]
        A = "twice"
        "1x" = ""
        [version_metadata]
        bindng = "V"
        [limits]
        cpu_ms = "fast"
        [triggers]
        crons = ["* * * * *"]
        "#,
    );
    insta::assert_snapshot!(text, @r"
    `triggers` is not supported: cron triggers come with a later release of Sluice
    `routes[0].pattern` is a custom domain, which takes a host name without `*` and without a path, found `a.test/*`
    `routes[1]` must be a string or a table, found a number
    `routes[2].pattern` is missing
    `name`: `Shop` is not a worker name: use 1 to 63 lower-case letters, digits, `-` or `_`, not starting with `-`
    `compatibility_date` must be a date such as 2026-01-01, found `soon`
    `compatibility_flags[1]` must be a string, found a number
    `kv_namespaces[1].binding` is missing
    `kv_namespaces[1].id` must be a string, found a number
    `limits.cpu_ms` must be a whole number of 0 or more, found a string
    `services[1].binding` is missing
    `services[1].service` must be a string, found a number
    `version_metadata.binding` is missing
    `vars.1x`: `1x` is not a binding name: use 1 to 128 letters, digits, `_`, `-` or `.`, starting with a letter or `_`
    `services[0].binding` and `vars.A` are both named `A`
    ");
}

#[test]
fn unknown_keys_only_warn_and_keys_without_effect_are_noted() {
    let (_, findings) = read("name = \"a\"\nservics = []\nminify = true\n[build]\ncomand = \"x\"", None);
    assert_eq!(findings.faults, [""; 0]);
    assert_eq!(
        findings.warnings,
        [
            "`servics` is not a known key; did you mean `services`?",
            "`build.comand` is not a known key; did you mean `command`?"
        ]
    );
    assert_eq!(findings.without_effect, ["minify"]);
}

#[test]
fn a_name_that_stands_twice_is_told_where_it_stands() {
    let text = faults(
        r#"
        name = "a"
        services = [{ service = "x" }, { binding = "A", service = "y" }, { binding = "B" }, { binding = "1x", service = "z" }]
        [secrets]
        required = [1, "A", "B"]
        [vars]
        A = "x"
        [[unsafe.bindings]]
        name = "A"
        type = "my-binding"
        "#,
    );
    insta::assert_snapshot!(text, @"
    `secrets.required[0]` must be a string, found a number
    `services[0].binding` is missing
    `services[2].service` is missing
    `secrets.required[1]` and `vars.A` are both named `A`
    `services[1].binding` and `vars.A` are both named `A`
    `services[2].binding` and `secrets.required[2]` are both named `B`
    `services[3].binding`: `1x` is not a binding name: use 1 to 128 letters, digits, `_`, `-` or `.`, starting with a letter or `_`
    `unsafe.bindings[0].name` and `vars.A` are both named `A`
    ");
}
