//! What the simulated DigitalOcean promises to everything that is tested against it.

mod access;
mod droplets;
mod faults;
mod network;
mod processes;
mod supervisors;
mod support;
