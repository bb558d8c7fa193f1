//! Every bound in one table: what it is, its unit, and why it is that much.
//!
//! A limit that a user can meet is named in the message that refuses them; the README's table repeats those.

use std::time::Duration;

// --- Splits and slots ---

/// Slots of a worker's traffic: a thousandth of a percent each, the finest share wrangler sends.
pub const SLOTS: u32 = 100_000;
/// Versions in one deployment. Cloudflare takes 2; more cost us nothing, and 20 still fit a screen.
pub const DEPLOYMENT_VERSIONS_MAX: usize = 20;
/// How far from 100 % the sum of a split may be, in thousandths of a percent: what wrangler tolerates (`DEP-4`).
pub const SPLIT_SUM_TOLERANCE_MILLI: i64 = 1;

// --- Versions ---

/// Versions of a worker that can be put in a new deployment: the newest this many (`VER-9`).
pub const DEPLOYABLE_VERSIONS: usize = 100;
/// Bytes of `workers/message`; longer ones are cut, not refused (`VER-7`).
pub const MESSAGE_BYTES_MAX: usize = 1000;
/// Bytes of `workers/tag`; longer ones are refused (`VER-7`).
pub const TAG_BYTES_MAX: usize = 100;
/// Bytes of an uploaded module, as Cloudflare's.
pub const MODULE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of code from which on a component is compiled by its template: below, compiling takes less than a second, and whole
/// pages of data would be most of the artifact.
pub const TEMPLATE_CODE_BYTES_MIN: u64 = 1024 * 1024;
/// Bytes of compiled code on disk, unless `--artifact-cache` says otherwise: a hundred JavaScript modules take that much, or
/// thirty thousand small ones.
pub const ARTIFACT_CACHE_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// Compiled code that no version has, or that another wasmtime made, goes after so long without use.
pub const ARTIFACT_STALE_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Bytes of a whole upload: the module, and what wrangler sends beside it.
pub const UPLOAD_BYTES_MAX: u64 = 80 * 1024 * 1024;
/// Bytes of an upload's `metadata` part: 128 values of 5 KiB and room for the rest.
pub const METADATA_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Parts of an upload: wrangler sweeps whole folders in, and each part costs a file.
pub const UPLOAD_PARTS_MAX: usize = 1000;
/// Bytes of any other body of the control API.
pub const API_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

// --- Rollouts ---

/// Steps of a rollout: as many as a person follows.
pub const ROLLOUT_STEPS_MAX: usize = 20;
/// How long a step stands at the least: shorter ones could not be told from a deployment.
pub const ROLLOUT_EVERY_MIN: Duration = Duration::from_secs(1);
/// And at the most, before a step may follow.
pub const ROLLOUT_EVERY_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Guards of a rollout: each makes the others a little slower to judge.
pub const ROLLOUT_GUARDS_MAX: usize = 10;
/// What a rollout's record tells of what happened; the oldest is forgotten first.
pub const ROLLOUT_EVENTS_MAX: usize = 100;

// --- Names ---

/// One label of a DNS name (RFC 1035).
pub const DNS_LABEL_CHARS_MAX: usize = 63;
/// A worker's name is a label of its host.
pub const WORKER_NAME_CHARS_MAX: usize = DNS_LABEL_CHARS_MAX;
/// A binding's name; Cloudflare names no limit, a screen has one.
pub const BINDING_NAME_CHARS_MAX: usize = 128;
/// Workers on one node, as many as Cloudflare's paid accounts twice over: bounds what a view holds.
pub const WORKERS_MAX: usize = 1000;
/// Aliases kept for a worker; the least recently uploaded is dropped (`URL-3`).
pub const ALIASES_MAX: usize = 1000;
/// Routes and custom domains of a worker.
pub const ROUTES_MAX: usize = 1000;

// --- Configuration ---

/// Bindings of a version, vars and secrets included (Cloudflare: 128 variables).
pub const BINDINGS_MAX: usize = 256;
/// Bytes of a variable or a secret (Cloudflare's).
pub const VALUE_BYTES_MAX: usize = 5 * 1024;
/// Secrets in one bulk call (`SEC-6`).
pub const SECRETS_BULK_MAX: usize = 100;

