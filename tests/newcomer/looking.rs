//! Mistakes that a look finds, before anything is changed.

use crate::binary::Environment;
use crate::world::{Mistake, NOBODY, World, account};
use futures_util::{StreamExt, stream};
use ops_controller::sandbox::digitalocean::DigitalOcean;
use std::path::Path;

/// At once: each talks to one small world.
const AT_ONCE: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_mistake_is_one_line_with_its_fix_and_nothing_is_touched() {
    let world = World::start().await;
    let good = world.env.run(&["doctor"]).await.expect_code(0).expect_text("checks passed");
    assert!(!good.out.contains("BAD"), "{}", good.out);
    world.assert_silent(&good);

    let accounts = Accounts::start().await;
    world.sandbox.postgres.create_role("nobody", "a plain password").await.expect("a role");
    world.sandbox.postgres.create_role("Reader", "a plain password").await.expect("a role");
    world.sql("grant select on all tables in schema public to \"Reader\"").await;
    let mut mistakes = tokens(&world);
    mistakes.extend(scopes(&world, &accounts));
    mistakes.extend(railway(&world));
    mistakes.extend(database(&world));
    mistakes.extend(sizes(&world));
    let told = stream::iter(mistakes.iter().enumerate()).for_each_concurrent(AT_ONCE, async |(n, mistake)| {
        assert_told(&world, mistake).await;
        // `plan` tells causes as `why` does; each third mistake shows it.
        if n % 3 == 0 && !mistake.only_doctor {
            mistake.assert_told_once(&mistake.env.run(&["plan"]).await);
        }
    });
    told.await;
    // A name that somebody chose is never replaced by a guess; a usual one is tried by its other spellings.
    let other = world.with("DB_SERVICE_NAME", "PostgreSQL").run(&["doctor"]).await.expect_code(0);
    other.expect_text("DB_SERVICE_NAME: none is named PostgreSQL; took service Postgres");
    assert_droplet_limit(&world, &accounts).await;
    assert_logs_expired(&world).await;

    assert!(world.sandbox.digitalocean.requests().iter().all(|r| r.method == "GET"), "looking only reads");
    assert!(!Path::new(world.env.get("STATE_FILE")).exists(), "and writes no state");
    world.sandbox.stop().await;
}

async fn assert_told(world: &World, mistake: &Mistake) {
    let doctor = mistake.env.run(&["doctor"]).await.expect_code(1);
    mistake.assert_told_by_doctor(&doctor);
    world.assert_silent(&doctor);
    if mistake.only_doctor {
        return;
    }
    let why = mistake.env.run(&["why"]).await;
    mistake.assert_told_once(&why);
    world.assert_silent(&why);
}

fn tokens(world: &World) -> Vec<Mistake> {
    let account_token = world.env.get("RAILWAY_API_TOKEN").to_owned();
    vec![
        Mistake::new(
            world.with("DIGITALOCEAN_TOKEN", "dop_v1_wrong-canary"),
            "DIGITALOCEAN_TOKEN",
            &[
                "wrong, expired or revoked",
                "make one at cloud.digitalocean.com",
                "scopes listed in .env.example",
                "401",
            ],
        ),
        Mistake::new(
            world.with("RAILWAY_API_TOKEN", "wrong-canary"),
            "RAILWAY_API_TOKEN",
            &["of another workspace", "make one at railway.com/account/tokens", "Not Authorized"],
        ),
        Mistake::new(
            world.env.clone().with("RAILWAY_API_TOKEN", "").with("RAILWAY_TOKEN", account_token),
            "RAILWAY_TOKEN",
            &["must be a project token", "Settings > Tokens", "RAILWAY_API_TOKEN"],
        ),
        Mistake::new(
            world.with("TRIGGER_WORKER_TOKEN", format!("tr_wgt_{}", "canary99".repeat(5))),
            "TRIGGER_WORKER_TOKEN",
            &["the database does not know", "correct it, or unset it to search the webapp's logs"],
        ),
    ]
}

struct Accounts {
    no_account: DigitalOcean,
    no_droplets: DigitalOcean,
    no_firewalls: DigitalOcean,
    no_sizes: DigitalOcean,
    full: DigitalOcean,
}

