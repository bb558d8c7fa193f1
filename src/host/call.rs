//! One request's account: what it used, what it printed, and what it may still use. Shared by the guest's host functions, which
//! write it, and by whoever answers the client, who reads it into the request's record.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::domain::config::RequestLimits;
use crate::domain::id::VersionId;
use crate::domain::limits::{CALL_DEPTH_MAX, CALLS_PER_REQUEST_MAX};
use crate::domain::outcome::Conclusion;
use crate::host::logs::Lines;
use crate::host::object::Address;
use crate::observe::otlp::Trace;

/// Where a request stands among the calls from worker to worker that one client's request has led to.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    /// Calls that lie around this one; 0 for a client's request.
    pub depth: u8,
    /// Where that client's request came from, if one did.
    pub client: Option<IpAddr>,
    /// The version whose own copies of objects are meant, if the client asked one version for itself (E19).
    pub fork: Option<VersionId>,
    /// Objects without async that lie around this call: one that comes back to them would wait for itself.
    pub waiting_objects: Vec<Address>,
    /// The span of this request, if requests have spans.
    pub trace: Option<Arc<Trace>>,
    /// Calls that may still be made for the client's request, however they branch. Made with the first of them.
    calls_left: OnceLock<Arc<AtomicU32>>,
}

impl Lineage {
    /// The place of a request that a client makes.
    #[must_use]
    pub fn of_client(address: IpAddr) -> Self {
        Self { client: Some(address), ..Self::default() }
    }

    /// The place of an event that nobody asked for, such as an alarm, of an object of `fork`.
    #[must_use]
    pub fn of_itself(fork: Option<VersionId>) -> Self {
        Self { fork, ..Self::default() }
    }

    /// The place of a call that is made from here by `request`, which is told whose call it is; or none if there are too many of them
    /// already: too deep, or too many in all.
    #[must_use]
    pub fn child<B>(&self, request: &mut http::Request<B>) -> Option<Self> {
        let calls_left = self.calls_left.get_or_init(|| Arc::new(AtomicU32::new(CALLS_PER_REQUEST_MAX)));
        if self.depth >= CALL_DEPTH_MAX {
            return None;
        }
        let taken = calls_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.ok()?;
        if let Some(trace) = &self.trace {
            trace.call(request.headers_mut());
        }
        let (fork, waiting_objects) = (self.fork, self.waiting_objects.clone());
        let calls_left = OnceLock::from(Arc::clone(calls_left));
        Some(Self { depth: self.depth + 1, client: self.client, fork, waiting_objects, trace: None, calls_left })
    }
}

/// What a 0.2 guest answers: a head with a body to come, or its own error.
pub type Head = Result<http::Response<HyperOutgoingBody>, ErrorCode>;

/// The account of one request.
pub struct Call {
    pub lineage: Lineage,
    pub limits: RequestLimits,
    cpu_ns: AtomicU64,
    memory_bytes: AtomicU64,
    subrequests: AtomicU32,
    /// Requests that the instance had served before this one.
    reused: AtomicU32,
    lines: Mutex<Lines>,
    conclusion: OnceLock<Conclusion>,
    /// What a 0.2 guest has answered, until it is taken. It is here because an account is there for each request anyhow.
    head: Mutex<Option<Head>>,
    /// Who waits for it, where the guest runs elsewhere.
    answered: AtomicWaker,
}

impl Call {
    /// A fresh account.
    #[must_use]
    pub fn new(lineage: Lineage, limits: RequestLimits) -> Self {
        Self {
            lineage,
            limits,
            cpu_ns: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            subrequests: AtomicU32::new(0),
            reused: AtomicU32::new(0),
            lines: Mutex::default(),
            conclusion: OnceLock::new(),
            head: Mutex::default(),
            answered: AtomicWaker::new(),
        }
    }

    /// Takes one subrequest from what is left. False if nothing is.
    pub fn take_subrequest(&self) -> bool {
        self.subrequests.fetch_add(1, Ordering::Relaxed) < self.limits.subrequests
    }

    /// Outgoing requests so far.
    #[must_use]
    pub fn subrequests(&self) -> u32 {
        self.subrequests.load(Ordering::Relaxed).min(self.limits.subrequests)
    }

    /// Adds time that the guest ran, in nanoseconds.
    pub fn add_cpu_ns(&self, ns: u64) {
        self.cpu_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Time that the guest ran for this request, in nanoseconds.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed)
    }

    /// Notes how much linear memory the instance has.
    pub fn set_memory_bytes(&self, bytes: u64) {
        self.memory_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Linear memory of the instance when it was last noted.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// Notes how many requests the instance had served before.
    pub fn set_reused(&self, count: u32) {
        self.reused.store(count, Ordering::Relaxed);
    }

    /// Requests that the instance had served before this one.
    #[must_use]
    pub fn reused(&self) -> u32 {
        self.reused.load(Ordering::Relaxed)
    }

    /// Notes how the request ended. The first note counts: what follows from it is no news.
    pub fn conclude(&self, conclusion: Conclusion) {
        let _ = self.conclusion.set(conclusion);
    }

    /// How the request ended, if something other than success was noted.
    #[must_use]
    pub fn conclusion(&self) -> Option<&Conclusion> {
        self.conclusion.get()
    }

    /// What the guest printed.
    pub fn with_lines<T>(&self, f: impl FnOnce(&mut Lines) -> T) -> T {
        f(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The guest answers.
    pub fn answer(&self, head: Head) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
        self.answered.wake();
    }

    /// Lets [`Self::answer`] wake the task of `cx`, from now on.
    pub fn wait_for_head(&self, cx: &Context<'_>) {
        self.answered.register(cx.waker());
    }

    /// What the guest has answered since this was last asked.
    #[must_use]
    pub fn take_head(&self) -> Option<Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
