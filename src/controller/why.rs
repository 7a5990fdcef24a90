//! What `why` prints: one line for each cause, with what to do.
//!
//! Conditions that say the same stand on one line; those that only wait for another follow from it
//! and are named together; what a condition said already is not told again as held.

use crate::plan::action::Held;
use crate::plan::condition::{Condition, Reason, Status};

/// Conditions that are not True for the same reason, in the same words.
struct Cause<'a> {
    first: &'a Condition,
    names: Vec<String>,
}

impl Cause<'_> {
    fn says(&self, other: &Condition) -> bool {
        let said = |c: &Condition| (c.status, c.reason, c.message.clone());
        said(self.first) == said(other)
    }

    fn only_waits(&self) -> bool {
        self.first.reason == Reason::WaitingForOther
    }

    fn line(&self) -> String {
        let Condition { status, reason, message, .. } = self.first;
        let verb = if self.names.len() == 1 { "is" } else { "are" };
        format!("{} {verb} {status:?} ({reason}): {message}", self.names.join(", "))
    }
}

pub fn why(conditions: &[Condition], held: &[Held]) -> String {
    let open: Vec<&Condition> = conditions.iter().filter(|c| c.status != Status::True).collect();
    let (waiting, causes): (Vec<_>, Vec<_>) = causes(&open).into_iter().partition(Cause::only_waits);
    let mut lines: Vec<String> = causes.iter().map(Cause::line).collect();
    match causes.iter().all(|c| c.first.advisory) {
        // Nothing is named that they could wait for.
        true => lines.extend(waiting.iter().map(Cause::line)),
        false if waiting.is_empty() => {}
        false => {
            let names: Vec<String> = waiting.into_iter().flat_map(|c| c.names).collect();
            lines.push(format!("{}: waiting for the above", names.join(", ")));
        }
    }
    let untold = |h: &&Held| !open.iter().any(|c| c.message.contains(&h.why));
    lines.extend(held.iter().filter(untold).map(|h| format!("held: {} — by {}: {}", h.action, h.by, h.why)));
    if lines.is_empty() {
        let none = if conditions.is_empty() { "nothing was looked at yet" } else { "every condition is True" };
        lines.push(none.to_owned());
    }
    lines.join("\n") + "\n"
}

fn causes<'a>(open: &[&'a Condition]) -> Vec<Cause<'a>> {
    let mut causes: Vec<Cause<'a>> = Vec::new();
    for condition in open {
        let note = if condition.advisory { " (warning)" } else { "" };
        let name = format!("{}{note}", condition.kind);
        match causes.iter_mut().find(|cause| cause.says(condition)) {
            Some(cause) => cause.names.push(name),
            None => causes.push(Cause { first: condition, names: vec![name] }),
        }
    }
    causes
}
