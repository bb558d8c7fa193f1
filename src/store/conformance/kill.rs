//! S1 and S2 against `kill -9`: a child process commits and prints what was acknowledged; it is killed somewhere, and
//! the parent reads the store. Round after round on one folder, so that recovery meets what recovery left behind.
//!
//! This shows that nothing is kept in the process. That nothing is kept in the kernel (a power cut) is up to
//! `synchronous=FULL`, which a test of the engine pins.

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    env,
    hash::{BuildHasher, Hasher},
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
};

use super::{everything, key};
use crate::store::{Check, Key, Order, Parts, SqliteStore, Store, Write};

const DIR: &str = "SLUICE_KILL_TEST_DIR";
const ROUNDS: u64 = 12;
const TASKS: u64 = 6;

#[test]
fn s2_what_was_acknowledged_survives_being_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    for round in 0..ROUNDS {
        // The first rounds die while the store is being created and opened.
        let answers = if round < 3 { round } else { RandomState::new().build_hasher().finish() % 400 };
        let mut child = spawn(dir.path());
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut seen = 0;
        while seen < answers && note(&mut lines, &mut acknowledged) {
            seen += 1;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had printed and we had not read yet was acknowledged as well.
        while note(&mut lines, &mut acknowledged) {}
        assert!(seen == answers, "round {round}: the child ended by itself");
        look(dir.path(), &acknowledged);
    }
    assert!(!acknowledged.is_empty());
}

/// The child. It ends only by being killed, or when its parent is gone and nobody reads what it prints.
#[test]
#[ignore = "the child of the test above, which runs it by name"]
fn commits_until_killed() {
    let Some(dir) = env::var_os(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(SqliteStore::open(Path::new(&dir)).unwrap());
        let tasks = (0..TASKS).map(|task| commit_for_ever(store.clone(), task));
        tasks.collect::<tokio::task::JoinSet<()>>().join_all().await;
    });
}

/// Counts up. Each commit writes a number in two halves, far apart in the table, and drops what is old.
async fn commit_for_ever(store: Arc<SqliteStore>, task: u64) {
    loop {
        let counter = key("counter").number(task);
        let entry = store.get(&counter).await.unwrap();
        let next = entry.as_ref().map_or(0, |entry| number(&entry.value)) + 1;
        // Now and then a value of many pages, so that a commit is more than one write to the log.
        let padding = if next % 16 == 0 { 60_000 } else { 10 };
        let value = format!("{next} {}", "x".repeat(padding));
        let writes = vec![
            Write::put(counter.clone(), value.clone()),
            Write::put(half("left", task, next), value.clone()),
            Write::put(half("right", task, next), value),
            Write::delete_range(crate::store::Range::new(half("left", task, 0), half("left", task, next.max(50) - 50))),
            Write::delete_range(crate::store::Range::new(
                half("right", task, 0),
                half("right", task, next.max(50) - 50),
            )),
        ];
        store.commit(vec![Check::unchanged(counter, entry.as_ref())], writes).await.unwrap();
        // One `write` of one line: the parent sees all of it or none.
        let line = format!("acknowledged {task} {next}\n");
        if std::io::stdout().lock().write_all(line.as_bytes()).is_err() {
            std::process::exit(1);
        }
    }
}

fn spawn(dir: &Path) -> Child {
    let module = module_path!().split_once("::").expect("a module of the crate").1;
    Command::new(env::current_exe().unwrap())
        .args([&format!("{module}::commits_until_killed"), "--exact", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Reads one acknowledgement, past what the test harness prints. False at the end.
fn note(lines: &mut BufReader<ChildStdout>, acknowledged: &mut BTreeMap<u64, u64>) -> bool {
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        let whole = line.strip_suffix('\n').and_then(|line| line.strip_prefix("acknowledged "));
        if let Some((task, number)) = whole.and_then(|line| line.split_once(' ')) {
            acknowledged.insert(task.parse().unwrap(), number.parse().unwrap());
            return true;
        }
        line.clear();
    }
    false
}

fn look(dir: &Path, acknowledged: &BTreeMap<u64, u64>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (counters, lefts, rights) = runtime.block_on(async {
        let store = SqliteStore::open(dir).unwrap();
        let entries = store.scan(everything(), Order::Ascending, usize::MAX).await.unwrap();
        let of = |kind: &str| -> BTreeMap<Vec<u64>, u64> {
            let entries = entries.iter().filter(|entry| parts(&entry.key).text().unwrap() == kind);
            entries.map(|entry| (numbers(&entry.key), number(&entry.value))).collect()
        };
        (of("counter"), of("left"), of("right"))
    });
    for (task, number) in acknowledged {
        let stored = counters.get(&vec![*task]).copied().unwrap_or(0);
        assert!(stored >= *number, "S2: task {task} was acknowledged {number}, the store has {stored}");
    }
    assert_eq!(lefts, rights, "S1: both halves of a commit or none");
    for (task, count) in &counters {
        let newest = lefts.range(vec![task[0]]..vec![task[0] + 1]).next_back();
        assert_eq!(newest, Some((&vec![task[0], *count], count)), "S1: the counter and its newest half");
        let halves = lefts.range(vec![task[0]]..vec![task[0] + 1]).count() as u64;
        assert_eq!(halves, 1 + count - (count.max(&50) - 50).max(1), "S2: no half between is missing");
    }
}

fn half(side: &str, task: u64, number: u64) -> Key {
    key(side).number(task).number(number)
}

fn parts(key: &Key) -> Parts<'_> {
    key.parts(super::FAMILY).unwrap()
}

fn numbers(key: &Key) -> Vec<u64> {
    let mut parts = parts(key);
    parts.text().unwrap();
    std::iter::from_fn(|| parts.number().ok()).collect()
}

fn number(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}
