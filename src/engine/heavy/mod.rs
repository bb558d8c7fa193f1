//! Guests that compute for long, out of the way of those that do not.
//!
//! A few threads serve all requests. A guest that computes holds one of them until a tick makes it give way, and then it stands
//! in one queue with everybody: beside a hundred guests that spin, each step of a request waits for a hundred of theirs. So a
//! guest that has computed for many [slices](crate::engine::metered::SLICE) without waiting for anything is moved, as it is, to other threads, which the
//! system lets run when it has nothing better to do. A version whose guests often compute for a slice or more is *heavy*, and its next ones
//! begin there. When enough of them have been short it is heavy no more, and those that still live are moved back.
//!
//! When other programs keep the machine busy, a compiler say, those threads would hardly run at all. While that is so ([`crowd`]), heavy
//! guests are on a second set of threads, which compete for the cores like anybody, if a little less.
//!
//! On all of those threads each version has as many *turns* as there are cores, so that a version with many such guests takes nothing
//! from a version with few. A guest keeps its turn for a while ([`SLICES_A_TURN`]) rather than for one tick: half-done guests
//! hold memory.

use std::panic::resume_unwind;
mod crowd;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::PollSemaphore;

use crate::engine::heavy::crowd::Crowd;
use crate::engine::lanes::parallelism;
use crate::host::state::Meter;

/// Slices that a guest computes before another one of its version has its turn: 100 ms or more of CPU time.
const SLICES_A_TURN: u32 = 50;
/// What each slice that a guest uses up adds to its version's score; a guest that used up none takes one away. So a version with
/// more than one slice for every four guests becomes heavy, one of them in a hundred with a long pause for garbage does not.
const OVERRUN: u32 = 4;
/// The score from which a version is heavy: some 30 slices, which are 30 to 90 ms of CPU time.
const HEAVY: u32 = 128;
/// Enough: a version is out of it after a thousand short guests at the latest.
const SCORE_MAX: u32 = 1024;
/// Slices that a guest may use up one after another before it is moved, whatever its version is like: 25 to 75 ms of CPU time.
const PATIENCE: u32 = 24;
/// The lowest niceness there is, where the system refuses to let them run only when it is idle.
#[cfg(target_os = "linux")]
const NICE: i32 = 19;
/// Niceness of the threads that compete with other programs: beside a thread of one of these they get a quarter of a core.
#[cfg(target_os = "linux")]
const NICE_IN_A_CROWD: i32 = 5;

/// The threads for heavy guests.
pub struct Threads {
    /// None only while it is dropped.
    runtimes: Option<ByRank<Runtime>>,
    crowd: Arc<Crowd>,
}

/// Which of the two sets of threads is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// Runs when nothing else does.
    Last,
    /// Competes with other programs.
    InACrowd,
}

/// One for each set.
struct ByRank<T> {
    last: T,
    in_a_crowd: T,
}

/// What is known of one version, and its turns.
pub struct Heavy {
    threads: ByRank<Handle>,
    crowd: Arc<Crowd>,
    turns: Arc<Semaphore>,
    score: AtomicU32,
}

/// A guest that is moved to the threads for heavy ones when it has to be.
pub struct Movable<F: Future> {
    /// None once it was moved.
    here: Option<F>,
    away: Option<Away<F>>,
    meter: Arc<Meter>,
    heavy: Arc<Heavy>,
    /// Slices that it has used up one after another.
    used_up: u32,
    was_short: bool,
}

/// A guest on the other threads. It ends with this.
struct Away<F: Future>(JoinHandle<Left<F>>);

/// How a guest leaves the other threads.
enum Left<F: Future> {
    Ended(F::Output),
    Home(F),
    /// To the other set of them.
    Over(F),
}

/// A guest on the other threads, seen from there.
struct Turns<F> {
    /// None once it has left.
    inner: Option<F>,
    meter: Arc<Meter>,
    heavy: Arc<Heavy>,
    rank: Rank,
    turns: PollSemaphore,
    /// The turn that it has, and the slices it has used of it.
    turn: Option<(OwnedSemaphorePermit, u32)>,
    was_short: bool,
}

// === impl Threads ===

