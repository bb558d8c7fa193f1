//! A browser without JavaScript that has signed in to the dashboard: it reads pages and sends the forms that are on them.

use crate::harness::Node;
use crate::harness::http::{self, Reply};

/// One that has signed in.
pub struct Browser<'n> {
    node: &'n Node,
    cookie: String,
    form_secret: String,
}

impl<'n> Browser<'n> {
    /// Signs in with the node's token.
    pub fn signed_in(node: &'n Node) -> Self {
        let mut browser = Self { node, cookie: String::new(), form_secret: String::new() };
        let reply = browser.post("/sign-in", &[("token", &node.token)]);
        let cookie = reply.header("set-cookie").and_then(|set| set.split(';').next()).expect("a cookie");
        browser.cookie = cookie.to_owned();
        let page = browser.page("/");
        let secret = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        browser.form_secret = secret.expect("a form").to_owned();
        browser
    }

    /// Looks at a page.
    pub fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], b"")
    }

    /// The text of a page that is there.
    pub fn page(&self, path: &str) -> String {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.text()
    }

    /// Sends a form of this session.
    pub fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        self.post(path, &[&[("csrf", self.form_secret.as_str())], fields].concat())
    }

    /// Sends a form that leads to another page, and returns where it is.
    pub fn submit_and_follow(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let reply = self.submit(path, fields);
        assert_eq!(reply.status, 303, "{path}: {}", reply.text());
        reply.header("location").expect("a place").to_owned()
    }

    /// Sends these fields and no others.
    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let encoded = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        let body: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        self.request("POST", path, &kind, body.join("&").as_bytes())
    }

    /// Sends a form of this session with files: the name of each field, what the file is called, and its bytes. One without a name is a
    /// field where none was chosen.
    pub fn submit_files(&self, path: &str, fields: &[(&str, &str)], files: &[(&str, &str, &[u8])]) -> Reply {
        let (kind, body) = form_with_files(&[&[("csrf", self.form_secret.as_str())], fields].concat(), files);
        self.request("POST", path, &[("content-type", kind)], &body)
    }

    /// Any request of this session, as a page of this node makes it.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let (host, origin) = (self.node.control.to_string(), format!("http://{}", self.node.control));
        let ours = [
            ("host", host.as_str()),
            ("origin", &origin),
            ("sec-fetch-site", "same-origin"),
            ("accept", "text/html"),
            ("cookie", &self.cookie),
        ];
        http::request(self.node.control, method, path, &[&ours, headers].concat(), body)
    }

    /// The session's cookie, for who reads a stream.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }
}

/// A form with files as a browser writes it, and its type.
pub fn form_with_files(fields: &[(&str, &str)], files: &[(&str, &str, &[u8])]) -> (&'static str, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend(part.into_bytes());
    }
    for (name, file_name, bytes) in files {
        let head = format!(
            "--xyz\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        body.extend(head.into_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--xyz--\r\n");
    ("multipart/form-data; boundary=xyz", body)
}

/// The fields of the form on a page that has this `action` and a button of this value, as a browser would send them when that
/// button is pressed; the secret is left out.
pub fn fields_of(page: &str, action: &str, button: &str) -> Vec<(String, String)> {
    let forms = page.split("<form").skip(1).map(|rest| rest.split("</form>").next().unwrap_or_default());
    let form = forms
        .filter(|form| form.split('>').next().unwrap_or_default().contains(&format!("action=\"{action}\"")))
        .find(|form| form.contains(&format!("value=\"{button}\"")))
        .unwrap_or_else(|| panic!("no form for {action} with {button}: {page}"));
    let attribute = |tag: &str, name: &str| {
        let value = tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?;
        Some(value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
    };
    let inputs = form.split("<input").skip(1).map(|rest| rest.split('>').next().unwrap_or_default());
    let named = inputs.filter(|tag| !tag.contains("type=\"radio\"") || tag.contains(" checked"));
    let mut fields: Vec<(String, String)> = named
        .filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default())))
        .filter(|(name, _)| name != "csrf")
        .collect();
    fields.push(("do".to_owned(), button.to_owned()));
    fields
}

/// Fields as [`Browser::submit`] takes them.
pub fn borrowed(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}
