//! Finds and reads the configuration file: `wrangler.json`, `wrangler.jsonc` or `wrangler.toml`. What it says is
//! [`crate::project`]'s to know; only a syntax error is a fault here, and it says the line and the column.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::fault::{Fault, failed};
use crate::project::syntax::{self, Language, Tree};

/// In the order in which wrangler looks for them.
const NAMES: [&str; 3] = ["wrangler.json", "wrangler.jsonc", "wrangler.toml"];

/// The file that `--config` names, or the nearest one in `folder` or above it.
pub fn locate(explicit: Option<&Path>, folder: &Path) -> Result<Option<PathBuf>, Fault> {
    match explicit {
        Some(path) if path.is_file() => Ok(Some(path.to_owned())),
        Some(path) if path.is_dir() => {
            NAMES.iter().map(|name| path.join(name)).find(|file| file.is_file()).map_or_else(
                || Err(failed(format!("`{}` holds no {}", path.display(), NAMES.join(", ")))),
                |file| Ok(Some(file)),
            )
        }
        Some(path) => Err(failed(format!("there is no configuration file `{}`", path.display()))),
        None => Ok(folder.ancestors().flat_map(|up| NAMES.map(|name| up.join(name))).find(|file| file.is_file())),
    }
}

/// The tree of the file at `path`.
pub fn read(path: &Path) -> anyhow::Result<Tree> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let is_toml = path.extension().is_none_or(|extension| extension == "toml");
    let language = if is_toml { Language::Toml } else { Language::Jsonc };
    Ok(syntax::parse(&text, language).map_err(|error| failed(format!("{}:{error}", path.display())))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_above_is_taken_and_json_before_toml() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(folder.path().join("wrangler.toml"), "").unwrap();
        assert_eq!(locate(None, &inner).unwrap().unwrap(), folder.path().join("wrangler.toml"));
        std::fs::write(folder.path().join("wrangler.jsonc"), "").unwrap();
        assert_eq!(locate(None, &inner).unwrap().unwrap(), folder.path().join("wrangler.jsonc"));
        assert!(locate(Some(&inner.join("no.toml")), &inner).is_err());
    }
}
