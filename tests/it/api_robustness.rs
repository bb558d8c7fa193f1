//! Whatever is thrown at the control API: a clear envelope, nothing stored, no panic, and the node goes on.

use serde_json::{Value, json};

use crate::harness::http::{self, Reply};
use crate::harness::{Connection, Node, Upload, example};

const SCRIPTS: &str = "/client/v4/accounts/local/workers/scripts";
const NAMESPACES: &str = "/client/v4/accounts/local/storage/kv/namespaces";

/// A node with one worker, which must be all there is when a test ends.
struct Besieged {
    node: Node,
    version: String,
}

impl Besieged {
    fn start() -> Self {
        let node = Node::start();
        let version = node.deploy_module("hello", &example("hello"), Upload::default()).id;
        Self { node, version }
    }

    fn call(&self, method: &str, path: &str, more: &[(&str, &str)], body: &[u8]) -> Reply {
        let (host, token) = (self.node.control.to_string(), format!("Bearer {}", self.node.token));
        let defaults = [("host", host.as_str()), ("authorization", token.as_str())];
        let kept = defaults.iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
        let headers: Vec<(&str, &str)> = kept.chain(more).filter(|(_, value)| !value.is_empty()).copied().collect();
        http::request(self.node.control, method, path, &headers, body)
    }

    /// The head of a request with the token, to be sent by hand.
    fn head(&self, method: &str, path: &str, more: &str) -> String {
        let (host, token) = (self.node.control, &self.node.token);
        format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n{more}\r\n")
    }
}

impl Drop for Besieged {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let workers = self.node.api("GET", "/scripts", &Value::Null);
        assert_eq!(workers.as_array().map(Vec::len), Some(1), "{workers:#}");
        let versions = self.node.api("GET", "/scripts/hello/versions", &Value::Null);
        assert_eq!(versions["items"].as_array().map(Vec::len), Some(1), "{versions:#}");
        assert_eq!(versions["items"][0]["id"], self.version.as_str());
        assert_eq!(self.node.get("hello", "/").status, 200);
        assert!(!self.node.log().contains("panicked"), "{}", self.node.log());
        assert!(self.node.is_alive());
    }
}

/// The code of a refusal, whose form is checked.
fn refused(reply: &Reply) -> i64 {
    assert!((400..500).contains(&reply.status), "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"), "{reply:?}");
    let json = reply.json();
    assert_eq!((&json["success"], &json["result"]), (&json!(false), &Value::Null), "{json}");
    assert!(json["errors"][0]["message"].as_str().is_some_and(|message| !message.is_empty()), "{json}");
    json["errors"][0]["code"].as_i64().expect("a code")
}

/// (method, path) of all operations, by the node's own description; of workers and namespaces that are not there.
fn operations(besieged: &Besieged) -> Vec<(String, String)> {
    let description = besieged.call("GET", "/client/v4/openapi.json", &[("authorization", "")], b"").json();
    let paths = description["paths"].as_object().expect("paths").clone();
    let of = |(path, operations): (String, Value)| {
        let parts: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
        let path = parts.join("/").replace("accounts/x", "accounts/local");
        let methods: Vec<String> = operations.as_object().expect("operations").keys().cloned().collect();
        let methods = methods.into_iter().filter(|method| method != "parameters");
        methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
    };
    paths.into_iter().flat_map(of).collect()
}

#[test]
fn wrong_methods_and_unknown_paths_are_refused_in_json() {
    let besieged = Besieged::start();
    let operations = operations(&besieged);
    assert!(operations.len() > 60);
    for (_, path) in &operations {
        let offered = |method: &str| operations.iter().any(|(m, p)| m == method && p == path);
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            if offered(method) {
                continue;
            }
            let reply = besieged.call(method, path, &[], b"");
            assert_eq!((reply.status, refused(&reply)), (405, 7001), "{method} {path}");
            assert!(reply.header("allow").is_some(), "{method} {path}");
        }
    }
    for path in
        ["/", "/client", "/client/v4", "/client/v4/", "/dash", "/client/v4/accounts/local/workers/nothing", "//"]
    {
        assert_eq!(refused(&besieged.call("GET", path, &[], b"")), 7000, "{path}");
    }
    assert_eq!(refused(&besieged.call("GET", "/client/v4/accounts/other/workers/scripts", &[], b"")), 7003);
}

#[test]
fn no_operation_lets_a_stranger_or_a_web_page_in() {
    let besieged = Besieged::start();
    // Open by design: what wrangler asks to explain a refusal, metrics for this machine and how to show them, a tail's own URL.
    let open = ["/client/v4/accounts", "/client/v4/openapi.json", "/grafana.json", "/metrics", "/tails/x"];
    for (method, path) in operations(&besieged) {
        for token in ["", "Bearer ", "Bearer wrong", "Basic d3Jvbmc=", &besieged.node.token] {
            if open.contains(&path.as_str()) {
                continue;
            }
            let code = refused(&besieged.call(&method, &path, &[("authorization", token)], b"{}"));
            assert!([10000, 1000, 9109].contains(&code), "{method} {path} with `{token}`: {code}");
        }
        for (header, value, code) in [
            ("host", "evil.test", 95001),
            ("host", "hello.localhost", 95001),
            ("origin", "http://evil.test", 95002),
            ("origin", "null", 95002),
            ("sec-fetch-site", "cross-site", 95002),
        ] {
            assert_eq!(refused(&besieged.call(&method, &path, &[(header, value)], b"{}")), code, "{method} {path}");
        }
    }
}

