//! The dashboard: pages on the control listener that show what runs, and forms that change it.
//!
//! Pages are made here, whole, from the catalog's view, the metrics and the objects; a browser without JavaScript reads them. A small
//! script ([`assets`]) puts fresh numbers in place, which come as a stream ([`live`]). Whatever changes something is a call of the
//! control API, made in process ([`call`]): this room must decide nothing, and store nothing but who has signed in ([`session`]) and,
//! for minutes, what waits to be confirmed ([`upload`]).
//!
//! # Who gets in
//!
//! Every request passes the control API's door (host, origin), then [`guard`]: a session, which one gets for the API's token, or
//! for a code that works once and that only who has the token can ask for ([`sign_in`]). The token itself is never in an
//! address, a page or a log. A form carries a secret of its session, beside the door's look at the origin.
//!
//! # To add a page
//!
//! A file with a handler that takes `State<Arc<Dashboard>>` and `Session` (and [`worker::Named`], if it is about a worker), makes a [`layout::Page`] and returns it; a line in [`router`]; if it is
//! about one worker, a tab in [`layout::WorkerTab`]. Numbers that move are [`live::Part`]s, which the page contains and a stream repeats.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::control;
use crate::observe::Observer;

pub mod assets;
pub mod call;
pub mod figures;
pub mod guard;
pub mod layout;
pub mod legend;
pub mod live;
pub mod parts;
pub mod refused;
pub mod session;
pub mod sign_in;
#[cfg(test)]
mod tests;
pub mod upload;
pub mod worker;
pub mod workers;

/// What the pages stand on.
pub struct Dashboard {
    pub api: Arc<control::Api>,
    pub observer: Arc<Observer>,
    pub clock: Arc<dyn Clock>,
    /// The API's token: what calls in process are made with.
    token: String,
    /// The API without its door, which whoever asks has passed.
    operations: Router,
    sessions: session::Sessions,
    codes: session::Codes,
    /// Files that wait to be uploaded.
    uploads: upload::dropped::Waiting,
    /// Wrong tokens that are being answered.
    doubted: sign_in::Doubt,
    /// Ends the streams: a listener that drains waits for them.
    stop: CancellationToken,
}

impl Dashboard {
    /// The dashboard of a node. `token` is the text that `api` takes; `stop` is cancelled when the listener is to end.
    #[must_use]
    pub fn new(
        api: Arc<control::Api>,
        observer: Arc<Observer>,
        clock: Arc<dyn Clock>,
        token: String,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let operations = control::operations(Arc::clone(&api));
        let (sessions, codes) = (session::Sessions::new(Arc::clone(&clock)), session::Codes::new(Arc::clone(&clock)));
        let (uploads, doubted) = (upload::dropped::Waiting::new(Arc::clone(&clock)), sign_in::Doubt::default());
        Arc::new(Self { api, observer, clock, token, operations, sessions, codes, uploads, doubted, stop })
    }
}

/// All that the control listener answers: the pages, and the API behind them. Serve it as [`control::router`] is served.
pub fn router(dashboard: &Arc<Dashboard>) -> Router {
    let pages = Router::new()
        .route("/", get(workers::page))
        .route("/live/workers", get(workers::live))
        .route("/workers/{name}", get(worker::overview::page))
        .route("/live/workers/{name}", get(worker::overview::live))
        .route("/workers/{name}/versions", get(worker::versions::page))
        .route("/workers/{name}/versions/{version}", get(worker::version::page))
        .route("/workers/{name}/deployments", get(worker::deployments::page))
        .route("/workers/{name}/deploy", get(worker::deploy::page).post(worker::deploy::act))
        .route("/workers/{name}/rollback", get(worker::rollback::page).post(worker::rollback::act))
        .route("/workers/{name}/rollout", get(worker::rollout::page))
        .route("/live/workers/{name}/rollout", get(worker::rollout::live))
        .route("/workers/{name}/rollout/start", get(worker::rollout::start::page).post(worker::rollout::start::act))
        .route(
            "/workers/{name}/rollout/{action}",
            get(worker::rollout::action::page).post(worker::rollout::action::act),
        )
        .route("/workers/{name}/tail", get(worker::tail::page))
        .route("/live/workers/{name}/tail", get(worker::tail::live))
        .route("/workers/{name}/objects", get(worker::objects::page))
        .route("/workers/{name}/objects/find", get(worker::objects::find))
        .route("/workers/{name}/objects/{class}/{object}", get(worker::object::page).post(worker::object::act))
        .route("/workers/{name}/variables", get(worker::variables::page).post(worker::variables::act))
        .route("/workers/{name}/upload", get(upload::worker_page).post(upload::worker_act))
        .route("/upload", get(upload::page).post(upload::act))
        .route("/uploads/{key}", get(upload::preview::page).post(upload::confirm::act))
        .route("/workers/{name}/delete", get(worker::delete::worker_page).post(worker::delete::worker_act))
        .route(
            "/workers/{name}/versions/{version}/delete",
            get(worker::delete::version_page).post(worker::delete::version_act),
        )
        .route("/sign-out", post(sign_in::sign_out))
        .route_layer(from_fn_with_state(Arc::clone(dashboard), guard::guard));
    let open = Router::new()
        .route("/sign-in", get(sign_in::page).post(sign_in::sign_in))
        .route("/sign-in/codes", post(sign_in::make_code))
        .route("/assets/{file}", get(assets::asset));
    let inner = pages.merge(open).fallback(refused::otherwise).with_state(Arc::clone(dashboard));
    control::behind_door(&dashboard.api, inner).layer(from_fn(refused::for_browsers))
}
