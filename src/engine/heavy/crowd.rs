//! Whether other programs keep this machine's cores busy. Threads that run when nothing else does would then not run at all, so
//! [`super`] gives heavy guests other threads meanwhile.
//!
//! Asked of the system ten times a second, and only while there are heavy guests or have been lately. The answer comes from what the
//! system says of the cores that this process may use (`/proc/stat`) and of its own CPU time; where it says neither, nobody is
//! ever in the way.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Ticks of the engines' ticker between two looks at the system: a tenth of a second.
const TICKS_A_LOOK: u32 = 50;
/// Looks that one answer spans: what lasts for less is no crowd.
const LOOKS: usize = 4;
/// Looks after the last heavy guest until nothing is asked any more: a minute. The next guest finds the answer then.
const LOOKS_WITHOUT_GUESTS: u32 = 600;
/// Others' share of the cores' time from which they are in the way: what they leave may be one core of four.
const CROWDED: f64 = 0.75;
/// And at which they are no more. Heavy guests on threads of the usual kind press the share of others down themselves, but not to this.
const QUIET: f64 = 0.4;

/// Who else is on the cores, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    is_crowded: AtomicBool,
    /// Heavy guests that live.
    guests: AtomicUsize,
    watch: Mutex<Watch>,
}

/// What the ticker remembers from look to look.
#[derive(Debug, Default)]
struct Watch {
    ticks: u32,
    looks_without_guests: u32,
    seen: VecDeque<Sample>,
}

/// Time that has gone by on the cores that this process may use, in seconds since some moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    all: f64,
    busy: f64,
    ours: f64,
}

impl Crowd {
    /// Whether others were in the way at the last look.
    pub(super) fn is_crowded(&self) -> bool {
        self.is_crowded.load(Ordering::Relaxed)
    }

    pub(super) fn guest_comes(&self) {
        self.guests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn guest_goes(&self) {
        self.guests.fetch_sub(1, Ordering::Relaxed);
    }

    /// A tick has passed.
    pub(super) fn tick(&self) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let has_guests = self.guests.load(Ordering::Relaxed) > 0;
        if !has_guests && watch.seen.is_empty() {
            return;
        }
        watch.ticks += 1;
        if watch.ticks < TICKS_A_LOOK {
            return;
        }
        watch.ticks = 0;
        let before = self.is_crowded();
        let is_crowded = watch.look(before, has_guests, system::sample());
        if is_crowded != before {
            self.is_crowded.store(is_crowded, Ordering::Relaxed);
            if is_crowded {
                tracing::info!(
                    "other programs keep the cores busy: guests that compute for long compete with them now"
                );
            } else {
                tracing::info!(
                    "other programs leave the cores alone: guests that compute for long run when nothing else does"
                );
            }
        }
    }
}

impl Watch {
    /// Whether it is crowded now, if it was so `before`.
    fn look(&mut self, before: bool, has_guests: bool, now: Option<Sample>) -> bool {
        self.looks_without_guests = if has_guests { 0 } else { self.looks_without_guests + 1 };
        let Some(now) = now.filter(|_| self.looks_without_guests < LOOKS_WITHOUT_GUESTS) else {
            self.seen.clear();
            return false;
        };
        self.seen.push_back(now);
        if self.seen.len() <= LOOKS {
            return before;
        }
        let share = self.seen.pop_front().map_or(0.0, |then| now.of_others_since(then));
        share >= if before { QUIET } else { CROWDED }
    }
}

