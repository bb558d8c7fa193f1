//! Which worker a request is for, and which version: hosts, routes, custom domains, and the headers that choose.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};

use serde_json::{Value, json};

use crate::harness::http::{self, Reply, multipart_of};
use crate::harness::{Connection, Node, Upload, Version, example, test_guest};

const KEY: &str = "cloudflare-workers-version-key";
const OVERRIDES: &str = "cloudflare-workers-version-overrides";
const TOKEN: &str = "sluice-override-token";

/// A node that says which version answers, with workers of these names.
struct Named {
    node: Node,
    names: BTreeMap<String, String>,
}

impl Named {
    fn start(names: &[&str], args: &[&str]) -> Self {
        let node = Node::with(&[&["--version-header"], args].concat());
        let deploy =
            |name: &&str| (node.deploy_module(name, &example("hello"), Upload::default()).id, (*name).to_owned());
        let names = names.iter().map(deploy).collect();
        Self { node, names }
    }

    /// The worker that a URL leads to, or the status of the answer.
    fn ask(&self, url: &str) -> String {
        let (host, path) = url.split_at(url.find('/').expect("a path"));
        self.who(&http::request(self.node.data, "GET", path, &[("host", host)], b""))
    }

    fn who(&self, reply: &Reply) -> String {
        match reply.header("sluice-version").and_then(|value| value.split(';').next()) {
            Some(version) => self.names[version].clone(),
            None => reply.status.to_string(),
        }
    }

    fn routes(&self, worker: &str, patterns: &[&str]) -> Value {
        let routes: Vec<Value> = patterns.iter().map(|pattern| json!({ "pattern": pattern })).collect();
        self.node.api_raw("PUT", &format!("/scripts/{worker}/routes"), &json!(routes))
    }

    fn domains(&self, worker: &str, hosts: &[&str]) -> Value {
        let origins: Vec<Value> = hosts.iter().map(|hostname| json!({ "hostname": hostname })).collect();
        self.node.api_raw("PUT", &format!("/scripts/{worker}/domains/records"), &json!({ "origins": origins }))
    }
}

/// The version header of a reply: the id, and the reason.
fn chosen(reply: &Reply) -> (String, String) {
    let header = reply.header("sluice-version").unwrap_or_else(|| panic!("no version in {reply:?}"));
    let (version, reason) = header.split_once("; reason=").expect("a reason");
    (version.to_owned(), reason.to_owned())
}

/// A worker `teller` of two versions: the second is at 0 %, a third only uploaded.
fn teller(node: &Node) -> [Version; 3] {
    let module = example("version-teller");
    let live = node.deploy_module("teller", &module, Upload::default());
    let at_zero = node.upload_version("teller", &module, Upload::default());
    let uploaded = node.upload_version("teller", &module, Upload::default());
    node.split("teller", &[(&at_zero, 0.0), (&live, 100.0)]);
    [live, at_zero, uploaded]
}

fn overriding(version: &Version) -> String {
    format!("teller=\"{}\"", version.id)
}

// --- Hosts of workers, versions and aliases ---

#[test]
fn a_workers_name_is_found_in_any_case_with_any_port_and_with_the_last_dot() {
    let named = Named::start(&["shop", "1st_shop-x"], &["--default-worker", "1st_shop-x"]);
    for host in ["shop.localhost", "SHOP.LocalHost", "shop.localhost:8787", "shop.localhost.", "Shop.localhost.:1"] {
        assert_eq!(named.ask(&format!("{host}/")), "shop", "{host}");
    }
    // What has no name of its own goes to the default worker.
    for host in
        ["1st_shop-x.localhost", "localhost", "127.0.0.1:8787", "[::1]:80", "a.shop.localhost", "shop.test", "x"]
    {
        assert_eq!(named.ask(&format!("{host}/")), "1st_shop-x", "{host}");
    }
    // The target's own authority wins over `Host` (RFC 9112, 3.2.2).
    let absolute = b"GET http://shop.localhost/ HTTP/1.1\r\nhost: other.test\r\nconnection: close\r\n\r\n";
    assert_eq!(named.who(&http::raw(named.node.data, absolute)), "shop");
}

