//! The effect of a deployment, shown before it is made: what is deployed now and then, how much traffic moves, which objects move and
//! when they are reset, and what speaks against it. All of it is the API's answer to a dry run.

use std::fmt::Display;

use http::StatusCode;
use maud::{Markup, html};

use crate::catalog::{Force, WorkerView};
use crate::control::wire::{CodeUpdateStrategy, Deployment, ObjectMove, ObjectPlan};
use crate::dashboard::call::Refused;
use crate::dashboard::legend::Legend;
use crate::dashboard::worker::deployments;
use crate::dashboard::worker::wish::Wish;
use crate::dashboard::{figures, parts};
use crate::domain::deployment::CodeUpdate;
use crate::domain::limits::SLOTS;
use crate::domain::split::{Share, Split};

/// The API's code for secrets that would get older values (`control/codes.md`).
const SECRETS_CHANGED: u32 = 10220;
/// Objects that are named.
const NAMED_MAX: usize = 10;

/// What the deployment would do.
#[must_use]
pub fn effect(worker: &WorkerView, wish: &Wish, split: &Split, plan: &Deployment) -> Markup {
    let legend = Legend::with(worker, split);
    let before = worker.active.as_ref().map(|active| &active.split);
    let facts = plan.sluice.as_ref();
    let moved = facts.map_or(0, |facts| facts.moved_slots);
    html! {
        div.bars {
            span.what { "now" }
            @match &worker.active {
                Some(active) => { (legend.bar(active)) },
                None => { span.muted { "nothing is deployed" } },
            }
            span.what { "then" }
            (legend.split_bar(split, "Then"))
        }
        ul.moves {
            @for (version, from, to) in deployments::moves(before, split) {
                li { (legend.tagged(version)) " " (deployments::shift(from, to)) }
            }
        }
        p.traffic-moves {
            @if before.is_none() { "It is the first deployment: requests to this worker are answered from then on." }
            @else if moved == 0 { "No slot moves: every request goes where it goes now." }
            @else {
                strong { (figures::count(moved.into())) " of " (figures::count(SLOTS.into())) " slots" }
                " move: " (figures::share(Share::from_slots(moved))) " of the traffic gets another version."
            }
        }
        @if let Some(objects) = facts.and_then(|facts| facts.objects.as_ref()) {
            @if objects.objects > 0 || !worker.classes.by_name.is_empty() {
                (of_objects(&legend, objects, plan.code_update_strategy))
            }
        }
        @if wish.force == Force::Yes {
            p.warning { "By force: values of secrets that were changed since become live again where this brings back an older version." }
        }
    }
}

fn of_objects(legend: &Legend<'_>, plan: &ObjectPlan, strategy: Option<CodeUpdateStrategy>) -> Markup {
    let update = strategy.and_then(CodeUpdateStrategy::update).unwrap_or(CodeUpdate::Immediate);
    let about = if plan.is_estimate { "about " } else { "" };
    let version = |id: &str| match id.parse() {
        Ok(id) => legend.version(id),
        Err(_) => html! { code { (id) } },
    };
    html! {
        p {
            @if plan.objects == 0 { "There are no Durable Objects yet." }
            @else if plan.moving == 0 { "Durable Objects: " (about) (figures::count(plan.objects)) ", none changes its version." }
            @else {
                "Durable Objects: " strong { (about) (figures::count(plan.moving)) " of " (about) (figures::count(plan.objects)) }
                " change their version: "
                @for (index, moves) in plan.moves.iter().enumerate() {
                    @if index > 0 { ", " }
                    (about) (figures::count(moves.objects)) " from " (version(&moves.from)) " to " (version(&moves.to))
                }
                ". " (update.resets_in_words(plan.live_moving))
                @if plan.live_moving > 0 { " What they have written stays." }
            }
        }
        @if !plan.sample.is_empty() {
            details {
                summary { "Which objects" }
                ul.imports {
                    @for one in plan.sample.iter().take(NAMED_MAX) {
                        li { (name(one)) ": " (version(&one.from)) " → " (version(&one.to)) @if one.live { ", in memory" } }
                    }
                    @let rest = plan.moving.saturating_sub(plan.sample.len().min(NAMED_MAX) as u64);
                    @if rest > 0 { li.muted { "and " (about) (figures::count(rest)) " more" } }
                }
            }
        }
    }
}

fn name(one: &ObjectMove) -> Markup {
    html! {
        (one.class_name) " "
        @match &one.name {
            Some(name) => { strong { (name) } },
            None => { (parts::id(&one.id)) },
        }
    }
}

/// Why it was refused, in the API's words.
#[must_use]
pub fn refusal(title: impl Display, refused: &Refused) -> Markup {
    html! {
        div.problem role="alert" {
            p { strong { (title) } }
            @for error in &refused.errors { p { (error.message) } }
        }
    }
}

/// Whether it was refused for secrets that would get older values, which can be overruled.
#[must_use]
pub fn is_for_secrets(refused: &Refused) -> bool {
    refused.is_for(SECRETS_CHANGED)
}

/// Whether somebody else has deployed since the effect was shown.
#[must_use]
pub fn is_outdated(refused: &Refused) -> bool {
    refused.status == StatusCode::PRECONDITION_FAILED
}

/// Who has deployed meanwhile, and what.
#[must_use]
pub fn meanwhile(worker: &WorkerView, now_ms: u64) -> Markup {
    let legend = Legend::of(worker);
    html! {
        div.problem role="alert" {
            p { strong { "Someone deployed meanwhile. Nothing was overwritten." } }
            @if let Some(active) = &worker.active {
                p {
                    (deployments::what(active)) " by " (active.provenance.author) " via " (active.provenance.source.as_str())
                    " · " (parts::ago(active.created_ms, now_ms)) " · " (parts::id(&active.id.to_string()))
                    " · " (legend.words(active.split.entries()))
                }
                @if let Some(message) = &active.message { p.message { (message) } }
            }
            p { "Below is what your deployment would do now. Confirm it once more, or leave it." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_refusal_says_is_no_markup() {
        let made = refusal("No", &Refused::by_us("<script>x</script>")).0;
        assert!(made.contains("&lt;script&gt;") && !made.contains("<script"), "{made}");
    }
}
