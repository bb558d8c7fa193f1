//! The parts of an upload: a form from the wire becomes files in the module store's temporary folder, hashed on the way.
//!
//! Modules are never in memory; what is no module is counted and dropped, but for the text of scripts, whose imports may
//! say which module is the program. A file that is not adopted is removed when its [`Module`] is dropped, however the upload ends.

use std::path::Path;

use axum::body::Body;
use http::HeaderMap;

use crate::control::fault::{Code, Fault, Outcome};
use crate::control::form::{Form, ModuleFile, Part, shown};
use crate::domain::limits::{METADATA_BYTES_MAX, UPLOAD_PARTS_MAX};
use crate::domain::module::ModuleDigest;

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
    file: ModuleFile,
}

impl Module {
    /// Where its bytes are until it is adopted.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// SHA-256 of them.
    pub(super) fn digest(&self) -> ModuleDigest {
        self.file.digest
    }
}

/// Reads an upload to its end.
pub(super) async fn read(headers: &HeaderMap, body: Body, temp_dir: &Path) -> Outcome<Parts> {
    let mut form = Form::open(headers, body)?;
    let mut reader = Reader { temp_dir, metadata: None, modules: Vec::new(), scripts: Vec::new() };
    let mut count = 0;
    while let Some(part) = form.next().await? {
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
    temp_dir: &'a Path,
    metadata: Option<Vec<u8>>,
    modules: Vec<Module>,
    scripts: Vec<(String, Vec<u8>)>,
}

impl Reader<'_> {
    async fn part(&mut self, mut part: Part) -> Outcome<()> {
        let Some(name) = part.name().or_else(|| part.file_name()).map(|name| plain(name).to_owned()) else {
            return Err(Fault::new(Code::Body, "a part of the upload has no name"));
        };
        if name == "metadata" {
            let bytes = part.all("the `metadata` part", METADATA_BYTES_MAX).await?;
            if self.metadata.replace(bytes).is_some() {
                return Err(Fault::new(Code::Invalid, "the upload has two parts named `metadata`"));
            }
            return Ok(());
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
        let kind = part.kind();
        let mut head = Vec::new();
        while head.len() < HEAD_BYTES
            && let Some(chunk) = part.chunk().await?
        {
            head.extend_from_slice(&chunk);
        }
        if is_module(&name, &kind, &head) {
            let file = part.store(head, &name, self.temp_dir).await?;
            self.modules.push(Module { name, declared: kind == "application/wasm", file });
            return Ok(());
        }
        let kept: usize = self.scripts.iter().map(|(_, text)| text.len()).sum();
        let is_script = kind.contains("javascript") || kind.contains("python") || kind.is_empty();
        let mut text = head;
        while let Some(chunk) = part.chunk().await? {
            if is_script && kept + text.len() + chunk.len() <= SCRIPT_BYTES_MAX {
                text.extend_from_slice(&chunk);
            }
        }
        if is_script {
            self.scripts.push((name, text));
        }
        Ok(())
    }
}

/// A part's name without the `./` that bundlers put before it.
pub(super) fn plain(name: &str) -> &str {
    name.strip_prefix("./").unwrap_or(name)
}

/// Whether a part may be the program: by its type, its name or its first bytes. Text is Wasm if it begins like it.
fn is_module(name: &str, kind: &str, head: &[u8]) -> bool {
    let named = [".wasm", ".wat"].iter().any(|end| name.ends_with(end));
    let typed = ["application/wasm", "application/wat", "text/wat"].contains(&kind);
    let text = head.trim_ascii_start();
    let is_text = text.starts_with(b"(module") || text.starts_with(b"(component");
    typed || named || head.starts_with(b"\0asm") || (is_text && !kind.contains("script"))
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
