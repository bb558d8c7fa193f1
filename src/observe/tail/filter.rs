//! Which requests a tail is to be told of. All filters must admit one; within a list, any entry does (`OBS-6`).

use std::net::IpAddr;

use http::HeaderName;

use crate::domain::id::VersionId;
use crate::domain::outcome::Outcome;
use crate::observe::record::Record;

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// This part of the requests, from 0 to 1.
    SamplingRate(f64),
    Outcome(Vec<Outcome>),
    /// Any of these methods, in any case.
    Method(Vec<String>),
    /// The header is there and, if a text is given, one of its values holds it.
    Header {
        name: HeaderName,
        holds: Option<String>,
    },
    ClientIp(Vec<IpAddr>),
    /// A line that the guest printed holds this text.
    Line(String),
    Version(VersionId),
}

impl Filter {
    /// Whether it admits the request of this record. `draw` is from 0 to below 1.
    #[must_use]
    pub fn admits(&self, record: &Record<'_>, draw: impl FnOnce() -> f64) -> bool {
        match self {
            Self::SamplingRate(rate) => draw() < *rate,
            Self::Outcome(any) => any.contains(&record.outcome),
            Self::Method(any) => any.iter().any(|method| method.eq_ignore_ascii_case(record.method)),
            Self::Header { name, holds } => record.heard.is_some_and(|heard| {
                let mut values = heard.headers.get_all(name).iter();
                match holds {
                    None => values.next().is_some(),
                    Some(text) => values.any(|value| String::from_utf8_lossy(value.as_bytes()).contains(text)),
                }
            }),
            Self::ClientIp(any) => {
                let client = record.heard.and_then(|heard| heard.client);
                client.is_some_and(|client| any.iter().any(|ip| ip.to_canonical() == client.to_canonical()))
            }
            Self::Line(text) => record.lines.iter().any(|line| line.text.contains(text)),
            Self::Version(id) => record.version.is_some_and(|version| version.id == *id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::record::{Heard, Line, sample};

    #[test]
    fn each_filter_admits_what_it_names() {
        let mut headers = http::HeaderMap::new();
        headers.append("x-a", "one".parse().unwrap());
        headers.append("x-a", "two".parse().unwrap());
        let heard =
            Heard { headers, client: Some("::ffff:127.0.0.1".parse().unwrap()), protocol: http::Version::HTTP_11 };
        let lines = [Line { stream: "stdout", text: "needle in hay", at_ms: 0 }];
        let record = Record { heard: Some(&heard), lines: &lines, ..sample() };
        let version = record.version.unwrap().id;
        let header = |name, holds: Option<&str>| Filter::Header {
            name: HeaderName::from_static(name),
            holds: holds.map(str::to_owned),
        };
        for (filter, admitted) in [
            (Filter::SamplingRate(0.6), true),
            (Filter::SamplingRate(0.5), false),
            (Filter::Outcome(vec![Outcome::Exception, Outcome::Ok]), true),
            (Filter::Outcome(vec![Outcome::Exception]), false),
            (Filter::Method(vec!["post".into(), "get".into()]), true),
            (Filter::Method(vec!["POST".into()]), false),
            (header("x-a", None), true),
            (header("x-a", Some("tw")), true),
            (header("x-a", Some("three")), false),
            (header("x-b", None), false),
            (Filter::ClientIp(vec!["127.0.0.1".parse().unwrap()]), true),
            (Filter::ClientIp(vec!["127.0.0.2".parse().unwrap()]), false),
            (Filter::Line("needle".into()), true),
            (Filter::Line("pin".into()), false),
            (Filter::Version(version), true),
            (Filter::Version(VersionId::from_random([9; 16])), false),
        ] {
            assert_eq!(filter.admits(&record, || 0.5), admitted, "{filter:?}");
        }
        // A request that nobody listened to when it began has no headers to look at.
        assert!(!header("x-a", None).admits(&sample(), || 0.5));
    }
}
