//! Finds the module that `main` stands for: a `.wasm` or `.wat` file itself, or the one beside the JavaScript shim by which
//! the same project goes through wrangler (recipes R1 to R5, `WRANGLER_API` 5). Reads names and the shim, never the module.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::Project;
use crate::cli::fault::failed;

/// Folders that wrangler would sweep in with the shim's; nothing in them is meant.
const SKIPPED: [&str; 4] = ["node_modules", "target", ".wrangler", ".sluice"];
/// How deep below the shim's folder a module is looked for.
const DEPTH_MAX: usize = 8;

/// The file to upload.
pub fn locate(project: &Project) -> anyhow::Result<PathBuf> {
    let Some(main) = &project.config.main else {
        return Err(failed("the file names no `main`")
            .hint("set `main` to the component that your build makes, for example `main = \"dist/worker.wasm\"`")
            .into());
    };
    let path = project.root().join(main);
    if !path.is_file() {
        let hint = if project.config.build.command.is_some() {
            "the `[build]` command ran, but did not make it"
        } else {
            "build it first, or let `[build] command` do so"
        };
        return Err(failed(format!("`main`: there is no file `{}`", path.display())).hint(hint).into());
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("wasm" | "wat") => Ok(path),
        _ => beside_shim(&path, project.config.unsafe_metadata.get("main_module").and_then(Value::as_str)),
    }
}

fn beside_shim(shim: &Path, main_module: Option<&str>) -> anyhow::Result<PathBuf> {
    let folder = shim.parent().unwrap_or(Path::new("."));
    let is_module = |path: &Path| path.extension().is_some_and(|extension| extension == "wasm") && path.is_file();
    if let Some(named) = main_module.map(|name| folder.join(name)).filter(|path| is_module(path)) {
        return Ok(named);
    }
    let text = std::fs::read(shim).with_context(|| format!("cannot read `{}`", shim.display()))?;
    if let Some(imported) = imported(&String::from_utf8_lossy(&text)).map(|name| folder.join(name))
        && is_module(&imported)
    {
        return Ok(imported);
    }
    let mut found = Vec::new();
    sweep(folder, DEPTH_MAX, &mut found);
    found.sort();
    let conventional = |path: &PathBuf| path.file_name().is_some_and(|name| name == "worker.wasm");
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(failed(format!("`main` is `{}`, and there is no .wasm file beside it", shim.display()))
            .hint("name the component itself: `main = \"dist/worker.wasm\"`")
            .into()),
        several => match several.iter().filter(|path| conventional(path)).collect::<Vec<_>>().as_slice() {
            [one] => Ok((*one).clone()),
            _ => {
                let list: Vec<_> = several.iter().map(|path| format!("`{}`", path.display())).collect();
                Err(failed(format!("`main` is `{}`, and beside it are {}", shim.display(), list.join(", ")))
                    .hint("say which one is the program: `[unsafe.metadata] main_module = \"worker.wasm\"`")
                    .into())
            }
        },
    }
}

/// The first `….wasm` in quotation marks: what an `import` of the shim names.
fn imported(shim: &str) -> Option<&str> {
    let end = shim.find(".wasm")? + ".wasm".len();
    let start = shim[..end].rfind(['"', '\'', '`'])? + 1;
    let closes = shim[end..].starts_with(['"', '\'', '`', '?']);
    closes.then(|| shim[start..end].trim_start_matches("./"))
}

fn sweep(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 && !SKIPPED.iter().any(|skipped| name == *skipped) {
            sweep(&path, depth - 1, found);
        } else if path.extension().is_some_and(|extension| extension == "wasm") && path.is_file() {
            found.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_of_the_shim_is_read() {
        for shim in [
            "import mod from \"./worker.wasm\";\nexport default { mod };",
            "import './worker.wasm'",
            "import x from \"./worker.wasm?module\"",
            "export { default } from `worker.wasm`",
        ] {
            assert_eq!(imported(shim), Some("worker.wasm"), "{shim}");
        }
        assert_eq!(imported("export default {}; // worker.wasm"), None);
        assert_eq!(imported("export default {};"), None);
    }

    #[test]
    fn the_module_beside_a_shim_is_found_as_the_server_would() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        let shim = put("shim.js", "export default {};");
        assert!(beside_shim(&shim, None).unwrap_err().to_string().contains("no .wasm file beside it"));
        let app = put("app.wasm", "");
        put("target/x.wasm", "");
        assert_eq!(beside_shim(&shim, None).unwrap(), app);
        let other = put("sub/other.wasm", "");
        assert!(beside_shim(&shim, None).is_err());
        assert_eq!(beside_shim(&shim, Some("sub/other.wasm")).unwrap(), other);
        let conventional = put("worker.wasm", "");
        assert_eq!(beside_shim(&shim, None).unwrap(), conventional);
        put("shim.js", "import m from './app.wasm'");
        assert_eq!(beside_shim(&shim, None).unwrap(), app);
    }
}
