//! Uploads on the dashboard: a module and a configuration are dropped, what they would do is shown, and then they are what the command
//! line would have made of them.

use serde_json::{Value, json};

use crate::harness::browser::{Browser, borrowed, fields_of, form_with_files};
use crate::harness::{Connection, Node, Upload, example, list, text, until};

/// The bytes of an example.
fn module(name: &str) -> Vec<u8> {
    std::fs::read(example(name)).expect("a module")
}

/// Drops these files; where they are shown.
fn dropped(browser: &Browser<'_>, path: &str, configuration: Option<&str>, module: Option<&[u8]>) -> String {
    let files = [
        (
            "configuration",
            if configuration.is_some() { "wrangler.toml" } else { "" },
            configuration.unwrap_or_default().as_bytes(),
        ),
        ("module", if module.is_some() { "worker.wasm" } else { "" }, module.unwrap_or_default()),
    ];
    let reply = browser.submit_files(path, &[("kept", "")], &files);
    assert_eq!(reply.status, 303, "{}", reply.text());
    let place = reply.header("location").expect("a place").to_owned();
    assert!(place.starts_with("/uploads/"), "{place}");
    place
}

/// The confirmation on a page, with this message and tag.
fn confirmation(page: &str, place: &str, button: &str, message: &str, tag: &str) -> Vec<(String, String)> {
    let mut fields = fields_of(page, place, button);
    for (name, value) in &mut fields {
        match name.as_str() {
            "message" => message.clone_into(value),
            "tag" => tag.clone_into(value),
            _ => {}
        }
    }
    fields
}

/// Uploads that lie in the node's folder and belong to no version.
fn waiting(node: &Node) -> usize {
    std::fs::read_dir(node.dir().join("modules/temp")).expect("a folder").count()
}

#[test]
fn a_new_worker_is_made_of_a_module_and_its_configuration() {
    let node = Node::start();
    let browser = Browser::signed_in(&node);
    assert!(browser.page("/").contains("href=\"/upload\""), "the way to it, where there is nothing yet");
    let form = browser.page("/upload");
    assert!(form.contains("enctype=\"multipart/form-data\"") && form.contains("64.0 MiB at most"), "{form}");
    let configuration = r#"
        name = "shop"
        main = "dist/worker.wasm"
        compatibility_date = "2026-02-03"
        minify = true
        routes = ["shop.example/*"]
        workers_dev = true
        [build]
        command = "make <b>it</b>"
        [vars]
        GREETING = "<b>hi</b>"
        [limits]
        cpu_ms = 50
    "#;
    let place = dropped(&browser, "/upload", Some(configuration), Some(&module("hello")));
    let page = browser.page(&place);
    for part in [
        "New worker shop",
        "&lt;b&gt;hi&lt;/b&gt;",
        "50.0 ms",
        "2026-02-03",
        "(`dist/worker.wasm`): `worker.wasm` takes its place",
        "`build.command` (`make &lt;b&gt;it&lt;/b&gt;`) is not run",
        "Without effect here: `minify`",
        "The first upload of a worker is deployed.",
        "shop.example/*",
        "sluice deploy worker.wasm --config wrangler.toml",
        "Compiled in",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("<b>hi") && !page.contains("value=\"version\""), "{page}");
    assert_eq!(node.api_error("GET", "/scripts/shop/versions", &Value::Null).0, 10007, "a preview makes nothing");

    let fields = confirmation(&page, &place, "deploy", "the first <i>one</i>", "v1");
    let to = browser.submit_and_follow(&place, &borrowed(&fields));
    assert!(to.starts_with("/workers/shop/deployments#d-"), "{to}");
    let version = node.versions("shop").remove(0);
    assert_eq!(
        (text(&version["annotations"]["workers/tag"]), text(&version["metadata"]["source"])),
        ("v1".into(), "dash".into())
    );
    assert_eq!(version["resources"]["bindings"][0]["text"], "<b>hi</b>");
    assert_eq!(version["resources"]["script_runtime"]["limits"], json!({ "cpu_ms": 50 }));
    assert_eq!(node.get("shop", "/").status, 200);
    assert_eq!(node.request("GET", "shop.example", "/", &[], b"").status, 200, "its routes were set");
    assert_eq!(waiting(&node), 0);
    assert_eq!(browser.get(&place).status, 404, "it waits no longer");
    assert!(!browser.page("/workers/shop/deployments").contains("<i>one"));
}

