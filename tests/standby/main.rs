//! Two daemons, one acts: killed, frozen, asked to stop, or cut off from the database of the lease.
//!
//! Real processes and real signals. Each daemon reaches the clouds over a road of its own, which
//! knows what that one has written. Times are short, and what is measured is measured against them.

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/mod.rs"]
mod support;

mod commands;
mod database;
mod fence;
mod folder;
mod pair;
mod road;
mod takeover;
mod trouble;
