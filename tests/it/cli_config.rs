//! Files of configuration as the command line reads them (`CFG-*`): which file, all faults of it at once with their places,
//! what an environment inherits, and the `[build]` command.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::harness::cli::{CONFIG, filtered};
use crate::harness::{Folder, Node, Ran, example};

/// What a dry run says about this file.
fn told(config: &str) -> String {
    let folder = Folder::project(config);
    Ran::alone(&folder, "deploy --dry-run", &[]).told(&folder)
}

/// The version that is live, as the API tells it.
fn live(node: &Node, worker: &str) -> Value {
    node.api("GET", &format!("/scripts/{worker}/versions"), &Value::Null)["items"][0].clone()
}

#[test]
fn every_fault_is_told_at_once_in_either_language() {
    let _filters = filtered();
    let toml = told(
        r#"
        name = "My Shop"
        main = ["worker.wasm"]
        compatibility_date = "soon"
        compatibility_flags = ["one", 2]
        routes = ["shop.test/*", { pattern = "*.test", custom_domain = true }, { zone_name = "x" }, 7]
        r2_buckets = [{ binding = "BUCKET", bucket_name = "b" }]
        [vars]
        SAME = "x"
        "not a name" = "x"
        [limits]
        cpu_ms = -1
        subrequests = "many"
        [[services]]
        binding = "SAME"
        [[services]]
        service = "x"
        [[services]]
        binding = "SAME"
        service = "y"
        [triggers]
        crons = ["* * * * *"]
        [durable_objects]
        bindings = [{ name = "O", class_name = 1 }]
        [[migrations]]
        new_clases = ["O"]
        [build]
        command = 3
        "#,
    );
    assert_snapshot!(toml, @"
    exit 1
    stderr:
    error: [folder]/wrangler.toml has 20 faults:
      - `main` must be a string, found an array
      - `r2_buckets` is not supported: Sluice has no such binding
      - `triggers` is not supported: cron triggers come with a later release of Sluice
      - `routes[1].pattern` is a custom domain, which takes a host name without `*` and without a path, found `*.test`
      - `routes[2].pattern` is missing
      - `routes[3]` must be a string or a table, found a number
      - `name`: `My Shop` is not a worker name: use 1 to 63 lower-case letters, digits, `-` or `_`, not starting with `-`
      - `compatibility_date` must be a date such as 2026-01-01, found `soon`
      - `build.command` must be a string, found a number
      - `compatibility_flags[1]` must be a string, found a number
      - `durable_objects.bindings[0].class_name` must be a string, found a number
      - `limits.cpu_ms` must be a whole number of 0 or more, found -1
      - `limits.subrequests` must be a whole number of 0 or more, found a string
      - `migrations[0].tag` is missing
      - `migrations[0].new_clases` is not a known key; did you mean `new_classes`?
      - `services[0].service` is missing
      - `services[1].binding` is missing
      - `vars.not a name`: `not a name` is not a binding name: use 1 to 128 letters, digits, `_`, `-` or `.`, starting with a letter or `_`
      - `services[0].binding` and `vars.SAME` are both named `SAME`
      - `services[2].binding` and `vars.SAME` are both named `SAME`
    ");
    let folder = Folder::new();
    folder.write(
        "wrangler.jsonc",
        r#"{
            // A comment, and trailing commas.
            "name": "My Shop", "main": ["worker.wasm"], "compatibility_date": "soon", "compatibility_flags": ["one", 2],
            "routes": ["shop.test/*", { "pattern": "*.test", "custom_domain": true }, { "zone_name": "x" }, 7,],
            "r2_buckets": [{ "binding": "BUCKET", "bucket_name": "b" }],
            "vars": { "SAME": "x", "not a name": "x" }, "limits": { "cpu_ms": -1, "subrequests": "many" },
            "services": [{ "binding": "SAME" }, { "service": "x" }, { "binding": "SAME", "service": "y" }], "triggers": { "crons": ["* * * * *"] },
            "durable_objects": { "bindings": [{ "name": "O", "class_name": 1 }] }, "build": { "command": 3 },
            "migrations": [{ "new_clases": ["O"] }],
        }"#,
    );
    let jsonc = Ran::alone(&folder, "deploy --dry-run", &[]).told(&folder);
    assert_eq!(jsonc, toml.replace("wrangler.toml", "wrangler.jsonc"));
}