impl Accounts {
    async fn start() -> Accounts {
        let without = async |scope: &str| account(|options| options.missing_scopes = vec![scope.to_owned()]).await;
        let full = account(|options| options.droplet_limit = 2).await;
        for name in ["blog", "shop"] {
            full.add_droplet(name, &[]).expect("a droplet");
        }
        Accounts {
            no_account: without("account:read").await,
            no_droplets: without("droplet:read").await,
            no_firewalls: without("firewall:read").await,
            no_sizes: without("sizes:read").await,
            full,
        }
    }
}

fn scopes(world: &World, accounts: &Accounts) -> Vec<Mistake> {
    const NAME: &str = "DIGITALOCEAN_TOKEN";
    let at = |account: &DigitalOcean| world.with("DIGITALOCEAN_API_URL", account.base_url());
    vec![
        // A cycle needs the account only to say why a create would be refused.
        Mistake::new(at(&accounts.no_account), NAME, &["lacks the scope account:read", "make a token", ".env.example"])
            .for_doctor(),
        Mistake::new(
            at(&accounts.no_droplets),
            NAME,
            &["lacks the scope droplet:read", "make a token with all scopes listed in .env.example", "403"],
        ),
        Mistake::new(at(&accounts.no_firewalls), NAME, &["lacks the scope firewall:read", "make a token", "403"]),
        Mistake::new(at(&accounts.no_sizes), NAME, &["lacks the scope sizes:read", "make a token", "403"]),
        Mistake::new(
            world.with("DIGITALOCEAN_API_URL", "http://127.0.0.1:1"),
            "DigitalOcean",
            &["could not connect to DigitalOcean", "check the network, and DIGITALOCEAN_API_URL"],
        ),
    ]
}

fn railway(world: &World) -> Vec<Mistake> {
    vec![
        Mistake::new(
            world.with("RAILWAY_PROJECT_ID", NOBODY),
            "RAILWAY_PROJECT_ID",
            &["sees no project with this id", "copy the id from the project's settings", "railway.com/project/<id>"],
        ),
        Mistake::new(
            world.with("RAILWAY_ENVIRONMENT_ID", NOBODY),
            "RAILWAY_ENVIRONMENT_ID",
            &["no environment with this id in the project"],
        ),
        Mistake::new(
            world.with("RAILWAY_ENVIRONMENT_ID", NOBODY),
            "RAILWAY_ENVIRONMENT_ID",
            &["no environment with this id", "there are: production = ", "staging = "],
        )
        .for_doctor(),
        Mistake::new(
            world.with("RAILWAY_API_URL", "http://127.0.0.1:1/graphql/v2"),
            "Railway",
            &["could not connect to Railway", "check the network, and RAILWAY_API_URL"],
        ),
        Mistake::new(
            world.with("WEBAPP_SERVICE_NAME", "triggerdev"),
            "WEBAPP_SERVICE_NAME",
            &["no service named triggerdev", "set WEBAPP_SERVICE_NAME to one of: Postgres, ", "trigger.dev"],
        ),
        // It is needed only for a restart, which then is held and says the same.
        Mistake::new(
            world.with("DB_SERVICE_NAME", "Postgress"),
            "DB_SERVICE_NAME",
            &["no service named Postgress", "set DB_SERVICE_NAME to one of: Postgres, "],
        )
        .for_doctor(),
    ]
}

