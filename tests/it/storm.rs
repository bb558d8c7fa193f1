//! The invariants of objects (O1–O4), by a model: operations, deployments, resets and crashes at random from a printed seed.
//! What was acknowledged is never lost, torn or taken back; what was refused before it began has not happened; and each object
//! is reset exactly as often as its assignment changes.
//!
//! Runs for a while by default; `SLUICE_STORM_ROUNDS=200` runs that many rounds, `SLUICE_STORM_SEED` repeats one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::http::{self, Reply};
use crate::harness::{Node, Upload, Version, now, test_guest, until};

/// How long it runs unless told otherwise.
const TIME: Duration = Duration::from_secs(12);
const OBJECTS: usize = 10;
const CLIENTS: usize = 4;

/// What is known of one object.
#[derive(Default)]
struct Object {
    /// Increments that were acknowledged, and those that may or may not have happened.
    acknowledged: u64,
    unknown: u64,
    /// The largest sum that anybody was told: no later one may be less (O1, S2).
    told: u64,
    /// All sums that were told since the object was last looked at: no two are the same.
    sums: BTreeSet<u64>,
}

/// What happens while the clients are at work.
#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    Deployment,
    Resets,
    Crash,
}

struct Client<'a> {
    data: SocketAddr,
    objects: &'a [Mutex<Object>],
    stop: &'a AtomicBool,
    seed: u64,
}

impl Client<'_> {
    /// Asks for one thing after another, and notes what came of it.
    fn work(&self) {
        let mut random = fastrand::Rng::with_seed(self.seed);
        while !self.stop.load(Ordering::SeqCst) {
            let index = random.usize(..OBJECTS);
            match random.u8(..10) {
                0..6 => self.increment(index),
                6..8 => {
                    // Two keys in one commit: they are never apart.
                    drop(self.ask(&format!("/o{index}/two?v={}", random.u32(..))));
                }
                8 => drop(self.ask(&format!("/o{index}/put-trap?k=trapped&v=1"))),
                _ => drop(self.ask(&format!("/o{index}/background?ms=5&k=background"))),
            }
        }
    }

    fn increment(&self, index: usize) {
        let told = self.objects[index].lock().unwrap().told;
        let reply = self.ask(&format!("/o{index}/add?k=n&n=1&mode=get-get-put"));
        let mut object = self.objects[index].lock().unwrap();
        match reply {
            Some(reply) if reply.status == 200 && reply.whole => {
                let sum: u64 = reply.text().trim().parse().expect("a sum");
                assert!(sum > told, "o{index}: the sum {sum} was told after {told}");
                assert!(object.sums.insert(sum), "o{index}: the sum {sum} was told twice");
                object.acknowledged += 1;
                object.told = object.told.max(sum);
            }
            // The object had not begun: it has not happened.
            Some(reply) if reply.status == 599 && reply.json()["retryable"] == true => {}
            _ => object.unknown += 1,
        }
    }

    fn ask(&self, path: &str) -> Option<Reply> {
        http::try_request(self.data, "GET", path, &[("host", "ledger.localhost")], b"")
    }
}

fn random_split<'a>(random: &mut fastrand::Rng, versions: &'a [Version]) -> Vec<(&'a Version, f64)> {
    let share = f64::from(random.u32(..=20)) * 5.0;
    let first = random.usize(..versions.len());
    let second = (first + 1 + random.usize(..versions.len() - 1)) % versions.len();
    let both = [(&versions[first], share), (&versions[second], 100.0 - share)];
    both.into_iter().filter(|(_, share)| *share > 0.0).collect()
}

fn reassigned(node: &Node) -> u64 {
    let page = node.api("GET", "/scripts/ledger/objects?per_page=1", &json!(null));
    page["since_start"]["reassigned"].as_u64().expect("a count")
}

