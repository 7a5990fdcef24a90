//! The worker token: given, remembered, or still to be found in the webapp's logs, which expire.

use super::Check;
use crate::clients::Readers;
use crate::controller::search;
use crate::plan::desired::Desired;
use crate::plan::observation::{DatabaseView, RailwayView};
use crate::plan::state::{SearchState, State};
use crate::plan::token::known_group;

const WHAT: &str = "TRIGGER_WORKER_TOKEN";

/// `None` when nothing can be said: the checks of Railway and of the webapp's tables say why.
pub async fn check(
    desired: &Desired,
    readers: &Readers,
    state: &State,
    railway: Option<&RailwayView>,
    database: &DatabaseView,
) -> Option<Check> {
    let groups = database.worker_groups.as_deref().filter(|groups| !groups.is_empty())?;
    if let Some(token) = &desired.manual_token {
        return Some(match known_group(groups, token) {
            Some(group) => Check::ok(WHAT, format!("known to the database, worker group {}", group.name)),
            None => Check::bad(
                WHAT,
                "the database does not know this token: correct it, or unset it to search the webapp's logs",
            ),
        });
    }
    let remembered = state.token.iter().chain(&state.former_tokens).map(|t| &t.value);
    if remembered.into_iter().any(|token| known_group(groups, token).is_some()) {
        return Some(Check::ok(WHAT, "not set; the state file holds one that the database knows"));
    }
    let webapp = railway?.webapp.found()?;
    let known = |token: &_| known_group(groups, token).is_some();
    let search = search::run(&readers.railway, &webapp.id, &SearchState::default(), known).await;
    if search.found.iter().any(known) {
        return Some(Check::ok(WHAT, "not set; found in the webapp's logs"));
    }
    Some(match (search.error, search.complete, desired.rotate_lost_token) {
        (Some(error), _, _) => Check::bad(WHAT, format!("not set, and the webapp's logs cannot be read: {error}")),
        (None, false, _) => Check::ok(WHAT, "not set; the daemon searches the webapp's logs, which are long"),
        (None, true, true) => Check::ok(WHAT, "not set and in no log; a new one will be issued (ROTATE_LOST_TOKEN)"),
        (None, true, false) => Check::bad(
            WHAT,
            format!(
                "not set, and no log of the webapp holds it any more ({} searched): it is printed once, at the first \
                 boot, and logs expire after 7 to 30 days; set TRIGGER_WORKER_TOKEN to the token you kept, or \
                 ROTATE_LOST_TOKEN=true to have a new one issued (cuts off supervisors that use the old one)",
                search.searched.len()
            ),
        ),
    })
}
