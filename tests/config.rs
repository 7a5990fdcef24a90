//! Configuration: defaults as documented, every error at once by name, and never a value.

use ops_controller::config::{Config, LogFormat, OpsConfig, Origin, VARIABLES, parse_duration};
use std::fs;
use std::time::Duration;
use tempfile::TempDir;

const DIGITALOCEAN: &str = "dop_v1_0123456789abcdef";
const RAILWAY: &str = "0f0f0f0f-1111-2222-3333-444444444444";
const DATABASE: &str = "postgresql://postgres:pass%40word@db.example.com:5432/railway";
const TOKEN: &str = "tr_wgt_0123456789abcdefghijABCDEFGHIJ0123456789";

/// The least that starts, with these on top.
fn pairs(more: &[(&str, &str)]) -> Vec<(String, String)> {
    let required = [
        ("DIGITALOCEAN_TOKEN", DIGITALOCEAN),
        ("RAILWAY_API_TOKEN", RAILWAY),
        ("RAILWAY_PROJECT_ID", "11111111-2222-3333-4444-555555555555"),
        ("RAILWAY_ENVIRONMENT_ID", "66666666-7777-8888-9999-000000000000"),
        ("DATABASE_URL", DATABASE),
    ];
    required.iter().chain(more).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

fn config(more: &[(&str, &str)]) -> Config {
    Config::from_pairs(pairs(more)).unwrap_or_else(|e| panic!("{more:?}: {e}"))
}

/// All errors, one line each.
fn errors(more: &[(&str, &str)]) -> String {
    match Config::from_pairs(pairs(more)) {
        Ok(_) => panic!("accepted: {more:?}"),
        Err(e) => e.to_string(),
    }
}

fn accepts(name: &str, value: &str) -> bool {
    match Config::from_pairs(pairs(&[(name, value)])) {
        Ok(_) => true,
        Err(e) => {
            let text = e.to_string();
            assert!(text.lines().count() == 1 && text.starts_with(name), "{text}");
            false
        }
    }
}

fn file(folder: &TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).expect("a writable folder");
    path.to_str().expect("UTF-8").to_owned()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = config(&[]);
    let desired = &config.desired;
    assert_eq!((desired.region.as_str(), desired.size.as_str()), ("nyc1", "s-2vcpu-2gb"));
    assert_eq!(config.db_service_name, "Postgres");
    assert!(desired.is_active && !desired.auto_disable && !desired.rotate_lost_token && !desired.allow_local_origin);
    assert_eq!(desired.healthy_cycles_before_disable, 3);
    assert_eq!(desired.times.check_interval, Duration::from_secs(60));
    assert_eq!(desired.times.disabled_check_interval, Some(Duration::from_secs(15 * 60)));
    assert_eq!((desired.limits.max_droplets, desired.limits.max_creates_per_hour), (2, 3));
    assert_eq!(config.railway_api_url, "https://backboard.railway.com/graphql/v2");
    assert_eq!(config.digitalocean_api_url, "https://api.digitalocean.com");
    assert_eq!(config.listen_addr.to_string(), "127.0.0.1:8080");
    assert_eq!(config.log_format, None);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn an_empty_value_is_an_unset_one() {
    let config = config(&[("SUPERVISOR_SIZE", ""), ("API_TOKEN", ""), ("CHECK_INTERVAL", "")]);
    assert_eq!(config.desired.size, "s-2vcpu-2gb");
    assert_eq!(config.api_token, None);
    assert!(config.effective.iter().any(|e| e.name == "CHECK_INTERVAL" && e.origin == Origin::Default));
}

#[test]
fn every_error_is_reported_at_once_by_name() {
    let text = errors(&[("DIGITALOCEAN_TOKEN", ""), ("CHECK_INTERVAL", "61"), ("IS_ACTIVE", "maybe")]);
    for name in ["CHECK_INTERVAL", "IS_ACTIVE"] {
        assert!(text.lines().any(|l| l.starts_with(name)), "{name} is not in\n{text}");
    }
    let Err(nothing_set) = Config::from_pairs(Vec::new()) else { panic!("accepted") };
    let text = nothing_set.to_string();
    for name in
        ["DIGITALOCEAN_TOKEN", "RAILWAY_API_TOKEN", "RAILWAY_PROJECT_ID", "RAILWAY_ENVIRONMENT_ID", "DATABASE_URL"]
    {
        assert!(text.lines().any(|l| l.starts_with(name) && l.contains("is required")), "{name} is not in\n{text}");
    }
    assert_eq!(text.lines().count(), 5, "{text}");
}

/// The predecessor's defect 28.
#[test]
fn no_error_repeats_a_value() {
    // Wrong for every variable that can be wrong: control character, no number, no file, no URL.
    let canary = "can4ry\u{1}value";
    let all: Vec<(String, String)> = VARIABLES.iter().map(|v| (v.name.to_owned(), canary.to_owned())).collect();
    let Err(error) = Config::from_pairs(all) else { panic!("accepted") };
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains("can4ry"), "{text}");
    }
    for variable in VARIABLES {
        assert!(error.to_string().contains(variable.name), "{} is accepted", variable.name);
    }
}

