//! Durable Objects on the command line: which there are, why each runs its version, and what a deployment would do to them.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::harness::cli::filtered;
use crate::harness::node::split_body;
use crate::harness::{Folder, Node, Upload, Version, example, until};

/// A counter's upload; only the first makes its classes.
fn upload(tag: &str, classes: &[&str]) -> Upload {
    let bindings: Vec<Value> = classes
        .iter()
        .map(|class| json!({ "type": "durable_object_namespace", "name": class.to_uppercase(), "class_name": class }))
        .chain([json!({ "type": "version_metadata", "name": "CF_VERSION_METADATA" })])
        .collect();
    Upload::bindings(json!(bindings)).tagged(tag)
}

/// A node with two versions of a worker `w` whose objects are counters, the first of them deployed, and its project.
fn stage(classes: &[&str]) -> (Node, Folder, [Version; 2]) {
    // Nothing falls asleep by itself while a slow machine looks at it.
    let (node, folder) = (Node::with(&["--object-idle", "10m"]), Folder::new());
    folder.write("wrangler.toml", "name = \"w\"\n");
    let module = example("counter");
    let migrations = json!({ "new_tag": "v1", "steps": [{ "new_sqlite_classes": classes }] });
    let first = node.deploy_module("w", &module, upload("v1", classes).with("migrations", migrations));
    let second = node.upload_version("w", &module, upload("v2", classes));
    (node, folder, [first, second])
}

/// Ids and slots of objects are left out too.
fn filters() -> (insta::internals::SettingsBindDropGuard, insta::internals::SettingsBindDropGuard) {
    let common = filtered();
    let mut settings = insta::Settings::clone_current();
    for (pattern, replacement) in [
        (r"[0-9a-f]{64}", "[object]"),
        (r"#(\d) ([0-9a-f]{8}|\[short\])", "#$1 [short]"),
        (r"\d+ of 100000", "[slot] of 100000"),
        (r"falls to [0-9.]+%", "falls to [share]"),
        (r"in \d+ s at", "in [n] s at"),
    ] {
        settings.add_filter(pattern, replacement);
    }
    (common, settings.bind_to_scope())
}

impl Node {
    fn count(&self, name: &str) -> String {
        let reply = self.request("POST", "w", &format!("/{name}/increment"), &[], b"");
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.text()
    }

    /// The share of the deployed version at which the object with this name would leave it.
    fn leaves_at(&self, folder: &Folder, name: &str) -> f64 {
        let told = self.run(folder, &format!("objects explain {name} --json")).done().json();
        told["changes_at"]["percentage"].as_f64().expect("a share")
    }

    /// The first of the names `o1z`, `o2z`… that leave the deployed version at a share of this range.
    fn who_leaves(&self, folder: &Folder, shares: std::ops::Range<f64>) -> String {
        let mut names = (1..200).map(|number| format!("o{number}z"));
        names.find(|name| shares.contains(&self.leaves_at(folder, name))).expect("one of so many")
    }
}

