//! Mistakes in the variables themselves, and `config`, which shows what came of them.

use crate::binary::{Ended, Environment};
use crate::world::World;
use ops_controller::config::VARIABLES;

/// Nothing answers there, and nothing has to.
fn complete() -> Environment {
    Environment::default()
        .with("DIGITALOCEAN_TOKEN", "dop_v1_canary")
        .with("RAILWAY_API_TOKEN", "railway-canary")
        .with("RAILWAY_PROJECT_ID", "11111111-1111-4111-8111-111111111111")
        .with("RAILWAY_ENVIRONMENT_ID", "22222222-2222-4222-8222-222222222222")
        .with("DATABASE_URL", "postgresql://user:canary@db.example.com:5432/railway")
}

/// The lines of an error about the configuration, without its frame.
fn errors(ended: &Ended) -> Vec<&str> {
    assert_eq!(ended.out, "");
    ended.err.lines().filter_map(|line| line.strip_prefix("  ")).collect()
}

#[tokio::test]
async fn a_missing_variable_is_named_with_the_place_where_its_value_is_to_be_had() {
    let places = [
        ("DIGITALOCEAN_TOKEN", "make one at cloud.digitalocean.com under API > Tokens"),
        ("RAILWAY_API_TOKEN", "from railway.com/account/tokens (a project token goes into RAILWAY_TOKEN)"),
        ("RAILWAY_PROJECT_ID", "the address of the project's page, railway.com/project/<id>"),
        ("RAILWAY_ENVIRONMENT_ID", "behind environmentId="),
        ("DATABASE_URL", "DATABASE_PUBLIC_URL in Railway, under Postgres > Variables"),
    ];
    for (name, place) in places {
        for command in ["doctor", "run"] {
            let ended = complete().with(name, "").run(&[command]).await.expect_code(78);
            let errors = errors(&ended);
            assert_eq!(errors.len(), 1, "{}", ended.err);
            assert!(
                errors[0].starts_with(&format!("{name} is required: ")) && errors[0].contains(place),
                "{}",
                errors[0]
            );
            assert!(!ended.err.contains("canary"), "{}", ended.err);
        }
    }
}

#[tokio::test]
async fn a_misspelt_variable_is_answered_with_the_right_one() {
    // The required one is missing because of it: one mistake, one line.
    let env = complete().with("RAILWAY_PROJECT_ID", "").with("RAILWAY_PROJEKT_ID", "canary");
    let ended = env.run(&["plan"]).await.expect_code(78);
    let lines = errors(&ended);
    assert_eq!(lines.len(), 1, "{}", ended.err);
    for word in ["RAILWAY_PROJECT_ID is required", "RAILWAY_PROJEKT_ID is set", "rename it"] {
        assert!(lines[0].contains(word), "{}", lines[0]);
    }
    // Beside an error about something else it is not lost.
    let ended = complete().with("CHECK_INTERVAL", "never").with("SUPERVISOR_SIZ", "x").run(&["plan"]).await;
    let lines = errors(&ended);
    assert_eq!(lines.len(), 2, "{}", ended.err);
    assert!(
        lines[1].contains("SUPERVISOR_SIZ is not a variable") && lines[1].contains("did you mean SUPERVISOR_SIZE?")
    );
    assert!(!ended.err.contains("canary"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_misspelt_optional_variable_is_a_finding_of_doctor_and_a_warning_elsewhere() {
    let world = World::start().await;
    let env = world.with("SUPERVISOR_SIZ", "s-1vcpu-1gb");
    let doctor = env.run(&["doctor"]).await.expect_code(1);
    let bad: Vec<&str> = doctor.out.lines().filter(|l| l.starts_with("BAD")).collect();
    assert_eq!(bad, ["BAD SUPERVISOR_SIZ: is not a variable of ops-controller; did you mean SUPERVISOR_SIZE?"]);
    assert_eq!(doctor.err, "");
    for command in ["plan", "why", "config"] {
        let ended = env.run(&[command]).await;
        let told = "warning: SUPERVISOR_SIZ is not a variable of ops-controller; did you mean SUPERVISOR_SIZE?\n";
        assert_eq!(ended.err, told, "`{command}`");
    }
    world.sandbox.stop().await;
}

#[tokio::test]
async fn config_shows_every_variable_once_with_its_source_and_no_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let token = file("token", "canary-in-a-file\n");
    let settings = file(
        "settings",
        &format!("SUPERVISOR_REGION=fra1\nAPI_TOKEN_FILE={token}\nFAVOURITE_COLOUR=canary\nCOMPOSE_PROJECT_NAME=x\n"),
    );
    let env =
        complete().with("ENV_FILE", settings.clone()).with("SUPERVISOR_SIZE", "s-4vcpu-8gb").with("HOME", "/root");
    let config = env.run(&["config"]).await.expect_code(0);
    let names: Vec<&str> = config.out.lines().filter_map(|l| l.split_whitespace().next()).collect();
    let all: Vec<&str> = VARIABLES.iter().map(|v| v.name).collect();
    assert_eq!(names, all, "every variable, once, in the order of the documentation");
    let shown = |name: &str| {
        let line = config.out.lines().find(|l| l.split_whitespace().next() == Some(name)).expect("a line");
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    for (name, value) in [
        ("DIGITALOCEAN_TOKEN", "set (environment)".to_owned()),
        ("DATABASE_URL", "set (environment)".to_owned()),
        ("API_TOKEN", format!("set (file {token})")),
        ("TRIGGER_WORKER_TOKEN", "unset".to_owned()),
        ("SUPERVISOR_REGION", format!("fra1 (ENV_FILE {settings})")),
        ("SUPERVISOR_SIZE", "s-4vcpu-8gb (environment)".to_owned()),
        ("CHECK_INTERVAL", "1 (default)".to_owned()),
        ("SUPERVISOR_SSH_KEYS", "unset".to_owned()),
    ] {
        assert_eq!(shown(name), value, "{name}");
    }
    assert!(!config.all().contains("canary"), "{}", config.all());
    // ENV_FILE is ours alone, so what stands there for nothing is told; the environment is everybody's.
    let told = "warning: FAVOURITE_COLOUR in ENV_FILE is not a variable of ops-controller, and is not read\n";
    assert_eq!(config.err, told);
}
