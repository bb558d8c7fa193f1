//! The driver over the store in memory, a clock that stands still and counters that the test moves.

use std::path::Path;

use super::*;
use crate::catalog::{AndDeploy, CreateWorker, Expected, NewVersion};
use crate::clock::ManualClock;
use crate::domain::config::{ConfigDraft, Inheritance};
use crate::domain::module::{GuestKind, ModuleDigest, ModuleFacts, Startup};
use crate::domain::outcome::Outcome;
use crate::domain::version::{Annotations, Source, Trigger};
use crate::observe::metrics::Sample;
use crate::store::MemoryStore;
use crate::store::fault::{Fault, FaultStore};

struct Node {
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    dir: tempfile::TempDir,
    catalog: Arc<Catalog>,
    observer: Arc<Observer>,
    rollouts: Arc<Rollouts>,
    worker: WorkerName,
    old: VersionId,
    new: VersionId,
}

async fn catalog(store: &Arc<dyn Store>, dir: &Path, clock: &Arc<ManualClock>) -> Arc<Catalog> {
    Catalog::open(Arc::clone(store), dir, Arc::<ManualClock>::clone(clock)).await.unwrap()
}

async fn upload(catalog: &Arc<Catalog>, worker: &WorkerName, deploy: AndDeploy) -> VersionId {
    let resolved = catalog.resolve(worker, &ConfigDraft::default(), Inheritance::Strict).unwrap();
    let version = NewVersion {
        config: resolved.config,
        previous: resolved.previous,
        module: ModuleFacts {
            digest: ModuleDigest::from_bytes([1; 32]),
            size_bytes: 1,
            kind: GuestKind::Wasi02,
            imports: vec![],
            exports: vec!["wasi:http/incoming-handler@0.2.6".into()],
        },
        startup: Startup { time_ms: 1, memory_bytes: 1, compilation: None },
        annotations: Annotations { message: None, tag: None, alias: None, triggered_by: Trigger::Upload },
        provenance: ada(),
        expected: Expected::default(),
    };
    catalog.publish(worker, version, deploy, CreateWorker::Allow).await.unwrap().version.id
}

fn now() -> AndDeploy {
    AndDeploy::Now { message: None, code_update: CodeUpdate::Immediate, migration: None }
}

fn wish(to: VersionId, plan: Plan) -> NewRollout {
    NewRollout { to, plan, provenance: ada(), force: Force::No, if_match: None, mode: ApplyMode::Commit }
}

/// Ada asks, whatever the state is.
fn asked() -> Asked {
    Asked { by: ada(), if_match: None }
}

fn ada() -> Provenance {
    Provenance { author: "ada".into(), source: Source::Api }
}

impl Node {
    async fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new())).await
    }

    /// One whose store takes two commits to have both versions.
    async fn over(store: Arc<dyn Store>) -> Self {
        let (clock, dir) = (Arc::new(ManualClock::at(1_700_000_000_000)), tempfile::tempdir().unwrap());
        let catalog = catalog(&store, dir.path(), &clock).await;
        let worker: WorkerName = "w".parse().unwrap();
        let old = upload(&catalog, &worker, now()).await;
        let new = upload(&catalog, &worker, AndDeploy::No).await;
        let (observer, rollouts) = Self::open(&store, &catalog, &clock).await;
        Self { store, clock, dir, catalog, observer, rollouts, worker, old, new }
    }

    async fn open(
        store: &Arc<dyn Store>,
        catalog: &Arc<Catalog>,
        clock: &Arc<ManualClock>,
    ) -> (Arc<Observer>, Arc<Rollouts>) {
        let port: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        let observer = Observer::new(Arc::clone(&port), None);
        let rollouts = Rollouts::open(catalog, Arc::clone(store), &observer, &port).await.unwrap();
        (observer, rollouts)
    }

    /// The same node after a crash: what was in memory is gone.
    async fn restart(&mut self) {
        self.catalog = catalog(&self.store, self.dir.path(), &self.clock).await;
        (self.observer, self.rollouts) = Self::open(&self.store, &self.catalog, &self.clock).await;
    }

    async fn start(&self, steps: &[f64]) -> Result<Status, Error> {
        let guards = vec!["error_rate<10%".parse().unwrap(), "error_rate<2x".parse().unwrap()];
        let plan = Plan::new(steps, Duration::from_secs(60), guards).unwrap();
        self.rollouts.start(&self.worker, wish(self.new, plan)).await
    }

    /// Requests to both, a share of which fails.
    fn serve(&self, requests: u32, new_errors: u32, old_errors: u32) {
        for (version, errors) in [(self.new, new_errors), (self.old, old_errors)] {
            let counters = self.observer.metrics.of(&self.worker, version);
            for n in 0..requests {
                let status = Some(if n < errors { 500 } else { 200 });
                let (wall, cpu) = (Duration::from_millis(3), Duration::from_millis(1));
                counters.add(Sample {
                    outcome: Outcome::Ok,
                    status,
                    wall,
                    cpu,
                    subrequests: 0,
                    reused: false,
                    memory_bytes: 0,
                });
            }
        }
    }

    async fn tick_after(&self, seconds: u64) -> Status {
        self.clock.advance(Duration::from_secs(seconds));
        self.rollouts.tick().await;
        self.rollouts.status(&self.worker).await.unwrap()
    }

    /// The active deployment: the new version's share in percent, and the message.
    fn active(&self) -> (f64, String) {
        let view = self.catalog.view();
        let active = view.worker(&self.worker).unwrap().active.clone().unwrap();
        (active.split.share_of(self.new).map_or(0.0, Share::percent), active.message.clone().unwrap_or_default())
    }
}

