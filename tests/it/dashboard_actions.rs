//! What the dashboard does: each action shows its effect first, is the control API's, and overwrites nobody.

use serde_json::{Value, json};

use crate::harness::browser::{Browser, borrowed, fields_of};
use crate::harness::node::{Upload, split_body};
use crate::harness::{Node, example, list, text};

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
    assert!(preview.contains("sluice versions deploy 3@20 1@80 --name shop --message='it'\\''s &lt;b&gt;bold"), "{preview}");
    assert!(!preview.contains("<b>bold"));
    assert_eq!(node.deployments("shop").len(), 1, "a preview deploys nothing");

    let to = browser.submit_and_follow(path, &borrowed(&fields_of(&preview, path, "deploy")));
    let made = node.deployments("shop").remove(0);
    assert_eq!(to, format!("/workers/shop/deployments#d-{}", made["id"].as_str().unwrap()));
    assert_eq!((made["source"].as_str(), made["annotations"]["workers/message"].as_str()), (Some("dash"), Some(message)));
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
    for part in ["Someone deployed meanwhile. Nothing was overwritten.", "#3 100 %", "&lt;i&gt;faster&lt;/i&gt;", "via api"] {
        assert!(late.contains(part), "{part}: {late}");
    }
    // What it would do now is shown, and may be confirmed.
    browser.submit_and_follow(path, &borrowed(&fields_of(&late, path, "deploy")));
    assert_eq!(split_of(&node.deployments("shop")[0]), [(versions[1].id.clone(), 100.0)]);

    // The first deployment of all is nobody's to overwrite either.
    node.upload("PUT", "/scripts/fresh", &example("hello"), Upload::default());
    let (first, second) = (node.versions("fresh").remove(0), node.upload_version("fresh", &example("hello"), Upload::default()));
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
