//! What goes when its time is over, and what stays: real databases, real stores, the real program.

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/postgres.rs"]
mod postgres;

mod backups;
mod command;
mod pace;
mod rights;
mod rules;
mod stores;
mod world;
