//! The claims. Each is handed an empty store, and knows nothing of the engine behind it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{commit, everything, key, numbered, put, read};
use crate::store::{Check, CommitError, Entry, Error, Key, Order, Range, Revision, Store, VALUE_BYTES_MAX, Write};

pub(super) async fn s1_readers_never_see_a_part_of_a_commit(store: Arc<dyn Store>) {
    const KEYS: u64 = 7;
    let mut tasks = JoinSet::new();
    for reader in 0..4 {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..50 {
                let found = match reader % 2 {
                    0 => store.scan(everything(), Order::Ascending, usize::MAX).await.unwrap(),
                    _ => store.snapshot().await.unwrap().scan(everything(), Order::Descending, 99).await.unwrap(),
                };
                let is_whole = found.is_empty() || found.len() == KEYS as usize;
                assert!(is_whole && found.windows(2).all(|pair| pair[0].value == pair[1].value), "{found:?}");
            }
        });
    }
    for round in 0..50 {
        let writes = (0..KEYS).map(|n| match round % 10 {
            9 => Write::delete(numbered("part", n)),
            _ => Write::put(numbered("part", n), format!("{round}")),
        });
        commit(&*store, vec![], writes.collect()).await.unwrap();
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

pub(super) async fn s2_a_thousand_commits_of_many_tasks_are_all_there(store: Arc<dyn Store>) {
    let mut tasks = JoinSet::new();
    for task in 0..100 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut revisions = Vec::new();
            for n in 0..10 {
                revisions.push(put(&*store, &numbered("many", task * 10 + n), "x").await);
            }
            revisions
        });
    }
    let mut revisions: Vec<Revision> = tasks.join_all().await.into_iter().flatten().collect();
    revisions.sort();
    assert_eq!(revisions, (1..=1000).map(Revision::new).collect::<Vec<_>>());
    let found = store.scan(everything(), Order::Ascending, usize::MAX).await.unwrap();
    assert_eq!(keys(&found), (0..1000).map(|n| numbered("many", n)).collect::<Vec<_>>());
    let mut found: Vec<Revision> = found.iter().map(|entry| entry.revision).collect();
    found.sort();
    assert_eq!(found, revisions);
}

pub(super) async fn s3_a_commit_whose_checks_fail_changes_nothing(store: Arc<dyn Store>) {
    let (held, free) = (key("held"), key("free"));
    let first = put(&*store, &held, "old").await;
    let second = put(&*store, &held, "held").await;
    let fails = [
        (Check::absent(held.clone()), &held),
        (Check::version(held.clone(), first), &held),
        (Check::version(free.clone(), second), &free),
        (Check::version(free.clone(), Revision::ZERO), &free),
    ];
    for (check, culprit) in fails {
        let checks = vec![Check::version(held.clone(), second), check.clone(), Check::absent(held.clone())];
        let writes = vec![Write::put(free.clone(), "never"), Write::delete_range(everything())];
        let answer = commit(&*store, checks, writes).await;
        assert!(matches!(&answer, Err(CommitError::Conflict { key }) if key == culprit), "{check:?}: {answer:?}");
        assert_eq!((read(&*store, &held).await.as_deref(), read(&*store, &free).await), (Some("held"), None));
    }
    assert_eq!(*store.watch().borrow(), second);
}

