//! How the command line fails: what it says, where, and the code that it ends with. Nothing of it has an effect.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::harness::cli::{CONFIG, filtered, stage};
use crate::harness::{Folder, Node, Ran, Upload, example};

#[test]
fn what_the_node_refuses_is_said_in_its_words() {
    let (node, folder, _filters) = (Node::start(), Folder::project(CONFIG), filtered());
    let told = |line: &str| node.run(&folder, line).told(&folder);
    folder.write("worker.wasm", "no module at all");
    assert_snapshot!(told("deploy"), @r"
    exit 1
    stderr:
    error: this is not WebAssembly: it begins with `no modul` instead of `\0asm`; expected a component that exports `wasi:http/handler@0.3` or `wasi:http/incoming-handler@0.2`, or a core module with component-type information [code: 10021]
    ");
    folder.write("worker.wasm", std::fs::read(example("version-teller")).expect("the module"));
    folder.write("wrangler.toml", format!("limits = {{ cpu_ms = 0 }}\n{CONFIG}"));
    assert_snapshot!(told("deploy"), @"
    exit 1
    stderr:
    error: `limits.cpu_ms`: `cpu_ms` is 0, expected 1 to 30000 milliseconds [code: 10205]
    ");
    folder.write("wrangler.toml", format!("{CONFIG}\n[[unsafe.bindings]]\nname = \"Q\"\ntype = \"queue\"\n"));
    assert_snapshot!(told("deploy"), @"
    exit 1
    stderr:
    error: `bindings[2].type`: binding `Q` has the type `queue`, which is not offered here: there are no queues; call another worker by a service binding [code: 10021]
    ");
    assert_eq!(node.api("GET", "/scripts", &Value::Null), json!([]));
}

#[test]
fn shares_that_do_not_add_up_change_nothing() {
    let (node, folder, all) = stage(3);
    let _filters = filtered();
    let told = |line: &str| node.run(&folder, line).told(&folder);
    assert_snapshot!(told("versions deploy"), @"
    exit 2
    stderr:
    error: You must select at least 1 version to deploy.
    hint: `sluice versions list` shows them; `sluice versions deploy <version>@20 <version>@80` splits
    ");
    assert_snapshot!(told("versions deploy v1@20"), @"
    exit 1
    stderr:
    error: the percentages must total exactly 100%, they total 20%
    hint: leave one version without a share, and it takes the rest: `sluice versions deploy <new>@20 <old>`
    ");
    assert_snapshot!(told("versions deploy v1@60 v2@60 v3"), @"
    exit 1
    stderr:
    error: the percentages must total exactly 100%, they total 120%
    hint: leave one version without a share, and it takes the rest: `sluice versions deploy <new>@20 <old>`
    ");
    assert_snapshot!(told("versions deploy v1@101"), @"
    exit 2
    stderr:
    error: `v1@101`: a percentage must be between 0 and 100
    ");
    assert_snapshot!(told("versions deploy @20"), @"
    exit 2
    stderr:
    error: `@20` names no version
    hint: write a version and its share: `[short]@20`
    ");
    assert_snapshot!(told("versions deploy v1@many"), @"
    exit 1
    stderr:
    error: no version is named `v1@many`
    hint: `many` after the `@` is not a percentage
    ");
    assert_snapshot!(told("versions deploy --version-tag v9@100"), @r#"
    exit 1
    stderr:
    error: No deployable version found with tag "v9".
    hint: `sluice versions list` shows versions and their tags
    "#);
    assert_snapshot!(told(&format!("versions deploy --version-id {} --percentage 1 2", all[0].id)), @"
    exit 2
    stderr:
    error: there are more --percentage than --version-id
    hint: give each --version-id its --percentage, or write `<version>@20 <version>@80`
    ");
    assert_snapshot!(told("versions deploy 11111111-1111-4111-8111-111111111111@100"), @"
    exit 1
    stderr:
    error: worker `w` has no version `[id]`; `versions list` shows those there are [code: 10210]
    ");
    let many: Vec<String> = (0..21).map(|n| format!("111111{n:02}-1111-4111-8111-111111111111")).collect();
    assert_snapshot!(told(&format!("versions deploy {}", many.join(" "))), @"
    exit 2
    stderr:
    error: Too many versions selected. You can deploy at most 20 version(s) at a time.
    ");
    // None of them left a trace.
    assert_eq!(node.run(&folder, "deployments list --json").json().as_array().map(Vec::len), Some(1));
}

#[test]
fn a_name_that_could_be_several_versions_is_refused_with_them() {
    let (node, folder, _) = stage(1);
    let _filters = filtered();
    let told = |line: &str| node.run(&folder, line).told(&folder);
    node.upload_version("w", &example("version-teller"), Upload::default().tagged("same"));
    node.upload_version("w", &example("version-teller"), Upload::default().tagged("same"));
    // A tag that reads as a number is taken for both.
    node.upload_version("w", &example("version-teller"), Upload::default().tagged("1"));
    for line in ["versions deploy same@100", "versions view same", "versions delete same", "rollback same"] {
        let ran = node.run(&folder, line).failed();
        assert!(ran.err.starts_with("error: `same` could be any of these versions:"), "{line}: {ran:?}");
        assert_eq!(ran.out, "", "{line}");
    }
    assert_snapshot!(told("versions view same"), @"
    exit 1
    stderr:
    error: `same` could be any of these versions:
      - #3 [id] (tag same)
      - #2 [id] (tag same)
    hint: use more of the id, or another of its names
    ");
    assert_snapshot!(told("versions view 1"), @"
    exit 1
    stderr:
    error: `1` could be any of these versions:
      - #4 [id] (tag 1)
      - #1 [id] (tag v1)
    hint: use more of the id, or another of its names
    ");
    assert_snapshot!(told("versions deploy --version-tag same@100"), @r#"
    exit 1
    stderr:
    error: Tag "same" matches multiple versions: [id], [id]
    hint: name the one you mean by its id or number
    "#);
    let fourth = node.run(&folder, "versions view #4").done();
    assert!(fourth.out.contains("Number:         4\n"), "{fourth:?}");
    assert_snapshot!(told("versions view abc"), @"
    exit 1
    stderr:
    error: no version is named `abc`
    hint: `sluice versions list` shows them; a version is named by its id, the beginning of one (4 digits at least), its number or its tag
    ");
}

#[test]
fn an_unknown_worker_is_named_by_every_command() {
    let (node, folder, _filters) = (Node::start(), Folder::new(), filtered());
    for line in [
        "versions list",
        "versions view 1",
        "versions deploy 1@100",
        "versions delete 1",
        "deployments list",
        "deployments status",
        "rollback",
        "rollback 1",
        "secret list",
        "secret delete K",
        "versions secret list",
        "versions secret put K",
        "explain",
        "delete",
    ] {
        let ran = node.run_with(&folder, &format!("{line} --name nope"), "value").failed();
        assert!(
            ran.err.starts_with("error: there is no worker `nope`; `deploy` makes one [code: 10007]\nhint: "),
            "{line}: {ran:#?}"
        );
        assert_eq!(ran.out, "", "{line}");
    }
    assert_snapshot!(node.run(&folder, "versions list --name nope").told(&folder), @"
    exit 1
    stderr:
    error: there is no worker `nope`; `deploy` makes one [code: 10007]
    hint: `sluice deploy` in the project's folder makes the worker; is the name right?
    ");
    assert_snapshot!(node.run(&folder, "versions list").told(&folder), @"
    exit 2
    stderr:
    error: which worker? No configuration file names one
    hint: run this in the project's folder, or give `--name my-worker`
    ");
    assert_snapshot!(node.run(&folder, "versions list --name Not/A/Name").told(&folder), @"
    exit 1
    stderr:
    error: `Not/A/Name` is not a worker name: use 1 to 63 lower-case letters, digits, `-` or `_`, not starting with `-` [code: 10016]
    ");
}

#[test]
fn without_a_node_it_says_how_to_start_or_to_name_one() {
    let (folder, _filters) = (Folder::project(CONFIG), filtered());
    let told = |line: &str, environment: &[(&str, &str)]| Ran::alone(&folder, line, environment).told(&folder);
    assert_snapshot!(told("deploy", &[]), @"
    exit 1
    stderr:
    error: no node runs on the data folder `.sluice`
    hint: start one with `sluice serve --data-dir .sluice`, or name a running one with --data-dir or SLUICE_API
    ");
    assert_snapshot!(told("versions list --data-dir elsewhere", &[]), @"
    exit 1
    stderr:
    error: no node runs on the data folder `elsewhere`
    hint: start one with `sluice serve --data-dir elsewhere`, or name a running one with --data-dir or SLUICE_API
    ");
    // Nothing listens on port 1.
    let api = ("SLUICE_API", "http://127.0.0.1:1");
    assert_snapshot!(told("versions list", &[api, ("SLUICE_API_TOKEN", "t")]), @"
    exit 1
    stderr:
    error: cannot reach the node at http://127.0.0.1:[port]: error sending request: client error (Connect): tcp connect error: Connection refused (os error 111)
    hint: is a node running there? `http://127.0.0.1:[port]` comes from SLUICE_API or --api
    ");
    assert_snapshot!(told("versions list", &[api]), @"
    exit 1
    stderr:
    error: there is no token for `http://127.0.0.1:[port]`
    hint: set SLUICE_API_TOKEN to what stands in the file `token` of that node's data folder
    ");
    assert_snapshot!(told("versions list --api 127.0.0.1:1", &[]), @"
    exit 2
    stderr:
    error: `127.0.0.1:[port]` is not an origin; SLUICE_API looks like http://127.0.0.1:[port]
    ");

    let mut node = Node::start();
    let data = node.dir().display().to_string();
    let by_folder = |line: &str, environment: &[(&str, &str)]| {
        Ran::alone(&folder, &format!("{line} --data-dir {data}"), environment).told(&folder).replace(&data, "[data]")
    };
    Ran::alone(&folder, &format!("deploy --data-dir {data}"), &[]).done();
    assert_snapshot!(by_folder("versions list", &[("SLUICE_API_TOKEN", "wrong")]), @"
    exit 1
    stderr:
    error: Authentication error: send `Authorization: Bearer <token>` with the token in `<data-dir>/token` of the node (CLOUDFLARE_API_TOKEN for wrangler, SLUICE_API_TOKEN for sluice) [code: 10000]
    hint: the token is not this node's: set SLUICE_API_TOKEN to what stands in its data folder's file `token`
    ");
    let data_listener = format!("http://{}", node.data);
    assert_snapshot!(by_folder("versions list", &[("SLUICE_API", &data_listener)]), @"
    exit 1
    stderr:
    error: `GET /client/v4/accounts/local/workers/scripts/w/versions` was answered with status 404 and no JSON
    hint: is `http://127.0.0.1:[port]/` the control API of a Sluice node?
    ");
    node.kill();
    assert_snapshot!(by_folder("versions list", &[]), @"
    exit 1
    stderr:
    error: cannot reach the node at http://127.0.0.1:[port]: error sending request: client error (Connect): tcp connect error: Connection refused (os error 111)
    hint: start one with `sluice serve --data-dir [data]`, or name a running one with --data-dir or SLUICE_API
    ");
}

#[test]
fn wrong_words_end_with_code_2() {
    let (folder, _filters) = (Folder::new(), filtered());
    for line in [
        "",
        "nonsense",
        "deploy --nonsense",
        "versions",
        "versions nonsense",
        "versions view",
        "versions deploy --percentage x",
        "secret",
        "secret put",
        "rollback a b",
        "init",
        "init x --wasi 0.1",
        "serve --listen x",
        "serve --drain soon",
        "serve --outbound ???",
        "serve --overrides maybe",
        "serve --guest-memory much",
        "serve --artifact-cache much",
        "serve --guard-pages sometimes",
        "demo --requests 0",
        "completions nosh",
        "explain --name w --header nothing",
        "init Not/My_Shop",
        "deployments list --limit x",
    ] {
        let ran = Ran::alone(&folder, line, &[]);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{line}: {ran:#?}");
        assert!(
            ran.err.starts_with("error: ") || line.split(' ').count() == 1 || line == "versions",
            "{line}: {}",
            ran.err
        );
        assert!(!folder.at(".sluice").exists(), "{line}");
    }
    let told = |line: &str| Ran::alone(&folder, line, &[]).told(&folder);
    assert_snapshot!(told("deploi"), @"
    exit 2
    stderr:
    error: unrecognized subcommand 'deploi'

      tip: some similar subcommands exist: 'explain', 'demo', 'deployments', 'deploy'

    Usage: sluice [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    assert_snapshot!(told("deploy --keep-var"), @"
    exit 2
    stderr:
    error: unexpected argument '--keep-var' found

      tip: a similar argument exists: '--keep-vars'

    Usage: sluice deploy --keep-vars [MAIN]

    For more information, try '--help'.
    ");
    assert_snapshot!(told("init x --wasi 0.1"), @"
    exit 2
    stderr:
    error: invalid value '0.1' for '--wasi <WASI>'
      [possible values: 0.2, 0.3]

      tip: a similar value exists: '0.3'

    For more information, try '--help'.
    ");
    assert_snapshot!(told("serve --drain soon"), @"
    exit 2
    stderr:
    error: --drain soon: expected a time such as 30s
    ");
    assert_snapshot!(told("init My_Shop!"), @"
    exit 2
    stderr:
    error: the folder's name becomes the worker's: `My_Shop!` is not a worker name: use 1 to 63 lower-case letters, digits, `-` or `_`, not starting with `-`
    hint: choose a folder such as `my-worker`
    ");
}

#[test]
fn versions_and_workers_are_deleted_unless_something_stands_in_the_way() {
    let (node, folder, _) = stage(3);
    let _filters = filtered();
    let told = |line: &str| node.run(&folder, line).told(&folder);
    assert_snapshot!(told("versions delete v1"), @"
    exit 1
    stderr:
    error: the active deployment, and the versions in it, cannot be deleted; deploy something else first [code: 10338]
    hint: deploy another version first: `sluice versions deploy <version>@100`
    ");
    assert_snapshot!(told("versions delete v3"), @"
    exit 1
    stderr:
    error: the latest version cannot be deleted; upload another first [code: 10339]
    hint: the latest version stays; upload another one first
    ");
    assert_snapshot!(told("versions delete v2 -y"), @"
    exit 0
    stdout:
    Deleted version [id] of w
    ");
    let service = json!([{ "type": "service", "name": "W", "service": "w" }]);
    node.deploy_module("caller", &example("version-teller"), Upload::bindings(service));
    assert_snapshot!(told("delete w"), @"
    exit 1
    stderr:
    error: w is bound by other workers: caller
    hint: their calls would fail; `--force` deletes it all the same
    ");
    assert_snapshot!(told("delete --dry-run"), @"
    exit 0
    stdout:
    Would delete w with all its versions and secrets
    ");
    assert_snapshot!(told("delete w --force"), @"
    exit 0
    stdout:
    Deleted w
    ");
    assert_snapshot!(told("delete w"), @"
    exit 1
    stderr:
    error: there is no worker `w`; `deploy` makes one [code: 10007]
    hint: `sluice deploy` in the project's folder makes the worker; is the name right?
    ");
    assert_eq!(node.get("w", "/").status, 404);
}
