//! Unmodified wrangler 4.164 drives a node: its commands succeed, print what they print against the hosted service, and have
//! the effect that they claim; where something is wrong, its user reads the message that wrangler means them to.

use crate::harness::Node;
use crate::harness::wrangler::Project;

const CONFIG: &str = r#"
name = "teller"
main = "dist/shim.js"
no_bundle = true
compatibility_date = "2026-01-01"
[vars]
GREETING = "Hello"
[version_metadata]
binding = "CF_VERSION_METADATA"
[env.staging.vars]
GREETING = "Staged"
[env.staging.version_metadata]
binding = "CF_VERSION_METADATA"
"#;

fn says(text: &str, expected: &[&str]) {
    for part in expected {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn deploy_uploads_and_serves_with_every_flag() {
    let node = Node::start();
    let Some(project) = Project::new(&node, CONFIG) else { return };
    let first = project.wrangler(&["deploy", "--tag", "v1", "--message", "the first"]);
    says(&first, &["Uploaded teller", "Current Version ID:"]);
    assert!(node.get("teller", "/").text().starts_with("Hello from version v1"));

    project.wrangler(&["deploy", "--var", "GREETING:Hi", "--tag", "v2"]);
    assert!(node.get("teller", "/").text().starts_with("Hi from version v2"));

    // --keep-vars: what the file does not name stays.
    project.wrangler(&["deploy", "--var", "EXTRA:1"]);
    assert!(node.get("teller", "/env").text().contains("EXTRA"));
    project.wrangler(&["deploy", "--keep-vars"]);
    assert!(node.get("teller", "/env").text().contains("EXTRA"));
    project.wrangler(&["deploy"]);
    assert!(!node.get("teller", "/env").text().contains("EXTRA"));

    project.write("secrets.json", r#"{"TOKEN":"from-a-file"}"#);
    project.wrangler(&["deploy", "--secrets-file", "secrets.json"]);
    assert!(node.get("teller", "/env").text().contains("from-a-file"));

    project.wrangler(&["deploy", "--env", "staging"]);
    assert!(node.get("teller-staging", "/").text().starts_with("Staged"));
    project.wrangler(&["deploy", "--name", "other"]);
    assert!(node.get("other", "/").text().starts_with("Hello"));
}

#[test]
fn versions_are_uploaded_listed_split_and_rolled_back() {
    let node = Node::start();
    let Some(project) = Project::new(&node, CONFIG) else { return };
    says(&project.wrangler_fails(&["versions", "upload"]), &["does not yet exist"]);
    project.wrangler(&["deploy", "--tag", "one"]);
    let upload = [
        "versions",
        "upload",
        "--tag",
        "two",
        "--message",
        "next",
        "--preview-alias",
        "staging",
        "--var",
        "GREETING:Next",
    ];
    says(&project.wrangler(&upload), &["Worker Version ID:", "staging-teller.localhost"]);
    assert!(node.get("staging-teller", "/").text().starts_with("Next from version two"));
    project.wrangler(&["versions", "upload", "--tag", "three"]);

    let ids = project.versions();
    let [one, two, three] = ids.as_slice() else { panic!("{ids:?}") };
    says(&project.wrangler(&["versions", "list"]), &[one, two, "next"]);
    says(&project.wrangler(&["versions", "view", two]), &[two, "GREETING", "Next"]);
    says(&project.wrangler_fails(&["versions", "view", "11111111-1111-4111-8111-111111111111"]), &["10071"]);

    says(
        &project.wrangler(&["versions", "deploy", &format!("{one}@80"), &format!("{two}@20"), "-y", "--dry-run"]),
        &["--dry-run"],
    );
    says(
        &project.wrangler(&[
            "versions",
            "deploy",
            &format!("{one}@79.5%"),
            &format!("{two}@20.5"),
            "-y",
            "--message",
            "canary",
        ]),
        &["79.5%", "20.5%"],
    );
    says(&project.wrangler(&["deployments", "status"]), &["(79.5%)", "(20.5%)", "canary"]);
    says(&project.wrangler(&["versions", "deploy", "--version-tag", "one@50", "two@50", "-y"]), &["SUCCESS"]);
    says(&project.wrangler_fails(&["versions", "deploy", &format!("{one}@60"), &format!("{two}@60"), "-y"]), &["100"]);
    let thirds = [format!("{one}@33.333"), format!("{two}@33.334"), format!("{three}@33.333")];
    let mut args = vec!["versions", "deploy"];
    args.extend(thirds.iter().map(String::as_str));
    says(&project.wrangler_fails(&[args.as_slice(), &["-y"]].concat()), &["at most 2"]);
    says(&project.wrangler(&[args.as_slice(), &["-y", "--max-versions", "3"]].concat()), &["SUCCESS"]);
    says(&project.wrangler(&["deployments", "list"]), &["canary", "(33.334%)"]);

    // A deploy over a split ends it; CI says yes by itself.
    says(&project.wrangler(&["deploy"]), &["multiple versions", "Current Version ID"]);
    says(&project.wrangler(&["rollback", one, "--message", "back", "-y"]), &["has been deployed to 100% of traffic"]);
    assert!(node.get("teller", "/").text().contains("version one"));
    says(&project.wrangler(&["rollback", "-y"]), &["has been deployed to 100% of traffic"]);
    says(
        &project.wrangler_fails(&["versions", "deploy", "11111111-1111-4111-8111-111111111111@100", "-y"]),
        &["10071"],
    );
}

#[test]
fn secrets_are_versions_and_a_rollback_past_one_is_asked_about() {
    let node = Node::start();
    let Some(project) = Project::new(&node, CONFIG) else { return };
    // A worker that is not there: wrangler makes a draft, whose secret waits for the first upload.
    assert!(project.try_wrangler(&["secret", "put", "EARLY", "--name", "drafted"], "waits\n").ok);
    project.wrangler(&["deploy", "--name", "drafted"]);
    assert!(node.get("drafted", "/env").text().contains("waits"));

    project.wrangler(&["deploy"]);
    assert!(project.try_wrangler(&["secret", "put", "TOKEN"], "value-1\n").ok);
    assert!(node.get("teller", "/env").text().contains("value-1"));
    says(&project.wrangler(&["secret", "list"]), &["TOKEN", "secret_text"]);
    project.write("bulk.json", r#"{"TOKEN":"value-2","MORE":"m"}"#);
    project.wrangler(&["secret", "bulk", "bulk.json"]);
    assert!(node.get("teller", "/env").text().contains("value-2"));
    project.wrangler(&["secret", "delete", "MORE"]);
    assert!(!node.get("teller", "/env").text().contains("MORE"));
    // The path through 10220: wrangler lists the names, says yes by itself, and repeats the call.
    says(&project.wrangler(&["rollback", "-y"]), &["MORE", "has been deployed"]);

    // The newest version is not the deployed one now.
    let refused = project.try_wrangler(&["secret", "put", "TOKEN"], "x\n");
    assert!(!refused.ok);
    says(&refused.text, &["wrangler versions secret put"]);
    assert!(project.try_wrangler(&["versions", "secret", "put", "TOKEN", "--tag", "t"], "value-3\n").ok);
    project.write("bulk.json", r#"{"A":"1","B":"2"}"#);
    project.wrangler(&["versions", "secret", "bulk", "bulk.json"]);
    project.wrangler(&["versions", "secret", "delete", "B"]);
    says(&project.wrangler(&["versions", "secret", "list", "--latest-version"]), &["TOKEN", "A"]);
    assert!(!node.get("teller", "/env").text().contains("value-3"));
}

#[test]
fn triggers_are_applied_and_a_worker_is_deleted() {
    let node = Node::start();
    let config = format!(
        "routes = [\"app.example.test/*\", {{ pattern = \"own.example.test\", custom_domain = true }}]\nworkers_dev = true\n{CONFIG}"
    );
    let Some(project) = Project::new(&node, &config) else { return };
    project.wrangler(&["deploy"]);
    for host in ["app.example.test", "own.example.test", "teller.localhost"] {
        assert!(node.get(host, "/").text().starts_with("Hello"), "{host}");
    }
    project.write("wrangler.toml", &config.replace("app.example.test", "new.example.test"));
    project.wrangler(&["triggers", "deploy"]);
    assert_eq!(node.get("app.example.test", "/").status, 404);
    assert_eq!(node.get("new.example.test", "/").status, 200);
    says(&project.wrangler(&["delete", "--force"]), &["Successfully deleted teller"]);
    assert_eq!(node.get("teller", "/").status, 404);
    assert!(!project.try_wrangler(&["deployments", "list"], "").ok);
}

#[test]
fn what_is_wrong_is_said_as_wrangler_means_it() {
    let node = Node::start();
    let Some(project) = Project::new(&node, CONFIG) else { return };
    says(&project.wrangler(&["whoami"]), &["local"]);
    let wrong = project.run_as(&["deployments", "list"], "", "not-the-token");
    assert!(!wrong.ok);
    says(&wrong.text, &["10000"]);
    says(&project.wrangler_fails(&["versions", "list"]), &["10007"]);

    // A required secret that nobody has set.
    project.wrangler(&["deploy"]);
    project.write("wrangler.toml", &format!("{CONFIG}[secrets]\nrequired = [\"NEEDED\"]\n"));
    says(&project.wrangler_fails(&["deploy"]), &["NEEDED"]);

    // A module that cannot run, and a project without one.
    project.write("wrangler.toml", CONFIG);
    project.write("dist/worker.wasm", "\0asm\x01\0\0\0");
    says(&project.wrangler_fails(&["deploy"]), &["component-type information"]);
    std::fs::remove_file(project.path("dist/worker.wasm")).expect("it is there");
    says(&project.wrangler_fails(&["deploy"]), &["10021", "Wasm"]);
}
