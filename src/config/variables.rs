//! The list of variables: the one place from which README, `.env.example` and `config` are checked.

pub struct Variable {
    pub name: &'static str,
    pub default: Option<&'static str>,
    /// Never shown; may also be given as `NAME_FILE`.
    pub secret: bool,
    pub meaning: &'static str,
}

const fn variable(name: &'static str, default: Option<&'static str>, meaning: &'static str) -> Variable {
    Variable { name, default, secret: false, meaning }
}

const fn secret(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default: None, secret: true, meaning }
}

pub const VARIABLES: &[Variable] = &[
    secret("DIGITALOCEAN_TOKEN", "DigitalOcean API token"),
    variable("SUPERVISOR_REGION", Some("nyc1"), "droplet region"),
    variable("SUPERVISOR_SIZE", Some("s-2vcpu-2gb"), "droplet size"),
    variable("SUPERVISOR_IMAGE", Some("ubuntu-24-04-x64"), "droplet image"),
    variable(
        "SUPERVISOR_SSH_KEYS",
        None,
        "SSH keys for the droplet: ids or fingerprints, comma separated; opens port 22",
    ),
    variable("SUPERVISOR_HEALTH_SOURCES", Some("0.0.0.0/0,::/0"), "who may reach :8020/health"),
    secret("RAILWAY_API_TOKEN", "Railway account or workspace token"),
    secret("RAILWAY_TOKEN", "Railway project token, instead of RAILWAY_API_TOKEN"),
    variable("RAILWAY_PROJECT_ID", None, "Railway project"),
    variable("RAILWAY_ENVIRONMENT_ID", None, "Railway environment"),
    secret("DATABASE_URL", "the watched PostgreSQL: direct, not pooled"),
    secret("OPS_DATABASE_URL", "our own PostgreSQL: lets controllers on several machines stand by for each other"),
    variable("DB_SERVICE_NAME", Some("Postgres"), "Railway service of that database"),
    variable("WEBAPP_SERVICE_NAME", Some("trigger.dev"), "Railway service of the webapp"),
    variable("REGISTRY_SERVICE_NAME", Some("registry"), "Railway service of the image registry, if any"),
    variable("DOCKER_REGISTRY_USERNAME", None, "user for that registry, where it asks for one"),
    secret("DOCKER_REGISTRY_PASSWORD", "password for that registry"),
    variable("TRIGGER_VERSION", Some("v4.0.0"), "tag of the supervisor image"),
    secret("TRIGGER_WORKER_TOKEN", "worker token, instead of searching the logs"),
    secret("MANAGED_WORKER_SECRET", "only when the webapp's variable is sealed"),
    variable("ROTATE_LOST_TOKEN", Some("false"), "issue a new worker token when it is lost"),
    variable("ALLOW_LOCAL_ORIGIN", Some("false"), "accept an origin that only this machine reaches"),
    variable("IS_ACTIVE", Some("true"), "false: observe and plan, change nothing"),
    variable("CHECK_INTERVAL", Some("1"), "minutes between cycles (1-60), or with a unit: 15s"),
    variable("AUTO_DISABLE", Some("false"), "stop changing after enough healthy cycles"),
    variable("HEALTHY_CYCLES_BEFORE_DISABLE", Some("3"), "healthy cycles in a row before that (1-100)"),
    variable("DISABLED_CHECK_INTERVAL", Some("15m"), "cheap look while disabled; 0: none"),
    variable("PROGRESS_INTERVAL", Some("5s"), "between cycles while something is in progress"),
    variable("SUPERVISOR_BOOT_DEADLINE", Some("10m"), "until a new or rebooted droplet must serve"),
    variable("SUPERVISOR_UNHEALTHY_AFTER", Some("3"), "failed looks in a row before healing starts"),
    variable("HEARTBEAT_STALE_AFTER", Some("90s"), "age from which a heartbeat is too old"),
    variable("CREATE_SETTLE", Some("90s"), "how long a lost create is looked for before another"),
    variable("RESTART_DEADLINE", Some("10m"), "how long a requested Postgres restart may take"),
    variable("MAX_DROPLETS", Some("2"), "droplets of ours at once (2: one and its replacement)"),
    variable("MAX_CREATES_PER_HOUR", Some("3"), "droplet creations within an hour"),
    variable("MAX_DELETES_PER_CYCLE", Some("1"), "droplet deletions in one cycle"),
    variable("MAX_MONTHLY_USD", Some("100"), "price limit of the supervisor, from live prices"),
    variable("PG_VOLUME_GB", None, "size of the database volume, for the WAL forecast"),
    variable("STATE_FILE", Some("/var/lib/ops-controller/state.json"), "what is remembered between cycles"),
    variable("LEASE_TIME", Some("30s"), "how long an instance acts without renewing its lease; see Standby"),
    variable("LISTEN_ADDR", Some("127.0.0.1:8080"), "HTTP address; other than loopback serves reads only"),
    secret("API_TOKEN", "bearer token for HTTP writes; unset: writes are refused"),
    variable("LOG_FORMAT", None, "json or text; default: text on a terminal, else json"),
    variable("LOG_LEVEL", Some("info"), "error, warn, info, debug, trace, or a filter"),
    variable("ENV_FILE", None, "KEY=VALUE file, read at start and at SIGHUP; wins over the environment"),
    variable("RAILWAY_API_URL", Some("https://backboard.railway.com/graphql/v2"), "Railway's whole endpoint"),
    variable("DIGITALOCEAN_API_URL", Some("https://api.digitalocean.com"), "DigitalOcean's API; /v2 is appended"),
    variable("WORKER_ID", None, "what the runner is called; default: the machine's name"),
    variable("RUNNER_CONCURRENCY", Some("10"), "runs at once; 0: the daemon executes none"),
    variable(
        "RUNNER_KINDS",
        None,
        "only these kinds of runs, comma separated; default: all that the other settings allow",
    ),
    variable("RUNNER_LEASE", Some("60s"), "after this time without a word of its runner a run is rescued"),
    variable("RUNNER_POLL_INTERVAL", Some("1s"), "how often an idle runner looks by itself"),
    variable("RUNNER_GRACE", Some("25s"), "how long phases may go on after a SIGTERM"),
    variable("RUNNER_COMMANDS", None, "programs that phases may start: name=/path, comma separated"),
    variable("EVENT_RETENTION_DAYS", Some("90"), "how long events of finished runs are kept"),
    variable(
        "RUN_RETENTION_DAYS",
        Some("365"),
        "how long finished runs are kept, with all that belongs to them; 0: for ever",
    ),
    variable(
        "AUDIT_RETENTION_DAYS",
        Some("365"),
        "how long the audit log, ended restores, old approvals and dead tokens are kept, at least 30; 0: for ever",
    ),
    variable(
        "ARTIFACT_STORE",
        Some("/var/lib/ops-controller/artifacts"),
        "where artifacts and backups go: a folder, or s3://bucket/prefix",
    ),
    secret("AWS_ACCESS_KEY_ID", "key id for an ARTIFACT_STORE that speaks S3"),
    secret("AWS_SECRET_ACCESS_KEY", "key for it"),
    variable("AWS_REGION", None, "its region"),
    variable("AWS_ENDPOINT_URL", None, "its address, where it is not Amazon's"),
    secret("TARGET_DATABASE_URL", "server on which the environments' own databases are, for backups and sql phases"),
    secret("GITHUB_TOKEN", "GitHub token that may dispatch workflows (actions: write)"),
    variable("GITHUB_API_URL", Some("https://api.github.com"), "GitHub's API"),
];

/// What is said of a required variable that is not set: where its value is to be had.
pub fn required(name: &str) -> String {
    let found = match name {
        "DIGITALOCEAN_TOKEN" => {
            ": make one at cloud.digitalocean.com under API > Tokens, with the scopes listed in .env.example"
        }
        "RAILWAY_API_TOKEN" => {
            ": an account or workspace token from railway.com/account/tokens (a project token goes into RAILWAY_TOKEN)"
        }
        "RAILWAY_PROJECT_ID" => ": copy it from the address of the project's page, railway.com/project/<id>",
        "RAILWAY_ENVIRONMENT_ID" => ": copy it from the address of the project's page, behind environmentId=",
        "DATABASE_URL" => ": take the value of DATABASE_PUBLIC_URL in Railway, under Postgres > Variables",
        "OPS_DATABASE_URL" => ": a PostgreSQL database of your own, as postgresql://user:password@host:port/database",
        _ => "",
    };
    format!("is required{found}")
}

pub fn find(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|v| v.name == name)
}
