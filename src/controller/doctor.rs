//! Read-only check of each token, id, name and privilege: one line each, with the fix.

use crate::clients::{ClientError, Readers};
use crate::config::Config;
use crate::controller::lease;
use crate::plan::configuration;
use crate::plan::desired::Desired;
use crate::plan::observation::{DatabaseView, Lookup, Seen, Size};
use crate::plan::state::RailwayIds;

const RAILWAY_REACH: &str = "check the network, and RAILWAY_API_URL if it is set";

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub ok: bool,
    pub what: String,
    pub detail: String,
}

impl Check {
    fn ok(what: &str, detail: impl Into<String>) -> Check {
        Check { ok: true, what: what.into(), detail: detail.into() }
    }

    fn bad(what: &str, detail: impl Into<String>) -> Check {
        Check { ok: false, what: what.into(), detail: detail.into() }
    }
}

/// Everything, in the order in which one thing needs the other.
pub async fn run(config: &Config, readers: &Readers) -> Vec<Check> {
    let (railway, database, digitalocean) =
        tokio::join!(railway(config, readers), database(config, readers), digitalocean(&config.desired, readers));
    [railway, database, digitalocean, ops_database(config).await].concat()
}

/// Our own database, when there is one. Its tables need not exist yet: the daemon makes them.
async fn ops_database(config: &Config) -> Vec<Check> {
    const WHAT: &str = "OPS_DATABASE_URL";
    match lease::check_database(config).await {
        None => vec![],
        Some(Ok(None)) => vec![Check::ok(WHAT, "can be used for the lease and the schema ops")],
        Some(Ok(Some(why))) => vec![Check::bad(WHAT, why)],
        Some(Err(error)) => {
            let fix = "check host, port, user and password, and that it accepts connections from here";
            vec![Check::bad(WHAT, format!("{error}; {fix}"))]
        }
    }
}

async fn railway(config: &Config, readers: &Readers) -> Vec<Check> {
    let token = if config.railway_project_token.is_some() { "RAILWAY_TOKEN" } else { "RAILWAY_API_TOKEN" };
    let mut checks = Vec::new();
    let desired = &config.desired;
    if config.railway_project_token.is_some() {
        match readers.railway.token_scope().await {
            Ok((project, environment)) if project == desired.project_id && environment == desired.environment_id => {
                checks.push(Check::ok(token, "a project token for this project and environment"));
            }
            Ok(_) => {
                let fix = "is for another project or environment: make one in this project's settings, or correct RAILWAY_PROJECT_ID and RAILWAY_ENVIRONMENT_ID";
                checks.push(Check::bad(token, fix));
                return checks;
            }
            Err(error) => {
                let fix = "must be a project token; an account or workspace token goes into RAILWAY_API_TOKEN";
                checks.push(match &error {
                    ClientError::Forbidden { .. } | ClientError::Unauthorized { .. } => {
                        Check::bad(token, format!("{fix} ({error})"))
                    }
                    error => Check::bad("Railway", format!("{error}; {RAILWAY_REACH}")),
                });
                return checks;
            }
        }
    }
    match readers.railway.environments().await {
        Ok(environments) => {
            checks.push(Check::ok("RAILWAY_PROJECT_ID", "the project can be read"));
            let found = environments.iter().find(|(id, _)| *id == desired.environment_id);
            checks.push(match found {
                Some((_, name)) => Check::ok("RAILWAY_ENVIRONMENT_ID", format!("environment {name}")),
                None => {
                    let names: Vec<_> = environments.iter().map(|(id, name)| format!("{name} = {id}")).collect();
                    let detail = format!("no environment with this id in the project; there are: {}", names.join(", "));
                    Check::bad("RAILWAY_ENVIRONMENT_ID", detail)
                }
            });
        }
        Err(error @ ClientError::NotFound { .. }) => {
            let fix = "this token sees no such project: copy the id from the project's settings in Railway";
            checks.push(Check::bad("RAILWAY_PROJECT_ID", format!("{fix} ({})", words(&error))));
        }
        Err(error @ (ClientError::Forbidden { .. } | ClientError::Unauthorized { .. })) => {
            let fix = "is wrong, expired, or of another workspace: make one at railway.com/account/tokens";
            checks.push(Check::bad(token, format!("{fix} ({error})")));
        }
        Err(error) => checks.push(Check::bad("Railway", format!("{error}; {RAILWAY_REACH}"))),
    }
    if checks.iter().all(|c| c.ok) {
        checks.extend(services(config, readers).await);
    }
    checks
}