// --- KV ---

/// Bytes of a key (Cloudflare's).
pub const KV_KEY_BYTES_MAX: usize = 512;
/// Bytes of a value (Cloudflare's: 25 MiB).
pub const KV_VALUE_BYTES_MAX: u64 = 25 * 1024 * 1024;
/// Bytes of the JSON that is kept with a value (Cloudflare's).
pub const KV_METADATA_BYTES_MAX: usize = 1024;
/// Bytes of a namespace's title (Cloudflare's).
pub const KV_TITLE_BYTES_MAX: usize = 512;
/// Namespaces of a node, as many as Cloudflare's accounts have: bounds what a listing holds.
pub const KV_NAMESPACES_MAX: usize = 1000;
/// The shortest life that can be asked for (Cloudflare's). Absolute times lie as far ahead.
pub const KV_LIFE_MIN: Duration = Duration::from_secs(60);
/// Keys in one page of a list (Cloudflare's).
pub const KV_LIST_MAX: usize = 1000;
/// Keys in one bulk call (Cloudflare's; wrangler sends 1,000).
pub const KV_BULK_KEYS_MAX: usize = 10_000;
/// Bytes of one bulk call, on its way in or out (Cloudflare's: 100 MB): it is in memory as a whole.
pub const KV_BULK_BYTES_MAX: usize = 100 * 1000 * 1000;

// --- Objects ---

/// Characters of a class name.
pub const CLASS_NAME_CHARS_MAX: usize = 255;
/// Bytes of an object's key (`DOS-10`).
pub const OBJECT_KEY_BYTES_MAX: usize = 2 * 1024;
/// Bytes of a value (`DOS-10`).
pub const OBJECT_VALUE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Keys, or pairs, in one call of an object's storage (`DOS-1`).
pub const OBJECT_KEYS_PER_CALL_MAX: usize = 128;
/// Keys and values of one object together (`DOS-10`).
pub const OBJECT_BYTES_MAX: u64 = 10 * 1024 * 1024 * 1024;
/// Keys and values written with no await between them: they are one commit, which has a limit of its own.
pub const OBJECT_BATCH_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Keys and values of one list: it is in memory twice, here and in the guest.
pub const OBJECT_LIST_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What of an object's storage is kept in memory while the object is, unless more of it waits to become durable.
pub const OBJECT_CACHE_BYTES: usize = 1024 * 1024;
/// Events that may wait for one object; the next is told that it is overloaded (`DOL-11`).
pub const OBJECT_QUEUE_MAX: usize = 1_000;
/// How long an event may wait before it is told that the object is overloaded (`DOL-11`).
pub const OBJECT_QUEUE_WALL_MAX: Duration = Duration::from_secs(30);
/// Wall time of an object's start (`DOL-6`).
pub const OBJECT_OPEN_WALL_MAX: Duration = Duration::from_secs(30);
/// How long an object without events stays in memory, unless `--object-idle` says otherwise (`DOL-2`).
pub const OBJECT_IDLE: Duration = Duration::from_secs(10);
/// How long one that goes on by itself does (`DOL-3`).
pub const OBJECT_BACKGROUND_IDLE: Duration = Duration::from_secs(70);
/// Objects in memory at once, unless `--live-objects` says otherwise: each takes mappings, of which a process has 65,530.
pub const LIVE_OBJECTS: u32 = 2_000;
/// From so many on memories are packed: without the address space that spares code its bounds checks, and without images that
/// are mapped into them.
pub const LIVE_OBJECTS_PACKED: u32 = 4_000;
/// The most that `--live-objects` may say: more mappings than that a process has not.
pub const LIVE_OBJECTS_MAX: u32 = 12_000;
/// Objects of which a node remembers what happened to them since it started: at most some MiB.
pub const OBJECT_PASTS_MAX: usize = 10_000;
/// What is remembered of each: times in memory, of which those that ended with nothing but rest are one.
pub const OBJECT_STAYS_MAX: usize = 20;
/// Objects of a class that a page, or a deployment's plan, counts exactly; the number of more is told from these.
pub const OBJECTS_COUNTED_MAX: usize = 10_000;
/// How long a version's own copy of its worker's objects is kept, which its version host makes (E19).
pub const FORK_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Wall time of one run of an alarm (`ALM-2`).
pub const ALARM_WALL_MAX: Duration = Duration::from_secs(15 * 60);
/// Times that an alarm which failed is tried again (`ALM-4`).
pub const ALARM_RETRIES_MAX: u32 = 6;
/// Milliseconds until the first of them.
pub const ALARM_RETRY_MS: u64 = 2_000;
/// Alarms that ring at once.
pub const ALARMS_AT_ONCE: usize = 64;
/// Times that an event which an object had not begun is brought to the next instance (`DOU-6`).
pub const OBJECT_DELIVERIES_MAX: u32 = 5;
/// Classes of a worker, and names that its classes had before (Cloudflare: 500 classes for an account).
pub const CLASSES_MAX: usize = 500;

