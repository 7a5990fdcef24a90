//! Durable runs: queue, claim, lease, phases, cancellation and rescue, on a real PostgreSQL.

#[path = "../support/binary.rs"]
mod binary;
mod ends;
mod leases;
mod offers;
mod order;
mod phases;
#[path = "../support/postgres.rs"]
mod postgres;
mod processes;
mod store;
mod waking;
