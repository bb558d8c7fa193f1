//! How versions and shares are written on the command line: `dc8dcd28@20`, `#3@12.5%`, `v1.2`. Pure: a list of versions
//! comes in, an id or a clear refusal goes out.

use std::collections::HashSet;

use super::fault::{Fault, failed, usage};
use super::render::percent;
use crate::control::wire::{Share, Version};
use crate::domain::limits::DEPLOYMENT_VERSIONS_MAX;

/// How far the sum may be from 100, as in wrangler (`DEP-4`).
const SUM_TOLERANCE: f64 = 0.001;
/// The fewest digits that are taken for the beginning of an id.
const PREFIX_MIN: usize = 4;

/// A version as it was typed, and its share if one was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub name: Name,
    pub percentage: Option<f64>,
}

/// What was typed for a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// An id, the beginning of one, a number or a tag.
    Any(String),
    /// By `--version-tag`.
    Tag(String),
}

// === Specs ===

/// Reads `<version>[@<percent>[%]]`. It is split at the *last* `@`, and only if what follows is a number or nothing, since a
/// tag may hold an `@` (`CLI-2`); a trailing bare `@` says "no percentage".
pub fn parse_spec(text: &str, name: impl Fn(String) -> Name) -> Result<Spec, Fault> {
    let (version, percentage) = match text.rsplit_once('@') {
        Some((version, "")) => (version, None),
        Some((version, share)) => match share.strip_suffix('%').unwrap_or(share).trim().parse::<f64>() {
            Ok(percentage) => (version, Some(percentage)),
            Err(_) => (text, None),
        },
        None => (text, None),
    };
    if version.is_empty() {
        return Err(usage(format!("`{text}` names no version")).hint("write a version and its share: `dc8dcd28@20`"));
    }
    if let Some(percentage) = percentage {
        check_percentage(percentage, text)?;
    }
    Ok(Spec { name: name(version.to_owned()), percentage })
}

/// A single share must be a share.
pub fn check_percentage(percentage: f64, text: &str) -> Result<(), Fault> {
    if (0.0..=100.0).contains(&percentage) {
        Ok(())
    } else {
        Err(usage(format!("`{text}`: a percentage must be between 0 and 100")))
    }
}

/// Shares for all: those without one get an equal part of the rest (`DEP-7`), to a thousandth, and together exactly the rest.
pub fn distribute(entries: &[(String, Option<f64>)]) -> Result<Vec<Share>, Fault> {
    if entries.is_empty() {
        return Err(usage("You must select at least 1 version to deploy.")
            .hint("`sluice versions list` shows them; `sluice versions deploy <version>@20 <version>@80` splits"));
    }
    if entries.len() > DEPLOYMENT_VERSIONS_MAX {
        return Err(usage(format!(
            "Too many versions selected. You can deploy at most {DEPLOYMENT_VERSIONS_MAX} version(s) at a time."
        )));
    }
    let given: f64 = entries.iter().filter_map(|(_, percentage)| *percentage).sum();
    let open = entries.iter().filter(|(_, percentage)| percentage.is_none()).count();
    let rest = milli(100.0 - given).max(0);
    let mut left = rest;
    let mut still_open = i64::try_from(open).unwrap_or(i64::MAX);
    let mut shares = Vec::with_capacity(entries.len());
    for (version_id, percentage) in entries {
        let thousandths = match percentage {
            Some(percentage) => milli(*percentage),
            None => {
                let part = left / still_open;
                left -= part;
                still_open -= 1;
                part
            }
        };
        #[expect(clippy::cast_precision_loss, reason = "at most 100,000")]
        shares.push(Share { version_id: version_id.clone(), percentage: thousandths as f64 / 1000.0 });
    }
    let sum: f64 = shares.iter().map(|share| share.percentage).sum();
    if (sum - 100.0).abs() > SUM_TOLERANCE + f64::EPSILON * 100.0 {
        return Err(failed(format!("the percentages must total exactly 100%, they total {}", percent(sum))).hint(
            "leave one version without a share, and it takes the rest: `sluice versions deploy <new>@20 <old>`",
        ));
    }
    Ok(shares)
}

