//! The numbered promises of [`crate::store`] as tests, run against every engine: each claim of `promises` becomes one
//! test per engine, so that a failure reads `sqlite::p3_a_snapshot_is_one_moment`.

mod faults;
mod kill;
mod model;
mod promises;

use std::sync::Arc;

use tempfile::TempDir;

use super::{
    Check, CommitError, Family, Key, MemoryStore, Range, Revision, SqliteStore, Store, Write,
    fault::{Fault, FaultStore},
};

const FAMILY: Family = Family::new(b'T');

/// A store to test, and the folder that goes when the test does.
struct Subject {
    store: Arc<dyn Store>,
    _dir: Option<TempDir>,
}

fn memory() -> Subject {
    Subject { store: Arc::new(MemoryStore::new()), _dir: None }
}

fn sqlite() -> Subject {
    let dir = tempfile::tempdir().expect("a temporary folder");
    Subject { store: Arc::new(SqliteStore::open(dir.path()).expect("opens")), _dir: Some(dir) }
}

/// The promises hold for whoever retries what was refused, whatever overtakes whatever.
fn sqlite_under_fault() -> Subject {
    let Subject { store, _dir } = sqlite();
    let faulty = FaultStore::new(store, |nth| match nth % 5 {
        1 | 3 => Some(Fault::Refuse),
        2 => Some(Fault::Delay { turns: (nth % 17) as u32 }),
        _ => None,
    });
    Subject { store: Arc::new(faulty), _dir }
}

macro_rules! promise {
    ($($claim:ident),* $(,)?) => {
        promise!(@engine memory: $($claim)*);
        promise!(@engine sqlite: $($claim)*);
        promise!(@engine sqlite_under_fault: $($claim)*);
    };
    (@engine $engine:ident: $($claim:ident)*) => {
        mod $engine {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $claim() {
                let subject = super::$engine();
                super::promises::$claim(subject.store.clone()).await;
            })*
        }
    };
}

promise! {
    s1_readers_never_see_a_part_of_a_commit,
    s2_a_thousand_commits_of_many_tasks_are_all_there,
    s3_a_commit_whose_checks_fail_changes_nothing,
    p1_counters_by_check_and_retry_sum_right,
    p2_a_read_sees_what_was_acknowledged_before,
    p3_a_snapshot_is_one_moment,
    p4_a_scan_answers_in_order_within_its_range,
    p4_pages_join_without_a_gap,
    p5_every_commit_that_writes_takes_the_next_number,
    p5_a_key_that_comes_back_has_a_new_number,
    p6_the_last_word_on_a_key_counts,
    p6_a_range_delete_touches_its_range_only,
    p7_the_watch_has_reached_what_was_acknowledged,
    p7_the_watch_never_runs_ahead_or_back,
    p8_what_is_too_large_is_refused_and_changes_nothing,
}

fn key(text: &str) -> Key {
    Key::family(FAMILY).text(text)
}

fn numbered(text: &str, number: u64) -> Key {
    key(text).number(number)
}

fn everything() -> Range {
    Range::under(&Key::family(FAMILY))
}

/// Commits, and tries again what was refused by an injected fault.
async fn commit(store: &dyn Store, checks: Vec<Check>, writes: Vec<Write>) -> Result<Revision, CommitError> {
    loop {
        match store.commit(checks.clone(), writes.clone()).await {
            Err(CommitError::Refused { source: crate::store::Error::Io { .. } }) => {}
            answer => return answer,
        }
    }
}

async fn put(store: &dyn Store, key: &Key, value: &str) -> Revision {
    commit(store, vec![], vec![Write::put(key.clone(), value.to_owned())]).await.expect("a put without checks commits")
}

async fn read(store: &dyn Store, key: &Key) -> Option<String> {
    let entry = store.get(key).await.expect("reads")?;
    Some(String::from_utf8(entry.value.to_vec()).expect("tests write text"))
}
