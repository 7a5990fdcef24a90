//! The kinds of runs, by real runners on a real PostgreSQL, with the simulated GitHub and Railway.

mod backups;
mod builds;
mod commands;
mod custom;
mod recovery;
mod world;
