//! What the words on the command line mean: which node a command talks to, and the settings of a node that it starts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::args::{Common, NodeArgs, ServeArgs};
use super::client::Api;
use super::fault::{Fault, failed, usage};
use super::project::Selection;
use crate::app;
use crate::control::wire::Addresses;
use crate::domain::limits::LIVE_OBJECTS_MAX;

/// The folder of a node, unless `--data-dir` says otherwise.
pub const DATA_DIR: &str = ".sluice";

/// Which node a command talks to.
#[derive(Clone, Debug)]
pub struct Target {
    /// `http://host:port`, without a path.
    pub origin: reqwest::Url,
    pub token: String,
    /// Where the node takes requests for workers, where that is known.
    pub data: Option<std::net::SocketAddr>,
    /// What to do when nobody answers there.
    pub start_hint: String,
}

impl Common {
    /// What the file and the flags say about the worker. An empty `--env` is the top of the file, as in wrangler.
    pub fn selection(&self) -> Selection {
        let env = self.env.clone().filter(|env| !env.is_empty());
        Selection { config: self.config.clone(), env, name: self.name.clone() }
    }

    /// The folder of a node that this command starts.
    pub fn node_folder(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| PathBuf::from(DATA_DIR))
    }

    /// The node to talk to: `SLUICE_API`, or the one whose folder this is.
    pub fn target(&self) -> anyhow::Result<Target> {
        let folder = self.client_folder()?;
        let token = std::env::var("SLUICE_API_TOKEN").ok().filter(|token| !token.is_empty());
        match &self.api {
            Some(origin) => remote(origin, token, &folder),
            None => local(token, &folder),
        }
    }

    /// The client of that node.
    pub fn client(&self) -> anyhow::Result<Api> {
        Api::new(self.target()?)
    }

    /// What vouches for overrides on a node of this machine (`Sluice-Override-Token`), if its folder tells.
    pub fn override_token(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.client_folder().ok()?.join("override-token")).ok()?;
        Some(text.trim().to_owned()).filter(|token| !token.is_empty())
    }

    /// `--data-dir`, or the nearest `.sluice` here or above with the addresses of a node.
    fn client_folder(&self) -> anyhow::Result<PathBuf> {
        if let Some(folder) = &self.data_dir {
            return Ok(folder.clone());
        }
        let here = std::env::current_dir()?;
        let above = here.ancestors().skip(1).map(|folder| folder.join(DATA_DIR));
        let nearest = std::iter::once(PathBuf::from(DATA_DIR)).chain(above).find(|f| f.join("addresses.json").exists());
        Ok(nearest.unwrap_or_else(|| PathBuf::from(DATA_DIR)))
    }
}

fn remote(origin: &str, token: Option<String>, folder: &Path) -> anyhow::Result<Target> {
    let wrong = || usage(format!("`{origin}` is not an origin; SLUICE_API looks like http://127.0.0.1:8788"));
    let url = reqwest::Url::parse(origin).map_err(|_| wrong())?;
    if url.scheme() != "http" || url.host_str().is_none() || url.path() != "/" || url.query().is_some() {
        return Err(wrong().into());
    }
    // The token of a local node is not sent to a stranger.
    let own = || is_loopback(&url).then(|| read_token(folder).ok()).flatten();
    let token = token.or_else(own).ok_or_else(|| {
        failed(format!("there is no token for `{origin}`"))
            .hint("set SLUICE_API_TOKEN to what stands in the file `token` of that node's data folder")
    })?;
    let start_hint = format!("is a node running there? `{origin}` comes from SLUICE_API or --api");
    Ok(Target { origin: url, token, data: None, start_hint })
}

