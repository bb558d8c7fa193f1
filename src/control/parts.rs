//! The parts of an upload: multipart from the wire becomes files in the module store's temporary folder, hashed on the way.
//!
//! Modules are never in memory; what is no module is counted and dropped, but for the text of scripts, whose imports may
//! say which module is the program. A file that is not adopted is removed when its [`Module`] is dropped, however the upload ends.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::control::fault::{Code, Fault, Outcome};
use crate::control::request::{cut_off, soon};
use crate::domain::limits::{METADATA_BYTES_MAX, MODULE_BYTES_MAX, UPLOAD_BYTES_MAX, UPLOAD_PARTS_MAX};
use crate::domain::module::ModuleDigest;

/// Bytes that may pass before a part begins or goes on: its headers, and what is in one chunk before them.
const GAP_BYTES_MAX: usize = 256 * 1024;
/// The most that the parser is given at once.
const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a part that tell what it is.
const HEAD_BYTES: usize = 256;
/// Bytes of scripts that are kept to look for imports.
const SCRIPT_BYTES_MAX: usize = 1024 * 1024;

/// An upload that arrived whole.
#[derive(Debug)]
pub(super) struct Parts {
    /// The `metadata` part as it came.
    pub(super) metadata: Vec<u8>,
    /// Every part that may be the program.
    pub(super) modules: Vec<Module>,
    /// The scripts beside them: name and text.
    pub(super) scripts: Vec<(String, Vec<u8>)>,
}

/// A part that may be the program, in a file of its own.
#[derive(Debug)]
pub(super) struct Module {
    /// As the upload names it, without a leading `./`.
    pub(super) name: String,
    /// Whether the part's type says that it is Wasm.
    pub(super) declared: bool,
    pub(super) digest: ModuleDigest,
    file: TempFile,
}

impl Module {
    /// Where its bytes are until it is adopted.
    pub(super) fn path(&self) -> &Path {
        &self.file.0
    }
}

#[derive(Debug)]
struct TempFile(PathBuf);

impl Drop for TempFile {
    fn drop(&mut self) {
        // It is gone if it was adopted. If it cannot be removed, the store's sweep at the next start does it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Reads an upload to its end.
pub(super) async fn read(headers: &HeaderMap, body: Body, temp_dir: &Path) -> Outcome<Parts> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > UPLOAD_BYTES_MAX) {
        return Err(too_large());
    }
    let boundary = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| multer::parse_boundary(value.to_str().ok()?).ok())
        .ok_or_else(|| {
            let message =
                "an upload is `multipart/form-data` with a boundary: the part `metadata`, and one part for each module";
            Fault::new(Code::ContentType, message)
        })?;
    let gap = Arc::new(AtomicUsize::new(0));
    let limits = multer::SizeLimit::new().whole_stream(UPLOAD_BYTES_MAX);
    let mut multipart = multer::Multipart::with_constraints(
        Paced::new(body, Arc::clone(&gap)),
        boundary,
        multer::Constraints::new().size_limit(limits),
    );
    let mut reader = Reader { gap, temp_dir, metadata: None, modules: Vec::new(), scripts: Vec::new() };
    let mut count = 0;
    while let Some(part) = soon(multipart.next_field()).await?.map_err(malformed)? {
        count += 1;
        if count > UPLOAD_PARTS_MAX {
            let message = format!(
                "the upload has more than {UPLOAD_PARTS_MAX} parts; keep `main` in a folder of its own, so that the tool attaches less"
            );
            return Err(Fault::new(Code::TooLarge, message));
        }
        reader.part(part).await?;
    }
    let metadata = reader.metadata.ok_or_else(|| {
        Fault::new(
            Code::Invalid,
            "the upload has no part `metadata`: a JSON object that says which part is the program",
        )
    })?;
    Ok(Parts { metadata, modules: reader.modules, scripts: reader.scripts })
}

struct Reader<'a> {
    gap: Arc<AtomicUsize>,
    temp_dir: &'a Path,
    metadata: Option<Vec<u8>>,
    modules: Vec<Module>,
    scripts: Vec<(String, Vec<u8>)>,
}