#[tokio::test]
async fn a_good_version_gets_everything_step_by_step_and_each_deployment_says_why() {
    let node = Node::new().await;
    let status = node.start(&[10.0, 50.0, 100.0]).await.unwrap();
    assert_eq!((status.rollout.state, node.active().0), (State::Running, 10.0));
    assert!(node.active().1.starts_with("rollout 0 % -> 10 %: started"), "{:?}", node.active());

    // Neither time nor requests alone are enough.
    node.serve(10_000, 100, 100);
    assert!(matches!(node.tick_after(59).await.stay, Some(Stay::Until(_))));
    assert_eq!(node.active().0, 10.0);
    // Deployments made in one millisecond are told apart by their times, so a step may be due a millisecond later.
    let status = node.tick_after(2).await;
    assert_eq!((status.rollout.state, node.active().0), (State::Running, 50.0));
    assert_eq!(
        node.active().1,
        "rollout 10 % -> 50 %: error_rate 1 % of 10,000, error_rate 1 % of 10,000 (old 1 % of 10,000)"
    );
    let status = node.tick_after(600).await;
    assert_eq!((status.stay, node.active().0), (Some(Stay::ForData), 50.0));
    node.serve(20_000, 200, 200);
    let status = node.tick_after(1).await;
    assert_eq!((status.rollout.state, node.active().0), (State::Done, 100.0));
    assert_eq!(status.rollout.events.len(), 3);
    assert!(!node.rollouts.tick().await, "nothing is under way");
}

#[tokio::test]
async fn a_version_that_fails_is_rolled_back_at_the_next_look_and_it_is_said_why() {
    let node = Node::new().await;
    node.start(&[10.0, 100.0]).await.unwrap();
    node.serve(60, 30, 0);
    let status = node.tick_after(1).await;
    assert_eq!((status.rollout.state, node.active().0), (State::Failed, 0.0));
    let why = node.active().1;
    assert!(why.starts_with("rollout 10 % -> 0 %: error_rate<10% is broken: error_rate 50 % of 60"), "{why}");
    // What was measured can still be seen.
    assert_eq!(status.judged.len(), 2);
    assert_eq!(status.window.unwrap().1.new.errors, 30);
}

#[tokio::test]
async fn what_someone_else_deployed_is_never_overwritten() {
    let node = Node::new().await;
    node.start(&[10.0, 100.0]).await.unwrap();
    let theirs = NewDeployment {
        entries: vec![(node.old, 70.0), (node.new, 30.0)],
        message: Some("by hand".into()),
        provenance: Provenance { author: "bob".into(), source: Source::Api },
        code_update: CodeUpdate::Immediate,
        if_match: None,
        force: Force::No,
        mode: ApplyMode::Commit,
    };
    node.catalog.deploy(&node.worker, theirs).await.unwrap();
    node.serve(60, 60, 0);
    let status = node.tick_after(1).await;
    assert_eq!((status.rollout.state, node.active()), (State::Superseded, (30.0, "by hand".into())));
    let why = &status.rollout.events.last().unwrap().what;
    assert!(why.contains("bob made the deployment") && why.contains("by hand"), "{why}");
    // And from a split nothing is started.
    let refused = node.start(&[10.0, 100.0]).await.unwrap_err();
    assert!(refused.to_string().contains("is split (#1 70 %, #2 30 %)"), "{refused}");
}

