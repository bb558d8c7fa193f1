//! Events for Durable Objects: requests by stub or by address, and alarms. The object's assignment has decided their version.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either};
use tokio::sync::oneshot;

use crate::dispatch::open::Open;
use crate::dispatch::{Answered, Content, Dispatcher};
use crate::domain::id::WorkerName;
use crate::domain::limits::{ALARM_WALL_MAX, OBJECT_DELIVERIES_MAX};
use crate::domain::object::{ClassName, ObjectNamespaceId};
use crate::domain::outcome::{Blame, Conclusion, Outcome};
use crate::engine::live::{Fetched, Rung};
use crate::engine::response::Promised;
use crate::host::Body;
use crate::host::call::Lineage;
use crate::host::object::{Address, Reset};
use crate::host::ports::{ObjectCaller, ObjectError, ObjectTarget};
use crate::objects;
use crate::objects::alarms::{Ended, Ringer};
use crate::objects::home::{Begun, Over};
use crate::observe::record::ObjectEvent;

/// What an event for an object is, to whoever reads its record.
const ALARM: &str = "ALARM";

impl ObjectCaller for Dispatcher {
    fn namespace(&self, worker: &WorkerName, class: &ClassName) -> Result<ObjectNamespaceId, String> {
        self.objects.namespace(worker, class)
    }

    #[expect(clippy::async_yields_async, reason = "the answer is for whoever has its place among the events")]
    fn send(
        &self,
        target: ObjectTarget,
        request: http::Request<Body>,
        lineage: Lineage,
    ) -> BoxFuture<'static, BoxFuture<'static, Result<http::Response<Body>, ObjectError>>> {
        let Some(this) = self.this.upgrade() else {
            return async { async { Err(objects::stopping()) }.boxed() }.boxed();
        };
        async move {
            let (placed, has_place) = oneshot::channel();
            let mut answer = async move { this.call_object(target, request, lineage, placed).await }.boxed();
            // Until the object has the request in its queue, or it is known that it never will.
            match futures_util::future::select(answer.as_mut(), has_place).await {
                Either::Left((result, _)) => std::future::ready(result).boxed(),
                Either::Right(_) => answer,
            }
        }
        .boxed()
    }
}

impl Dispatcher {
    /// Brings `request` to an object, and to the next instance of it if one ended before it had begun with it (`DOU-6`).
    async fn call_object(
        self: Arc<Self>,
        target: ObjectTarget,
        mut request: http::Request<Body>,
        mut lineage: Lineage,
        placed: oneshot::Sender<()>,
    ) -> Result<http::Response<Body>, ObjectError> {
        let worker = self.objects.owner(&target.address)?;
        let mut open = Open::new(&self, &worker, &mut request, &mut lineage);
        let result = self.fetch_of_object(&target, request, lineage, placed, &mut open).await;
        match result {
            Ok(response) => {
                open.status = Some(response.status().as_u16());
                let (head, body) = response.into_parts();
                let promised = Promised::of(&open.method, &head, &body);
                let body = Answered { body: Content::Object(body), promised, open };
                Ok(http::Response::from_parts(head, http_body_util::BodyExt::boxed_unsync(body)))
            }
            Err(error) => {
                open.failure = Some(conclusion_of(&error));
                Err(error)
            }
        }
    }

    async fn fetch_of_object(
        &self,
        target: &ObjectTarget,
        mut request: http::Request<Body>,
        lineage: Lineage,
        placed: oneshot::Sender<()>,
        open: &mut Open,
    ) -> Result<http::Response<Body>, ObjectError> {
        if lineage.waiting_objects.contains(&target.address) {
            return Err(objects::waits_for_itself());
        }
        let mut placed = Some(placed);
        let mut last = objects::overloaded("Durable Object could not be reached: it is reset again and again.");
        for _ in 0..OBJECT_DELIVERIES_MAX {
            let home = self.objects.home(target).await?;
            let call = open.account_at(&home, ObjectEvent::Fetch, &lineage);
            let fetched = match home.fetch(request, &call) {
                Ok(event) => {
                    if let Some(placed) = placed.take() {
                        let _ = placed.send(());
                    }
                    event.outcome().await?
                }
                // It has ended already: an object can fail faster than its caller comes.
                Err(Ok(back)) => Some(Fetched::NotBegun(back)),
                Err(Err(error)) => return Err(error),
            };
            match fetched {
                Some(Fetched::Answered(answer)) => {
                    home.note_progress();
                    return answer.map_err(|failure| {
                        call.conclude(failure.conclusion());
                        objects::remote(&failure)
                    });
                }
                Some(Fetched::NotBegun(back)) => {
                    let over = home.over().await;
                    last = over.to_error(Begun::No);
                    if !last.retryable {
                        return Err(last);
                    }
                    request = back;
                }
                None => return Err(home.over().await.to_error(Begun::Yes)),
            }
        }
        Err(last)
    }

