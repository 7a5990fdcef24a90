//! The documented SQL: its statements as printed, its functions by their names, and who may call them.
//!
//! One private PostgreSQL serves all tests, migrated by the program's own command; each test has a
//! database of its own, copied from that one. `seed/` holds the statements of the runner's document,
//! letter by letter; the real psql runs them.

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/postgres.rs"]
mod postgres;

mod access;
mod backups;
mod functions;
mod guards;
mod machine;
mod members;
mod migrations;
mod seed;
mod server;
mod tokens;