/// A deployment while nothing else happens resets exactly the objects in memory whose assignment it changes (O3).
fn deploy_and_count(node: &Node, split: &[(&Version, f64)]) {
    let versions: Vec<Value> =
        split.iter().map(|(version, share)| json!({ "version_id": version.id, "percentage": share })).collect();
    let body = json!({ "strategy": "percentage", "versions": versions });
    let before = reassigned(node);
    let plan = node.api("POST", "/scripts/ledger/deployments?dry_run=true", &body);
    let moving = plan["sluice"]["objects"]["live_moving"].as_u64().expect("a count");
    node.api("POST", "/scripts/ledger/deployments", &body);
    until("the objects that moved are reset", || (reassigned(node) >= before + moving).then_some(()));
    assert_eq!(reassigned(node), before + moving);
}

fn verify(node: &Node, objects: &[Mutex<Object>]) {
    for (index, object) in objects.iter().enumerate() {
        let read = |key: &str| {
            let reply = until("the object answers", || {
                let reply = node.get("ledger", &format!("/o{index}/get?k={key}"));
                matches!(reply.status, 200 | 404).then_some(reply)
            });
            if reply.status == 200 { reply.text().trim().to_owned() } else { String::new() }
        };
        let mut object = object.lock().unwrap();
        let sum: u64 = read("n").parse().unwrap_or(0);
        let (least, most) = (object.acknowledged, object.acknowledged + object.unknown);
        assert!((least..=most).contains(&sum), "o{index}: {sum} is not within {least} and {most}");
        assert!(sum >= object.told, "o{index}: {sum}, after {} was told", object.told);
        // Known now, whatever was not before.
        *object = Object { acknowledged: sum, unknown: 0, told: sum, sums: BTreeSet::new() };
        assert_eq!(read("a"), read("b"), "o{index}: half of a commit");
        assert_eq!(read("trapped"), "", "o{index}: a write that was not confirmed when its object trapped");
    }
}

#[test]
fn objects_keep_their_promises_in_a_storm() {
    let rounds: Option<usize> = std::env::var("SLUICE_STORM_ROUNDS").ok().and_then(|text| text.parse().ok());
    let seed = std::env::var("SLUICE_STORM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(fastrand::u64(..));
    println!("SLUICE_STORM_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::over(folder.path(), &[]);
    let upload = |tag: &str| {
        Upload::bindings(json!([{ "name": "LEDGER", "type": "durable_object_namespace", "class_name": "Ledger" }]))
            .tagged(tag)
    };
    let migrations = json!({ "new_tag": "v1", "steps": [{ "new_sqlite_classes": ["Ledger"] }] });
    let ledger = test_guest("ledger");
    let mut versions = vec![node.deploy_module("ledger", &ledger, upload("one").with("migrations", migrations))];
    versions.extend(["two", "three"].map(|tag| node.upload_version("ledger", &ledger, upload(tag))));
    let objects: Vec<Mutex<Object>> = (0..OBJECTS).map(|_| Mutex::default()).collect();

    let (mut round, began) = (0, now());
    while rounds.map_or(began.elapsed() < TIME, |rounds| round < rounds) {
        let event = *random.choice(&[Event::Nothing, Event::Deployment, Event::Resets, Event::Crash]).unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                let client = Client { data: node.data, objects: &objects, stop: &stop, seed: random.u64(..) };
                scope.spawn(move || client.work());
            }
            thread::sleep(Duration::from_millis(random.u64(20..200)));
            match event {
                Event::Nothing => {}
                Event::Deployment => {
                    for _ in 0..random.usize(1..4) {
                        node.split("ledger", &random_split(&mut random, &versions));
                        thread::sleep(Duration::from_millis(random.u64(..30)));
                    }
                }
                Event::Resets => {
                    for index in 0..OBJECTS {
                        let path = format!("/scripts/ledger/objects/Ledger/o{index}/reset?by=name");
                        node.api("POST", &path, &json!(null));
                    }
                }
                Event::Crash => node.kill(),
            }
            thread::sleep(Duration::from_millis(random.u64(..50)));
            stop.store(true, Ordering::SeqCst);
        });
        if let Event::Crash = event {
            drop(node);
            node = Node::over(folder.path(), &[]);
        }
        verify(&node, &objects);
        deploy_and_count(&node, &random_split(&mut random, &versions));
        round += 1;
    }
    let total: u64 = objects.iter().map(|object| object.lock().unwrap().acknowledged).sum();
    println!("{round} rounds, {total} increments");
    assert!(total > 0);
}
