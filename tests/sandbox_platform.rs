//! The simulated platform behaves like the real one where a controller could tell the difference.

use ops_controller::sandbox::postgres::{Cluster, ClusterOptions};

#[tokio::test]
async fn a_cluster_starts_quickly_and_changes_wal_level_by_alter_system_and_restart() {
    let started = std::time::Instant::now();
    let cluster = Cluster::create(ClusterOptions::default())
        .await
        .expect("cluster");
    eprintln!("{:?} {}", started.elapsed(), cluster.url());
    cluster.restart().await.unwrap();
    eprintln!("{:?} {}", started.elapsed(), cluster.url());
}