impl Threads {
    /// Two for each core.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn start() -> std::io::Result<Self> {
        let start = |rank| {
            let mut builder = Builder::new_multi_thread();
            let name = match rank {
                Rank::Last => "heavy",
                Rank::InACrowd => "heavy-crowd",
            };
            builder.enable_all().worker_threads(parallelism()).thread_name(name);
            // Of this thread alone; elsewhere it would be of the process.
            #[cfg(target_os = "linux")]
            builder.on_thread_start(move || rank_this_thread(rank));
            builder.build()
        };
        let runtimes = ByRank { last: start(Rank::Last)?, in_a_crowd: start(Rank::InACrowd)? };
        Ok(Self { runtimes: Some(runtimes), crowd: Arc::default() })
    }

    /// A version about which nothing is known yet.
    #[must_use]
    pub fn version(&self) -> Arc<Heavy> {
        let runtimes = self.runtimes.as_ref().expect("the threads are there until they are dropped");
        let threads = ByRank { last: runtimes.last.handle().clone(), in_a_crowd: runtimes.in_a_crowd.handle().clone() };
        Arc::new(Heavy {
            threads,
            crowd: Arc::clone(&self.crowd),
            turns: Arc::new(Semaphore::new(parallelism())),
            score: AtomicU32::new(0),
        })
    }

    /// What is to be called at each tick of the engines, on the ticker's thread.
    pub fn ticks(&self) -> impl Fn() + Send + 'static {
        let crowd = Arc::clone(&self.crowd);
        move || crowd.tick()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waiting for them is not allowed on a thread that serves others.
        if let Some(ByRank { last, in_a_crowd }) = self.runtimes.take() {
            last.shutdown_background();
            in_a_crowd.shutdown_background();
        }
    }
}

#[cfg(target_os = "linux")]
fn rank_this_thread(rank: Rank) {
    use thread_priority::{NormalThreadSchedulePolicy::Idle, ThreadPriority, ThreadSchedulePolicy};

    let nice = match rank {
        Rank::Last => {
            // Whoever else wakes up takes their core at once, which the lowest niceness does not give: there a thread that runs
            // may finish its turn of some milliseconds first.
            let this = thread_priority::thread_native_id();
            let idle = ThreadSchedulePolicy::Normal(Idle);
            if thread_priority::set_thread_priority_and_policy(this, ThreadPriority::Min, idle).is_ok() {
                return;
            }
            NICE
        }
        Rank::InACrowd => NICE_IN_A_CROWD,
    };
    // Without it they are in the way of the others, and no one is hurt otherwise.
    let _ = rustix::process::nice(nice);
}

// === impl Heavy ===

impl Heavy {
    /// Whether guests of the version begin on the other threads.
    pub fn is_heavy(&self) -> bool {
        self.score.load(Ordering::Relaxed) >= HEAVY
    }

    /// Where heavy guests belong now.
    fn rank(&self) -> Rank {
        if self.crowd.is_crowded() { Rank::InACrowd } else { Rank::Last }
    }

    fn spawn<F>(self: &Arc<Self>, inner: F, meter: &Arc<Meter>) -> Away<F>
    where
        F: Future<Output: Send> + Send + Unpin + 'static,
    {
        let rank = self.rank();
        let threads = match rank {
            Rank::Last => &self.threads.last,
            Rank::InACrowd => &self.threads.in_a_crowd,
        };
        Away(threads.spawn(Turns::new(inner, meter, self, rank)))
    }

