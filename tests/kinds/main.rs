//! The kinds of runs, by real runners on a real PostgreSQL, with the simulated GitHub and Railway.

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/postgres.rs"]
mod postgres;

mod backups;
mod builds;
mod commands;
mod custom;
mod recovery;
mod turns;
mod world;
