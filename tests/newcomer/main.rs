//! The program as a newcomer meets it: one thing is wrong, and one line names it and its fix.
//!
//! The real program against a sandbox, one mistake at a time. Each case says which line `doctor`,
//! `plan` and `why` must print, by the name it is about and the words that help.

#[path = "../support/binary.rs"]
mod binary;

mod acting;
mod looking;
mod settings;
mod world;
