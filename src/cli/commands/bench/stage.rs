//! Where it is measured: a node of this process that nobody else meets, the running node over HTTP, or an address.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use super::http::{self, Address, Connection, Told};
use super::load::Target;
use super::subjects::{self, Subjects};
use super::template;
use crate::app;
use crate::app::lab::Cost;
use crate::cli::args::{BenchArgs, Common};
use crate::cli::client::Intent;
use crate::cli::commands::deploy::{self, Plan};
use crate::cli::commands::{dev, node, split};
use crate::cli::fault::{failed, usage};
use crate::cli::names;
use crate::cli::render;
use crate::domain::limits::BENCH_CACHE_BYTES_MAX;

/// Everything that stands while it is measured.
pub struct Stage {
    pub worker: String,
    /// What each version is called, and its id.
    pub names: Vec<(String, Option<String>)>,
    pub target: Arc<Target>,
    /// `in process`, or the address.
    pub way: String,
    /// `GET /path`.
    pub request: String,
    /// What limits what can be said.
    pub remarks: Vec<String>,
    /// Which of the versions failed when they were first asked.
    failing: Vec<bool>,
    own: Option<Own>,
}

/// A node of this process, and its folder.
struct Own {
    node: app::Running,
    _folder: Scratch,
}

impl Stage {
    /// Sets it up: each version has answered once when this returns.
    pub async fn set(args: &BenchArgs, common: &Common) -> anyhow::Result<Self> {
        match (&args.url, args.over_http) {
            (Some(url), _) => Self::at_url(url, args, common).await,
            (None, true) => Self::at_node(args, common).await,
            (None, false) => Box::pin(Self::in_process(args, common)).await,
        }
    }

    /// Takes it down.
    pub async fn strike(self) {
        let Self { target, own, .. } = self;
        drop(target);
        if let Some(own) = own {
            own.node.stop().await;
        }
    }

    /// Counts what one request costs each version, where that can be done.
    pub async fn count(&self, times: usize) -> Vec<Option<Result<Vec<Cost>, String>>> {
        let (Some(own), Target::Lab { subjects, template }) = (&self.own, &*self.target) else {
            return self.names.iter().map(|_| None).collect();
        };
        let bar = render::bar(subjects.len() as u64, "counting");
        let mut all = Vec::new();
        for (subject, fails) in subjects.iter().zip(&self.failing) {
            // Instructions of a request that fails compare with nothing, and one that spins would have to come to its end.
            all.push(Some(match fails {
                true => Err("its first request failed".to_owned()),
                false => own.node.count(subject, template, times).await.map_err(|error| error.to_string()),
            }));
            bar.inc(1);
        }
        bar.finish_and_clear();
        all
    }

    async fn in_process(args: &BenchArgs, common: &Common) -> anyhow::Result<Self> {
        let subjects = Subjects::find(args, common).await?;
        let worker = subjects.worker.clone();
        let template = template(args, format!("http://{worker}.localhost/").parse()?)?;
        let folder = Scratch::make()?;
        let node = node::start(settings(&folder.0)).await?;
        let own = Own { node, _folder: folder };
        let api = dev::api_of(&own.node)?;
        let mut ids = Vec::new();
        for (upload, subject) in
            subjects::uploads(&subjects, args, common, &api, &own._folder.0).await?.iter_mut().zip(&subjects.all)
        {
            let version = if ids.is_empty() {
                deploy::ship(&api, &worker, upload, &Plan::default()).await.map(|shipped| shipped.version)
            } else {
                api.upload_version(&worker, upload).await
            };
            upload.finish();
            ids.push(version.with_context(|| format!("{} cannot be run", subject.name))?.id);
        }
        let entries: Vec<_> = ids.iter().map(|id| (id.clone(), None)).collect();
        let shares = split::request(names::distribute(&entries)?, None);
        api.deploy(&worker, &shares, Intent::Deploy).await?;
        let lab = ids.iter().map(|id| own.node.subject(&worker, id)).collect::<Result<Vec<_>, _>>()?;
        let bar = render::bar(lab.len() as u64, "asking once");
        let mut failing = Vec::new();
        for (subject, found) in lab.iter().zip(&subjects.all) {
            bar.tick();
            let shot = subject.ask(&template).await;
            bar.inc(1);
            failing.push(!shot.message.is_empty());
            if !shot.message.is_empty() {
                bar.suspend(|| render::warn(format_args!("{} fails: {}", found.name, shot.message)));
            }
        }
        bar.finish_and_clear();
        let request = format!("{} {}", template.method, template.uri.path());
        Ok(Self {
            worker,
            names: subjects.all.iter().map(|subject| (subject.name.clone(), subject.id().map(str::to_owned))).collect(),
            target: Arc::new(Target::Lab { subjects: lab, template: Box::new(template) }),
            way: "in process".to_owned(),
            request,
            remarks: Vec::new(),
            failing,
            own: Some(own),
        })
    }