#[test]
fn a_token_put_where_a_path_belongs_is_not_repeated() {
    for variable in VARIABLES.iter().filter(|v| v.secret) {
        let name = format!("{}_FILE", variable.name);
        let set = [(name, "/can4ry/dop_v1_secret".to_owned())];
        let required = pairs(&[]).into_iter().filter(|(n, _)| n != variable.name);
        let Err(error) = Config::from_pairs(required.chain(set)) else { panic!("accepted") };
        let text = error.to_string();
        assert!(text.starts_with(variable.name) && text.lines().count() == 1 && !text.contains("can4ry"), "{text}");
    }
}

#[test]
fn debug_output_shows_no_secret() {
    let config = config(&[
        ("DIGITALOCEAN_TOKEN", "can4ry-digitalocean"),
        ("RAILWAY_API_TOKEN", "can4ry-railway"),
        ("RAILWAY_TOKEN", "can4ry-project"),
        ("DATABASE_URL", "postgresql://postgres:can4ry@db.example.com/railway"),
        ("OPS_DATABASE_URL", "postgresql://ops:can4ry@ops.example.com/ops"),
        ("TRIGGER_WORKER_TOKEN", TOKEN),
        ("MANAGED_WORKER_SECRET", "can4ry-managed"),
        ("API_TOKEN", "can4ry-api"),
        ("DOCKER_REGISTRY_USERNAME", "puller"),
        ("DOCKER_REGISTRY_PASSWORD", "can4ry-registry"),
        ("AWS_ACCESS_KEY_ID", "can4ry-key-id"),
        ("AWS_SECRET_ACCESS_KEY", "can4ry-key"),
        ("TARGET_DATABASE_URL", "postgresql://ops:can4ry@target.example.com/x"),
        ("GITHUB_TOKEN", "can4ry-github"),
    ]);
    let text = format!("{config:?} {config:#?}");
    assert!(!text.contains("can4ry") && !text.contains("tr_wgt_"), "{text}");
    assert_eq!(VARIABLES.iter().filter(|v| v.secret).count(), 13, "the list above has every secret");
    assert_eq!(config.effective.iter().filter(|e| e.shown == "set").count(), 13);
}

/// The predecessor's defect 23.
#[test]
fn the_log_is_told_every_secret_and_the_password_in_both_spellings() {
    let secrets = config(&[("API_TOKEN", "can4ry-api")]).secrets();
    let known = |value: &str| secrets.iter().any(|s| s.expose() == value);
    for value in [DIGITALOCEAN, RAILWAY, DATABASE, "can4ry-api", "pass%40word", "pass@word"] {
        assert!(known(value), "{value}");
    }
}

