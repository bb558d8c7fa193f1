//! Sluice hosts WebAssembly workers and versions them: this page is the map.
//!
//! A developer uploads a component with a `wrangler.toml`; that makes an immutable **version**. A **deployment** says which
//! share of the traffic each version gets. Every request is routed by it: at random, by a key that keeps a user on one version,
//! or by an override.
//!
//! # Words
//!
//! | Word | Meaning |
//! |---|---|
//! | worker | what a user names and deploys |
//! | version | {module bytes, configuration}, immutable, with a UUID and a number that counts from 1: [`domain::version`] |
//! | deployment | an immutable record: a split over versions, with who, why, when. The newest is *active*: [`domain::deployment`] |
//! | split | the ordered shares that the user asked for; they sum to 100 %: [`domain::split`] |
//! | slot | one of 100,000 equal parts of a worker's traffic |
//! | allotment | which version owns which slots under one deployment: [`domain::allotment`] |
//! | decision | (request) → version, with the reason: override, key, random, preview, object: [`domain::decision`] |
//! | guest / host | code in the sandbox / our side of it: [`host`] |
//! | engine | a process-wide wasmtime engine; a *version engine* is one version made ready to run in it: [`engine`] |
//! | instance | one instantiated guest with its store |
//! | binding | a named capability in a version's configuration: [`domain::config`] |
//! | namespace | a KV namespace: keys with values, shared by all versions that are bound to it: [`kv`]; an *object namespace*: the objects of one class of a worker: [`domain::object`] |
//! | object | a Durable Object: identity, one live home, storage: [`objects`] |
//! | assignment | object → the one version it runs under the active deployment: [`objects::Assignment`] |
//! | stay | a time that an object was in memory, on which version, and why it left: [`domain::stay`], [`objects::past`] |
//! | rollout | deployments that give a version more and more traffic while its *guards* hold: [`domain::rollout`], [`rollouts`] |
//! | node | one running Sluice process: [`app`] |
//!
//! # Floors
//!
//! Stairs go down only: a room uses the floors below it, never its own floor, never up. What a lower room needs from above it
//! declares as a trait ([`host::ports`], [`engine::fleet::ModuleSource`], [`control::Prover`]), and [`app`] hands it down.
//! `tests/it/tidy.rs` fails on an import that goes up or sideways.
//!
//! | Floor | Rooms | Knows | Must not know |
//! |---|---|---|---|
//! | 0 | [`domain`] | words, numbers, rules | I/O, time of day, randomness, async, wasmtime, HTTP, serde |
//! | 1 | [`clock`] | time | all else |
//! | 1 | [`project`] | what a configuration file says, and the upload that comes of it | folders, nodes, terminals |
//! | 2 | [`store`], [`observe`] | bytes and keys; counters, spans and the request's record | how a worker is hosted |
//! | 3 | [`kv`] | namespaces, keys, values, when they expire | who reads them |
//! | 4 | [`catalog`], [`host`] | what is deployed; what a guest may ask for | sockets of clients; which instance runs |
//! | 5 | [`engine`] | compiling, linking, instances, metering | routes, deployments, HTTP statuses |
//! | 5 | [`rollouts`] | what is deployed, what was measured of it | requests; who serves them |
//! | 6 | [`objects`] | identity, single home, storage order, alarms | the front door, the control API |
//! | 7 | [`dispatch`] | event → decision → version engine → instance → outcome | who asked: a client, a worker or an object |
//! | 8 | [`ingress`], [`control`] | HTTP in and out | each other |
//! | 9 | [`dashboard`] | pages, sessions, and calls of the control API | how a change is made: the control API makes it |
//! | 10 | [`app`] | everyone, only to introduce them | decisions of its own |
//! | 11 | [`cli`] | arguments, terminal | anything but `app`, the domain's words, what a project says, and the API's wire types |
//!
//! # The flow
//!
//! Upload: a project's file ([`project`]) → draft configuration + bytes ([`control`]) → [`domain::config::Config`] (valid; all faults at once) → proof that it
//! starts ([`engine::prove`]) → [`domain::version::Version`] and, if deployed, [`domain::deployment::Deployment`]
//! ([`catalog`]).
//!
//! Request: worker by host ([`ingress`]) → [`domain::decision::Decision`] → [`engine::version_engine::VersionEngine`] →
//! instance → response, and a record of it all ([`observe::record`]).
//!
//! Object: [`domain::object::ObjectId`] → [`objects::Assignment`] → home, the one instance and its mailbox ([`objects::home`]) →
//! event through the input gate ([`host::object::gate`]) → writes → one commit that checks the epoch → output gate opens → reply.
//!
//! # Invariants
//!
//! Cited by number in code and tests. **V1** A version never changes. **V2** A version that exists can be instantiated.
//! **D1** Shares sum to 100 %; an allotment covers every slot once. **D2** Between consecutive deployments a version whose share
//! does not shrink loses no slot, and the fewest slots possible change hands. **D3** A decision depends only on (deployment,
//! request, draw). **O1** Under one epoch an object has one live instance. **O2** It runs the version that its assignment names.
//! **O3** It is reset when its assignment changes, once, and for no other deployment. **O4** A reply is never seen before the
//! writes made until then are durable. **S1** A commit is all or nothing. **S2** What was acknowledged survives a crash at any instant. **S3** A
//! commit whose checks fail changes nothing. **R1** A guest cannot make the host panic, block another guest, or read what it is
//! not bound to. **R2** Every request ends: with an answer, or with an error that says whose fault it was. **R3** A change of
//! deployment drops no request.

pub mod domain;

pub mod clock;
pub mod project;

pub mod observe;
pub mod store;

pub mod kv;

pub mod catalog;
pub mod host;

pub mod engine;
pub mod rollouts;

pub mod objects;

pub mod dispatch;

pub mod control;
pub mod ingress;

pub mod dashboard;

pub mod app;

pub mod cli;