async fn services(config: &Config, readers: &Readers) -> Vec<Check> {
    let view = match readers.railway.observe(&RailwayIds::default()).await {
        Ok(view) => view,
        Err(error) => return vec![Check::bad("Railway services", format!("{error}; {RAILWAY_REACH}"))],
    };
    let mut checks = Vec::new();
    let named = [
        ("WEBAPP_SERVICE_NAME", &config.webapp_service_name, &view.webapp, true),
        ("DB_SERVICE_NAME", &config.db_service_name, &view.postgres, true),
        ("REGISTRY_SERVICE_NAME", &config.registry_service_name, &view.registry, false),
    ];
    for (variable, wanted, lookup, required) in named {
        checks.push(match (configuration::service_found(lookup, variable), lookup) {
            (Ok(()), Lookup::Found(service)) if service.name == *wanted => {
                Check::ok(variable, format!("service {wanted}"))
            }
            (Ok(()), Lookup::Found(service)) => {
                Check::ok(variable, format!("none is named {wanted}; took service {}", service.name))
            }
            (Err(finding), _) if required => Check::bad(variable, finding.message),
            _ => Check::ok(variable, "no such service; supervisors are given no registry"),
        });
    }
    if !matches!(view.webapp, Lookup::Found(_)) {
        // Without the webapp its variables say nothing new.
        return checks;
    }
    let (_, finding) = configuration::read(&config.desired, &Seen::Known(view));
    let ok = finding.status == crate::plan::condition::Status::True;
    checks.push(Check { ok, what: "webapp variables".into(), detail: finding.message });
    checks
}

async fn database(config: &Config, readers: &Readers) -> Vec<Check> {
    const WHAT: &str = "DATABASE_URL";
    let view = match readers.postgres.look().await {
        Ok(view) => view,
        Err(error) => return vec![Check::bad(WHAT, format!("{}; {}", words(&error), reach_advice(config, &error)))],
    };
    let role = &view.role;
    let mut checks = vec![Check::ok(WHAT, format!("PostgreSQL {} as role {}", view.version / 10_000, role.name))];
    if let Some(why) = pooled(config) {
        checks = vec![Check::bad(WHAT, format!("{why}: use the direct address, a pooler hides sessions and settings"))];
    }
    checks.extend(privileges(&view));
    checks.push(match &view.worker_groups {
        None => Check::bad(
            "webapp tables",
            "the webapp's migrations have not run in this database: wait for the webapp's first start, or point \
             DATABASE_URL to the webapp's database",
        ),
        Some(groups) if groups.is_empty() => {
            Check::bad("worker group", "none exists: set TRIGGER_BOOTSTRAP_ENABLED=1 on the webapp and redeploy it")
        }
        Some(groups) => Check::ok("worker group", groups[0].name.clone()),
    });
    checks.extend(manual_token(config, &view));
    checks
}

/// What to do about a database that was not read. Railway's internal names resolve inside Railway
/// only: the most frequent mistake.
fn reach_advice(config: &Config, error: &ClientError) -> &'static str {
    let url = config.database_url.as_ref().map(|u| u.expose()).unwrap_or_default();
    match error {
        ClientError::Unauthorized { .. } => {
            "correct both in DATABASE_URL (percent-encode special characters in the password)"
        }
        ClientError::Forbidden { .. } => "use the database's owner or a superuser, as in Railway's own DATABASE_URL",
        ClientError::NotSent { message, .. } if message.contains("database") && message.contains("does not exist") => {
            "correct the database's name at the end of DATABASE_URL"
        }
        _ if url.contains(".railway.internal") => {
            "*.railway.internal resolves inside Railway only: use DATABASE_PUBLIC_URL of the Postgres service"
        }
        _ => "check host and port, and that the database accepts connections from here",
    }
}