#[test]
fn a_request_has_exactly_one_host() {
    let named = Named::start(&["shop", "other"], &["--default-worker", "shop"]);
    for hosts in ["", "host: \r\n", "host: a b\r\n", "host: shop.localhost\r\nhost: other.localhost\r\n"] {
        let request = format!("GET / HTTP/1.1\r\n{hosts}connection: close\r\n\r\n");
        let reply = http::raw(named.node.data, request.as_bytes());
        assert_eq!(reply.status, 400, "{hosts:?}: {reply:?}");
    }
    // One that is longer than any host matches no pattern.
    named.routes("other", &["*.test/*"]);
    assert_eq!(named.ask("a.a.test/"), "other");
    assert_eq!(named.ask(&format!("{}test/", "a.".repeat(200))), "shop");
}

#[test]
fn every_uploaded_version_has_a_host_whether_deployed_or_not() {
    let node = Node::with(&["--version-header"]);
    let [live, at_zero, uploaded] = teller(&node);
    for version in [&live, &at_zero, &uploaded] {
        let host = format!("{}-teller", &version.id[..8]);
        // Neither a key nor an override says otherwise (`URL-9`).
        let override_to = overriding(&live);
        let headers = [(KEY, "k"), (OVERRIDES, override_to.as_str())];
        for host in [host.clone(), format!("{}.LOCALHOST.:99", host.to_uppercase())] {
            let reply = node.request("GET", &host, "/", &headers, b"");
            assert_eq!(chosen(&reply), (version.id.clone(), "preview".to_owned()), "{host}");
        }
        let told = node.api("GET", &format!("/scripts/teller/versions/{}", version.id), &Value::Null);
        assert_eq!(told["sluice"]["urls"], json!([format!("http://{host}.localhost:{}", node.data.port())]));
    }
    for host in [format!("{}-teller", &live.id[..7]), "00000000-teller".to_owned(), format!("{}-x", &live.id[..8])] {
        assert_eq!(node.get(&host, "/").status, 404, "{host}");
    }
}

