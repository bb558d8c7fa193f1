//! What is next in a rollout, whatever happened so far.

use std::time::Duration;

use super::plan::step;
use super::*;
use crate::domain::allotment::Allotment;
use crate::domain::deployment::{CodeUpdate, Deployment};
use crate::domain::evidence::{Finding, Judged, Lack, Pair, Window};
use crate::domain::guard::Guard;
use crate::domain::id::DeploymentId;
use crate::domain::limits::ROLLOUT_EVENTS_MAX;
use crate::domain::split::{Share, Split};
use crate::domain::version::{Source, Trigger};

const OLD: u8 = 1;
const NEW: u8 = 2;

fn id(n: u8) -> VersionId {
    VersionId::from_random([n; 16])
}

fn plan(steps: &[f64]) -> Result<Plan, String> {
    Plan::new(steps, Duration::from_secs(10), Guard::defaults()).map_err(|error| error.to_string())
}

fn deployment(n: u8, at_ms: u64, percent: f64) -> Deployment {
    let entries: Vec<_> = [(id(OLD), 100.0 - percent), (id(NEW), percent)].into();
    let split = Split::from_percentages(&entries).unwrap();
    Deployment {
        id: DeploymentId::from_random([n; 16]),
        created_ms: at_ms,
        provenance: Provenance { author: "ada".into(), source: Source::Api },
        triggered_by: Trigger::Deployment,
        message: Some(format!("message {n}")),
        allotment: Allotment::derive(None, &split),
        split,
        code_update: CodeUpdate::Immediate,
    }
}

fn begun() -> (Rollout, Deployment) {
    let first = deployment(1, 1_000, 25.0);
    (Rollout::begun(plan(&[25.0, 50.0, 100.0]).unwrap(), id(OLD), id(NEW), &first), first)
}

fn judged(findings: [Finding; 2]) -> Vec<Judged> {
    let judged = Window::open(&Guard::defaults(), 1, Pair::default()).judge();
    judged.into_iter().zip(findings).map(|(judged, finding)| Judged { finding, ..judged }).collect()
}

const HOLD: [Finding; 2] = [Finding::Holds; 2];

