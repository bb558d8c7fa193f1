//! The dashboard as browsers and those who would misuse one meet it: who gets in, what is refused, what the pages say.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::http::{self, Reply};
use crate::harness::{Connection, Folder, Node, Upload, at_once, example, test_guest, until};
use crate::objects::{Ledger, again, ledger_upload};

/// A browser: it has a cookie, perhaps, and says where a request comes from.
struct Browser<'n> {
    node: &'n Node,
    cookie: Option<String>,
}

impl<'n> Browser<'n> {
    fn new(node: &'n Node) -> Self {
        Self { node, cookie: None }
    }

    fn signed_in(node: &'n Node) -> Self {
        let mut browser = Self::new(node);
        let reply = browser.submit("/sign-in", &[("token", &node.token)]);
        assert_eq!((reply.status, reply.header("location")), (303, Some("/")), "{}", reply.text());
        browser
    }

    fn host(&self) -> String {
        self.node.control.to_string()
    }

    fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let (host, cookie) = (self.host(), self.cookie.clone().unwrap_or_default());
        let mut all = vec![("host", host.as_str()), ("accept", "text/html,*/*;q=0.8")];
        if !cookie.is_empty() {
            all.push(("cookie", &cookie));
        }
        all.extend_from_slice(headers);
        let reply = http::request(self.node.control, method, path, &all, body.as_bytes());
        if let Some(set) = reply.header("set-cookie") {
            assert!(["HttpOnly", "SameSite=Strict", "Path=/"].iter().all(|part| set.contains(part)), "{set}");
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        reply
    }

    fn get(&mut self, path: &str) -> Reply {
        self.request("GET", path, &[("sec-fetch-site", "none")], "")
    }

    /// The text of a page that is there.
    fn page(&mut self, path: &str) -> String {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.text()
    }

    /// Sends a form as a page of this node does.
    fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let origin = format!("http://{}", self.host());
        self.submit_from(&[("origin", &origin), ("sec-fetch-site", "same-origin")], path, fields)
    }

    fn submit_from(&mut self, from: &[(&str, &str)], path: &str, fields: &[(&str, &str)]) -> Reply {
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        self.request("POST", path, &[from, &kind].concat(), &body.join("&"))
    }

    /// What the forms of this session carry.
    fn form_secret(&mut self) -> String {
        let page = self.page("/");
        page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a form").to_owned()
    }
}

/// A way in that works once, as `sluice dashboard` asks for it: the path and query of an address.
fn way_in(node: &Node, args: &str) -> String {
    let folder = Folder::new();
    let ran = node.run(&folder, &format!("dashboard --print{args}")).done();
    let address = ran.out.trim().strip_prefix(&format!("http://{}", node.control)).expect("this node's address");
    assert!(!ran.out.contains(&node.token));
    address.to_owned()
}

fn assert_guarded(reply: &Reply) {
    let header = |name: &str| reply.header(name).unwrap_or_else(|| panic!("no {name}: {reply:?}")).to_owned();
    let policy = header("content-security-policy");
    for part in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("referrer-policy"), "same-origin");
}

#[test]
fn one_signs_in_with_the_token_and_comes_to_the_page_that_was_asked_for() {
    let node = Node::start();
    node.deploy_module("shop", &example("hello"), Upload::default());
    let mut browser = Browser::new(&node);
    assert_eq!(browser.get("/").header("location"), Some("/sign-in"));
    let asked = browser.get("/workers/shop?page=2");
    assert_eq!((asked.status, asked.header("location")), (303, Some("/sign-in?next=%2Fworkers%2Fshop%3Fpage%3D2")));
    let form = browser.get("/sign-in?next=%2Fworkers%2Fshop");
    assert_guarded(&form);
    assert!(form.text().contains("name=\"next\" value=\"/workers/shop\"") && !form.text().contains(&node.token));

    let reply = browser.submit("/sign-in", &[("token", &node.token), ("next", "%2Fworkers%2Fshop")]);
    assert_eq!((reply.status, reply.header("location")), (303, Some("/workers/shop")));
    let page = browser.get("/workers/shop");
    assert_eq!(page.status, 200);
    assert_guarded(&page);
    assert!(page.text().contains("<h1>shop</h1>") && !page.text().contains(&node.token));
    assert_eq!(browser.get("/sign-in?next=%2Fworkers%2Fshop").header("location"), Some("/workers/shop"));

    // Nobody is led elsewhere.
    let mut other = Browser::new(&node);
    let reply = other.submit("/sign-in", &[("token", &node.token), ("next", "%2F%2Fevil.test")]);
    assert_eq!(reply.header("location"), Some("/"));

    let secret = browser.form_secret();
    let left = browser.submit("/sign-out", &[("csrf", &secret)]);
    assert_eq!((left.status, left.header("location")), (303, Some("/sign-in")));
    assert_eq!(browser.cookie.as_deref(), Some("sluice-session="));
    assert_eq!(browser.get("/").status, 303);
    assert_eq!(other.get("/").status, 200, "another session is another's");
}