#[test]
fn the_ops_database_is_never_guessed_and_warned_about_when_it_is_the_watched_one() {
    assert!(config(&[]).ops_database_url.is_none());
    let url = "postgresql://ops:p%40ss@ops.example.com/ops";
    let own = config(&[("OPS_DATABASE_URL", url)]);
    assert_eq!(own.ops_database_url.as_ref().map(|u| u.expose()), Some(url));
    assert!(own.warnings.is_empty(), "{:?}", own.warnings);
    assert!(own.secrets().iter().any(|s| s.expose() == "p@ss"), "its password is known to the log");
    let same = config(&[("OPS_DATABASE_URL", "postgres://ops@DB.example.com/railway")]);
    assert!(same.warnings.iter().any(|w| w.starts_with("OPS_DATABASE_URL names the watched")), "{:?}", same.warnings);
    assert!(errors(&[("OPS_DATABASE_URL", "mysql://u@h/d")]).contains("OPS_DATABASE_URL must be a URL"));
    for name in ["DATABASE_URL", "OPS_DATABASE_URL"] {
        let text = errors(&[(name, "postgresql://u:can4ry@h/d?sslmode=can4ry")]);
        assert!(text.contains(&format!("{name} must be a URL")) && text.contains("sslmode"), "{text}");
        assert!(!text.contains("can4ry"), "{text}");
    }
}

#[test]
fn a_runner_needs_its_database_and_nothing_of_the_controllers() {
    let of = |extra: &[(&str, &str)]| OpsConfig::from_pairs(extra.iter().map(|(n, v)| (n.to_string(), v.to_string())));
    let url = ("OPS_DATABASE_URL", "postgresql://ops:p%40ss@ops.example.com/ops");
    let config =
        of(&[url, ("RUNNER_KINDS", "build, custom"), ("RUNNER_COMMANDS", "syft=/usr/bin/syft")]).expect("fits");
    assert_eq!(config.runner.kinds, ["build", "custom"]);
    assert_eq!(config.runner.commands["syft"], std::path::Path::new("/usr/bin/syft"));
    assert_eq!((config.runner.concurrency, config.runner.lease), (10, Duration::from_secs(60)));
    assert!(config.secrets().iter().any(|s| s.expose() == "p@ss"), "its password is known to the log");
    let shared =
        [url, ("DATABASE_URL", "postgresql://a:c0ntr0ller@db.example.com/d"), ("MANAGED_WORKER_SECRET", "managed")];
    let secrets = of(&shared).expect("fits").secrets();
    for known in ["c0ntr0ller", "managed"] {
        assert!(secrets.iter().any(|s| s.expose() == known), "{known}, which a program may print from its environment");
    }
    assert!(of(&[]).is_err_and(|e| e.to_string().contains("OPS_DATABASE_URL is required")));
    let bad = of(&[
        url,
        ("RUNNER_CONCURRENCY", "many"),
        ("RUNNER_KINDS", "Build;drop"),
        ("RUNNER_COMMANDS", "sh -c"),
        ("ARTIFACT_STORE", "s3://"),
        ("RUNNER_LEASE", "1ms"),
    ]);
    let text = bad.expect_err("refused").to_string();
    let names = ["RUNNER_CONCURRENCY", "RUNNER_KINDS", "RUNNER_COMMANDS", "ARTIFACT_STORE", "RUNNER_LEASE"];
    assert!(names.iter().all(|name| text.contains(&format!("{name} must be"))), "{text}");
    let changed = of(&[url, ("RUNNER_CONCURRENCY", "3"), ("GITHUB_TOKEN", "another")]).expect("fits");
    assert_eq!(changed.changed(&changed.clone()), Vec::<&str>::new());
    let names = ["RUNNER_CONCURRENCY", "RUNNER_KINDS", "RUNNER_COMMANDS", "GITHUB_TOKEN"];
    assert_eq!(changed.changed(&config), names, "what needs a restart is named");
    let keyless = of(&[url, ("ARTIFACT_STORE", "s3://bucket/x")]).expect_err("refused").to_string();
    assert!(keyless.contains("AWS_ACCESS_KEY_ID") && keyless.contains("AWS_SECRET_ACCESS_KEY"), "{keyless}");
}

