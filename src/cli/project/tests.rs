//! Projects from their text to the metadata that is sent.

use serde_json::{Value, json};

use super::metadata::{self, Extras, KeepVars};
use super::{Project, Selection};

fn load(toml: &str, env: Option<&str>) -> anyhow::Result<Project> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrangler.toml");
    std::fs::write(&file, toml).unwrap();
    Project::load(&Selection { config: Some(file), env: env.map(str::to_owned), name: None })
}

/// The faults without the file's name.
fn faults(toml: &str) -> String {
    let message = load(toml, None).unwrap_err().to_string();
    message.split_once("wrangler.toml").unwrap().1.trim_start().to_owned()
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
    let project = load(FULL, None).unwrap();
    let extras = Extras {
        tag: Some("v1".to_owned()),
        message: Some("first".to_owned()),
        vars: vec![("GREETING".to_owned(), "hi".to_owned())],
        secrets: vec![("TOKEN".to_owned(), "s3cret".to_owned())],
        keep_vars: KeepVars::Always,
        ..Extras::default()
    };
    let metadata = Value::Object(metadata::build(&project.config, &extras, "app.wasm"));
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
    let project = load("name = \"a\"\nmain = \"a.wasm\"", None).unwrap();
    let metadata = Value::Object(metadata::build(&project.config, &Extras::default(), "a.wasm"));
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
        load(text, env).unwrap().config
    };
    let tags = |env| project(env).migrations.into_iter().map(|migration| migration.tag).collect::<Vec<_>>();
    assert_eq!((tags(None), tags(Some("plain"))), (vec!["v1".to_owned()], vec!["v1".to_owned()]));
    assert_eq!(tags(Some("own")), ["a", "b"], "`MIG-12`: the whole list");
    let bound = |env| project(env).objects.into_iter().map(|binding| binding.class_name).collect::<Vec<_>>();
    assert_eq!(bound(None), ["Room"]);
    assert_eq!((bound(Some("plain")), bound(Some("own"))), (vec![], vec!["Log".to_owned()]));
    let strategy = |env| serde_json::to_value(project(env).code_update).unwrap();
    assert_eq!(strategy(None), json!({"mode": "deferred", "max_delay": 30}));
    assert_eq!(strategy(Some("own")), Value::Null);
}

#[test]
fn triggers_follow_the_routes() {
    let triggers = load(FULL, None).unwrap().config.triggers;
    let routes = triggers.routes.as_ref().unwrap();
    assert_eq!(routes.patterns[0].pattern, "shop.test/*");
    assert_eq!(routes.records().origins[0].hostname, "www.shop.test");
    assert_eq!(serde_json::to_value(triggers.subdomain()).unwrap(), json!({"enabled": false}));

    let triggers = load("name = \"a\"\npreview_urls = false", None).unwrap().config.triggers;
    assert_eq!(triggers.routes, None);
    assert_eq!(
        serde_json::to_value(triggers.subdomain()).unwrap(),
        json!({"enabled": true, "previews_enabled": false})
    );
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
    has 15 faults:
      - `triggers` is not supported: cron triggers come with a later release of Sluice
      - `routes[0].pattern` is a custom domain, which takes a host name without `*` and without a path, found `a.test/*`
      - `routes[1]` must be a string or a table, found a number
      - `routes[2].pattern` is missing
      - `name`: `Shop` is not a worker name: use 1 to 63 lower-case letters, digits, `-` or `_`, not starting with `-`
      - `compatibility_date` must be a date such as 2026-01-01, found `soon`
      - `compatibility_flags[1]` must be a string, found a number
      - `kv_namespaces[1].binding` is missing
      - `kv_namespaces[1].id` must be a string, found a number
      - `limits.cpu_ms` must be a whole number of 0 or more, found a string
      - `services[1].binding` is missing
      - `services[1].service` must be a string, found a number
      - `version_metadata.binding` is missing
      - `vars.1x`: `1x` is not a binding name: use 1 to 128 letters, digits, `_`, `-` or `.`, starting with a letter or `_`
      - `services[0].binding` and `vars.A` are both named `A`
    ");
}

#[test]
fn one_fault_is_one_line_and_unknown_keys_only_warn() {
    assert_eq!(faults("name = 3"), ": `name` must be a string, found a number");
    assert!(faults("name = ").starts_with(":1:"));
    let project = load("name = \"a\"\nservics = []\nminify = true\n[build]\ncomand = \"x\"", None).unwrap();
    assert_eq!(
        project.findings.warnings,
        [
            "`servics` is not a known key; did you mean `services`?",
            "`build.comand` is not a known key; did you mean `command`?"
        ]
    );
    assert_eq!(project.findings.without_effect, ["minify"]);
}

#[test]
fn a_name_on_the_command_line_wins_and_takes_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrangler.toml");
    std::fs::write(&file, "name = \"a\"\nvars = 3\n[env.x]\n").unwrap();
    let select = |env: Option<&str>, name: Option<&str>| Selection {
        config: Some(file.clone()),
        env: env.map(str::to_owned),
        name: name.map(str::to_owned),
    };
    assert_eq!(select(None, None).worker().unwrap(), "a");
    assert_eq!(select(Some("x"), None).worker().unwrap(), "a-x");
    assert_eq!(select(Some("x"), Some("b")).worker().unwrap(), "b-x");
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
    has 8 faults:
      - `secrets.required[0]` must be a string, found a number
      - `services[0].binding` is missing
      - `services[2].service` is missing
      - `secrets.required[1]` and `vars.A` are both named `A`
      - `services[1].binding` and `vars.A` are both named `A`
      - `services[2].binding` and `secrets.required[2]` are both named `B`
      - `services[3].binding`: `1x` is not a binding name: use 1 to 128 letters, digits, `_`, `-` or `.`, starting with a letter or `_`
      - `unsafe.bindings[0].name` and `vars.A` are both named `A`
    ");
}