#[test]
fn a_wrong_token_is_told_and_makes_one_wait() {
    let node = Node::start();
    let mut browser = Browser::new(&node);
    let began = std::time::Instant::now();
    for wrong in ["", "wrong", &node.token[1..]] {
        let reply = browser.submit("/sign-in", &[("token", wrong)]);
        assert_eq!((reply.status, browser.cookie.as_deref()), (401, None), "{wrong}");
        assert!(reply.text().contains("That is not this node’s token."));
        assert_guarded(&reply);
    }
    assert!(began.elapsed().as_secs() >= 3, "each wrong token waits a second");
    assert!(!node.log().contains(&node.token[1..]), "what was tried is in the log");
    for cookie in ["sluice-session=", "sluice-session=00", "sluice-session", &format!("sluice-session={}", node.token)]
    {
        browser.cookie = Some(cookie.to_owned());
        assert_eq!(browser.get("/").status, 303, "{cookie}");
    }
}

#[test]
fn hanging_up_does_not_make_guessing_faster() {
    let node = Node::start();
    let began = std::time::Instant::now();
    let guesses: Vec<Connection> = (0..4)
        .map(|_| {
            let mut guess = Connection::open(node.control);
            let head = "content-type: application/x-www-form-urlencoded\r\ncontent-length: 11";
            guess.send(format!("POST /sign-in HTTP/1.1\r\nhost: {}\r\n{head}\r\n\r\ntoken=wrong", node.control));
            guess
        })
        .collect();
    until("four guesses", || (node.log().matches("wrong token").count() == 4).then_some(()));
    drop(guesses);
    Browser::signed_in(&node);
    assert!(began.elapsed().as_millis() >= 1000, "the places were free again at once: {:?}", began.elapsed());
}

#[test]
fn the_command_opens_a_page_that_is_signed_in_once() {
    let node = Node::start();
    node.deploy_module("shop", &example("hello"), Upload::default());
    let mut browser = Browser::new(&node);
    let address = way_in(&node, "");
    assert_eq!(browser.get(&address).header("location"), Some("/"));
    assert!(browser.page("/").contains("Workers"));

    let mut late = Browser::new(&node);
    let reply = late.get(&address);
    assert_eq!((reply.status, late.cookie.as_deref()), (401, None));
    assert!(reply.text().contains("used before"), "{}", reply.text());
    assert_eq!(late.get(&way_in(&node, " shop")).header("location"), Some("/workers/shop"));
    assert_eq!(late.get("/workers/shop").status, 200);

    // Only who has the token makes such an address.
    let ask = |headers: &[(&str, &str)]| {
        let host = node.control.to_string();
        let reply =
            http::request(node.control, "POST", "/sign-in/codes", &[&[("host", host.as_str())], headers].concat(), b"");
        (reply.status, reply.json()["errors"][0]["code"].as_i64())
    };
    assert_eq!(ask(&[]), (401, Some(10000)));
    assert_eq!(ask(&[("authorization", "Bearer wrong")]), (401, Some(10000)));
    assert_eq!(ask(&[("cookie", browser.cookie.as_deref().unwrap_or_default())]), (401, Some(10000)));
}

