//! Durable runs: queue, claim, lease, phases, cancellation and rescue, on a real PostgreSQL.

#[path = "../support/binary.rs"]
mod binary;
mod ends;
mod leases;
mod order;
mod phases;
mod processes;
mod store;
mod waking;
