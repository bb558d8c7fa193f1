//! `objects`: Durable Objects by name or id. Which class and which id is meant is found here, from the worker's classes: an id
//! says itself of which class it is.

use crate::cli::args::{Common, ObjectArgs, ObjectsCommand};
use crate::cli::client::Api;
use crate::cli::fault::{Fault, failed, usage};
use crate::cli::render::{self, Format, ago, ahead, or_dash, percent};
use crate::control::wire::{Object, ObjectAlarm, ObjectCounts, ObjectHistory, ObjectNamespace, ObjectStay};
use crate::domain::limits::SLOTS;
use crate::domain::object::ObjectNamespaceId;

use super::versions::called;

/// Digits of an object's id.
const ID_DIGITS: usize = 64;

/// `sluice objects …`.
pub async fn run(command: ObjectsCommand, common: &Common) -> anyhow::Result<()> {
    let api = common.client()?;
    match command {
        ObjectsCommand::List { worker, class, json } => {
            let worker = match worker {
                Some(worker) => worker,
                None => common.selection().worker()?,
            };
            list(&api, &worker, class.as_deref(), Format::from(json)).await
        }
        ObjectsCommand::View { of, json } => view(&Meant::find(&api, &of, common).await?, Format::from(json)).await,
        ObjectsCommand::Explain { of, json } => {
            explain(&Meant::find(&api, &of, common).await?, Format::from(json)).await
        }
        ObjectsCommand::History { of, json } => {
            history(&Meant::find(&api, &of, common).await?, Format::from(json)).await
        }
        ObjectsCommand::Reset { of } => reset(&Meant::find(&api, &of, common).await?).await,
        ObjectsCommand::Delete { of, .. } => delete(&Meant::find(&api, &of, common).await?).await,
    }
}

async fn list(api: &Api, worker: &str, class: Option<&str>, format: Format) -> anyhow::Result<()> {
    let found = api.objects(worker, class).await?;
    if format == Format::Json {
        render::json(&found);
        return Ok(());
    }
    if !found.objects.is_empty() {
        let header = ["Class", "Name", "Object ID", "Version", "In memory", "Alarm", "Stored"];
        render::table(header, found.objects.iter().map(row));
    } else if api.object_classes(worker).await?.is_empty() {
        render::note(format_args!("The Worker {worker} has no Durable Object classes."));
        return Ok(());
    } else {
        render::note(format_args!(
            "The Worker {worker} has no Durable Objects yet: one is there when it has stored something."
        ));
    }
    let ObjectCounts { started, reassigned, failed } = found.since_start;
    render::note(format_args!(
        "since the node started: {started} came to memory, {reassigned} were reset because their version changed, {failed} \
         because their code failed"
    ));
    Ok(())
}

async fn view(meant: &Meant<'_>, format: Format) -> anyhow::Result<()> {
    let object = meant.look().await?;
    if never_was(&object) {
        return Err(meant.never_was().into());
    }
    match format {
        Format::Json => render::json(&object),
        Format::Human => tell(facts(&object)),
    }
    Ok(())
}

async fn explain(meant: &Meant<'_>, format: Format) -> anyhow::Result<()> {
    let object = meant.look().await?;
    match format {
        Format::Json => render::json(&object),
        Format::Human => tell(reasons(&object)),
    }
    Ok(())
}

async fn history(meant: &Meant<'_>, format: Format) -> anyhow::Result<()> {
    let mut history = meant.api.object_history(&meant.worker, &meant.class, &meant.id).await?;
    history.name = history.name.or_else(|| meant.name.clone());
    if history.created_on.is_none() && history.stays.is_empty() {
        return Err(meant.never_was().into());
    }
    match format {
        Format::Json => render::json(&history),
        Format::Human => show(&history),
    }
    Ok(())
}

async fn reset(meant: &Meant<'_>) -> anyhow::Result<()> {
    let Meant { api, worker, class, id, shown, .. } = meant;
    if api.reset_object(worker, class, id).await? {
        render::line(format_args!("Reset {shown}: it starts anew with the next event; what it stored is there"));
        return Ok(());
    }
    if never_was(&meant.look().await?) {
        return Err(meant.never_was().into());
    }
    render::line(format_args!("{shown} is not in memory: there was nothing to reset"));
    Ok(())
}

async fn delete(meant: &Meant<'_>) -> anyhow::Result<()> {
    let Meant { api, worker, class, id, shown, .. } = meant;
    if api.delete_object(worker, class, id).await? {
        render::line(format_args!("Deleted all that {shown} had stored, and its alarm"));
        return Ok(());
    }
    // An object that is in memory and never wrote had nothing to delete, and was reset all the same.
    Err(failed(format!("{shown} has stored nothing: there was nothing to delete"))
        .hint("`sluice objects list` shows the objects there are; names are case-sensitive")
        .into())
}