pub(super) async fn p1_counters_by_check_and_retry_sum_right(store: Arc<dyn Store>) {
    let counter = key("counter");
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (store, counter) = (store.clone(), counter.clone());
        tasks.spawn(async move {
            for _ in 0..20 {
                increment(&*store, &counter).await;
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(read(&*store, &counter).await.as_deref(), Some("160"));
}

async fn increment(store: &dyn Store, counter: &Key) {
    loop {
        let entry = store.get(counter).await.unwrap();
        let count: u64 = entry.as_ref().map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().parse().unwrap());
        let check = Check::unchanged(counter.clone(), entry.as_ref());
        match commit(store, vec![check], vec![Write::put(counter.clone(), format!("{}", count + 1))]).await {
            Ok(_) => return,
            Err(CommitError::Conflict { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

pub(super) async fn p2_a_read_sees_what_was_acknowledged_before(store: Arc<dyn Store>) {
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            let own = numbered("own", task);
            for round in 0..20 {
                let revision = put(&*store, &own, &format!("{round}")).await;
                let entry = store.get(&own).await.unwrap().unwrap();
                assert_eq!((entry.revision, &entry.value[..]), (revision, format!("{round}").as_bytes()));
                assert!(store.snapshot().await.unwrap().revision() >= revision);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

pub(super) async fn p3_a_snapshot_is_one_moment(store: Arc<dyn Store>) {
    let (kept, gone, new) = (key("kept"), key("gone"), key("new"));
    put(&*store, &kept, "before").await;
    let revision = put(&*store, &gone, "before").await;
    let before = store.snapshot().await.unwrap();
    let found_before = before.scan(everything(), Order::Ascending, 9).await.unwrap();

    let writes = vec![Write::put(kept.clone(), "after"), Write::delete(gone.clone()), Write::put(new.clone(), "after")];
    commit(&*store, vec![], writes).await.unwrap();
    let after = store.snapshot().await.unwrap();

    assert_eq!(before.revision(), revision);
    assert_eq!(before.scan(everything(), Order::Ascending, 9).await.unwrap(), found_before);
    assert_eq!(before.get(&new).await.unwrap(), None);
    assert_eq!(before.get(&gone).await.unwrap().unwrap().revision, revision);
    drop(before);
    assert_eq!(after.revision(), revision.next());
    assert_eq!(after.get(&gone).await.unwrap(), None);
    assert_eq!(after.get(&kept).await.unwrap().unwrap().value, "after");
}

pub(super) async fn p4_a_scan_answers_in_order_within_its_range(store: Arc<dyn Store>) {
    let sorted = [key(""), key("\0"), key("a"), key("a\0"), numbered("a", 2), numbered("a", 10), key("ab"), key("b")];
    let mut sorted = sorted.to_vec();
    sorted.sort();
    // Written in another order than that of the keys.
    for nth in [3, 0, 7, 5, 1, 6, 2, 4] {
        put(&*store, &sorted[nth], "x").await;
    }
    for start in 0..sorted.len() {
        for end in 0..sorted.len() {
            let range = Range::new(sorted[start].clone(), sorted[end].clone());
            let expected = sorted.get(start..end).unwrap_or_default();
            for limit in [0, 1, 3, usize::MAX] {
                let up = store.scan(range.clone(), Order::Ascending, limit).await.unwrap();
                let down = store.scan(range.clone(), Order::Descending, limit).await.unwrap();
                let (up_expected, down_expected) = (expected.iter().take(limit), expected.iter().rev().take(limit));
                assert_eq!(keys(&up), up_expected.cloned().collect::<Vec<_>>());
                assert_eq!(keys(&down), down_expected.cloned().collect::<Vec<_>>());
            }
        }
    }
}

pub(super) async fn p4_pages_join_without_a_gap(store: Arc<dyn Store>) {
    let writes = (0..23).map(|n| Write::put(numbered("page", n), "x")).collect();
    commit(&*store, vec![], writes).await.unwrap();
    let all = store.scan(everything(), Order::Ascending, usize::MAX).await.unwrap();
    let (mut up, mut rest) = (Vec::new(), everything());
    loop {
        let page = store.scan(rest.clone(), Order::Ascending, 5).await.unwrap();
        let Some(last) = page.last() else { break };
        rest = rest.after(&last.key);
        up.extend(page);
    }
    let (mut down, mut rest) = (Vec::new(), everything());
    loop {
        let page = store.scan(rest.clone(), Order::Descending, 5).await.unwrap();
        let Some(last) = page.last() else { break };
        rest = rest.before(&last.key);
        down.extend(page);
    }
    down.reverse();
    assert_eq!((&up, &down), (&all, &all));
}

pub(super) async fn p5_every_commit_that_writes_takes_the_next_number(store: Arc<dyn Store>) {
    assert_eq!(*store.watch().borrow(), Revision::ZERO);
    assert_eq!(commit(&*store, vec![], vec![]).await.unwrap(), Revision::ZERO);
    let first = put(&*store, &key("a"), "x").await;
    assert_eq!(first, Revision::new(1));
    assert_eq!(commit(&*store, vec![Check::version(key("a"), first)], vec![]).await.unwrap(), first);
    // Deleting nothing is still a commit that was asked to write.
    let second = commit(&*store, vec![], vec![Write::delete(key("nothing"))]).await.unwrap();
    let third = commit(&*store, vec![], vec![Write::put(key("b"), "x"), Write::put(key("c"), "x")]).await.unwrap();
    assert_eq!((second, third), (Revision::new(2), Revision::new(3)));
    let found = store.scan(everything(), Order::Ascending, 9).await.unwrap();
    assert_eq!(found.iter().map(|entry| entry.revision).collect::<Vec<_>>(), [first, third, third]);
}

pub(super) async fn p5_a_key_that_comes_back_has_a_new_number(store: Arc<dyn Store>) {
    let first = put(&*store, &key("a"), "x").await;
    commit(&*store, vec![], vec![Write::delete(key("a"))]).await.unwrap();
    let again = put(&*store, &key("a"), "x").await;
    assert!(again > first);
    let stale = commit(&*store, vec![Check::version(key("a"), first)], vec![Write::delete(key("a"))]).await;
    assert!(matches!(stale, Err(CommitError::Conflict { .. })));
}

pub(super) async fn p6_the_last_word_on_a_key_counts(store: Arc<dyn Store>) {
    let (a, b, c) = (key("a"), key("b"), key("c"));
    let writes = vec![
        Write::put(a.clone(), "first"),
        Write::put(b.clone(), "first"),
        Write::put(c.clone(), "first"),
        Write::delete_range(Range::new(a.clone(), c.clone())),
        Write::put(a.clone(), "second"),
        Write::put(a.clone(), "third"),
        Write::delete(c.clone()),
        Write::put(c.clone(), ""),
    ];
    commit(&*store, vec![Check::absent(a.clone())], writes).await.unwrap();
    assert_eq!(read(&*store, &a).await.as_deref(), Some("third"));
    assert_eq!(read(&*store, &b).await, None);
    // An empty value is a value.
    assert_eq!(read(&*store, &c).await.as_deref(), Some(""));
}

pub(super) async fn p6_a_range_delete_touches_its_range_only(store: Arc<dyn Store>) {
    let writes = (0..10).map(|n| Write::put(numbered("n", n), "x")).collect();
    let written = commit(&*store, vec![], writes).await.unwrap();
    let inner = Range::new(numbered("n", 3), numbered("n", 7));
    let backwards = Range::new(numbered("n", 9), numbered("n", 1));
    commit(&*store, vec![], vec![Write::delete_range(inner), Write::delete_range(backwards)]).await.unwrap();
    let found = store.scan(everything(), Order::Ascending, 99).await.unwrap();
    assert_eq!(keys(&found), [0, 1, 2, 7, 8, 9].map(|n| numbered("n", n)));
    assert!(found.iter().all(|entry| entry.revision == written));
}

pub(super) async fn p7_the_watch_has_reached_what_was_acknowledged(store: Arc<dyn Store>) {
    let mut watch = store.watch();
    assert!(!watch.has_changed().unwrap());
    for n in 0..10 {
        let revision = put(&*store, &numbered("n", n), "x").await;
        assert!(watch.has_changed().unwrap());
        assert_eq!(*watch.borrow_and_update(), revision);
    }
    let conflict = commit(&*store, vec![Check::absent(numbered("n", 0))], vec![Write::delete(key("x"))]).await;
    assert!(matches!(conflict, Err(CommitError::Conflict { .. })) && !watch.has_changed().unwrap());
    assert!(!store.watch().has_changed().unwrap(), "a new receiver has seen the present");
}

pub(super) async fn p7_the_watch_never_runs_ahead_or_back(store: Arc<dyn Store>) {
    const COMMITS: u64 = 100;
    let watcher = tokio::spawn({
        let store = store.clone();
        async move {
            let (mut watch, mut last) = (store.watch(), Revision::ZERO);
            while last < Revision::new(COMMITS) {
                watch.changed().await.unwrap();
                let seen = *watch.borrow_and_update();
                assert!(seen > last);
                assert!(store.snapshot().await.unwrap().revision() >= seen);
                last = seen;
            }
        }
    });
    let writers = (0..4).map(|task| {
        let store = store.clone();
        async move {
            for n in 0..COMMITS / 4 {
                put(&*store, &numbered("n", task * COMMITS + n), "x").await;
            }
        }
    });
    writers.collect::<JoinSet<()>>().join_all().await;
    watcher.await.unwrap();
}

pub(super) async fn p8_what_is_too_large_is_refused_and_changes_nothing(store: Arc<dyn Store>) {
    let large = Bytes::from(vec![7; VALUE_BYTES_MAX]);
    let larger = Bytes::from(vec![7; VALUE_BYTES_MAX + 1]);
    let small = Write::put(key("small"), "x");
    let refused = [
        vec![small.clone(), Write::put(key("large"), larger)],
        vec![small.clone(), Write::put(key(&"k".repeat(9000)), "x")],
        (0..5).map(|n| Write::put(numbered("large", n), large.clone())).collect(),
    ];
    for writes in refused {
        let answer = commit(&*store, vec![], writes).await;
        assert!(matches!(answer, Err(CommitError::Refused { source: Error::TooLarge { .. } })), "{answer:?}");
    }
    assert_eq!(store.snapshot().await.unwrap().revision(), Revision::ZERO);
    commit(&*store, vec![], vec![Write::put(key("large"), large.clone())]).await.unwrap();
    assert_eq!(store.get(&key("large")).await.unwrap().unwrap().value, large);
}

fn keys(entries: &[Entry]) -> Vec<Key> {
    entries.iter().map(|entry| entry.key.clone()).collect()
}