/// An error in words that fit the thing: a database has no token, and a sentence that already says
/// "not found" needs no second verb.
fn words(error: &ClientError) -> String {
    match error {
        ClientError::Unauthorized { provider: "PostgreSQL", message } => {
            format!("PostgreSQL refused the {message}")
        }
        ClientError::Forbidden { provider: "PostgreSQL", message } => format!("the role lacks a right ({message})"),
        ClientError::NotFound { what } if what.contains("not found") => what.clone(),
        error => error.to_string(),
    }
}

/// Why the URL looks like a connection pooler's; nothing in a session tells for sure.
fn pooled(config: &Config) -> Option<&'static str> {
    let url = url::Url::parse(config.database_url.as_ref()?.expose()).ok()?;
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    if url.port() == Some(6543) {
        return Some("port 6543 is that of a connection pooler");
    }
    if host.contains("pgbouncer") || host.contains("pooler") {
        return Some("the host is named like a connection pooler");
    }
    url.query_pairs().any(|(name, _)| name == "pgbouncer").then_some("pgbouncer= is for a connection pooler")
}

/// A token given by hand must be one that the database knows.
fn manual_token(config: &Config, view: &DatabaseView) -> Option<Check> {
    const WHAT: &str = "TRIGGER_WORKER_TOKEN";
    let (token, groups) = (config.desired.manual_token.as_ref()?, view.worker_groups.as_ref()?);
    Some(match crate::plan::token::known_group(groups, token) {
        Some(group) => Check::ok(WHAT, format!("known to the database, worker group {}", group.name)),
        None => Check::bad(
            WHAT,
            "the database does not know this token: correct it, or unset it to search the webapp's logs",
        ),
    })
}

fn privileges(view: &DatabaseView) -> Vec<Check> {
    let role = &view.role;
    let mut checks = Vec::new();
    if view.in_recovery {
        checks.push(Check::bad("DATABASE_URL", "this server is a standby: use the primary"));
    }
    let logical = view.wal_level.value == "logical";
    checks.push(match (logical, view.wal_level.source.as_str(), role.may_alter_system) {
        (true, _, _) => Check::ok("wal_level", "logical"),
        (_, "command line", _) => {
            Check::bad("wal_level", "given on the server's command line: change the service's start command to wal_level=logical")
        }
        (_, _, true) => Check::ok("wal_level", format!("{}, and the role may change it", view.wal_level.value)),
        _ => Check::bad(
            "wal_level",
            format!("role {} may not change it: use a superuser, or `grant alter system on parameter wal_level to {}` (15+)", role.name, role.name),
        ),
    });
    match &view.task_run {
        // The check of the webapp's tables says so.
        None if view.worker_groups.is_none() => {}
        None => checks.push(Check::bad("public.\"TaskRun\"", "does not exist: the webapp's migrations have not run")),
        Some(t) if t.owned => checks.push(Check::ok("public.\"TaskRun\"", "owned by the role")),
        Some(_) => checks.push(Check::bad(
            "public.\"TaskRun\"",
            format!("role {} does not own it: use the owner or a superuser", role.name),
        )),
    }
    checks
}