    async fn ring_object(self: Arc<Self>, address: Address) -> Ended {
        let Ok(worker) = self.objects.owner(&address) else { return Ended::Lost(None) };
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = http::uri::PathAndQuery::try_from(format!("/{}", address.id)).ok();
        let mut event = http::Request::new(empty());
        *event.uri_mut() = http::Uri::from_parts(uri).unwrap_or_default();
        if let Ok(method) = http::Method::from_bytes(ALARM.as_bytes()) {
            *event.method_mut() = method;
        }
        let mut lineage = Lineage::of_itself(address.fork);
        let mut open = Open::new(&self, &worker, &mut event, &mut lineage);
        let target = ObjectTarget { address, name: None };
        let home = match self.objects.home(&target).await {
            Ok(home) => home,
            Err(error) => {
                open.failure = Some(conclusion_of(&error));
                return Ended::Lost(None);
            }
        };
        let call = open.account_at(&home, ObjectEvent::Alarm, &lineage);
        let Ok(rung) = tokio::time::timeout(ALARM_WALL_MAX, home.ring(&call)).await else {
            home.object.reset(Reset::AlarmTooLong);
            home.over().await;
            open.failure = Some(conclusion_of(&Over::Reset(Reset::AlarmTooLong).to_error(Begun::Yes)));
            return Ended::Lost(Some(Reset::AlarmTooLong));
        };
        open.whole = true;
        match rung {
            Ok(Rung::Ran(Ok(()))) => {
                home.note_progress();
                (open.status, open.whole) = (Some(200), true);
                Ended::Noted(Ok(()))
            }
            Ok(Rung::Ran(Err(message))) => {
                home.note_progress();
                open.failure = Some(Conclusion {
                    outcome: Outcome::Exception,
                    blame: Some(Blame::Guest),
                    message: format!("the alarm failed: {message}"),
                });
                Ended::Noted(Err(message))
            }
            Ok(Rung::Nothing) => {
                open.status = Some(200);
                Ended::Nothing
            }
            Ok(Rung::NotBegun) | Err(_) => {
                let begun = if rung.is_err() { Begun::Yes } else { Begun::No };
                let over = home.over().await;
                open.failure = Some(conclusion_of(&over.to_error(begun)));
                Ended::Lost(over.reset_of_guest())
            }
        }
    }
}

impl Ringer for Dispatcher {
    fn ring(&self, address: Address) -> BoxFuture<'static, Ended> {
        match self.this.upgrade() {
            Some(this) => this.ring_object(address).boxed(),
            None => async { Ended::Lost(None) }.boxed(),
        }
    }
}

fn empty() -> Body {
    use http_body_util::BodyExt as _;
    http_body_util::Empty::new().map_err(|never: std::convert::Infallible| match never {}).boxed_unsync()
}

/// What the record of an object's event says of an error.
fn conclusion_of(error: &ObjectError) -> Conclusion {
    let (outcome, blame) = match (error.remote, error.overloaded) {
        (true, _) => (Outcome::Exception, Blame::Guest),
        (false, true) => (Outcome::Unknown, Blame::Host),
        (false, false) if error.reset => (Outcome::Canceled, Blame::Host),
        (false, false) => (Outcome::Exception, Blame::Caller),
    };
    Conclusion { outcome, blame: Some(blame), message: error.message.clone() }
}
