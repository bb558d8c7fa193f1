//! The main job, end to end: upload → version → deployment → split → guest.

use serde_json::json;

use crate::harness::{Node, Upload, example};

#[test]
fn two_versions_share_the_traffic_as_the_deployment_says() {
    let node = Node::start();
    let teller = example("version-teller");
    let first = node.deploy_module("teller", &teller, Upload::var("GREETING", "Hello").tagged("v1"));
    assert!(node.get("teller", "/").text().starts_with("Hello from version"));

    let second = node.upload_version("teller", &teller, Upload::var("GREETING", "Bonjour").tagged("v2"));
    // An uploaded version gets no traffic.
    assert!((0..20).all(|_| node.get("teller", "/").text().starts_with("Hello")));

    node.split("teller", &[(&second, 20.0), (&first, 80.0)]);
    let answers = 400;
    let canary = (0..answers).filter(|_| node.get("teller", "/").text().starts_with("Bonjour")).count();
    // 20 % of 400 is 80, with a deviation of 8: five of them either way fail once in a million runs.
    assert!((40..=120).contains(&canary), "{canary} of {answers}");

    // An override reaches either version, a key always the same one.
    let override_to = |id: &str| format!("teller=\"{id}\"");
    let header = "cloudflare-workers-version-overrides";
    for (version, greeting) in [(&first, "Hello"), (&second, "Bonjour")] {
        let reply = node.request("GET", "teller", "/", &[(header, &override_to(&version.id))], b"");
        assert!(reply.text().starts_with(greeting));
    }
    let keyed = || node.request("GET", "teller", "/", &[("cloudflare-workers-version-key", "user-42")], b"").text();
    let sticky = keyed();
    assert!((0..20).all(|_| keyed() == sticky));

    // Back to the first version.
    node.split("teller", &[(&first, 100.0)]);
    assert!((0..20).all(|_| node.get("teller", "/").text().starts_with("Hello")));
    let deployments = node.api("GET", "/scripts/teller/deployments", &json!(null));
    assert_eq!(deployments["deployments"][0]["annotations"]["workers/triggered_by"], "rollback");
}
