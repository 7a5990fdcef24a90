//! ops-controller: keeps a small platform converged across Railway, PostgreSQL and DigitalOcean.

pub mod clients;
pub mod config;
pub mod plan;
pub mod sandbox;
pub mod telemetry;
