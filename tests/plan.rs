//! The planner, decided without a world: one settled deployment, and one thing that drifts.
//!
//! Numbers such as "defect 12" name the faults of the program this one replaces.

#[path = "plan/configuration.rs"]
mod configuration;
#[path = "support/dice.rs"]
mod dice;
#[path = "plan/droplets.rs"]
mod droplets;
#[path = "plan/firewall.rs"]
mod firewall;
#[path = "plan/guards.rs"]
mod guards;
#[path = "plan/intents.rs"]
mod intents;
#[path = "plan/mode.rs"]
mod mode;
#[path = "plan/model.rs"]
mod model;
#[path = "plan/properties.rs"]
mod properties;
#[path = "plan/publication.rs"]
mod publication;
#[path = "plan/reasons.rs"]
mod reasons;
#[path = "plan/settled.rs"]
mod settled;
#[path = "plan/slot.rs"]
mod slot;
#[path = "plan/token.rs"]
mod token;
#[path = "plan/unhealthy.rs"]
mod unhealthy;
#[path = "plan/unknown.rs"]
mod unknown;
#[path = "plan/wal_level.rs"]
mod wal_level;
#[path = "plan/world.rs"]
mod world;
