//! The control API: Cloudflare's REST shape, so that unmodified `wrangler` works, and ours beside it under the same envelope.
//!
//! A request passes [`door`] (host, origin, panics), then the guard (token, account), then reaches one operation, which is one
//! line of [`router`]. Operations read the catalog's view and ask the catalog for changes; none of them decides a rule. What
//! goes wrong becomes a code and a sentence in `fault`, and `codes.md` has a heading for each.
//!
//! This room must never show a secret's value, keep anything outside the catalog, or answer with anything but the envelope
//! (only `/metrics` and the values of KV keys are bare, a version's content is a form, the description is OpenAPI, and a tail is a
//! stream of events).

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, delete, get, patch, post, put};

use crate::catalog::Catalog;
use crate::kv::Kv;
use crate::objects::Objects;
use crate::observe::tail::Tails;
use crate::rollouts::Rollouts;

mod account;
mod classes;
mod deploy;
mod description;
mod door;
mod explain;
mod fault;
mod form;
mod kv;
mod metadata;
mod migration;
mod objects;
mod parts;
mod prover;
mod read;
mod repeat;
mod request;
mod rollout;
mod secrets;
mod shape;
mod tails;
mod trial;
mod triggers;
mod upload;
pub mod wire;
pub mod wire_kv;

#[cfg(test)]
mod tests;

pub use door::Token;
pub use fault::{Fault, Outcome};
pub use form::{Form, ModuleFile, Part};
pub use prover::Prover;
pub use repeat::Repeats;
pub use trial::{Trial, Trials};
pub use upload::IF_LATEST;

