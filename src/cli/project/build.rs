//! Runs `[build] command`, as wrangler does: by the shell, in the project's folder or `cwd`. What it prints goes to our
//! stderr, since stdout is for data.

use std::process::Stdio;

use anyhow::Context as _;

use super::Project;
use crate::cli::fault::failed;

/// Runs the command of the file, if it has one.
pub async fn run(project: &Project) -> anyhow::Result<()> {
    let build = &project.config.build;
    let Some(command) = &build.command else { return Ok(()) };
    let folder = build.cwd.as_ref().map_or_else(|| project.root().to_owned(), |cwd| project.root().join(cwd));
    let status = tokio::process::Command::new("sh")
        .args(["-c", command])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("cannot run the `[build]` command in `{}`", folder.display()))?;
    if status.success() {
        return Ok(());
    }
    Err(failed(format!("the `[build]` command failed: {status}"))
        .hint(format!("run it by hand: cd {} && {command}", folder.display()))
        .into())
}
