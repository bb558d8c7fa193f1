//! One HTTP/1.1 connection, held by hand: what is sent when, and what has come so far, are the test's to say.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::http::{self, Reply};

/// A connection to a listener.
pub struct Connection {
    stream: TcpStream,
    /// Read, and not yet asked for.
    read: Vec<u8>,
    /// Trailers of the last body that was read to its end.
    pub trailers: Vec<String>,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the listener accepts");
        stream.set_read_timeout(Some(Duration::from_secs(90))).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, read: Vec::new(), trailers: Vec::new() }
    }

    /// The same connection, to be used by another thread for the other direction.
    pub fn other_half(&self) -> Self {
        let stream = self.stream.try_clone().expect("a second handle");
        Self { stream, read: Vec::new(), trailers: Vec::new() }
    }

    /// Sends bytes. A server that has hung up is noticed when something is read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    /// Sends a request without a body.
    pub fn get(&mut self, host: &str, path: &str) -> &mut Self {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: {host}.localhost\r\n\r\n"))
    }

    /// Sends a chunk of a chunked body.
    pub fn send_chunk(&mut self, bytes: &[u8]) -> &mut Self {
        let framed = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        self.send(framed)
    }

    /// Reads the head of a reply; its body is still to come. Status 0 if the connection ends instead.
    pub fn head(&mut self) -> Reply {
        let Some(end) = self.read_until(b"\r\n\r\n") else { return http::parse(b"", "GET") };
        let head: Vec<u8> = self.read.drain(..end).collect();
        http::parse_head(&head)
    }

    /// Reads one chunk of a chunked body, as the server framed it. None at its end; panics if it breaks off.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = self.read_until(b"\r\n").expect("a chunk's size");
        let size = std::str::from_utf8(&self.read[..end - 2]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let size = size.expect("a size in hexadecimal");
        self.read.drain(..end);
        if size == 0 {
            self.trailers.clear();
            loop {
                let end = self.read_until(b"\r\n").expect("the end of the trailers");
                let line: Vec<u8> = self.read.drain(..end).collect();
                if line == b"\r\n" {
                    return None;
                }
                self.trailers.push(String::from_utf8_lossy(&line[..end - 2]).into_owned());
            }
        }
        while self.read.len() < size + 2 {
            assert!(self.fill(), "the body breaks off");
        }
        let chunk = self.read.drain(..size).collect();
        self.read.drain(..2);
        Some(chunk)
    }

    /// Reads a whole reply, and leaves what comes after it.
    pub fn reply(&mut self) -> Reply {
        let mut reply = self.head();
        if reply.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                reply.body.extend(chunk);
            }
        } else if let Some(length) = reply.header("content-length").and_then(|text| text.parse::<usize>().ok()) {
            while self.read.len() < length && self.fill() {}
            let length = length.min(self.read.len());
            reply.body = self.read.drain(..length).collect();
        }
        reply
    }

    /// Waits until the server has closed the connection; returns what it sent before.
    pub fn rest(mut self) -> Vec<u8> {
        while self.fill() {}
        self.read
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) -> &mut Self {
        let _ = self.stream.shutdown(Shutdown::Write);
        self
    }

    /// Reads until `mark`; returns where it ends.
    fn read_until(&mut self, mark: &[u8]) -> Option<usize> {
        loop {
            if let Some(start) = self.read.windows(mark.len()).position(|window| window == mark) {
                return Some(start + mark.len());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Reads what has come. False at the end of the connection; panics if nothing comes.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}"),
        }
    }
}