#[test]
fn a_version_of_both_files_is_shown_beside_the_latest_and_gets_no_traffic() {
    let node = Node::start();
    let bindings = json!([
        { "type": "plain_text", "name": "GREETING", "text": "hello" },
        { "type": "secret_text", "name": "API_KEY", "text": "s3cret-value" },
    ]);
    let first = node.deploy_module("shop", &example("hello"), Upload::bindings(bindings));
    let browser = Browser::signed_in(&node);
    let configuration = "name = \"shop\"\n[vars]\nGREETING = \"bonjour\"\n[secrets]\nrequired = [\"API_KEY\"]\n";
    let place = dropped(&browser, "/workers/shop/upload", Some(configuration), Some(&module("version-teller")));
    let page = browser.page(&place);
    for part in ["It makes version #2 of", "text: hello", "text: bonjour", "SHA-256", "100,000 of 100,000 slots"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // What is not different is not told: the secret stays as it is.
    assert!(!page.contains("s3cret") && !page.contains("API_KEY"), "{page}");
    let fields = confirmation(&page, &place, "version", "it's new", "v2");
    let to = browser.submit_and_follow(&place, &borrowed(&fields));
    let version = node.versions("shop").remove(0);
    assert_eq!(to, format!("/workers/shop/versions/{}", text(&version["id"])));
    assert_eq!(text(&version["annotations"]["workers/message"]), "it's new");
    let names: Vec<String> = list(&version["resources"]["bindings"]).iter().map(|one| text(&one["name"])).collect();
    assert_eq!(names, ["GREETING", "API_KEY"]);
    assert_eq!(node.deployments("shop").len(), 1);
    assert_eq!(node.deployments("shop")[0]["versions"][0]["version_id"], json!(first.id));

    // The same, and deployed.
    let place = dropped(&browser, "/workers/shop/upload", Some(configuration), None);
    let page = browser.page(&place);
    assert!(page.contains("There is no module, so that of the latest version, #2, is taken."), "{page}");
    assert!(page.contains("They are the same but for their notes."), "{page}");
    browser.submit_and_follow(&place, &borrowed(&confirmation(&page, &place, "deploy", "now", "")));
    let deployment = node.deployments("shop").remove(0);
    assert_eq!(
        (text(&deployment["annotations"]["workers/message"]), text(&deployment["source"])),
        ("now".into(), "dash".into())
    );
    assert_eq!(deployment["versions"][0]["version_id"], node.versions("shop")[0]["id"]);
}

#[test]
fn a_module_alone_makes_a_version_like_the_latest() {
    let node = Node::start();
    node.deploy_module("shop", &example("hello"), Upload::var("GREETING", "hello"));
    let browser = Browser::signed_in(&node);
    let path = "/workers/shop/upload";
    let place = dropped(&browser, path, None, Some(&module("version-teller")));
    let page = browser.page(&place);
    assert!(page.contains("like the latest one, #1, in all but its module"), "{page}");
    assert!(page.contains("SHA-256") && !page.contains("text: hello"), "{page}");
    browser.submit_and_follow(&place, &borrowed(&confirmation(&page, &place, "version", "", "")));
    let version = node.versions("shop").remove(0);
    assert_eq!(version["resources"]["bindings"][0]["text"], "hello");

    // What is no component is refused by the node, and neither file is enough for a worker that is not there.
    let place = dropped(&browser, path, None, Some(b"no component"));
    let page = browser.page(&place);
    assert!(page.contains("The node would refuse it.") && !page.contains("value=\"version\""), "{page}");
    for (configuration, module, fault) in [
        (None, Some(&module("hello")[..]), "a new worker needs a configuration beside its module"),
        (Some("name = \"other\""), None, "`other` has no version yet, so it needs a module"),
    ] {
        let page = browser.page(&dropped(&browser, "/upload", configuration, module));
        assert!(page.contains(fault), "{fault}: {page}");
    }
    let nothing = browser.submit_files(path, &[], &[("configuration", "", b""), ("module", "", b"")]);
    assert_eq!(nothing.status, 400);
    assert!(nothing.text().contains("No file was chosen."));
    assert_eq!(node.versions("shop").len(), 2);
}

#[test]
fn all_faults_of_a_configuration_are_shown_and_the_module_is_sent_once() {
    let node = Node::start();
    let browser = Browser::signed_in(&node);
    let path = "/upload";
    let place = dropped(&browser, path, Some("name = = 3"), Some(&module("hello")));
    assert!(browser.page(&place).contains("line 1, column 8"), "{}", browser.page(&place));

    let again = |place: &str, file_name: &str, configuration: &str| {
        let kept = place.rsplit('/').next().unwrap();
        let files = [("configuration", file_name, configuration.as_bytes()), ("module", "", b"")];
        browser.submit_files(path, &[("kept", kept)], &files)
    };
    let faulty = r#"
        name = "Shop"
        r2_buckets = [{ binding = "B" }]
        services = [{ service = "<script>x</script>" }]
        kv_namespaces = [{ binding = "NOTES" }]
        [vars]
        "1x" = ""
    "#;
    let reply = again(&place, "wrangler.toml", faulty);
    let place = reply.header("location").expect("a place").to_owned();
    let page = browser.page(&place);
    for part in [
        "`r2_buckets` is not supported",
        "`services[0].binding` is missing",
        "`vars.1x`",
        "`Shop` is not a worker name",
        "the KV namespace `NOTES` has no `id`",
        "worker.wasm",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("<script>x") && !page.contains("value=\"deploy\""), "{page}");
    assert_eq!(again(&place, "notes.txt", "").status, 400);

    // What only the node knows is told with its place as well.
    let configuration =
        r#"{ "name": "shop", "limits": { "cpu_ms": 0 }, "vars": { "A": "x" }, /* and */ "servics": [], }"#;
    let reply = again(&place, "wrangler.jsonc", configuration);
    let place = reply.header("location").expect("a place").to_owned();
    let page = browser.page(&place);
    assert!(page.contains("<code>limits.cpu_ms</code>") && page.contains("did you mean `services`?"), "{page}");

    let reply = again(&place, "wrangler.json", r#"{ "name": "shop" }"#);
    let place = reply.header("location").expect("a place").to_owned();
    let page = browser.page(&place);
    assert!(page.contains("--config wrangler.json"), "{page}");
    browser.submit_and_follow(&place, &borrowed(&fields_of(&page, &place, "deploy")));
    assert_eq!(node.get("shop", "/").status, 200);
}

#[test]
fn an_environment_is_the_one_of_the_worker_unless_another_is_chosen() {
    let node = Node::start();
    for worker in ["shop", "shop-staging"] {
        node.deploy_module(worker, &example("hello"), Upload::var("GREETING", "hello"));
    }
    let browser = Browser::signed_in(&node);
    let configuration = r#"
        name = "shop"
        [vars]
        GREETING = "of the top"
        [env.staging.vars]
        GREETING = "of staging"
        [env.new]
    "#;
    let place = dropped(&browser, "/workers/shop-staging/upload", Some(configuration), None);
    let page = browser.page(&place);
    assert!(page.contains("text: of staging") && page.contains("Upload to shop-staging"), "{page}");
    assert!(page.contains("--config wrangler.toml --env staging"), "{page}");
    let top = browser.page(&format!("{place}?env="));
    assert!(top.contains("text: of the top") && top.contains("was dropped on the page of `shop-staging`"), "{top}");
    let new = browser.page(&format!("{place}?env=new"));
    assert!(new.contains("`shop-new` has no version yet"), "{new}");
    assert!(browser.page(&format!("{place}?env=nope")).contains("no environment `nope`"));
    browser.submit_and_follow(&place, &borrowed(&fields_of(&page, &place, "version")));
    assert_eq!(node.versions("shop-staging")[0]["resources"]["bindings"][0]["text"], "of staging");
    assert_eq!(node.versions("shop").len(), 1);
}

#[test]
fn who_was_faster_is_not_overwritten_by_an_upload() {
    let node = Node::start();
    let versions = node.hello_versions("shop", 2);
    let browser = Browser::signed_in(&node);
    let path = "/workers/shop/upload";
    let configuration = "name = \"shop\"\nvars = { A = \"mine\" }";

    // A version.
    let place = dropped(&browser, path, Some(configuration), None);
    let page = browser.page(&place);
    let mut theirs = Upload::var("A", "theirs");
    theirs = theirs.with("annotations", json!({ "workers/message": "<i>theirs</i>" }));
    node.upload_version("shop", &example("hello"), theirs);
    let late = browser.submit(&place, &borrowed(&fields_of(&page, &place, "version")));
    let late = late.text();
    for part in [
        "Someone changed this worker meanwhile. Nothing was overwritten.",
        "&lt;i&gt;theirs&lt;/i&gt;",
        "It makes version #4 of",
    ] {
        assert!(late.contains(part), "{part}: {late}");
    }
    assert_eq!(node.versions("shop").len(), 3);

    // A deployment.
    node.split("shop", &[(&versions[1], 100.0)]);
    let late = browser.submit(&place, &borrowed(&fields_of(&late, &place, "deploy"))).text();
    assert!(late.contains("Someone changed this worker meanwhile"), "{late}");
    assert_eq!((node.versions("shop").len(), node.deployments("shop").len()), (3, 2));
    browser.submit_and_follow(&place, &borrowed(&fields_of(&late, &place, "deploy")));
    assert_eq!(node.deployments("shop")[0]["versions"][0]["version_id"], node.versions("shop")[0]["id"]);

    // A worker that was not there.
    let place = dropped(&browser, "/upload", Some("name = \"fresh\""), Some(&module("hello")));
    let page = browser.page(&place);
    node.deploy_module("fresh", &example("hello"), Upload::default());
    let late = browser.submit(&place, &borrowed(&fields_of(&page, &place, "deploy"))).text();
    assert!(
        late.contains("Someone changed this worker meanwhile") && late.contains("It makes version #2 of"),
        "{late}"
    );
    assert_eq!(node.versions("fresh").len(), 1);
}

#[test]
fn migrations_are_shown_and_applied_by_deploying_only() {
    let node = Node::start();
    let browser = Browser::signed_in(&node);
    let configuration = |more: &str| {
        format!(
            "name = \"w\"\n[version_metadata]\nbinding = \"CF_VERSION_METADATA\"\n[[durable_objects.bindings]]\nname = \"COUNTER\"\nclass_name = \"Counter\"\n[[migrations]]\ntag = \"v1\"\nnew_sqlite_classes = [\"Counter\"]\n{more}"
        )
    };
    let place = dropped(&browser, "/upload", Some(&configuration("")), Some(&module("counter")));
    let page = browser.page(&place);
    assert!(page.contains("Migrations, up to the tag") && page.contains("new: Counter"), "{page}");
    browser.submit_and_follow(&place, &borrowed(&fields_of(&page, &place, "deploy")));
    assert_eq!(node.request("POST", "w", "/a/increment", &[], b"").status, 200);

    // The file's migrations have all been had: a version alone is possible again.
    let place = dropped(&browser, "/workers/w/upload", Some(&configuration("")), None);
    let page = browser.page(&place);
    assert!(page.contains("value=\"version\"") && !page.contains("Migrations, up to"), "{page}");
    assert!(page.contains("all 1") && page.contains("1 of them is in memory and would be reset at once."), "{page}");

    let more = "[[migrations]]\ntag = \"v2\"\nnew_sqlite_classes = [\"Other\"]\n";
    let place = dropped(&browser, "/workers/w/upload", Some(&configuration(more)), None);
    let page = browser.page(&place);
    for part in ["Migrations are applied by deploying only.", "new: Other"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("value=\"version\""), "{page}");
    browser.submit_and_follow(&place, &borrowed(&fields_of(&page, &place, "deploy")));
    let tag = &node.api("GET", "/services/w", &Value::Null)["default_environment"]["script"]["migration_tag"];
    assert_eq!(tag, "v2");
    assert!(node.request("GET", "w", "/a", &[], b"").text().contains("= 1"), "its storage stayed");
}

#[test]
fn what_went_wrong_after_the_version_is_told() {
    let node = Node::start();
    node.deploy_module("owner", &example("hello"), Upload::default());
    node.api("PUT", "/scripts/owner/routes", &json!([{ "pattern": "taken.example/*" }]));
    let browser = Browser::signed_in(&node);
    let configuration = "name = \"shop\"\nroutes = [\"taken.example/*\"]";
    let place = dropped(&browser, "/upload", Some(configuration), Some(&module("hello")));
    let page = browser.page(&place);
    let reply = browser.submit(&place, &borrowed(&fields_of(&page, &place, "deploy")));
    assert_eq!(reply.status, 200);
    let told = reply.text();
    for part in ["was made and deployed", "Its routes were not set.", "already assigned to worker `owner`"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(node.versions("shop").len(), 1);
}

#[test]
fn files_of_strangers_and_files_that_are_too_large_are_refused_on_a_page() {
    let node = Node::start();
    node.deploy_module("shop", &example("hello"), Upload::default());
    let (browser, other) = (Browser::signed_in(&node), Browser::signed_in(&node));
    let path = "/workers/shop/upload";
    let hello = module("hello");

    let (kind, body) = form_with_files(&[("csrf", "forged")], &[("module", "worker.wasm", &hello)]);
    let forged = browser.request("POST", path, &[("content-type", kind)], &body);
    assert_eq!((forged.status, waiting(&node)), (403, 0), "{}", forged.text());
    let place = dropped(&browser, path, None, Some(&hello));
    assert_eq!((other.get(&place).status, browser.get(&place).status), (404, 200));
    assert_eq!(other.submit(&place, &[("do", "version")]).status, 404);
    assert_eq!(browser.post(&place, &[("do", "version")]).status, 403);
    assert_eq!(other.get("/uploads/nothing").status, 404);
    assert_eq!(browser.get("/workers/none/upload").status, 404);

    // The whole of it is read, so that a browser sees the answer.
    let large = vec![0; 65 * 1024 * 1024];
    let reply = browser.submit_files(path, &[], &[("module", "large.wasm", &large)]);
    assert_eq!(reply.status, 413);
    let told = reply.text();
    assert!(told.contains("the module `large.wasm` has more than") && told.contains("type=\"file\""), "{told}");
    let larger = vec![0; 81 * 1024 * 1024];
    let reply = browser.submit_files(path, &[], &[("module", "large.wasm", &larger)]);
    assert_eq!(reply.status, 413);
    assert!(reply.text().contains("the upload has more than"), "{}", reply.text());
    let reply = browser.request("POST", path, &[("content-type", "multipart/form-data; boundary=xyz")], b"nonsense");
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(waiting(&node), 1, "only what waits");
    assert_eq!(node.versions("shop").len(), 1);
}

#[test]
fn a_form_whose_connection_breaks_leaves_nothing() {
    let node = Node::start();
    node.deploy_module("shop", &example("hello"), Upload::default());
    let browser = Browser::signed_in(&node);
    let page = browser.page("/workers/shop/upload");
    let secret = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a secret");
    let (kind, body) = form_with_files(&[("csrf", secret)], &[("module", "worker.wasm", &module("hello"))]);
    let mut broken = Connection::open(node.control);
    let head = format!(
        "POST /workers/shop/upload HTTP/1.1\r\nhost: {0}\r\norigin: http://{0}\r\ncookie: {1}\r\naccept: text/html\r\ncontent-type: {kind}\r\ncontent-length: {2}\r\n\r\n",
        node.control,
        browser.cookie(),
        body.len()
    );
    broken.send([head.as_bytes(), &body[..body.len() / 2]].concat());
    until("the file that is being written", || (waiting(&node) == 1).then_some(()));
    drop(broken);
    until("the end of it", || (waiting(&node) == 0).then_some(()));
    assert_eq!(node.versions("shop").len(), 1);
}

#[test]
fn a_version_tells_how_its_code_was_come_by() {
    let node = Node::start();
    let first = node.deploy_module("shop", &example("hello"), Upload::default());
    let facts = |number: usize| {
        let versions = node.versions("shop");
        let version = versions.iter().find(|version| version["number"] == json!(number)).expect("a version");
        (text(&version["sluice"]["code"]), version["sluice"]["compile_time_ms"].as_u64())
    };
    let (code, took) = facts(1);
    assert!(code == "compiled" && took.is_some(), "{code} {took:?}");
    node.upload_version("shop", &example("hello"), Upload::default());
    assert_eq!(facts(2).0, "known");

    // A preview compiles; the version that comes of it tells of that, not of the preview's leavings.
    let browser = Browser::signed_in(&node);
    let place = dropped(&browser, "/workers/shop/upload", None, Some(&module("version-teller")));
    let page = browser.page(&place);
    assert!(!page.contains("had been compiled before"), "{page}");
    browser.page(&place);
    browser.submit_and_follow(&place, &borrowed(&fields_of(&page, &place, "version")));
    assert_eq!(facts(3).0, "compiled");
    let page = |id: &str| browser.page(&format!("/workers/shop/versions/{id}"));
    assert!(page(&first.id).contains("Compiled in"));
    let second = text(&node.versions("shop")[1]["id"]);
    assert!(page(&second).contains("the same module had been compiled before"));
    let view = node.cli(&["versions", "view", "2", "--name", "shop"]);
    let view = String::from_utf8_lossy(&view.stdout).into_owned();
    assert!(view.contains("Compiled in:") && view.contains("(the same module had been compiled before)"), "{view}");
}