/// Thousandths of a percent, as wrangler rounds.
fn milli(percentage: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be within 0 and 100 each, and at most 20 of them")]
    let rounded = (percentage * 1000.0).round() as i64;
    rounded
}

// === Versions by name ===

/// The id of the one version that `name` means, among `versions`.
pub fn find<'a>(versions: &'a [Version], name: &Name) -> Result<&'a Version, Fault> {
    match name {
        Name::Tag(tag) => by_tag(versions, tag),
        Name::Any(text) => by_any(versions, text),
    }
}

/// Whether `text` is a whole id, which needs no list to be understood.
pub fn is_id(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

fn by_tag<'a>(versions: &'a [Version], tag: &str) -> Result<&'a Version, Fault> {
    let found: Vec<_> = versions.iter().filter(|version| tag_of(version) == Some(tag)).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(failed(format!("No deployable version found with tag \"{tag}\"."))
            .hint("`sluice versions list` shows versions and their tags")),
        several => {
            let ids: Vec<_> = several.iter().map(|version| version.id.as_str()).collect();
            Err(failed(format!("Tag \"{tag}\" matches multiple versions: {}", ids.join(", ")))
                .hint("name the one you mean by its id or number"))
        }
    }
}

fn by_any<'a>(versions: &'a [Version], text: &str) -> Result<&'a Version, Fault> {
    let id = text.to_ascii_lowercase();
    let number = text.strip_prefix('#').unwrap_or(text).parse::<u64>().ok();
    let named = |version: &&Version| {
        let begins = id.len() >= PREFIX_MIN && version.id.starts_with(&id);
        begins || number == Some(version.number) || tag_of(version) == Some(text)
    };
    let mut seen = HashSet::new();
    let found: Vec<_> = versions.iter().filter(named).filter(|version| seen.insert(&version.id)).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => {
            let fault = failed(format!("no version is named `{text}`"));
            Err(match text.rsplit_once('@') {
                Some((_, share)) => fault.hint(format!("`{share}` after the `@` is not a percentage")),
                None => fault.hint(
                    "`sluice versions list` shows them; a version is named by its id, the beginning of one \
                     (4 digits at least), its number or its tag",
                ),
            })
        }
        several => {
            let list: String = several.iter().map(|version| format!("\n  - {}", describe(version))).collect();
            Err(failed(format!("`{text}` could be any of these versions:{list}"))
                .hint("use more of the id, or another of its names"))
        }
    }
}

/// `3 dc8dcd28-… (v1.2)`.
fn describe(version: &Version) -> String {
    let tag = tag_of(version).map(|tag| format!(" (tag {tag})")).unwrap_or_default();
    format!("#{} {}{tag}", version.number, version.id)
}

