//! Reading the ranges of many workers, one after the other: by pages of the whole family, since asking the store takes longer than
//! reading what one worker has.

use std::collections::VecDeque;

use crate::store::{Entry, Error, Order, Range, Snapshot};

/// Entries of one page of a scan: small beside a view, large beside the cost of asking.
pub(super) const PAGE: usize = 1000;

/// A family that is read from its beginning to its end.
pub(super) struct Pages<'a> {
    snapshot: &'a dyn Snapshot,
    /// What has not been read.
    rest: Range,
    page: VecDeque<Entry>,
    is_last: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn of(snapshot: &'a dyn Snapshot, family: Range) -> Self {
        Self { snapshot, rest: family, page: VecDeque::new(), is_last: false }
    }

    /// The entries of a range, which begins no earlier than the one asked for before.
    pub(super) async fn take(&mut self, range: &Range) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        loop {
            while let Some(entry) = self.page.pop_front_if(|entry| entry.key < range.end) {
                if entry.key >= range.start {
                    entries.push(entry);
                }
            }
            if !self.page.is_empty() || self.is_last {
                return Ok(entries);
            }
            let page = self.snapshot.scan(self.rest.clone(), Order::Ascending, PAGE).await?;
            self.is_last = page.len() < PAGE;
            if let Some(last) = page.last() {
                self.rest = self.rest.clone().after(&last.key);
            }
            self.page = page.into();
        }
    }

    /// Passes over a range.
    pub(super) fn skip(&mut self, range: &Range) {
        while self.page.pop_front_if(|entry| entry.key < range.end).is_some() {}
        if self.page.is_empty() && self.rest.start < range.end {
            self.rest.start = range.end.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Family, Key, MemoryStore, Store as _, Write};

    const FAMILY: Family = Family::new(1);

    fn under(worker: usize) -> Key {
        Key::family(FAMILY).text(&format!("worker-{worker}"))
    }

    #[tokio::test]
    async fn every_range_has_its_own_entries_wherever_pages_end() {
        let store = MemoryStore::new();
        let counts = [3, 0, PAGE, 1, 2 * PAGE + 7, 5, PAGE - 6, 2];
        for (worker, count) in counts.into_iter().enumerate() {
            let writes = (0..count).map(|number| Write::Put {
                key: under(worker).number(number as u64),
                value: format!("{worker}/{number}").into(),
            });
            store.commit(vec![], writes.collect()).await.unwrap();
        }
        let snapshot = store.snapshot().await.unwrap();
        for skipped in 0..=counts.len() {
            let mut pages = Pages::of(&*snapshot, Range::under(&Key::family(FAMILY)));
            for (worker, count) in counts.into_iter().enumerate() {
                let range = Range::under(&under(worker));
                if worker == skipped {
                    pages.skip(&range);
                    continue;
                }
                let alone = snapshot.scan(range.clone(), Order::Ascending, usize::MAX).await.unwrap();
                assert_eq!(pages.take(&range).await.unwrap(), alone, "{worker} of {count}, {skipped} skipped");
                assert_eq!(alone.len(), count);
            }
        }
    }
}
