//! Lists: the keys of a namespace in the order of their bytes, a page at a time.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::error::reading;
use super::record::{self, Header};
use super::{EntryKey, Error, Kv};
use crate::domain::id::NamespaceId;
use crate::domain::limits::{KV_KEY_BYTES_MAX, KV_LIST_MAX};
use crate::store::Order;

/// Scans for one page: bounds what a crowd of expired keys can cost, which a page skips.
const SCANS_MAX: usize = 8;

/// A key in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: EntryKey,
    /// Unix seconds.
    pub expiration: Option<u64>,
    /// JSON, as text.
    pub metadata: Option<String>,
}

/// A page of a list. It may be short, even empty, though more follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub keys: Vec<Listed>,
    /// Where the next page begins; none after the last.
    pub cursor: Option<String>,
}

impl Kv {
    /// At most `limit` keys that begin with `prefix`, from where `cursor` says.
    ///
    /// # Errors
    /// If there is no such namespace, or the cursor is none of ours.
    pub async fn list(&self, id: NamespaceId, prefix: &str, cursor: Option<&str>, limit: usize) -> Result<Page, Error> {
        self.namespace_entry(id).await?;
        if prefix.len() > KV_KEY_BYTES_MAX {
            return Ok(Page::default());
        }
        let (limit, now_s) = (limit.clamp(1, KV_LIST_MAX), self.now_s());
        let mut range = record::entries(id, prefix);
        if let Some(cursor) = cursor {
            range = range.after(&record::entry_key(id, &parse_cursor(cursor)?));
        }
        let mut page = Page::default();
        let mut last = None;
        for _ in 0..SCANS_MAX {
            // One more than is asked for tells whether there is more.
            let wanted = limit - page.keys.len() + 1;
            let entries = self.store.scan(range.clone(), Order::Ascending, wanted).await;
            let entries = entries.map_err(reading("list the keys"))?;
            let is_end = entries.len() < wanted;
            for entry in &entries {
                let (header, _) = Header::decode(entry)?;
                let key = record::entry_key_of(entry)?;
                if header.is_live(now_s) {
                    if page.keys.len() == limit {
                        page.cursor = page.keys.last().map(|listed| cursor_after(&listed.key));
                        return Ok(page);
                    }
                    let Header { expiration, metadata, .. } = header;
                    page.keys.push(Listed { key: key.clone(), expiration, metadata });
                }
                last = Some((key, entry.key.clone()));
            }
            match &last {
                Some((_, at)) if !is_end => range = range.after(at),
                _ => return Ok(page),
            }
        }
        page.cursor = last.map(|(key, _)| cursor_after(&key));
        Ok(page)
    }
}

/// A cursor is the last key that was seen, so it stays good whatever is written or deleted, and over a restart.
fn cursor_after(key: &EntryKey) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(key.as_str())
}

fn parse_cursor(cursor: &str) -> Result<EntryKey, Error> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| Error::Cursor)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::Cursor)?;
    EntryKey::new(text).map_err(|_| Error::Cursor)
}
