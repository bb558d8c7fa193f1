//! What a deployment would do to a worker's Durable Objects, told before it is made.

use std::collections::BTreeMap;

use crate::cli::client::Api;
use crate::cli::refused;
use crate::cli::render;
use crate::control::wire::{CodeUpdateStrategy, Deployment, ObjectMove, ObjectPlan, Version};
use crate::domain::deployment::CodeUpdate;

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
    let about = if plan.is_estimate { "about " } else { "" };
    if plan.moving == 0 {
        render::line(format_args!("Durable Objects: {about}{}, none would change version", plan.objects));
        return Ok(());
    }
    let numbers = numbers(api, worker, plan, known).await?;
    let named = |id: &str| called(id, numbers.get(id).copied());
    render::line(format_args!(
        "Durable Objects: {about}{}, of which {about}{} would change version",
        plan.objects, plan.moving
    ));
    let rows = plan.moves.iter().map(|moves| [moves.objects.to_string(), named(&moves.from), named(&moves.to)]);
    render::table(["Objects", "From", "To"], rows);
    let update = deployment.code_update_strategy.and_then(CodeUpdateStrategy::update).unwrap_or(CodeUpdate::Immediate);
    render::line(update.resets_in_words(plan.live_moving));
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
