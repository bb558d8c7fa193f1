//! Writers who meet, writes with a condition, many keys at once, and commits that fail.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::{BEGINNING_S, Room, TINY, key};
use crate::clock::{Clock, ManualClock};
use crate::kv::{Attributes, Condition, EntryKey, Error, Kv, Life, Pair, Sizes};
use crate::store::MemoryStore;
use crate::store::fault::{Fault, FaultStore};

#[tokio::test(flavor = "multi_thread")]
async fn no_increment_is_lost_and_one_of_many_wins_a_swap() {
    let room = Arc::new(Room::new().await);
    // Two rooms over one store, as two nodes would be: their turns know nothing of each other.
    let other = Kv::with_sizes(room.store.clone(), room.clock.clone(), TINY);
    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let kv = if n % 2 == 0 { room.kv.clone() } else { other.clone() };
            let id = room.id;
            tokio::spawn(async move {
                let sum = kv.increment(id, &key("n"), 3).await.unwrap();
                let (once, value) = (key("once"), n.to_string().into());
                (sum, kv.put(id, &once, value, Attributes::default(), Condition::Absent).await.is_ok())
            })
        })
        .collect();
    let (mut sums, mut winners) = (Vec::new(), 0);
    for task in tasks {
        let (sum, won) = task.await.unwrap();
        sums.push(sum);
        winners += usize::from(won);
    }
    sums.sort_unstable();
    assert_eq!(sums, (1..=40).map(|n| 3 * n).collect::<Vec<u64>>());
    assert_eq!(winners, 1);
}

#[tokio::test]
async fn an_increment_keeps_what_is_beside_the_number_and_refuses_what_is_none() {
    let room = Room::new().await;
    let life = Life { expiration: None, expiration_ttl: Some(60) };
    let attributes = Attributes::check(&room.kv, life, Some(&json!({"a": 1}))).unwrap();
    room.kv.put(room.id, &key("n"), "41".into(), attributes, Condition::Any).await.unwrap();
    assert_eq!(room.kv.increment(room.id, &key("n"), 1).await.unwrap(), 42);
    let found = room.kv.get(room.id, &key("n")).await.unwrap().unwrap();
    assert_eq!((found.expiration, found.metadata.as_deref()), (Some(BEGINNING_S + 60), Some("{\"a\":1}")));
    for bad in ["x", "", "-1", "+1", "1.5", "18446744073709551616", "0000000000000000000000001"] {
        room.put("bad", bad).await;
        let error = room.kv.increment(room.id, &key("bad"), 1).await.unwrap_err();
        assert!(matches!(error, Error::NotANumber), "{bad}: {error}");
    }
}

#[tokio::test]
async fn a_number_does_not_pass_its_largest() {
    let room = Room::cut(Sizes { inline_bytes_max: 32, chunk_bytes: 32, ..TINY }).await;
    room.put("full", &u64::MAX.to_string()).await;
    assert!(matches!(room.kv.increment(room.id, &key("full"), 1).await, Err(Error::Overflow)));
    assert_eq!(room.kv.increment(room.id, &key("full"), 0).await.unwrap(), u64::MAX);
}

#[tokio::test]
async fn a_write_with_a_condition_happens_only_if_it_holds() {
    let room = Room::new().await;
    let put = |value: &'static str, condition| {
        let (kv, id) = (room.kv.clone(), room.id);
        async move { kv.put(id, &key("k"), value.into(), Attributes::default(), condition).await }
    };
    assert!(matches!(put("0", Condition::Present).await, Err(Error::ConditionFailed)));
    let first = put("1", Condition::Absent).await.unwrap();
    assert!(matches!(put("2", Condition::Absent).await, Err(Error::ConditionFailed)));
    let second = put("2", Condition::Revision(first)).await.unwrap();
    assert!(matches!(put("3", Condition::Revision(first)).await, Err(Error::ConditionFailed)));
    assert_eq!(room.kv.get(room.id, &key("k")).await.unwrap().unwrap().revision, second);
    // Deleted and written again it is another state, though the value is the same.
    room.kv.delete(room.id, &key("k"), Condition::Revision(second)).await.unwrap();
    put("2", Condition::Any).await.unwrap();
    let stale = room.kv.delete(room.id, &key("k"), Condition::Revision(second)).await;
    assert!(matches!(stale, Err(Error::ConditionFailed)));
    assert_eq!(room.get("k").await.unwrap(), "2");
}

#[tokio::test]
async fn bulk_calls_take_many_keys_and_the_last_word_on_each() {
    let room = Room::new().await;
    let pair = |n: usize, value: &str| Pair {
        key: key(&format!("k{n:04}")),
        value: Bytes::copy_from_slice(value.as_bytes()),
        attributes: Attributes::default(),
    };
    let mut pairs: Vec<Pair> = (0..1500).map(|n| pair(n, if n % 3 == 0 { "in several chunks" } else { "v" })).collect();
    pairs.push(pair(7, "last"));
    room.kv.put_many(room.id, pairs).await.unwrap();
    assert_eq!(room.names("").await.len(), 1000);
    let keys = [key("k0007"), key("k0003"), key("nothing"), key("k0007")];
    let values = room.kv.get_many(room.id, &keys).await.unwrap();
    let values: Vec<Option<Bytes>> = values.into_iter().map(|found| found.map(|(_, bytes)| bytes)).collect();
    let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
    assert_eq!(values, [Some(&b"last"[..]), Some(b"in several chunks"), None, Some(b"last")]);
    let all: Vec<EntryKey> = (0..1500).chain(0..3).map(|n| key(&format!("k{n:04}"))).collect();
    room.kv.delete_many(room.id, all).await.unwrap();
    assert_eq!(room.names("").await, [""; 0]);
    room.sweep_after(60).await;
    assert_eq!(room.records().await, 0);
    let many = vec![key("k"); 10_001];
    assert!(matches!(room.kv.delete_many(room.id, many).await, Err(Error::TooManyKeys { keys: 10_001 })));
}

#[tokio::test]
async fn a_commit_that_fails_leaves_the_old_value_whole() {
    for nth in 1..=5 {
        let inner = Arc::new(MemoryStore::new());
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(BEGINNING_S * 1000));
        let sound = Kv::with_sizes(inner.clone(), clock.clone(), TINY);
        let id = sound.create("notes").await.unwrap().id;
        let put = |kv: Arc<Kv>, value: &'static str| async move {
            kv.put(id, &key("k"), value.into(), Attributes::default(), Condition::Any).await
        };
        put(sound.clone(), "the old value, in several chunks").await.unwrap();
        let faulty = Kv::with_sizes(Arc::new(FaultStore::at(inner, nth, Fault::Refuse)), clock, TINY);
        let outcome = put(faulty, "the new value, which takes more than one commit").await;
        let now = sound.get(id, &key("k")).await.unwrap().unwrap().value.bytes().await.unwrap();
        let beginning: &[u8] = if outcome.is_err() { b"the old" } else { b"the new" };
        assert!(now.starts_with(beginning), "{nth}: {outcome:?}");
    }
}
