//! One upload on its way to a node: the metadata and the module, streamed from disk with a progress bar. The form is what
//! wrangler sends (`WRANGLER_API` 1.3): `metadata` without a type and a file name, the module with both.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use indicatif::ProgressBar;
use reqwest::multipart::{Form, Part};
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt as _;

use super::fault::failed;
use super::render;
use crate::domain::limits::MODULE_BYTES_MAX;

/// Read and sent at once: large enough to be cheap, small enough for the bar to move.
const CHUNK_BYTES: usize = 64 * 1024;

/// A module and what goes with it.
#[derive(Debug)]
pub struct Upload {
    pub metadata: Map<String, Value>,
    pub module: PathBuf,
    pub size_bytes: u64,
    bar: ProgressBar,
}

impl Upload {
    /// Checks that the module can be read and is not too large to be worth sending.
    pub fn prepare(metadata: Map<String, Value>, module: PathBuf) -> anyhow::Result<Self> {
        let size_bytes =
            std::fs::metadata(&module).with_context(|| format!("cannot read `{}`", module.display()))?.len();
        if size_bytes > MODULE_BYTES_MAX {
            let (size, max) = (render::size(size_bytes), render::size(MODULE_BYTES_MAX));
            return Err(failed(format!("`{}` has {size}; a module may have {max}", module.display()))
                .hint("build it with `--release`, `opt-level = \"s\"` and `strip = true`")
                .into());
        }
        Ok(Self { metadata, module, size_bytes, bar: render::bar(size_bytes, "uploading") })
    }

    /// The body. The module is read while it is sent.
    pub fn form(&self) -> anyhow::Result<Form> {
        let name = part_name(&self.module);
        let body = reqwest::Body::wrap_stream(chunks(self.module.clone(), self.bar.clone()));
        let module =
            Part::stream_with_length(body, self.size_bytes).file_name(name.clone()).mime_str("application/wasm")?;
        let metadata = Part::text(serde_json::to_string(&self.metadata)?);
        Ok(Form::new().part("metadata", metadata).part(name, module))
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The name of the module's part: `main_module` of the metadata.
pub fn part_name(module: &Path) -> String {
    module.file_name().map_or_else(|| "worker.wasm".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn chunks(path: PathBuf, bar: ProgressBar) -> impl futures_util::Stream<Item = std::io::Result<Vec<u8>>> + use<> {
    futures_util::stream::try_unfold(None, move |file: Option<tokio::fs::File>| {
        let (path, bar) = (path.clone(), bar.clone());
        async move {
            let mut file = match file {
                Some(file) => file,
                None => tokio::fs::File::open(&path).await?,
            };
            let mut chunk = vec![0; CHUNK_BYTES];
            let count = file.read(&mut chunk).await?;
            if count == 0 {
                bar.set_message("the node compiles and tries it");
                return Ok(None);
            }
            chunk.truncate(count);
            bar.inc(count as u64);
            Ok(Some((chunk, Some(file))))
        }
    })
}
