//! ops-controller: keeps a small platform converged across Railway, PostgreSQL and DigitalOcean.

pub mod plan;
pub mod sandbox;
