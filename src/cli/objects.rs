//! The part of the client that speaks of Durable Objects.

use reqwest::{Method, Url};
use serde_json::Value;

use super::client::Api;
use crate::control::wire::{Object, ObjectHistory, ObjectNamespace, Objects};

/// Objects, and classes, asked for at once.
const PAGE: u64 = 1000;

impl Api {
    /// The classes of a worker, by name. None of a worker that is not there.
    pub async fn object_classes(&self, worker: &str) -> anyhow::Result<Vec<ObjectNamespace>> {
        let (mut own, mut seen) = (Vec::new(), 0);
        for page in 1_u64.. {
            let mut url = self.url(&["workers", "durable_objects", "namespaces"]);
            url.query_pairs_mut().append_pair("page", &page.to_string()).append_pair("per_page", &PAGE.to_string());
            let (found, info) = self.exchange::<Vec<ObjectNamespace>>(Method::GET, url, Ok).await?;
            let found = found.unwrap_or_default();
            seen += found.len() as u64;
            let last = found.is_empty() || seen >= info.map_or(0, |info| info.total_count);
            own.extend(found.into_iter().filter(|class| class.script == worker));
            if last {
                break;
            }
        }
        Ok(own)
    }

    /// All objects of a worker, or of one class of it, by class and id.
    pub async fn objects(&self, worker: &str, class: Option<&str>) -> anyhow::Result<Objects> {
        let (mut all, mut cursor) = (Objects::default(), String::new());
        loop {
            let mut url = self.objects_url(worker, &[]);
            url.query_pairs_mut().append_pair("per_page", &PAGE.to_string()).append_pair("cursor", &cursor);
            if let Some(class) = class {
                url.query_pairs_mut().append_pair("class", class);
            }
            let (page, info) = self.exchange::<Objects>(Method::GET, url, Ok).await?;
            let Objects { objects, since_start } = page.unwrap_or_default();
            all.objects.extend(objects);
            all.since_start = since_start;
            cursor = info.and_then(|info| info.cursor).unwrap_or_default();
            if cursor.is_empty() {
                return Ok(all);
            }
        }
    }

    /// What is known of an object, also of one that never was.
    pub async fn object(&self, worker: &str, class: &str, id: &str) -> anyhow::Result<Object> {
        self.send(Method::GET, self.objects_url(worker, &[class, id]), Ok).await
    }

    /// What it was assigned, and what happened to it.
    pub async fn object_history(&self, worker: &str, class: &str, id: &str) -> anyhow::Result<ObjectHistory> {
        self.send(Method::GET, self.objects_url(worker, &[class, id, "history"]), Ok).await
    }

    /// Has it leave memory. False if it was not there.
    pub async fn reset_object(&self, worker: &str, class: &str, id: &str) -> anyhow::Result<bool> {
        let answer: Value = self.send(Method::POST, self.objects_url(worker, &[class, id, "reset"]), Ok).await?;
        Ok(answer["was_live"] == true)
    }

    /// Deletes what it has stored. False if that was nothing.
    pub async fn delete_object(&self, worker: &str, class: &str, id: &str) -> anyhow::Result<bool> {
        let answer: Value = self.send(Method::DELETE, self.objects_url(worker, &[class, id]), Ok).await?;
        Ok(answer["existed"] == true)
    }

    fn objects_url(&self, worker: &str, segments: &[&str]) -> Url {
        self.url(&[&["workers", "scripts", worker, "objects"], segments].concat())
    }
}
