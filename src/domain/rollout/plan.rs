//! What is asked for: steps, how long each stands, and the guards.

use std::time::Duration;

use crate::domain::guard::Guard;
use crate::domain::limits::{ROLLOUT_EVERY_MAX, ROLLOUT_EVERY_MIN, ROLLOUT_GUARDS_MAX, ROLLOUT_STEPS_MAX, SLOTS};
use crate::domain::split::Share;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    steps: Vec<Share>,
    every: Duration,
    guards: Vec<Guard>,
}

/// Why it cannot be asked for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("a rollout has 2 to {ROLLOUT_STEPS_MAX} steps, got {0}")]
    StepCount(usize),
    #[error("a step is a percentage above 0 and at most 100, in thousandths at the finest, got {0}")]
    Step(f64),
    #[error("the steps of a rollout rise, and {then} comes after {before}")]
    Falling { before: f64, then: f64 },
    #[error("the last step of a rollout is 100, got {0}: pause it where it is to stay")]
    Unfinished(f64),
    #[error("a step stands for {min} s to {max} s, got {got} s", min = ROLLOUT_EVERY_MIN.as_secs(), max = ROLLOUT_EVERY_MAX.as_secs(), got = .0.as_secs_f64())]
    Every(Duration),
    #[error("a rollout has 1 to {ROLLOUT_GUARDS_MAX} guards, got {0}")]
    GuardCount(usize),
    #[error("the guard `{0}` is named twice")]
    Twice(Guard),
}

impl Plan {
    /// The steps in percent, unless someone says otherwise.
    pub const STEPS: [f64; 5] = [1.0, 5.0, 25.0, 50.0, 100.0];
    /// How long each stands, unless someone says otherwise.
    pub const EVERY: Duration = Duration::from_secs(5 * 60);

    /// A plan that can be followed.
    ///
    /// # Errors
    /// The first rule that it breaks; see [`Error`].
    pub fn new(percentages: &[f64], every: Duration, guards: Vec<Guard>) -> Result<Self, Error> {
        if !(2..=ROLLOUT_STEPS_MAX).contains(&percentages.len()) {
            return Err(Error::StepCount(percentages.len()));
        }
        let steps: Vec<Share> =
            percentages.iter().map(|percent| step(*percent).ok_or(Error::Step(*percent))).collect::<Result<_, _>>()?;
        if let Some(at) = steps.windows(2).position(|pair| pair[1] <= pair[0]) {
            return Err(Error::Falling { before: percentages[at], then: percentages[at + 1] });
        }
        if let Some(last) = steps.last().filter(|last| **last != Share::ALL) {
            return Err(Error::Unfinished(last.percent()));
        }
        if !(ROLLOUT_EVERY_MIN..=ROLLOUT_EVERY_MAX).contains(&every) {
            return Err(Error::Every(every));
        }
        if !(1..=ROLLOUT_GUARDS_MAX).contains(&guards.len()) {
            return Err(Error::GuardCount(guards.len()));
        }
        if let Some((_, twice)) = guards.iter().enumerate().find(|(at, guard)| guards[..*at].contains(guard)) {
            return Err(Error::Twice(*twice));
        }
        Ok(Self { steps, every, guards })
    }

    /// Rising, and the last is everything.
    #[must_use]
    pub fn steps(&self) -> &[Share] {
        &self.steps
    }

    /// How long each step stands at the least.
    #[must_use]
    pub fn every(&self) -> Duration {
        self.every
    }

    #[must_use]
    pub fn guards(&self) -> &[Guard] {
        &self.guards
    }
}

pub(super) fn step(percent: f64) -> Option<Share> {
    if !(percent > 0.0 && percent <= 100.0) {
        return None;
    }
    let exact = percent * f64::from(SLOTS / 100);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "above 0 and at most 100,000")]
    let slots = exact.round() as u32;
    (slots > 0 && (exact - f64::from(slots)).abs() < 1e-6).then(|| Share::from_slots(slots))
}