#[test]
fn names_lead_nowhere_else() {
    let besieged = Besieged::start();
    for name in
        ["..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%2e%2e%2f", ".", "a%00b", "UPPER", "a%20b", "%ff", "-a", "é"]
    {
        for (method, below) in [("GET", "/versions"), ("GET", "/secrets"), ("POST", "/tails"), ("DELETE", "/tails/x")] {
            let reply = besieged.call(method, &format!("{SCRIPTS}/{name}{below}"), &[], b"{}");
            assert!([10016, 10004].contains(&refused(&reply)), "{method} {name}{below}: {reply:?}");
        }
        let reply = besieged.call("DELETE", &format!("{SCRIPTS}/{name}"), &[], b"");
        assert!([10016, 10004].contains(&refused(&reply)), "{name}: {reply:?}");
        let reply = besieged.call("GET", &format!("{NAMESPACES}/{name}/keys"), &[], b"");
        refused(&reply);
        refused(&besieged.call("GET", &format!("/tails/{name}"), &[], b""));
    }
    let (kind, body) = http::multipart(r#"{"main_module":"../../x.wasm"}"#, "../../x.wasm", b"\0asm");
    let reply = besieged.call("POST", &format!("{SCRIPTS}/hello/versions"), &[("content-type", &kind)], &body);
    assert_eq!(refused(&reply), 10021);
}

#[test]
fn a_body_that_is_cut_off_stores_nothing() {
    let besieged = Besieged::start();
    let (kind, body) = http::multipart(r#"{"main_module":"w.wasm"}"#, "w.wasm", &vec![0; 100_000]);
    let json = "content-type: application/json\r\n".to_owned();
    let form = format!("content-type: {kind}\r\n");
    let cases: [(&str, String, &str, &[u8]); 4] = [
        ("PUT", format!("{SCRIPTS}/new"), &form, &body),
        ("POST", format!("{SCRIPTS}/hello/versions"), &form, &body),
        ("POST", format!("{SCRIPTS}/hello/deployments"), &json, br#"{"strategy":"percentage","versions":[]}"#),
        ("PUT", format!("{SCRIPTS}/hello/secrets"), &json, br#"{"name":"A","text":"b","type":"secret_text"}"#),
    ];
    for (method, path, kind, body) in cases {
        for sent in [0, 1, body.len() / 2, body.len() * 9 / 10] {
            let head = besieged.head(method, &path, &format!("{kind}content-length: {}\r\n", body.len()));
            let mut connection = Connection::open(besieged.node.control);
            connection.send(head).send(&body[..sent]).finish_sending();
            let reply = connection.reply();
            // A connection that is half closed may also be given up without an answer.
            if reply.status != 0 {
                assert_eq!(refused(&reply), 95003, "{method} {path} after {sent} bytes");
            }
        }
    }
    let secrets = besieged.node.api("GET", "/scripts/hello/secrets", &Value::Null);
    assert_eq!(secrets, json!([]));
}

#[test]
fn a_hundred_megabytes_of_junk_are_refused_and_not_kept() {
    let besieged = Besieged::start();
    let junk = vec![b'['; 100_000_000];
    let before = besieged.node.memory_mib("VmHWM");
    let deployments = format!("{SCRIPTS}/hello/deployments");
    for (method, path, kind, codes) in [
        ("PUT", format!("{SCRIPTS}/new"), "multipart/form-data; boundary=x", &[10026, 10027][..]),
        ("POST", format!("{SCRIPTS}/hello/versions"), "application/json", &[10001, 10027]),
        ("POST", deployments.clone(), "application/json", &[10027]),
        ("PUT", format!("{SCRIPTS}/hello/secrets"), "application/json", &[10027]),
        ("POST", format!("{SCRIPTS}/hello/tails"), "text/plain", &[10027]),
        ("PATCH", format!("{SCRIPTS}/hello/script-settings"), "", &[10027]),
    ] {
        let reply = besieged.call(method, &path, &[("content-type", kind)], &junk);
        // The rest of a body that nobody wants is read for a while only.
        if reply.status != 0 {
            assert!(codes.contains(&refused(&reply)), "{method} {path}: {reply:?}");
        }
    }
    let grown = besieged.node.memory_mib("VmHWM") - before;
    assert!(grown < 64, "the node grew by {grown} MiB");

    for depth in [129, 10_000, 1_000_000] {
        let deep = [vec![b'['; depth], vec![b']'; depth]].concat();
        assert_eq!(refused(&besieged.call("POST", &deployments, &[], &deep)), 10026, "{depth}");
        let object = [r#"{"a":"#.repeat(depth).into_bytes(), b"1".to_vec(), vec![b'}'; depth]].concat();
        let tails = besieged.call("POST", &format!("{SCRIPTS}/hello/tails"), &[], &object);
        assert!([10026, 10027].contains(&refused(&tails)), "{depth}");
        let metadata = String::from_utf8(deep).unwrap();
        let (kind, body) = http::multipart(&metadata, "w.wasm", b"\0asm");
        let upload = besieged.call("PUT", &format!("{SCRIPTS}/new"), &[("content-type", &kind)], &body);
        assert!([10026, 10027].contains(&refused(&upload)), "{depth}: {upload:?}");
    }
}

#[test]
fn what_is_no_http_harms_no_one() {
    let besieged = Besieged::start();
    let long = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "a".repeat(300_000));
    let many = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
    ] {
        let mut connection = Connection::open(besieged.node.control);
        connection.send(bytes).finish_sending();
        let reply = http::parse(&connection.rest(), "GET");
        assert!(reply.status == 0 || (400..500).contains(&reply.status), "{reply:?}");
    }
}