impl Reader<'_> {
    async fn part(&mut self, mut part: multer::Field<'static>) -> Outcome<()> {
        self.gap.store(0, Ordering::Relaxed);
        let Some(name) = part.name().or_else(|| part.file_name()).map(|name| plain(name).to_owned()) else {
            return Err(Fault::new(Code::Body, "a part of the upload has no name"));
        };
        if name == "metadata" {
            return self.metadata_part(part).await;
        }
        if self
            .modules
            .iter()
            .map(|module| &module.name)
            .chain(self.scripts.iter().map(|(name, _)| name))
            .any(|n| *n == name)
        {
            return Err(Fault::new(Code::Invalid, format!("the upload has two parts named `{}`", shown(&name))));
        }
        let kind = part.content_type().map(|kind| kind.essence_str().to_owned()).unwrap_or_default();
        let mut head = Vec::new();
        while head.len() < HEAD_BYTES
            && let Some(chunk) = self.chunk(&mut part).await?
        {
            head.extend_from_slice(&chunk);
        }
        if is_module(&name, &kind, &head) {
            let module = self.module_part(name, &kind, &head, part).await?;
            self.modules.push(module);
            return Ok(());
        }
        let kept: usize = self.scripts.iter().map(|(_, text)| text.len()).sum();
        let is_script = kind.contains("javascript") || kind.contains("python") || kind.is_empty();
        let mut text = head;
        while let Some(chunk) = self.chunk(&mut part).await? {
            if is_script && kept + text.len() + chunk.len() <= SCRIPT_BYTES_MAX {
                text.extend_from_slice(&chunk);
            }
        }
        if is_script {
            self.scripts.push((name, text));
        }
        Ok(())
    }

    async fn metadata_part(&mut self, mut part: multer::Field<'static>) -> Outcome<()> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(&mut part).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > METADATA_BYTES_MAX {
                let message = format!("the `metadata` part has more than {METADATA_BYTES_MAX} bytes");
                return Err(Fault::new(Code::TooLarge, message));
            }
        }
        if self.metadata.replace(bytes).is_some() {
            return Err(Fault::new(Code::Invalid, "the upload has two parts named `metadata`"));
        }
        Ok(())
    }

    async fn module_part(
        &self,
        name: String,
        kind: &str,
        head: &[u8],
        mut part: multer::Field<'static>,
    ) -> Outcome<Module> {
        let lost = |error| Fault::io("keep the upload", error);
        let path = self.temp_dir.join(format!("upload-{}", uuid::Uuid::new_v4().simple()));
        let mut out = File::create_new(&path).await.map_err(lost)?;
        let file = TempFile(path);
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut next = Some(Bytes::copy_from_slice(head));
        while let Some(chunk) = next {
            size += chunk.len() as u64;
            if size > MODULE_BYTES_MAX {
                let message = format!(
                    "the module `{}` has more than {MODULE_BYTES_MAX} bytes, which is the limit; strip its debug information",
                    shown(&name)
                );
                return Err(Fault::new(Code::TooLarge, message));
            }
            hash.update(&chunk);
            out.write_all(&chunk).await.map_err(lost)?;
            next = self.chunk(&mut part).await?;
        }
        out.flush().await.map_err(lost)?;
        let digest = ModuleDigest::from_bytes(hash.finalize().into());
        Ok(Module { name, declared: kind == "application/wasm", digest, file })
    }

    async fn chunk(&self, part: &mut multer::Field<'static>) -> Outcome<Option<Bytes>> {
        let chunk = soon(part.chunk()).await?.map_err(malformed)?;
        self.gap.store(0, Ordering::Relaxed);
        Ok(chunk)
    }
}

/// A part's name without the `./` that bundlers put before it.
pub(super) fn plain(name: &str) -> &str {
    name.strip_prefix("./").unwrap_or(name)
}

/// A stranger's name in a message.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(120).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Whether a part may be the program: by its type, its name or its first bytes. Text is Wasm if it begins like it.
fn is_module(name: &str, kind: &str, head: &[u8]) -> bool {
    let named = [".wasm", ".wat"].iter().any(|end| name.ends_with(end));
    let typed = ["application/wasm", "application/wat", "text/wat"].contains(&kind);
    let text = head.trim_ascii_start();
    let is_text = text.starts_with(b"(module") || text.starts_with(b"(component");
    typed || named || head.starts_with(b"\0asm") || (is_text && !kind.contains("script"))
}

fn too_large() -> Fault {
    Fault::new(Code::TooLarge, format!("the upload has more than {UPLOAD_BYTES_MAX} bytes, which is the limit"))
}

pub(super) fn malformed(error: multer::Error) -> Fault {
    use multer::Error as E;
    match error {
        E::StreamSizeExceeded { .. } => too_large(),
        E::IncompleteStream | E::IncompleteFieldData { .. } => cut_off(error),
        E::StreamReadFailed(cause) if cause.is::<NoPart>() => {
            let message =
                "the body is not the multipart that its `Content-Type` announces: no part begins where one should";
            Fault::new(Code::Body, message)
        }
        E::StreamReadFailed(cause) => cut_off(cause),
        error => Fault::new(Code::Body, "the headers of a part cannot be read").caused_by(error),
    }
}

// === impl Paced ===

/// The body in small steps. The parser takes all that is ready before it looks for a boundary, and keeps what holds none: so it
/// is given one chunk at a time, and no more than a bound while it finds nothing.
pub(super) struct Paced {
    body: BodyDataStream,
    rest: Bytes,
    given: bool,
    gap: Arc<AtomicUsize>,
}

#[derive(Debug, thiserror::Error)]
#[error("no part begins within {GAP_BYTES_MAX} bytes")]
struct NoPart;

impl Paced {
    pub(super) fn new(body: Body, gap: Arc<AtomicUsize>) -> Self {
        Self { body: body.into_data_stream(), rest: Bytes::new(), given: false, gap }
    }
}

impl Stream for Paced {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.given) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        while self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_next(cx) {
                Poll::Ready(Some(Ok(data))) => self.rest = data,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        let size = self.rest.len().min(CHUNK_BYTES_MAX);
        if self.gap.fetch_add(size, Ordering::Relaxed) + size > GAP_BYTES_MAX {
            return Poll::Ready(Some(Err(Box::new(NoPart))));
        }
        self.given = true;
        Poll::Ready(Some(Ok(self.rest.split_to(size))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_known_by_type_name_or_first_bytes() {
        let check = |name: &str, kind: &str, head: &str| is_module(name, kind, head.as_bytes());
        assert!(check("a.wasm", "", ""));
        assert!(check("a.wat", "text/plain", ""));
        assert!(check("a", "application/wasm", ""));
        assert!(check("a", "application/octet-stream", "\0asm\x0d"));
        assert!(check("a", "text/plain", "  \n(component"));
        assert!(!check("a.js", "application/javascript+module", "(module.exports = 1)"));
        assert!(!check("a.txt", "text/plain", "hello"));
    }
}