fn local(token: Option<String>, folder: &Path) -> anyhow::Result<Target> {
    let start_hint = format!(
        "start one with `sluice serve --data-dir {}`, or name a running one with --data-dir or SLUICE_API",
        folder.display()
    );
    let file = folder.join("addresses.json");
    let Ok(text) = std::fs::read_to_string(&file) else {
        return Err(failed(format!("no node runs on the data folder `{}`", folder.display())).hint(start_hint).into());
    };
    let addresses: Addresses =
        serde_json::from_str(&text).with_context(|| format!("cannot understand `{}`", file.display()))?;
    let token = match token {
        Some(token) => token,
        None => read_token(folder)?,
    };
    // A node that listens everywhere is reached over loopback.
    let mut control = addresses.control;
    if control.ip().is_unspecified() {
        control.set_ip(if control.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    let origin = reqwest::Url::parse(&format!("http://{control}"))?;
    Ok(Target { origin, token, data: Some(addresses.data), start_hint })
}

fn read_token(folder: &Path) -> anyhow::Result<String> {
    let file = folder.join("token");
    let text = std::fs::read_to_string(&file).map_err(|error| {
        failed(format!("cannot read the node's token `{}`: {error}", file.display()))
            .hint("run this as the user who started the node, or set SLUICE_API_TOKEN")
    })?;
    Ok(text.trim().to_owned())
}

/// Whether a URL leads to this machine.
pub fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The settings of `sluice serve`.
pub fn serve(args: &ServeArgs, common: &Common) -> anyhow::Result<app::Settings> {
    let mut settings = app::Settings::serve_defaults(common.node_folder());
    settings.listen = args.listen;
    settings.control_listen = args.control_listen;
    settings.default_worker.clone_from(&args.default_worker);
    apply(&args.node, &mut settings)?;
    Ok(settings)
}

/// Puts what was typed, and what the environment says, over the defaults.
pub fn apply(args: &NodeArgs, settings: &mut app::Settings) -> Result<(), Fault> {
    if let Ok(token) = std::env::var("SLUICE_API_TOKEN")
        && !token.is_empty()
    {
        settings.token = Some(token);
    }
    settings.otlp =
        app::OtlpSettings::from_environment().map_err(|error| usage(error.to_string()).hint(error.hint()))?;
    if let Some(text) = &args.outbound {
        settings.outbound = text.parse().map_err(|error| usage(format!("--outbound {text}: {error}")))?;
    }
    if let Some(text) = &args.overrides {
        settings.overrides = Some(text.parse().map_err(|error| usage(format!("--overrides {text}: {error}")))?);
    }
    if args.version_header {
        settings.version_header = true;
    }
    if let Some(text) = &args.request_log {
        settings.request_log = Some(match text.as_str() {
            "-" => app::RequestLog::Stdout,
            file => app::RequestLog::File(PathBuf::from(file)),
        });
    }
    if let Some(text) = &args.request_log_max_size {
        let bytes = parse_bytes(text).filter(|bytes| *bytes > 0);
        settings.request_log_bytes_max =
            bytes.ok_or_else(|| usage(format!("--request-log-max-size {text}: expected a size such as 100MiB")))?;
    }
    if let Some(text) = &args.guest_memory {
        let bytes = parse_bytes(text);
        settings.guest_memory_bytes =
            bytes.ok_or_else(|| usage(format!("--guest-memory {text}: expected a size such as 128MiB")))?;
    }
    if let Some(text) = &args.artifact_cache {
        let bytes = parse_bytes(text);
        settings.artifact_cache_bytes =
            bytes.ok_or_else(|| usage(format!("--artifact-cache {text}: expected a size such as 4GiB")))?;
    }
    if let Some(text) = &args.drain {
        let drain = parse_duration(text);
        settings.drain = drain.ok_or_else(|| usage(format!("--drain {text}: expected a time such as 30s")))?;
    }
    if args.instance_slots.is_some() {
        settings.instance_slots = args.instance_slots;
    }
    if let Some(text) = &args.guard_pages {
        settings.guard_pages = text.parse().map_err(|error| usage(format!("--guard-pages {text}: {error}")))?;
    }
    if let Some(text) = &args.object_idle {
        let idle = parse_duration(text);
        settings.objects.idle =
            idle.ok_or_else(|| usage(format!("--object-idle {text}: expected a time such as 10s")))?;
    }
    if let Some(count) = args.live_objects {
        if !(1..=LIVE_OBJECTS_MAX).contains(&count) {
            return Err(usage(format!("--live-objects {count}: expected a number from 1 to {LIVE_OBJECTS_MAX}")));
        }
        settings.objects.live = count;
    }
    Ok(())
}

/// `134217728`, `512KiB`, `128MiB`, `1GiB`; without the `i` it means the same.
fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text);
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// `30`, `30s`, `500ms`, `2m`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text);
    let number = number.parse::<u64>().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" | "min" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_as_people_write_them() {
        let mib = 1024 * 1024;
        for (text, bytes) in [("128MiB", 128 * mib), ("64 mb", 64 * mib), ("1G", 1024 * mib), ("65536", 65_536)] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "1.5GiB", "-1", "12 parsecs"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
        for (text, millis) in [("30s", 30_000), ("30", 30_000), ("500ms", 500), ("2m", 120_000)] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_duration("soon"), None);
    }

    #[test]
    fn a_local_node_is_found_by_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let error = local(None, folder.path()).unwrap_err();
        assert!(crate::cli::fault::hints(&error).iter().any(|hint| hint.contains("sluice serve --data-dir")));

        let addresses = r#"{"data":"0.0.0.0:8787","control":"0.0.0.0:8788"}"#;
        std::fs::write(folder.path().join("addresses.json"), addresses).unwrap();
        assert!(local(None, folder.path()).unwrap_err().to_string().contains("token"));
        std::fs::write(folder.path().join("token"), "t0k3n\n").unwrap();
        let target = local(None, folder.path()).unwrap();
        assert_eq!((target.origin.as_str(), target.token.as_str()), ("http://127.0.0.1:8788/", "t0k3n"));
    }

    #[test]
    fn a_local_token_is_not_sent_to_a_stranger() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "t0k3n").unwrap();
        assert_eq!(remote("http://localhost:1", None, folder.path()).unwrap().token, "t0k3n");
        assert!(remote("http://node.test:1", None, folder.path()).is_err());
        for wrong in ["127.0.0.1:8788", "http://127.0.0.1:1/client/v4", "https://node.test", "x"] {
            assert!(remote(wrong, Some("t".to_owned()), folder.path()).is_err(), "{wrong}");
        }
    }
}
