//! The pages about one worker.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;

use crate::catalog::WorkerView;
use crate::dashboard::{Dashboard, refused};

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
pub mod upload;
pub mod variables;
pub mod version;
pub mod versions;
pub mod wish;

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
