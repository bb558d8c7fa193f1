//! The room over the memory engine and a clock that stands still; `model` compares it with a map.

mod model;
mod together;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::{Attributes, Condition, EntryKey, Error, Kv, Life, Progress, Sizes};
use crate::clock::ManualClock;
use crate::domain::id::NamespaceId;
use crate::domain::limits::{KV_KEY_BYTES_MAX, KV_METADATA_BYTES_MAX, KV_VALUE_BYTES_MAX};
use crate::store::{Family, Key, MemoryStore, Order, Range, Store};

/// Unix seconds at which tests begin.
const BEGINNING_S: u64 = 1_700_000_000;
/// Small enough that short values go every way that long ones do.
const TINY: Sizes = Sizes { inline_bytes_max: 4, chunk_bytes: 8, commit_bytes: 16 };

/// A room with one namespace.
struct Room {
    kv: Arc<Kv>,
    id: NamespaceId,
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
}

impl Room {
    async fn new() -> Self {
        Self::cut(TINY).await
    }

    async fn cut(sizes: Sizes) -> Self {
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(ManualClock::at(BEGINNING_S * 1000)));
        let kv = Kv::with_sizes(store.clone(), clock.clone(), sizes);
        let id = kv.create("notes").await.unwrap().id;
        Self { kv, id, store, clock }
    }

    async fn put(&self, name: &str, value: &str) {
        self.put_for(name, value, None).await;
    }

    async fn put_for(&self, name: &str, value: &str, ttl: Option<i64>) {
        let life = Life { expiration: None, expiration_ttl: ttl };
        let attributes = Attributes::check(&self.kv, life, None).unwrap();
        let value = Bytes::copy_from_slice(value.as_bytes());
        self.kv.put(self.id, &key(name), value, attributes, Condition::Any).await.unwrap();
    }

    async fn get(&self, name: &str) -> Option<String> {
        let mut found = self.kv.get(self.id, &key(name)).await.unwrap()?;
        Some(String::from_utf8(found.value.bytes().await.unwrap().into()).unwrap())
    }

    async fn names(&self, prefix: &str) -> Vec<String> {
        let page = self.kv.list(self.id, prefix, None, 1000).await.unwrap();
        page.keys.into_iter().map(|listed| listed.key.as_str().to_owned()).collect()
    }

    /// Records of all kinds but namespaces and titles.
    async fn records(&self) -> usize {
        let all = Range::new(Key::family(Family::new(0x32)), Key::family(Family::new(0x37)));
        self.store.scan(all, Order::Ascending, usize::MAX).await.unwrap().len()
    }

    async fn sweep_after(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        while self.kv.sweep().await.unwrap() == Progress::More {}
    }
}

fn key(name: &str) -> EntryKey {
    EntryKey::new(name).unwrap()
}

#[tokio::test]
async fn values_of_every_size_come_back_whole() {
    let room = Room::new().await;
    for length in [0, 1, 4, 5, 8, 9, 16, 17, 24, 25, 100] {
        let text: String = ('a'..='z').cycle().take(length).collect();
        room.put("k", &text).await;
        assert_eq!(room.get("k").await, Some(text), "{length}");
        assert_eq!(room.kv.get(room.id, &key("k")).await.unwrap().unwrap().value.size_bytes(), length as u64);
    }
    assert_eq!(room.get("other").await, None);
}

#[tokio::test]
async fn a_value_of_the_largest_size_is_taken_and_one_more_byte_is_not() {
    let store = Arc::new(MemoryStore::new());
    let kv = Kv::new(store, Arc::new(ManualClock::at(0)));
    let id = kv.create("large").await.unwrap().id;
    let largest = Bytes::from(vec![7; usize::try_from(KV_VALUE_BYTES_MAX).unwrap()]);
    let put = |value: Bytes| {
        let kv = kv.clone();
        async move { kv.put(id, &key("k"), value, Attributes::default(), Condition::Any).await }
    };
    put(largest.clone()).await.unwrap();
    let mut found = kv.get(id, &key("k")).await.unwrap().unwrap();
    assert!(found.value.bytes().await.unwrap() == largest);
    let more = Bytes::from(vec![8; largest.len() + 1]);
    assert!(matches!(put(more).await, Err(Error::ValueTooLarge)));
    assert!(kv.get(id, &key("k")).await.unwrap().unwrap().value.bytes().await.unwrap() == largest);
}

