//! Random histories told to both engines: whatever one answers, the other answers too. Keys are few and awkward, so
//! that commits meet each other.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};
use tempfile::TempDir;

use super::FAMILY;
use crate::store::{
    Check, CommitError, Entry, Key, MemoryStore, Order, Range, Revision, Snapshot, SqliteStore, Store, Write,
};

#[derive(Debug, Clone)]
enum Step {
    Commit { checks: Vec<(Key, Belief)>, writes: Vec<Write> },
    Get(Key),
    Scan(Range, Order, usize),
    TakeSnapshot,
    ReadSnapshot { nth: usize, range: Range, order: Order },
    DropSnapshots,
    Reopen,
}

/// What a check says of its key, in terms of what is there when the step runs.
#[derive(Debug, Clone, Copy)]
enum Belief {
    Truth,
    Absent,
    Stale,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_sqlite_answer_alike(steps in vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(Pair::new().run(steps))?;
    }
}

struct Pair {
    memory: MemoryStore,
    sqlite: Arc<SqliteStore>,
    snapshots: Vec<[Box<dyn Snapshot>; 2]>,
    dir: TempDir,
}

impl Pair {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sqlite = Arc::new(SqliteStore::open(dir.path()).unwrap());
        Self { memory: MemoryStore::new(), sqlite, snapshots: Vec::new(), dir }
    }

    async fn run(mut self, steps: Vec<Step>) -> Result<(), TestCaseError> {
        for step in steps {
            self.step(step).await?;
            prop_assert_eq!(*self.memory.watch().borrow(), *self.sqlite.watch().borrow());
        }
        let everything = Range::new(Key::family(FAMILY), Key::family(crate::store::Family::new(0xFE)));
        self.step(Step::Reopen).await?;
        self.step(Step::Scan(everything, Order::Ascending, usize::MAX)).await
    }

    async fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Commit { checks, writes } => {
                let mut resolved = Vec::new();
                for (key, belief) in checks {
                    let found = self.memory.get(&key).await.unwrap();
                    resolved.push(check(key, belief, found.as_ref()));
                }
                let expected = self.memory.commit(resolved.clone(), writes.clone()).await;
                let answer = self.sqlite.commit(resolved, writes).await;
                prop_assert_eq!(comparable(answer), comparable(expected));
            }
            Step::Get(key) => {
                prop_assert_eq!(self.sqlite.get(&key).await.unwrap(), self.memory.get(&key).await.unwrap());
            }
            Step::Scan(range, order, limit) => prop_assert_eq!(
                self.sqlite.scan(range.clone(), order, limit).await.unwrap(),
                self.memory.scan(range, order, limit).await.unwrap()
            ),
            Step::TakeSnapshot => {
                self.snapshots.push([self.sqlite.snapshot().await.unwrap(), self.memory.snapshot().await.unwrap()]);
            }
            Step::ReadSnapshot { nth, range, order } => {
                let Some([sqlite, memory]) = self.snapshots.get(nth) else { return Ok(()) };
                prop_assert_eq!(sqlite.revision(), memory.revision());
                prop_assert_eq!(
                    sqlite.scan(range.clone(), order, 9).await.unwrap(),
                    memory.scan(range, order, 9).await.unwrap()
                );
            }
            Step::DropSnapshots => self.snapshots.clear(),
            Step::Reopen => {
                self.snapshots.clear();
                self.sqlite.close().await.unwrap();
                self.sqlite = Arc::new(SqliteStore::open(self.dir.path()).unwrap());
            }
        }
        Ok(())
    }
}

fn check(key: Key, belief: Belief, found: Option<&Entry>) -> Check {
    match belief {
        Belief::Truth => Check::unchanged(key, found),
        Belief::Absent => Check::absent(key),
        Belief::Stale => {
            Check::version(key, found.map_or(Revision::ZERO, |entry| Revision::new(entry.revision.get() - 1)))
        }
    }
}

fn comparable(answer: Result<Revision, CommitError>) -> Result<Revision, Key> {
    answer.map_err(|error| match error {
        CommitError::Conflict { key } => key,
        other => panic!("{other:?}"),
    })
}

fn step() -> impl Strategy<Value = Step> {
    let belief = prop_oneof![4 => Just(Belief::Truth), 1 => Just(Belief::Absent), 1 => Just(Belief::Stale)];
    let commit = (vec((key(), belief), 0..3), vec(write(), 0..5));
    prop_oneof![
        8 => commit.prop_map(|(checks, writes)| Step::Commit { checks, writes }),
        3 => key().prop_map(Step::Get),
        3 => (range(), order(), 0..6usize).prop_map(|(range, order, limit)| Step::Scan(range, order, limit)),
        1 => Just(Step::TakeSnapshot),
        2 => (0..4usize, range(), order()).prop_map(|(nth, range, order)| Step::ReadSnapshot { nth, range, order }),
        1 => Just(Step::DropSnapshots),
        1 => Just(Step::Reopen),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    let value = prop_oneof![8 => vec(any::<u8>(), 0..20), 1 => (5000..9000usize).prop_map(|bytes| vec![7; bytes])];
    prop_oneof![
        5 => (key(), value).prop_map(|(key, value)| Write::put(key, value)),
        2 => key().prop_map(Write::delete),
        1 => range().prop_map(Write::delete_range),
    ]
}

fn key() -> impl Strategy<Value = Key> {
    let byte = prop_oneof![Just(0x00), Just(0x01), Just(0xFF), Just(b'a')];
    vec(byte, 0..3).prop_map(|bytes| Key::family(FAMILY).bytes(&bytes))
}

fn range() -> impl Strategy<Value = Range> {
    prop_oneof![
        (key(), key()).prop_map(|(start, end)| Range::new(start, end)),
        key().prop_map(|prefix| Range::under(&prefix)),
        prop_oneof![Just(&b""[..]), Just(&b"\0"[..]), Just(&b"a"[..]), Just(&b"\xFF"[..])]
            .prop_map(|beginning| Range::starting_with(&Key::family(FAMILY), beginning)),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Ascending), Just(Order::Descending)]
}
