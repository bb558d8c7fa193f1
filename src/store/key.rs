//! Keys whose bytes order as their components do: `(a, 2) < (a, 10) < (b, 1)`, whatever bytes the components hold.
//!
//! A key is a [`Family`] (one byte: one kind of record) and components one after the other. Whoever owns a family
//! knows which components follow; the bytes do not say. So within a family, keys of one length of components must have
//! the same kinds in the same places: a number where another key has text would order, but by nobody's rule.
//!
//! | Component | Bytes |
//! |---|---|
//! | number, eight bytes | big-endian |
//! | fixed, N bytes (ids, digests) | as they are |
//! | text, bytes of any length | each `00` becomes `00 FF`; then the terminator `00 01` |
//!
//! Why that orders: at the first difference of two texts either both have a byte of their own, or one has ended. An
//! end is `00 01`, below `00 FF` (a zero byte in the other text) and below `01…FF` (any other byte). So the shorter
//! comes first, and what follows the terminator is never compared with what is inside the text.

use std::fmt;

const TERMINATOR: [u8; 2] = [0x00, 0x01];
const ESCAPED_ZERO: [u8; 2] = [0x00, 0xFF];

/// One kind of record: the first byte of its keys. Whoever stores records of a kind declares its family as a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Family(u8);

/// Where a value is. See the module's documentation for its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<u8>);

/// Takes a key apart, component by component, in the order in which it was put together.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    key: &'a Key,
    rest: &'a [u8],
}

/// A stored key does not have the components that its family promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stored key `{key}` has no {wanted} where its family has one")]
pub struct Malformed {
    key: Key,
    wanted: &'static str,
}

/// Keys from `start` up to, but not including, `end`. Empty if `end` is not above `start`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub start: Key,
    pub end: Key,
}

// === impl Family ===

impl Family {
    /// `FF` is nobody's, so that every key has a successor to end a range with.
    pub const fn new(tag: u8) -> Self {
        assert!(tag != 0xFF, "the family FF is reserved");
        Self(tag)
    }
}

// === impl Key ===

impl Key {
    /// The key of a family without components: where building begins, and the key of a record that is alone.
    pub fn family(family: Family) -> Self {
        Self(vec![family.0])
    }

    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    #[must_use]
    pub fn fixed<const N: usize>(mut self, bytes: &[u8; N]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.push_escaped(bytes);
        self.0.extend_from_slice(&TERMINATOR);
        self
    }

    /// The components of a key of `family`.
    pub fn parts(&self, family: Family) -> Result<Parts<'_>, Malformed> {
        match self.0.split_first() {
            Some((&tag, rest)) if tag == family.0 => Ok(Parts { key: self, rest }),
            _ => Err(Malformed { key: self.clone(), wanted: "tag" }),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A key as an engine has stored it.
    pub(super) fn from_stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    fn push_escaped(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                0x00 => self.0.extend_from_slice(&ESCAPED_ZERO),
                _ => self.0.push(byte),
            }
        }
    }

    /// The least key above every key that begins with this one's bytes.
    fn after_all_within(mut self) -> Self {
        while self.0.last() == Some(&0xFF) {
            self.0.pop();
        }
        // The family is never `FF`, so there is a byte left to count up.
        if let Some(last) = self.0.last_mut() {
            *last += 1;
        }
        self
    }

    /// The least key above this one.
    fn successor(mut self) -> Self {
        self.0.push(0x00);
        self
    }
}

/// Readable where the key is, escaped where it is not.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

// === impl Parts ===

impl Parts<'_> {
    pub fn number(&mut self) -> Result<u64, Malformed> {
        self.take("number").map(u64::from_be_bytes)
    }

    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take("fixed bytes")
    }

    pub fn text(&mut self) -> Result<String, Malformed> {
        let malformed = self.malformed("text");
        String::from_utf8(self.unescape("text")?).map_err(|_| malformed)
    }

    pub fn bytes(&mut self) -> Result<Vec<u8>, Malformed> {
        self.unescape("bytes")
    }

    /// That nothing is left.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed("end")) }
    }

    fn take<const N: usize>(&mut self, wanted: &'static str) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.malformed(wanted))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn unescape(&mut self, wanted: &'static str) -> Result<Vec<u8>, Malformed> {
        let mut bytes = Vec::new();
        loop {
            match *self.rest {
                [0x00, 0x01, ref rest @ ..] => {
                    self.rest = rest;
                    return Ok(bytes);
                }
                [0x00, 0xFF, ref rest @ ..] => {
                    bytes.push(0x00);
                    self.rest = rest;
                }
                [byte @ 0x01..=0xFF, ref rest @ ..] => {
                    bytes.push(byte);
                    self.rest = rest;
                }
                _ => return Err(self.malformed(wanted)),
            }
        }
    }

    fn malformed(&self, wanted: &'static str) -> Malformed {
        Malformed { key: self.key.clone(), wanted }
    }
}

