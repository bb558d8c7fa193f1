//! `explain`: which version a request would get, and why, from the node that would decide it.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;

use crate::cli::args::{Common, ExplainArgs};
use crate::cli::fault::{Fault, failed, usage};
use crate::cli::render::{self, or_dash, percent};
use crate::control::wire::{ExplainRequest, Explained, Explanation};

use super::deploy::short;
use super::versions::called;

/// More answers than these are summed up, not listed; `--json` has them all.
const ROWS_MAX: usize = 50;
/// A node takes 50,000 keys in a call, and 4 MiB; these fit both unless keys are very long.
const KEYS_AT_ONCE: usize = 20_000;

/// `sluice explain`.
pub async fn run(args: &ExplainArgs, common: &Common) -> anyhow::Result<()> {
    let worker = match &args.worker {
        Some(worker) => worker.clone(),
        None => common.selection().worker()?,
    };
    let mut keys = args.keys.clone();
    if let Some(file) = &args.keys_file {
        keys.extend(read_keys(file)?);
    }
    let headers: Vec<_> = args.headers.iter().map(|text| parse_header(text)).collect::<Result<_, _>>()?;
    let api = common.client()?;
    // Without a key there is one question: the headers alone.
    let mut chunks = keys.chunks(KEYS_AT_ONCE);
    let first = chunks.next().unwrap_or_default().to_vec();
    let mut explanation = api.explain(&worker, &ExplainRequest { keys: first, headers: headers.clone() }).await?;
    for keys in chunks {
        let more = api.explain(&worker, &ExplainRequest { keys: keys.to_vec(), headers: headers.clone() }).await?;
        merge(&mut explanation, more)?;
    }
    if args.json {
        render::json(&explanation);
        return Ok(());
    }
    show(&explanation);
    Ok(())
}

/// Puts the answers of a second call behind those of the first.
fn merge(all: &mut Explanation, more: Explanation) -> Result<(), Fault> {
    if all.deployment_id != more.deployment_id {
        return Err(failed("the deployment changed while the keys were being explained").hint("run it again"));
    }
    all.answers.extend(more.answers);
    for share in &mut all.achieved {
        let same = more.achieved.iter().find(|other| other.version_id == share.version_id);
        share.count += same.map_or(0, |same| same.count);
    }
    let total: u64 = all.achieved.iter().map(|share| share.count).sum();
    for share in &mut all.achieved {
        #[expect(clippy::cast_precision_loss, reason = "keys that fit a file, to a thousandth of a percent")]
        let achieved = share.count as f64 * 100.0 / total.max(1) as f64;
        share.achieved = achieved;
    }
    Ok(())
}

fn show(explanation: &Explanation) {
    let Explanation { answers, achieved, .. } = explanation;
    if answers.len() <= ROWS_MAX {
        render::table(["Key", "Slot", "Version", "Reason", "Changes at"], answers.iter().map(row));
    } else {
        render::note(format_args!("{} keys; `--json` lists each of them", answers.len()));
    }
    if answers.len() > 1 && !achieved.is_empty() {
        if answers.len() <= ROWS_MAX {
            render::line("");
        }
        let rows = achieved.iter().map(|share| {
            [
                version(Some(&share.version_id), share.version_number),
                percent(share.configured),
                percent(share.achieved),
                share.count.to_string(),
            ]
        });
        render::table(["Version", "Configured", "Achieved", "Keys"], rows);
    }
}

fn row(answer: &Explained) -> [String; 5] {
    let changes =
        answer.changes_at.as_ref().map(|at| format!("{} at {}", short(&at.version_id), percent(at.percentage)));
    [
        or_dash(answer.key.as_deref()),
        or_dash(answer.slot.map(|slot| slot.to_string()).as_deref()),
        version(answer.version_id.as_deref(), answer.version_number),
        answer.reason.clone(),
        or_dash(changes.as_deref()),
    ]
}

/// `#3 dc8dcd28`, or that the draw decides.
fn version(id: Option<&str>, number: Option<u64>) -> String {
    id.map_or_else(|| "by the draw".to_owned(), |id| called(id, number))
}

/// One key a line; empty lines are none.
fn read_keys(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read stdin as text")?;
        text
    } else {
        std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?
    };
    Ok(text.lines().map(str::trim_end).filter(|key| !key.is_empty()).map(str::to_owned).collect())
}

/// `Name: value`, as curl writes it.
pub fn parse_header(text: &str) -> Result<(String, String), Fault> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err(usage(format!("`--header {text}`: expected 'Name: value'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_as_curl_writes_them() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(parse_header("Cookie: a=b:c").unwrap(), pair("Cookie", "a=b:c"));
        assert_eq!(parse_header("X:").unwrap(), pair("X", ""));
        assert!(parse_header("nothing").is_err() && parse_header(": x").is_err());
    }

    #[test]
    fn answers_of_several_calls_add_up() {
        let part = |deployment: &str, counts: [u64; 2]| -> Explanation {
            let achieved = |id: &str, count: u64| serde_json::json!({"version_id": id, "configured": 50, "count": count, "achieved": 0});
            let achieved = [achieved("a", counts[0]), achieved("b", counts[1])];
            serde_json::from_value(
                serde_json::json!({"deployment_id": deployment, "answers": [], "achieved": achieved}),
            )
            .unwrap()
        };
        let mut all = part("d", [1, 1]);
        merge(&mut all, part("d", [2, 0])).unwrap();
        let shares: Vec<_> = all.achieved.iter().map(|share| (share.count, share.achieved)).collect();
        assert_eq!(shares, [(3, 75.0), (1, 25.0)]);
        assert!(merge(&mut all, part("e", [1, 1])).is_err());
    }

    #[test]
    fn an_answer_is_one_row() {
        let answer: Explained = serde_json::from_value(serde_json::json!({"key": "k", "slot": 7, "reason": "key",
            "version_id": "dc8dcd28-271b-4367-9840-6c244f84cb40", "version_number": 3,
            "changes_at": {"version_id": "aaaaaaaa-271b-4367-9840-6c244f84cb40", "percentage": 12.5}}))
        .unwrap();
        assert_eq!(row(&answer), ["k", "7", "#3 dc8dcd28", "key", "aaaaaaaa at 12.5%"]);
        let draw: Explained = serde_json::from_value(serde_json::json!({"reason": "random"})).unwrap();
        assert_eq!(row(&draw), ["-", "-", "by the draw", "random", "-"]);
    }
}
