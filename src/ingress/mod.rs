//! The front door: HTTP in, HTTP out.
//!
//! The life of a request, each step in one place:
//!
//! 1. [`listener`] accepts the connection and reads a head, within limits of size and time; one of the [`crew`]'s threads serves it;
//! 2. [`serve`] finds the worker by host, route or custom domain, or says what would match;
//! 3. the dispatcher decides the version, runs it, and always has an answer;
//! 4. [`respond`] is the only place where a failure becomes a status, a header and a body.
//!
//! Knows nothing of how versions are stored or made.

mod cookies;
pub mod crew;
pub mod listener;
pub mod respond;
pub mod serve;