#[test]
fn a_version_of_a_worker_without_a_deployment_answers_at_its_host() {
    let node = Node::with(&["--version-header"]);
    // A draft, as `wrangler versions upload` makes one for a new worker.
    let (kind, body) = multipart_of(r#"{"main_module":"draft"}"#, &[("draft", "application/javascript+module", b"")]);
    let made = node.api_request("PUT", "/scripts/draft", &[("content-type", &kind)], &body);
    assert_eq!(made.status, 200, "{made:?}");
    let version = node.upload_version("draft", &example("hello"), Upload::default());
    let reply = node.get("draft", "/");
    assert_eq!(reply.status, 404);
    assert!(reply.text().contains("`draft` has no deployment"), "{}", reply.text());
    assert!(reply.header("sluice-version").is_none());
    let reply = node.get(&format!("{}-draft", &version.id[..8]), "/");
    assert_eq!((reply.status, chosen(&reply)), (200, (version.id, "preview".to_owned())));
}

#[test]
fn an_alias_is_of_the_newest_upload_that_has_it() {
    let node = Node::with(&["--version-header"]);
    let hello = example("hello");
    let aliased = |alias: &str| Upload::default().with("annotations", json!({ "workers/alias": alias }));
    let first = node.deploy_module("shop", &hello, aliased("staging"));
    let at = |alias: &str| chosen(&node.get(&format!("{alias}-shop"), "/")).0;
    assert_eq!(at("staging"), first.id);
    let second = node.upload_version("shop", &hello, aliased("staging"));
    let third = node.upload_version("shop", &hello, aliased("my-branch-2"));
    assert_eq!((at("staging"), at("my-branch-2")), (second.id.clone(), third.id));
    let urls =
        node.api("GET", &format!("/scripts/shop/versions/{}", second.id), &Value::Null)["sluice"]["urls"].clone();
    assert_eq!(urls[1], format!("http://staging-shop.localhost:{}", node.data.port()));
    // The version is gone, and the alias is again of the newest that has it.
    node.api("DELETE", &format!("/scripts/shop/versions/{}", second.id), &Value::Null);
    assert_eq!(at("staging"), first.id);

    for (alias, fragment) in [
        ("Staging", "lower-case"),
        ("9lives", "starting with a letter"),
        ("ends-", "not ending with `-`"),
        (&"a".repeat(59), "63"),
    ] {
        let reply = node.upload("POST", "/scripts/shop/versions", &hello, aliased(alias));
        let message = reply["errors"][0]["message"].as_str().unwrap_or_default();
        assert!(message.contains(fragment), "{alias}: {reply:#}");
    }
    assert_eq!(node.upload("POST", "/scripts/shop/versions", &hello, aliased(&"a".repeat(58)))["success"], true);
}

#[test]
fn an_alias_may_not_read_as_another_worker() {
    let node = Node::with(&["--version-header"]);
    let hello = example("hello");
    let aliased = Upload::default().with("annotations", json!({ "workers/alias": "my" }));
    let version = node.deploy_module("shop", &hello, aliased.clone());
    assert_eq!(chosen(&node.get("my-shop", "/")).0, version.id);
    // A worker takes its name though an alias reads like it: names come first.
    let other = node.deploy_module("my-shop", &hello, Upload::default());
    assert_eq!(chosen(&node.get("my-shop", "/")), (other.id, "random".to_owned()));
    let reply = node.upload("POST", "/scripts/shop/versions", &hello, aliased);
    assert_eq!(reply["errors"][0]["code"], 95006, "{reply:#}");
    let message = reply["errors"][0]["message"].as_str().expect("a message");
    assert!(message.contains("`my-shop` is the name of another worker"), "{message}");
}

#[test]
fn hosts_are_switched_off_and_on() {
    let named = Named::start(&["shop"], &[]);
    let version = named.names.keys().next().expect("a version")[..8].to_owned();
    let preview = format!("{version}-shop.localhost/");
    let switch = |body: Value| named.node.api("POST", "/scripts/shop/subdomain", &body);
    switch(json!({ "enabled": false }));
    assert_eq!((named.ask("shop.localhost/"), named.ask(&preview)), ("404".into(), "404".into()));
    switch(json!({ "enabled": false, "previews_enabled": true }));
    assert_eq!((named.ask("shop.localhost/"), named.ask(&preview)), ("404".into(), "shop".into()));
    // Routes lead to it all the same.
    named.routes("shop", &["shop.test/*"]);
    assert_eq!(named.ask("shop.test/"), "shop");
    switch(json!({ "enabled": true, "previews_enabled": false }));
    assert_eq!((named.ask("shop.localhost/"), named.ask(&preview)), ("shop".into(), "404".into()));
}

#[test]
fn a_host_that_matches_nothing_is_told_what_would() {
    let empty = Node::start();
    let reply = empty.get("nobody", "/");
    assert_eq!(reply.status, 404);
    assert!(reply.text().contains("`nobody.localhost`") && reply.text().contains("sluice deploy"), "{}", reply.text());

    let named = Named::start(&["shop", "blog"], &["--default-worker", "later"]);
    named.routes("blog", &["blog.test/posts/*"]);
    named.domains("blog", &["blog.example"]);
    let reply = named.node.request("GET", "blog.test", "/about", &[], b"");
    assert_eq!((reply.status, reply.header("content-type")), (404, Some("text/plain; charset=utf-8")));
    for line in ["`blog.test`", "  shop.localhost\n", "  blog.localhost\n", "  blog.test/posts/*\n", "  blog.example\n"]
    {
        assert!(reply.text().contains(line), "{line:?} is not in: {}", reply.text());
    }
    // The default worker may be uploaded later.
    named.node.deploy_module("later", &test_guest("silent-drop-async"), Upload::default());
    assert!(named.node.request("GET", "blog.test", "/about", &[], b"").text().starts_with("error 1101"));
}

// --- Routes and custom domains ---

#[test]
fn the_most_specific_route_wins_and_routes_come_before_domains() {
    let workers = ["all", "ends", "sub", "subsub", "subdeep", "host", "scheme", "prefix", "exact", "domain", "origin"];
    let named = Named::start(&workers, &[]);
    for (worker, patterns) in [
        ("all", &["*/*"][..]),
        ("ends", &["*example.com/*"]),
        ("sub", &["*.example.com/*"]),
        ("subsub", &["*.a.example.com/*"]),
        ("subdeep", &["*.example.com/deep/*"]),
        ("host", &["www.example.com/*"]),
        ("scheme", &["https://www.example.com/*"]),
        ("prefix", &["www.example.com/a*"]),
        ("exact", &["www.example.com/a", "cat.test/cat.png"]),
    ] {
        assert_eq!(named.routes(worker, patterns)["success"], true, "{worker}");
    }
    named.domains("domain", &["www.example.com", "Bare.Example.org."]);
    named.domains("origin", &["x.example.com"]);
    let table = [
        ("other.test/", "all"),
        ("example.com/", "ends"),
        ("myexample.com/", "ends"),
        ("x.example.com/", "sub"),
        ("x.a.example.com/deep/", "subsub"),
        ("x.example.com/deep/", "subdeep"),
        ("www.example.com/", "scheme"),
        ("www.example.com/ab", "prefix"),
        ("WWW.Example.COM.:8443/a", "exact"),
        // Paths have a case (`RTE-5`), and the query is a part of what is matched (`RTE-4`).
        ("www.example.com/A", "scheme"),
        ("www.example.com/a?x=1", "prefix"),
        ("cat.test/cat.png", "exact"),
        ("cat.test/cat.png?x=1", "all"),
        // Routes first, then domains: the star that matches everything is a route.
        ("bare.example.org/any", "all"),
        // No pattern hides a worker from its owner.
        ("sub.localhost/deep/", "sub"),
    ];
    for (url, worker) in table {
        assert_eq!(named.ask(url), worker, "{url}");
    }
    named.routes("all", &[]);
    assert_eq!(named.ask("bare.example.org/any"), "domain");
    assert_eq!(named.ask("other.test/"), "404");
    // All of it is there after a restart.
    let Named { node, names } = named;
    let named = Named { node: node.kill_and_restart(), names };
    for (url, worker) in table.iter().filter(|(_, worker)| *worker != "all") {
        assert_eq!(named.ask(url), *worker, "{url}");
    }
}

#[test]
fn a_pattern_and_a_domain_have_one_owner() {
    let named = Named::start(&["first", "second"], &[]);
    let error = |reply: &Value| {
        let message = reply["errors"][0]["message"].as_str().unwrap_or_default().to_owned();
        (reply["errors"][0]["code"].as_i64().unwrap_or_default(), message)
    };
    assert_eq!(named.routes("first", &["a.test/*", "a.test/*"])["result"].as_array().map(Vec::len), Some(1));
    // Nothing of a call that is refused is done.
    let (code, message) = error(&named.routes("second", &["b.test/*", "A.test./*"]));
    assert_eq!(code, 10020, "{message}");
    assert!(message.contains("a.test/*") && message.contains("`first`"), "{message}");
    assert_eq!((named.ask("a.test/"), named.ask("b.test/")), ("first".into(), "404".into()));
    named.domains("first", &["shop.test"]);
    let (code, message) = error(&named.domains("second", &["shop.TEST"]));
    assert_eq!(code, 100_116, "{message}");
    assert!(message.contains("shop.test") && message.contains("`first`"), "{message}");
    // What is given up is free, also by deleting the worker.
    named.routes("first", &[]);
    assert_eq!(named.routes("second", &["a.test/*"])["success"], true);
    named.node.api("DELETE", "/scripts/second", &Value::Null);
    named.node.api("DELETE", "/scripts/first", &Value::Null);
    assert_eq!((named.ask("a.test/"), named.ask("shop.test/")), ("404".into(), "404".into()));
}

#[test]
fn all_that_is_wrong_with_routes_is_said_at_once() {
    let named = Named::start(&["shop"], &[]);
    named.routes("shop", &["good.test/*"]);
    let bad = ["a.test/x*y", "b.*.test/", "ftp://c.test/", "d.test/?q", "e.test:80/", "good.test/*", "", "f.test/**"];
    let reply = named.routes("shop", &bad);
    let errors = reply["errors"].as_array().expect("errors");
    let places: Vec<&str> = errors.iter().map(|error| error["source"]["pointer"].as_str().expect("a place")).collect();
    let expected: Vec<String> = [0, 1, 2, 3, 4, 6, 7].map(|index| format!("routes[{index}].pattern")).to_vec();
    assert_eq!(places, expected, "{reply:#}");
    assert_eq!(
        named.domains("shop", &["*.test", "a.test/x", "a.test:1", "a.test"])["errors"].as_array().unwrap().len(),
        3
    );
    assert_eq!(named.ask("good.test/"), "shop");
    assert_eq!(named.ask("a.test/"), "404");
}

#[test]
fn every_way_to_a_worker_has_the_same_deployment() {
    let node = Node::with(&["--version-header"]);
    let [live, at_zero, _] = teller(&node);
    node.api("PUT", "/scripts/teller/routes", &json!([{ "pattern": "teller.test/*" }]));
    node.api("PUT", "/scripts/teller/domains/records", &json!({ "origins": [{ "hostname": "teller.example" }] }));
    for host in ["teller.localhost", "teller.test", "teller.example"] {
        assert_eq!(chosen(&node.get(host, "/")), (live.id.clone(), "random".to_owned()));
        let reply = node.request("GET", host, "/", &[(OVERRIDES, &overriding(&at_zero))], b"");
        assert_eq!(chosen(&reply), (at_zero.id.clone(), "override".to_owned()));
    }
    // A rollback, or any deployment, leaves the ways in as they are (`RBK-11`).
    node.split("teller", &[(&at_zero, 100.0)]);
    assert_eq!(chosen(&node.get("teller.test", "/")).0, at_zero.id);
}

// --- Headers that choose ---

#[test]
fn an_override_beats_a_key_and_a_key_beats_a_draw() {
    let node = Node::with(&["--version-header"]);
    let [live, at_zero, uploaded] = teller(&node);
    let ask = |headers: &[(&str, &str)]| chosen(&node.request("GET", "teller", "/", headers, b""));
    let to_zero = overriding(&at_zero);
    assert_eq!(ask(&[(KEY, "k"), (OVERRIDES, &to_zero)]), (at_zero.id.clone(), "override".into()));
    assert_eq!(ask(&[(KEY, "k")]), (live.id.clone(), "key".into()));
    assert_eq!(ask(&[]), (live.id.clone(), "random".into()));
    // An empty key is none (HDR-6).
    for empty in ["", "   "] {
        assert_eq!(ask(&[(KEY, empty)]).1, "random", "{empty:?}");
    }
    // Names of headers have no case; several lines are one dictionary, in which the last of a name counts (`SEL-17`).
    let other = "other=\"x\", a=1, b=?1, c=(1 2);p";
    for lines in [
        vec![("Cloudflare-Workers-Version-Overrides", to_zero.as_str())],
        vec![(OVERRIDES, other), (OVERRIDES, &to_zero)],
        vec![(OVERRIDES, &to_zero), (OVERRIDES, other)],
        vec![(OVERRIDES, &overriding(&live)), (OVERRIDES, &to_zero)],
        vec![(OVERRIDES, &format!("{to_zero};why=\"smoke test\""))],
    ] {
        assert_eq!(ask(&lines), (at_zero.id.clone(), "override".into()), "{lines:?}");
    }
    // Whatever is wrong with it, the request is routed as if it were not there (`SEL-11`).
    for wrong in [
        overriding(&uploaded),
        format!("teller={}", at_zero.id),
        format!("teller=\"{}\"", &at_zero.id[..8]),
        format!("teller=(\"{}\")", at_zero.id),
        format!("other=\"{}\"", at_zero.id),
        format!("{to_zero},"),
        format!("{to_zero}, \"broken"),
        String::new(),
    ] {
        assert_eq!(ask(&[(OVERRIDES, &wrong), (KEY, "k")]), (live.id.clone(), "key".into()), "{wrong}");
    }
    // The guest sees what was sent (`SEL-18`).
    let seen = node.request("GET", "teller", "/headers", &[(OVERRIDES, &to_zero), (KEY, "k")], b"").text();
    assert!(seen.contains(&at_zero.id) && seen.contains(KEY), "{seen}");
}

#[test]
fn without_the_switch_no_answer_tells_its_version() {
    let node = Node::start();
    teller(&node);
    assert!(node.get("teller", "/").header("sluice-version").is_none());
}

/// An address of this machine that is not a loopback one, if it has one. Nothing is sent.
fn own_address() -> Option<SocketAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    socket.local_addr().ok().filter(|address| !address.ip().is_loopback() && !address.ip().is_unspecified())
}

