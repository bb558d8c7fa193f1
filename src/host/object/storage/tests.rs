//! What a guest sees of its storage, without a store on a disk.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use tokio::sync::Semaphore;

use super::*;

/// What is durable of one object, in memory. It answers no read while `open` has no permit.
struct Memory {
    pairs: Mutex<BTreeMap<String, Bytes>>,
    reads: AtomicUsize,
    open: Semaphore,
}

impl Memory {
    async fn read<T>(&self, read: impl FnOnce(&BTreeMap<String, Bytes>) -> T) -> T {
        self.reads.fetch_add(1, Ordering::SeqCst);
        // As it is now, whenever it is answered.
        let read = read(&self.pairs.lock().unwrap());
        let _ = self.open.acquire().await.unwrap();
        read
    }

    fn text(&self) -> String {
        self.pairs.lock().unwrap().iter().map(|(key, value)| format!("{key}={} ", text(value))).collect()
    }
}

struct Port(Arc<Memory>);

impl ObjectStore for Port {
    fn get(&self, keys: Vec<String>) -> BoxFuture<'static, Result<Vec<Option<Bytes>>, StoreFault>> {
        let memory = Arc::clone(&self.0);
        async move { Ok(memory.read(|pairs| keys.iter().map(|key| pairs.get(key).cloned()).collect()).await) }.boxed()
    }

    fn list(&self, query: Query) -> BoxFuture<'static, Result<Vec<(String, Bytes)>, StoreFault>> {
        let memory = Arc::clone(&self.0);
        async move {
            let all = memory.read(Clone::clone).await.into_iter().filter(|(key, _)| query.admits(key));
            Ok(if query.reverse { all.rev().take(query.limit).collect() } else { all.take(query.limit).collect() })
        }
        .boxed()
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<(), StoreFault>> {
        let mut pairs = self.0.pairs.lock().unwrap();
        if batch.clear {
            pairs.clear();
        }
        for (key, Change { value, before }) in batch.writes {
            let there = pairs.get(&key).map_or(0, |value| (key.len() + value.len()) as u64);
            assert!(before.is_none_or(|before| before == there), "{key}: {before:?} where there are {there}");
            match value {
                Some(value) => drop(pairs.insert(key, value)),
                None => assert!(pairs.remove(&key).is_some(), "{key} is removed, and was not there"),
            }
        }
        async { Ok(()) }.boxed()
    }

    fn bytes(&self) -> u64 {
        self.0.pairs.lock().unwrap().iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }
}

/// Storage over what is durable, which is `pairs` at first.
fn over(pairs: &[(&str, &str)]) -> (Arc<Memory>, Storage) {
    let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), Bytes::from((*value).to_owned()))).collect();
    let memory = Memory { pairs: Mutex::new(pairs), reads: AtomicUsize::new(0), open: Semaphore::new(1) };
    let memory = Arc::new(memory);
    let storage = Storage::new(Arc::new(Port(Arc::clone(&memory))), Arc::default(), None);
    (memory, storage)
}

fn put(storage: &Storage, key: &str, value: &str) {
    storage.put(vec![(key.to_owned(), value.as_bytes().to_vec())]).unwrap();
}

fn get(storage: &Storage, key: &str) -> Option<String> {
    storage.get(key).now_or_never().expect("nothing to wait for").unwrap().map(|value| text(&value))
}