#[test]
fn the_lease_time_is_a_second_to_ten_minutes() {
    assert_eq!(config(&[]).lease_time, Duration::from_secs(30));
    assert_eq!(config(&[("LEASE_TIME", "1s")]).lease_time, Duration::from_secs(1));
    for bad in ["999ms", "11m", "30"] {
        assert!(errors(&[("LEASE_TIME", bad)]).contains("LEASE_TIME must be a time with a unit"), "{bad}");
    }
}

#[test]
fn every_secret_can_come_from_a_file_without_its_trailing_newline() {
    let folder = folder();
    for variable in VARIABLES.iter().filter(|v| v.secret) {
        let value = match variable.name {
            "DATABASE_URL" | "OPS_DATABASE_URL" | "TARGET_DATABASE_URL" => DATABASE,
            "TRIGGER_WORKER_TOKEN" => TOKEN,
            _ => "value-in-a-file",
        };
        for end in ["", "\n", "\r\n"] {
            let path = file(&folder, variable.name, &format!("{value}{end}"));
            let required = pairs(&[]).into_iter().filter(|(n, _)| n != variable.name);
            // A password needs its user.
            let user = ("DOCKER_REGISTRY_USERNAME".to_owned(), "puller".to_owned());
            let user = (variable.name == "DOCKER_REGISTRY_PASSWORD").then_some(user);
            let set = [(format!("{}_FILE", variable.name), path.clone())];
            let config = Config::from_pairs(required.chain(set).chain(user))
                .unwrap_or_else(|e| panic!("{}: {e}", variable.name));
            assert!(config.secrets().iter().any(|s| s.expose() == value), "{}", variable.name);
            let origin = config.effective.iter().find(|e| e.name == variable.name).map(|e| e.origin.clone());
            assert_eq!(origin, Some(Origin::SecretFile(path)));
        }
    }
}

#[test]
fn a_secret_given_twice_or_by_a_bad_file_is_an_error() {
    let folder = folder();
    let good = file(&folder, "good", "value-in-a-file");
    let text = errors(&[("API_TOKEN", "direct-value"), ("API_TOKEN_FILE", &good)]);
    assert_eq!(text, "API_TOKEN and API_TOKEN_FILE are both set: unset one");
    for content in ["", "\n", "  \n"] {
        let empty = file(&folder, "empty", content);
        assert!(errors(&[("API_TOKEN_FILE", &empty)]).contains("API_TOKEN: the file that it names is empty"));
    }
    let missing = errors(&[("API_TOKEN_FILE", "/does/not/exist")]);
    assert!(missing.starts_with("API_TOKEN: the file that it names cannot be read"), "{missing}");
}

#[test]
fn the_worker_token_may_be_a_file_address() {
    let folder = folder();
    let path = file(&folder, "token", &format!("{TOKEN}\n"));
    let config = config(&[("TRIGGER_WORKER_TOKEN", &format!("file://{path}"))]);
    assert_eq!(config.desired.manual_token.map(|t| t.expose().to_owned()).as_deref(), Some(TOKEN));
    assert!(!accepts("TRIGGER_WORKER_TOKEN", "file:///does/not/exist"));
    assert!(!accepts("TRIGGER_WORKER_TOKEN", "tr_wgt_short"));
}