#[tokio::test]
async fn one_is_under_way_at_a_time_and_only_to_another_version() {
    let node = Node::new().await;
    assert!(matches!(node.rollouts.status(&node.worker).await, Err(Error::Unknown(_))));
    node.start(&[10.0, 100.0]).await.unwrap();
    let refused = node.start(&[10.0, 100.0]).await.unwrap_err().to_string();
    assert!(refused.contains("is running at 10 %"), "{refused}");
    node.rollouts.abort(&node.worker, &asked()).await.unwrap();
    let plan = Plan::new(&[10.0, 100.0], Duration::from_secs(1), vec!["p99<1s".parse().unwrap()]).unwrap();
    let wish = |to| wish(to, plan.clone());
    assert!(matches!(node.rollouts.start(&node.worker, wish(node.old)).await, Err(Error::HasEverything(_))));
    let nobody = VersionId::from_random([9; 16]);
    let refused = node.rollouts.start(&node.worker, wish(nobody)).await.unwrap_err();
    assert!(matches!(refused, Error::Catalog(catalog::Error::VersionUnknown { .. })), "{refused}");
    // What was refused changed nothing.
    assert_eq!(node.rollouts.status(&node.worker).await.unwrap().rollout.state, State::Aborted);
    assert_eq!(node.rollouts.start(&node.worker, wish(node.new)).await.unwrap().rollout.state, State::Running);
}

#[tokio::test]
async fn it_is_paused_resumed_and_aborted_by_hand() {
    let node = Node::new().await;
    node.start(&[10.0, 100.0]).await.unwrap();
    let refused = node.rollouts.resume(&node.worker, &asked()).await.unwrap_err().to_string();
    assert!(refused.contains("is running, so it cannot be resumed"), "{refused}");
    node.rollouts.pause(&node.worker, &asked()).await.unwrap();
    node.serve(500, 500, 0);
    assert_eq!(node.tick_after(600).await.stay, Some(Stay::Paused));
    assert_eq!(node.active().0, 10.0);
    // What was measured meanwhile is forgotten.
    let status = node.rollouts.resume(&node.worker, &asked()).await.unwrap();
    assert_eq!(status.window.unwrap().1.new.requests, 0);
    assert_eq!(node.tick_after(1).await.rollout.state, State::Running);
    let status = node.rollouts.abort(&node.worker, &asked()).await.unwrap();
    assert_eq!(
        (status.rollout.state, node.active()),
        (State::Aborted, (0.0, "rollout 10 % -> 0 %: aborted by ada".into()))
    );
    for refused in
        [node.rollouts.abort(&node.worker, &asked()).await, node.rollouts.pause(&node.worker, &asked()).await]
    {
        assert!(matches!(refused, Err(Error::WrongState { state: State::Aborted, .. })));
    }
}

#[tokio::test]
async fn a_person_steps_it_forward_without_waiting_and_the_deployment_says_so() {
    let node = Node::new().await;
    node.start(&[10.0, 20.0, 50.0, 100.0]).await.unwrap();
    let step = || async { node.rollouts.step(&node.worker, &asked()).await };
    let status = step().await.unwrap();
    assert_eq!((status.rollout.state, node.active().0), (State::Running, 20.0));
    let told = "rollout 10 % -> 20 %: stepped forward by ada, before every guard held: error_rate of no request, error_rate of no request";
    assert_eq!(node.active().1, told);
    // Its time begins anew, and what is counted.
    assert!(matches!(node.tick_after(59).await.stay, Some(Stay::Until(_))));
    node.rollouts.pause(&node.worker, &asked()).await.unwrap();
    let status = step().await.unwrap();
    assert_eq!((status.rollout.state, status.stay, node.active().0), (State::Paused, Some(Stay::Paused), 50.0));
    node.serve(60, 60, 0);
    let refused = step().await.unwrap_err();
    assert!(matches!(&refused, Error::Broken { broken, .. } if broken.contains("error_rate 100 % of 60")), "{refused}");
    assert_eq!(node.active().0, 50.0);
    // One that runs is rolled back by the same look.
    node.rollouts.resume(&node.worker, &asked()).await.unwrap();
    node.serve(60, 60, 0);
    assert!(matches!(step().await, Err(Error::WrongState { state: State::Failed, .. })));
    assert_eq!(node.active().0, 0.0);

    node.start(&[10.0, 100.0]).await.unwrap();
    let status = step().await.unwrap();
    assert_eq!((status.rollout.state, node.active().0), (State::Done, 100.0));
    assert!(matches!(step().await, Err(Error::WrongState { state: State::Done, .. })));
}

