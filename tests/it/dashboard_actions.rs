//! What the dashboard does: each action shows its effect first, is the control API's, and overwrites nobody.

use serde_json::{Value, json};

use crate::harness::browser::{Browser, borrowed, fields_of};
use crate::harness::node::{Upload, split_body};
use crate::harness::{Connection, Node, OVERRIDES, example, list, text, until};

/// The fields of a form that asks for these shares.
fn shares<'a>(rows: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let rows = rows.iter().flat_map(|(version, share)| [("version", *version), ("share", *share)]);
    rows.chain(more.iter().copied()).collect()
}

/// Versions and percentages of a deployment as the API tells it.
fn split_of(deployment: &Value) -> Vec<(String, f64)> {
    let share = |share: &Value| (text(&share["version_id"]), share["percentage"].as_f64().expect("a number"));
    list(&deployment["versions"]).iter().map(share).collect()
}

#[test]
fn a_deployment_is_previewed_then_made_and_recorded() {
    let node = Node::start();
    let versions = node.hello_versions("shop", 3);
    let browser = Browser::signed_in(&node);
    let path = "/workers/shop/deploy";

    // It begins with what is live; a link leads to it with one version at 100 %.
    let begin = browser.page(&format!("{path}?version={}", versions[2].id));
    let fields = fields_of(&begin, path, "preview");
    assert_eq!(&fields[..2], [("version".to_owned(), versions[2].id.clone()), ("share".to_owned(), "100".to_owned())]);
    assert_eq!(&fields[2..4], [("version".to_owned(), versions[0].id.clone()), ("share".to_owned(), String::new())]);
    assert!(browser.page("/workers/shop/versions").contains(&format!("{path}?version={}", versions[2].id)));

    // One more version in the form.
    let mut more = borrowed(&fields);
    more.pop();
    more.extend([("add", versions[1].id.as_str()), ("do", "add")]);
    let page = browser.submit(path, &more).text();
    assert!(page.contains(&format!("name=\"version\" value=\"{}\"", versions[1].id)), "{page}");

    let message = "it's <b>bold</b> & \"new\"";
    let wish = shares(&[(&versions[2].id, "20"), (&versions[0].id, "80")], &[("message", message), ("do", "preview")]);
    let preview = browser.submit(path, &wish);
    assert_eq!(preview.status, 200);
    let preview = preview.text();
    assert!(preview.contains("20,000 of 100,000 slots"), "{preview}");
    assert!(preview.contains("Then: #3 20 %, #1 80 %") && preview.contains("Configured: #1 100 %"), "{preview}");
    assert!(
        preview.contains("sluice versions deploy 3@20 1@80 --name shop --message='it'\\''s &lt;b&gt;bold"),
        "{preview}"
    );
    assert!(!preview.contains("<b>bold"));
    assert_eq!(node.deployments("shop").len(), 1, "a preview deploys nothing");

    let to = browser.submit_and_follow(path, &borrowed(&fields_of(&preview, path, "deploy")));
    let made = node.deployments("shop").remove(0);
    assert_eq!(to, format!("/workers/shop/deployments#d-{}", made["id"].as_str().unwrap()));
    assert_eq!(
        (made["source"].as_str(), made["annotations"]["workers/message"].as_str()),
        (Some("dash"), Some(message))
    );
    assert_eq!(split_of(&made), [(versions[2].id.clone(), 20.0), (versions[0].id.clone(), 80.0)]);
    assert!(browser.page("/workers/shop/deployments").contains("it's &lt;b&gt;bold&lt;/b&gt;"));
}