#[test]
fn the_env_file_wins_and_its_last_line_wins() {
    let folder = folder();
    let path = file(
        &folder,
        ".env",
        "# a comment\n\nSUPERVISOR_REGION=ams3\nexport SUPERVISOR_SIZE='s-4vcpu-8gb'\nSUPERVISOR_REGION=\"fra1\"\n\
         CHECK_INTERVAL=5 # minutes\nDB_SERVICE_NAME='a # b' # quoted\nAUTO_DISABLE=\nSOMETHING_ELSE=1\n",
    );
    let config = config(&[("ENV_FILE", &path), ("SUPERVISOR_REGION", "sfo3"), ("AUTO_DISABLE", "true")]);
    assert_eq!(config.desired.region, "fra1");
    assert_eq!(config.desired.size, "s-4vcpu-8gb");
    assert_eq!(config.desired.times.check_interval, Duration::from_secs(300));
    assert_eq!(config.db_service_name, "a # b");
    assert!(!config.desired.auto_disable, "an empty line takes the environment's value away");
    let region = config.effective.iter().find(|e| e.name == "SUPERVISOR_REGION").map(|e| e.origin.clone());
    assert_eq!(region, Some(Origin::EnvFile(path)));
}

#[test]
fn a_secret_moved_to_a_file_in_the_env_file_replaces_the_environments() {
    let folder = folder();
    let secret = file(&folder, "secret", "moved-value\n");
    let path = file(&folder, ".env", &format!("API_TOKEN_FILE={secret}\n"));
    let moved = config(&[("ENV_FILE", &path), ("API_TOKEN", "old-value")]);
    assert_eq!(moved.api_token.map(|t| t.expose().to_owned()).as_deref(), Some("moved-value"));
}

#[test]
fn a_bad_env_file_is_an_error_by_line_without_its_content() {
    let folder = folder();
    let path = file(&folder, ".env", "API_TOKEN=x\ncan4ry without sign\n");
    assert_eq!(errors(&[("ENV_FILE", &path)]), "ENV_FILE: line 2 is not NAME=VALUE");
    assert!(errors(&[("ENV_FILE", "/does/not/exist")]).starts_with("ENV_FILE: the file that it names cannot be read"));
    fs::write(folder.path().join(".env"), b"API_TOKEN=\xff\n").expect("a writable folder");
    assert!(errors(&[("ENV_FILE", &path)]).starts_with("ENV_FILE"));
}

/// The second line of a key, pasted with its line break.
#[test]
fn a_line_that_only_looks_like_a_setting_is_not_repeated() {
    let folder = folder();
    let path = file(&folder, ".env", "SUPERVISOR_REGION=sfo3\nYW5vdGhlciBjYW40cnk=\n");
    let warnings = config(&[("ENV_FILE", &path)]).warnings;
    assert_eq!(warnings, ["ENV_FILE has a line before whose = stands no name in capitals; it is not read"]);
}

/// What stands behind the slash would be taken for host and path, and shown as such.
#[test]
fn a_password_that_is_not_percent_encoded_is_refused_where_it_would_be_read_as_a_host() {
    for url in [
        "postgresql://postgres:pa@can4ry/rest@db.example.com:5432/railway",
        "postgresql://postgres:pa@can4ry?rest@db.example.com/railway",
        "postgresql://postgres:pa@can4ry#rest@db.example.com/railway",
        "postgresql://postgres:pa/can4ry@db.example.com/railway",
    ] {
        let text = errors(&[("DATABASE_URL", url)]);
        assert!(text.starts_with("DATABASE_URL must be a URL") && text.contains("percent-encode"), "{text}");
        assert!(!text.contains("can4ry"), "{text}");
    }
    assert!(accepts("DATABASE_URL", "postgresql://postgres:p@ssword@db.example.com/railway"));
}

#[test]
fn a_misspelt_name_is_answered_with_the_nearest() {
    for (wrong, right) in [
        ("SUPERVISOR_SZIE", "SUPERVISOR_SIZE"),
        ("DIGITAL_OCEAN_TOKEN", "DIGITALOCEAN_TOKEN"),
        ("CHECK_INTERVALL", "CHECK_INTERVAL"),
        ("digitalocean_token", "DIGITALOCEAN_TOKEN"),
        ("API_TOKN_FILE", "API_TOKEN"),
    ] {
        let warnings = config(&[(wrong, "can4ry")]).warnings;
        assert_eq!(warnings.len(), 1, "{wrong}: {warnings:?}");
        assert!(warnings[0].starts_with(wrong) && warnings[0].contains(&format!("did you mean {right}")));
        assert!(!warnings[0].contains("can4ry"));
    }
}

