//! Requests while deployments are made one after the other, and beside a canary that misbehaves. What it costs in time is for
//! `benches/under-load.sh`; here it is about which requests fail, and who is told to have failed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::{Connection, KEY, Node, Upload, Version, example, now, test_guest, until};

/// Every answer is a 200 of a version that was live at some time between the request and its answer (`R3`).
#[test]
fn two_hundred_deployments_in_a_row_drop_no_request() {
    const DEPLOYMENTS: usize = 200;
    let node = Node::telling(&[]);
    let versions = node.hello_versions("hello", 3);
    // The split of each deployment; the upload was the first.
    let splits: Vec<Vec<(&Version, f64)>> = (0..=DEPLOYMENTS)
        .map(|round| match round % 2 {
            0 => vec![(&versions[round / 2 % 3], 100.0)],
            _ => vec![(&versions[round / 2 % 3], 50.0), (&versions[(round / 2 + 1) % 3], 50.0)],
        })
        .collect();
    // The newest deployment that has been asked for, and the newest that is known to be live.
    let (asked, live, stop) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let client = |keeps_connection: bool| {
            let (node, splits, asked, live, stop) = (&node, &splits, &asked, &live, &stop);
            move || {
                let (mut connection, mut answers) = (Connection::open(node.data), 0);
                while !stop.load(Ordering::SeqCst) {
                    if !keeps_connection {
                        connection = Connection::open(node.data);
                    }
                    let first = live.load(Ordering::SeqCst);
                    let reply = connection.get("hello", "/").reply();
                    let last = asked.load(Ordering::SeqCst);
                    assert_eq!((reply.status, reply.text().as_str()), (200, "Hello, World!\n"));
                    let mut possible = splits[first..=last].iter().flatten();
                    assert!(
                        possible.any(|(version, _)| version.id == reply.version()),
                        "answered by {}, which none of the deployments {first} to {last} has",
                        reply.version(),
                    );
                    answers += 1;
                }
                answers
            }
        };
        let clients = [true, true, true, false].map(|keeps_connection| scope.spawn(client(keeps_connection)));
        for (round, split) in splits.iter().enumerate().skip(1) {
            asked.store(round, Ordering::SeqCst);
            node.split("hello", split);
            live.store(round, Ordering::SeqCst);
        }
        stop.store(true, Ordering::SeqCst);
        let answers: Vec<usize> = clients.map(|client| client.join().expect("every answer is right")).into();
        assert!(answers.iter().all(|count| *count > 0), "{answers:?}");
    });
}

/// What the records and the metrics say of each version, beside what its clients saw.
#[test]
fn a_canary_that_fails_is_all_that_fails() {
    for (guest, end) in [("spin", "exceededCpu/guest"), ("hog", "exceededMemory/guest"), ("trap", "exception/guest")] {
        let node = Node::logging(&["--version-header", "--guest-memory", "32MiB"]);
        let stable = node.deploy_module("w", &example("hello"), Upload::default());
        let limits = Upload::default().with("limits", json!({ "cpu_ms": 500 }));
        let limits = if guest == "spin" { limits.with("limits", json!({ "cpu_ms": 20 })) } else { limits };
        let canary = node.upload_version("w", &test_guest(guest), limits);
        node.split("w", &[(&stable, 80.0), (&canary, 20.0)]);
        // By keys, which go where the same split would send them on any day.
        let mut seen = BTreeMap::<(String, u16), usize>::new();
        for user in 0..60 {
            let reply = node.request("GET", "w", "/", &[(KEY, &format!("user-{user}"))], b"");
            *seen.entry((reply.version().to_owned(), reply.status / 100)).or_default() += 1;
        }
        assert_eq!(seen.len(), 2, "{guest}: {seen:?}");
        let (good, bad) = (seen[&(stable.id.clone(), 2)], seen[&(canary.id.clone(), 5)]);
        assert_eq!(good + bad, 60);

        until("all records are written", || (node.records().len() == 60).then_some(()));
        for record in node.records() {
            let expected = if record.text("version") == stable.id { "ok/" } else { end };
            assert_eq!(record.end(), expected, "{guest}: {record:?}");
        }
        let count = |version: &Version, outcome: &str| {
            let labels = format!("worker=\"w\",version=\"{}\",outcome=\"{outcome}\"", version.id);
            node.metric(&format!("sluice_requests_total{{{labels}}}")).unwrap_or_else(|| panic!("no metric {labels}"))
        };
        let outcome = end.split('/').next().expect("an outcome");
        #[expect(clippy::cast_precision_loss, reason = "sixty")]
        let (good, bad) = (good as f64, bad as f64);
        assert_eq!((count(&stable, "ok"), count(&stable, outcome)), (good, 0.0), "{guest}");
        assert_eq!((count(&canary, "ok"), count(&canary, outcome)), (0.0, bad), "{guest}");
    }
}

