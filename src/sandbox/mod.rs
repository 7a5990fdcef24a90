//! Simulated clouds on loopback, speaking the providers' wire formats, and a private PostgreSQL.
//!
//! It shares no type with the clients: if it did, both would be wrong together. The only seam is
//! the base URL, so the sandbox, the tests and production run the same client code.

pub mod digitalocean;
pub mod droplet;
pub mod faults;
pub mod postgres;
pub mod railway;
pub mod webapp;