    /// The running node, at the worker's own host.
    async fn at_node(args: &BenchArgs, common: &Common) -> anyhow::Result<Self> {
        let subjects = Subjects::find(args, common).await?;
        let ids = ids(&subjects)?;
        let (worker, api) = (&subjects.worker, common.client()?);
        let active = api.deployments(worker).await?.into_iter().next();
        for (subject, id) in subjects.all.iter().zip(&ids) {
            let deployed = active.iter().flat_map(|active| &active.versions).any(|share| share.version_id == *id);
            if !deployed {
                let name = &subject.name;
                return Err(failed(format!("version {name} is not in the active deployment, so no request reaches it"))
                    .hint("deploy it without traffic, `sluice versions deploy <version>@0 <other>@100`; or leave `--over-http` out")
                    .into());
            }
        }
        let host = api.host(worker).await;
        let target = common.target()?;
        let authority = match target.data {
            Some(data) => reachable(data).to_string(),
            // The node tells its port; it is where its API is.
            None => {
                let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).unwrap_or(80);
                format!("{}:{port}", target.origin.host_str().unwrap_or("localhost"))
            }
        };
        let token = target.data.and_then(|_| common.override_token());
        let template = template(args, format!("http://{host}/").parse()?)?;
        let address = Address::new(&authority, &template, worker, &ids, token.as_deref())?;
        let names =
            subjects.all.iter().zip(&ids).map(|(subject, id)| (subject.name.clone(), Some(id.clone()))).collect();
        let request = format!("{} {}", template.method, template.uri.path());
        Self::over_http(subjects.worker, names, address, format!("http://{host}"), request).await
    }

    /// An address, with overrides if versions were named.
    async fn at_url(url: &str, args: &BenchArgs, common: &Common) -> anyhow::Result<Self> {
        let (authority, uri) = http::parse_url(url, args.path.as_deref())?;
        let template = template(args, uri)?;
        let request = format!("{} {}", template.method, template.uri.path());
        let (worker, names, ids) = if args.versions.is_empty() {
            (args.worker.clone().unwrap_or_default(), vec![(url.to_owned(), None)], Vec::new())
        } else if args.versions.iter().all(|version| names::is_id(version)) {
            // Whole ids need no node that knows them.
            let worker = match &args.worker {
                Some(worker) => worker.clone(),
                None => common.selection().worker()?,
            };
            let ids: Vec<String> = args.versions.iter().map(|id| id.to_ascii_lowercase()).collect();
            (worker, ids.iter().map(|id| (deploy::short(id).to_owned(), Some(id.clone()))).collect(), ids)
        } else {
            let subjects = Subjects::find(args, common).await?;
            let ids = ids(&subjects)?;
            let names = subjects.all.iter().zip(&ids).map(|(one, id)| (one.name.clone(), Some(id.clone()))).collect();
            (subjects.worker, names, ids)
        };
        let address = Address::new(&authority, &template, &worker, &ids, None)?;
        Self::over_http(worker, names, address, url.to_owned(), request).await
    }

    async fn over_http(
        worker: String,
        names: Vec<(String, Option<String>)>,
        address: Address,
        way: String,
        request: String,
    ) -> anyhow::Result<Self> {
        let mut remarks = Vec::new();
        if http::preflight(&address, &mut Connection::default()).await? == Told::No {
            remarks.push(
                "the answers do not say which version gave them, so it was not checked: `--version-header` makes a node tell"
                    .to_owned(),
            );
        }
        let target = Arc::new(Target::Http(address));
        Ok(Self { worker, names, target, way, request, remarks, failing: Vec::new(), own: None })
    }
}

/// The ids of versions that a node has.
fn ids(subjects: &Subjects) -> anyhow::Result<Vec<String>> {
    let id = |subject: &subjects::Subject| {
        let id = subject.id().map(str::to_owned);
        id.ok_or_else(|| {
            usage(format!("`{}` is on no node, so that it cannot be asked over HTTP", subject.name))
                .hint("upload it first, `sluice versions upload`; or measure it in this process")
                .into()
        })
    };
    subjects.all.iter().map(id).collect()
}

/// A node that listens everywhere is reached over loopback.
fn reachable(mut data: std::net::SocketAddr) -> std::net::SocketAddr {
    if data.ip().is_unspecified() {
        data.set_ip(if data.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    data
}

/// A node on free ports that reaches what `dev` reaches, whose compiled code is kept from one run to the next.
fn settings(folder: &Path) -> app::Settings {
    let mut settings = app::Settings::dev_defaults(folder.join("node"));
    settings.listen = ([127, 0, 0, 1], 0).into();
    settings.control_listen = ([127, 0, 0, 1], 0).into();
    settings.overrides = Some(app::OverridePolicy::Off);
    settings.artifacts = cache();
    settings
}

/// `sluice/artifacts` in the user's cache; a large component takes long to compile.
fn cache() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let above = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    let folder = above.join("sluice").join("artifacts");
    std::fs::create_dir_all(&folder).ok()?;
    make_room(&folder, BENCH_CACHE_BYTES_MAX);
    Some(folder)
}

/// Removes the oldest files until the rest fits.
fn make_room(folder: &Path, bytes_max: u64) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let about = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((about.modified().ok()?, about.len(), entry.path()))
        })
        .collect();
    files.sort();
    let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, size, path) in files {
        if bytes <= bytes_max {
            return;
        }
        if std::fs::remove_file(path).is_ok() {
            bytes = bytes.saturating_sub(size);
        }
    }
}

/// A folder that goes away with the stage.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("sluice-bench-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_has_grown_too_large_loses_its_oldest_files() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, age_s: u64| {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            file.set_len(100).unwrap();
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 - age_s);
            file.set_modified(time).unwrap();
        };
        put("old", 30);
        put("middle", 20);
        put("new", 10);
        make_room(folder.path(), 300);
        assert!(folder.path().join("old").exists());
        make_room(folder.path(), 250);
        let left = |name: &str| folder.path().join(name).exists();
        assert_eq!(["old", "middle", "new"].map(left), [false, true, true]);
    }
}
