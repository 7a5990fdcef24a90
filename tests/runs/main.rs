//! Durable runs: queue, claim, lease, phases, cancellation and rescue, on a real PostgreSQL.

mod ends;
mod leases;
mod order;
mod phases;
mod store;
mod waking;