// === Which object ===

/// The object that was typed, and how it is spoken of.
struct Meant<'a> {
    api: &'a Api,
    worker: String,
    class: String,
    id: String,
    /// If it was named by it.
    name: Option<String>,
    /// ``object `alice` of class Counter``.
    shown: String,
}

impl<'a> Meant<'a> {
    async fn find(api: &'a Api, of: &ObjectArgs, common: &Common) -> anyhow::Result<Self> {
        let worker = common.selection().worker()?;
        let classes = api.object_classes(&worker).await?;
        if classes.is_empty() && !api.worker_exists(&worker).await? {
            return Err(failed(format!("there is no worker `{worker}`, so it has no objects"))
                .hint("`sluice deploy` in the project's folder makes the worker; is the name right?")
                .into());
        }
        let (class, id) = find(&worker, &classes, of)?;
        let name = (id != of.object.to_ascii_lowercase()).then(|| of.object.clone());
        let shown = format!("object `{}` of class {class}", of.object);
        Ok(Self { api, worker, class, id, name, shown })
    }

    async fn look(&self) -> anyhow::Result<Object> {
        let mut object = self.api.object(&self.worker, &self.class, &self.id).await?;
        // The node does not know the name of one that never wrote.
        object.name = object.name.or_else(|| self.name.clone());
        Ok(object)
    }

    fn never_was(&self) -> Fault {
        failed(format!("{} never was: it has stored nothing, and is not in memory", self.shown))
            .hint("`sluice objects list` shows the objects there are; names are case-sensitive")
            .hint("`sluice objects explain` tells the version that it would get")
    }
}

/// The class and the id of the object that was typed.
fn find(worker: &str, classes: &[ObjectNamespace], of: &ObjectArgs) -> Result<(String, String), Fault> {
    let names = || classes.iter().map(|class| class.class.as_str()).collect::<Vec<_>>().join(", ");
    if classes.is_empty() {
        return Err(failed(format!("worker `{worker}` has no Durable Object classes, so it has no objects")).hint(
            "a class is declared by a migration in the configuration, and begins with the next `sluice deploy`",
        ));
    }
    let wanted = |class: &&ObjectNamespace| of.class.as_ref().is_none_or(|name| *name == class.class);
    let candidates: Vec<&ObjectNamespace> = classes.iter().filter(wanted).collect();
    let (text, class) = (&of.object, of.class.as_deref().unwrap_or_default());
    if candidates.is_empty() {
        return Err(failed(format!("worker `{worker}` has no Durable Object class `{class}`"))
            .hint(format!("it has {}", names())));
    }
    if !of.by_name && text.len() == ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let owned =
            |class: &&ObjectNamespace| Some((class.class.clone(), space(class)?.parse_id(text).ok()?.to_string()));
        return candidates.iter().find_map(owned).ok_or_else(|| {
            let whose = if of.class.is_some() { format!("class `{class}`") } else { "any class".to_owned() };
            failed(format!("`{text}` is not the id of an object of {whose} of worker `{worker}`"))
                .hint("an id belongs to one class of one worker: is it the right `--name`, and the right node?")
                .hint("if it is the name of an object, add `--by-name`")
        });
    }
    match candidates.as_slice() {
        [one] => match space(one) {
            Some(space) => Ok((one.class.clone(), space.id_from_name(text).to_string())),
            None => Err(failed(format!("the node gave class `{}` the id `{}`, which is none", one.class, one.id))
                .hint("is it the control API of a Sluice node?")),
        },
        _ => Err(usage(format!("`{text}` may be an object of any of several classes of worker `{worker}`"))
            .hint(format!("say which one with `--class`: {}", names()))),
    }
}

fn space(class: &ObjectNamespace) -> Option<ObjectNamespaceId> {
    class.id.parse().ok()
}

/// Nothing is known of it but its id.
fn never_was(object: &Object) -> bool {
    object.created_on.is_none() && !object.live
}

// === How it reads ===