/// Guests that gave way at every tick stood in one queue with everybody: each step of a request waited for a tick of each of them,
/// and beside a few hundred that was half a minute.
#[test]
fn hundreds_of_guests_that_spin_keep_no_one_waiting() {
    let node = Node::start();
    for (spinning, hello) in [("spin", "hello"), ("spin-async", "hello-async")] {
        node.deploy_module(spinning, &test_guest(spinning), Upload::default());
        node.deploy_module(hello, &example(hello), Upload::default());
        assert_eq!(node.get(hello, "/").status, 200);
        let spin = |_| {
            let mut connection = Connection::open(node.data);
            connection.get(spinning, "/");
            connection
        };
        let held: Vec<Connection> = (0..300).map(spin).collect();
        let before = node.cpu_seconds();
        until("they spin", || (node.cpu_seconds() > before + 0.5).then_some(()));
        let began = now();
        for _ in 0..20 {
            assert_eq!(node.get(hello, "/").status, 200);
        }
        // Far more than it takes: a hundredth of a second or two for each, on two cores.
        assert!(began.elapsed() < Duration::from_secs(10), "{hello}: 20 requests took {:?}", began.elapsed());
        drop(held);
        node.until_quiet();
    }
}

/// The threads for guests that compute for long run when nothing else does: `SCHED_IDLE`, which is 5.
#[test]
#[cfg(target_os = "linux")]
fn threads_for_long_guests_are_the_last_to_run() {
    let node = Node::start();
    let policies = || -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", node.pid())).expect("the process is there").flatten();
        // A thread may end while we look.
        let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
        let policy_of = |stat: String| {
            let (head, fields) = stat.rsplit_once(')')?;
            // The 41st field of all; two stand before the end of the name.
            // Not those that compete with other programs.
            head.ends_with("(heavy").then(|| fields.split_whitespace().nth(38).expect("a policy").to_owned())
        };
        stats.filter_map(policy_of).collect()
    };
    until("they are all idle", || {
        let policies = policies();
        (!policies.is_empty() && policies.iter().all(|policy| policy == "5")).then_some(())
    });
}

/// Programs that take all there is of every core, until this is dropped.
struct Hogs(Vec<std::process::Child>);

impl Hogs {
    fn new() -> Self {
        let count = 2 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let hog = |_| {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", "while :; do :; done"]).spawn().expect("there is a shell")
        };
        Self((0..count).map(hog).collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

/// Beside a compiler, say: threads that run when nothing else does got a three-hundredth of a core, and whoever waited for a guest
/// that computes was told after a minute that it had taken too long, or that its version was overloaded.
#[test]
#[cfg(target_os = "linux")]
fn a_guest_that_computes_has_its_cpu_time_though_other_programs_keep_the_cores_busy() {
    let node = Node::logging(&[]);
    let limits = Upload::default().with("limits", json!({ "cpu_ms": 400 }));
    node.deploy_module("w", &test_guest("spin"), limits);
    let hogs = Hogs::new();
    for _ in 0..3 {
        assert_eq!(node.get("w", "/").status, 503);
    }
    drop(hogs);
    let ends: Vec<String> = node.records().iter().map(|record| record.end().to_owned()).collect();
    assert_eq!(ends, ["exceededCpu/guest"; 3]);
}
