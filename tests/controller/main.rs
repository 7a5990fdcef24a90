//! The controller against a sandbox: what a cycle costs, what it does once, what it leaves alone.
//!
//! The numbers in comments are those of the predecessor's known defects.

#[path = "../support/mod.rs"]
mod support;

mod acting;
mod costs;
mod daemon;
mod database;
mod droplets;
mod modes;
mod providers;
mod state_file;
mod tokens;
