//! `rollback`: one old version gets all the traffic again, by an ordinary deployment (`RBK-1`). Which one, when none is named,
//! is decided here, as in wrangler, except that a version that already has everything is no rollback (E12).

use crate::cli::args::{Common, RollbackArgs};
use crate::cli::client::{Api, Intent, Listing};
use crate::cli::fault::{Fault, failed};
use crate::cli::refused;
use crate::cli::render;
use crate::control::wire::{Deployment, DeploymentRequest, Share};

use super::{plan, split, versions};

/// The code that says that secrets have changed since the target was deployed (`DEP-10`).
const SECRETS_CHANGED: u32 = 10220;
/// What stands before their names in the message.
const SECRETS_MARK: &str = "The following secrets have changed:";

/// `sluice rollback`.
pub async fn run(args: &RollbackArgs, common: &Common) -> anyhow::Result<()> {
    let (api, worker) = (common.client()?, common.selection().worker()?);
    let target = match &args.version {
        Some(name) => versions::resolve(&api, &worker, name, Listing::Deployable).await?,
        None => default_target(&api.deployments(&worker).await?)?,
    };
    // Read it first: a version that is not there is a clearer refusal than a deployment that cannot be.
    let version = api.version(&worker, &target).await?;
    let does = if args.dry_run { "would roll back" } else { "rolling back" };
    render::note(format_args!(
        "{does} {worker} to version {} ({target}); data, routes and domains stay as they are",
        version.number
    ));
    let message = args.message.clone().unwrap_or_else(|| "Rollback".to_owned());
    let intent = match (args.dry_run, args.force) {
        (false, false) => Intent::Deploy,
        (false, true) => Intent::Force,
        (true, false) => Intent::DryRun,
        (true, true) => Intent::ForcedDryRun,
    };
    let mut request = request(&target, message);
    request.code_update_strategy = split::code_update(&args.code_update, common)?.map(Into::into);
    let deployment = roll_back(&api, &worker, &target, &request, intent).await?;
    if args.json {
        render::json(&deployment);
    } else {
        let known = [version];
        split::show(&worker, &deployment, &known, intent);
        plan::show(&api, &worker, &deployment, &known).await?;
        split::remark(intent);
    }
    Ok(())
}

/// A deployment that gives `target` everything.
pub fn request(target: &str, message: String) -> DeploymentRequest {
    split::request(vec![Share { version_id: target.to_owned(), percentage: 100.0 }], Some(message))
}

/// Makes the deployment, or tries it. With force, changed secrets are named and then overruled.
pub async fn roll_back(
    api: &Api,
    worker: &str,
    target: &str,
    request: &DeploymentRequest,
    intent: Intent,
) -> anyhow::Result<Deployment> {
    let refusal = match api.deploy(worker, request, intent.unforced()).await {
        Err(error) if refused::code(&error) == Some(SECRETS_CHANGED) => error,
        outcome => return outcome,
    };
    let secrets = changed_secrets(&format!("{refusal:#}"));
    if !intent.is_forced() {
        let list: String = secrets.iter().map(|name| format!("\n  - {name}")).collect();
        let message = format!("secrets have changed since version {target} was live; nothing was rolled back:{list}");
        return Err(failed(message)
            .hint("their old values would become live again; if that is meant, repeat it with `--force`")
            .into());
    }
    render::warn(format_args!("the old values of these secrets become live again: {}", secrets.join(", ")));
    api.deploy(worker, request, intent).await
}

/// The version to return to (`RBK-3`, E12): deployments from newest to oldest without the active one; the first that gives
/// a version exactly 100 %, unless that version has exactly 100 % now.
pub fn default_target(deployments: &[Deployment]) -> Result<String, Fault> {
    let stable = |deployment: &Deployment| {
        deployment.versions.iter().find(|share| share.percentage == 100.0).map(|share| share.version_id.clone())
    };
    let live = deployments.first().and_then(stable);
    deployments.iter().skip(1).filter_map(stable).find(|version| Some(version) != live.as_ref()).ok_or_else(|| {
        failed("Could not find stable Worker Version to rollback to. Please try again with an explicit Version ID.")
            .hint("`sluice versions list` shows the versions")
    })
}

/// The names in the refusal: wrangler reads them from its text, and so do we.
fn changed_secrets(message: &str) -> Vec<String> {
    let Some((_, list)) = message.split_once(SECRETS_MARK) else {
        return Vec::new();
    };
    let list = list.split(" [code:").next().unwrap_or_default().trim().trim_end_matches('.');
    list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Deployments newest first, each as pairs of version and share.
    fn target(history: &[&[(&str, f64)]]) -> Option<String> {
        let deployments: Vec<Deployment> = history
            .iter()
            .map(|split| {
                let versions: Vec<_> =
                    split.iter().map(|(id, share)| json!({"version_id": id, "percentage": share})).collect();
                let record = json!({"id": "d", "created_on": "", "source": "api", "strategy": "percentage", "versions": versions});
                serde_json::from_value(record).unwrap()
            })
            .collect();
        default_target(&deployments).ok()
    }

    #[test]
    fn the_default_target_is_the_last_version_that_had_everything() {
        for (history, wanted) in [
            // The plain case, and from a split.
            (vec![&[("b", 100.0)][..], &[("a", 100.0)]], Some("a")),
            (vec![&[("b", 20.0), ("a", 80.0)], &[("a", 100.0)]], Some("a")),
            // Splits are no stable state.
            (vec![&[("c", 100.0)], &[("c", 50.0), ("b", 50.0)], &[("b", 100.0)]], Some("b")),
            // A 0/100 deployment counts by its 100 % member.
            (vec![&[("c", 100.0)], &[("b", 0.0), ("a", 100.0)]], Some("a")),
            // E12: from {new 0, old 100} not to the version that serves already.
            (vec![&[("b", 0.0), ("a", 100.0)], &[("a", 100.0)], &[("z", 100.0)]], Some("z")),
            (vec![&[("a", 100.0)], &[("a", 100.0)], &[("z", 100.0)]], Some("z")),
            // Nothing to go back to.
            (vec![&[("a", 100.0)]], None),
            (vec![&[("a", 100.0)], &[("a", 99.999), ("b", 0.001)]], None),
            (vec![], None),
        ] {
            assert_eq!(target(&history).as_deref(), wanted, "{history:?}");
        }
    }

    #[test]
    fn changed_secrets_are_read_from_the_refusal() {
        let message = "blocked. The following secrets have changed: API_KEY, TOKEN [code: 10220]";
        assert_eq!(changed_secrets(message), ["API_KEY", "TOKEN"]);
        assert!(changed_secrets("something else").is_empty());
    }
}
