//! KV namespaces (`WRANGLER_API` 3.15): made, listed, renamed, deleted; [`values`] and [`bulk`] are about what they hold.

pub(super) mod bulk;
pub(super) mod values;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::routing::{any, delete, get, post};

use crate::control::fault::{Code, Fault, Outcome};
use crate::control::request::{Params, Query, json};
use crate::control::shape::Answer;
use crate::control::wire_kv::{KvNamespace, KvTitle};
use crate::control::{Api, wire};
use crate::domain::config::Config;
use crate::domain::id::NamespaceId;
use crate::domain::limits::{KV_NAMESPACES_MAX, KV_VALUE_BYTES_MAX};
use crate::kv::{Error, Namespace};
use crate::store;

/// Namespaces in a page, unless the caller says otherwise.
const PAGE: usize = 20;

/// All operations on namespaces.
pub(super) fn routes() -> axum::Router<Arc<Api>> {
    let at = |path: &str| format!("/client/v4/accounts/local/storage/kv/namespaces{path}");
    axum::Router::new()
        .route(&at(""), get(list).post(create))
        .route(&at("/{namespace}"), get(one).put(rename).delete(remove))
        .route(&at("/{namespace}/values/{key}"), get(values::get).put(values::put).delete(values::delete))
        // What a client makes of the keys `..` and `.`, which it takes for steps of the path: never a rename.
        .route(&at("/{namespace}/"), any(no_key))
        .route(&at("/{namespace}/values/"), any(no_key))
        .route(&at("/{namespace}/metadata/{key}"), get(values::metadata))
        .route(&at("/{namespace}/keys"), get(values::list))
        .route(&at("/{namespace}/bulk"), delete(bulk::delete).put(bulk::put))
        .route(&at("/{namespace}/bulk/get"), post(bulk::get))
        .route(&at("/{namespace}/bulk/delete"), post(bulk::delete))
}

/// `GET …/namespaces?page=…&per_page=…&order=title|id&direction=asc|desc`. A page past the last is empty: wrangler asks on
/// until it gets one.
async fn list(State(api): State<Arc<Api>>, query: Query) -> Outcome<Answer<Vec<KvNamespace>>> {
    let per_page = query.number("per_page", PAGE, KV_NAMESPACES_MAX)?;
    let page = query.number("page", 1, usize::MAX)?;
    let mut all = api.kv.namespaces().await?;
    if query.get("order") == Some("id") {
        all.sort_by_key(|namespace| namespace.id);
    }
    if query.get("direction") == Some("desc") {
        all.reverse();
    }
    let total_count = all.len() as u64;
    let skipped = (page - 1).saturating_mul(per_page);
    let shown: Vec<KvNamespace> = all.into_iter().skip(skipped).take(per_page).map(shape).collect();
    let info = wire::ResultInfo {
        page: page as u64,
        per_page: per_page as u64,
        count: shown.len() as u64,
        total_count,
        cursor: None,
    };
    Ok(Answer::of(shown).paged(info))
}

/// `POST …/namespaces`: 10014 if the title is taken.
async fn create(State(api): State<Arc<Api>>, body: Body) -> Outcome<Answer<KvNamespace>> {
    let KvTitle { title } = json(body, "`{\"title\": text}`").await?;
    Ok(Answer::of(shape(api.kv.create(&title).await?)))
}

/// `GET …/namespaces/:i`.
async fn one(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<KvNamespace>> {
    Ok(Answer::of(shape(api.kv.namespace(namespace(&params)?).await?)))
}

/// `PUT …/namespaces/:i`: another title.
async fn rename(State(api): State<Arc<Api>>, params: Params, body: Body) -> Outcome<Answer<KvNamespace>> {
    let id = namespace(&params)?;
    let KvTitle { title } = json(body, "`{\"title\": text}`").await?;
    Ok(Answer::of(shape(api.kv.rename(id, &title).await?)))
}

/// `DELETE …/namespaces/:i`: with all that it holds, whoever is bound to it.
async fn remove(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<()>> {
    api.kv.delete_namespace(namespace(&params)?).await?;
    Ok(Answer::done())
}

async fn no_key() -> Fault {
    Error::KeyReserved.into()
}

/// The namespace named in the path. What is no id names none.
fn namespace(params: &Params) -> Outcome<NamespaceId> {
    let id = params.get("namespace").parse();
    id.map_err(|error| Fault::new(Code::NamespaceUnknown, format!("there is no such KV namespace: {error}")))
}

fn shape(namespace: Namespace) -> KvNamespace {
    KvNamespace { id: namespace.id.to_string(), title: namespace.title, supports_url_encoding: true }
}

/// That every namespace of a configuration is there: a version that lacks one would fail at its first request.
pub(super) async fn all_exist(api: &Api, config: &Config) -> Outcome<()> {
    let mut faults = Vec::new();
    for (binding, id) in config.namespaces() {
        match api.kv.namespace(id).await {
            Ok(_) => {}
            Err(error @ Error::NamespaceUnknown { .. }) => {
                let message = format!(
                    "the binding `{binding}` names a KV namespace that is not here: {error}; make one with `kv namespace create`, and put its id into the configuration"
                );
                faults.push((format!("bindings.{binding}.namespace_id"), message));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Fault::all(Code::NamespaceUnknown, faults)) }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        use Error as E;
        let sentence = error.to_string();
        let (code, hint) = match &error {
            E::NamespaceUnknown { .. } => (Code::NamespaceUnknown, "; `kv namespace list` shows those there are"),
            E::TitleTaken { .. } => (Code::NamespaceTitle, ""),
            E::TooManyNamespaces => (Code::TooLarge, "; delete one first"),
            E::ValueTooLarge | E::MetadataTooLarge { .. } | E::TooManyKeys { .. } | E::AnswerTooLarge => {
                (Code::TooLarge, "")
            }
            E::Title
            | E::KeyReserved
            | E::KeyTooLong { .. }
            | E::TtlTooShort { .. }
            | E::ExpirationTooEarly { .. }
            | E::Cursor
            | E::NotANumber
            | E::Overflow => (Code::Parameter, ""),
            E::ConditionFailed => (Code::PreconditionFailed, ""),
            E::Replaced | E::Busy { .. } => (Code::Conflict, ""),
            E::UploadTooSlow => (Code::BodyTooSlow, ""),
            E::Store { source: store::Error::DiskFull { .. }, .. }
            | E::Commit { source: store::CommitError::Refused { source: store::Error::DiskFull { .. } }, .. } => {
                (Code::DiskFull, ": the disk is full; nothing was stored")
            }
            E::Commit { source: store::CommitError::Unknown { .. }, .. } => (
                Code::Host,
                ": the store failed while it wrote, so the change may be stored or not. The node's log says more",
            ),
            E::Store { .. } | E::Commit { .. } | E::Record { .. } | E::Random { .. } => {
                (Code::Host, ": the node's store failed; its log says more")
            }
        };
        Self::new(code, format!("{sentence}{hint}")).caused_by(error)
    }
}

/// A value that is refused for its size before it was read.
fn too_large() -> Fault {
    Fault::new(Code::TooLarge, format!("the value has more than {KV_VALUE_BYTES_MAX} bytes, which is the limit"))
}
