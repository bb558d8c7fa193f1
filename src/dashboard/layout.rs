//! What is around every page: head, header, the way back, a worker's tabs, footer.

use axum::response::Response;
use http::StatusCode;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::catalog::WorkerView;
use crate::dashboard::guard::FORM_SECRET;
use crate::dashboard::session::Session;
use crate::dashboard::{Dashboard, assets, figures, parts, refused};

/// A page of one who has signed in.
pub struct Page<'a> {
    /// In the browser's tab, before the name of the program.
    pub title: String,
    pub place: Place<'a>,
    /// Where its parts come from as they change.
    pub live: Option<String>,
    pub body: Markup,
}

/// Where a page stands.
pub enum Place<'a> {
    /// At the top: the page has a heading of its own.
    Top,
    /// Under a worker, whose name is the heading, and whose tabs are shown.
    Worker(&'a WorkerView, WorkerTab),
    /// Under a tab of a worker, with a name of its own, which is the heading.
    Below(&'a WorkerView, WorkerTab, String),
}

/// The pages about a worker, in the order of their tabs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerTab {
    Overview,
    Versions,
    Deployments,
    Rollout,
    Objects,
    Tail,
}

impl WorkerTab {
    const ALL: [Self; 6] =
        [Self::Overview, Self::Versions, Self::Deployments, Self::Rollout, Self::Objects, Self::Tail];

    fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Versions => "Versions",
            Self::Deployments => "Deployments",
            Self::Rollout => "Rollout",
            Self::Objects => "Objects",
            Self::Tail => "Tail",
        }
    }

    /// Whether the worker has anything for it.
    fn is_for(self, worker: &WorkerView) -> bool {
        self != Self::Objects || !worker.classes.by_name.is_empty()
    }

    /// The path of this tab of a worker. Names of workers need no escaping.
    #[must_use]
    pub fn path(self, worker: &WorkerView) -> String {
        let below = match self {
            Self::Overview => "",
            Self::Versions => "/versions",
            Self::Deployments => "/deployments",
            Self::Rollout => "/rollout",
            Self::Objects => "/objects",
            Self::Tail => "/tail",
        };
        format!("/workers/{}{below}", worker.name)
    }
}

impl Page<'_> {
    /// The answer to a browser.
    #[must_use]
    pub fn respond(self, dashboard: &Dashboard, session: &Session) -> Response {
        let now_ms = dashboard.clock.now_ms();
        let content = html! {
            (top(&self.place, self.live.as_deref(), session, now_ms))
            main #main tabindex="-1" {
                @match &self.place {
                    Place::Top => {},
                    Place::Worker(worker, tab) => {
                        h1 { (worker.name) }
                        (tabs(worker, *tab))
                    },
                    Place::Below(_, _, name) => { h1 { (name) } },
                }
                (self.body)
            }
            footer {
                p {
                    "Sluice " (env!("CARGO_PKG_VERSION"))
                    " · workers on " code { (dashboard.api.data_addr) }
                    " · made " (parts::moment(now_ms))
                }
            }
        };
        refused::found(document(&self.title, &content).into_string())
    }
}

/// The hidden field without which a form is refused. Every form has it.
#[must_use]
pub fn form_secret(session: &Session) -> Markup {
    html! { input type="hidden" name=(FORM_SECRET) value=(session.form_secret()); }
}

/// A page without a session: nothing on it tells of the node.
pub(super) fn bare(status: StatusCode, title: &str, body: &Markup) -> Response {
    let content = html! {
        header.top { (brand()) }
        main #main tabindex="-1" { (body) }
    };
    let mut response = refused::found(document(title, &content).into_string());
    *response.status_mut() = status;
    response
}

fn document(title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (title) " · Sluice" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="stylesheet" href=(assets::STYLE.path);
                link rel="icon" type="image/svg+xml" href=(assets::ICON.path);
                script defer src=(assets::SCRIPT.path) {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                (content)
            }
        }
    }
}

fn brand() -> Markup {
    html! {
        a.brand href="/" {
            (PreEscaped(r#"<svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true"><path class="gate" d="M3 2h2v16H3zM15 2h2v16h-2z"/><path class="flow" d="M5 9c2-2 3-2 5 0s3 2 5 0v3c-2 2-3 2-5 0s-3-2-5 0z"/></svg>"#))
            "Sluice"
        }
    }
}

fn top(place: &Place<'_>, live: Option<&str>, session: &Session, now_ms: u64) -> Markup {
    html! {
        header.top {
            (brand())
            nav.crumbs aria-label="Where you are" {
                ol {
                    @match place {
                        Place::Top => { li { a href="/" aria-current="page" { "Workers" } } },
                        Place::Worker(worker, WorkerTab::Overview) => {
                            li { a href="/" { "Workers" } }
                            li { a href=(WorkerTab::Overview.path(worker)) aria-current="page" { (worker.name) } }
                        },
                        Place::Worker(worker, tab) => {
                            li { a href="/" { "Workers" } }
                            li { a href=(WorkerTab::Overview.path(worker)) { (worker.name) } }
                            li { a href=(tab.path(worker)) aria-current="page" { (tab.name()) } }
                        },
                        Place::Below(worker, tab, name) => {
                            li { a href="/" { "Workers" } }
                            li { a href=(WorkerTab::Overview.path(worker)) { (worker.name) } }
                            li { a href=(tab.path(worker)) { (tab.name()) } }
                            li { span aria-current="page" { (name) } }
                        },
                    }
                }
            }
            @if let Some(stream) = live {
                p #live .live role="status" data-stream=(stream) {
                    "as of " time datetime=(figures::time(now_ms)) { (&figures::time(now_ms)[11..19]) } " UTC"
                }
            }
            form.sign-out method="post" action="/sign-out" {
                (form_secret(session))
                button type="submit" { "Sign out" }
            }
        }
    }
}

fn tabs(worker: &WorkerView, present: WorkerTab) -> Markup {
    html! {
        nav.tabs aria-label="Pages of this worker" {
            ul {
                @for tab in WorkerTab::ALL.into_iter().filter(|tab| tab.is_for(worker)) {
                    li { a href=(tab.path(worker)) aria-current=[(tab == present).then_some("page")] { (tab.name()) } }
                }
            }
        }
    }
}
