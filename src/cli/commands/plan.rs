//! What a deployment would do to a worker's Durable Objects, told before it is made.

use std::collections::BTreeMap;

use crate::cli::client::Api;
use crate::cli::refused;
use crate::cli::render;
use crate::control::wire::{CodeUpdateMode, CodeUpdateStrategy, Deployment, ObjectMove, ObjectPlan, Version};

use super::deploy::short;
use super::versions::called;

/// Objects that are named; `--json` has some more.
const NAMED_MAX: usize = 5;

/// Tells the plan in the answer to a dry run. Nothing of a worker without classes.
pub async fn show(api: &Api, worker: &str, deployment: &Deployment, known: &[Version]) -> anyhow::Result<()> {
    let Some(plan) = deployment.sluice.as_ref().and_then(|facts| facts.objects.as_ref()) else { return Ok(()) };
    if plan.objects == 0 {
        if !api.object_classes(worker).await?.is_empty() {
            render::line("Durable Objects: none yet");
        }
        return Ok(());
    }
    if plan.moving == 0 {
        render::line(format_args!("Durable Objects: {}, none would change version", plan.objects));
        return Ok(());
    }
    let numbers = numbers(api, worker, plan, known).await?;
    let named = |id: &str| called(id, numbers.get(id).copied());
    render::line(format_args!("Durable Objects: {}, of which {} would change version", plan.objects, plan.moving));
    let rows = plan.moves.iter().map(|moves| [moves.objects.to_string(), named(&moves.from), named(&moves.to)]);
    render::table(["Objects", "From", "To"], rows);
    render::line(resets(plan, deployment.code_update_strategy.as_ref()));
    render::line("None moves to a version that loses share.");
    render::line("");
    let rows = plan.sample.iter().take(NAMED_MAX).map(|one| {
        let in_memory = if one.live { "yes" } else { "-" };
        [name(one), one.class_name.clone(), named(&one.from), named(&one.to), in_memory.to_owned()]
    });
    render::table(["Object", "Class", "From", "To", "In memory"], rows);
    let shown = plan.sample.len().min(NAMED_MAX) as u64;
    if plan.moving > shown {
        render::note(format_args!("and {} more", plan.moving - shown));
    }
    Ok(())
}

fn name(one: &ObjectMove) -> String {
    one.name.clone().unwrap_or_else(|| format!("{}…", short(&one.id)))
}

fn resets(plan: &ObjectPlan, strategy: Option<&CodeUpdateStrategy>) -> String {
    let deferred = strategy.filter(|strategy| strategy.mode == CodeUpdateMode::Deferred);
    let when = match deferred.map(|strategy| strategy.max_delay) {
        None => "reset at once".to_owned(),
        Some(None) => "reset when they leave memory, or when the delay is over".to_owned(),
        Some(Some(seconds)) => format!("reset when they leave memory, or after {seconds} s"),
    };
    match plan.live_moving {
        0 => "None of them is in memory, so none would be reset.".to_owned(),
        1 => format!("1 of them is in memory and would be {}.", when.replace("they leave", "it leaves")),
        live => format!("{live} of them are in memory and would be {when}."),
    }
}

/// The numbers of the versions that the plan names. One that was deleted since has none.
async fn numbers(
    api: &Api,
    worker: &str,
    plan: &ObjectPlan,
    known: &[Version],
) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut numbers: BTreeMap<String, u64> = known.iter().map(|version| (version.id.clone(), version.number)).collect();
    for id in plan.moves.iter().flat_map(|moves| [&moves.from, &moves.to]) {
        if numbers.contains_key(id) {
            continue;
        }
        match api.version(worker, id).await {
            Ok(version) => drop(numbers.insert(id.clone(), version.number)),
            Err(error) if refused::code(&error).is_some() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_reset_and_when() {
        let told = |live_moving, strategy: serde_json::Value| {
            let strategy: Option<CodeUpdateStrategy> = serde_json::from_value(strategy).unwrap();
            resets(&ObjectPlan { live_moving, ..ObjectPlan::default() }, strategy.as_ref())
        };
        let (none, deferred) = (serde_json::json!(null), serde_json::json!({"mode": "deferred", "max_delay": 300}));
        assert_eq!(told(0, none.clone()), "None of them is in memory, so none would be reset.");
        assert_eq!(told(2, none), "2 of them are in memory and would be reset at once.");
        let one = told(1, deferred);
        assert_eq!(one, "1 of them is in memory and would be reset when it leaves memory, or after 300 s.");
    }
}