async fn digitalocean(desired: &Desired, readers: &Readers) -> Vec<Check> {
    let client = &readers.digitalocean;
    let mut checks = Vec::new();
    match client.account().await {
        Ok(account) if account.status == "locked" => {
            checks.push(Check::bad("DigitalOcean account", "is locked: see the DigitalOcean console"));
        }
        Ok(account) => {
            let limit = account.droplet_limit.map_or("unknown".to_owned(), |l| l.to_string());
            checks.push(Check::ok("DigitalOcean account", format!("{}, droplet limit {limit}", account.status)));
        }
        Err(error @ ClientError::Unauthorized { .. }) => {
            let fix = "is wrong, expired or revoked: make one at cloud.digitalocean.com under API > Tokens";
            return vec![Check::bad("DIGITALOCEAN_TOKEN", format!("{fix} ({error})"))];
        }
        Err(error @ (ClientError::NotSent { .. } | ClientError::NoAnswer { .. })) => {
            // Every other call would only say the same again.
            let fix = "check the network, and DIGITALOCEAN_API_URL if it is set";
            return vec![Check::bad("DigitalOcean", format!("{error}; {fix}"))];
        }
        Err(error) => checks.push(scope("account:read", &error)),
    }
    match client.droplets_by_tag(&desired.identity_tag()).await {
        Ok(droplets) => checks.push(Check::ok("droplet:read", format!("{} droplets of ours", droplets.len()))),
        Err(error) => checks.push(scope("droplet:read and tag:read", &error)),
    }
    match client.firewall(&desired.firewall_name()).await {
        Ok(found) => checks.push(Check::ok(
            "firewall:read",
            if found.is_some() { "our firewall exists" } else { "no firewall of ours yet" },
        )),
        Err(error) => checks.push(scope("firewall:read", &error)),
    }
    match client.sizes().await {
        Ok(sizes) => checks.push(sold(desired, &sizes)),
        Err(error) => checks.push(scope("sizes:read", &error)),
    }
    match client.droplets_by_tag(&desired.predecessor_tag()).await {
        Ok(old) if !old.is_empty() => {
            let names: Vec<_> = old.iter().map(|d| format!("{} ({})", d.name, d.id)).collect();
            let fix =
                "they are never touched by this program: delete them in the console once the new supervisor serves";
            checks.push(Check::bad(
                "predecessor",
                format!("droplets of the predecessor still bill: {}; {fix}", names.join(", ")),
            ));
        }
        _ => {}
    }
    checks
}

fn scope(scope: &str, error: &ClientError) -> Check {
    match error {
        ClientError::Forbidden { .. } => Check::bad(
            "DIGITALOCEAN_TOKEN",
            format!("lacks the scope {scope}: make a token with the scopes listed in .env.example ({error})"),
        ),
        error => Check::bad("DigitalOcean", error.to_string()),
    }
}

fn sold(desired: &Desired, sizes: &[Size]) -> Check {
    let Some(size) = sizes.iter().find(|s| s.slug == desired.size) else {
        let detail =
            format!("DigitalOcean sells no size {}; in {} {}", desired.size, desired.region, offers(desired, sizes));
        return Check::bad("SUPERVISOR_SIZE", detail);
    };
    if !size.available {
        let detail = format!("{} is not sold at present; in {} {}", size.slug, desired.region, offers(desired, sizes));
        return Check::bad("SUPERVISOR_SIZE", detail);
    }
    if !size.regions.contains(&desired.region) {
        let detail = format!(
            "{} is not sold in {}; it is in: {}; set SUPERVISOR_REGION to one of them, or another SUPERVISOR_SIZE",
            size.slug,
            desired.region,
            size.regions.join(", ")
        );
        return Check::bad("SUPERVISOR_REGION", detail);
    }
    if size.price_monthly > desired.limits.max_monthly_usd {
        let detail = format!(
            "{} costs {} USD a month, the limit is {}: raise it, or set another SUPERVISOR_SIZE (in {} {})",
            size.slug,
            size.price_monthly,
            desired.limits.max_monthly_usd,
            desired.region,
            offers(desired, sizes)
        );
        return Check::bad("MAX_MONTHLY_USD", detail);
    }
    Check::ok(
        "SUPERVISOR_SIZE",
        format!("{} in {} costs {} USD a month", size.slug, desired.region, size.price_monthly),
    )
}

/// The cheapest sizes that would do: in the region, and within the price limit.
fn offers(desired: &Desired, sizes: &[Size]) -> String {
    let most = desired.limits.max_monthly_usd;
    let fits = |s: &&Size| s.available && s.regions.contains(&desired.region) && s.price_monthly <= most;
    let mut fitting: Vec<_> = sizes.iter().filter(fits).collect();
    fitting.sort_by(|a, b| a.price_monthly.total_cmp(&b.price_monthly));
    let named: Vec<_> = fitting.iter().take(5).map(|s| format!("{} for {}", s.slug, s.price_monthly)).collect();
    match named.is_empty() {
        true => format!("none costs at most {most} USD a month"),
        false => format!("there are {} USD a month", named.join(", ")),
    }
}