fn tag_of(version: &Version) -> Option<&str> {
    version.annotations.tag.as_deref().filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(text: &str) -> (String, Option<f64>) {
        let Spec { name: Name::Any(name), percentage } = parse_spec(text, Name::Any).unwrap() else { panic!("a tag") };
        (name, percentage)
    }

    #[test]
    fn specs_are_split_at_the_last_at_sign_if_a_number_follows() {
        for (text, name, percentage) in [
            ("dc8dcd28@20", "dc8dcd28", Some(20.0)),
            ("dc8dcd28@12.5%", "dc8dcd28", Some(12.5)),
            ("dc8dcd28", "dc8dcd28", None),
            ("dc8dcd28@0", "dc8dcd28", Some(0.0)),
            ("release@2026@20", "release@2026", Some(20.0)),
            ("release@2026@", "release@2026", None),
            ("release@main", "release@main", None),
            ("#3@33.333", "#3", Some(33.333)),
        ] {
            assert_eq!(spec(text), (name.to_owned(), percentage), "{text}");
        }
        for wrong in ["@20", "", "a@101", "a@-1", "a@NaN", "a@inf"] {
            assert!(parse_spec(wrong, Name::Any).is_err(), "{wrong}");
        }
    }

    fn shares(percentages: &[Option<f64>]) -> Result<Vec<f64>, String> {
        let entries: Vec<_> = percentages.iter().enumerate().map(|(n, p)| (n.to_string(), *p)).collect();
        let shares = distribute(&entries).map_err(|fault| fault.to_string())?;
        Ok(shares.into_iter().map(|share| share.percentage).collect())
    }

    #[test]
    fn what_is_left_is_shared_equally() {
        assert_eq!(shares(&[Some(20.0), Some(80.0)]).unwrap(), [20.0, 80.0]);
        assert_eq!(shares(&[Some(20.0), None]).unwrap(), [20.0, 80.0]);
        assert_eq!(shares(&[None]).unwrap(), [100.0]);
        assert_eq!(shares(&[None, None, None]).unwrap(), [33.333, 33.333, 33.334]);
        assert_eq!(shares(&[Some(0.0), Some(100.0)]).unwrap(), [0.0, 100.0]);
        assert_eq!(shares(&[Some(33.3333), Some(66.6662)]).unwrap(), [33.333, 66.666]);
        assert_eq!(shares(&[Some(99.999)]).unwrap(), [99.999]);
        assert_eq!(shares(&[Some(50.001), Some(50.0)]).unwrap(), [50.001, 50.0]);
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        assert_eq!(shares(&[Some(20.0)]).unwrap_err(), "the percentages must total exactly 100%, they total 20%");
        assert!(shares(&[Some(99.998)]).is_err());
        assert!(shares(&[Some(60.0), Some(60.0), None]).unwrap_err().contains("they total 120%"));
        assert_eq!(shares(&[]).unwrap_err(), "You must select at least 1 version to deploy.");
        assert!(shares(&[None; 21]).unwrap_err().contains("at most 20 version(s)"));
    }

    fn version(number: u64, id: &str, tag: Option<&str>) -> Version {
        let mut version = json!({"id": id, "number": number, "resources": {},
            "metadata": {"created_on": "2026-01-02T03:04:05.678Z", "modified_on": "", "source": "wrangler"}});
        if let Some(tag) = tag {
            version["annotations"] = json!({"workers/tag": tag});
        }
        serde_json::from_value(version).unwrap()
    }

    #[test]
    fn a_version_is_found_by_id_prefix_number_and_tag() {
        let versions = [
            version(12, "dc8dcd28-271b-4367-9840-6c244f84cb40", Some("v2")),
            version(3, "dc8dffff-271b-4367-9840-6c244f84cb40", Some("v1")),
            version(2, "00030000-271b-4367-9840-6c244f84cb40", Some("v1")),
        ];
        let any = |text: &str| find(&versions, &Name::Any(text.to_owned())).map(|version| version.number);
        for (text, number) in [
            ("#3", 3),
            ("3", 3),
            ("dc8dcd", 12),
            ("DC8DCD28", 12),
            ("v2", 12),
            ("00030000-271b-4367-9840-6c244f84cb40", 2),
        ] {
            assert_eq!(any(text).unwrap(), number, "{text}");
        }
        assert!(any("dc8d").unwrap_err().to_string().contains("could be any of these versions:\n  - #12 dc8dcd28"));
        assert!(any("v1").is_err());
        assert!(any("dc8").unwrap_err().to_string().contains("no version is named `dc8`"));

        let tag = |text: &str| find(&versions, &Name::Tag(text.to_owned())).map_err(|fault| fault.to_string());
        assert_eq!(tag("v2").unwrap().number, 12);
        assert_eq!(tag("3").unwrap_err(), "No deployable version found with tag \"3\".");
        assert!(tag("v1").unwrap_err().starts_with("Tag \"v1\" matches multiple versions: dc8dffff-"));
    }
}
