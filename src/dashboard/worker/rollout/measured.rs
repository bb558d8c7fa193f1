//! What a rollout's page says of the numbers: both versions side by side, and each guard with what it found and what it waits for.

use maud::{Markup, html};

use crate::catalog::WorkerView;
use crate::dashboard::legend::Legend;
use crate::dashboard::live::Part;
use crate::dashboard::worker::rollout::share_now;
use crate::dashboard::{figures, parts};
use crate::domain::evidence::{Finding, Judged};
use crate::domain::guard::Guard;
use crate::domain::id::VersionId;
use crate::domain::measures::{Counts, Measures};
use crate::rollouts::Status;

/// Evidence above this is not told more exactly.
const EVIDENCE_MAX: f64 = 1e9;

/// What both versions did since evidence is counted.
pub(super) fn compared(worker: &WorkerView, legend: &Legend<'_>, status: &Status, now_ms: u64) -> Part {
    let rollout = &status.rollout;
    let caption = "Both versions in this step";
    let table = |new: &Measures, old: &Measures| {
        html! {
            table.compared {
                caption.unseen { (caption) }
                thead {
                    tr {
                        th scope="col" { "Version" }
                        th.number scope="col" { "Share now" }
                        th.number scope="col" { "Requests" }
                        th.number scope="col" { "Errors" }
                        th.number scope="col" { "Error rate" }
                        th.number scope="col" { "p50" }
                        th.number scope="col" { "p99" }
                        th.number scope="col" { "CPU p50" }
                        th.number scope="col" { "CPU p99" }
                    }
                }
                tbody {
                    (row(worker, legend, "new", rollout.new, new))
                    (row(worker, legend, "old", rollout.old, old))
                }
            }
        }
    };
    let element = html! {
        section #compared aria-labelledby="compared-title" {
            h2 #compared-title { "Both versions in this step" }
            @match &status.window {
                Some((since_ms, counted)) => {
                    (parts::scrolling(caption, &table(&counted.new, &counted.old)))
                    p.note { "Counted since " (parts::moment(*since_ms)) ", " (parts::ago(*since_ms, now_ms)) ". Counting begins anew with each step, when it is resumed, and now and then in a long step." }
                },
                None => { p.muted { "Nothing of it is known any more: it was over before the node started." } },
            }
        }
    };
    Part::new("compared", element)
}

fn row(worker: &WorkerView, legend: &Legend<'_>, which: &str, id: VersionId, measures: &Measures) -> Markup {
    let counts = Counts { requests: measures.requests, errors: measures.errors };
    html! {
        tr {
            th scope="row" { (legend.tagged(id)) " " span.muted { (which) } }
            td.number { (share_now(worker, id).map_or_else(|| figures::NONE.to_owned(), figures::share)) }
            td.number { (figures::count(counts.requests)) }
            td.number.bad[counts.errors > 0] { (figures::count(counts.errors)) }
            td.number.bad[counts.errors > 0] { (figures::errors(counts)) }
            td.number { (figures::duration(measures.wall.quantile(0.5))) }
            td.number { (figures::duration(measures.wall.quantile(0.99))) }
            td.number { (figures::duration(measures.cpu.quantile(0.5))) }
            td.number { (figures::duration(measures.cpu.quantile(0.99))) }
        }
    }
}

/// Each guard with its finding.
pub(super) fn guards(status: &Status) -> Part {
    let caption = "Guards, what each found, and how many requests it takes";
    let table = html! {
        table.guards {
            caption.unseen { (caption) }
            thead {
                tr {
                    th scope="col" { "Guard" }
                    th scope="col" { "Finding" }
                    th scope="col" { "Requests of the new version" }
                    th scope="col" { "Measured" }
                    th.number scope="col" { "Evidence against it" }
                }
            }
            tbody {
                @if status.judged.is_empty() {
                    @for guard in status.rollout.plan.guards() { (unknown(*guard)) }
                }
                @for judged in &status.judged { (line(judged)) }
            }
        }
    };
    let element = html! {
        section #guards aria-labelledby="guards-title" {
            h2 #guards-title { "Guards" }
            (parts::scrolling(caption, &table))
            p.note { "A guard holds when there were enough requests and the new version is within the limit. Evidence above the bound breaks it; then the old version gets everything back at once." }
        }
    };
    Part::new("guards", element)
}

fn unknown(guard: Guard) -> Markup {
    html! {
        tr {
            th scope="row" { code { (guard) } }
            td.muted { "not known any more" }
            td { (figures::NONE) }
            td { (figures::NONE) }
            td.number { (figures::NONE) }
        }
    }
}

fn line(judged: &Judged) -> Markup {
    let (requests, needed) = (judged.new.requests, judged.needed);
    let words = format!("{} of {}", figures::count(requests.min(needed)), figures::count(needed));
    html! {
        tr {
            th scope="row" { code { (judged.guard) } }
            td { (finding(judged)) }
            td {
                (parts::progress(requests, needed, &format!("{words} requests that it takes")))
                span.split { (words) }
            }
            td { (judged) }
            td.number { (evidence(judged)) }
        }
    }
}

/// The word, with a sign that does not need its colour, and what is missing.
fn finding(judged: &Judged) -> Markup {
    html! {
        @match judged.finding {
            Finding::Holds => { strong.good { "✓ holds" } },
            Finding::Broken => { strong.bad { "✗ broken" } },
            Finding::NotEnoughData(lack) => { strong { "… not enough data" } span.split { (lack) } },
        }
    }
}

/// `0.4 of 1,600`: what there is, and what breaks the guard.
fn evidence(judged: &Judged) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for people, positive, and bounded")]
    let whole = |ln: f64| ln.exp().min(EVIDENCE_MAX).round() as u64;
    let bound = figures::count(whole(judged.broken_at_ln));
    if judged.evidence_ln < 10_f64.ln() {
        format!("{:.1} of {bound}", judged.evidence_ln.exp())
    } else {
        format!("{} of {bound}", figures::count(whole(judged.evidence_ln)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::evidence::{Lack, Pair, Window};

    #[test]
    fn a_guard_tells_what_it_found_and_what_it_waits_for() {
        let judged = Window::open(&Guard::defaults(), 1, Pair::default()).judge().remove(0);
        let waits = Judged { finding: Finding::NotEnoughData(Lack::New(1_088)), needed: 1_400, ..judged };
        let told = line(&waits).0;
        for part in ["error_rate&lt;+1%", "not enough data", "1,088 more requests of the new version", "0 of 1,400"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert_eq!(
            evidence(&Judged { evidence_ln: 0.4_f64.ln(), broken_at_ln: 1_600_f64.ln(), ..judged }),
            "0.4 of 1,600"
        );
        let high = Judged { evidence_ln: 900.0, broken_at_ln: 1_600_f64.ln(), ..judged };
        assert_eq!(evidence(&high), "1,000,000,000 of 1,600");
        assert!(finding(&Judged { finding: Finding::Broken, ..judged }).0.contains("broken"));
    }
}