fn list(storage: &Storage, query: Query) -> String {
    let pairs = storage.list(query).now_or_never().expect("nothing to wait for").unwrap();
    pairs.iter().map(|(key, value)| format!("{key}={} ", text(value))).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn all() -> Query {
    Query { limit: usize::MAX, ..Query::default() }
}

fn keys(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

/// Makes what is pending durable, as an object's task does.
fn save(storage: &Storage) -> Option<Batch> {
    let (number, batch) = storage.take(Due::AtRest)?;
    storage.commit(batch.clone()).now_or_never().expect("nothing to wait for").unwrap();
    storage.committed(number);
    Some(batch)
}

#[test]
fn what_is_written_is_seen_at_once_and_is_one_batch() {
    let (memory, storage) = over(&[("a", "old"), ("b", "old")]);
    put(&storage, "a", "new");
    put(&storage, "c", "new");
    assert_eq!((get(&storage, "a").as_deref(), get(&storage, "b").as_deref()), (Some("new"), Some("old")));
    assert_eq!(memory.text(), "a=old b=old ");
    let mut confirmed = storage.confirmation().expect("something is not durable");
    assert!((&mut confirmed).now_or_never().is_none());
    assert_eq!(save(&storage).unwrap().writes.len(), 2);
    assert_eq!(confirmed.now_or_never(), Some(true));
    assert_eq!(memory.text(), "a=new b=old c=new ");
    assert!(storage.confirmation().is_none() && storage.take(Due::AtRest).is_none());
}

#[test]
fn the_next_batch_gathers_while_one_is_with_the_store() {
    let (memory, storage) = over(&[]);
    put(&storage, "a", "1");
    let (number, first) = storage.take(Due::AtRest).unwrap();
    put(&storage, "a", "2");
    let mut second = storage.confirmation().unwrap();
    storage.commit(first).now_or_never().unwrap().unwrap();
    storage.committed(number);
    // The first is durable, the second is not, and still wins.
    assert!((&mut second).now_or_never().is_none());
    assert_eq!((get(&storage, "a").as_deref(), memory.text().as_str()), (Some("2"), "a=1 "));
    save(&storage).unwrap();
    assert_eq!((second.now_or_never(), memory.text().as_str()), (Some(true), "a=2 "));
}

#[test]
fn whoever_waits_for_what_will_never_be_durable_is_told() {
    let (_, storage) = over(&[]);
    put(&storage, "a", "1");
    let confirmed = storage.confirmation().unwrap();
    storage.die();
    assert_eq!(confirmed.now_or_never(), Some(false));
    assert_eq!(storage.sync().now_or_never(), Some(Err(Fault::Superseded)));
}

#[test]
fn a_list_sees_what_is_not_durable_over_what_is() {
    let (_, storage) = over(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]);
    put(&storage, "b", "2");
    put(&storage, "bb", "2");
    assert_eq!(storage.delete(keys(&["a", "c", "nothing"])).now_or_never(), Some(Ok(2)));
    assert_eq!(list(&storage, all()), "b=2 bb=2 d=1 ");
    assert_eq!(list(&storage, Query { limit: 2, ..all() }), "b=2 bb=2 ");
    assert_eq!(list(&storage, Query { limit: 2, reverse: true, ..all() }), "d=1 bb=2 ");
    assert_eq!(list(&storage, Query { prefix: "b".into(), ..all() }), "b=2 bb=2 ");
    assert_eq!(list(&storage, Query { start_after: Some("b".into()), end: Some("d".into()), ..all() }), "bb=2 ");
    // The same while the batch is with the store, and after.
    let (number, batch) = storage.take(Due::AtRest).unwrap();
    assert_eq!(list(&storage, Query { limit: 1, ..all() }), "b=2 ");
    storage.commit(batch).now_or_never().unwrap().unwrap();
    assert_eq!(list(&storage, all()), "b=2 bb=2 d=1 ");
    storage.committed(number);
    assert_eq!(list(&storage, all()), "b=2 bb=2 d=1 ");
}

#[test]
fn after_all_is_deleted_nothing_of_before_is_seen_or_counted() {
    let (memory, storage) = over(&[("a", "1"), ("b", "1")]);
    storage.set_alarm(5);
    put(&storage, "c", "1");
    storage.delete_all();
    put(&storage, "b", "2");
    let reads = memory.reads.load(Ordering::SeqCst);
    assert_eq!((get(&storage, "a"), list(&storage, all()), storage.alarm()), (None, "b=2 ".to_owned(), None));
    assert_eq!(storage.delete(keys(&["a", "c"])).now_or_never(), Some(Ok(0)));
    assert_eq!(memory.reads.load(Ordering::SeqCst), reads, "the store has nothing to say");
    let (number, batch) = storage.take(Due::AtRest).unwrap();
    assert!(batch.clear && batch.alarm == Some(AlarmChange::Delete) && batch.writes.len() == 1, "{batch:?}");
    // While it is with the store.
    put(&storage, "a", "3");
    assert_eq!(list(&storage, all()), "a=3 b=2 ");
    storage.commit(batch).now_or_never().unwrap().unwrap();
    storage.committed(number);
    save(&storage).unwrap();
    assert_eq!(memory.text(), "a=3 b=2 ");
}

#[test]
fn a_deletion_is_together_with_the_writes_around_it() {
    let (memory, storage) = over(&[("old", "1")]);
    put(&storage, "new", "1");
    memory.open.forget_permits(1);
    let mut deleting = Box::pin(storage.delete(keys(&["old", "nothing"])));
    assert!((&mut deleting).now_or_never().is_none());
    put(&storage, "last", "1");
    // It is seen at once, and nothing is durable without it.
    assert_eq!(get(&storage, "old"), None);
    assert!(storage.take(Due::AtRest).is_none());
    memory.open.add_permits(1);
    assert_eq!(deleting.now_or_never(), Some(Ok(1)));
    assert_eq!(save(&storage).unwrap().writes.len(), 3);
    assert_eq!(memory.text(), "last=1 new=1 ");
}

#[test]
fn a_deletion_that_nobody_waits_for_holds_up_no_one() {
    let (memory, storage) = over(&[("old", "1")]);
    memory.open.forget_permits(1);
    let mut deleting = Box::pin(storage.delete(keys(&["old", "nothing"])));
    assert!((&mut deleting).now_or_never().is_none());
    drop(deleting);
    let (_, batch) = storage.take(Due::AtRest).expect("the batch goes on");
    assert!(batch.writes.values().all(|change| change.value.is_none() && change.before.is_none()), "{batch:?}");
}

#[test]
fn a_deletion_of_nothing_writes_nothing() {
    let (memory, storage) = over(&[]);
    assert_eq!(storage.delete(keys(&["a"])).now_or_never(), Some(Ok(0)));
    assert!(storage.take(Due::AtRest).is_none());
    assert_eq!((get(&storage, "a"), memory.reads.load(Ordering::SeqCst)), (None, 1));
}

#[test]
fn an_old_value_that_arrives_late_is_not_remembered() {
    let (memory, storage) = over(&[("a", "old")]);
    memory.open.forget_permits(1);
    let mut reading = Box::pin(storage.get("a"));
    assert!((&mut reading).now_or_never().is_none());
    // Another task of the guest writes the key, and so much else that nothing of it is kept in memory.
    put(&storage, "a", "new");
    put(&storage, "large", &"x".repeat(OBJECT_CACHE_BYTES));
    save(&storage).unwrap();
    memory.open.add_permits(1);
    assert_eq!(reading.now_or_never(), Some(Ok(Some(Bytes::from("old")))));
    assert_eq!(get(&storage, "a").as_deref(), Some("new"));
}

#[test]
fn what_was_read_is_remembered_up_to_a_limit() {
    let (memory, storage) = over(&[("a", "1")]);
    let reads = || memory.reads.load(Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!((get(&storage, "a").as_deref(), get(&storage, "nothing")), (Some("1"), None));
    }
    assert_eq!(reads(), 2);
    put(&storage, "large", &"x".repeat(OBJECT_CACHE_BYTES));
    // What waits is kept whatever its size.
    assert_eq!(get(&storage, "large").map(|value| value.len()), Some(OBJECT_CACHE_BYTES));
    assert_eq!(reads(), 2);
    save(&storage).unwrap();
    assert_eq!(storage.inner().known_bytes, 0);
    assert_eq!((get(&storage, "a").as_deref(), reads()), (Some("1"), 3));
}

#[test]
fn a_limit_that_is_passed_changes_nothing() {
    let (_, storage) = over(&[]);
    let pairs = |n: usize| (0..n).map(|n| (n.to_string(), Vec::new())).collect::<Vec<_>>();
    assert!(matches!(storage.put(pairs(OBJECT_KEYS_PER_CALL_MAX + 1)), Err(Fault::TooLarge(_))));
    let key = "k".repeat(OBJECT_KEY_BYTES_MAX + 1);
    assert!(matches!(storage.put(vec![("a".into(), vec![]), (key, vec![])]), Err(Fault::TooLarge(_))));
    let value = vec![0; OBJECT_VALUE_BYTES_MAX + 1];
    assert!(matches!(storage.put(vec![("a".into(), vec![]), ("b".into(), value)]), Err(Fault::TooLarge(_))));
    assert!(storage.take(Due::AtRest).is_none());
    // Writes that are handed over now and then may have any size.
    for _ in 0..3 {
        for n in 0..15 {
            storage.put(vec![(n.to_string(), vec![0; OBJECT_VALUE_BYTES_MAX])]).unwrap();
        }
        assert!(matches!(storage.put(vec![("x".into(), vec![0; OBJECT_VALUE_BYTES_MAX])]), Err(Fault::TooLarge(_))));
        save(&storage).unwrap();
    }
}

#[test]
fn an_alarm_is_not_seen_while_it_rings_and_another_one_counts_instead() {
    let (_, storage) = over(&[]);
    storage.set_alarm(5);
    assert_eq!(storage.ring(4), None, "never early");
    assert_eq!(storage.ring(5), Some(Alarm::new(5)));
    assert_eq!((storage.alarm(), storage.ring(5)), (None, None));
    storage.set_alarm(9);
    storage.rung(Some(Alarm { due_ms: 7, retries: 1, host_failures: 0 }));
    assert_eq!(storage.alarm(), Some(9));

    // One that has rung well is gone, one that failed is set anew.
    storage.ring(9).unwrap();
    storage.rung(None);
    assert_eq!((storage.alarm(), save(&storage).unwrap().alarm), (None, Some(AlarmChange::Delete)));
    storage.set_alarm(10);
    storage.ring(10).unwrap();
    storage.rung(Some(Alarm { due_ms: 12, retries: 1, host_failures: 0 }));
    assert_eq!(storage.ring(12).map(|alarm| alarm.retries), Some(1));
}

#[test]
fn an_alarm_that_is_deleted_while_it_rings_is_not_tried_again() {
    for all in [false, true] {
        let (_, storage) = over(&[]);
        storage.set_alarm(5);
        storage.ring(5).unwrap();
        if all {
            storage.delete_all()
        } else {
            storage.delete_alarm()
        }
        storage.rung(Some(Alarm { due_ms: 7, retries: 1, host_failures: 0 }));
        assert_eq!((storage.alarm(), save(&storage).unwrap().alarm), (None, Some(AlarmChange::Delete)));
    }
}