#[tokio::test]
async fn keys_and_attributes_are_held_to_their_limits() {
    let room = Room::new().await;
    for bad in ["", ".", "..", &"k".repeat(KV_KEY_BYTES_MAX + 1)] {
        assert!(EntryKey::new(bad).is_err(), "{bad}");
    }
    assert!(EntryKey::new("k".repeat(KV_KEY_BYTES_MAX)).is_ok());
    let check = |life: Life, metadata: Option<&serde_json::Value>| Attributes::check(&room.kv, life, metadata);
    let text = |length: usize| json!("m".repeat(length - 2));
    assert!(check(Life::default(), Some(&text(KV_METADATA_BYTES_MAX))).is_ok());
    let error = check(Life::default(), Some(&text(KV_METADATA_BYTES_MAX + 1))).unwrap_err();
    assert!(matches!(error, Error::MetadataTooLarge { bytes } if bytes == KV_METADATA_BYTES_MAX + 1));
    assert_eq!(check(Life::default(), Some(&json!(null))).unwrap(), Attributes::default());

    let ttl = |ttl| check(Life { expiration: None, expiration_ttl: Some(ttl) }, None);
    assert!(ttl(60).is_ok() && matches!(ttl(59), Err(Error::TtlTooShort { .. })) && ttl(-1).is_err());
    let now = i64::try_from(BEGINNING_S).unwrap();
    let at = |expiration| check(Life { expiration: Some(expiration), expiration_ttl: None }, None);
    assert!(at(now + 60).is_ok() && matches!(at(now + 59), Err(Error::ExpirationTooEarly { .. })) && at(-5).is_err());
}

#[tokio::test]
async fn what_has_expired_is_absent_at_once_and_swept_later() {
    let room = Room::new().await;
    room.put_for("short", "a value in chunks", Some(60)).await;
    room.put_for("long", "v", Some(120)).await;
    room.clock.advance(Duration::from_secs(59));
    assert!(room.get("short").await.is_some());
    room.clock.advance(Duration::from_secs(1));
    assert_eq!(room.get("short").await, None);
    assert_eq!(room.names("").await, ["long"]);
    // It is nothing to an increment or a condition either.
    let absent = room.kv.put(room.id, &key("short"), "1".into(), Attributes::default(), Condition::Absent).await;
    absent.unwrap();
    assert_eq!(room.kv.increment(room.id, &key("short"), 1).await.unwrap(), 2);
    room.sweep_after(60).await;
    room.sweep_after(60).await;
    assert_eq!(room.names("").await, ["short"]);
    assert_eq!(room.records().await, 1);
}

#[tokio::test]
async fn an_end_that_was_moved_or_taken_back_is_not_kept() {
    let room = Room::new().await;
    room.put_for("k", "1", Some(60)).await;
    room.put_for("k", "2", Some(600)).await;
    room.put_for("l", "1", Some(60)).await;
    room.put("l", "2").await;
    room.sweep_after(61).await;
    assert_eq!((room.get("k").await.unwrap(), room.get("l").await.unwrap()), ("2".into(), "2".into()));
    // Two entries, and the end of one.
    assert_eq!(room.records().await, 3);
}

#[tokio::test]
async fn replaced_chunks_go_but_not_under_a_reader() {
    let room = Room::new().await;
    room.put("k", "the first value, of several chunks").await;
    let mut reading = room.kv.get(room.id, &key("k")).await.unwrap().unwrap();
    let first = reading.value.next().await.unwrap().unwrap();
    room.put("k", "2").await;
    room.sweep_after(3600).await;
    let rest = reading.value.bytes().await.unwrap();
    assert_eq!([first, rest].concat(), b"the first value, of several chunks");
    drop(reading);
    room.kv.sweep().await.unwrap();
    assert_eq!(room.records().await, 1);
}

#[tokio::test]
async fn an_upload_that_is_not_finished_was_never_there_and_is_swept() {
    let room = Room::new().await;
    let mut upload = room.kv.upload(room.id);
    for _ in 0..10 {
        upload.push(Bytes::from_static(b"0123456789")).await.unwrap();
    }
    assert!(room.records().await > 0, "chunks were written ahead");
    assert_eq!(room.names("").await, [""; 0]);
    drop(upload);
    room.sweep_after(3599).await;
    assert!(room.records().await > 0);
    room.sweep_after(1).await;
    assert_eq!(room.records().await, 0);
}

#[tokio::test]
async fn an_upload_that_took_too_long_is_refused_not_torn() {
    let room = Room::new().await;
    room.put("k", "old").await;
    let mut upload = room.kv.upload(room.id);
    upload.push(Bytes::from(vec![1; 100])).await.unwrap();
    room.sweep_after(3600).await;
    let late = upload.finish(&key("k"), Attributes::default(), Condition::Any).await;
    assert!(matches!(late, Err(Error::UploadTooSlow)), "{late:?}");
    assert_eq!(room.get("k").await.unwrap(), "old");
}

