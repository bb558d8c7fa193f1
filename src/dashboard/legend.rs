//! How a worker's versions are shown wherever they are named: the number, a colour, the way to their page.
//!
//! A colour says nothing that a text beside it does not say. A version has one from the deployment on that it was first in, and keeps
//! it: so a bar, a row and a timeline speak of the same version in the same colour, and the versions of one deployment differ.

use std::collections::HashMap;

use maud::{Markup, html};

use crate::catalog::WorkerView;
use crate::dashboard::{figures, parts};
use crate::domain::deployment::Deployment;
use crate::domain::id::{DeploymentId, VersionId};
use crate::domain::split::{Share, Split};

/// Colours in the stylesheet.
const HUES: usize = 8;

/// The colour of a version; none where it was never deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hue(Option<u8>);

/// The versions of one worker as pages show them.
pub struct Legend<'a> {
    worker: &'a WorkerView,
    hues: HashMap<VersionId, Hue>,
}

impl Hue {
    /// The class that gives a shape this colour.
    #[must_use]
    pub fn class(self) -> &'static str {
        const CLASSES: [&str; HUES] = ["hue-0", "hue-1", "hue-2", "hue-3", "hue-4", "hue-5", "hue-6", "hue-7"];
        self.0.map_or("hue-none", |hue| CLASSES[usize::from(hue) % HUES])
    }

    /// A patch of it.
    #[must_use]
    pub fn swatch(self) -> Markup {
        html! {
            svg.swatch viewBox="0 0 10 10" width="10" height="10" aria-hidden="true" {
                rect class=(self.class()) x="0.5" y="0.5" width="9" height="9" rx="2" {}
            }
        }
    }
}

impl<'a> Legend<'a> {
    /// The legend of `worker`.
    #[must_use]
    pub fn of(worker: &'a WorkerView) -> Self {
        let oldest_first = worker.deployments.iter().rev();
        Self { worker, hues: hues(oldest_first.map(|deployment| &deployment.split)) }
    }

    /// The same with a split that is still to be deployed, whose new versions have the colours that they would get.
    #[must_use]
    pub fn with(worker: &'a WorkerView, planned: &Split) -> Self {
        let oldest_first = worker.deployments.iter().rev().map(|deployment| &deployment.split);
        Self { worker, hues: hues(oldest_first.chain([planned])) }
    }

    /// Whether this is the worker's active deployment.
    #[must_use]
    pub fn is_active(&self, deployment: DeploymentId) -> bool {
        self.worker.active.as_ref().is_some_and(|active| active.id == deployment)
    }

    /// The worker whose versions they are.
    #[must_use]
    pub fn worker(&self) -> &'a WorkerView {
        self.worker
    }

    /// The colour of a version.
    #[must_use]
    pub fn hue(&self, version: VersionId) -> Hue {
        self.hues.get(&version).copied().unwrap_or_default()
    }

    /// The path of a version's page.
    #[must_use]
    pub fn path(&self, version: VersionId) -> String {
        format!("/workers/{}/versions/{version}", self.worker.name)
    }

    /// A version by its number, with its colour, leading to its page. One that was deleted is told by its id.
    #[must_use]
    pub fn version(&self, id: VersionId) -> Markup {
        html! {
            @match self.worker.version(id) {
                Some(version) => { a.version href=(self.path(id)) { (self.hue(id).swatch()) "#" (version.number) } },
                None => { span.version { (self.hue(id).swatch()) code title=(id) { (id.short()) } " (deleted)" } },
            }
        }
    }

    /// The same with the version's tag.
    #[must_use]
    pub fn tagged(&self, id: VersionId) -> Markup {
        html! {
            (self.version(id))
            @if let Some(version) = self.worker.version(id) { " " (parts::tag(version)) }
        }
    }

    /// A version in words: `#3`.
    #[must_use]
    pub fn name(&self, id: VersionId) -> String {
        self.worker.version(id).map_or_else(|| id.short(), |version| format!("#{}", version.number))
    }

    /// The bar of a deployment's split.
    #[must_use]
    pub fn bar(&self, deployment: &Deployment) -> Markup {
        self.split_bar(&deployment.split, "Configured")
    }

    /// The bar of a split. `what` says to who cannot see it which one it is.
    #[must_use]
    pub fn split_bar(&self, split: &Split, what: &str) -> Markup {
        let entries = split.entries();
        let pieces: Vec<(Hue, u64)> = entries.iter().map(|(id, share)| (self.hue(*id), share.slots().into())).collect();
        parts::bar(&pieces, &format!("{what}: {}", self.words(entries)))
    }

    /// A split in words: `#3 20 %, #2 80 %`.
    #[must_use]
    pub fn words(&self, entries: &[(VersionId, Share)]) -> String {
        let texts = entries.iter().map(|(id, share)| format!("{} {}", self.name(*id), figures::share(*share)));
        texts.collect::<Vec<_>>().join(", ")
    }
}

/// Colours for the versions of these splits, the oldest first: a new version gets the colour that was given longest ago among those
/// that no other version of its split has.
fn hues<'a>(splits: impl Iterator<Item = &'a Split>) -> HashMap<VersionId, Hue> {
    let mut hues: HashMap<VersionId, Hue> = HashMap::new();
    let mut by_age: Vec<u8> = (0..8).collect();
    for split in splits {
        for (id, _) in split.entries() {
            if hues.contains_key(id) {
                continue;
            }
            let beside: Vec<Hue> = split.entries().iter().filter_map(|(other, _)| hues.get(other).copied()).collect();
            let free = by_age.iter().position(|hue| !beside.contains(&Hue(Some(*hue)))).unwrap_or(0);
            let hue = by_age.remove(free);
            by_age.push(hue);
            hues.insert(*id, Hue(Some(hue)));
        }
    }
    hues
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> VersionId {
        VersionId::from_random([n; 16])
    }

    fn split(versions: &[u8]) -> Split {
        let mut entries: Vec<(VersionId, f64)> = versions.iter().map(|n| (id(*n), 0.0)).collect();
        entries[0].1 = 100.0;
        Split::from_percentages(&entries).unwrap()
    }

    #[test]
    fn versions_of_one_deployment_differ_and_keep_their_colours() {
        let splits: Vec<Split> = (2..40).map(|n| split(&[n, 1])).collect();
        let found = hues(splits.iter());
        assert!((2..40).all(|n| found[&id(n)] != found[&id(1)]));
        assert!((2..39).all(|n| found[&id(n)] != found[&id(n + 1)]));
        let more: Vec<Split> = splits.iter().cloned().chain([split(&[40, 39])]).collect();
        assert_eq!(hues(more.iter())[&id(7)], found[&id(7)]);
        let many = split(&(1..=20).collect::<Vec<u8>>());
        let found = hues([many].iter());
        assert_eq!(found.len(), 20);
        let first: std::collections::BTreeSet<&str> = (1..=8).map(|n| found[&id(n)].class()).collect();
        assert_eq!(first.len(), HUES);
    }
}
