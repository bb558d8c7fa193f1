//! When an object takes a new assignment: at once, or deferred (`DOU-1`…`DOU-4`); and never for any other deployment (`O3`).

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use crate::clock;
use crate::domain::deployment::CodeUpdate;
use crate::domain::limits::OBJECT_OPEN_WALL_MAX;
use crate::host::object::Reset;
use crate::objects::home::{Cell, Home};
use crate::objects::{Assignment, Objects};

/// How often deferred changes are looked at.
const TICK: Duration = Duration::from_millis(500);

impl Objects {
    /// Whether `home` may take another event under the present assignment. If not, it is on its way out.
    pub(super) fn fits(self: &Arc<Self>, cell: &Arc<Cell>, home: &Arc<Home>, assignment: &Assignment) -> bool {
        let now = clock::monotonic();
        let mut seen = home.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if home.version.id == assignment.version.id {
            (seen.deployment, seen.switch_at) = (assignment.deployment, None);
            return true;
        }
        seen.deployment = assignment.deployment;
        match assignment.code_update {
            // It goes on as it is, until it leaves memory or the delay is over, whichever is first.
            CodeUpdate::Deferred { max_delay_s } => {
                let due = now + Duration::from_secs(u64::from(max_delay_s));
                // A change that was waiting already does not wait any longer for a further one.
                let due = seen.switch_at.map_or(due, |waiting| waiting.min(due));
                seen.switch_at = Some(due);
                if now < due {
                    return true;
                }
            }
            CodeUpdate::Immediate => {}
        }
        drop(seen);
        self.replace(cell, home)
    }

    /// Resets `home` for its new assignment. An object whose last start was lost to a deployment finishes this one first, so
    /// that deployments which follow each other quickly cannot keep it from ever answering. True if it stays that long.
    fn replace(self: &Arc<Self>, cell: &Arc<Cell>, home: &Arc<Home>) -> bool {
        if !home.has_progressed() && cell.lose_a_start() {
            let (objects, waiting) = (Arc::clone(self), Arc::clone(home));
            tokio::spawn(async move {
                let _ = tokio::time::timeout(OBJECT_OPEN_WALL_MAX, waiting.progress()).await;
                // Looked at again: what was deployed meanwhile may want it to stay.
                let address = waiting.address;
                let still = objects.assignment(&address).is_ok_and(|now| now.version.id == waiting.version.id);
                if !still {
                    waiting.object.reset(Reset::CodeUpdated);
                }
            });
            return true;
        }
        home.object.reset(Reset::CodeUpdated);
        false
    }

    /// Looks at every object in memory: after a deployment, and when a deferred change may be due.
    pub fn review(self: &Arc<Self>) {
        let cells: Vec<Arc<Cell>> = self.cells.iter().map(|cell| Arc::clone(&cell)).collect();
        for cell in cells {
            let Some(home) = cell.present().filter(|home| !home.object.is_dead()) else { continue };
            match self.assignment(&home.address) {
                Ok(assignment) => drop(self.fits(&cell, &home, &assignment)),
                // Its class or its worker is gone.
                Err(_) => home.object.reset(Reset::Deleted),
            }
        }
    }

    /// Reviews at every change of what is deployed, for as long as the objects are there.
    pub async fn review_forever(objects: Weak<Self>) {
        let Some(mut changes) = objects.upgrade().map(|objects| objects.catalog.changes()) else { return };
        loop {
            let changed = tokio::time::timeout(TICK, changes.changed()).await;
            let Some(objects) = objects.upgrade() else { return };
            match changed {
                Ok(Ok(())) => objects.review(),
                Ok(Err(_)) => return,
                Err(_) => objects.review_deferred(),
            }
        }
    }

    /// Forgets the places of objects that are not in memory, and whose past no longer counts.
    pub(super) fn forget_the_calm(&self) {
        let places: Vec<_> =
            self.cells.iter().filter(|cell| cell.present().is_none()).map(|cell| *cell.key()).collect();
        places.iter().for_each(|address| self.forget(address));
    }

    fn review_deferred(self: &Arc<Self>) {
        let now = clock::monotonic();
        let is_due = |home: &Home| {
            let seen = home.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.switch_at.is_some_and(|due| due <= now)
        };
        if self.cells.iter().filter_map(|cell| cell.present()).any(|home| is_due(&home)) {
            self.review();
        }
    }
}