#[tokio::test]
async fn a_deleted_namespace_is_gone_at_once_and_does_not_come_back() {
    let room = Room::new().await;
    for n in 0..300 {
        room.put_for(&format!("k{n}"), "a value of several chunks", Some(60)).await;
    }
    let mut upload = room.kv.upload(room.id);
    upload.push(Bytes::from(vec![1; 100])).await.unwrap();
    room.kv.delete_namespace(room.id).await.unwrap();
    let gone = |error: Error| matches!(error, Error::NamespaceUnknown { .. });
    assert!(gone(room.kv.get(room.id, &key("k1")).await.err().unwrap()));
    assert!(gone(room.kv.list(room.id, "", None, 10).await.err().unwrap()));
    assert!(gone(room.kv.delete_namespace(room.id).await.err().unwrap()));
    let late = room.kv.put(room.id, &key("k"), "v".into(), Attributes::default(), Condition::Any).await;
    assert!(gone(late.unwrap_err()));
    let late = upload.finish(&key("k"), Attributes::default(), Condition::Any).await;
    assert!(gone(late.unwrap_err()));
    // The title is free, and what takes it is another namespace.
    let next = room.kv.create("notes").await.unwrap();
    assert_ne!(next.id, room.id);
    room.kv.sweep().await.unwrap();
    room.sweep_after(3600).await;
    // What expired while it was buried went as garbage does.
    room.sweep_after(60).await;
    assert_eq!(room.records().await, 0);
}

#[tokio::test]
async fn titles_are_unique_and_can_change() {
    let room = Room::new().await;
    let error = room.kv.create("notes").await.unwrap_err();
    assert!(matches!(error, Error::TitleTaken { .. }), "{error}");
    let other = room.kv.create("other").await.unwrap();
    assert!(matches!(room.kv.rename(other.id, "notes").await, Err(Error::TitleTaken { .. })));
    assert_eq!(room.kv.rename(other.id, "other").await.unwrap(), other);
    assert_eq!(room.kv.rename(other.id, "third").await.unwrap().title, "third");
    room.kv.create("other").await.unwrap();
    let titles: Vec<String> = room.kv.namespaces().await.unwrap().into_iter().map(|one| one.title).collect();
    assert_eq!(titles, ["notes", "other", "third"]);
    for bad in ["", "a\nb", &"t".repeat(513)] {
        assert!(matches!(room.kv.create(bad).await, Err(Error::Title)), "{bad}");
    }
}

#[tokio::test]
async fn lists_are_in_key_byte_order_and_resume_after_any_change() {
    let room = Room::new().await;
    for name in ["b", "a/2", "a/10", "é", "a\0", "A", "a"] {
        room.put(name, "v").await;
    }
    assert_eq!(room.names("").await, ["A", "a", "a\0", "a/10", "a/2", "b", "é"]);
    assert_eq!(room.names("a/").await, ["a/10", "a/2"]);
    let first = room.kv.list(room.id, "", None, 3).await.unwrap();
    let cursor = first.cursor.unwrap();
    // The key that the cursor stands on goes; one comes before it, and one after.
    room.kv.delete(room.id, &key("a\0"), Condition::Any).await.unwrap();
    room.put("0", "v").await;
    room.put("a!", "v").await;
    let rest = room.kv.list(room.id, "", Some(&cursor), 1000).await.unwrap();
    let names: Vec<&str> = rest.keys.iter().map(|listed| listed.key.as_str()).collect();
    assert_eq!((names, rest.cursor), (vec!["a!", "a/10", "a/2", "b", "é"], None));
    assert!(matches!(room.kv.list(room.id, "", Some("!"), 10).await, Err(Error::Cursor)));
    // A page that is full exactly is the last.
    assert_eq!(room.kv.list(room.id, "a/", None, 2).await.unwrap().cursor, None);
}

#[tokio::test]
async fn a_crowd_of_expired_keys_shortens_a_page_and_hides_nothing() {
    let room = Room::new().await;
    for n in 0..50 {
        room.put_for(&format!("a{n:02}"), "v", Some(60)).await;
    }
    room.put("z", "v").await;
    room.clock.advance(Duration::from_secs(60));
    let (mut cursor, mut names) = (None, Vec::new());
    loop {
        let page = room.kv.list(room.id, "", cursor.as_deref(), 1).await.unwrap();
        names.extend(page.keys.into_iter().map(|listed| listed.key.as_str().to_owned()));
        let Some(next) = page.cursor else { break };
        cursor = Some(next);
    }
    assert_eq!(names, ["z"]);
}