    /// A guest, or a request to one, has ended and was not too long.
    pub fn was_short(&self) {
        // Nearly always nothing is known against a version, and then nothing is written that other cores would have to read.
        if self.score.load(Ordering::Relaxed) > 0 {
            let _ = self.score.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |score| score.checked_sub(1));
        }
    }

    /// Whether nothing is known against the version (any more).
    fn is_clear(&self) -> bool {
        self.score.load(Ordering::Relaxed) == 0
    }

    /// One of its guests has used up a slice.
    fn overran(&self) {
        let more = |score: u32| Some(score.saturating_add(OVERRUN).min(SCORE_MAX));
        let _ = self.score.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

// === impl Movable ===

impl<F: Future + Unpin> Movable<F> {
    /// A guest that is metered by `meter`; what it is polled by belongs to a version that `heavy` knows.
    pub fn new(inner: F, meter: Arc<Meter>, heavy: Arc<Heavy>) -> Self {
        if heavy.is_heavy() {
            meter.goes_away();
        } else {
            meter.comes_home();
        }
        Self { here: Some(inner), away: None, meter, heavy, used_up: 0, was_short: true }
    }
}

impl<F> Future for Movable<F>
where
    F: Future<Output: Send> + Send + Unpin + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { here, away, meter, heavy, used_up, was_short } = &mut *self;
        loop {
            if let Some(inner) = here.as_mut().filter(|_| !heavy.is_heavy()) {
                match Pin::new(inner).poll(cx) {
                    Poll::Ready(output) => {
                        if *was_short {
                            heavy.was_short();
                        }
                        return Poll::Ready(output);
                    }
                    Poll::Pending if !meter.take_overrun() => {
                        *used_up = 0;
                        return Poll::Pending;
                    }
                    Poll::Pending => {
                        heavy.overran();
                        *was_short = false;
                        *used_up += 1;
                        // It gave way, and has seen to it that it is polled again.
                        if *used_up <= PATIENCE && !heavy.is_heavy() {
                            return Poll::Pending;
                        }
                        *used_up = 0;
                    }
                }
            }
            if let Some(inner) = here.take() {
                meter.goes_away();
                *away = Some(heavy.spawn(inner, meter));
            }
            let Some(Away(task)) = away else { return Poll::Pending };
            match ready!(Pin::new(task).poll(cx)) {
                Ok(Left::Ended(output)) => return Poll::Ready(output),
                Ok(Left::Home(inner)) => {
                    meter.comes_home();
                    *here = Some(inner);
                    *away = None;
                }
                Ok(Left::Over(inner)) => *away = Some(heavy.spawn(inner, meter)),
                Err(ended) => match ended.try_into_panic() {
                    Ok(panic) => resume_unwind(panic),
                    // The threads are going down, and this one will.
                    Err(_) => return Poll::Pending,
                },
            }
        }
    }
}

impl<F: Future> Drop for Away<F> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

// === impl Turns ===

impl<F> Turns<F> {
    fn new(inner: F, meter: &Arc<Meter>, heavy: &Arc<Heavy>, rank: Rank) -> Self {
        let (meter, heavy) = (Arc::clone(meter), Arc::clone(heavy));
        let turns = PollSemaphore::new(Arc::clone(&heavy.turns));
        heavy.crowd.guest_comes();
        Self { inner: Some(inner), meter, heavy, rank, turns, turn: None, was_short: true }
    }
}

impl<F> Drop for Turns<F> {
    fn drop(&mut self) {
        self.heavy.crowd.guest_goes();
    }
}