#[test]
fn objects_are_listed_viewed_explained_reset_and_deleted() {
    let (node, folder, _) = stage(&["Counter"]);
    let _filters = filters();
    let told = |line: &str| node.run(&folder, line).told(&folder);
    assert_snapshot!(told("objects list"), @"
    exit 0
    stderr:
    The Worker w has no Durable Objects yet: one is there when it has stored something.
    since the node started: 0 came to memory, 0 were reset because their version changed, 0 because their code failed
    ");
    assert_snapshot!(told("objects explain alice"), @"
    exit 0
    stdout:
    Object ID:  [object]
    Name:  alice
    Class:  Counter
    Slot:  [slot] of 100000
    Version:  #1 [short]
    Moves:  when the share of #1 [short] falls to [share], or below
    In memory:  no
    Known:  no: it has stored nothing; this is the version that it would get
    ");
    node.count("alice");
    assert_snapshot!(told("objects list"), @"
    exit 0
    stdout:
     Class  Name  Object ID  Version  In memory  Alarm  Stored
     Counter  alice  [object]  #1 [short] yes  -  13 bytes
    stderr:
    since the node started: 1 came to memory, 0 were reset because their version changed, 0 because their code failed
    ");
    assert_snapshot!(told("objects view alice"), @"
    exit 0
    stdout:
    Object ID:  [object]
    Name:  alice
    Class:  Counter
    Version:  #1 [short]
    In memory:  yes
    Alarm:  -
    Stored:  13 bytes
    Created:  [time] ([ago])
    Epoch:  1, the instances of it that have written
    ");
    assert_snapshot!(told("objects explain alice"), @"
    exit 0
    stdout:
    Object ID:  [object]
    Name:  alice
    Class:  Counter
    Slot:  [slot] of 100000
    Version:  #1 [short]
    Moves:  when the share of #1 [short] falls to [share], or below
    In memory:  yes
    ");
    assert_snapshot!(told("objects reset alice"), @"
    exit 0
    stdout:
    Reset object `alice` of class Counter: it starts anew with the next event; what it stored is there
    ");
    until("alice is asleep", || {
        (node.run(&folder, "objects view alice --json").done().json()["live"] == false).then_some(())
    });
    assert_snapshot!(told("objects reset alice"), @"
    exit 0
    stdout:
    object `alice` of class Counter is not in memory: there was nothing to reset
    ");
    // What it stored is there, and its memory is not.
    assert_eq!(node.count("alice"), "counter alice = 2 (object on v1, worker on v1) (up: 1 calls)\n");
    assert_snapshot!(told("objects delete alice --class Counter -y"), @"
    exit 0
    stdout:
    Deleted all that object `alice` of class Counter had stored, and its alarm
    ");
    assert_snapshot!(told("objects delete alice"), @"
    exit 1
    stderr:
    error: object `alice` of class Counter has stored nothing: there was nothing to delete
    hint: `sluice objects list` shows the objects there are; names are case-sensitive
    ");
    assert_eq!(node.count("alice"), "counter alice = 1 (object on v1, worker on v1) (up: 1 calls)\n");
    // By its id, and from elsewhere.
    node.count("bob");
    let id = node.run(&folder, "objects view bob --json").done().json()["id"].as_str().expect("an id").to_owned();
    let elsewhere = Folder::new();
    let view = node.run(&elsewhere, &format!("objects view {} --name w --json", id.to_uppercase())).done().json();
    assert_eq!((&view["name"], &view["bytes"]), (&json!("bob"), &json!(13)));
    let list = node.run(&elsewhere, "objects list w --json").done().json();
    let names: Vec<&Value> = list["objects"].as_array().expect("a list").iter().map(|object| &object["name"]).collect();
    assert_eq!(names.len(), 2, "{list}");
    assert_eq!((&list["since_start"]["reassigned"], &list["since_start"]["failed"]), (&json!(0), &json!(0)));
}

#[test]
fn what_is_no_object_is_told_from_what_is_not_there() {
    let (node, folder, _) = stage(&["Counter", "Ledger"]);
    let _filters = filters();
    node.deploy_module("plain", &example("hello"), Upload::default());
    let told = |line: &str| node.run(&folder, line).told(&folder);
    assert_snapshot!(told("objects view alice"), @"
    exit 2
    stderr:
    error: `alice` may be an object of any of several classes of worker `w`
    hint: say which one with `--class`: Counter, Ledger
    ");
    assert_snapshot!(told("objects view alice --class Counter"), @"
    exit 1
    stderr:
    error: object `alice` of class Counter never was: it has stored nothing, and is not in memory
    hint: `sluice objects list` shows the objects there are; names are case-sensitive
    hint: `sluice objects explain` tells the version that it would get
    ");
    assert_snapshot!(told("objects reset alice --class Counter"), @"
    exit 1
    stderr:
    error: object `alice` of class Counter never was: it has stored nothing, and is not in memory
    hint: `sluice objects list` shows the objects there are; names are case-sensitive
    hint: `sluice objects explain` tells the version that it would get
    ");
    assert_snapshot!(told("objects view alice --class Other"), @"
    exit 1
    stderr:
    error: worker `w` has no Durable Object class `Other`
    hint: it has Counter, Ledger
    ");
    assert_snapshot!(told("objects list --class Other"), @"
    exit 1
    stderr:
    error: `class`: worker `w` has no Durable Object class `Other`; it has Counter, Ledger [code: 95025]
    hint: `sluice objects list` shows the objects there are, and their classes
    ");
    assert_snapshot!(told(&format!("objects view {}", "0".repeat(64))), @"
    exit 1
    stderr:
    error: `[object]` is not the id of an object of any class of worker `w`
    hint: an id belongs to one class of one worker: is it the right `--name`, and the right node?
    hint: if it is the name of an object, add `--by-name`
    ");
    assert_snapshot!(told(&format!("objects explain {} --by-name --class Ledger", "0".repeat(64))), @"
    exit 0
    stdout:
    Object ID:  [object]
    Name:  [object]
    Class:  Ledger
    Slot:  [slot] of 100000
    Version:  #1 [short]
    Moves:  when the share of #1 [short] falls to [share], or below
    In memory:  no
    Known:  no: it has stored nothing; this is the version that it would get
    ");
    assert_snapshot!(told("objects list plain"), @"
    exit 0
    stderr:
    The Worker plain has no Durable Object classes.
    ");
    assert_snapshot!(told("objects view alice --name plain"), @"
    exit 1
    stderr:
    error: worker `plain` has no Durable Object classes, so it has no objects
    hint: a class is declared by a migration in the configuration, and begins with the next `sluice deploy`
    ");
    assert_snapshot!(told("objects view alice --name nobody"), @"
    exit 1
    stderr:
    error: there is no worker `nobody`, so it has no objects
    hint: `sluice deploy` in the project's folder makes the worker; is the name right?
    ");
    assert_snapshot!(told("objects list nobody"), @"
    exit 1
    stderr:
    error: there is no worker `nobody`; `deploy` makes one [code: 10007]
    hint: `sluice deploy` in the project's folder makes the worker; is the name right?
    ");
    assert_eq!(node.run(&Folder::new(), "objects list").code, 2);
    // Names that would lead elsewhere in a URL are names.
    for name in ["..", ".", "a/b", "a?b", "%2F"] {
        let line = format!("objects explain {name} --class Counter --json");
        assert_eq!(node.run(&folder, &line).done().json()["name"], name);
    }
}

#[test]
fn a_dry_run_tells_what_would_become_of_the_objects() {
    let (node, folder, [first, second]) = stage(&["Counter"]);
    let _filters = filters();
    let told = |line: &str| node.run(&folder, line).told(&folder);
    assert_snapshot!(told("versions deploy v2@20 v1 --dry-run"), @"
    exit 0
    stdout:
    Would deploy w: 2 versions
     Traffic  Version ID  #  Tag
     20%  [id]  2  v2
     80%  [id]  1  v1
    Durable Objects: none yet
    stderr:
    20% of the traffic would move to another version
    dry run: nothing was deployed
    ");
    let (early, late) = (node.who_leaves(&folder, 80.0..100.0), node.who_leaves(&folder, 0.0..50.0));
    node.count(&late);
    assert_snapshot!(told("versions deploy v2@20 v1 --dry-run"), @"
    exit 0
    stdout:
    Would deploy w: 2 versions
     Traffic  Version ID  #  Tag
     20%  [id]  2  v2
     80%  [id]  1  v1
    Durable Objects: 1, none would change version
    stderr:
    20% of the traffic would move to another version
    dry run: nothing was deployed
    ");
    node.count(&early);
    let filter = |text: String| text.replace(&early, "[early]").replace(&late, "[late]");
    assert_snapshot!(filter(told("versions deploy v2@20 v1 --dry-run")), @"
    exit 0
    stdout:
    Would deploy w: 2 versions
     Traffic  Version ID  #  Tag
     20%  [id]  2  v2
     80%  [id]  1  v1
    Durable Objects: 2, of which 1 would change version
     Objects  From  To
     1  #1 [short] #2 [short]
    1 of them is in memory and would be reset at once.
    None moves to a version that loses share.

     Object  Class  From  To  In memory
     [early]  Counter  #1 [short] #2 [short] yes
    stderr:
    20% of the traffic would move to another version
    dry run: nothing was deployed
    ");
    // Numbers are found also where only ids were typed, and the plan is in the JSON.
    let line = format!("versions deploy {}@20 {}@80 --dry-run", second.id, first.id);
    assert!(node.run(&folder, &line).done().out.contains("#1"), "{line}");
    let plan = node.run(&folder, &format!("{line} --json")).done().json()["sluice"]["objects"].clone();
    assert_eq!((&plan["objects"], &plan["moving"], &plan["live_moving"]), (&json!(2), &json!(1), &json!(1)));
    let line = "versions deploy v2@20 v1 --dry-run --durable-objects-code-update-mode deferred";
    let text = "1 of them is in memory and would be reset when it leaves memory, or after 300 s.";
    assert!(node.run(&folder, line).done().out.contains(text), "{line}");
    // It was a plan and nothing else.
    assert_eq!(node.deployments("w").len(), 1);
    assert!(node.count(&early).contains("on v1, worker on v1) (up: 2 calls)"));

    node.run(&folder, "versions deploy v2@20 v1").done();
    assert!(node.count(&early).contains("object on v2"));
    assert_snapshot!(filter(told("rollback --dry-run")), @"
    exit 0
    stdout:
    Would deploy w: 1 version
     Traffic  Version ID  #  Tag
     100%  [id]  1  v1
    Durable Objects: 2, of which 1 would change version
     Objects  From  To
     1  #2 [short] #1 [short]
    1 of them is in memory and would be reset at once.
    None moves to a version that loses share.

     Object  Class  From  To  In memory
     [early]  Counter  #2 [short] #1 [short] yes
    stderr:
    would roll back w to version 1 ([id]); data, routes and domains stay as they are
    20% of the traffic would move to another version
    dry run: nothing was deployed
    ");
    assert_eq!(node.deployments("w").len(), 2);
    // A change that is deferred is one that waits.
    let mut all = split_body(&[(&second, 100.0)]);
    all["code_update_strategy"] = json!({ "mode": "deferred", "max_delay": 600 });
    node.api("POST", "/scripts/w/deployments", &all);
    assert!(node.count(&late).contains("object on v1"));
    assert_snapshot!(filter(told(&format!("objects explain {late}"))), @"
    exit 0
    stdout:
    Object ID:  [object]
    Name:  [late]
    Class:  Counter
    Slot:  [slot] of 100000
    Version:  #2 [short]
    Moves:  when the share of #2 [short] falls to [share], or below
    In memory:  yes, on #1 [short]
    Switches:  to #2 [short] when it leaves memory, or in [n] s at the latest
    ");
}

#[test]
fn a_rollback_can_be_tried_first() {
    let (node, folder, [_, second]) = stage(&["Counter"]);
    let _filters = filters();
    node.split("w", &[(&second, 100.0)]);
    node.put_secret("w", "KEY", "hidden");
    let told = |line: &str| node.run(&folder, line).told(&folder);
    assert_snapshot!(told("rollback 1 --dry-run"), @"
    exit 1
    stderr:
    would roll back w to version 1 ([id]); data, routes and domains stay as they are
    error: secrets have changed since version [id] was live; nothing was rolled back:
      - KEY
    hint: their old values would become live again; if that is meant, repeat it with `--force`
    ");
    assert_snapshot!(told("rollback 1 --dry-run --force"), @"
    exit 0
    stdout:
    Would deploy w: 1 version
     Traffic  Version ID  #  Tag
     100%  [id]  1  v1
    Durable Objects: none yet
    stderr:
    would roll back w to version 1 ([id]); data, routes and domains stay as they are
    warning: the old values of these secrets become live again: KEY
    100% of the traffic would move to another version
    dry run: nothing was deployed
    ");
    assert_eq!(node.deployments("w").len(), 3);
}

#[test]
fn a_list_has_every_page() {
    const COUNT: usize = 1_010;
    let (node, folder, _) = stage(&["Counter"]);
    std::thread::scope(|scope| {
        for part in 0..4 {
            let node = &node;
            scope.spawn(move || (part..COUNT).step_by(4).for_each(|number| drop(node.count(&format!("o{number}")))));
        }
    });
    let list = node.run(&folder, "objects list --json").done().json();
    let mut names: Vec<String> =
        list["objects"].as_array().expect("a list").iter().map(|object| object["name"].to_string()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), COUNT);
    // A header and a row for each.
    assert_eq!(node.run(&folder, "objects list --class Counter").done().out.lines().count(), COUNT + 1);
}
