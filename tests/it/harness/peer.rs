//! A server that guests call: it answers every request alike, and keeps what it was sent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

/// A server on this machine, on a port of its own. It lives as long as the test process.
pub struct Peer {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// A server that sends these bytes for every request and closes the connection.
    pub fn sending(bytes: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = Vec::new();
                let mut byte = [0];
                // What begins like TLS has no such end.
                while !head.ends_with(b"\r\n\r\n")
                    && !head.starts_with(b"\x16")
                    && stream.read(&mut byte).is_ok_and(|count| count == 1)
                {
                    head.extend_from_slice(&byte);
                }
                kept.lock().expect("no panic").push(String::from_utf8_lossy(&head).into_owned());
                let _ = stream.write_all(bytes);
            }
        });
        Self { address, heads }
    }

    /// A server that answers `200` with this text.
    pub fn answering(text: &'static str) -> Self {
        let reply = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        Self::sending(reply.leak().as_bytes())
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }

    /// `http://127.0.0.1:<port>`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}
