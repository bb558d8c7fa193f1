//! What tests ask of a worker's versions and deployments, beyond one call of the API; and who answered a request.

use serde_json::{Value, json};

use crate::harness::http::{self, Reply};
use crate::harness::node::{Upload, Version, split_body};
use crate::harness::{Node, example};

/// The header with a version key.
pub const KEY: &str = "Cloudflare-Workers-Version-Key";
/// The header with overrides.
pub const OVERRIDES: &str = "Cloudflare-Workers-Version-Overrides";

impl Node {
    /// A node whose answers say which version gave them: see [`Reply::version`].
    pub fn telling(extra_args: &[&str]) -> Self {
        Self::with(&[&["--version-header"], extra_args].concat())
    }

    /// A call of the control API with headers of its own beside `Host` and the token, and any bytes as its body.
    pub fn control_call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let (host, token) = (self.control.to_string(), format!("Bearer {}", self.token));
        let mut all = vec![("host", host.as_str())];
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            all.push(("authorization", &token));
        }
        all.extend_from_slice(headers);
        http::request(self.control, method, &format!("/client/v4/accounts/local/workers{path}"), &all, body)
    }

    /// A worker of `count` versions of `hello`, the first of them deployed: in the order of their upload.
    pub fn hello_versions(&self, worker: &str, count: usize) -> Vec<Version> {
        let module = example("hello");
        let upload = |number: usize| Upload::default().tagged(&format!("v{number}"));
        let mut versions = vec![self.deploy_module(worker, &module, upload(1))];
        versions.extend((2..=count).map(|number| self.upload_version(worker, &module, upload(number))));
        versions
    }

    /// The versions of a worker, newest first.
    pub fn versions(&self, worker: &str) -> Vec<Value> {
        list(&self.api("GET", &format!("/scripts/{worker}/versions"), &Value::Null)["items"])
    }

    /// The deployments of a worker that are listed, newest first.
    pub fn deployments(&self, worker: &str) -> Vec<Value> {
        let path = format!("/scripts/{worker}/deployments?per_page=100");
        list(&self.api("GET", &path, &Value::Null)["deployments"])
    }

    /// Code and message of a deployment that is refused.
    pub fn split_error(&self, worker: &str, shares: &[(&Version, f64)]) -> (i64, String) {
        self.api_error("POST", &format!("/scripts/{worker}/deployments"), &split_body(shares))
    }

    /// The same split with `?force=true`.
    pub fn split_by_force(&self, worker: &str, shares: &[(&Version, f64)]) -> Value {
        self.api("POST", &format!("/scripts/{worker}/deployments?force=true"), &split_body(shares))
    }

    /// Which version answers `GET /` of a worker, with these headers.
    pub fn answered_by(&self, worker: &str, headers: &[(&str, &str)]) -> String {
        let reply = self.request("GET", worker, "/", headers, b"");
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.version().to_owned()
    }

    /// Which version answers a request with this key.
    pub fn keyed(&self, worker: &str, key: &str) -> String {
        self.answered_by(worker, &[(KEY, key)])
    }

    /// Sets a secret and deploys it (`secret put`).
    pub fn put_secret(&self, worker: &str, name: &str, value: &str) -> Value {
        let body = json!({ "name": name, "text": value, "type": "secret_text" });
        self.api_raw("PUT", &format!("/scripts/{worker}/secrets"), &body)
    }
}

impl Reply {
    /// The id of the version that answered, as a node says that was started by [`Node::telling`].
    pub fn version(&self) -> &str {
        self.header("sluice-version").and_then(|told| told.split(';').next()).unwrap_or_default()
    }

    /// Why that version answered.
    pub fn reason(&self) -> &str {
        self.header("sluice-version").and_then(|told| told.rsplit("reason=").next()).unwrap_or_default()
    }
}

impl Version {
    /// The override header's value that names this version of a worker.
    pub fn overriding(&self, worker: &str) -> String {
        format!("{worker}=\"{}\"", self.id)
    }

    /// The first 8 digits of the id.
    pub fn short(&self) -> &str {
        &self.id[..8]
    }
}

/// A value that is a text.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// A value that is a list.
pub fn list(value: &Value) -> Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}")).clone()
}