#[test]
fn a_plan_rises_to_everything_and_has_guards() {
    assert_eq!(plan(&Plan::STEPS).unwrap().steps().len(), 5);
    assert_eq!(plan(&[0.001, 100.0]).unwrap().steps()[0].slots(), 1);
    for (steps, expected) in [
        (&[][..], "2 to 20 steps, got 0"),
        (&[100.0], "2 to 20 steps, got 1"),
        (&[5.0, 5.0, 100.0], "the steps of a rollout rise, and 5 comes after 5"),
        (&[50.0, 25.0, 100.0], "and 25 comes after 50"),
        (&[5.0, 50.0], "the last step of a rollout is 100, got 50"),
        (&[0.0, 100.0], "a percentage above 0 and at most 100, in thousandths at the finest, got 0"),
        (&[1.0, 101.0], "got 101"),
        (&[f64::NAN, 100.0], "got NaN"),
        (&[0.0004, 100.0], "got 0.0004"),
    ] {
        let error = plan(steps).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let error = |every, guards| Plan::new(&[5.0, 100.0], Duration::from_millis(every), guards).unwrap_err().to_string();
    assert_eq!(error(900, Guard::defaults()), "a step stands for 1 s to 604800 s, got 0.9 s");
    assert_eq!(error(1_000, vec![]), "a rollout has 1 to 10 guards, got 0");
    let twice = vec!["p99<1.2x".parse().unwrap(); 2];
    assert_eq!(error(1_000, twice), "the guard `p99<1.2x` is named twice");
}

#[test]
fn a_step_comes_when_its_time_has_passed_and_every_guard_holds() {
    let (mut rollout, first) = begun();
    let wait = Finding::NotEnoughData(Lack::New(5));
    let next = |rollout: &Rollout, now, findings| rollout.next(now, Some(&first), &judged(findings));
    assert_eq!(next(&rollout, 10_999, HOLD), Next::Stay(Stay::Until(11_000)));
    assert_eq!(next(&rollout, 11_000, [Finding::Holds, wait]), Next::Stay(Stay::ForData));
    let Next::Step { share, message } = next(&rollout, 11_000, HOLD) else { panic!() };
    assert_eq!(share.percent(), 50.0);
    assert!(message.starts_with("rollout 25 % -> 50 %: error_rate"), "{message}");
    // No evidence is no evidence for it.
    assert_eq!(rollout.next(99_000, Some(&first), &[]), Next::Stay(Stay::ForData));

    let second = deployment(2, 12_000, 50.0);
    rollout.stepped(share, &second);
    assert_eq!(rollout.next(12_500, Some(&second), &judged(HOLD)), Next::Stay(Stay::Until(22_000)));
    let Next::Step { share, .. } = rollout.next(22_000, Some(&second), &judged(HOLD)) else { panic!() };
    let third = deployment(3, 22_000, 100.0);
    rollout.stepped(share, &third);
    assert_eq!((rollout.state, rollout.live.len(), rollout.events.len()), (State::Done, 3, 3));
    assert_eq!(rollout.next(99_000, Some(&third), &judged(HOLD)), Next::Stay(Stay::Ended));
}

#[test]
fn a_broken_guard_rolls_back_before_its_time_and_says_what_was_measured() {
    let (mut rollout, first) = begun();
    let Next::RollBack { message } = rollout.next(1_001, Some(&first), &judged([Finding::Holds, Finding::Broken]))
    else {
        panic!()
    };
    assert_eq!(message, "rollout 25 % -> 0 %: p99<1.2x is broken: p99 of no request");
    rollout.rolled_back(State::Failed, &deployment(2, 2_000, 0.0));
    assert_eq!(rollout.next(2_000, None, &[]), Next::Stay(Stay::Ended));
}

#[test]
fn who_deploys_meanwhile_is_not_overwritten_even_where_a_guard_is_broken() {
    let (mut rollout, _) = begun();
    let theirs = deployment(9, 2_000, 10.0);
    let broken = judged([Finding::Broken; 2]);
    for paused in [false, true] {
        if paused {
            rollout.paused(1_500, "bob");
        }
        let Next::Supersede { why } = rollout.next(2_000, Some(&theirs), &broken) else { panic!() };
        assert!(why.starts_with("ada made the deployment") && why.ends_with("meanwhile: message 9"), "{why}");
    }
    assert_eq!(rollout.next(2_000, None, &broken), Next::Supersede { why: "the worker was deleted".into() });
}

#[test]
fn nothing_happens_while_it_is_paused_and_the_step_begins_anew_afterwards() {
    let (mut rollout, first) = begun();
    rollout.paused(5_000, "bob");
    for findings in [HOLD, [Finding::Broken; 2]] {
        assert_eq!(rollout.next(99_000, Some(&first), &judged(findings)), Next::Stay(Stay::Paused));
    }
    rollout.resumed(100_000, "bob");
    assert_eq!(rollout.next(100_001, Some(&first), &judged(HOLD)), Next::Stay(Stay::Until(110_000)));
}

#[test]
fn a_step_by_hand_waits_for_nothing_and_does_not_pass_a_broken_guard() {
    let (mut rollout, _) = begun();
    let wait = Finding::NotEnoughData(Lack::New(5));
    let next = |rollout: &Rollout, findings| rollout.next_by_hand("bob", &judged(findings));
    let (share, message) = next(&rollout, [Finding::Holds, wait]).unwrap().unwrap();
    assert_eq!(share.percent(), 50.0);
    let told = "rollout 25 % -> 50 %: stepped forward by bob, before every guard held: error_rate of no request";
    assert!(message.starts_with(told), "{message}");
    let (_, message) = next(&rollout, HOLD).unwrap().unwrap();
    assert!(message.starts_with("rollout 25 % -> 50 %: stepped forward by bob: error_rate"), "{message}");
    let refused = next(&rollout, [Finding::Holds, Finding::Broken]).unwrap_err();
    assert_eq!(refused, "p99<1.2x is broken: p99 of no request");
    // One that is paused takes the step and stays paused, and its step's time begins anew.
    rollout.paused(1_500, "bob");
    rollout.stepped(share, &deployment(2, 2_000, 50.0));
    assert_eq!((rollout.state, rollout.since_ms, rollout.share().percent()), (State::Paused, 2_000, 50.0));
    rollout.stepped(Share::ALL, &deployment(3, 3_000, 100.0));
    assert_eq!((rollout.state, next(&rollout, HOLD)), (State::Done, Ok(None)));
    rollout.rolled_back(State::Failed, &deployment(4, 4_000, 0.0));
    assert_eq!(next(&rollout, HOLD), Ok(None));
}

#[test]
fn other_versions_of_the_deployment_stay_in_it_without_traffic() {
    let active = Split::from_percentages(&[(id(OLD), 100.0), (id(3), 0.0), (id(NEW), 0.0)]).unwrap();
    let entries = |percent| Rollout::entries(id(OLD), id(NEW), &active, step(percent).unwrap());
    assert_eq!(entries(12.5), [(id(OLD), 87.5), (id(NEW), 12.5), (id(3), 0.0)]);
    assert_eq!(entries(100.0), [(id(NEW), 100.0), (id(3), 0.0)]);
    let back = Rollout::entries(id(OLD), id(NEW), &active, Share::from_slots(0));
    assert_eq!(back, [(id(OLD), 100.0), (id(3), 0.0)]);
}

#[test]
fn evidence_is_counted_anew_only_where_as_much_time_is_left() {
    let first = deployment(1, 0, 25.0);
    let hour = Plan::new(&[25.0, 100.0], Duration::from_secs(3600), Guard::defaults()).unwrap();
    let rollout = Rollout::begun(hour, id(OLD), id(NEW), &first);
    let wants = |minutes: u64, opened: u64, findings| {
        rollout.wants_new_window(minutes * 60_000, opened * 60_000, &judged(findings))
    };
    assert!(!wants(4, 0, HOLD));
    assert!(wants(5, 0, HOLD));
    assert!(!wants(5, 0, [Finding::Holds, Finding::NotEnoughData(Lack::Clarity)]));
    assert!(wants(30, 0, HOLD));
    assert!(!wants(31, 0, HOLD));
    assert!(wants(55, 50, HOLD));
    assert!(!wants(56, 50, HOLD));
}

#[test]
fn the_past_is_bounded() {
    let (mut rollout, _) = begun();
    for n in 0..300 {
        rollout.restarted(n);
    }
    assert_eq!(rollout.events.len(), ROLLOUT_EVENTS_MAX);
}
