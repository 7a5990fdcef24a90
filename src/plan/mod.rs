//! Decides what to change. Pure: no I/O, no clock, no randomness.

pub mod user_data;