fn tell(facts: Vec<(&'static str, String)>) {
    for (label, value) in facts {
        render::line(format_args!("{label:<16}{value}"));
    }
}

fn row(object: &Object) -> [String; 7] {
    [
        object.class_name.clone(),
        or_dash(object.name.as_deref()),
        object.id.clone(),
        assigned(object),
        or_dash(Some(&memory(object)).filter(|_| object.live).map(String::as_str)),
        or_dash(object.alarm.as_deref().map(ahead).as_deref()),
        render::size(object.bytes),
    ]
}

fn facts(object: &Object) -> Vec<(&'static str, String)> {
    let time = |time: &str, told: String| format!("{time} ({told})");
    let mut facts = identity(object);
    facts.push(("Version:", assigned(object)));
    facts.push(("In memory:", memory(object)));
    facts.push(("Alarm:", object.alarm.as_deref().map_or("-".to_owned(), |at| time(at, ahead(at)))));
    facts.push(("Stored:", render::size(object.bytes)));
    facts.push(("Created:", object.created_on.as_deref().map_or("-".to_owned(), |at| time(at, ago(at)))));
    facts.push(("Epoch:", format!("{}, the instances of it that have written", object.epoch)));
    facts
}

fn reasons(object: &Object) -> Vec<(&'static str, String)> {
    let mut facts = identity(object);
    facts.push(("Slot:", format!("{} of {SLOTS}", object.slot)));
    facts.push(("Version:", assigned(object)));
    if let Some(at) = &object.changes_at {
        let version = called(&at.version_id, object.version_number);
        facts.push(("Moves:", format!("when the share of {version} falls to {}, or below", percent(at.percentage))));
    }
    facts.push(("In memory:", memory(object)));
    if let Some(left) = object.switches_in_s {
        let when = format!("when it leaves memory, or in {left} s at the latest");
        facts.push(("Switches:", format!("to {} {when}", assigned(object))));
    }
    if never_was(object) {
        facts.push(("Known:", "no: it has stored nothing; this is the version that it would get".to_owned()));
    }
    facts
}

fn show(history: &ObjectHistory) {
    let time = |time: &str, told: String| format!("{time} ({told})");
    tell(vec![
        ("Object ID:", history.id.clone()),
        ("Name:", or_dash(history.name.as_deref())),
        ("Class:", history.class_name.clone()),
        ("Created:", history.created_on.as_deref().map_or("-".to_owned(), |at| time(at, ago(at)))),
        ("Alarm:", history.alarm.as_deref().map_or("-".to_owned(), |at| time(at, ahead(at)))),
        ("Last alarm:", history.last_alarm.as_ref().map_or("-".to_owned(), rang)),
    ]);
    render::line("");
    let assignments = history.assignments.iter().map(|one| {
        [
            one.on.clone(),
            called(&one.version_id, one.version_number),
            one.deployment_id.clone(),
            or_dash(Some(&one.author_email)),
            or_dash(one.message.as_deref()),
        ]
    });
    render::table(["Assigned", "Version", "Deployment ID", "Author", "Message"], assignments);
    if history.assignments_cut {
        render::note("older deployments are not kept here: the last line may have been so before");
    }
    render::line("");
    let stays = history.stays.iter().map(|stay| {
        [
            stay.started_on.clone(),
            called(&stay.version_id, stay.version_number),
            stay.starts.to_string(),
            or_dash(stay.ended_on.as_deref()),
            left(stay),
        ]
    });
    render::table(["In memory", "Version", "Starts", "Left", "Because"], stays);
    render::note(format_args!(
        "times in memory are known since {}",
        time(&history.stays_since, ago(&history.stays_since))
    ));
}

fn rang(alarm: &ObjectAlarm) -> String {
    let what = match alarm.outcome.as_str() {
        "ok" => "rang".to_owned(),
        "failed" => "failed".to_owned(),
        _ => "was lost, and is brought again".to_owned(),
    };
    let why = alarm.message.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{what}, {} ({}){why}", alarm.ended_on, ago(&alarm.ended_on))
}

/// Why a stay ended, in words.
fn left(stay: &ObjectStay) -> String {
    match (stay.ended_by.as_deref(), &stay.why) {
        (None, _) => "it is in memory".to_owned(),
        (Some("reassigned"), _) => "reset: its version changed".to_owned(),
        (Some("failed"), Some(why)) => format!("reset: its code failed: {why}"),
        (Some("storage_failed"), _) => "reset: the node's storage failed".to_owned(),
        (Some("superseded"), _) => "reset: another instance has written".to_owned(),
        (Some("deleted"), _) => "reset: what it stored was deleted".to_owned(),
        (Some("asked"), _) => "reset: somebody asked for it".to_owned(),
        (Some("alarm_too_long"), _) => "reset: its alarm ran for too long".to_owned(),
        (Some("stopping"), _) => "the node stopped".to_owned(),
        (Some("made_room"), _) => "others needed its room".to_owned(),
        (Some("idle"), _) => "nothing happened in it".to_owned(),
        (Some(other), _) => other.replace('_', " "),
    }
}

fn identity(object: &Object) -> Vec<(&'static str, String)> {
    vec![
        ("Object ID:", object.id.clone()),
        ("Name:", or_dash(object.name.as_deref())),
        ("Class:", object.class_name.clone()),
    ]
}

/// `#3 dc8dcd28`, under the active deployment.
fn assigned(object: &Object) -> String {
    object.version_id.as_deref().map_or("-".to_owned(), |id| called(id, object.version_number))
}

/// `yes`, `no`, or `yes, on #2 dc8dcd28` while a change of its version waits.
fn memory(object: &Object) -> String {
    match &object.running_version_id {
        Some(running) if object.running_version_id != object.version_id => {
            format!("yes, on {}", called(running, object.running_version_number))
        }
        _ if object.live => "yes".to_owned(),
        _ => "no".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, number: u8) -> ObjectNamespace {
        ObjectNamespace {
            id: ObjectNamespaceId::from_bytes([number; 16]).to_string(),
            name: format!("w_{name}"),
            script: "w".to_owned(),
            class: name.to_owned(),
            use_sqlite: true,
        }
    }

    fn args(object: &str, class: Option<&str>) -> ObjectArgs {
        ObjectArgs { object: object.to_owned(), class: class.map(str::to_owned), by_name: false }
    }

    #[test]
    fn a_name_needs_its_class_only_among_several_and_an_id_never_does() {
        let both = [class("Alpha", 1), class("Beta", 2)];
        let id = |number: u8, name: &str| ObjectNamespaceId::from_bytes([number; 16]).id_from_name(name).to_string();
        let found =
            |classes: &[ObjectNamespace], of: &ObjectArgs| find("w", classes, of).map_err(|fault| fault.to_string());
        assert_eq!(found(&both[..1], &args("a", None)).unwrap(), ("Alpha".to_owned(), id(1, "a")));
        assert_eq!(found(&both, &args("a", Some("Beta"))).unwrap(), ("Beta".to_owned(), id(2, "a")));
        let upper = id(2, "a").to_ascii_uppercase();
        for text in [id(2, "a"), upper] {
            assert_eq!(found(&both, &args(&text, None)).unwrap(), ("Beta".to_owned(), id(2, "a")));
        }
        // 64 digits that are a name.
        let by_name = ObjectArgs { by_name: true, ..args(&id(2, "a"), Some("Beta")) };
        assert_eq!(found(&both, &by_name).unwrap(), ("Beta".to_owned(), id(2, &id(2, "a"))));

        assert!(found(&[], &args("a", None)).unwrap_err().contains("no Durable Object classes"));
        assert!(found(&both, &args("a", None)).unwrap_err().contains("several classes"));
        assert!(found(&both, &args("a", Some("Gamma"))).unwrap_err().contains("no Durable Object class `Gamma`"));
        assert!(
            found(&both, &args(&id(3, "a"), None)).unwrap_err().contains("is not the id of an object of any class")
        );
        assert!(found(&both, &args(&id(2, "a"), Some("Alpha"))).unwrap_err().contains("of class `Alpha` of worker"));
    }

    #[test]
    fn an_object_that_waits_for_its_version_says_so() {
        let object = |change: fn(&mut Object)| {
            let mut object = Object {
                id: "0".repeat(64),
                name: Some("a".to_owned()),
                class_name: "C".to_owned(),
                namespace_id: String::new(),
                version_id: Some("dc8dcd28-271b".to_owned()),
                version_number: Some(3),
                live: false,
                running_version_id: None,
                running_version_number: None,
                switches_in_s: None,
                alarm: None,
                bytes: 5,
                epoch: 1,
                created_on: None,
                slot: 7,
                changes_at: None,
            };
            change(&mut object);
            object
        };
        let running = |object: &mut Object, id: &str| {
            (object.live, object.running_version_id, object.running_version_number) =
                (true, Some(id.to_owned()), Some(2));
        };
        assert_eq!(row(&object(|_| {}))[3..], ["#3 dc8dcd28", "-", "-", "5 bytes"]);
        let mut same = object(|_| {});
        running(&mut same, "dc8dcd28-271b");
        assert_eq!(memory(&same), "yes");
        let mut waits = object(|object| object.switches_in_s = Some(9));
        running(&mut waits, "aaaaaaaa-1111");
        assert_eq!(memory(&waits), "yes, on #2 aaaaaaaa");
        let told = reasons(&waits).pop().unwrap();
        assert_eq!(told, ("Switches:", "to #3 dc8dcd28 when it leaves memory, or in 9 s at the latest".to_owned()));
        assert_eq!(reasons(&object(|object| object.version_id = None))[4].1, "-");
    }
}
