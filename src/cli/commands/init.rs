//! `init`: a Rust project that builds and runs as made. The templates are real files beside this one.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::cli::args::{InitArgs, Wasi};
use crate::cli::fault::{failed, usage};
use crate::cli::render;
use crate::domain::id::WorkerName;

/// What stands for the worker's name in the templates.
const NAME: &str = "{{name}}";

struct Template {
    path: &'static str,
    text: &'static str,
}

const COMMON: [Template; 3] = [
    Template { path: "wrangler.toml", text: include_str!("../init/wrangler.toml") },
    Template { path: "build.sh", text: include_str!("../init/build.sh") },
    Template { path: ".gitignore", text: include_str!("../init/gitignore") },
];
const P2: [Template; 3] = [
    Template { path: "Cargo.toml", text: include_str!("../init/p2/Cargo.toml.txt") },
    Template { path: "src/lib.rs", text: include_str!("../init/p2/lib.rs.txt") },
    Template { path: "README.md", text: include_str!("../init/README.md") },
];
const P3: [Template; 3] = [
    Template { path: "Cargo.toml", text: include_str!("../init/p3/Cargo.toml.txt") },
    Template { path: "src/lib.rs", text: include_str!("../init/p3/lib.rs.txt") },
    Template { path: "README.md", text: include_str!("../init/README.md") },
];

/// `sluice init`.
pub fn run(args: &InitArgs) -> anyhow::Result<()> {
    let folder = &args.folder;
    let name = worker_name(folder)?;
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(failed(format!("`{}` is not empty", folder.display()))
            .hint("choose a folder that is not there yet")
            .into());
    }
    let own = if args.wasi == Wasi::P2 { &P2 } else { &P3 };
    for template in COMMON.iter().chain(own) {
        write(&folder.join(template.path), &template.text.replace(NAME, &name))?;
    }
    render::line(format_args!("Made {name} in {}", folder.display()));
    render::hint(format_args!("cd {} && sluice dev", folder.display()));
    Ok(())
}

/// The folder's name, if it is one that a worker can have.
fn worker_name(folder: &Path) -> anyhow::Result<String> {
    let whole = std::path::absolute(folder)?;
    let last = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = last.parse::<WorkerName>().map_err(|error| {
        usage(format!("the folder's name becomes the worker's: {error}")).hint("choose a folder such as `my-worker`")
    })?;
    Ok(name.as_str().to_owned())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let cannot = || format!("cannot write `{}`", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(cannot)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    if path.extension().is_some_and(|extension| extension == "sh") {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o755);
    }
    options.open(path).and_then(|mut file| file.write_all(text.as_bytes())).with_context(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::project::{Project, Selection};

    #[test]
    fn a_made_project_reads_without_a_remark() {
        for wasi in [Wasi::P2, Wasi::P3] {
            let parent = tempfile::tempdir().unwrap();
            let folder = parent.path().join("my-worker");
            run(&InitArgs { folder: folder.clone(), wasi }).unwrap();
            let selection = Selection { config: Some(folder.clone()), ..Selection::default() };
            let project = Project::load(&selection).unwrap();
            assert_eq!(project.name().unwrap(), "my-worker");
            assert_eq!(project.findings, crate::project::resolve::Findings::default());
            assert!(!std::fs::read_to_string(folder.join("Cargo.toml")).unwrap().contains("{{"));
            assert!(run(&InitArgs { folder, wasi }).unwrap_err().to_string().contains("is not empty"));
        }
    }

    #[test]
    fn the_folder_must_be_a_worker_name() {
        assert_eq!(worker_name(Path::new("some/where/shop")).unwrap(), "shop");
        assert!(worker_name(Path::new("My Shop")).is_err());
    }
}
