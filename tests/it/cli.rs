//! What the command line says as it does its work: every command, in a snapshot. How commands fail stands in `cli_faults`,
//! files of configuration in `cli_config`.

use insta::assert_snapshot;
use serde_json::json;

use crate::harness::cli::{CONFIG, filtered, stage};
use crate::harness::{Folder, Node, Ran, example};

#[test]
fn deploy_and_upload_say_what_there_is_now() {
    let (node, folder, _filters) = (Node::start(), Folder::project(CONFIG), filtered());
    let told = |line: &str| node.run(&folder, line).told(&folder);
    assert_snapshot!(told("versions upload"), @"
    exit 1
    stderr:
    error: there is no worker `w` yet, and its first upload must be deployed
    hint: run `sluice deploy`
    ");
    assert_snapshot!(told("deploy --tag v1 --message first"), @"
    exit 0
    stdout:
    Uploaded w: version 1, [size], starts in [n] ms
    Deployed w: 100% to version 1
      http://w.localhost:[port]
    Version URL: http://[short]-w.localhost:[port]
    Current Version ID: [id]
    ");
    assert_snapshot!(told("versions upload --tag v2 --preview-alias next"), @"
    exit 0
    stdout:
    Uploaded w: version 2, [size], starts in [n] ms
    Version URL: http://[short]-w.localhost:[port]
    Version Alias URL: http://next-w.localhost:[port]
    Worker Version ID: [id]
    stderr:
    hint: `sluice versions deploy [short]@100` gives it traffic
    ");
    assert_snapshot!(told("versions deploy v2@20 v1"), @"
    exit 0
    stdout:
    Deployed w: 2 versions
     Traffic  Version ID  #  Tag
     20%  [id]  2  v2
     80%  [id]  1  v1
    Deployment ID: [id]
    stderr:
    20% of the traffic moved to another version
    ");
    assert_snapshot!(told("deploy worker.wasm"), @"
    exit 0
    stdout:
    Uploaded w: version 3, [size], starts in [n] ms
    Deployed w: 100% to version 3
      http://w.localhost:[port]
    Version URL: http://[short]-w.localhost:[port]
    Current Version ID: [id]
    stderr:
    warning: your last deployment has multiple versions ([short] 20%, [short] 80%); this ends it
    hint: to progress that deployment use `sluice versions deploy` instead
    ");
    folder.write(
        "wrangler.toml",
        format!("routes = [\"shop.test/*\", {{ pattern = \"www.shop.test\", custom_domain = true }}]\n{CONFIG}"),
    );
    assert_snapshot!(told("deploy --var GREETING:Hi --var URL:http://x"), @"
    exit 0
    stdout:
    Uploaded w: version 4, [size], starts in [n] ms
    Deployed w: 100% to version 4
      shop.test/*
      www.shop.test
    Current Version ID: [id]
    ");
    assert_snapshot!(told("deploy --var novalue"), @"
    exit 2
    stderr:
    error: `--var novalue`: expected KEY:VALUE
    ");
    assert_snapshot!(told("deploy missing.wasm"), @"
    exit 1
    stderr:
    error: `main`: there is no file `[folder]/missing.wasm`
    hint: build it first, or let `[build] command` do so
    ");
}

#[test]
fn a_dry_run_shows_what_would_be_sent_and_sends_nothing() {
    let (folder, _filters) = (Folder::project(CONFIG), filtered());
    folder.write("secrets.json", r#"{"KEY":"hidden"}"#);
    // No node has to run.
    let line = "deploy --dry-run --tag v1 --secrets-file secrets.json";
    assert_snapshot!(Ran::alone(&folder, line, &[]).told(&folder), @r#"
    exit 0
    stdout:
    Worker:  w
    Module:  [folder]/worker.wasm ([size])

     Binding  Type  Value
     GREETING  plain_text  Hello
     TREE  json  {"a":[1]}
     KEY  secret_text  (hidden)
    stderr:
    dry run: nothing was uploaded
    "#);
    let json = Ran::alone(&folder, &format!("{line} --json"), &[]).done().json();
    assert_eq!((&json["worker"], &json["metadata"]["main_module"]), (&json!("w"), &json!("worker.wasm")));
    assert_eq!(json["metadata"]["bindings"][2], json!({ "name": "KEY", "type": "secret_text" }));
    assert_snapshot!(Ran::alone(&folder, "versions upload --dry-run", &[]).told(&folder), @r#"
    exit 0
    stdout:
    Worker:  w
    Module:  [folder]/worker.wasm ([size])

     Binding  Type  Value
     GREETING  plain_text  Hello
     TREE  json  {"a":[1]}
    stderr:
    dry run: nothing was uploaded
    "#);
}

#[test]
fn lists_and_views_are_tables() {
    let (node, folder, _filters) = (Node::start(), Folder::project(CONFIG), filtered());
    let told = |line: &str| node.run(&folder, line).told(&folder);
    node.run(&folder, "deploy --tag v1 --message first").done();
    node.run_with(&folder, "secret put KEY", "hidden").done();
    node.run(&folder, "versions upload --preview-alias next").done();
    node.run(&folder, "versions deploy 3@12.5% 2 --message canary").done();
    assert_snapshot!(told("versions list"), @"
    exit 0
    stdout:
     #  Version ID  Created  Traffic  Tag  Message
     1  [id]  [ago]  -  v1  first
     2  [id]  [ago]  87.5%  v1  -
     3  [id]  [ago]  12.5%  -  -
    ");
    assert_snapshot!(told("versions list --limit 1"), @"
    exit 0
    stdout:
     #  Version ID  Created  Traffic  Tag  Message
     3  [id]  [ago]  12.5%  -  -
    ");
    assert_snapshot!(told("versions view 3"), @r#"
    exit 0
    stdout:
    Version ID:  [id]
    Number:  3
    Created:  [time] ([ago])
    Author:  dev@localhost
    Source:  Version Upload
    Tag:  -
    Message:  -
    Alias:  next
    Compatibility:  2026-01-01
    Starts in:  [n] ms
    Compiled in:  [n] ms (the same module had been compiled before)
    Guest:  WASI 0.2, a fresh instance for each request
    Module:  [size], sha256 [digest]
    Memory:  [size] at the start
    Imports:  wasi:cli/environment@0.2.12, wasi:config/store@0.2.0-rc.1, sluice:worker-p2/version-metadata@0.1.0, wasi:io/error@0.2.12, wasi:io/streams@0.2.12, wasi:http/types@0.2.12
    Exports:  wasi:http/incoming-handler@0.2.12
    URL:  http://[short]-w.localhost:[port]
    URL:  http://next-w.localhost:[port]

     Binding  Type  Value
     GREETING  plain_text  Hello
     TREE  json  {"a":[1]}
     KEY  secret_text  (hidden)
    "#);
    assert_snapshot!(told("deployments list --limit 2"), @"
    exit 0
    stdout:
    Created:  [time] ([ago])
    Author:  dev@localhost
    Source:  Secret Change
    Message:  -
    Version(s):  (100%) [id]
      Created:  [time]
      Tag:  v1
      Message:  -

    Created:  [time] ([ago])
    Author:  dev@localhost
    Source:  Deployment
    Message:  canary
    Version(s):  (12.5%) [id]
      Created:  [time]
      Tag:  -
      Message:  -
      (87.5%) [id]
      Created:  [time]
      Tag:  v1
      Message:  -
    ");
    assert_snapshot!(told("deployments status"), @"
    exit 0
    stdout:
    Created:  [time] ([ago])
    Author:  dev@localhost
    Source:  Deployment
    Message:  canary
    Version(s):  (12.5%) [id]
      Created:  [time]
      Tag:  -
      Message:  -
      (87.5%) [id]
      Created:  [time]
      Tag:  v1
      Message:  -
    ");
    assert_snapshot!(told("secret list"), @"
    exit 0
    stdout:
     Secret  Type
     KEY  secret_text
    ");
    assert_snapshot!(told("versions secret list"), @"
    exit 0
    stdout:
     Secret  Type
     KEY  secret_text
    ");
    assert_snapshot!(told("explain --key user-42 --key user-43"), @"
    exit 0
    stdout:
     Key  Slot  Version  Reason  Changes at
     user-42  41563  #2 [short] key  [short] at 41.563%
     user-43  34492  #2 [short] key  [short] at 34.492%

     Version  Configured  Achieved  Keys
     #3 [short] 12.5%  0%  0
     #2 [short] 87.5%  100%  2
    ");
    assert_snapshot!(told("explain"), @"
    exit 0
    stdout:
     Key  Slot  Version  Reason  Changes at
     -  -  by the draw  random  -
    ");
    node.run_with(&folder, "secret put KEY --name draft", "hidden").done();
    assert_snapshot!(told("versions list --name draft"), @"
    exit 0
    stderr:
    The Worker draft has no versions.
    ");
    assert_snapshot!(told("deployments list --name draft"), @"
    exit 0
    stderr:
    The Worker draft has no deployments.
    ");
    assert_snapshot!(told("deployments status --name draft"), @"
    exit 1
    stderr:
    error: The Worker draft has no deployments.
    hint: `sluice versions deploy <version>@100` gives a version traffic
    ");
    assert_snapshot!(told("versions secret list --name draft"), @"
    exit 1
    stderr:
    error: The Worker draft has no deployments.
    hint: `--latest-version` lists those of the latest version
    ");
}

#[test]
fn every_list_is_json_for_programs() {
    let (node, folder, all) = stage(2);
    let json = |line: &str| node.run(&folder, line).done().json();
    node.run_with(&folder, "secret bulk", "").failed();
    node.run(&folder, "versions deploy 2@20 1@80").done();

    let versions = json("versions list --json");
    // Oldest first, as in the table.
    let ids: Vec<&str> = versions.as_array().expect("a list").iter().filter_map(|v| v["id"].as_str()).collect();
    assert_eq!(ids, [&all[0].id, &all[1].id]);
    assert_eq!(json("versions list --limit 1 --json")[0]["id"], all[1].id);
    assert_eq!(json("versions view v1 --json")["id"], all[0].id);
    assert_eq!(json("deployments list --json")[1]["versions"][0]["version_id"], all[1].id);
    assert_eq!(json("deployments status --json")["versions"][1]["percentage"], 80);
    assert_eq!(json("secret list --json"), json!([]));
    assert_eq!(json("versions secret list --json"), json!([]));
    assert_eq!(json("versions secret list --latest-version --json"), json!([]));
    assert_eq!(json("explain --key k --json")["answers"][0]["reason"], "key");
    assert_eq!(json("versions deploy 1 --dry-run --json")["versions"][0]["version_id"], all[0].id);
    assert_eq!(json("versions deploy 2 --json")["versions"][0]["percentage"], 100);
    assert_eq!(json("rollback --json")["versions"][0]["version_id"], all[0].id);
    assert_eq!(json("versions upload --json")["version"]["number"], 3);
    assert_eq!(json("deploy --json")["deployment"]["versions"][0]["percentage"], 100);
    assert_eq!(json("deploy --dry-run --json")["metadata"]["bindings"][0]["name"], "GREETING");
}

#[test]
fn splits_are_written_as_versions_and_shares() {
    let (node, folder, all) = stage(3);
    let _filters = filtered();
    let told = |line: &str| node.run(&folder, line).told(&folder);
    assert_snapshot!(told("versions deploy #3@12.5% v2@ v1 --message canary"), @"
    exit 0
    stdout:
    Deployed w: 3 versions
     Traffic  Version ID  #  Tag
     12.5%  [id]  3  v3
     43.75%  [id]  2  v2
     43.75%  [id]  1  v1
    Deployment ID: [id]
    stderr:
    56.25% of the traffic moved to another version
    ");
    assert_snapshot!(told("versions deploy v1@99.9 v2@0.1 --dry-run"), @"
    exit 0
    stdout:
    Would deploy w: 2 versions
     Traffic  Version ID  #  Tag
     99.9%  [id]  1  v1
     0.1%  [id]  2  v2
    stderr:
    56.15% of the traffic would move to another version
    dry run: nothing was deployed
    ");
    let line = format!("versions deploy --version-id {} {} --percentage 30 70 -y", all[0].id, all[1].id);
    assert_snapshot!(told(&line), @"
    exit 0
    stdout:
    Deployed w: 2 versions
     Traffic  Version ID  #  Tag
     30%  [id]  -  -
     70%  [id]  -  -
    Deployment ID: [id]
    stderr:
    26.25% of the traffic moved to another version
    ");
    assert_snapshot!(told("versions deploy --version-tag v3@100"), @"
    exit 0
    stdout:
    Deployed w: 1 version
     Traffic  Version ID  #  Tag
     100%  [id]  3  v3
    Deployment ID: [id]
    stderr:
    100% of the traffic moved to another version
    ");
}

#[test]
fn secrets_are_set_and_deleted_without_a_word_of_their_values() {
    let (node, folder, _) = stage(1);
    let _filters = filtered();
    let told = |line: &str, stdin: &str| node.run_with(&folder, line, stdin).told(&folder);
    assert_snapshot!(told("secret put KEY", "hidden"), @"
    exit 0
    stdout:
    Secret KEY of w is set
    ");
    assert_snapshot!(told("secret bulk", "A=1\nB=2"), @"
    exit 0
    stdout:
    Secrets of w: 2 set, 0 deleted
    ");
    assert_snapshot!(told("secret delete A", ""), @"
    exit 0
    stdout:
    Secret A of w is deleted
    ");
    assert_snapshot!(told("secret delete A", ""), @"
    exit 1
    stderr:
    error: worker `w` has no secret `A`; `secret list` shows those there are [code: 10056]
    ");
    assert_snapshot!(told("secret put KEY", ""), @r#"
    exit 1
    stderr:
    error: the secret's value is empty
    hint: give it on stdin (`printf %s "$VALUE" | sluice secret put NAME`) or with `--value-file FILE`
    "#);
    assert_snapshot!(told("secret put KEY --value-file missing", ""), @"
    exit 1
    stderr:
    error: cannot read `missing`: No such file or directory (os error 2)
    ");
    assert_snapshot!(told("secret bulk", "A=1\nnonsense"), @"
    exit 1
    stderr:
    error: stdin: line 2: expected NAME=value
    ");
    assert_snapshot!(told("secret bulk", r#"{"A": 1}"#), @"
    exit 1
    stderr:
    error: stdin: the value of `A` must be a string, or null to delete it
    ");
    assert_snapshot!(told("secret put 1x", "hidden"), @"
    exit 1
    stderr:
    error: `secrets.1x`: `1x` is not a binding name: use 1 to 128 letters, digits, `_`, `-` or `.`, starting with a letter or `_` [code: 10021]
    ");
    assert_snapshot!(told("versions secret put KEY --tag t", "hidden"), @"
    exit 0
    stdout:
    Worker Version ID: [id]
    stderr:
    hint: `sluice versions deploy [short]@100` gives it traffic
    ");
    assert_snapshot!(told("secret put KEY", "hidden"), @"
    exit 1
    stderr:
    error: Secret edit failed. You attempted to modify a secret, but the latest version of your Worker isn't currently deployed. Deploy version `[id]` at 100 %, or edit with `versions secret` [code: 10215]
    hint: deploy the latest version first (`sluice versions deploy <version>@100`), or change secrets without deploying: `sluice versions secret put NAME`
    ");
}

#[test]
fn a_client_finds_the_node_of_a_folder_above() {
    let folder = Folder::new();
    folder.write("deep/er/wrangler.toml", CONFIG);
    let node = Node::over(&folder.at(".sluice"), &[]);
    std::fs::copy(example("version-teller"), folder.at("deep/er/worker.wasm")).expect("the module");
    let output =
        crate::harness::cli::command(&folder.at("deep/er"), "deploy", &[]).output().expect("the binary starts");
    Ran::of(&output).done();
    assert!(node.get("w", "/").text().starts_with("Hello"));
}

#[test]
fn help_and_completions_are_no_failures() {
    let folder = Folder::new();
    for line in [
        "--help",
        "-h",
        "help",
        "deploy --help",
        "versions deploy --help",
        "secret put --help",
        "objects --help",
        "--version",
    ] {
        let ran = Ran::alone(&folder, line, &[]).done();
        assert!(!ran.out.is_empty() && ran.err.is_empty(), "{line}: {ran:?}");
    }
    let help = Ran::alone(&folder, "--help", &[]).done().out;
    let commands = [
        "serve",
        "dev",
        "deploy",
        "versions",
        "deployments",
        "rollback",
        "secret",
        "delete",
        "objects",
        "explain",
        "init",
        "demo",
    ];
    for command in commands {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command} is not in: {help}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Ran::alone(&folder, &format!("completions {shell}"), &[]).done().out;
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}");
    }
}

#[test]
fn init_makes_a_folder_or_says_why_not() {
    let (folder, _filters) = (Folder::new(), filtered());
    let told = |line: &str| Ran::alone(&folder, line, &[]).told(&folder);
    assert_snapshot!(told("init shop"), @"
    exit 0
    stdout:
    Made shop in shop
    stderr:
    hint: cd shop && sluice dev
    ");
    assert_snapshot!(told("init shop --wasi 0.3"), @"
    exit 1
    stderr:
    error: `shop` is not empty
    hint: choose a folder that is not there yet
    ");
    folder.write("file", "");
    assert_snapshot!(told("init file/shop"), @"
    exit 1
    stderr:
    error: cannot write `file/shop/wrangler.toml`: Not a directory (os error 20)
    ");
    let mut made: Vec<String> = std::fs::read_dir(folder.at("shop"))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    made.sort_unstable();
    assert_eq!(made, [".gitignore", "Cargo.toml", "README.md", "build.sh", "src", "wrangler.toml"]);
}
