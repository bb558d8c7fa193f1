//! The part of the demo with Durable Objects: three of them through 0, 20, 50 and 100 % of a new version, and how often each was
//! reset. Nothing in the table is known beforehand: the objects tell it.

use std::path::Path;

use anyhow::Context as _;

use crate::cli::client::{Api, Intent};
use crate::cli::commands::traffic::Client;
use crate::cli::commands::{deploy, split};
use crate::cli::fault::failed;
use crate::cli::names;
use crate::cli::project::module;
use crate::cli::render::{self, percent};
use crate::control::wire::Version;
use crate::domain::object::ObjectNamespaceId;
use crate::project::metadata::Extras;

/// The worker, and the class of its objects.
pub(super) const WORKER: &str = "counter";
const CLASS: &str = "Counter";
/// What the new version gets, step by step.
const STEPS: [f64; 4] = [0.0, 20.0, 50.0, 100.0];
/// How often each object counts in a step: a reset begins its count of calls anew, so two are enough to see that there was one only.
const CALLS: u64 = 2;
/// Names to choose from, until there is one that moves at each step. With so many it fails once in 10^19 times.
const NAMES: [&str; 6] = ["foo", "bar", "baz", "qux", "quux", "corge"];
const NAMES_MAX: usize = 200;

/// Two versions of the worker, which differ in nothing but their tags.
pub(super) struct Stage {
    pub(super) old: Version,
    pub(super) new: Version,
}

/// An object, and what it said last.
struct Actor {
    name: String,
    /// The share of the old version at which it moves.
    leaves_at: f64,
    last: Told,
    resets: u64,
}

/// What a counter says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    /// The tag of the version that it runs.
    version: String,
    /// What it has stored.
    count: u64,
    /// Calls since it is in memory.
    calls: u64,
}

pub(super) async fn show(api: &Api, client: &Client, examples: &Path) -> anyhow::Result<Stage> {
    let project = super::project(examples, WORKER)?;
    let package = |tag: &str| {
        let extras = Extras { tag: Some(tag.to_owned()), ..Extras::default() };
        deploy::package(&project, &extras, module::locate(&project)?)
    };
    let plan = deploy::Plan { migrations: &project.config.migrations, ..deploy::Plan::default() };
    let old = deploy::ship(api, WORKER, &mut package("A")?, &plan).await?.version;
    let upload = package("B")?;
    let new = api.upload_version(WORKER, &upload).await;
    upload.finish();
    let stage = Stage { old, new: new? };

    let mut actors = cast(api).await?;
    let leaves: Vec<_> = actors.iter().map(|actor| format!("{} at {}", actor.name, percent(actor.leaves_at))).collect();
    render::line(format_args!(
        "  `sluice objects explain` tells when each object leaves version A: {}",
        leaves.join(", ")
    ));
    let mut rows = Vec::new();
    for share in STEPS {
        rows.push(step(api, client, &stage, &mut actors, share).await?);
    }
    let names: Vec<String> = actors.iter().map(|actor| format!("\"{}\"", actor.name)).collect();
    let [one, two, three] = &names[..] else { return Err(failed("the demo has three objects").into()) };
    render::table(["Deployment", one.as_str(), two.as_str(), three.as_str()], rows);
    conclude(api, &actors).await?;
    Ok(stage)
}

/// A deployment, if it is one, and what each object says under it: a row of the table.
async fn step(
    api: &Api,
    client: &Client,
    stage: &Stage,
    actors: &mut [Actor],
    share: f64,
) -> anyhow::Result<[String; 4]> {
    let mut planned = Vec::new();
    if share > 0.0 {
        let mut entries = vec![(stage.new.id.clone(), Some(share)), (stage.old.id.clone(), None)];
        entries.truncate(if share < 100.0 { 2 } else { 1 });
        let request = split::request(names::distribute(&entries)?, None);
        let plan = api.deploy(WORKER, &request, Intent::DryRun).await?.sluice.and_then(|facts| facts.objects);
        planned.extend(plan.unwrap_or_default().sample.into_iter().filter_map(|one| one.name));
        api.deploy(WORKER, &request, Intent::Deploy).await?;
    }
    let mut row = [deployment(share), String::new(), String::new(), String::new()];
    let mut moved = Vec::new();
    for (actor, cell) in actors.iter_mut().zip(&mut row[1..]) {
        let was_reset = actor.play(client).await?;
        if was_reset {
            moved.push(actor.name.clone());
        }
        *cell = format!("{}{}", actor.last.version, if was_reset { ", reset" } else { "" });
    }
    planned.sort_unstable();
    let mut sorted = moved.clone();
    sorted.sort_unstable();
    if planned != sorted {
        let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let message = format!(
            "at {} of version B the plan named {}, but {} moved",
            percent(share),
            list(&planned),
            list(&sorted)
        );
        return Err(failed(message).into());
    }
    Ok(row)
}