// === impl Range ===

impl Range {
    pub fn new(start: Key, end: Key) -> Self {
        Self { start, end }
    }

    /// `prefix` and all keys that have more components after it.
    pub fn under(prefix: &Key) -> Self {
        Self { start: prefix.clone(), end: prefix.clone().after_all_within() }
    }

    /// The keys under `prefix` whose next component is text (or bytes) that begins with `beginning`.
    pub fn starting_with(prefix: &Key, beginning: &[u8]) -> Self {
        let mut start = prefix.clone();
        start.push_escaped(beginning);
        let end = start.clone().after_all_within();
        Self { start, end }
    }

    /// What of this range lies above `key`.
    #[must_use]
    pub fn after(self, key: &Key) -> Self {
        Self { start: self.start.max(key.clone().successor()), end: self.end }
    }

    /// What of this range lies below `key`.
    #[must_use]
    pub fn before(self, key: &Key) -> Self {
        Self { start: self.start, end: self.end.min(key.clone()) }
    }

    pub fn contains(&self, key: &Key) -> bool {
        self.start <= *key && *key < self.end
    }

    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const FAMILY: Family = Family::new(0xFE);
    const BELOW: Family = Family::new(0xFD);

    /// Text from the bytes that the escaping treats specially, and one that it does not.
    fn awkward() -> impl Strategy<Value = Vec<u8>> {
        vec(prop_oneof![Just(0x00), Just(0x01), Just(0x02), Just(0xFE), Just(0xFF), Just(b'a')], 0..5)
    }

    type Tuple = (Vec<u8>, u64, Vec<u8>, [u8; 2]);

    fn tuple() -> impl Strategy<Value = Tuple> {
        (awkward(), prop_oneof![0..3u64, any::<u64>()], awkward(), any::<[u8; 2]>())
    }

    fn key((first, number, second, fixed): &Tuple) -> Key {
        Key::family(FAMILY).bytes(first).number(*number).bytes(second).fixed(fixed)
    }

    proptest! {
        #[test]
        fn keys_order_as_their_components_do(a in tuple(), b in tuple()) {
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
        }

        #[test]
        fn components_come_back_as_they_went_in(tuple in tuple()) {
            let key = key(&tuple);
            let mut parts = key.parts(FAMILY)?;
            let back = (parts.bytes()?, parts.number()?, parts.bytes()?, parts.fixed()?);
            parts.finish()?;
            prop_assert_eq!(back, tuple);
        }

        #[test]
        fn a_range_under_a_key_holds_exactly_what_continues_it(a in tuple(), b in tuple()) {
            let prefix = Key::family(FAMILY).bytes(&a.0).number(a.1);
            prop_assert!(Range::under(&prefix).contains(&key(&a)));
            prop_assert_eq!(Range::under(&prefix).contains(&key(&b)), (&a.0, a.1) == (&b.0, b.1));
        }

        #[test]
        fn a_range_by_beginning_holds_exactly_the_texts_that_begin_so(tuple in tuple(), beginning in awkward()) {
            let range = Range::starting_with(&Key::family(FAMILY), &beginning);
            prop_assert_eq!(range.contains(&key(&tuple)), tuple.0.starts_with(&beginning));
        }
    }

    #[test]
    fn families_do_not_mix() {
        let key = Key::family(BELOW).bytes(&[0xFF; 9]).number(u64::MAX);
        assert!(key < Key::family(FAMILY));
        assert!(Range::under(&Key::family(BELOW)).contains(&key));
        assert!(!Range::under(&Key::family(FAMILY)).contains(&key));
        assert!(key.parts(FAMILY).is_err());
    }

    #[test]
    fn a_range_resumes_after_a_key_without_losing_its_nearest_neighbour() {
        let all = Range::under(&Key::family(FAMILY));
        let (first, second) = (Key::family(FAMILY).text("a"), Key::family(FAMILY).text("a").fixed(&[0]));
        assert!(!all.clone().after(&first).contains(&first));
        assert!(all.clone().after(&first).contains(&second));
        assert!(!all.clone().before(&second).contains(&second));
        assert!(all.before(&second).contains(&first));
    }

    #[test]
    fn a_key_that_is_cut_short_is_malformed_not_a_panic() {
        let whole = Key::family(FAMILY).text("a\0b").number(7);
        for length in 1..whole.as_bytes().len() {
            let cut = Key::from_stored(whole.as_bytes()[..length].to_vec());
            let mut parts = cut.parts(FAMILY).unwrap();
            assert!(parts.text().is_err() || parts.number().is_err(), "{cut}");
        }
    }
}