#[test]
fn names_that_others_set_do_not_warn() {
    let foreign = [
        "PATH",
        "HOME",
        "HOSTNAME",
        "HTTPS_PROXY",
        "NO_PROXY",
        "RUST_LOG",
        "PORT",
        "PGDATA",
        "RAILWAY_SERVICE_ID",
        "RAILWAY_SERVICE_NAME",
        "RAILWAY_PROJECT_NAME",
        "RAILWAY_ENVIRONMENT_NAME",
        "RAILWAY_ENVIRONMENT",
        "RAILWAY_DEPLOYMENT_ID",
        "RAILWAY_REPLICA_ID",
        "RAILWAY_REPLICA_REGION",
        "RAILWAY_PRIVATE_DOMAIN",
        "RAILWAY_PUBLIC_DOMAIN",
        "RAILWAY_STATIC_URL",
        "RAILWAY_TCP_PROXY_PORT",
        "RAILWAY_VOLUME_NAME",
        "RAILWAY_GIT_BRANCH",
        "RAILWAY_GIT_COMMIT_SHA",
    ];
    let set: Vec<(&str, &str)> = foreign.iter().map(|name| (*name, "x")).collect();
    assert_eq!(config(&set).warnings, Vec::<String>::new());
}

#[test]
fn the_check_interval_is_minutes_or_has_a_unit() {
    for (value, seconds) in [("1", 60), ("60", 3600), ("15s", 15), ("2m", 120), (" 5 ", 300)] {
        let config = config(&[("CHECK_INTERVAL", value)]);
        assert_eq!(config.desired.times.check_interval, Duration::from_secs(seconds), "{value}");
    }
    for value in ["0", "61", "abc", "0s", "61m", "2h", "-1", "1.5", "s", "15 minutes"] {
        assert!(!accepts("CHECK_INTERVAL", value), "{value}");
    }
}

/// Defect 4: with 0 the predecessor disabled itself before it had looked at anything.
#[test]
fn healthy_cycles_before_disable_are_one_to_a_hundred() {
    for value in ["1", "100"] {
        assert!(accepts("HEALTHY_CYCLES_BEFORE_DISABLE", value), "{value}");
    }
    for value in ["0", "101", "-1", "many", "4294967297"] {
        assert!(!accepts("HEALTHY_CYCLES_BEFORE_DISABLE", value), "{value}");
    }
}

#[test]
fn booleans_are_read_in_their_usual_words_and_nothing_else() {
    for value in ["true", "TRUE", "1", "yes", "on"] {
        assert!(config(&[("AUTO_DISABLE", value)]).desired.auto_disable, "{value}");
    }
    for value in ["false", "False", "0", "no", "off"] {
        assert!(!config(&[("IS_ACTIVE", value)]).desired.is_active, "{value}");
    }
    for value in ["maybe", "2", "t", "truee"] {
        assert!(!accepts("IS_ACTIVE", value), "{value}");
    }
}

#[test]
fn a_token_never_crosses_a_network_in_clear() {
    for name in ["RAILWAY_API_URL", "DIGITALOCEAN_API_URL"] {
        for value in ["http://127.0.0.1:9999/graphql", "http://localhost:1", "http://[::1]:1", "https://example.com"] {
            assert!(accepts(name, value), "{value}");
        }
        for value in ["http://example.com", "http://10.0.0.1", "ftp://example.com", "example.com", "https://u:p@h/"] {
            assert!(!accepts(name, value), "{value}");
        }
    }
}

