//! What lies on the disk: private, whole, believed only when it is ours; and never a second droplet.

use crate::support::World;
use ops_controller::clients::Seam;
use ops_controller::controller::OpenError;
use ops_controller::controller::store::StoreError;
use ops_controller::plan::state::TokenSource;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

fn beside(world: &World, ending: &str) -> std::path::PathBuf {
    world.folder().join(format!("state.json.{ending}"))
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut state: Value = serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON");
    change(&mut state);
    std::fs::write(path, state.to_string()).expect("written");
}

fn refused(world: &World) -> StoreError {
    match world.try_open(world.config(), Seam::default()) {
        Err(OpenError::Store(error)) => error,
        Err(error) => panic!("refused, but by {error}"),
        Ok(_) => panic!("not refused"),
    }
}

/// 26: world-readable in /tmp, with every secret in clear.
#[tokio::test]
async fn only_the_owner_reads_the_state_its_backup_and_the_lease() {
    let world = World::booted().await;
    let driver = world.healthy().await;
    for path in [world.state_file(), beside(&world, "bak"), beside(&world, "lease-1")] {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let left = std::fs::read_dir(world.folder()).expect("the folder").count();
    assert_eq!(left, 3, "temporary files are left behind");
    drop(driver);
    world.stop().await;
}

#[tokio::test]
async fn a_torn_state_falls_back_to_its_backup_and_a_missing_one_to_the_world() {
    let world = World::booted().await;
    drop(world.healthy().await);
    let whole = std::fs::read(world.state_file()).expect("a state file");
    world.forget_requests();
    for torn in [&whole[..whole.len() / 2], b"", b"\0\0\0\0", b"{\"version\":1}"] {
        std::fs::write(world.state_file(), torn).expect("written");
        let mut driver = world.open();
        assert!(driver.controller.state().token.is_some(), "the backup has the token");
        driver.until_settled(&world).await;
    }
    std::fs::remove_file(world.state_file()).expect("removed");
    world.open().until_settled(&world).await;
    std::fs::remove_dir_all(world.folder()).expect("removed");
    world.open().until_settled(&world).await;
    assert_eq!(world.writes(), Vec::<String>::new());
    world.stop().await;
}

#[tokio::test]
async fn a_state_that_is_torn_twice_foreign_or_newer_is_refused_before_anything_is_asked() {
    let world = World::booted().await;
    drop(world.healthy().await);
    let whole = std::fs::read(world.state_file()).expect("a state file");
    world.forget_requests();

    edit(&world.state_file(), |state| state["identity"] = json!("ops-controller-somebody-else"));
    let error = refused(&world);
    assert!(matches!(&error, StoreError::Foreign { found, .. } if found.contains("somebody-else")), "{error}");

    std::fs::write(world.state_file(), &whole).expect("written");
    edit(&world.state_file(), |state| state["version"] = json!(99));
    let error = refused(&world);
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");

    std::fs::write(world.state_file(), &whole[..40]).expect("written");
    std::fs::write(beside(&world, "bak"), b"{").expect("written");
    let error = refused(&world);
    assert!(matches!(error, StoreError::Torn { .. }), "{error}");
    let token = world.sandbox.webapp.token();
    assert!(!error.to_string().contains(&token), "an error quotes no content");

    assert_eq!(world.sandbox.railway.requests().len() + world.sandbox.digitalocean.requests().len(), 0);
    world.stop().await;
}

#[tokio::test]
async fn the_predecessors_token_is_imported_once_and_proven_like_any_other() {
    let world = World::booted().await;
    let token = world.sandbox.webapp.token();
    let old = json!({"is_disabled": true, "healthy_cycle_count": 2, "config_cache": {"TRIGGER_WORKER_TOKEN": token}});
    std::fs::write(world.predecessor_file(), old.to_string()).expect("written");
    let mut driver = world.open();
    driver.until_settled(&world).await;
    let taken = driver.controller.state().token.clone().expect("a token");
    assert_eq!((taken.value.expose(), taken.source), (token.as_str(), TokenSource::Imported));
    assert!(world.sandbox.railway.requests().iter().all(|r| r.operation != "DeploymentLogs"));
    world.stop().await;
}

#[tokio::test]
async fn a_predecessors_file_without_a_good_token_is_no_obstacle() {
    let world = World::booted().await;
    let rejected = format!("tr_wgt_{}", "z".repeat(40));
    let old = json!({"config_cache": {"TRIGGER_WORKER_TOKEN": rejected}});
    std::fs::write(world.predecessor_file(), old.to_string()).expect("written");
    let mut driver = world.open();
    driver.until_settled(&world).await;
    let taken = driver.controller.state().token.clone().expect("a token");
    assert_eq!((taken.value.expose(), taken.source), (world.sandbox.webapp.token().as_str(), TokenSource::Logs));
    world.stop().await;
}

/// A full or unwritable disk: what cannot be written down is not done, and costs nothing later.
#[tokio::test]
async fn without_a_disk_to_write_to_nothing_is_created() {
    let world = World::booted().await;
    let mut driver = world.open();
    // A file where the folder was: nobody can write there, not even root.
    std::fs::remove_dir_all(world.folder()).expect("removed");
    std::fs::write(world.folder(), b"").expect("written");
    for _ in 0..10 {
        let error = driver.try_cycle().await.expect_err("cannot be saved");
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    }
    assert_eq!(world.writes(), Vec::<String>::new());
    assert_eq!(world.sandbox.railway.restart_requests().len(), 0);
    std::fs::remove_file(world.folder()).expect("removed");
    // With the folder its lease went, too: whoever is there now may have another one.
    let error = driver.try_cycle().await.expect_err("no lease");
    assert!(matches!(error, StoreError::Fenced(_)), "{error}");
    assert_eq!(world.writes(), Vec::<String>::new());
    drop(driver);
    let mut driver = world.open();
    driver.until_settled(&world).await;
    assert_eq!((world.creates(), world.most_alive()), (1, 1));
    assert_eq!(driver.controller.state().supervisor.creates.len(), 1, "what was not sent does not count");
    world.stop().await;
}
