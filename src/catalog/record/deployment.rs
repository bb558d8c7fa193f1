//! The stored shape of a [`Deployment`]. Shares and runs are counted in slots, so that nothing is rounded.

use serde::{Deserialize, Serialize};

use super::version::trigger;
use super::{Damaged, field, from_json, parse, to_json};
use crate::domain::allotment::{Allotment, Run};
use crate::domain::deployment::{CodeUpdate, Deployment};
use crate::domain::split::{Share, Split};
use crate::domain::version::{Provenance, Source};

#[derive(Serialize, Deserialize)]
struct DeploymentRecord {
    id: String,
    created_ms: u64,
    author: String,
    source: String,
    triggered_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// In the order in which the user listed them (`DEP-8`).
    split: Vec<SlotsRecord>,
    /// Runs of slots, from slot 0 on.
    runs: Vec<SlotsRecord>,
    /// Absent: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deferred_max_delay_s: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct SlotsRecord {
    version: String,
    slots: u32,
}

pub(in crate::catalog) fn encode(deployment: &Deployment) -> Vec<u8> {
    let split = deployment.split.entries().iter();
    let runs = deployment.allotment.to_runs().into_iter();
    to_json(&DeploymentRecord {
        id: deployment.id.to_string(),
        created_ms: deployment.created_ms,
        author: deployment.provenance.author.clone(),
        source: deployment.provenance.source.as_str().to_owned(),
        triggered_by: deployment.triggered_by.as_str().to_owned(),
        message: deployment.message.clone(),
        split: split.map(|(id, share)| SlotsRecord { version: id.to_string(), slots: share.slots() }).collect(),
        runs: runs.map(|run| SlotsRecord { version: run.version.to_string(), slots: run.slots }).collect(),
        deferred_max_delay_s: match deployment.code_update {
            CodeUpdate::Immediate => None,
            CodeUpdate::Deferred { max_delay_s } => Some(max_delay_s),
        },
    })
}

pub(in crate::catalog) fn decode(bytes: &[u8]) -> Result<Deployment, Damaged> {
    let record: DeploymentRecord = from_json(bytes)?;
    let shares = record.split.iter().map(|entry| {
        // A thousandth of a percent is exact in both directions.
        Ok((parse("split", &entry.version)?, Share::from_slots(entry.slots).percent()))
    });
    let split = Split::from_percentages(&shares.collect::<Result<Vec<_>, Damaged>>()?)
        .map_err(|source| field("split", source))?;
    let runs = record.runs.iter().map(|run| Ok(Run { slots: run.slots, version: parse("runs", &run.version)? }));
    let allotment = Allotment::from_runs(&split, &runs.collect::<Result<Vec<_>, Damaged>>()?)
        .map_err(|source| field("runs", source))?;
    Ok(Deployment {
        id: parse("id", &record.id)?,
        created_ms: record.created_ms,
        provenance: Provenance { author: record.author, source: Source::from_name(&record.source) },
        triggered_by: trigger(&record.triggered_by),
        message: record.message,
        split,
        allotment,
        code_update: record
            .deferred_max_delay_s
            .map_or(CodeUpdate::Immediate, |max_delay_s| CodeUpdate::Deferred { max_delay_s }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{DeploymentId, VersionId};
    use crate::domain::version::Trigger;

    fn split(entries: &[(u8, f64)]) -> Split {
        let entries: Vec<_> = entries.iter().map(|(n, share)| (VersionId::from_random([*n; 16]), *share)).collect();
        Split::from_percentages(&entries).unwrap()
    }

    #[test]
    fn a_deployment_reads_back_as_it_was_written() {
        let before = Allotment::derive(None, &split(&[(1, 33.333), (2, 66.667), (3, 0.0)]));
        let now = split(&[(3, 0.001), (2, 49.999), (1, 50.0)]);
        let deployment = Deployment {
            id: DeploymentId::from_random([5; 16]),
            created_ms: 9,
            provenance: Provenance { author: "a".into(), source: Source::Dash },
            triggered_by: Trigger::Promotion,
            message: None,
            allotment: Allotment::derive(Some(&before), &now),
            split: now,
            code_update: CodeUpdate::Deferred { max_delay_s: 300 },
        };
        let bytes = encode(&deployment);
        let back = decode(&bytes).unwrap();
        assert_eq!((back.id, back.created_ms, &back.provenance), (deployment.id, 9, &deployment.provenance));
        assert_eq!((back.triggered_by, back.message), (Trigger::Promotion, None));
        assert_eq!((back.split, back.allotment), (deployment.split, deployment.allotment));
        assert_eq!(back.code_update, deployment.code_update);

        let damaged = String::from_utf8(bytes).unwrap().replacen("\"slots\":1}", "\"slots\":2}", 1);
        assert!(matches!(decode(damaged.as_bytes()), Err(Damaged::Field { .. })));
    }
}
