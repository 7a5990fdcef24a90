//! The fence, in one process: every kind of write is refused, and none of it arrives.

use crate::support::crash::before;
use crate::support::{World, quick};
use ops_controller::clients::fence::{Fenced, Grant, uptime};
use ops_controller::clients::postgres::Change;
use ops_controller::clients::{ClientError, Fence, Readers, Seam};
use ops_controller::plan::action::FirewallSpec;
use ops_controller::plan::desired::hex_sha256;
use ops_controller::plan::observation::Rules;
use std::time::Duration;

fn fenced<T>(what: &str, done: Result<T, ClientError>) {
    match done {
        Err(error @ ClientError::Fenced(_)) => assert!(error.is_definite(), "{what}: surely nothing was sent"),
        Err(error) => panic!("{what}: {error}"),
        Ok(_) => panic!("{what} was not refused"),
    }
}

#[tokio::test]
async fn without_a_lease_no_writer_writes() {
    let mut world = World::booted().await;
    let driver = world.healthy().await;
    let spec = {
        let firewall = world.sandbox.digitalocean.firewalls().remove(0);
        assert!(!firewall.name.is_empty());
        FirewallSpec { name: "other".into(), tag: world.identity_tag().to_owned(), rules: Rules::default() }
    };
    drop(driver);
    world.set("SUPERVISOR_SIZE", "s-2vcpu-4gb");
    let config = world.config();
    let state = std::fs::read(world.state_file()).expect("a state file");
    let hash = r#"select "tokenHash" from "WorkerGroupToken""#;
    let token = world.sql(hash).await;
    world.forget_requests();
    let writers = Readers::new(&config, &Seam::default()).expect("clients").writers(&Fence::closed());
    let (ocean, postgres) = (&writers.digitalocean, &writers.postgres);
    let id = world.our_only().id;

    fenced("restart", writers.railway.restart("a deployment").await);
    fenced("delete droplet", ocean.delete_droplet(id).await);
    fenced("reboot", ocean.droplet_action(id, "reboot").await);
    fenced("create tag", ocean.create_tag("a-tag").await);
    fenced("create firewall", ocean.create_firewall(&spec).await);
    fenced("update firewall", ocean.update_firewall("an id", &spec).await);
    fenced("delete firewall", ocean.delete_firewall("an id").await);
    fenced("delete tag", ocean.delete_tag(world.identity_tag()).await);
    let changes = [
        Change::WalLevelLogical,
        Change::Reload,
        Change::ReplicaIdentityFull,
        Change::CreatePublication,
        Change::AddTableToPublication,
        Change::SetPublicationOperations,
    ];
    for change in changes {
        fenced(&format!("{change:?}"), postgres.change(change).await);
    }
    fenced("rotate", postgres.rotate_token("a group", "old", &hex_sha256(b"new")).await);
    let store = world.store(Seam::default());
    let (loaded, _) = store.load(world.identity_tag(), jiff::Timestamp::now()).expect("a state");
    let error = store.save(&loaded).await.expect_err("refused");
    assert_eq!(error.to_string(), "no lease is held: nothing is written");
    store.reset(jiff::Timestamp::now()).expect_err("refused");

    assert_eq!(world.writes(), Vec::<String>::new());
    assert_eq!(world.sandbox.railway.requests().len(), 0);
    assert_eq!(world.sql(hash).await, token);
    assert_eq!(std::fs::read(world.state_file()).expect("a state file"), state);
    // Looking is free.
    assert_eq!(ocean.look().droplets_by_tag(world.identity_tag()).await.expect("a list").len(), 1);
    postgres.look().look().await.expect("a look");
    world.stop().await;
}

/// A whole controller loses its lease right before it creates: the look, the intent and the seam lie
/// behind it, and the create is not sent.
#[tokio::test]
async fn a_lease_lost_right_before_a_create_stops_it() {
    let world = World::booted_with(quick()).await;
    let taken = || Fenced::new("another controller took over (epoch 8, ours was 7)");
    let grant = Grant::new("the lease (epoch 7)", uptime() + Duration::from_secs(3600), || Ok(()));
    let ends = grant.clone();
    let seam = Seam::new(move |point| {
        if point == before("create droplet") {
            ends.end(taken());
        }
        std::future::ready(())
    });
    let fence = Fence::granted(vec![grant]);
    let mut driver = world.open_fenced(fence, seam);
    let error = loop {
        if let Err(error) = driver.try_cycle().await {
            break error;
        }
    };
    assert_eq!(error.to_string(), "another controller took over (epoch 8, ours was 7): nothing is written");
    assert_eq!(world.creates(), 0);
    drop(driver);
    // The next one finds the intent, and creates once.
    world.open().until_settled(&world).await;
    assert_eq!((world.creates(), world.most_alive()), (1, 1));
    world.stop().await;
}