#[test]
fn without_a_session_nothing_is_shown() {
    let node = Node::start();
    node.deploy_module("hidden-worker", &example("hello"), Upload::default());
    let mut browser = Browser::new(&node);
    for path in ["/", "/workers/hidden-worker", "/workers/hidden-worker/versions", "/workers/nothing"] {
        let reply = browser.get(path);
        assert_eq!((reply.status, reply.text().as_str()), (303, ""), "{path}");
    }
    for path in ["/live/workers", "/live/workers/hidden-worker"] {
        assert_eq!(browser.get(path).status, 401, "{path}");
    }
    let refused = browser.submit("/sign-out", &[]);
    assert_eq!(refused.status, 401);
    assert!(refused.text().contains("not signed in"));
    // A program is answered as the API answers; the token opens that, not the pages.
    let plain = http::request(node.control, "GET", "/", &[("host", browser.host().as_str())], b"");
    assert_eq!((plain.status, plain.json()["errors"][0]["code"].as_i64()), (401, Some(10000)));
    let bearer = format!("Bearer {}", node.token);
    assert_eq!(browser.request("GET", "/", &[("authorization", &bearer)], "").status, 303);
}

#[test]
fn a_foreign_page_can_do_nothing() {
    let node = Node::start();
    let mut browser = Browser::signed_in(&node);
    let (host, secret) = (browser.host(), browser.form_secret());
    let same = format!("http://{host}");
    for from in [
        &[("origin", "http://evil.test")][..],
        &[("origin", "null")],
        &[("origin", "http://shop.localhost:8787")],
        &[("origin", "http://127.0.0.1:1")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", same.as_str()), ("sec-fetch-site", "cross-site")],
    ] {
        let reply = browser.submit_from(from, "/sign-out", &[("csrf", &secret)]);
        assert_eq!(reply.status, 403, "{from:?}");
        // A browser is told as a page, a program in JSON.
        assert!(reply.text().contains("<h1>You come from another site</h1>"), "{}", reply.text());
        assert_guarded(&reply);
        assert_eq!(browser.request("GET", "/live/workers", from, "").status, 403, "{from:?}");
    }
    let rebound = http::request(
        node.control,
        "GET",
        "/",
        &[("host", "evil.test"), ("cookie", browser.cookie.as_deref().unwrap_or_default())],
        b"",
    );
    assert_eq!((rebound.status, rebound.json()["errors"][0]["code"].as_i64()), (403, Some(95001)));

    let other = Browser::signed_in(&node).form_secret();
    for wrong in [&[][..], &[("csrf", "")], &[("csrf", &secret[1..])], &[("csrf", &other)], &[("CSRF", &secret)]] {
        let reply = browser.submit("/sign-out", wrong);
        assert_eq!(reply.status, 403, "{wrong:?}");
        assert!(reply.text().contains("Nothing was changed"), "{}", reply.text());
    }
    assert_eq!(browser.get("/").status, 200, "still signed in");
    assert_eq!(browser.submit("/sign-out", &[("csrf", &secret)]).status, 303);
}

#[test]
fn a_session_does_not_come_to_a_worker_on_the_same_host() {
    let node = Node::with(&["--default-worker", "teller"]);
    node.deploy_module("teller", &example("version-teller"), Upload::default());
    let browser = Browser::signed_in(&node);
    let session = browser.cookie.as_deref().expect("a session");
    let cookies = format!("theme=dark; {session}; a=b");
    for host in ["127.0.0.1", "localhost", "teller.localhost"] {
        let reply = http::request(node.data, "GET", "/headers", &[("host", host), ("cookie", &cookies)], b"");
        let seen = reply.text();
        assert!(seen.contains("theme=dark") && seen.contains("a=b"), "{host}: {seen}");
        assert!(!seen.contains("sluice-session"), "{host}: {seen}");
    }
}

#[test]
fn what_people_wrote_is_text() {
    let node = Node::start();
    let hostile = "<script>alert('1')</script>\"><img src=x onerror=alert(2)>&amp;";
    let annotations = json!({ "workers/message": hostile, "workers/tag": "\"><svg/onload=alert(3)>" });
    let first = node.deploy_module("shop", &example("hello"), Upload::default().with("annotations", annotations));
    let versions = [json!({ "version_id": first.id, "percentage": 100 })];
    let body = json!({ "strategy": "percentage", "versions": versions, "annotations": { "workers/message": hostile } });
    let author = ("sluice-author", "<i>eve</i>");
    let path = "/scripts/shop/deployments";
    let headers = [("content-type", "application/json"), author];
    assert_eq!(node.api_request("POST", path, &headers, body.to_string().as_bytes()).status, 200);
    let mut browser = Browser::signed_in(&node);
    let version = format!("/workers/shop/versions/{}", first.id);
    for path in ["/", "/workers/shop", "/workers/shop/versions", "/workers/shop/deployments", &version] {
        let page = browser.page(path);
        for markup in ["<script>", "<img", "<svg/", "<i>"] {
            assert!(!page.contains(markup), "{path}: {markup}");
        }
        if path != "/" {
            assert!(page.contains("&lt;script&gt;alert('1')&lt;/script&gt;"), "{path}: {page}");
        }
        // No script or style stands in a page, and nothing is asked of another host.
        assert!(!page.contains("style=\"") && !page.contains("<style"), "{path}");
        for address in page.split("=\"http").skip(1) {
            assert!(address.starts_with("://shop.localhost:") || address.contains("-shop.localhost:"), "{address:.80}");
        }
    }
    let page = browser.get("/workers/%3Cscript%3Ealert(1)");
    assert_eq!(page.status, 404);
    assert!(page.text().contains("&lt;script&gt;") && !page.text().contains("<script>"), "{}", page.text());
}

#[test]
fn pages_and_the_api_live_side_by_side() {
    let node = Node::start();
    let mut browser = Browser::signed_in(&node);
    for path in ["/nothing", "/workers", "/workers/nobody", "/workers/UPPER", "/workers/a/b/c", "/assets/style-0.css"] {
        let reply = browser.get(path);
        assert_eq!(reply.status, 404, "{path}");
        assert!(!reply.text().contains("\"success\""), "{path}: {}", reply.text());
    }
    assert_guarded(&browser.get("/nothing"));
    for (path, status) in [("/sign-out", 405), ("/?page=x", 400), ("/sign-in/codes", 405)] {
        let reply = browser.get(path);
        assert_eq!(reply.status, status, "{path}");
        assert!(reply.text().contains("<h1>Refused</h1>"), "{path}: {}", reply.text());
        assert_guarded(&reply);
    }
    // Programs are answered as before, also where a browser looks at the API.
    let json = |reply: &Reply| (reply.status, reply.json()["errors"][0]["code"].as_i64());
    assert_eq!(json(&browser.get("/client/v4/nothing")), (401, Some(10000)));
    let host = node.control.to_string();
    let plain = http::request(node.control, "GET", "/nothing", &[("host", host.as_str())], b"");
    assert_eq!(json(&plain), (401, Some(10000)));
    assert!(browser.get("/metrics").text().contains("sluice_workers 0"));
    // A session is no token.
    assert_eq!(json(&browser.get("/client/v4/accounts/local/workers/scripts")), (401, Some(10000)));

    let page = browser.page("/");
    for (kind, part) in [("text/css", "href=\"/assets/style-"), ("text/javascript", "src=\"/assets/script-")] {
        let place = page.find(part).unwrap_or_else(|| panic!("no {part}"));
        let path = page[place..].split('"').nth(1).expect("an address");
        let asset = Browser::new(&node).get(path);
        assert_eq!(asset.status, 200);
        assert!(asset.header("content-type").is_some_and(|value| value.starts_with(kind)));
        assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"));
    }
}

/// The cells of the row of version `number` in the table of live traffic, without markup.
fn traffic_row(page: &str, number: usize) -> Vec<String> {
    let table = page.split("<table class=\"traffic\">").nth(1).and_then(|rest| rest.split("</table>").next());
    let rows: Vec<&str> = table.unwrap_or_default().split("<tr>").skip(2).collect();
    let row = rows.iter().find(|row| row.contains(&format!("#{number}</a>"))).copied().unwrap_or_default();
    let cells = row.split("<td").skip(1).map(|cell| {
        let cell = cell.split_once('>').map_or("", |(_, text)| text);
        let pieces = cell
            .split('<')
            .enumerate()
            .map(|(n, piece)| if n == 0 { piece } else { piece.split_once('>').map_or("", |(_, text)| text) });
        pieces.collect::<String>()
    });
    cells.collect()
}

#[test]
fn a_workers_page_tells_what_was_asked_of_it_and_streams_what_changes() {
    let node = Node::start();
    let good = node.deploy_module("shop", &example("hello"), Upload::default().tagged("good"));
    let bad = node.upload_version("shop", &test_guest("trap"), Upload::default().tagged("bad"));
    node.split("shop", &[(&bad, 25.0), (&good, 75.0)]);
    let mut browser = Browser::signed_in(&node);
    let quiet = browser.page("/workers/shop");
    assert_eq!(traffic_row(&quiet, 1)[..4], ["75 %", "–", "0", "–"], "{quiet}");

    let mut stream = Connection::open(node.control);
    let cookie = browser.cookie.clone().expect("a session");
    stream.send(format!("GET /live/workers/shop HTTP/1.1\r\nhost: {}\r\ncookie: {cookie}\r\n\r\n", browser.host()));
    let head = stream.head();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    let first = String::from_utf8(stream.chunk().expect("an event")).expect("text");
    assert!(first.contains("event: parts") && first.contains("id=\\\"traffic\\\""), "{first}");

    let keys: Vec<String> = (0..40).map(|n| format!("user-{n}")).collect();
    let failed = keys.iter().filter(|key| {
        node.request("GET", "shop", "/", &[("cloudflare-workers-version-key", key.as_str())], b"").status != 200
    });
    let failed = failed.count();
    assert!((1..40).contains(&failed), "{failed}");
    let percent = |part: usize| format!("{:.1} %", part as f64 * 100.0 / 40.0);
    let (row, page) = until("the traffic", || {
        let page = browser.page("/workers/shop");
        let row = traffic_row(&page, 1);
        (row[1] == percent(40 - failed)).then_some((row, page))
    });
    assert_eq!((row[0].as_str(), row[3].as_str()), ("75 %", "0 %"), "{row:?}");
    assert!(row[4].ends_with('s') && row[5].ends_with('s') && row[8].ends_with("iB"), "{row:?}");
    let failing = traffic_row(&page, 2);
    assert_eq!(
        (failing[0].as_str(), failing[1].as_str(), failing[3].as_str()),
        ("25 %", percent(failed).as_str(), "100 %")
    );
    assert!(page.contains("achieved of 40 requests since this deployment"), "{page}");
    // The stream says the same, without being asked.
    until("the news", || {
        let event = String::from_utf8(stream.chunk().expect("an event")).expect("text");
        event.contains("achieved of 40 requests").then_some(())
    });
    assert!(browser.page("/").contains("#2 25 %, #1 75 %"));

    // It ends with the session.
    let secret = browser.form_secret();
    browser.submit("/sign-out", &[("csrf", &secret)]);
    let rest: Vec<u8> = std::iter::from_fn(|| stream.chunk()).flatten().collect();
    let rest = String::from_utf8(rest).expect("text");
    assert!(rest.contains("event: over"), "{rest}");
}

#[test]
fn a_stream_does_not_keep_a_node_that_stops() {
    let mut node = Node::start();
    node.deploy_module("shop", &example("hello"), Upload::default());
    let cookie = Browser::signed_in(&node).cookie.expect("a session");
    let mut streams: Vec<Connection> = Vec::new();
    for path in ["/live/workers", "/live/workers/shop"] {
        let mut stream = Connection::open(node.control);
        stream.send(format!("GET {path} HTTP/1.1\r\nhost: {}\r\ncookie: {cookie}\r\n\r\n", node.control));
        assert_eq!(stream.head().status, 200);
        stream.chunk().expect("an event");
        streams.push(stream);
    }
    assert_eq!(node.terminate(), Some(0));
    assert!(!node.log().contains("were still running"), "{}", node.log());
    for stream in streams {
        let rest = String::from_utf8(stream.rest()).expect("text");
        assert!(rest.ends_with("0\r\n\r\n"), "it was cut off: {rest}");
    }
}

#[test]
fn a_deployment_and_a_hundred_versions_are_told_with_who_and_why() {
    let node = Node::start();
    let module = example("hello");
    let first = node.deploy_module("shop", &module, Upload::default().tagged("v1"));
    let mut last = first.clone();
    for number in 2..=100 {
        last = node.upload_version("shop", &module, Upload::default().tagged(&format!("v{number}")));
    }
    node.split("shop", &[(&last, 20.0), (&first, 80.0)]);
    node.cli(&["rollback", "1", "--name", "shop", "--message", "it was slow", "--yes"]);
    let mut browser = Browser::signed_in(&node);
    let versions = browser.page("/workers/shop/versions");
    for number in [1, 2, 50, 99, 100] {
        assert!(versions.contains(&format!("</svg>#{number}</a>")), "#{number}");
    }
    assert!(versions.contains("<h2>100 versions</h2>") && versions.contains(&last.id));
    assert!(
        versions.contains("live 100 %") && versions.contains("3 deployments") && versions.contains("1 deployment<")
    );
    let deployments = browser.page("/workers/shop/deployments");
    for told in [
        "Rolled back",
        "it was slow",
        "dev@localhost",
        "20 % of the traffic moved",
        "20 % → <strong>out",
        "80 % → <strong>100 %",
    ] {
        assert!(deployments.contains(told), "{told}: {deployments}");
    }
    let of_last = browser.page(&format!("/workers/shop/deployments?version={}", last.id));
    assert!(of_last.contains("1 deployment with") && !of_last.contains("it was slow"), "{of_last}");
    assert!(versions.contains(&format!("deployments?version={}", last.id)));
    assert!(browser.page(&format!("/workers/shop/versions/{}", last.id)).contains("<h1>Version #100</h1>"));
    assert_eq!(browser.get("/workers/shop/versions/x").status, 404);
    // A page takes milliseconds; how many is for a benchmark to say, and for a person to read here.
    for path in ["/", "/workers/shop", "/workers/shop/versions", "/workers/shop/deployments"] {
        let began = std::time::Instant::now();
        let bytes = browser.page(path).len();
        eprintln!("{path}: {bytes} bytes in {:?}", began.elapsed());
    }
}

/// As many objects as are counted one by one sleep, and then one more: the numbers of those in memory are exact beside both.
#[test]
fn objects_in_memory_are_told_exactly_beside_however_many_that_sleep() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::over(folder.path(), &[]);
    node.deploy_module("w", &test_guest("ledger"), ledger_upload());
    let two = node.upload_version("w", &test_guest("ledger"), again());
    assert_eq!(node.get("w", "/o/put?k=n&v=1").status, 200);
    let id = node.api("GET", "/scripts/w/objects/Ledger/o?by=name", &Value::Null)["id"].as_str().unwrap().to_owned();
    assert_eq!(node.terminate(), Some(0));
    multiply(folder.path(), &id, 10_000);

    let ledger = Ledger { node: Node::over(folder.path(), &[]) };
    let body = json!({ "strategy": "percentage", "versions": [{ "version_id": two.id, "percentage": 100 }] });
    // Asking who they are brings them to memory, and has them write nothing.
    let told = |names: &[&str]| {
        at_once(names.len(), |n| drop(ledger.tell(&format!("/{}/whoami", names[n]))));
        let plan = ledger.node.api("POST", "/scripts/w/deployments?dry_run=true", &body);
        let mut browser = Browser::signed_in(&ledger.node);
        at_once(names.len(), |n| drop(ledger.tell(&format!("/{}/whoami", names[n]))));
        (browser.page("/workers/w/objects"), plan["sluice"]["objects"].clone())
    };
    let numbers = |plan: &Value| ["objects", "moving", "live_moving"].map(|key| plan[key].as_u64().unwrap());
    let quiet = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let (page, plan) = told(&quiet);
    assert!(page.contains("10,008 objects, 8 in memory"), "{page}");
    assert!(numbers(&plan) == [10_008, 10_008, 8] && plan["is_estimate"].is_null(), "{plan}");

    ledger.tell("/one-more/put?k=n&v=1");
    let (page, plan) = told(&[&quiet[..], &["one-more"]].concat());
    assert!(page.contains("about ") && page.contains(" objects, 9 in memory"), "{page}");
    let [objects, moving, live] = numbers(&plan);
    assert_eq!((live, &plan["is_estimate"]), (9, &json!(true)));
    assert!((9_500..10_500).contains(&objects) && moving == objects, "{plan}");
    assert_eq!(plan["sample"].as_array().map(Vec::len), Some(20), "{plan}");
}

/// Copies what is stored of an object, but for its values, to as many objects, with ids that are spread evenly as those of names are.
fn multiply(folder: &Path, id: &str, objects: u64) {
    let id = hex::decode(id).unwrap();
    let mut database = rusqlite::Connection::open(folder.join("sluice.db")).unwrap();
    let writing = database.transaction().unwrap();
    let (key, value, revision): (Vec<u8>, Vec<u8>, i64) = writing
        .query_row("SELECT key, value, revision FROM kv WHERE substr(key, -32) = ?1", [&id], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    for n in 1..objects {
        let mut copy = key.clone();
        let at = copy.len() - id.len();
        copy[at..at + 8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let row = rusqlite::params![copy, value, revision];
        writing.execute("INSERT INTO kv (key, value, revision) VALUES (?1, ?2, ?3)", row).unwrap();
    }
    writing.commit().unwrap();
}