// --- Running ---

/// Linear memory of an instance; part of the engine's configuration (`--guest-memory`).
pub const GUEST_MEMORY_BYTES: u64 = 128 * 1024 * 1024;
/// CPU time of a request, unless `limits.cpu_ms` says less.
pub const CPU_TIME_MAX: Duration = Duration::from_secs(30);
/// CPU time of a start-up (`UPL-5`).
pub const STARTUP_CPU_MAX: Duration = Duration::from_secs(1);
/// Wall time until the head of a response.
pub const RESPONSE_HEAD_WALL_MAX: Duration = Duration::from_secs(60);
/// Wall time until a peer that a guest called has begun its response, unless the guest says otherwise: below the guest's own
/// limit, so that a silent peer is an error that the guest can answer, and not the guest's failure.
pub const OUTGOING_HEAD_WALL_MAX: Duration = Duration::from_secs(50);
/// Wall time until a connection to a peer stands.
pub const CONNECT_WALL_MAX: Duration = Duration::from_secs(10);
/// Wall time without progress on a body; one that moves may go on for ever.
pub const BODY_IDLE_MAX: Duration = Duration::from_secs(60);
/// Wall time that a guest may go on after its response has ended.
pub const AFTER_RESPONSE_MAX: Duration = Duration::from_secs(30);
/// Outgoing requests of one request, unless `limits.subrequests` says less.
pub const SUBREQUESTS_MAX: u32 = 1000;
/// Calls from worker to worker, one inside the other. Cloudflare's limit on nested calls is of this order.
pub const CALL_DEPTH_MAX: u8 = 16;
/// Calls from worker to worker for one client's request, however they branch: depth alone would allow two to its power.
pub const CALLS_PER_REQUEST_MAX: u32 = 1000;
/// Bytes of a response's header section.
pub const RESPONSE_HEADER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a request's header section (Cloudflare: 128 KiB), and the buffer that reads it.
pub const REQUEST_HEADER_BYTES_MAX: usize = 128 * 1024;
/// Header fields of a request over HTTP/1.1: hyper's own limit. With any other, hyper fills two lists of that length for each request:
/// at 256, 16 KiB.
pub const REQUEST_HEADERS_MAX: usize = 100;
/// Time a client may take to send a request's header section.
pub const REQUEST_HEADER_WALL_MAX: Duration = Duration::from_secs(15);
/// Connections to the data listener at once: each costs a file descriptor and some kernel memory.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Requests at once in one HTTP/2 connection.
pub const HTTP2_STREAMS_MAX: u32 = 250;
/// What a request may print, standard output and error together.
pub const LOG_BYTES_MAX: usize = 1024 * 1024;
/// The longest line a guest may print before it is broken.
pub const LOG_LINE_BYTES_MAX: usize = 16 * 1024;
/// A request log that has grown to this is put aside, unless `--request-log-max-size` says otherwise.
pub const REQUEST_LOG_BYTES_MAX: u64 = 100 * 1024 * 1024;
/// Requests of one version that run at once; more wait for a permit.
pub const VERSION_PERMITS: usize = 512;
/// Requests of one version that may wait for a permit; the next is told to come back.
pub const VERSION_QUEUE_MAX: usize = 4096;
/// How long a request waits for a permit or an instance before it is told to come back.
pub const PERMIT_WAIT_MAX: Duration = Duration::from_secs(10);
/// Requests that one reused 0.3 instance takes at once.
pub const INSTANCE_CONCURRENCY: usize = 16;
/// Requests that an instance serves before it is replaced: bounds what a leaking guest can keep.
pub const INSTANCE_REUSE_MAX: u32 = 100_000;
/// Instances of all versions at once, unless `--instances` says otherwise: each costs address space, not memory, until used.
pub const INSTANCES: u32 = 1000;