#[test]
fn who_deploys_meanwhile_is_not_overwritten() {
    let node = Node::start();
    let versions = node.hello_versions("shop", 3);
    let browser = Browser::signed_in(&node);
    let path = "/workers/shop/deploy";
    let wish = shares(&[(&versions[1].id, "100")], &[("do", "preview")]);
    let preview = browser.submit(path, &wish).text();

    let mut body = split_body(&[(&versions[2], 100.0)]);
    body["annotations"] = json!({ "workers/message": "<i>faster</i>" });
    let theirs = node.api("POST", "/scripts/shop/deployments", &body);
    let late = browser.submit(path, &borrowed(&fields_of(&preview, path, "deploy")));
    assert_eq!(late.status, 200);
    let late = late.text();
    assert_eq!(node.deployments("shop")[0]["id"], theirs["id"], "nothing was overwritten");
    for part in
        ["Someone deployed meanwhile. Nothing was overwritten.", "#3 100 %", "&lt;i&gt;faster&lt;/i&gt;", "via api"]
    {
        assert!(late.contains(part), "{part}: {late}");
    }
    // What it would do now is shown, and may be confirmed.
    browser.submit_and_follow(path, &borrowed(&fields_of(&late, path, "deploy")));
    assert_eq!(split_of(&node.deployments("shop")[0]), [(versions[1].id.clone(), 100.0)]);

    // The first deployment of all is nobody's to overwrite either.
    node.upload("PUT", "/scripts/fresh", &example("hello"), Upload::default());
    let (first, second) =
        (node.versions("fresh").remove(0), node.upload_version("fresh", &example("hello"), Upload::default()));
    let blind = shares(&[(&second.id, "100")], &[("seen", ""), ("do", "deploy")]);
    let late = browser.submit("/workers/fresh/deploy", &blind).text();
    assert!(late.contains("Someone deployed meanwhile"), "{late}");
    assert_eq!(node.deployments("fresh")[0]["versions"][0]["version_id"], first["id"]);
}

#[test]
fn what_cannot_be_deployed_is_said_and_nothing_changes() {
    let node = Node::start();
    let versions = node.hello_versions("shop", 2);
    let browser = Browser::signed_in(&node);
    let path = "/workers/shop/deploy";
    let (one, two) = (versions[0].id.as_str(), versions[1].id.as_str());
    let unknown = "11111111-1111-4111-8111-111111111111";
    for (rows, part) in [
        (&[(one, "20"), (two, "79")][..], "sum to 99 %"),
        (&[(one, "<b>"), (two, "80")], "`&lt;b&gt;` is no number"),
        (&[(unknown, "100")], "11111111"),
        (&[], "at least 1 version"),
    ] {
        for action in ["preview", "deploy"] {
            let reply = browser.submit(path, &shares(rows, &[("do", action)]));
            let page = reply.text();
            assert!(page.contains("class=\"problem\"") && page.contains(part), "{part}: {page}");
        }
    }
    let forged = browser.post(path, &shares(&[(two, "100")], &[("do", "deploy")]));
    assert_eq!(forged.status, 403, "{}", forged.text());
    let forged = browser.post("/workers/shop/rollback", &shares(&[(two, "100")], &[("csrf", "x"), ("do", "deploy")]));
    assert_eq!(forged.status, 403, "{}", forged.text());
    assert_eq!(node.deployments("shop").len(), 1);
    assert_eq!(browser.get("/workers/none/deploy").status, 404);
    // An id that is none chooses nothing.
    assert!(browser.page(&format!("{path}?version=%22%3E%3Cscript%3E")).contains("value=\"100\""));
}

#[test]
fn secrets_that_would_get_older_values_need_force() {
    let node = Node::start();
    node.hello_versions("shop", 1);
    node.put_secret("shop", "API_KEY", "first");
    node.put_secret("shop", "API_KEY", "second");
    let versions = node.versions("shop");
    let older = versions[1]["id"].as_str().unwrap();
    let browser = Browser::signed_in(&node);
    let path = "/workers/shop/rollback";
    let page = browser.page(&format!("{path}?version={older}"));
    assert!(page.contains("API_KEY") && page.contains("The node would refuse it."), "{page}");
    assert!(!page.contains("Roll back</button>"), "it cannot be confirmed: {page}");
    let forced = browser.submit(path, &borrowed(&fields_of(&page, path, "preview"))).text();
    assert!(forced.contains("sluice rollback 2 --name shop --force"), "{forced}");
    browser.submit_and_follow(path, &borrowed(&fields_of(&forced, path, "deploy")));
    assert_eq!(node.deployments("shop")[0]["versions"][0]["version_id"], older);
}

