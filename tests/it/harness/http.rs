//! HTTP as a client speaks it: one request, one connection, the reply as it came.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than any limit that a test waits for.
const WAIT_MAX: Duration = Duration::from_secs(90);

/// A reply, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body came to its end as its framing says.
    pub whole: bool,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Sends one request and reads the reply. A connection that ends before a head gives status 0.
pub fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    try_request(address, method, path, headers, body).expect("the listener accepts")
}

/// The same, of a server that may not be there any more.
pub fn try_request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Reply> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    try_raw(address, &bytes)
}

/// Sends bytes as they are and reads one reply.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> Reply {
    try_raw(address, bytes).expect("the listener accepts")
}

fn try_raw(address: SocketAddr, bytes: &[u8]) -> Option<Reply> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(WAIT_MAX)).expect("a timeout");
    let mut sending = stream.try_clone().expect("a second handle");
    let mut read = Vec::new();
    std::thread::scope(|scope| {
        // Beside the reading: a server that sends back what it gets would else wait for us as we wait for it. One that refuses
        // early may close while we write; what it answered still counts.
        scope.spawn(move || drop(sending.write_all(bytes)));
        let _ = stream.read_to_end(&mut read);
        // Whoever still writes to a server that has answered gets an error.
        let _ = stream.shutdown(Shutdown::Both);
    });
    let method = if bytes.starts_with(b"HEAD ") { "HEAD" } else { "GET" };
    Some(parse(&read, method))
}

/// Reads a reply from what came until the connection ended.
pub fn parse(read: &[u8], method: &str) -> Reply {
    let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Reply { status: 0, headers: Vec::new(), body: read.to_vec(), whole: false };
    };
    let Reply { status, headers, .. } = parse_head(&read[..end]);
    let rest = &read[end + 4..];
    if status == 100 {
        return parse(rest, method);
    }
    let find = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let (body, whole) = if method == "HEAD" {
        (rest.to_vec(), rest.is_empty())
    } else if find("transfer-encoding") == Some("chunked") {
        unchunk(rest)
    } else if let Some(length) = find("content-length").and_then(|length| length.parse::<usize>().ok()) {
        (rest.to_vec(), rest.len() == length)
    } else {
        (rest.to_vec(), true)
    };
    Reply { status, headers, body, whole }
}

/// Reads the head of a reply alone.
pub fn parse_head(head: &[u8]) -> Reply {
    let head = String::from_utf8_lossy(head).into_owned();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).unwrap_or(0);
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Reply { status, headers, body: Vec::new(), whole: false }
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else { return (body, false) };
        let size = std::str::from_utf8(&rest[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(size) = size else { return (body, false) };
        rest = &rest[end + 2..];
        if size == 0 {
            return (body, true);
        }
        if rest.len() < size + 2 {
            body.extend_from_slice(rest);
            return (body, false);
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

/// A multipart body as wrangler makes it: (content type, body).
pub fn multipart(metadata: &str, name: &str, module: &[u8]) -> (String, Vec<u8>) {
    let kind = if name.ends_with(".wat") { "text/plain" } else { "application/wasm" };
    multipart_of(metadata, &[(name, kind, module)])
}

/// A multipart body of metadata and parts, each with its name and its type: (content type, body).
pub fn multipart_of(metadata: &str, parts: &[(&str, &str, &[u8])]) -> (String, Vec<u8>) {
    const BOUNDARY: &str = "----formdata-test-0123456789";
    let mut body =
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{metadata}\r\n").into_bytes();
    for (name, kind, bytes) in parts {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}
