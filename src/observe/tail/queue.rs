//! What waits for one reader, bounded: a reader that is too slow loses events, and is told where in the stream and how many.

use std::collections::VecDeque;

use bytes::Bytes;

/// Events that may wait for a reader.
const EVENTS_MAX: usize = 1024;
/// Their bytes: an event may carry what a guest printed.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Events on their way to a reader.
#[derive(Debug, Default)]
pub struct Queue {
    events: VecDeque<Bytes>,
    bytes: usize,
    /// Events that were left out and not yet spoken of.
    dropped: u64,
    /// Events that come before the first of those.
    before_gap: usize,
    overloaded: bool,
}

/// What a reader gets next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Event(Bytes),
    /// So many events are missing here.
    Dropped(u64),
    /// The reader has caught up.
    Recovered,
}

impl Queue {
    /// Whether another event would be left out. Asked before an event is made, which is what costs.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.events.len() >= EVENTS_MAX || self.bytes >= BYTES_MAX
    }

    /// Counts an event that is left out.
    pub fn drop_one(&mut self) {
        if self.dropped == 0 {
            self.before_gap = self.events.len();
        }
        self.dropped += 1;
        self.overloaded = true;
    }

    /// Adds an event, or counts it as left out.
    pub fn push(&mut self, event: Bytes) {
        if self.is_full() {
            return self.drop_one();
        }
        self.bytes += event.len();
        self.events.push_back(event);
    }

    /// What the reader gets next, if there is anything.
    pub fn pop(&mut self) -> Option<Next> {
        if self.dropped > 0 && self.before_gap == 0 {
            return Some(Next::Dropped(std::mem::take(&mut self.dropped)));
        }
        // Not at once when there is room again: the two words would alternate for as long as the load stays.
        if self.overloaded && self.dropped == 0 && self.events.len() <= EVENTS_MAX / 4 && self.bytes <= BYTES_MAX / 4 {
            self.overloaded = false;
            return Some(Next::Recovered);
        }
        let event = self.events.pop_front()?;
        self.bytes -= event.len();
        self.before_gap = self.before_gap.saturating_sub(1);
        Some(Next::Event(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut Queue) -> Vec<Next> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn a_gap_is_told_where_it_is_and_recovery_once() {
        let mut queue = Queue::default();
        for n in 0..EVENTS_MAX + 10 {
            queue.push(Bytes::from(n.to_string()));
        }
        assert_eq!(queue.pop(), Some(Next::Event("0".into())));
        // Room again: what comes now comes after the gap.
        queue.push("late".into());
        let all = drain(&mut queue);
        assert_eq!(all[EVENTS_MAX - 1], Next::Dropped(10));
        let at = |wanted: &Next| all.iter().position(|next| next == wanted);
        assert_eq!(at(&Next::Event("late".into())), Some(EVENTS_MAX + 1));
        assert_eq!(at(&Next::Recovered), Some(EVENTS_MAX));
        assert_eq!(all.len(), EVENTS_MAX + 2);
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn a_load_that_stays_is_told_of_again_and_recovery_is_not_told_early() {
        let mut queue = Queue::default();
        let mut told = Vec::new();
        for n in 0..4 * EVENTS_MAX {
            queue.push("e".into());
            queue.push("e".into());
            if n > 0
                && let Some(next) = queue.pop()
                && !matches!(next, Next::Event(_))
            {
                told.push(next);
            }
        }
        assert!(told.len() >= 2, "{told:?}");
        assert!(!told.contains(&Next::Recovered));
        assert_eq!(drain(&mut queue).iter().filter(|next| **next == Next::Recovered).count(), 1);
    }

    #[test]
    fn large_events_fill_it_sooner() {
        let mut queue = Queue::default();
        let event = Bytes::from(vec![b'x'; BYTES_MAX / 4]);
        (0..6).for_each(|_| queue.push(event.clone()));
        assert_eq!(drain(&mut queue).iter().filter(|next| matches!(next, Next::Event(_))).count(), 4);
    }
}
