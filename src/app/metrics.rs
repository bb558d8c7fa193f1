//! The metrics of a node, from every room that keeps some.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::clock::{Clock as _, SystemClock};
use crate::engine::fleet::Fleet;
use crate::engine::version_engine::VersionEngine;
use crate::objects::Objects;
use crate::observe::Observer;
use crate::observe::exposition::{Exposition, Gather};
use crate::store::SqliteStore;

/// What gathers them, whenever somebody asks.
pub(super) fn of_node(
    observer: &Arc<Observer>,
    fleet: &Arc<Fleet>,
    catalog: &Arc<Catalog>,
    objects: &Arc<Objects>,
    store: &Arc<SqliteStore>,
) -> Gather {
    let (observer, fleet, store) = (Arc::clone(observer), Arc::clone(fleet), Arc::clone(store));
    let (catalog, objects) = (Arc::clone(catalog), Arc::clone(objects));
    let started_s = SystemClock.now_ms() / 1000;
    Arc::new(move || {
        let mut text = Exposition::default();
        observer.metrics.expose(&mut text);
        instances(&fleet, &catalog, &mut text);
        objects.expose(&mut text);
        let syncs = store.syncs();
        text.single("sluice_store_commits_total", syncs.commits);
        text.family("sluice_store_sync_seconds").distribution(&[], &syncs.took, syncs.total);
        deployed(&catalog, &mut text);
        let dropped = observer.request_log.as_ref().map_or(0, |log| log.writer.dropped());
        text.single("sluice_request_log_dropped_total", dropped);
        let spans = observer.tracer.as_ref().map(|tracer| tracer.dropped()).unwrap_or_default();
        let family = text.family("sluice_spans_dropped_total");
        family.value(&["queue_full"], spans.queue_full);
        family.value(&["undelivered"], spans.undelivered);
        text.single("sluice_start_time_seconds", started_s);
        text
    })
}

/// What the versions that are ready have of instances.
fn instances(fleet: &Fleet, catalog: &Catalog, text: &mut Exposition) {
    text.single("sluice_versions_ready", fleet.len());
    let view = catalog.view();
    let versions =
        view.workers().flat_map(|worker| worker.newest_first().map(move |version| (&worker.name, version.id)));
    let ready: Vec<_> = versions.filter_map(|(name, id)| Some((name, id.to_string(), fleet.if_ready(id)?))).collect();
    for (name, count) in [
        ("sluice_instances", VersionEngine::instances as fn(&VersionEngine) -> usize),
        ("sluice_instances_waiting", VersionEngine::waiting),
    ] {
        let family = text.family(name);
        for (worker, version, engine) in &ready {
            family.value(&[worker.as_str(), version], count(engine));
        }
    }
}

/// What is deployed, so that a dashboard can show what was configured beside what came.
fn deployed(catalog: &Catalog, text: &mut Exposition) {
    let view = catalog.view();
    text.single("sluice_workers", view.workers().len());
    let family = text.family("sluice_deployment_share");
    for worker in view.workers() {
        for (version, share) in worker.active.iter().flat_map(|active| active.split.entries()) {
            family.value(&[worker.name.as_str(), &version.to_string()], share.percent() / 100.0);
        }
    }
    let family = text.family("sluice_version_info");
    for worker in view.workers() {
        for version in worker.live() {
            let (id, number) = (version.id.to_string(), version.number.to_string());
            family.value(&[worker.name.as_str(), &id, &number, version.tag()], 1_u64);
        }
    }
}