#[test]
fn the_examples_placeholders_are_named_as_such() {
    let example = include_str!("../.env.example").lines().filter_map(|line| line.split_once('='));
    let set: Vec<(String, String)> = example
        .filter(|(name, _)| !name.starts_with('#'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let Err(error) = Config::from_pairs(set) else { panic!("the example as it is was accepted") };
    let text = error.to_string();
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.lines().all(|l| l.contains("still holds the placeholder of .env.example")), "{text}");
}

#[test]
fn a_secret_that_no_header_can_carry_is_refused() {
    for name in ["DIGITALOCEAN_TOKEN", "RAILWAY_API_TOKEN", "RAILWAY_TOKEN", "API_TOKEN", "MANAGED_WORKER_SECRET"] {
        for value in ["two words", "line\nbreak", "tökén"] {
            assert!(!accepts(name, value), "{name}={value:?}");
        }
    }
}

#[test]
fn logs_have_two_formats_and_levels_or_filters() {
    assert_eq!(config(&[("LOG_FORMAT", "json")]).log_format, Some(LogFormat::Json));
    assert_eq!(config(&[("LOG_FORMAT", "text")]).log_format, Some(LogFormat::Text));
    assert!(!accepts("LOG_FORMAT", "xml"));
    for value in ["error", "INFO", "trace", "ops_controller=debug", "warn,sqlx=off"] {
        assert!(accepts("LOG_LEVEL", value), "{value}");
    }
    // As a filter the first would name a module and silence everything else.
    for value in ["verbose", "info,loud", "=,="] {
        assert!(!accepts("LOG_LEVEL", value), "{value}");
    }
}

#[test]
fn a_time_without_a_unit_is_refused_because_it_would_be_a_guess() {
    assert!(!accepts("SUPERVISOR_BOOT_DEADLINE", "10"));
    assert!(accepts("SUPERVISOR_BOOT_DEADLINE", "10m"));
    assert_eq!(config(&[("DISABLED_CHECK_INTERVAL", "0")]).desired.times.disabled_check_interval, None);
    assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
    for text in ["", "10", "ms", "10x", "99999999999999999999s", "18446744073709551615d", "-1s"] {
        assert_eq!(parse_duration(text), None, "{text}");
    }
}

#[test]
fn a_moving_image_tag_is_refused() {
    for value in ["v4.0.0", "v4.5.11-beta.2"] {
        assert!(accepts("TRIGGER_VERSION", value), "{value}");
    }
    for value in ["latest", "v4-beta", "v4.0", "4.0.0", "v4.0.0;x", "v4.0.0-"] {
        assert!(!accepts("TRIGGER_VERSION", value), "{value}");
    }
}

/// Half a login pulls nothing.
#[test]
fn a_registry_login_needs_both_its_halves() {
    let half = errors(&[("DOCKER_REGISTRY_USERNAME", "puller")]);
    assert_eq!(half, "DOCKER_REGISTRY_PASSWORD is required when DOCKER_REGISTRY_USERNAME is set");
    let half = errors(&[("DOCKER_REGISTRY_PASSWORD", "can4ry")]);
    assert_eq!(half, "DOCKER_REGISTRY_USERNAME is required when DOCKER_REGISTRY_PASSWORD is set");
}

/// In a process of its own, because the environment belongs to the whole process.
#[cfg(unix)]
#[test]
fn bytes_that_are_no_text_are_an_error_and_no_panic() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    if std::env::var_os("CONFIG_CHILD").is_some() {
        let Err(error) = Config::from_env() else { panic!("accepted") };
        print!("CHILD {}", error.to_string().lines().next().unwrap_or_default());
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "bytes_that_are_no_text_are_an_error_and_no_panic", "--nocapture"])
        .env_clear()
        .env("CONFIG_CHILD", "1")
        .env("DIGITALOCEAN_TOKEN", OsStr::from_bytes(b"dop_\xff"))
        .env("SOMEBODY_ELSES", OsStr::from_bytes(b"\xff"))
        .env(OsStr::from_bytes(b"N\xffME"), "x")
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("CHILD DIGITALOCEAN_TOKEN is not valid UTF-8"), "{text}");
}