#[tokio::test]
async fn who_saw_another_state_changes_nothing() {
    let node = Node::new().await;
    let seen = node.start(&[10.0, 50.0, 100.0]).await.unwrap().tag();
    let as_seen = |tag: &str| Asked { if_match: Some(tag.to_owned()), ..asked() };
    // What only goes on is the same state still.
    node.serve(10, 0, 0);
    assert_eq!(node.tick_after(5).await.tag(), seen);
    node.rollouts.pause(&node.worker, &asked()).await.unwrap();
    for refused in [
        node.rollouts.step(&node.worker, &as_seen(&seen)).await,
        node.rollouts.abort(&node.worker, &as_seen(&seen)).await,
        node.rollouts.pause(&node.worker, &as_seen(&seen)).await,
    ] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, Error::MovedOn { state: State::Paused, .. }), "{refused}");
    }
    assert_eq!(node.active().0, 10.0);
    let seen = node.rollouts.status(&node.worker).await.unwrap().tag();
    let resumed = node.rollouts.resume(&node.worker, &as_seen(&seen)).await.unwrap().tag();
    let stepped = node.rollouts.step(&node.worker, &as_seen(&resumed)).await.unwrap().tag();
    assert!(seen != resumed && resumed != stepped, "{seen} {resumed} {stepped}");
    node.rollouts.abort(&node.worker, &as_seen(&stepped)).await.unwrap();

    // A start names the deployment that it was decided on.
    let plan = Plan::new(&[10.0, 100.0], Duration::from_secs(1), vec!["p99<1s".parse().unwrap()]).unwrap();
    let late = NewRollout { if_match: Some(DeploymentId::from_random([9; 16])), ..wish(node.new, plan) };
    let refused = node.rollouts.start(&node.worker, late).await.unwrap_err();
    assert!(matches!(refused, Error::Catalog(catalog::Error::NotActive { .. })), "{refused}");
}

#[tokio::test]
async fn a_dry_run_of_a_start_is_checked_and_changes_nothing() {
    let node = Node::new().await;
    let plan = Plan::new(&[10.0, 100.0], Duration::from_secs(1), vec!["p99<1s".parse().unwrap()]).unwrap();
    let dry = |to| NewRollout { mode: ApplyMode::DryRun, ..wish(to, plan.clone()) };
    let status = node.rollouts.start(&node.worker, dry(node.new)).await.unwrap();
    assert_eq!((status.rollout.share().percent(), status.rollout.next_share()), (10.0, Some(Share::ALL)));
    assert!(matches!(node.rollouts.start(&node.worker, dry(node.old)).await, Err(Error::HasEverything(_))));
    assert!(matches!(node.rollouts.status(&node.worker).await, Err(Error::Unknown(_))));
    assert!(!node.rollouts.tick().await);
    assert_eq!(node.active().0, 0.0);
}

#[tokio::test]
async fn after_a_crash_it_goes_on_from_the_step_that_is_live_and_counts_anew() {
    let mut node = Node::new().await;
    node.start(&[10.0, 50.0, 100.0]).await.unwrap();
    node.serve(10_000, 0, 0);
    assert_eq!(node.tick_after(61).await.rollout.live.len(), 2);
    node.serve(10_000, 0, 0);
    node.restart().await;
    let status = node.tick_after(0).await;
    assert_eq!((status.rollout.state, node.active().0), (State::Running, 50.0));
    assert!(status.rollout.events.last().unwrap().what.contains("was started again"));
    assert_eq!(status.window.unwrap().1.new.requests, 0);
    // The time of the step begins anew too.
    node.serve(20_000, 0, 0);
    assert!(matches!(node.tick_after(59).await.stay, Some(Stay::Until(_))));
    assert_eq!(node.tick_after(1).await.rollout.state, State::Done);
    // What is over stays as it was.
    node.restart().await;
    let status = node.rollouts.status(&node.worker).await.unwrap();
    assert_eq!((status.rollout.state, status.rollout.events.len(), status.judged.len()), (State::Done, 4, 0));
}

#[tokio::test]
async fn a_worker_that_is_deleted_takes_its_rollout_along() {
    let mut node = Node::new().await;
    node.start(&[10.0, 100.0]).await.unwrap();
    node.catalog.delete_worker(&node.worker, Force::No).await.unwrap();
    // Another one of that name comes before anybody looks.
    upload(&node.catalog, &node.worker, now()).await;
    assert!(!node.rollouts.tick().await);
    assert!(matches!(node.rollouts.status(&node.worker).await, Err(Error::Unknown(_))));
    assert!(node.store.get(&record::key(&node.worker)).await.unwrap().is_none());

    node.new = upload(&node.catalog, &node.worker, AndDeploy::No).await;
    node.start(&[10.0, 100.0]).await.unwrap();
    node.catalog.delete_worker(&node.worker, Force::No).await.unwrap();
    node.restart().await;
    assert!(!node.rollouts.tick().await);
    let gone = node.rollouts.status(&node.worker).await.unwrap_err();
    assert!(matches!(gone, Error::Catalog(catalog::Error::WorkerUnknown { .. })), "{gone}");
}