impl<F: Future + Unpin> Future for Turns<F> {
    type Output = Left<F>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Left<F>> {
        let this = &mut *self;
        if this.heavy.is_clear()
            && let Some(inner) = this.inner.take()
        {
            return Poll::Ready(Left::Home(inner));
        }
        if this.heavy.rank() != this.rank
            && let Some(inner) = this.inner.take()
        {
            return Poll::Ready(Left::Over(inner));
        }
        let Some(inner) = &mut this.inner else { return Poll::Pending };
        if this.turn.is_none() {
            // None only if the semaphore were closed, which it never is.
            let Some(permit) = ready!(this.turns.poll_acquire(cx)) else { return Poll::Pending };
            this.turn = Some((permit, 0));
        }
        if let Poll::Ready(output) = Pin::new(inner).poll(cx) {
            if this.was_short {
                this.heavy.was_short();
            }
            return Poll::Ready(Left::Ended(output));
        }
        if this.meter.take_overrun() {
            // It gave way, and is to be polled again; so nothing has to wake it.
            this.was_short = false;
            this.heavy.overran();
            if let Some((_, used)) = &mut this.turn
                && *used + 1 < SLICES_A_TURN
            {
                *used += 1;
                return Poll::Pending;
            }
        }
        this.turn = None;
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computes for so many slices, and tells on which threads.
    fn computing(meter: &Arc<Meter>, slices: u32) -> impl Future<Output = Vec<String>> + Unpin + Send + 'static {
        let (meter, mut seen) = (Arc::clone(meter), Vec::new());
        std::future::poll_fn(move |cx| {
            seen.push(std::thread::current().name().unwrap_or_default().to_owned());
            if seen.len() > slices as usize {
                return Poll::Ready(std::mem::take(&mut seen));
            }
            meter.overrun();
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    async fn run(heavy: &Arc<Heavy>, slices: u32) -> Vec<String> {
        let meter = Arc::new(Meter::default());
        Movable::new(computing(&meter, slices), meter, Arc::clone(heavy)).await
    }

    #[tokio::test]
    async fn who_computes_for_long_is_moved_and_the_next_ones_begin_there() {
        let threads = Threads::start().unwrap();
        let heavy = threads.version();
        let here = run(&heavy, 0).await;
        assert_ne!(here, ["heavy"]);
        let at_home = PATIENCE as usize + 1;
        let moved = run(&heavy, PATIENCE + 3).await;
        assert!(moved[..at_home].iter().all(|name| *name == here[0]), "{moved:?}");
        assert_eq!(moved[at_home..], ["heavy", "heavy", "heavy"]);
        // One is no rule, several are.
        assert_eq!(run(&heavy, 0).await, here);
        while !heavy.is_heavy() {
            run(&heavy, PATIENCE + 1).await;
        }
        assert_eq!(run(&heavy, 0).await, ["heavy"]);
        // Short ones make up for it.
        let mut others = 0;
        while run(&heavy, 0).await == ["heavy"] {
            others += 1;
            assert!(others <= SCORE_MAX, "it stays heavy for ever");
        }
        assert!(others > 1);
    }

    #[tokio::test]
    async fn who_lives_on_comes_back_when_its_version_is_heavy_no_more() {
        let threads = Threads::start().unwrap();
        let heavy = threads.version();
        let meter = Arc::new(Meter::default());
        let (turn, mut turns) = tokio::sync::mpsc::unbounded_channel::<()>();
        let (told, mut names) = tokio::sync::mpsc::unbounded_channel();
        let long = computing(&meter, PATIENCE + 1);
        let guest = Box::pin(async move {
            long.await;
            while turns.recv().await.is_some() {
                told.send(std::thread::current().name().unwrap_or_default().to_owned()).unwrap();
                // One turn for each time that it is polled.
                tokio::task::yield_now().await;
            }
        });
        let task = tokio::spawn(Movable::new(guest, Arc::clone(&meter), Arc::clone(&heavy)));
        turn.send(()).unwrap();
        assert_eq!(names.recv().await.unwrap(), "heavy");
        while !heavy.is_clear() {
            heavy.was_short();
        }
        // The first may still be answered from where it was being polled.
        for _ in 0..2 {
            turn.send(()).unwrap();
            let _ = names.recv().await.unwrap();
        }
        turn.send(()).unwrap();
        assert_ne!(names.recv().await.unwrap(), "heavy");
        assert!(!meter.is_away());
        drop(turn);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn who_computes_for_a_while_now_and_then_stays() {
        let threads = Threads::start().unwrap();
        let heavy = threads.version();
        for _ in 0..10 {
            assert!(run(&heavy, 7).await.iter().all(|name| name != "heavy"));
            for _ in 0..7 * OVERRUN {
                run(&heavy, 0).await;
            }
        }
        assert!(heavy.is_clear());
    }

    #[tokio::test]
    async fn many_that_never_end_leave_turns_to_another_version() {
        let threads = Threads::start().unwrap();
        let (spinning, other) = (threads.version(), threads.version());
        let spin: Vec<_> = (0..100)
            .map(|_| {
                let heavy = Arc::clone(&spinning);
                tokio::spawn(async move { run(&heavy, u32::MAX).await })
            })
            .collect();
        assert_eq!(run(&other, SLICES_A_TURN * 3).await.len(), SLICES_A_TURN as usize * 3 + 1);
        assert_eq!(run(&threads.version(), 0).await.len(), 1);
        for task in &spin {
            task.abort();
        }
        for task in spin {
            assert!(task.await.unwrap_err().is_cancelled());
        }
        // Those that were left have given their turns back.
        assert_eq!(run(&spinning, 5).await.len(), 6);
    }
}