#[test]
fn a_syntax_error_names_its_line_and_column() {
    let _filters = filtered();
    assert_snapshot!(told("name = \"w\"\nmain = worker.wasm\n"), @"
    exit 1
    stderr:
    error: [folder]/wrangler.toml:2:8: string values must be quoted, expected literal string
    ");
    assert_snapshot!(told("name = \"w\"\nname = \"v\"\n"), @"
    exit 1
    stderr:
    error: [folder]/wrangler.toml:2:1: duplicate key
    ");
    for file in ["wrangler.jsonc", "wrangler.json"] {
        let folder = Folder::new();
        folder.write(file, "{\n  \"name\": \"w\"\n  \"main\": \"x\"\n}");
        let ran = Ran::alone(&folder, "deploy", &[]).failed();
        assert!(ran.err.contains(&format!("{file}:3:3: ")) || ran.err.contains(&format!("{file}:2:")), "{ran:?}");
        folder.write(file, "[]");
        let ran = Ran::alone(&folder, "deploy", &[]).failed();
        assert!(ran.err.ends_with(&format!("{file}:1:1: expected an object\n")), "{ran:?}");
    }
    let folder = Folder::new();
    folder.write("wrangler.toml", [0xFF, 0xFE]);
    assert_snapshot!(Ran::alone(&folder, "deploy", &[]).told(&folder), @"
    exit 1
    stderr:
    error: cannot read `[folder]/wrangler.toml`: stream did not contain valid UTF-8
    ");
}

#[test]
fn a_key_is_refused_noted_or_unknown_by_name() {
    let _filters = filtered();
    // What would change nothing is noted, in one line.
    assert_snapshot!(told(&format!("minify = true\nplacement = {{ mode = \"smart\" }}\nsend_metrics = false\n{CONFIG}")), @r#"
    exit 0
    stdout:
    Worker:  w
    Module:  [folder]/worker.wasm ([size])

     Binding  Type  Value
     GREETING  plain_text  Hello
     TREE  json  {"a":[1]}
    stderr:
    note: without effect here: `minify`, `placement`, `send_metrics`
    dry run: nothing was uploaded
    "#);
    // What is mistyped is told with what it is near to, at any depth.
    assert_snapshot!(told(&format!("compatability_date = \"x\"\nzzz = 1\nbuild = {{ comand = \"x\" }}\n{CONFIG}")), @r#"
    exit 0
    stdout:
    Worker:  w
    Module:  [folder]/worker.wasm ([size])

     Binding  Type  Value
     GREETING  plain_text  Hello
     TREE  json  {"a":[1]}
    stderr:
    warning: `compatability_date` is not a known key; did you mean `compatibility_date`?
    warning: `zzz` is not a known key
    warning: `build.comand` is not a known key; did you mean `command`?
    dry run: nothing was uploaded
    "#);
    for (key, value) in [
        ("r2_buckets", "[{ binding = \"B\", bucket_name = \"b\" }]"),
        ("d1_databases", "[{ binding = \"B\", database_id = \"b\" }]"),
        ("queues", "{ producers = [{ binding = \"B\", queue = \"b\" }] }"),
        ("exports", "{ Room = { type = \"durable-object\" } }"),
        ("triggers", "{ crons = [\"* * * * *\"] }"),
        ("assets", "{ directory = \"public\" }"),
        ("ai", "{ binding = \"AI\" }"),
        ("site", "{ bucket = \"public\" }"),
    ] {
        let text = told(&format!("{key} = {value}\n{CONFIG}"));
        assert!(
            text.starts_with(&format!("exit 1\nstderr:\nerror: [folder]/wrangler.toml: `{key}` is not supported: ")),
            "{text}"
        );
        // What asks for nothing is no fault.
        let empty = if value.starts_with('[') { "[]" } else { "{}" };
        let text = told(&format!("{key} = {empty}\n{CONFIG}"));
        assert!(text.starts_with("exit 0"), "{key}: {text}");
    }
}

#[test]
fn an_environment_is_a_worker_of_its_own() {
    let (node, _filters) = (Node::start(), filtered());
    let folder = Folder::project(
        r#"
        name = "w"
        main = "worker.wasm"
        compatibility_date = "2026-01-01"
        limits = { cpu_ms = 500, subrequests = 5 }
        vars = { GREETING = "Hello", ONLY_ABOVE = "x" }
        [env.staging]
        limits = { cpu_ms = 700 }
        vars = { GREETING = "Staged" }
        keep_vars = true
        [env.live]
        name = "prod"
        [env.live.vars]
        GREETING = "Live"
        "#,
    );
    let told = |line: &str| node.run(&folder, line).told(&folder);
    assert_snapshot!(told("deploy --env staging"), @"
    exit 0
    stdout:
    Uploaded w-staging: version 1, [size], starts in [n] ms
    Deployed w-staging: 100% to version 1
      http://w-staging.localhost:[port]
    Version URL: http://[short]-w-staging.localhost:[port]
    Current Version ID: [id]
    stderr:
    warning: `env.staging.keep_vars` has no effect: `keep_vars` belongs at the top of the file
    ");
    assert_eq!(node.get("w-staging", "/env").text(), "{\"GREETING\":\"Staged\"}\n");
    // What is inherited, is inherited key by key, and replaced as a whole (`CFG-2`).
    let runtime = &live(&node, "w-staging")["resources"]["script_runtime"];
    assert_eq!(runtime["compatibility_date"], "2026-01-01");
    assert_eq!(runtime["limits"], json!({ "cpu_ms": 700 }));

    node.run(&folder, "deploy --env live").done();
    assert!(node.get("prod", "/").text().starts_with("Live"));
    assert_eq!(
        live(&node, "prod")["resources"]["script_runtime"]["limits"],
        json!({ "cpu_ms": 500, "subrequests": 5 })
    );
    node.run(&folder, "deploy --env staging --name other").done();
    assert!(node.get("other-staging", "/").text().starts_with("Staged"));
    // The empty environment is the top of the file, as in wrangler's scripts.
    assert_eq!(Ran::of(&node.cli_in(folder.path(), &["deploy", "--env", ""], b"")).done().err, "");
    assert!(node.get("w", "/").text().starts_with("Hello"));
    // Every command takes it.
    assert!(node.run(&folder, "versions list --env staging").done().out.lines().count() == 2);
    assert_snapshot!(told("rollback --env staging"), @"
    exit 1
    stderr:
    error: Could not find stable Worker Version to rollback to. Please try again with an explicit Version ID.
    hint: `sluice versions list` shows the versions
    ");
    assert_snapshot!(told("deploy --env nope"), @"
    exit 1
    stderr:
    error: [folder]/wrangler.toml: the file has no environment `nope`; it has `live`, `staging`
    ");

    let missing = Folder::project(
        "name = \"w\"\nmain = \"worker.wasm\"\n[vars]\nA = \"x\"\n[version_metadata]\nbinding = \"V\"\n[env.bare]\n",
    );
    assert_snapshot!(Ran::alone(&missing, "deploy --dry-run --env bare", &[]).told(&missing), @"
    exit 0
    stdout:
    Worker:  w-bare
    Module:  [folder]/worker.wasm ([size])
    stderr:
    warning: `vars` is set at the top of the file but not in `env.bare`, which does not inherit it; repeat it as `env.bare.vars` if it should apply there
    warning: `version_metadata` is set at the top of the file but not in `env.bare`, which does not inherit it; repeat it as `env.bare.version_metadata` if it should apply there
    dry run: nothing was uploaded
    ");
}

#[test]
fn the_build_command_makes_the_module_or_stops_the_upload() {
    let (node, folder, _filters) = (Node::start(), Folder::new(), filtered());
    let told = |line: &str| node.run(&folder, line).told(&folder);
    let config = |build: &str| format!("name = \"w\"\nmain = \"dist/worker.wasm\"\n[build]\n{build}");
    folder.write("sub/in", "");
    let module = example("version-teller");
    let command =
        format!("pwd; test -f in && mkdir -p ../dist && cp {} ../dist/worker.wasm && echo built >&2", module.display());
    folder.write("wrangler.toml", config(&format!("command = '{command}'\ncwd = 'sub'\n")));
    // What it prints goes to stderr: stdout is for what programs read.
    let ran = node.run(&folder, "deploy --json").done();
    assert_eq!(ran.json()["version"]["number"], 1);
    assert!(ran.err.ends_with("/sub\nbuilt\n"), "{ran:?}");

    folder.write("wrangler.toml", config("command = 'echo no compiler >&2; exit 3'\n"));
    assert_snapshot!(told("deploy"), @"
    exit 1
    stderr:
    no compiler
    error: the `[build]` command failed: exit status: 3
    hint: run it by hand: cd [folder] && echo no compiler >&2; exit 3
    ");
    assert_snapshot!(told("versions upload"), @"
    exit 1
    stderr:
    no compiler
    error: the `[build]` command failed: exit status: 3
    hint: run it by hand: cd [folder] && echo no compiler >&2; exit 3
    ");
    assert_snapshot!(told("deploy --dry-run"), @"
    exit 1
    stderr:
    no compiler
    error: the `[build]` command failed: exit status: 3
    hint: run it by hand: cd [folder] && echo no compiler >&2; exit 3
    ");
    assert_eq!(live(&node, "w")["number"], 1);
    // Commands that need no module do not build.
    node.run(&folder, "versions list").done();

    folder.write("wrangler.toml", config("command = 'rm dist/worker.wasm'\n"));
    assert_snapshot!(told("deploy"), @"
    exit 1
    stderr:
    error: `main`: there is no file `[folder]/dist/worker.wasm`
    hint: the `[build]` command ran, but did not make it
    ");
    folder.write("wrangler.toml", config("command = 'true'\ncwd = 'nowhere'\n"));
    assert_snapshot!(told("deploy"), @"
    exit 1
    stderr:
    error: cannot run the `[build]` command in `[folder]/nowhere`: No such file or directory (os error 2)
    ");
}

#[test]
fn the_file_is_the_nearest_or_the_one_that_is_named() {
    let _filters = filtered();
    let folder = Folder::new();
    let name = |line: &str| {
        let ran = Ran::alone(&folder, line, &[]);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.out.lines().next().unwrap_or_default().to_owned()
    };
    folder.write("worker.wasm", "");
    folder.write("wrangler.toml", "name = \"by-toml\"\nmain = \"worker.wasm\"");
    assert_eq!(name("deploy --dry-run"), "Worker:  by-toml");
    folder.write("wrangler.jsonc", "{ /* c */ \"name\": \"by-jsonc\", \"main\": \"worker.wasm\" }");
    assert_eq!(name("deploy --dry-run"), "Worker:  by-jsonc");
    folder.write("wrangler.json", "{ \"name\": \"by-json\", \"main\": \"worker.wasm\" }");
    assert_eq!(name("deploy --dry-run"), "Worker:  by-json");
    folder.write("other.toml", "name = \"by-name\"\nmain = \"worker.wasm\"");
    assert_eq!(name("deploy --dry-run --config other.toml"), "Worker:  by-name");
    // Paths are relative to the file, wherever the command is typed.
    folder.write("deep/sub/wrangler.toml", "name = \"deep\"\nmain = \"../../worker.wasm\"");
    assert_eq!(name("deploy --dry-run -c deep/sub"), "Worker:  deep");
    assert_eq!(name("deploy --dry-run -c deep/sub/wrangler.toml"), "Worker:  deep");
    let output = crate::harness::cli::command(&folder.at("deep"), "deploy --dry-run", &[]).output().expect("it starts");
    assert!(Ran::of(&output).done().out.starts_with("Worker:  by-json\n"));

    let told = |line: &str| Ran::alone(&folder, line, &[]).told(&folder);
    assert_snapshot!(told("deploy -c missing.toml"), @"
    exit 1
    stderr:
    error: there is no configuration file `missing.toml`
    ");
    assert_snapshot!(told("deploy -c deep"), @"
    exit 1
    stderr:
    error: `deep` holds no wrangler.json, wrangler.jsonc, wrangler.toml
    ");
    let empty = Folder::new();
    assert_snapshot!(Ran::alone(&empty, "deploy", &[]).told(&empty), @"
    exit 1
    stderr:
    error: there is no wrangler.toml, wrangler.json or wrangler.jsonc here or in a folder above
    hint: make a project with `sluice init my-worker`, or name its file with `--config`
    ");
}

#[test]
fn what_is_missing_for_an_upload_is_named() {
    let _filters = filtered();
    assert_snapshot!(told("main = \"worker.wasm\""), @r#"
    exit 1
    stderr:
    error: `[folder]/wrangler.toml` gives the worker no `name`
    hint: add `name = "my-worker"` to the file, or give `--name my-worker`
    "#);
    assert_snapshot!(told("name = \"w\""), @r#"
    exit 1
    stderr:
    error: the file names no `main`
    hint: set `main` to the component that your build makes, for example `main = "dist/worker.wasm"`
    "#);
    assert_snapshot!(told("name = \"w\"\nmain = \"dist/app.wasm\""), @"
    exit 1
    stderr:
    error: `main`: there is no file `[folder]/dist/app.wasm`
    hint: build it first, or let `[build] command` do so
    ");
    let folder = Folder::new();
    folder.write("wrangler.toml", "name = \"w\"\nmain = \"src/index.js\"\nno_bundle = true\n");
    folder.write("src/index.js", "export default {};");
    let told = || Ran::alone(&folder, "deploy --dry-run", &[]).told(&folder);
    assert_snapshot!(told(), @r#"
    exit 1
    stderr:
    note: without effect here: `no_bundle`
    error: `main` is `[folder]/src/index.js`, and there is no .wasm file beside it
    hint: name the component itself: `main = "dist/worker.wasm"`
    "#);
    // One module beside the shim is the program; of several, the one that the shim imports or that the file names.
    folder.write("src/app.wasm", "");
    assert!(told().contains("Module:  [folder]/src/app.wasm"), "{}", told());
    folder.write("src/other.wasm", "");
    assert_snapshot!(told(), @r#"
    exit 1
    stderr:
    note: without effect here: `no_bundle`
    error: `main` is `[folder]/src/index.js`, and beside it are `[folder]/src/app.wasm`, `[folder]/src/other.wasm`
    hint: say which one is the program: `[unsafe.metadata] main_module = "worker.wasm"`
    "#);
    folder.write("src/index.js", "import module from \"./other.wasm\";\nexport default module;");
    assert!(told().contains("Module:  [folder]/src/other.wasm"), "{}", told());
    folder.write(
        "wrangler.toml",
        "name = \"w\"\nmain = \"src/index.js\"\n[unsafe.metadata]\nmain_module = \"app.wasm\"\n",
    );
    assert!(told().contains("Module:  [folder]/src/app.wasm"), "{}", told());
}

#[test]
fn routes_and_switches_of_the_file_are_set_and_what_is_taken_is_told() {
    let (node, folder, _filters) = (Node::start(), Folder::project(CONFIG), filtered());
    let with = |lines: &str| folder.write("wrangler.toml", format!("{lines}\n{CONFIG}"));
    let routes = |worker: &str| node.api("GET", &format!("/scripts/{worker}/routes"), &Value::Null);
    with("routes = [\"shop.test/*\", { pattern = \"www.shop.test\", custom_domain = true }]");
    node.run(&folder, "deploy").done();
    assert!(node.get("shop.test", "/").text().starts_with("Hello"));
    assert!(node.get("www.shop.test", "/").text().starts_with("Hello"));
    assert_eq!(node.get("w", "/").status, 404, "a worker with routes has no host of its own unless the file says so");
    // A file that says nothing about routes leaves them; one that says that there are none removes them.
    with("workers_dev = true\npreview_urls = false");
    node.run(&folder, "deploy").done();
    assert!(node.get("shop.test", "/").text().starts_with("Hello") && node.get("w", "/").text().starts_with("Hello"));
    let version = live(&node, "w")["id"].as_str().expect("an id")[..8].to_owned();
    assert_eq!(node.get(&format!("{version}-w.localhost"), "/").status, 404);
    with("routes = []");
    node.run(&folder, "deploy").done();
    assert_eq!((node.get("shop.test", "/").status, node.get("www.shop.test", "/").status), (404, 404));
    assert_eq!(routes("w"), json!([]));

    with("route = \"taken.test/*\"");
    node.run(&folder, "deploy").done();
    with("routes = [\"free.test/*\", \"taken.test/*\"]");
    assert_snapshot!(node.run(&folder, "deploy --name late").told(&folder), @"
    exit 1
    stdout:
    Uploaded late: version 1, [size], starts in [n] ms
    Deployed late: 100% to version 1
    Current Version ID: [id]
    stderr:
    error: the version is live, but its triggers were only partially updated:
      - routes: the route `taken.test/*` is already assigned to worker `w`; remove it there first [code: 10020]
    hint: put it right and run `sluice deploy` again
    ");
    with("routes = [\"free.test/*\", \"http://[/*\"]");
    assert_snapshot!(node.run(&folder, "deploy --name late").told(&folder), @"
    exit 1
    stdout:
    Uploaded late: version 2, [size], starts in [n] ms
    Deployed late: 100% to version 2
    Current Version ID: [id]
    stderr:
    error: the version is live, but its triggers were only partially updated:
      - routes: `routes[1].pattern`: `http://[/*` is not a route: the host is no host name: labels of 1 to 63 letters, digits and `-`, divided by dots, not beginning or ending with `-` [code: 10021]
    hint: put it right and run `sluice deploy` again
    ");
    assert_eq!(routes("late"), json!([]));
    assert_eq!(live(&node, "late")["number"], 2);
}

#[test]
fn variables_are_the_files_unless_something_is_said() {
    let node = Node::start();
    let folder = Folder::project(CONFIG);
    let env = || serde_json::from_str::<Value>(&node.get("w", "/env").text()).expect("JSON");
    node.run(&folder, "deploy --var GREETING:Hi --var URL:http://x:1/?a=b").done();
    assert_eq!(env(), json!({ "TREE": "{\"a\":[1]}", "GREETING": "Hi", "URL": "http://x:1/?a=b" }));
    node.run(&folder, "deploy --keep-vars").done();
    assert_eq!(env(), json!({ "GREETING": "Hello", "TREE": "{\"a\":[1]}", "URL": "http://x:1/?a=b" }));
    folder.write("wrangler.toml", format!("keep_vars = true\n{CONFIG}"));
    node.run(&folder, "deploy").done();
    assert!(env()["URL"].is_string());
    folder.write("wrangler.toml", CONFIG);
    node.run(&folder, "deploy").done();
    assert_eq!(env(), json!({ "GREETING": "Hello", "TREE": "{\"a\":[1]}" }));
    // A date of the command line wins over the file's.
    node.run(&folder, "deploy --compatibility-date 2026-06-01").done();
    assert_eq!(live(&node, "w")["resources"]["script_runtime"]["compatibility_date"], "2026-06-01");
}