#[test]
fn who_may_override_is_the_operators_to_say() {
    // Policy, listener, and whether an override counts: from loopback, from elsewhere, and from there with the token.
    for (policy, listen, counts) in [
        (Some("any"), "0.0.0.0:0", [true, true, true]),
        (Some("loopback"), "0.0.0.0:0", [true, false, false]),
        (Some("token"), "0.0.0.0:0", [false, false, true]),
        (Some("off"), "0.0.0.0:0", [false, false, false]),
        // Unless they say: any on a loopback listener, the token otherwise (E18).
        (None, "127.0.0.1:0", [true, true, true]),
        (None, "0.0.0.0:0", [false, false, true]),
    ] {
        let mut args = vec!["--version-header", "--listen", listen];
        args.extend(policy.iter().flat_map(|policy| ["--overrides", *policy]));
        let node = Node::with(&args);
        let [live, at_zero, _] = teller(&node);
        let token = std::fs::read_to_string(node.dir().join("override-token")).expect("the token");
        assert_ne!(token.trim(), node.token, "it must not open the API");
        let port = node.data.port();
        let loopback = SocketAddr::from(([127, 0, 0, 1], port));
        let elsewhere = match own_address() {
            Some(own) if listen.starts_with("0.0.0.0") => SocketAddr::new(own.ip(), port),
            _ => loopback,
        };
        let to_zero = overriding(&at_zero);
        let ask = |address, path: &str, token: Option<&str>| {
            let mut headers = vec![("host", "teller.localhost"), (OVERRIDES, to_zero.as_str())];
            headers.extend(token.map(|token| (TOKEN, token)));
            http::request(address, "GET", path, &headers, b"")
        };
        let is_loopback = elsewhere == loopback;
        for (address, token, counts) in [
            (loopback, None, counts[0]),
            (elsewhere, None, if is_loopback { counts[0] } else { counts[1] }),
            (elsewhere, Some(token.trim()), if is_loopback { counts[0] || counts[2] } else { counts[2] }),
            (elsewhere, Some("wrong"), if is_loopback { counts[0] } else { counts[1] }),
        ] {
            let expected = if counts { (&at_zero, "override") } else { (&live, "random") };
            let what = format!("{policy:?} on {listen}, {address}, {token:?}");
            assert_eq!(chosen(&ask(address, "/", token)), (expected.0.id.clone(), expected.1.into()), "{what}");
            // An override that does not count never reaches a guest, which might pass it on; nor does the token, ever.
            let seen = ask(address, "/headers", token).text();
            assert_eq!(seen.contains(OVERRIDES), counts, "{what}: {seen}");
            assert!(!seen.contains(TOKEN), "{what}: {seen}");
        }
    }
}