// --- Traces and metrics over OTLP ---

/// Spans that may wait to be sent, unless `OTEL_BSP_MAX_QUEUE_SIZE` says otherwise: OpenTelemetry's own number.
pub const SPANS_WAITING_MAX: usize = 2048;
/// The most that it may say: each place costs its memory from the start.
pub const SPANS_WAITING_SETTABLE: usize = 100_000;
/// Spans that are sent at once, unless `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` says otherwise.
pub const SPAN_BATCH: usize = 512;
/// How long a span waits for others, unless `OTEL_BSP_SCHEDULE_DELAY` says otherwise.
pub const SPAN_BATCH_EVERY: Duration = Duration::from_secs(5);
/// How often metrics are sent, unless `OTEL_METRIC_EXPORT_INTERVAL` says otherwise.
pub const METRICS_EXPORT_EVERY: Duration = Duration::from_secs(60);
/// How long a collector may take, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
pub const OTLP_WALL_MAX: Duration = Duration::from_secs(10);
/// Bytes of a collector's answer.
pub const OTLP_ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How long a node that stops waits for its collector.
pub const OTLP_FLUSH_MAX: Duration = Duration::from_secs(3);
/// The same, for a collector that took nothing the last time.
pub const OTLP_FLUSH_IN_VAIN_MAX: Duration = Duration::from_millis(500);
/// Lines that a guest printed, on one span, and their bytes: with these, all spans that wait take 64 MiB at the very most.
pub const SPAN_LINES_MAX: usize = 128;
pub const SPAN_LINES_BYTES_MAX: usize = 16 * 1024;
/// Bytes of any other text on a span.
pub const SPAN_TEXT_BYTES_MAX: usize = 4 * 1024;

// --- The dashboard ---

/// How long one stays signed in: a working day.
pub const DASHBOARD_SESSION_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// Browsers that are signed in at once; with one more the oldest session ends.
pub const DASHBOARD_SESSIONS_MAX: usize = 64;
/// Uploads that wait to be confirmed, of all sessions: each may hold a module's bytes on the disk. With one more the oldest goes.
pub const DASHBOARD_UPLOADS_MAX: usize = 8;
/// How long one waits: to read what it would do, not to sleep over it.
pub const DASHBOARD_UPLOAD_LIFE: Duration = Duration::from_secs(15 * 60);
/// Bytes of a configuration file that is dropped on the dashboard; it has the place of an upload's metadata.
pub const CONFIGURATION_BYTES_MAX: u64 = METADATA_BYTES_MAX;
/// What a session's cookie is called. Browsers do not tell ports apart, so they show it to workers of the same host too, where it has
/// to be taken away.
pub const DASHBOARD_COOKIE: &str = "sluice-session";

// --- Benchmarks ---

/// Compiled code that `bench` keeps from one run to the next, in the user's cache: a dozen JavaScript components.
pub const BENCH_CACHE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Instances that one version may have of a node's `instances`: half, so that one version cannot starve another.
#[must_use]
pub fn version_instances_max(instances: u32) -> usize {
    (instances as usize / 2).max(1)
}

const _: () = assert!(MODULE_BYTES_MAX < UPLOAD_BYTES_MAX);
const _: () = assert!(KV_VALUE_BYTES_MAX < KV_BULK_BYTES_MAX as u64);
const _: () = assert!(SPAN_BATCH <= SPANS_WAITING_MAX && SPANS_WAITING_MAX <= SPANS_WAITING_SETTABLE);
const _: () = assert!(SLOTS.is_multiple_of(100));
const _: () = assert!(VERSION_PERMITS <= INSTANCES as usize);