impl Sample {
    /// The share of the cores' time that other processes took.
    fn of_others_since(self, then: Self) -> f64 {
        let all = self.all - then.all;
        let others = (self.busy - then.busy) - (self.ours - then.ours);
        // Nothing has gone by if the set of cores has changed meanwhile.
        if all > 0.0 { (others / all).clamp(0.0, 1.0) } else { 0.0 }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::Sample;

    /// In which `/proc/stat` counts, for every Linux that we run on (`USER_HZ`).
    const TICKS_A_SECOND: f64 = 100.0;

    /// What the system says now.
    pub(super) fn sample() -> Option<Sample> {
        let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
        let mine = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let (all, busy) = cores(&stat, |core| is_listed(mine, core))?;
        let ours = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        #[expect(clippy::cast_precision_loss, reason = "seconds of one process")]
        let ours = ours.tv_sec as f64 + ours.tv_nsec as f64 / 1e9;
        Some(Sample { all: all / TICKS_A_SECOND, busy: busy / TICKS_A_SECOND, ours })
    }

    /// Whether a core is in a list such as `0-3,7`.
    pub(super) fn is_listed(list: &str, core: usize) -> bool {
        list.trim().split(',').any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse().is_ok_and(|first: usize| first <= core) && last.parse().is_ok_and(|last: usize| core <= last)
        })
    }

    /// Ticks that have gone by on some cores, in all and busy; those that a hypervisor took are neither.
    pub(super) fn cores(stat: &str, is_mine: impl Fn(usize) -> bool) -> Option<(f64, f64)> {
        let (mut all, mut busy) = (0.0, 0.0);
        for line in stat.lines() {
            let Some((core, ticks)) = line.strip_prefix("cpu").and_then(|line| line.split_once(' ')) else { break };
            // The line without a number is the sum.
            if core.is_empty() || !is_mine(core.parse().ok()?) {
                continue;
            }
            let mut ticks = ticks.split_ascii_whitespace().map_while(|count| count.parse::<f64>().ok());
            let mut next = || ticks.next();
            let (user, nice, system, idle, waiting, irq, softirq) =
                (next()?, next()?, next()?, next()?, next()?, next()?, next()?);
            let worked = user + nice + system + irq + softirq;
            busy += worked;
            all += worked + idle + waiting;
        }
        (all > 0.0).then_some((all, busy))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    /// Nothing is known.
    pub(super) fn sample() -> Option<super::Sample> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks of a tenth of a second each on two cores: (others' share, our share), and what each look says.
    fn check(shares: &[(f64, f64)], has_guests: bool) -> Vec<bool> {
        let (mut watch, mut now, mut is_crowded) = (Watch::default(), Sample { all: 0.0, busy: 0.0, ours: 0.0 }, false);
        let mut look = |&(others, ours): &(f64, f64)| {
            now.all += 0.2;
            now.busy += 0.2 * (others + ours);
            now.ours += 0.2 * ours;
            is_crowded = watch.look(is_crowded, has_guests, Some(now));
            is_crowded
        };
        shares.iter().map(&mut look).collect()
    }

    #[test]
    fn others_are_in_the_way_when_they_take_nearly_all_for_some_looks() {
        assert_eq!(check(&[(0.9, 0.1); 6], true), [false, false, false, false, true, true]);
        // What the node takes itself is no crowd, and neither is one busy core of two.
        assert!(!check(&[(0.0, 1.0); 20], true).contains(&true));
        assert!(!check(&[(0.5, 0.5); 20], true).contains(&true));
        // A moment is none either.
        let moment = [[(0.0, 0.1); 5].as_slice(), &[(1.0, 0.0); 2], &[(0.0, 0.1); 10]].concat();
        assert!(!check(&moment, true).contains(&true));
    }

    #[test]
    fn it_stays_crowded_while_guests_compete_and_ends_when_others_end() {
        let shares = [[(1.0, 0.0); 5].as_slice(), &[(0.6, 0.4); 20], &[(0.1, 0.5); 10]].concat();
        let said = check(&shares, true);
        assert!(said[4..25].iter().all(|crowded| *crowded), "{said:?}");
        assert!(!said[30], "{said:?}");
    }

    #[test]
    fn a_minute_after_the_last_guest_nothing_is_known() {
        let said = check(&vec![(1.0, 0.0); LOOKS_WITHOUT_GUESTS as usize + 10], false);
        assert_eq!(said.iter().rposition(|crowded| *crowded), Some(LOOKS_WITHOUT_GUESTS as usize - 2));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_cores_that_this_process_may_use_count() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 10 1 5 100 3 2 1 50 0 0\ncpu2 1 0 0 9 0 0 0 0 0 0\nintr 1 2 3\n";
        assert_eq!(system::cores(stat, |core| core == 0), Some((122.0, 19.0)));
        assert_eq!(system::cores(stat, |core| core == 2), Some((10.0, 1.0)));
        assert_eq!(system::cores(stat, |_| true), Some((132.0, 20.0)));
        assert_eq!(system::cores(stat, |core| core == 1), None);
        assert_eq!(system::cores("nonsense", |_| true), None);
        let listed = |core| system::is_listed("\t0-2,5\n", core);
        assert_eq!((0..7).map(listed).collect::<Vec<_>>(), [true, true, true, false, false, true, false]);
        let (first, second) = (system::sample().unwrap(), system::sample().unwrap());
        assert!(second.all >= first.all && second.ours >= first.ours);
    }
}
