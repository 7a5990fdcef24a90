//! Durable runs over HTTP: a real PostgreSQL, the router on a real listener, and a real client.
//!
//! One private PostgreSQL serves all tests; each has a database of its own, copied from a migrated one.
//! Every answer that any test receives is held against the OpenAPI document that the program serves.

#[path = "../support/dice.rs"]
mod dice;
#[path = "../support/postgres.rs"]
mod postgres;

mod access;
mod document;
mod function;
mod fuzz;
mod inputs;
mod routes;
mod server;
mod stream;
mod world;
