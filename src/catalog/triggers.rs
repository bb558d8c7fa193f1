//! Ways in and settings: what is not versioned about a worker (`NV-1`, `NV-3`). Each call replaces the whole of its kind.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::change::{Changes, Step, Subject, known};
use super::record::{self, Head};
use super::{Catalog, Error, Route, SETTINGS_BYTES_MAX, View, WorkerView};
use crate::domain::id::WorkerName;
use crate::domain::limits::ROUTES_MAX;
use crate::domain::route::{Hostname, RoutePattern};
use crate::store::{Check, Write};

/// Which hosts under `.localhost` answer for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subdomain {
    pub enabled: bool,
    /// `None`: the same as `enabled` (`URL-5`).
    pub previews_enabled: Option<bool>,
}

impl Catalog {
    /// Gives `worker` these routes, and takes all others away from it. A pattern that comes twice counts once.
    ///
    /// # Errors
    /// [`Error::RouteTaken`] if one belongs to someone else (`RTE-8`); then nothing changes.
    pub async fn set_routes(self: &Arc<Self>, worker: &WorkerName, routes: Vec<Route>) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        let routes: Vec<Route> = routes.into_iter().filter(|route| seen.insert(route.pattern.clone())).collect();
        check_count(routes.len())?;
        self.change_head(worker, "store the routes", move |view, worker, head, changes| {
            let had: BTreeSet<_> = worker.triggers.routes.iter().map(|route| &route.pattern).collect();
            let has: BTreeSet<_> = routes.iter().map(|route| &route.pattern).collect();
            for pattern in has.difference(&had) {
                if let Some(owner) = route_owner(view, pattern) {
                    return Err(Error::RouteTaken { pattern: (*pattern).clone(), owner });
                }
                changes.claim(record::route_claim_key(pattern), Some(&worker.name));
            }
            changes.writes.extend(had.difference(&has).map(|gone| Write::delete(record::route_claim_key(gone))));
            head.triggers.routes.clone_from(&routes);
            Ok(())
        })
        .await
    }

    /// Gives `worker` these custom domains, and takes all others away from it.
    ///
    /// # Errors
    /// [`Error::DomainTaken`] if one belongs to another worker; then nothing changes.
    pub async fn set_domains(self: &Arc<Self>, worker: &WorkerName, domains: Vec<Hostname>) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        let domains: Vec<Hostname> = domains.into_iter().filter(|hostname| seen.insert(hostname.clone())).collect();
        check_count(domains.len())?;
        self.change_head(worker, "store the domains", move |view, worker, head, changes| {
            let had: BTreeSet<_> = worker.triggers.domains.iter().collect();
            let has: BTreeSet<_> = domains.iter().collect();
            for &hostname in has.difference(&had) {
                if let Some(owner) = view.workers().find(|other| other.triggers.domains.contains(hostname)) {
                    return Err(Error::DomainTaken { hostname: hostname.clone(), owner: owner.name.clone() });
                }
                changes.claim(record::domain_claim_key(hostname), Some(&worker.name));
            }
            changes.writes.extend(had.difference(&has).map(|gone| Write::delete(record::domain_claim_key(gone))));
            head.triggers.domains.clone_from(&domains);
            Ok(())
        })
        .await
    }

    /// Switches the hosts under `.localhost` on and off.
    ///
    /// # Errors
    /// If there is no such worker, or if it cannot be stored.
    pub async fn set_subdomain(self: &Arc<Self>, worker: &WorkerName, subdomain: Subdomain) -> Result<(), Error> {
        self.change_head(worker, "store the subdomain", move |_, _, head, _| {
            head.triggers.workers_dev = subdomain.enabled;
            head.triggers.previews_enabled = subdomain.previews_enabled.unwrap_or(subdomain.enabled);
            Ok(())
        })
        .await
    }

    /// Replaces the settings of `worker`.
    ///
    /// # Errors
    /// If they are too large, if there is no such worker, or if they cannot be stored.
    pub async fn set_settings(self: &Arc<Self>, worker: &WorkerName, settings: serde_json::Value) -> Result<(), Error> {
        let bytes = settings.to_string().len();
        if bytes > SETTINGS_BYTES_MAX {
            return Err(Error::SettingsTooLarge { bytes });
        }
        self.change_head(worker, "store the settings", move |_, _, head, _| {
            head.settings.clone_from(&settings);
            Ok(())
        })
        .await
    }

    async fn change_head(
        self: &Arc<Self>,
        worker: &WorkerName,
        attempt: &'static str,
        edit: impl Fn(&View, &WorkerView, &mut Head, &mut Changes) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let name = worker.clone();
        self.change(Subject::Worker(worker.clone()), attempt, move |catalog, view| {
            let worker = known(view, &name)?;
            let (mut head, mut changes) = (worker.head(), Changes::default());
            edit(view, worker, &mut head, &mut changes)?;
            changes.head(catalog, &name, Some(worker), &head)?;
            Ok(Step::Commit(changes, ()))
        })
        .await
    }

    /// Makes these the routes without a worker, which disable less specific ones (`RTE-6`), and forgets all others.
    ///
    /// # Errors
    /// [`Error::RouteTaken`] if a worker has one of the patterns; then nothing changes.
    pub async fn set_disabled_routes(self: &Arc<Self>, patterns: Vec<RoutePattern>) -> Result<(), Error> {
        let wanted: BTreeSet<RoutePattern> = patterns.into_iter().collect();
        self.edit_disabled_routes(move |routes| routes.clone_from(&wanted)).await
    }

    /// Adds one route without a worker. One that is there already stays.
    ///
    /// # Errors
    /// [`Error::RouteTaken`] if a worker has the pattern.
    pub async fn disable_route(self: &Arc<Self>, pattern: RoutePattern) -> Result<(), Error> {
        self.edit_disabled_routes(move |routes| {
            routes.insert(pattern.clone());
        })
        .await
    }

    /// Forgets one route without a worker, if there is such a one.
    ///
    /// # Errors
    /// Only if the store fails.
    pub async fn enable_route(self: &Arc<Self>, pattern: RoutePattern) -> Result<(), Error> {
        self.edit_disabled_routes(move |routes| {
            routes.remove(&pattern);
        })
        .await
    }

    async fn edit_disabled_routes(
        self: &Arc<Self>,
        edit: impl Fn(&mut BTreeSet<RoutePattern>) + Send + 'static,
    ) -> Result<(), Error> {
        self.change(Subject::DisabledRoutes, "store the routes without a worker", move |_, view| {
            let had: BTreeSet<_> = view.disabled_routes().iter().cloned().collect();
            let mut wanted = had.clone();
            edit(&mut wanted);
            check_count(wanted.len())?;
            let mut changes = Changes::default();
            let key = record::disabled_routes_key();
            changes.checks.push(match view.disabled_routes_revision() {
                Some(revision) => Check::version(key.clone(), revision),
                None => Check::absent(key.clone()),
            });
            for pattern in wanted.difference(&had) {
                if let Some(owner) = route_owner(view, pattern) {
                    return Err(Error::RouteTaken { pattern: pattern.clone(), owner });
                }
                changes.claim(record::route_claim_key(pattern), None);
            }
            changes.writes.extend(had.difference(&wanted).map(|gone| Write::delete(record::route_claim_key(gone))));
            let wanted: Vec<RoutePattern> = wanted.iter().cloned().collect();
            changes.writes.push(Write::put(key, record::encode_disabled_routes(&wanted)));
            Ok(Step::Commit(changes, ()))
        })
        .await
    }
}

impl Changes {
    /// Takes what nobody has.
    fn claim(&mut self, key: crate::store::Key, worker: Option<&WorkerName>) {
        self.checks.push(Check::absent(key.clone()));
        self.writes.push(Write::put(key, record::claim(worker)));
    }
}

/// Who has a pattern: a worker, or `Some(None)` a route without one.
fn route_owner(view: &View, pattern: &RoutePattern) -> Option<Option<WorkerName>> {
    let has = |worker: &&Arc<WorkerView>| worker.triggers.routes.iter().any(|route| route.pattern == *pattern);
    match view.workers().find(has) {
        Some(owner) => Some(Some(owner.name.clone())),
        None => view.disabled_routes().contains(pattern).then_some(None),
    }
}

fn check_count(count: usize) -> Result<(), Error> {
    if count <= ROUTES_MAX { Ok(()) } else { Err(Error::TooManyRoutes { count }) }
}
