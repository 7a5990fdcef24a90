//! The planner, decided without a world: one settled deployment, and one thing that drifts.

#[path = "plan/model.rs"]
mod model;
#[path = "plan/world.rs"]
mod world;