#[test]
fn keep_alive_connections_may_ask_for_another_worker_with_each_request() {
    let named = Named::start(&["shop", "blog"], &[]);
    let mut connection = Connection::open(named.node.data);
    for worker in ["shop", "blog", "nobody", "shop"] {
        let expected = if worker == "nobody" { "404" } else { worker };
        assert_eq!(named.who(&connection.get(worker, "/").reply()), expected);
    }
}

/// RTE-6: the catalog knew routes without a worker, and no call of the API could make one.
#[test]
fn a_route_without_a_worker_switches_less_specific_ones_off_until_it_is_forgotten() {
    let node = Node::start();
    node.deploy_module("shop", &example("hello"), Upload::default());
    node.api("PUT", "/scripts/shop/routes", &json!([{ "pattern": "shop.test/*" }]));
    let call = |method: &str, path: &str, body: &serde_json::Value| {
        let reply = node.zones(method, &format!("/any/workers/routes{path}"), body);
        (reply.status, reply.json())
    };
    assert_eq!(node.get("shop.test", "/off/a").status, 200);
    assert_eq!(call("POST", "", &json!({ "pattern": "shop.test/off/*" })).0, 200);
    assert_eq!(node.get("shop.test", "/off/a").status, 404);
    assert_eq!(node.get("shop.test", "/on").status, 200);
    // It has an owner now: nobody; and a worker's own pattern is not made ownerless.
    assert_eq!(node.api_error("PUT", "/scripts/shop/routes", &json!([{ "pattern": "shop.test/off/*" }])).0, 10020);
    assert_eq!(call("POST", "", &json!({ "pattern": "shop.test/*" })).1["errors"][0]["code"], 10020);
    assert_eq!(call("POST", "", &json!({ "pattern": "a*b" })).0, 400);
    assert_eq!(call("POST", "", &json!({ "pattern": "x.test/*", "script": "shop" })).0, 400);

    let node = node.kill_and_restart();
    assert_eq!(node.get("shop.test", "/off/a").status, 404);
    let call =
        |method: &str, path: &str| node.zones(method, &format!("/any/workers/routes{path}"), &json!(null)).status;
    assert_eq!(call("DELETE", "/shop.test%2Foff%2F*"), 200);
    assert_eq!(node.get("shop.test", "/off/a").status, 200);
    assert_eq!(call("DELETE", "/shop.test%2Foff%2F*"), 404);
}