#[tokio::test]
async fn a_deployment_that_fails_is_tried_again_and_it_is_said_why() {
    let store = FaultStore::new(Arc::new(MemoryStore::new()), |nth| [4, 5].contains(&nth).then_some(Fault::Refuse));
    let node = Node::over(Arc::new(store)).await;
    node.start(&[10.0, 100.0]).await.unwrap();
    node.serve(60, 60, 0);
    for _ in 0..2 {
        let status = node.tick_after(1).await;
        assert_eq!((status.rollout.state, node.active().0), (State::Running, 10.0));
        assert!(status.trouble.as_ref().is_some_and(|why| why.contains("injected fault")), "{:?}", status.trouble);
    }
    let status = node.tick_after(1).await;
    assert_eq!((status.rollout.state, node.active().0, status.trouble), (State::Failed, 0.0, None));
}

#[tokio::test]
async fn a_deployment_whose_answer_was_lost_is_one_of_the_rollouts_own() {
    for lost in [3, 4] {
        let store = FaultStore::at(Arc::new(MemoryStore::new()), lost, Fault::LoseAnswer);
        let node = Node::over(Arc::new(store)).await;
        assert_eq!(node.start(&[10.0, 100.0]).await.is_err(), lost == 3);
        let state = node.rollouts.status(&node.worker).await.unwrap().rollout.state;
        assert_eq!((state, node.active().0), (State::Running, 10.0));
        node.serve(60, 60, 0);
        let status = node.tick_after(1).await;
        let status = if status.trouble.is_some() { node.tick_after(1).await } else { status };
        // Not superseded by what it did itself.
        assert_eq!(
            (status.rollout.state, node.active().0),
            (State::Failed, 0.0),
            "{lost}: {:?}",
            status.rollout.events
        );
    }
}

#[tokio::test]
async fn in_a_long_step_evidence_is_counted_anew_when_it_is_complete() {
    let node = Node::new().await;
    let plan = Plan::new(&[10.0, 100.0], Duration::from_secs(3600), vec!["error_rate<10%".parse().unwrap()]).unwrap();
    node.rollouts.start(&node.worker, wish(node.new, plan)).await.unwrap();
    node.serve(10_000, 0, 0);
    assert_eq!(node.tick_after(299).await.rollout.windows, 1);
    let status = node.tick_after(1).await;
    assert_eq!((status.rollout.windows, status.window.unwrap().1.new.requests), (2, 0));
    // Ten thousand good requests do not outvote what is wrong now.
    node.serve(60, 60, 0);
    assert_eq!(node.tick_after(1).await.rollout.state, State::Failed);
}

#[tokio::test]
async fn a_record_reads_back_as_it_was_written() {
    let node = Node::new().await;
    let status = node.start(&[0.001, 33.333, 100.0]).await.unwrap();
    node.rollouts.pause(&node.worker, &asked()).await.unwrap();
    let entry = node.store.get(&record::key(&node.worker)).await.unwrap().unwrap();
    let stored = record::decode(&entry).unwrap();
    assert_eq!(stored.rollout.plan, status.rollout.plan);
    assert_eq!((stored.rollout.state, stored.rollout.events.len()), (State::Paused, 2));
    assert_eq!(record::encode(&stored), entry.value);
    for (wrong, by) in
        [("\"paused\"", "\"asleep\""), ("error_rate<2x", "error_rate<two"), ("\"format\":1", "\"format\":2")]
    {
        let text = String::from_utf8(entry.value.to_vec()).unwrap();
        assert!(text.contains(wrong), "{text}");
        let damaged = store::Entry { value: text.replace(wrong, by).into(), ..entry.clone() };
        assert!(record::decode(&damaged).is_err(), "{by}");
    }
}

#[tokio::test]
async fn the_task_sleeps_until_something_is_started_and_then_looks_by_itself() {
    let node = Node::new().await;
    let task = tokio::spawn(Rollouts::run_forever(Arc::downgrade(&node.rollouts)));
    node.start(&[10.0, 100.0]).await.unwrap();
    node.serve(60, 60, 0);
    // By the machine's clock: as long as it takes.
    while node.active().0 > 0.0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(node.rollouts.status(&node.worker).await.unwrap().rollout.state, State::Failed);
    task.abort();
}
