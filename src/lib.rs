//! ops-controller: keeps a small platform converged across Railway, PostgreSQL and DigitalOcean.
//!
//! In reading order:
//! - [`plan`]: pure. What is desired, what was seen, which actions remain, how every hop stands.
//! - [`config`]: every variable, with all errors at once.
//! - [`clients`]: transport to Railway, DigitalOcean, GitHub, PostgreSQL and the webapp.
//! - [`controller`]: the loop that observes, plans, applies and records.
//! - [`runs`]: all SQL of durable runs.
//! - [`runner`]: claims runs and executes their phases.
//! - [`http`]: `/status` and its kin.
//! - [`spelling`]: which name was probably meant.
//! - [`telemetry`]: logs, metrics, redaction.
//! - [`sandbox`]: simulated clouds on loopback, for trying and for tests.

pub mod clients;
pub mod config;
pub mod controller;
pub mod http;
pub mod plan;
pub mod runner;
pub mod runs;
pub mod sandbox;
pub mod spelling;
pub mod telemetry;
