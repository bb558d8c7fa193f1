//! Classes of Durable Objects in answers: the namespaces there are.

use std::sync::Arc;

use axum::extract::State;

use crate::control::fault::Outcome;
use crate::control::request::Query;
use crate::control::shape::Answer;
use crate::control::{Api, wire};
use crate::domain::class::ClassStorage;

/// Namespaces on one page of a list; wrangler asks for the most.
const PER_PAGE: usize = 100;
const PER_PAGE_MAX: usize = 1000;

/// `GET …/durable_objects/namespaces[?page=N&per_page=N]`: one for each class of each worker, in the order of their names.
pub(super) async fn namespaces(
    State(api): State<Arc<Api>>,
    query: Query,
) -> Outcome<Answer<Vec<wire::ObjectNamespace>>> {
    let (page, per_page) = (query.number("page", 1, usize::MAX)?, query.number("per_page", PER_PAGE, PER_PAGE_MAX)?);
    let view = api.catalog.view();
    let all = || view.workers().flat_map(|worker| worker.classes.by_name.iter().map(move |class| (worker, class)));
    let shown: Vec<wire::ObjectNamespace> = all()
        .skip((page - 1).saturating_mul(per_page))
        .take(per_page)
        .map(|(worker, (name, class))| wire::ObjectNamespace {
            id: class.namespace.to_string(),
            name: format!("{}_{name}", worker.name),
            script: worker.name.to_string(),
            class: name.to_string(),
            use_sqlite: class.storage == ClassStorage::Sqlite,
        })
        .collect();
    let info = wire::ResultInfo {
        page: page as u64,
        per_page: per_page as u64,
        count: shown.len() as u64,
        total_count: all().count() as u64,
        cursor: None,
    };
    Ok(Answer::of(shown).paged(info))
}