fn database(world: &World) -> Vec<Mistake> {
    const NAME: &str = "DATABASE_URL";
    let url = world.env.get(NAME).to_owned();
    let server = &url[url.rfind('@').expect("a host")..];
    let at = |url: &str| world.with(NAME, url);
    let password = "a plain password";
    vec![
        Mistake::new(
            at("postgresql://u:canary-word@127.0.0.1:1/railway"),
            NAME,
            &["Connection refused", "check host and port (127.0.0.1:1)", "accepts connections from here"],
        ),
        Mistake::new(
            at("postgresql://u:canary-word@postgres.railway.internal:5432/railway"),
            NAME,
            &[
                "postgres.railway.internal resolves inside Railway only",
                "use DATABASE_PUBLIC_URL of the Postgres service",
            ],
        ),
        Mistake::new(
            at(&format!("postgresql://postgres:canary-word{server}")),
            NAME,
            &["refused the user or password", "percent-encode special characters"],
        ),
        Mistake::new(
            at(&url.replace("/railway", "/nosuch")),
            NAME,
            &["\"nosuch\" does not exist", "database's name at the end"],
        ),
        Mistake::new(
            at(&url.replace("/railway", "/postgres")),
            "webapp tables",
            &["migrations have not run", "point DATABASE_URL to the webapp's database"],
        )
        .for_doctor(),
        Mistake::new(
            at(&world.sandbox.postgres.url_as("nobody", password)),
            NAME,
            &["role nobody lacks a right", "permission denied", "DATABASE_PUBLIC_URL", "alter role nobody superuser"],
        ),
        Mistake::new(
            at(&world.sandbox.postgres.url_as("Reader", password)),
            NAME,
            &[
                "role Reader may not change wal_level, alter public.\"TaskRun\", create a publication",
                "DATABASE_PUBLIC_URL",
                "alter role \"Reader\" superuser",
            ],
        )
        .for_doctor(),
        Mistake::new(
            at(&format!("{url}?pgbouncer=true")),
            NAME,
            &["leads to a connection pooler, by its pgbouncer=", "use the direct address", "DATABASE_PUBLIC_URL"],
        ),
    ]
}

fn sizes(world: &World) -> Vec<Mistake> {
    let large: Environment = world.with("SUPERVISOR_SIZE", "s-16vcpu-32gb").with("MAX_MONTHLY_USD", "1000");
    vec![
        Mistake::new(
            world.with("SUPERVISOR_SIZE", "s-2vcpu-3gb"),
            "SUPERVISOR_SIZE",
            &["sells no size s-2vcpu-3gb", "in nyc1 there are s-1vcpu-512mb-10gb for 4", "USD a month"],
        ),
        Mistake::new(
            large.with("SUPERVISOR_REGION", "lon1"),
            "SUPERVISOR_REGION",
            &[
                "s-16vcpu-32gb is not sold in lon1",
                "it is in: nyc1, nyc3, ams3, fra1",
                "set SUPERVISOR_REGION to one of them, or another SUPERVISOR_SIZE (in lon1 there are s-1vcpu",
            ],
        ),
        Mistake::new(
            world.with("SUPERVISOR_REGION", "nyc9"),
            "SUPERVISOR_REGION",
            &["nothing is sold in nyc9", "is sold in: nyc1, ", "choose one"],
        ),
        Mistake::new(
            world.with("MAX_MONTHLY_USD", "10"),
            "MAX_MONTHLY_USD",
            &["costs 18 USD a month, the limit is 10", "raise it", "s-1vcpu-1gb for 6"],
        ),
    ]
}

/// What a cycle finds out only when it creates, `doctor` counts before.
async fn assert_droplet_limit(world: &World, accounts: &Accounts) {
    let env = world.with("DIGITALOCEAN_API_URL", accounts.full.base_url());
    let words = &["2 of at most 2 droplets exist", "no supervisor can be made", "delete one", "request a higher limit"];
    assert_told(world, &Mistake::new(env, "DigitalOcean account", words).for_doctor()).await;
}

async fn assert_logs_expired(world: &World) {
    world.sandbox.webapp.expire_logs();
    let words: &[&str] = &[
        "no log of the webapp holds it any more (4 searched)",
        "logs expire after 7 to 30 days",
        "set TRIGGER_WORKER_TOKEN to the token you kept",
        "ROTATE_LOST_TOKEN=true",
    ];
    assert_told(world, &Mistake::new(world.env.clone(), "TRIGGER_WORKER_TOKEN", words).for_doctor()).await;
    let words = &[
        "no worker token that the database knows",
        "logs expire",
        "set TRIGGER_WORKER_TOKEN",
        "ROTATE_LOST_TOKEN=true",
    ];
    let lost = Mistake::new(world.env.clone(), "WorkerTokenReady is False (TokenNotFound)", words);
    for command in ["plan", "why"] {
        lost.assert_told_once(&lost.env.run(&[command]).await);
    }
    let rotating = world.with("ROTATE_LOST_TOKEN", "true");
    rotating.run(&["doctor"]).await.expect_code(0).expect_text("a new one will be issued (ROTATE_LOST_TOKEN)");
    rotating.run(&["plan"]).await.expect_code(0).expect_text("the token is lost and ROTATE_LOST_TOKEN is set");
}