#[test]
fn one_click_leads_back_and_one_more_does_it() {
    let node = Node::start();
    let versions = node.hello_versions("shop", 3);
    node.split("shop", &[(&versions[1], 30.0), (&versions[0], 70.0)]);
    let mixed = node.deployments("shop").remove(0);
    node.split("shop", &[(&versions[2], 100.0)]);
    let browser = Browser::signed_in(&node);
    let path = "/workers/shop/rollback";

    // To the version that had everything last, from the overview.
    assert!(browser.page("/workers/shop").contains(&format!("href=\"{path}\"")));
    let page = browser.page(path);
    assert!(page.contains("sluice rollback 1 --name shop") && page.contains("100,000 of 100,000 slots"), "{page}");

    // To what a deployment gave, from the timeline.
    let link = format!("{path}?deployment={}", mixed["id"].as_str().unwrap());
    assert!(browser.page("/workers/shop/deployments").contains(&link));
    let page = browser.page(&link);
    assert!(page.contains("sluice versions deploy 2@30 1@70 --name shop"), "{page}");
    node.split("shop", &[(&versions[1], 100.0)]);
    let late = browser.submit(path, &borrowed(&fields_of(&page, path, "deploy"))).text();
    assert!(late.contains("Someone deployed meanwhile"), "{late}");

    let page = browser.page(path);
    let mut fields = fields_of(&page, path, "deploy");
    fields.iter_mut().filter(|(name, _)| name == "message").for_each(|(_, value)| *value = "too slow".to_owned());
    browser.submit_and_follow(path, &borrowed(&fields));
    let back = node.deployments("shop").remove(0);
    assert_eq!(split_of(&back), [(versions[2].id.clone(), 100.0)]);
    assert_eq!(back["annotations"]["workers/message"], "too slow");
    let nothing = browser.page(&format!("{path}?deployment=11111111-1111-4111-8111-111111111111"));
    assert!(nothing.contains("There is nothing to go back to"), "{nothing}");
}

#[test]
fn a_version_is_compared_with_any_other() {
    let node = Node::start();
    let bindings = |greeting: &str, more: Value| {
        let mut bindings = vec![json!({ "type": "plain_text", "name": "GREETING", "text": greeting }), more];
        bindings.retain(|binding| !binding.is_null());
        Upload::bindings(bindings.into())
    };
    let key = json!({ "type": "secret_text", "name": "API_KEY", "text": "s3cret-value" });
    let first = node.deploy_module("shop", &example("hello"), bindings("hello", Value::Null));
    let second = node.upload_version("shop", &example("hello"), bindings("<b>hi</b>", key));
    let dated = Upload::default().with("compatibility_date", json!("2026-02-03"));
    let third = node.upload_version("shop", &example("version-teller"), dated);
    let browser = Browser::signed_in(&node);
    let page = |of: &str, with: &str| browser.page(&format!("/workers/shop/versions/{of}?with={with}"));

    let between = page(&second.id, &first.id);
    for part in ["text: hello", "text: &lt;b&gt;hi&lt;/b&gt;", "secret: not shown", "What changes from #1 to #2"] {
        assert!(between.contains(part), "{part}: {between}");
    }
    assert!(!between.contains("s3cret-value") && !between.contains("<b>hi") && !between.contains("SHA-256"));
    // By itself with the one before; any other can be chosen.
    let before = browser.page(&format!("/workers/shop/versions/{}", third.id));
    for part in ["What changes from #2 to #3", "2026-02-03", "SHA-256", "Compatibility date", "API_KEY", "GREETING"] {
        assert!(before.contains(part), "{part}: {before}");
    }
    assert!(page(&third.id, &first.id).contains("What changes from #1 to #3"));
    assert!(page(&first.id, &third.id).contains("What changes from #3 to #1"));
    let unknown = page(&first.id, "%22%3E%3Cscript%3E");
    assert!(unknown.contains("not there any more") && !unknown.contains("\"><script>"));
    assert!(before.contains(&format!("/workers/shop/tail?version={}", third.id)));
}

