//! The room against a map: whatever is done in whatever order, and swept in between, both say the same.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::{BEGINNING_S, Room, key};
use crate::kv::{Attributes, Condition, Life, Pair};

/// One thing that is done.
#[derive(Debug, Clone)]
enum Act {
    Put { name: usize, size: usize, ttl: Option<u8>, metadata: Option<u8> },
    PutMany { names: Vec<usize>, size: usize },
    Delete { name: usize },
    DeleteMany { names: Vec<usize> },
    Increment { name: usize, delta: u8 },
    Wait { seconds: u8 },
    Sweep,
    List { prefix: usize, limit: usize },
}

/// Names and prefixes that tell bytes from characters, and ends from beginnings.
const NAMES: [&str; 7] = ["a", "a\0", "aa", "ab", "b", "é", "\u{10FFFF}"];
const PREFIXES: [&str; 4] = ["", "a", "ab", "x"];

#[derive(Debug, Clone, PartialEq)]
struct Held {
    value: Vec<u8>,
    expiration: Option<u64>,
    metadata: Option<String>,
}

fn act() -> impl Strategy<Value = Act> {
    let name = 0..NAMES.len();
    let names = proptest::collection::vec(name.clone(), 0..6);
    let size = 0..40usize;
    prop_oneof![
        4 => (name.clone(), size.clone(), proptest::option::of(any::<u8>()), proptest::option::of(any::<u8>()))
            .prop_map(|(name, size, ttl, metadata)| Act::Put { name, size, ttl, metadata }),
        1 => (names.clone(), size).prop_map(|(names, size)| Act::PutMany { names, size }),
        2 => name.clone().prop_map(|name| Act::Delete { name }),
        1 => names.prop_map(|names| Act::DeleteMany { names }),
        2 => (name, any::<u8>()).prop_map(|(name, delta)| Act::Increment { name, delta }),
        2 => any::<u8>().prop_map(|seconds| Act::Wait { seconds }),
        1 => Just(Act::Sweep),
        2 => (0..PREFIXES.len(), 1..5usize).prop_map(|(prefix, limit)| Act::List { prefix, limit }),
    ]
}

struct Both {
    room: Room,
    model: BTreeMap<String, Held>,
    now_s: u64,
    written: u8,
}

impl Both {
    /// Bytes that no other write has, so that a mixture would be seen.
    fn bytes(&mut self, size: usize) -> Vec<u8> {
        self.written = self.written.wrapping_add(1);
        vec![self.written.max(b':'); size]
    }

    async fn act(&mut self, act: Act) {
        let (kv, id) = (self.room.kv.clone(), self.room.id);
        match act {
            Act::Put { name, size, ttl, metadata } => {
                let ttl = ttl.map(|ttl| 60 + i64::from(ttl));
                let metadata = metadata.map(|number| json!({ "n": number }));
                let life = Life { expiration: None, expiration_ttl: ttl };
                let attributes = Attributes::check(&kv, life, metadata.as_ref()).unwrap();
                let value = self.bytes(size);
                kv.put(id, &key(NAMES[name]), Bytes::from(value.clone()), attributes, Condition::Any).await.unwrap();
                let expiration = ttl.map(|ttl| self.now_s + ttl.unsigned_abs());
                let held = Held { value, expiration, metadata: metadata.map(|value| value.to_string()) };
                self.model.insert(NAMES[name].into(), held);
            }
            Act::PutMany { names, size } => {
                let values: Vec<Vec<u8>> = names.iter().map(|_| self.bytes(size)).collect();
                let pair = |(name, value): (&usize, &Vec<u8>)| Pair {
                    key: key(NAMES[*name]),
                    value: Bytes::from(value.clone()),
                    attributes: Attributes::default(),
                };
                kv.put_many(id, names.iter().zip(&values).map(pair).collect()).await.unwrap();
                for (name, value) in names.iter().zip(values) {
                    self.model.insert(NAMES[*name].into(), Held { value, expiration: None, metadata: None });
                }
            }
            Act::Delete { name } => {
                kv.delete(id, &key(NAMES[name]), Condition::Any).await.unwrap();
                self.model.remove(NAMES[name]);
            }
            Act::DeleteMany { names } => {
                kv.delete_many(id, names.iter().map(|name| key(NAMES[*name])).collect()).await.unwrap();
                names.iter().for_each(|name| drop(self.model.remove(NAMES[*name])));
            }
            Act::Increment { name, delta } => self.increment(NAMES[name], delta).await,
            Act::Wait { seconds } => {
                self.room.clock.advance(Duration::from_secs(seconds.into()));
                self.now_s += u64::from(seconds);
                let now_s = self.now_s;
                self.model.retain(|_, held| held.expiration.is_none_or(|expiration| now_s < expiration));
            }
            Act::Sweep => drop(kv.sweep().await.unwrap()),
            Act::List { prefix, limit } => {
                let (mut cursor, mut listed) = (None, Vec::new());
                loop {
                    let page = kv.list(id, PREFIXES[prefix], cursor.as_deref(), limit).await.unwrap();
                    assert!(page.keys.len() <= limit);
                    listed.extend(
                        page.keys.into_iter().map(|one| (one.key.as_str().to_owned(), one.expiration, one.metadata)),
                    );
                    cursor = page.cursor;
                    if cursor.is_none() {
                        break;
                    }
                }
                let expected = self.model.iter().filter(|(name, _)| name.starts_with(PREFIXES[prefix]));
                let expected: Vec<_> =
                    expected.map(|(name, held)| (name.clone(), held.expiration, held.metadata.clone())).collect();
                assert_eq!(listed, expected);
            }
        }
    }

    async fn increment(&mut self, name: &str, delta: u8) {
        let outcome = self.room.kv.increment(self.room.id, &key(name), delta.into()).await;
        let held = self.model.entry(name.to_owned());
        match held {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                assert_eq!(outcome.unwrap(), u64::from(delta));
                let value = delta.to_string().into_bytes();
                vacant.insert(Held { value, expiration: None, metadata: None });
            }
            std::collections::btree_map::Entry::Occupied(mut held) => {
                let text = std::str::from_utf8(&held.get().value).ok().filter(|text| text.len() <= 4);
                match text.and_then(|text| text.parse::<u64>().ok()) {
                    None => assert!(outcome.is_err(), "{outcome:?}"),
                    Some(number) => {
                        assert_eq!(outcome.unwrap(), number + u64::from(delta));
                        held.get_mut().value = (number + u64::from(delta)).to_string().into_bytes();
                    }
                }
            }
        }
    }

    async fn compare(&self) {
        for name in NAMES {
            let found = self.room.kv.get(self.room.id, &key(name)).await.unwrap();
            let found = match found {
                None => None,
                Some(mut found) => Some(Held {
                    value: found.value.bytes().await.unwrap().into(),
                    expiration: found.expiration,
                    metadata: found.metadata,
                }),
            };
            assert_eq!(found.as_ref(), self.model.get(name), "{name:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_room_says_what_a_map_would(acts in proptest::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut both = Both { room: Room::new().await, model: BTreeMap::new(), now_s: BEGINNING_S, written: 0 };
            for act in acts {
                both.act(act).await;
                both.compare().await;
            }
            // In the end nothing is left but what is there.
            both.room.kv.delete_many(both.room.id, NAMES.iter().map(|name| key(name)).collect()).await.unwrap();
            both.room.sweep_after(3600).await;
            both.room.sweep_after(60).await;
            assert_eq!(both.room.records().await, 0);
        });
    }
}
