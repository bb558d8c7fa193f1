//! Traffic for the demo: an HTTP client with keep-alive that counts which version answered, by the header `sluice-version`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::ProgressBar;
use reqwest::header::HOST;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::deploy::short;
use crate::cli::fault::failed;
use crate::cli::render::{self, percent};

/// Connections at once: enough to keep two cores busy, few enough for any laptop.
const CONNECTIONS: u64 = 8;
/// The slowest answer that still counts as one; the first request of a version may compile.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Which version answered, and why: `<id>; reason=…`.
const VERSION_HEADER: &str = "sluice-version";

/// Sends requests to one worker of one node.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    host: String,
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub version: String,
    pub reason: String,
    pub text: String,
}

/// How many answers came from which version.
#[derive(Debug, Default)]
pub struct Tally {
    counts: BTreeMap<String, u64>,
    took: Duration,
}

impl Client {
    /// `Host` chooses the worker, so no name has to be resolved.
    pub fn new(data: SocketAddr, worker: &str) -> anyhow::Result<Self> {
        let http =
            reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().context("cannot set up an HTTP client")?;
        Ok(Self { http, url: format!("http://{data}/"), host: format!("{worker}.localhost:{}", data.port()) })
    }

    pub async fn one(&self, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let mut request = self.http.get(&self.url).header(HOST, &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Self::send(request).await
    }

    /// `POST` of a path that begins after the first slash.
    pub async fn post(&self, path: &str) -> anyhow::Result<Answer> {
        Self::send(self.http.post(format!("{}{path}", self.url)).header(HOST, &self.host)).await
    }

    async fn send(request: reqwest::RequestBuilder) -> anyhow::Result<Answer> {
        let response = request.send().await.context("a request to the worker failed")?;
        let status = response.status();
        let told = response.headers().get(VERSION_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let text = response.text().await.context("an answer of the worker broke off")?;
        if !status.is_success() {
            return Err(failed(format!("the worker answered {status}: {}", text.trim())).into());
        }
        let told =
            told.ok_or_else(|| failed(format!("the node did not say which version answered ({VERSION_HEADER})")))?;
        let (version, rest) = told.split_once(';').unwrap_or((&told, ""));
        let reason = rest.split(';').find_map(|part| part.trim().strip_prefix("reason=")).unwrap_or("-");
        Ok(Answer { version: version.trim().trim_matches('"').to_owned(), reason: reason.to_owned(), text })
    }

    /// Sends `count` requests over a few connections, with a bar that shows the split as it comes out.
    pub async fn many(&self, count: u64, headers: &[(&str, &str)], what: &str) -> anyhow::Result<Tally> {
        let bar = render::bar(count, what);
        let owned: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let started = Instant::now();
        let (answers, mut answered) = tokio::sync::mpsc::unbounded_channel();
        let mut senders = JoinSet::new();
        for connection in 0..CONNECTIONS {
            // The first ones take what does not divide evenly.
            let own = count / CONNECTIONS + u64::from(connection < count % CONNECTIONS);
            let (client, owned, answers) = (self.clone(), owned.clone(), answers.clone());
            senders.spawn(async move {
                let headers: Vec<_> = owned.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                for _ in 0..own {
                    let _ = answers.send(client.one(&headers).await?.version);
                }
                anyhow::Ok(())
            });
        }
        drop(answers);
        let mut tally = Tally::default();
        while let Some(version) = answered.recv().await {
            *tally.counts.entry(version).or_default() += 1;
            tally.tell(&bar);
        }
        bar.finish_and_clear();
        while let Some(outcome) = senders.join_next().await {
            outcome??;
        }
        tally.took = started.elapsed();
        Ok(tally)
    }
}

impl Answer {
    /// What it said, and why it was this version.
    pub fn said(&self) -> String {
        format!("{} (reason: {})", self.text.lines().next().unwrap_or_default(), self.reason)
    }

    pub fn must_be(&self, id: &str, why: &str) -> anyhow::Result<()> {
        if self.version == id {
            return Ok(());
        }
        Err(failed(format!("{why} asked for version {id}, but {} answered", self.version)).into())
    }
}

impl Tally {
    pub fn count_of(&self, id: &str) -> u64 {
        self.counts.get(id).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// In percent, to a tenth.
    pub fn percent_of(&self, id: &str) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a demo sends thousands, not quadrillions")]
        let share = self.count_of(id) as f64 * 100.0 / self.total().max(1) as f64;
        (share * 10.0).round() / 10.0
    }

    pub fn seconds(&self) -> f64 {
        self.took.as_secs_f64()
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a demo sends thousands, not quadrillions")]
        let total = self.total() as f64;
        total / self.seconds().max(f64::EPSILON)
    }

    /// The one version that answered everything.
    pub fn only(&self) -> anyhow::Result<String> {
        let mut ids = self.counts.keys();
        match (ids.next(), ids.next()) {
            (Some(id), None) => Ok(id.clone()),
            _ => {
                let list: Vec<_> = self.counts.iter().map(|(id, count)| format!("{count} from {id}")).collect();
                Err(failed(format!("expected one version to answer, got {}", list.join(", "))).into())
            }
        }
    }

    fn tell(&self, bar: &ProgressBar) {
        bar.set_position(self.total());
        let shares = self.counts.keys().map(|id| format!("{} {}", short(id), percent(self.percent_of(id))));
        bar.set_message(shares.collect::<Vec<_>>().join("  "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_tells_shares_and_the_one_that_answered() {
        let mut tally = Tally { counts: BTreeMap::from([("a".to_owned(), 397)]), took: Duration::from_secs(2) };
        assert_eq!(tally.only().unwrap(), "a");
        tally.counts.insert("b".to_owned(), 1603);
        assert_eq!((tally.percent_of("a"), tally.count_of("b"), tally.total()), (19.9, 1603, 2000));
        assert!((tally.rate() - 1000.0).abs() < 1e-9);
        assert!(tally.only().is_err());
    }
}