/// As the table of Cloudflare's documentation has it.
fn deployment(share: f64) -> String {
    let (a, b) = (percent(100.0 - share), percent(share));
    match share {
        0.0 => format!("Version A: {a}"),
        100.0 => format!("Version B: {b}"),
        _ => format!("Version B: {b}  Version A: {a}"),
    }
}

impl Actor {
    /// Lets the object count. Whether it was reset before, which only its own memory can tell.
    async fn play(&mut self, client: &Client) -> anyhow::Result<bool> {
        let mut was_reset = false;
        for call in 0..CALLS {
            let text = client.post(&format!("{}/increment", self.name)).await?.text;
            let told =
                read(&text).ok_or_else(|| failed(format!("{WORKER} answered what is no count: {}", text.trim())))?;
            let before = std::mem::replace(&mut self.last, told);
            let (name, now) = (&self.name, &self.last);
            if now.count != before.count + 1 {
                return Err(failed(format!("{name} was at {} and is at {}", before.count, now.count)).into());
            }
            match now.calls {
                // The very first call of all is no reset.
                1 if before.count == 0 => {}
                1 if call == 0 => was_reset = true,
                calls if calls == before.calls + 1 && now.version == before.version => {}
                calls => {
                    let message = format!(
                        "{name} had answered {} calls on version {}, and says {calls} on version {}",
                        before.calls, before.version, now.version
                    );
                    return Err(failed(message).into());
                }
            }
        }
        self.resets += u64::from(was_reset);
        Ok(was_reset)
    }
}

/// Counts the resets: by the objects' own memory, and by the node.
async fn conclude(api: &Api, actors: &[Actor]) -> anyhow::Result<()> {
    let resets: Vec<_> = actors.iter().map(|actor| format!("{} {}", actor.name, actor.resets)).collect();
    let sum: u64 = actors.iter().map(|actor| actor.resets).sum();
    let counted = api.objects(WORKER, None).await?.since_start.reassigned;
    render::line(format_args!(
        "  Resets as the objects tell them: {}; as the node counted them: {counted}",
        resets.join(", ")
    ));
    let counts: Vec<_> = actors.iter().map(|actor| actor.last.count.to_string()).collect();
    let calls = CALLS * STEPS.len() as u64;
    render::line(format_args!("  Each was asked {calls} times to count, and stored {}", counts.join(", ")));
    render::line("  At each step exactly those moved that `versions deploy --dry-run` had named");
    if actors.iter().any(|actor| actor.resets != 1) || counted != sum {
        return Err(failed("each object was to be reset exactly once").into());
    }
    Ok(())
}

/// A name for each step at which an object can move.
async fn cast(api: &Api) -> anyhow::Result<Vec<Actor>> {
    let mut found: [Option<Actor>; 3] = [None, None, None];
    let classes = api.object_classes(WORKER).await?;
    let space = classes.iter().find(|class| class.class == CLASS).map(|class| class.id.parse());
    let space: ObjectNamespaceId =
        space.ok_or_else(|| failed(format!("{WORKER} has no class {CLASS}")))?.context("the node's namespaces")?;
    let more = (1..).map(|number| format!("counter-{number}"));
    for name in NAMES.map(str::to_owned).into_iter().chain(more).take(NAMES_MAX) {
        let object = api.object(WORKER, CLASS, &space.id_from_name(&name).to_string()).await?;
        let Some(at) = object.changes_at else { continue };
        // It leaves with the first step that takes so much from version A.
        let step = STEPS[1..].iter().position(|share| 100.0 - share <= at.percentage);
        if let Some(place) = step.map(|step| &mut found[step]).filter(|place| place.is_none()) {
            *place = Some(Actor { name, leaves_at: at.percentage, last: Told::default(), resets: 0 });
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    let found: Vec<Actor> = found.into_iter().flatten().collect();
    match found.len() {
        3 => Ok(found),
        _ => Err(failed(format!("of {NAMES_MAX} names none moves at some step")).into()),
    }
}

/// `counter a = 3 (object on v2, worker on v1) (up: 2 calls)`.
fn read(text: &str) -> Option<Told> {
    let (_, rest) = text.split_once(" = ")?;
    let (count, rest) = rest.split_once(" (object on ")?;
    let (version, rest) = rest.split_once(", ")?;
    let (_, rest) = rest.split_once("(up: ")?;
    let (calls, _) = rest.split_once(' ')?;
    Some(Told { version: version.to_owned(), count: count.parse().ok()?, calls: calls.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_counter_says_is_read() {
        let told = read("counter a = 3 (object on B, worker on A) (up: 2 calls)\n").unwrap();
        assert_eq!(told, Told { version: "B".to_owned(), count: 3, calls: 2 });
        assert_eq!(read("counter a: Durable Object reset because its code was updated."), None);
    }

    #[test]
    fn deployments_are_written_as_in_the_document() {
        let told = STEPS.map(deployment);
        assert_eq!(
            told,
            ["Version A: 100%", "Version B: 20%  Version A: 80%", "Version B: 50%  Version A: 50%", "Version B: 100%"]
        );
    }
}
