//! The pages about one worker.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::response::Response;
use http::StatusCode;
use http::request::Parts;

use crate::catalog::WorkerView;
use crate::dashboard::{Dashboard, refused};
use crate::domain::version::Version;

pub mod command;
pub mod delete;
pub mod deploy;
pub mod deployments;
pub mod diff;
pub mod history;
pub mod object;
pub mod objects;
pub mod overview;
pub mod plan;
pub mod rollback;
pub mod rollout;
pub mod tail;
pub mod traffic;
pub mod variables;
pub mod version;
pub mod versions;
pub mod wish;

/// The worker that the path of a page names; where there is none, the page that says so is the answer.
pub struct Named(pub Arc<WorkerView>);

/// The worker and the version of it that the path names, or the page that says which of them is not there.
pub struct NamedVersion(pub Arc<WorkerView>, pub Arc<Version>);

impl FromRequestParts<Arc<Dashboard>> for Named {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, dashboard: &Arc<Dashboard>) -> Result<Self, Response> {
        named(dashboard, &part(parts, dashboard, "name").await).map(Self)
    }
}

impl FromRequestParts<Arc<Dashboard>> for NamedVersion {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, dashboard: &Arc<Dashboard>) -> Result<Self, Response> {
        let Named(worker) = Named::from_request_parts(parts, dashboard).await?;
        let id = part(parts, dashboard, "version").await;
        let version = id.parse().ok().and_then(|id| worker.version(id).cloned());
        let version = version.ok_or_else(|| {
            let message = format!("Worker `{}` has no version `{id}`. It may have been deleted.", worker.name);
            refused::page(StatusCode::NOT_FOUND, "No such version", &message)
        })?;
        Ok(Self(worker, version))
    }
}

/// A part of the path by the name that the route gives it; empty where it cannot be read.
async fn part(parts: &mut Parts, dashboard: &Arc<Dashboard>, name: &str) -> String {
    let params = RawPathParams::from_request_parts(parts, dashboard).await;
    let value = params.ok().and_then(|all| Some(all.iter().find(|(key, _)| *key == name)?.1.to_owned()));
    value.unwrap_or_default()
}

/// The worker of that name, or the page that says that there is none.
///
/// # Errors
/// That page.
#[expect(clippy::result_large_err, reason = "it is the answer, and rare")]
pub fn named(dashboard: &Dashboard, name: &str) -> Result<Arc<WorkerView>, Response> {
    let worker = name.parse().ok().and_then(|name| dashboard.api.catalog.view().worker(&name).cloned());
    worker.ok_or_else(|| {
        let message = format!("There is no worker `{name}` on this node. It may have been deleted.");
        refused::page(StatusCode::NOT_FOUND, "No such worker", &message)
    })
}
