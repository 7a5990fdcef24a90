//! The planner, decided without a world: one settled deployment, and one thing that drifts.
//!
//! Numbers such as "defect 12" name the faults of the program this one replaces.

#[path = "plan/droplets.rs"]
mod droplets;
#[path = "plan/model.rs"]
mod model;
#[path = "plan/reasons.rs"]
mod reasons;
#[path = "plan/settled.rs"]
mod settled;
#[path = "plan/unhealthy.rs"]
mod unhealthy;
#[path = "plan/unknown.rs"]
mod unknown;
#[path = "plan/world.rs"]
mod world;
