//! A multipart form as it comes over the wire, in small steps: bounded in size and in time, never in memory as a whole. Uploads of the
//! API are read by it, and the forms of the dashboard that carry files.

use std::fs::remove_file;
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
use crate::domain::limits::{MODULE_BYTES_MAX, UPLOAD_BYTES_MAX};
use crate::domain::module::ModuleDigest;

/// Bytes that may pass before a part begins or goes on: its headers, and what is in one chunk before them.
const GAP_BYTES_MAX: usize = 256 * 1024;
/// The most that the parser is given at once.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// A form that is being read.
pub struct Form {
    multipart: multer::Multipart<'static>,
    gap: Arc<AtomicUsize>,
}

/// A part of a form that is being read.
pub struct Part {
    field: multer::Field<'static>,
    gap: Arc<AtomicUsize>,
}

/// A module that came with a form, in a file of its own. The file is removed when this is dropped, unless it was adopted.
#[derive(Debug)]
pub struct ModuleFile {
    pub digest: ModuleDigest,
    pub size_bytes: u64,
    path: PathBuf,
}

impl Form {
    /// Begins to read a body.
    ///
    /// # Errors
    /// If it says that it is no form, or that it is too large.
    pub fn open(headers: &HeaderMap, body: Body) -> Outcome<Self> {
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
        let multipart = multer::Multipart::with_constraints(
            Paced::new(body, Arc::clone(&gap)),
            boundary,
            multer::Constraints::new().size_limit(limits),
        );
        Ok(Self { multipart, gap })
    }

    /// The next part.
    ///
    /// # Errors
    /// If nothing comes for too long, or what comes is no part.
    pub async fn next(&mut self) -> Outcome<Option<Part>> {
        let field = soon(self.multipart.next_field()).await?.map_err(malformed)?;
        self.gap.store(0, Ordering::Relaxed);
        Ok(field.map(|field| Part { field, gap: Arc::clone(&self.gap) }))
    }
}

impl Part {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.field.name()
    }

    /// The name of the file that it is; empty where a browser had none to send.
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        self.field.file_name()
    }

    /// Its type without parameters; empty if it says none.
    #[must_use]
    pub fn kind(&self) -> String {
        self.field.content_type().map(|kind| kind.essence_str().to_owned()).unwrap_or_default()
    }

    /// More of it.
    ///
    /// # Errors
    /// If nothing comes for too long, or the body breaks off or is too large.
    pub async fn chunk(&mut self) -> Outcome<Option<Bytes>> {
        let chunk = soon(self.field.chunk()).await?.map_err(malformed)?;
        self.gap.store(0, Ordering::Relaxed);
        Ok(chunk)
    }

    /// All of it. `what` names it in the message that refuses more than `bytes_max` bytes.
    ///
    /// # Errors
    /// As [`Self::chunk`], and if it is too long.
    pub async fn all(mut self, what: &str, bytes_max: u64) -> Outcome<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > bytes_max {
                return Err(Fault::new(Code::TooLarge, format!("{what} has more than {bytes_max} bytes")));
            }
        }
        Ok(bytes)
    }

    /// Writes `head`, which was read of it already, and the rest of it to a file in `temp_dir`. `name` names it in messages.
    ///
    /// # Errors
    /// As [`Self::chunk`], and if a module is not so large, or the disk fails.
    pub async fn store(mut self, head: Vec<u8>, name: &str, temp_dir: &Path) -> Outcome<ModuleFile> {
        let lost = |error| Fault::io("keep the upload", error);
        let path = temp_dir.join(format!("upload-{}", uuid::Uuid::new_v4().simple()));
        let mut out = File::create_new(&path).await.map_err(lost)?;
        // From here on the file goes whatever happens.
        let mut file = ModuleFile { digest: ModuleDigest::from_bytes([0; 32]), size_bytes: 0, path };
        let mut hash = Sha256::new();
        let mut next = Some(Bytes::from(head));
        while let Some(chunk) = next {
            file.size_bytes += chunk.len() as u64;
            if file.size_bytes > MODULE_BYTES_MAX {
                let message = format!(
                    "the module `{}` has more than {MODULE_BYTES_MAX} bytes, which is the limit; strip its debug information",
                    shown(name)
                );
                return Err(Fault::new(Code::TooLarge, message));
            }
            hash.update(&chunk);
            out.write_all(&chunk).await.map_err(lost)?;
            next = self.chunk().await?;
        }
        out.flush().await.map_err(lost)?;
        file.digest = ModuleDigest::from_bytes(hash.finalize().into());
        Ok(file)
    }
}

impl ModuleFile {
    /// Where its bytes are until it is adopted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ModuleFile {
    fn drop(&mut self) {
        // It is gone if it was adopted. If it cannot be removed, the store's sweep at the next start does it.
        let _ = remove_file(&self.path);
    }
}

/// A stranger's name in a message.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(120).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn too_large() -> Fault {
    Fault::new(Code::TooLarge, format!("the upload has more than {UPLOAD_BYTES_MAX} bytes, which is the limit"))
}

/// What is wrong with a form that cannot be read.
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