#[test]
fn a_tail_streams_the_requests_that_are_asked_for() {
    let node = Node::start();
    let versions = node.hello_versions("shop", 2);
    // In the deployment without traffic, so that it can be asked for.
    node.split("shop", &[(&versions[0], 100.0), (&versions[1], 0.0)]);
    let browser = Browser::signed_in(&node);
    let page = browser.page(&format!("/workers/shop/tail?version={}&status=ok&path=%2Fnews%3Cb%3E", versions[0].id));
    assert!(page.contains("sluice tail shop --version-id 1 --status ok") && !page.contains("/news<b>"), "{page}");

    let open = |query: &str| {
        let mut stream = Connection::open(node.control);
        let host = node.control;
        stream.send(format!(
            "GET /live/workers/shop/tail{query} HTTP/1.1\r\nhost: {host}\r\ncookie: {}\r\nsec-fetch-site: same-origin\r\n\r\n",
            browser.cookie()
        ));
        assert_eq!(stream.head().status, 200);
        stream
    };
    // Events alone: a stream also says that it is there.
    let event = |stream: &mut Connection| {
        let mut chunks = std::iter::from_fn(|| stream.chunk()).map(|chunk| String::from_utf8(chunk).expect("text"));
        let chunk = chunks.find(|chunk| !chunk.starts_with(':')).expect("an event");
        let (name, data) = chunk.split_once("\ndata: ").unwrap_or_else(|| panic!("no event: {chunk}"));
        (name.trim_start_matches("event: ").to_owned(), data.trim_end().to_owned())
    };
    let mut stream = open(&format!("?version={}&path=%2Fnews", versions[0].id));
    let mut other = open(&format!("?version={}", versions[1].id));
    assert_eq!(node.api("GET", "/scripts/shop/tails", &Value::Null).as_array().map(Vec::len), Some(2));
    node.get("shop", "/other");
    node.request("GET", "shop", "/news", &[(OVERRIDES, &versions[1].overriding("shop"))], b"");
    node.get("shop", "/news?a=%3Cscript%3E");
    let (name, data) = event(&mut stream);
    let told: Value = serde_json::from_str(&data).expect("JSON");
    assert_eq!((name.as_str(), &told["outcome"]), ("tail", &json!("ok")));
    assert!(told["event"]["request"]["url"].as_str().unwrap().ends_with("/news?a=%3Cscript%3E"), "{told}");
    assert_eq!(told["sluice"]["versionNumber"], 1);
    let (_, data) = event(&mut other);
    assert_eq!(serde_json::from_str::<Value>(&data).unwrap()["sluice"]["versionNumber"], 2);

    // Who has gone leaves no tail behind; who signs out hears of it.
    drop(other);
    until("the end of the tail", || {
        node.get("shop", "/tick");
        node.request("GET", "shop", "/news", &[(OVERRIDES, &versions[1].overriding("shop"))], b"");
        let left = node.api("GET", "/scripts/shop/tails", &Value::Null);
        (left.as_array().map(Vec::len) == Some(1)).then_some(())
    });
    browser.submit_and_follow("/sign-out", &[]);
    assert_eq!(event(&mut stream).0, "over");
    let unknown = Connection::open(node.control)
        .send(format!("GET /live/workers/shop/tail HTTP/1.1\r\nhost: {}\r\n\r\n", node.control))
        .head();
    assert_eq!(unknown.status, 401);
}

/// An upload of counters: the worker's objects are of class `Counter`.
fn counters(tag: &str) -> Upload {
    let binding = json!([
        { "type": "durable_object_namespace", "name": "COUNTER", "class_name": "Counter" },
        { "type": "version_metadata", "name": "CF_VERSION_METADATA" },
    ]);
    Upload::bindings(binding).tagged(tag)
}

