//! PostgreSQL: whether it can be read, what the role may change, whether the webapp's tables stand.

use super::{Check, Report};
use crate::clients::Readers;
use crate::plan::observation::DatabaseView;
use crate::plan::replication::identifier;

const URL: &str = "DATABASE_URL";

pub async fn check(readers: &Readers) -> Report<DatabaseView> {
    let view = match readers.postgres.look().await {
        Ok(view) => view,
        Err(error) => return Report { checks: vec![Check::refused(readers, &error)], seen: None },
    };
    let mut checks = vec![server(&view)];
    checks.extend(wal_level(&view));
    checks.extend(rights(&view));
    checks.push(worker_group(&view));
    Report { checks, seen: Some(view) }
}

fn server(view: &DatabaseView) -> Check {
    match view.in_recovery {
        true => Check::bad(URL, "this server is a standby: use the primary"),
        false => Check::ok(URL, format!("PostgreSQL {} as role {}", view.version / 10_000, view.role.name)),
    }
}

fn wal_level(view: &DatabaseView) -> Option<Check> {
    const WHAT: &str = "wal_level";
    let setting = &view.wal_level;
    match (setting.value.as_str(), setting.source.as_str()) {
        ("logical", _) => Some(Check::ok(WHAT, "logical")),
        (value, "command line") => Some(Check::bad(
            WHAT,
            format!(
                "{value} is given on the server's command line: change the service's start command to wal_level=logical"
            ),
        )),
        (value, _) if view.role.may_alter_system => {
            Some(Check::ok(WHAT, format!("{value}, and the role may change it")))
        }
        // The check of the role's rights says so.
        _ => None,
    }
}

/// What the role would have to change and may not, on one line with the one statement that helps.
fn rights(view: &DatabaseView) -> Option<Check> {
    let role = &view.role;
    let table = view.task_run.as_ref()?;
    let publishes = view.publication.as_ref().is_some_and(|p| p.has_table && p.inserts && p.updates && p.deletes);
    let sets_wal_level =
        view.wal_level.value == "logical" || view.wal_level.source == "command line" || role.may_alter_system;
    let mut lacks = Vec::new();
    if !sets_wal_level {
        lacks.push("change wal_level");
    }
    if !table.owned && (table.replica_identity != 'f' || !publishes) {
        lacks.push("alter public.\"TaskRun\"");
    }
    match &view.publication {
        None if !role.may_create_in_database => lacks.push("create a publication"),
        Some(publication) if !publishes && !publication.owned => lacks.push("alter the publication"),
        _ => {}
    }
    if lacks.is_empty() {
        return Some(Check::ok("public.\"TaskRun\"", "the role may change what has to be changed"));
    }
    let name = identifier(&role.name);
    let statement = match lacks.as_slice() {
        ["change wal_level"] if view.version >= 150_000 => {
            format!("grant alter system on parameter wal_level to {name}")
        }
        _ => format!("alter role {name} superuser"),
    };
    let detail = format!(
        "role {} may not {}: take the DATABASE_PUBLIC_URL of the Postgres service (its role postgres is a superuser), or \
         run as a superuser: {statement}",
        role.name,
        lacks.join(", ")
    );
    Some(Check::bad(URL, detail))
}

fn worker_group(view: &DatabaseView) -> Check {
    const WHAT: &str = "worker group";
    match view.worker_groups.as_deref() {
        None => Check::bad(
            "webapp tables",
            "the webapp's migrations have not run in this database: wait for the webapp's first start, or point \
             DATABASE_URL to the webapp's database",
        ),
        Some([]) => Check::bad(WHAT, "none exists: set TRIGGER_BOOTSTRAP_ENABLED=1 on the webapp and redeploy it"),
        Some([first, ..]) => Check::ok(WHAT, first.name.clone()),
    }
}