/// What the API stands on: the lead hands it over once, in `app`.
pub struct Api {
    pub catalog: Arc<Catalog>,
    pub kv: Arc<Kv>,
    pub objects: Arc<Objects>,
    pub rollouts: Arc<Rollouts>,
    pub prover: Arc<dyn Prover>,
    pub token: Token,
    /// Uploads that may come again.
    pub repeats: Repeats,
    /// Modules whose uploads were tried.
    pub trials: Trials,
    /// Where workers answer: its port is in the URLs that are told.
    pub data_addr: SocketAddr,
    /// Where this API listens: whose `Host` it takes.
    pub control_addr: SocketAddr,
    /// Who watches requests.
    pub tails: Arc<Tails>,
    /// The metrics in Prometheus' text form.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// All operations. Serve it with `into_make_service_with_connect_info::<SocketAddr>()`, so that `/metrics` knows its peer.
pub fn router(api: Arc<Api>) -> Router {
    behind_door(&api, operations(Arc::clone(&api)))
}

/// Puts the door before `inner`: every request for the control listener passes it, once.
pub fn behind_door(api: &Arc<Api>, inner: Router) -> Router {
    inner.layer(from_fn_with_state(Arc::clone(api), door::door))
}

/// The operations without the door, for who has passed it. They ask for the token all the same.
pub fn operations(api: Arc<Api>) -> Router {
    let guarded = workers()
        .route("/client/v4/accounts/{account}", get(account::account))
        .merge(kv::routes())
        .route("/client/v4/accounts/local/containers/applications", get(account::none))
        .route("/client/v4/accounts/local/queues", any(account::not_offered))
        .route("/client/v4/accounts/local/r2/{*rest}", any(account::not_offered))
        .route("/client/v4/accounts/local/d1/{*rest}", any(account::not_offered))
        .route("/client/v4/accounts/local/workflows/{*rest}", any(account::not_offered))
        .route("/client/v4/accounts/local/logpush/{*rest}", any(account::not_offered))
        .route("/client/v4/zones", get(account::zones))
        .route("/client/v4/zones/{zone}/workers/routes", get(triggers::all_routes).post(triggers::disable_route))
        .route("/client/v4/zones/{zone}/workers/routes/{route}", delete(triggers::enable_route))
        .fallback(door::unknown_path)
        .method_not_allowed_fallback(door::unknown_method)
        .layer(from_fn_with_state(Arc::clone(&api), door::guard));
    let open = Router::new()
        .route("/client/v4/user/tokens/verify", get(account::verify))
        .route("/client/v4/user", get(account::user))
        .route("/client/v4/accounts", get(account::accounts))
        .route("/client/v4/memberships", get(account::memberships))
        .route("/client/v4/openapi.json", get(description::openapi))
        .route("/metrics", get(account::metrics))
        .route("/grafana.json", get(account::grafana))
        .route("/tails/{tail}", get(tails::follow))
        .method_not_allowed_fallback(door::unknown_method);
    guarded.merge(open).with_state(api)
}

/// Below `…/accounts/local/workers`.
fn workers() -> Router<Arc<Api>> {
    // Not nested: messages name the whole path.
    let at = |path| format!("/client/v4/accounts/local/workers{path}");
    Router::new()
        .route(&at("/scripts"), get(read::workers))
        .route(&at("/scripts/{name}"), put(upload::put).delete(read::delete_worker))
        .route(&at("/scripts/{name}/versions"), get(read::versions).post(upload::post))
        .route(&at("/scripts/{name}/versions/{version}"), get(read::version).delete(read::delete_version))
        .route(&at("/scripts/{name}/content/v2"), get(read::content))
        .route(&at("/scripts/{name}/deployments"), get(deploy::list).post(deploy::create))
        .route(&at("/scripts/{name}/deployments/{deployment}"), get(deploy::get).delete(deploy::delete))
        .route(&at("/scripts/{name}/rollout"), get(rollout::status).post(rollout::start))
        .route(&at("/scripts/{name}/rollout/pause"), post(rollout::pause))
        .route(&at("/scripts/{name}/rollout/resume"), post(rollout::resume))
        .route(&at("/scripts/{name}/rollout/step"), post(rollout::step))
        .route(&at("/scripts/{name}/rollout/abort"), post(rollout::abort))
        .route(&at("/scripts/{name}/explain"), get(explain::one).post(explain::many))
        .route(&at("/scripts/{name}/objects"), get(objects::list))
        .route(&at("/scripts/{name}/objects/{class}/{object}"), get(objects::view).delete(objects::delete))
        .route(&at("/scripts/{name}/objects/{class}/{object}/history"), get(objects::history))
        .route(&at("/scripts/{name}/objects/{class}/{object}/reset"), post(objects::reset))
        .route(&at("/scripts/{name}/settings"), get(read::settings))
        .route(&at("/scripts/{name}/script-settings"), get(triggers::settings).patch(triggers::patch_settings))
        .route(&at("/scripts/{name}/secrets"), get(secrets::list).put(secrets::put))
        .route(&at("/scripts/{name}/secrets/{secret}"), get(secrets::get).delete(secrets::delete))
        .route(&at("/scripts/{name}/secrets-bulk"), patch(secrets::bulk))
        .route(&at("/scripts/{name}/subdomain"), get(triggers::subdomain).post(triggers::set_subdomain))
        .route(&at("/scripts/{name}/routes"), get(triggers::routes).put(triggers::set_routes))
        .route(&at("/scripts/{name}/domains/changeset"), post(triggers::domain_changes))
        .route(&at("/scripts/{name}/domains/records"), put(triggers::set_domains))
        .route(&at("/scripts/{name}/schedules"), get(triggers::schedules).put(triggers::set_schedules))
        .route(&at("/scripts/{name}/references"), get(read::references))
        .route(&at("/scripts/{name}/tails"), get(tails::list).post(tails::create))
        .route(&at("/scripts/{name}/tails/{tail}"), delete(tails::delete))
        .route(&at("/scripts/{name}/assets-upload-session"), any(account::not_offered))
        .route(&at("/assets/{*rest}"), any(account::not_offered))
        .route(&at("/services/{name}"), get(read::service).delete(read::delete_worker))
        .route(&at("/subdomain"), get(triggers::account_subdomain))
        .route(&at("/tails/by-consumer/{name}"), get(account::none))
        .route(&at("/durable_objects/namespaces"), get(classes::namespaces))
        .route(&at("/workers/{name}"), get(triggers::worker))
        .route(&at("/workers/{name}/versions/latest"), patch(secrets::patch_latest))
        .route(&at("/workers/{name}/previews"), any(account::not_offered))
        .route(&at("/workers/{name}/previews/{*rest}"), any(account::not_offered))
}