#[test]
fn objects_are_listed_page_by_page_and_one_can_be_reset_and_deleted() {
    // Nothing falls asleep by itself while a slow machine looks at it.
    let node = Node::with(&["--object-idle", "10m"]);
    let migrations = json!({ "new_tag": "v1", "steps": [{ "new_sqlite_classes": ["Counter"] }] });
    node.deploy_module("w", &example("counter"), counters("v1").with("migrations", migrations));
    let second = node.upload_version("w", &example("counter"), counters("v2"));
    let count = |name: &str| assert_eq!(node.request("POST", "w", &format!("/{name}/increment"), &[], b"").status, 200);
    (0..103).for_each(|n| count(&format!("visitor-{n}")));
    let browser = Browser::signed_in(&node);

    // Never all at once.
    let first = browser.page("/workers/w/objects");
    assert!(first.contains("103 objects, 103 in memory") && first.contains("Objects by version: #1 103"), "{first}");
    let links = |page: &str| page.matches("/workers/w/objects/Counter/").count();
    assert_eq!(links(&first), 100);
    let next = first.split("rel=\"next\" href=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a next page");
    let rest = browser.page(&next.replace("&amp;", "&"));
    assert_eq!(links(&rest), 3);
    assert!(!rest.contains("rel=\"next\""));

    // A preview tells which of them would move.
    let path = "/workers/w/deploy";
    let preview = browser
        .submit(path, &shares(&[(&second.id, "100")], &[("update", "deferred"), ("delay", "90"), ("do", "preview")]));
    let preview = preview.text();
    for part in [
        "103 of 103",
        "103 of them are in memory and would be reset when they leave memory, or after 90 s",
        "--durable-objects-code-update-mode 'deferred 90s'",
    ] {
        assert!(preview.contains(part), "{part}: {preview}");
    }

    let found = browser.get("/workers/w/objects/find?class=Counter&name=visitor-7");
    let path = found.header("location").and_then(|to| to.split('?').next()).expect("a place").to_owned();
    let page = browser.page(&path);
    for part in ["Counter visitor-7", "falls to", "of 100,000", "sluice objects reset"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(browser.post(&path, &[("do", "reset")]).status, 403);
    let done = browser.submit_and_follow(&path, &[("do", "reset")]);
    assert!(browser.page(&done).contains("It was in memory and has left it."));
    assert!(browser.submit(&path, &[("do", "delete")]).text().contains("Nothing was deleted"));
    assert!(node.request("GET", "w", "/visitor-7", &[], b"").text().contains("= 1"), "its storage stayed");
    let done = browser.submit_and_follow(&path, &[("do", "delete"), ("sure", "on")]);
    let page = browser.page(&done);
    assert!(
        page.contains("All that it had stored is deleted") && page.contains("it has never written anything"),
        "{page}"
    );
    assert_eq!(browser.get("/workers/w/objects/Counter/nonsense").status, 404);
    assert_eq!(browser.get("/workers/w/objects/%3Cb%3E/nonsense").status, 404);
    // A worker without classes has no such tab.
    node.deploy_module("plain", &example("hello"), Upload::default());
    assert!(!browser.page("/workers/plain").contains("/workers/plain/objects") && page.contains("/workers/w/objects"));
}

#[test]
fn a_variable_and_a_secret_make_versions_that_differ_in_nothing_else() {
    let node = Node::start();
    let bindings = json!([
        { "type": "plain_text", "name": "GREETING", "text": "hello" },
        { "type": "json", "name": "LIMITS", "json": { "a": 1 } },
        { "type": "secret_text", "name": "API_KEY", "text": "s3cret-one" },
    ]);
    let upload = Upload::bindings(bindings)
        .with("limits", json!({ "cpu_ms": 50 }))
        .with("compatibility_date", json!("2026-02-03"));
    let first = node.deploy_module("shop", &example("hello"), upload);
    let browser = Browser::signed_in(&node);
    let path = "/workers/shop/variables";
    let page = browser.page(&format!("{path}?variable=GREETING"));
    assert!(page.contains("A change makes version #2") && page.contains("hello") && page.contains("API_KEY"), "{page}");
    assert!(!page.contains("s3cret"));

    let change = |latest: &str, what: &str, name: &str, value: &str| {
        let fields = [("latest", latest), ("name", name), ("value", value), ("kind", "text"), ("do", what)];
        browser.submit(path, &fields)
    };
    let made = change(&first.id, "set-variable", "GREETING", "<b>hi</b>\r\nthere");
    assert_eq!(made.status, 303, "{}", made.text());
    let second = made.header("location").and_then(|to| to.rsplit('/').next()).expect("a version").to_owned();
    let diff = browser.page(made.header("location").expect("a place"));
    for part in
        ["text: hello", "text: &lt;b&gt;hi&lt;/b&gt;\nthere", "What changes from #1 to #2", "2026-02-03", "50.0 ms"]
    {
        assert!(diff.contains(part), "{part}: {diff}");
    }
    assert!(!diff.contains("SHA-256") && !diff.contains("another value"), "{diff}");
    assert_eq!(node.deployments("shop").len(), 1, "nothing is deployed by it");
    let version = node.versions("shop").remove(0);
    assert_eq!((text(&version["id"]), text(&version["metadata"]["source"])), (second.clone(), "dash".to_owned()));

    // Of a form that is out of date nothing is made, nor of what is no variable.
    let late = change(&first.id, "set-variable", "GREETING", "late").text();
    assert!(late.contains("Somebody made version #2 meanwhile"), "{late}");
    let wrong = change(&second, "set-variable", "API_KEY", "text").text();
    assert!(wrong.contains("binding of another type"), "{wrong}");
    let wrong = change(&second, "set-variable", "<b>", "text").text();
    assert!(wrong.contains("class=\"problem\"") && !wrong.contains("<b>"), "{wrong}");
    assert_eq!(browser.post(path, &[("latest", &second), ("name", "X"), ("do", "set-variable")]).status, 403);

    let made = change(&second, "set-secret", "API_KEY", "s3cret-two");
    let diff = browser.page(made.header("location").expect("a place"));
    assert!(diff.contains("secret, another value") && !diff.contains("s3cret"), "{diff}");
    let third = text(&node.versions("shop")[0]["id"]);
    let made = change(&third, "remove-variable", "LIMITS", "");
    assert!(browser.page(made.header("location").expect("a place")).contains("JSON: {&quot;a&quot;:1}"));
    assert_eq!(node.versions("shop").len(), 4);
}

#[test]
fn what_is_deleted_is_named_and_typed_first() {
    let node = Node::start();
    let versions = node.hello_versions("shop", 3);
    let binding = Upload::bindings(json!([{ "type": "service", "name": "SHOP", "service": "shop" }]));
    node.deploy_module("caller", &example("hello"), binding);
    let browser = Browser::signed_in(&node);

    let path = format!("/workers/shop/versions/{}/delete", versions[1].id);
    let page = browser.page(&path);
    assert!(page.contains("sluice versions delete 2 --name shop") && page.contains("no deployment"), "{page}");
    assert!(browser.submit(&path, &[("typed", "#1")]).text().contains("Nothing was deleted"));
    assert_eq!(browser.post(&path, &[("typed", "#2")]).status, 403);
    assert_eq!(node.versions("shop").len(), 3);
    browser.submit_and_follow(&path, &[("typed", "#2")]);
    assert_eq!(node.versions("shop").len(), 2);
    assert_eq!(browser.get(&path).status, 404);
    // What the API refuses is said: one that is deployed, and the latest.
    for (version, why) in [(&versions[0], "#1"), (&versions[2], "#3")] {
        let path = format!("/workers/shop/versions/{}/delete", version.id);
        assert!(browser.page(&path).contains("it cannot be deleted"));
        assert!(browser.submit(&path, &[("typed", why)]).text().contains("class=\"problem\""));
    }

    let path = "/workers/shop/delete";
    let page = browser.page(path);
    assert!(page.contains("Bound to it are: caller") && page.contains("sluice delete shop"), "{page}");
    assert!(browser.submit(path, &[("typed", "shopp")]).text().contains("Nothing was deleted"));
    let refused = browser.submit(path, &[("typed", "shop")]).text();
    assert!(refused.contains("class=\"problem\"") && refused.contains("name=\"force\""), "{refused}");
    assert_eq!(browser.get("/workers/shop").status, 200);
    browser.submit_and_follow(path, &[("typed", "shop"), ("force", "on")]);
    assert_eq!(browser.get("/workers/shop").status, 404);
}
