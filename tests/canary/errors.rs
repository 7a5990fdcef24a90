//! Every error that can come about with secrets around, in each way to print it.

use crate::canaries::{self, Canary};
use crate::compressed::driver::Deployment;
use crate::compressed::trouble::{Calls, Party, Trouble};
use ops_controller::clients::{Fence, Readers, Seam};
use ops_controller::config::{Config, VARIABLES};
use ops_controller::controller::destroy;
use ops_controller::controller::store::Store;
use ops_controller::telemetry;
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::Duration;

fn printed(error: &(impl Display + Debug)) -> String {
    format!("{error}\n{error:?}\n{error:#?}\n")
}

pub async fn all(deployment: &Deployment) -> String {
    let mut text = configurations();
    text.push_str(&states(deployment));
    text.push_str(&clients(deployment).await);
    text
}

/// Each secret in each variable, where it has no business.
fn configurations() -> String {
    let mut text = String::new();
    for Canary { name, value } in canaries::of_variables() {
        let everywhere = VARIABLES.iter().filter(|v| v.name != "ENV_FILE").map(|v| (v.name.to_owned(), value.clone()));
        let error = Config::from_pairs(everywhere).expect_err("no configuration");
        let errors = error.0.len();
        assert!(errors > 10, "{name}: {errors} errors");
        text.push_str(&printed(&error));
        for beside in [value.as_str(), "mysql://u:PASSWORD@h/d", "postgresql://u:PASSWORD@h:5432/d"] {
            let url = beside.replace("PASSWORD", &value);
            let pairs = [("DATABASE_URL".to_owned(), url), (format!("{name}_FILE"), value.clone())];
            text.push_str(&printed(&Config::from_pairs(pairs).expect_err("no configuration")));
        }
    }
    let telemetry = telemetry::init(None, "trace", &[]);
    let level = format!("{},=,", canaries::value("API_TOKEN"));
    text.push_str(&printed(&telemetry.set_level(&level).expect_err("no level")));
    text
}

/// State files that cannot be read, each with a token near the place.
fn states(deployment: &Deployment) -> String {
    let token = canaries::value("TRIGGER_WORKER_TOKEN");
    let (folder, identity) = (tempfile::tempdir().expect("a folder"), deployment.tag());
    let file = folder.path().join("state.json");
    let store = Store::new(&file, Seam::default());
    let mut text = String::new();
    for content in [
        format!("{{\"version\": 1, \"token\": \"{token}"),
        format!("{{\"version\": 1, \"identity\": \"{identity}\", \"token\": \"{token}\"}}"),
        format!("{{\"version\": 99, \"token\": \"{token}\"}}"),
        format!("{{\"version\": 1, \"identity\": \"another\", \"token\": \"{token}\"}}"),
        token.clone(),
    ] {
        std::fs::write(&file, content).expect("written");
        text.push_str(&printed(&store.load(&identity, deployment.world.now()).expect_err("no state")));
    }
    let nowhere = Store::new(file.join("below a file"), Seam::default());
    text.push_str(&printed(&nowhere.load(&identity, deployment.world.now()).expect_err("no state")));
    text.push_str(&printed(&nowhere.lease_for("canary", Duration::from_secs(30)).err().expect("no lease")));
    text
}

/// Every call that can fail, with a provider that repeats what it was sent.
async fn clients(deployment: &Deployment) -> String {
    let seam = Seam::default().with_outside(Arc::new(deployment.world.clone()));
    let config = deployment.config();
    let readers = Readers::new(config, &seam).expect("readers");
    let writers = readers.writers(&Fence::unguarded());
    let world = &deployment.world;
    let mut text = String::new();
    let mut note = |what: &str, error: Option<String>| {
        text.push_str(&error.unwrap_or_else(|| panic!("{what}: it was to fail")));
    };
    for _ in 0..crate::compressed::echo::WAYS {
        world.orders(|orders| {
            orders.clear();
            for party in [Party::DigitalOcean, Party::Railway, Party::Database] {
                orders.push(Trouble::Echo, Calls::Next(party, 100));
            }
        });
        let error = readers.digitalocean.account().await.err();
        note("account", error.as_ref().map(printed));
        note("explained", error.map(|e| printed(&readers.remedies.explain(&e))));
        note("droplets", readers.digitalocean.droplets_by_tag("x").await.err().map(|e| printed(&e)));
        note("scope", readers.railway.token_scope().await.err().map(|e| printed(&e)));
        note("project", readers.railway.environments().await.err().map(|e| printed(&e)));
        note("restart", writers.railway.restart("x").await.err().map(|e| printed(&e)));
        note("database", readers.postgres.look().await.err().map(|e| printed(&e)));
        note("rotate", writers.postgres.rotate_token("a", "b", "c").await.err().map(|e| printed(&e)));
        let torn_down = destroy::inventory(&writers, &config.desired, &deployment.state()).await;
        note("destroy", torn_down.err().map(|e| printed(&e)));
    }
    text
}
