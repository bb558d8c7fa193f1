//! What happened to one Durable Object, as a timeline: the deployments that gave it another version, and beside them what really happened on
//! this node: when it was in memory, on which version, and why it left. The two differ where an update is deferred.

use std::sync::Arc;

use maud::{Markup, html};

use crate::catalog::{DEPLOYMENTS_KEPT, WorkerView};
use crate::dashboard::layout::WorkerTab;
use crate::dashboard::legend::Legend;
use crate::dashboard::worker::{command, deployments};
use crate::dashboard::{figures, parts};
use crate::domain::allotment::slot_of_object;
use crate::domain::deployment::{Deployment, assignments};
use crate::domain::id::VersionId;
use crate::domain::object::ObjectId;
use crate::domain::stay::{Ended, Left, Stay};
use crate::objects::past::{Outcome, Past, Rang};

/// Something that happened; of two at the same time the later in this list is the later.
#[derive(Debug, Clone, Copy)]
enum What<'a> {
    Assigned(&'a Deployment, VersionId),
    Left(&'a Stay, &'a Ended),
    Came(&'a Stay),
}

impl What<'_> {
    /// When, and which of several at once.
    fn order(&self) -> (u64, u8) {
        match self {
            Self::Assigned(deployment, _) => (deployment.created_ms, 0),
            Self::Left(_, ended) => (ended.at_ms, 1),
            Self::Came(stay) => (stay.first_ms, 2),
        }
    }
}

/// The section of an object's page.
#[must_use]
pub(super) fn section(worker: &WorkerView, id: ObjectId, past: &Past, command: &str, now_ms: u64) -> Markup {
    let legend = Legend::of(worker);
    let happened = happened(&worker.deployments, worker, id, past);
    html! {
        section aria-labelledby="history-title" {
            h2 #history-title { "History" }
            p.note {
                "Versions by deployment are derived from the object’s slot"
                @if worker.deployments.len() == DEPLOYMENTS_KEPT { "; older deployments than the newest " (DEPLOYMENTS_KEPT) " are not looked at" }
                ". What happened in memory is known since " (parts::moment(past.since_ms)) "."
            }
            @if happened.is_empty() { p.muted { "Nothing is known of it." } }
            ol.timeline {
                @for what in &happened { (entry(&legend, *what, now_ms)) }
            }
            p.muted { "The same on the command line:" }
            (command::shown(command))
        }
    }
}

/// All of it, newest first.
fn happened<'a>(
    deployments: &'a [Arc<Deployment>],
    worker: &WorkerView,
    id: ObjectId,
    past: &'a Past,
) -> Vec<What<'a>> {
    let assigned = assignments(deployments, slot_of_object(&worker.name, id)).into_iter();
    let assigned = assigned.map(|(deployment, version)| What::Assigned(deployment, version));
    let came = past.stays.iter().map(What::Came);
    let left = past.stays.iter().filter_map(|stay| stay.ended.as_ref().map(|ended| What::Left(stay, ended)));
    let mut all: Vec<What<'a>> = assigned.chain(came).chain(left).collect();
    all.sort_by_key(|what| std::cmp::Reverse(what.order()));
    all
}

fn entry(legend: &Legend<'_>, what: What<'_>, now_ms: u64) -> Markup {
    let (at_ms, _) = what.order();
    let time = html! { (parts::ago(at_ms, now_ms)) " · " (parts::moment(at_ms)) };
    html! {
        @match what {
            What::Assigned(deployment, version) => {
                li.active[legend.is_active(deployment.id)] {
                    p.head {
                        strong { "Assigned " (legend.version(version)) }
                        " by " (deployment.provenance.author) " · " (time) " · "
                        a href=(format!("{}#d-{}", WorkerTab::Deployments.path(legend.worker()), deployment.id)) {
                            (deployments::what(deployment).to_lowercase())
                        }
                    }
                    @if let Some(message) = &deployment.message { p.message { (message) } }
                }
            },
            What::Came(stay) => {
                li.quiet {
                    p.head {
                        "Came to memory on " (legend.version(stay.version)) " · " (time)
                        @if stay.starts > 1 { ", and " (figures::count((stay.starts - 1).into())) @if stay.starts == 2 { " time more, " } @else { " times more, last " } (parts::ago(stay.last_ms, now_ms)) }
                        @if stay.ended.is_none() { " · " span.on { "in memory" } }
                    }
                }
            },
            What::Left(stay, ended) => {
                li.quiet[ended.why.reset_index().is_none()] .reset[ended.why.reset_index().is_some()] {
                    p.head {
                        @if ended.why.reset_index().is_some() { strong { "Reset" } " on " } @else { "Left memory on " }
                        (legend.version(stay.version)) ": " (because(&ended.why)) " · " (time)
                    }
                }
            },
        }
    }
}

/// Why it left, in words.
fn because(why: &Left) -> String {
    match why {
        Left::Reassigned => "its version changed".to_owned(),
        Left::Failed(why) => format!("its code failed: {why}"),
        Left::StorageFailed => "the node’s storage failed; its log says why".to_owned(),
        Left::Superseded => "another instance of it has written".to_owned(),
        Left::Deleted => "what it had stored was deleted".to_owned(),
        Left::Asked => "somebody asked for it".to_owned(),
        Left::AlarmTooLong => "its alarm ran for too long".to_owned(),
        Left::Stopping => "the node stopped".to_owned(),
        Left::MadeRoom => "others needed its room".to_owned(),
        Left::Idle => "nothing happened in it".to_owned(),
    }
}

/// How its last alarm ended.
#[must_use]
pub(super) fn alarm(rang: Option<&Rang>, now_ms: u64) -> Markup {
    let Some(rang) = rang else { return html! { span.muted { "none since the node started, as far as is known" } } };
    html! {
        @match &rang.outcome {
            Outcome::Well => { "it rang" },
            Outcome::Failed(why) => { span.bad { "it failed" } ": " (why) },
            Outcome::Lost(why) => { "it was lost, and is brought again: " (why) },
        }
        ", " (parts::ago(rang.ended_ms, now_ms)) "; it was due at " (parts::moment(rang.due_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_a_deployment_stands_above_it() {
        let version = VersionId::from_random([1; 16]);
        let stay = Stay {
            version,
            first_ms: 10,
            last_ms: 10,
            starts: 1,
            ended: Some(Ended { at_ms: 20, why: Left::Reassigned }),
        };
        let next = Stay { first_ms: 20, ended: None, ..stay.clone() };
        let ended = stay.ended.as_ref().unwrap();
        let mut all = [What::Came(&next), What::Came(&stay), What::Left(&stay, ended)];
        all.sort_by_key(|what| std::cmp::Reverse(what.order()));
        assert_eq!(all.map(|what| what.order()), [(20, 2), (20, 1), (10, 2)]);
    }

    #[test]
    fn what_a_guest_said_is_no_markup() {
        let rang = Rang { due_ms: 1, ended_ms: 2, outcome: Outcome::Failed("<b>no</b>".to_owned()) };
        let told = alarm(Some(&rang), 3).0;
        assert!(told.contains("&lt;b&gt;no") && !told.contains("<b>"), "{told}");
        assert!(because(&Left::Failed("x".to_owned())).ends_with("failed: x"));
    }
}
