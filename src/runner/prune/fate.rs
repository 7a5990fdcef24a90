//! Decides what becomes of what may go. Pure.
//!
//! An object is ours to delete where we would have stored it ourselves: at the path that its own run and key
//! make. Whatever else a row names was written by somebody else; the row goes, and nothing besides.

use crate::runner::kinds::DUMP;
use crate::runner::store::artifact_path;
use crate::runs::retention::{PastArtifact, PastBackup};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// What lies here, and then the row; also when it is gone already.
    Object(String),
    /// The same, but nobody recorded in which store: what is not in ours may lie in another.
    Found(String),
    /// The row alone.
    Row,
    Kept(String),
}

/// `store`: what the store that can be asked is called; `None`: there is none.
pub fn of_artifact(artifact: &PastArtifact, store: Option<&str>) -> Fate {
    if let Some(why) = &artifact.kept_for {
        return Fate::Kept(why.clone());
    }
    let (project, env) = (artifact.project_id.as_deref(), artifact.env_id.as_deref());
    let own = artifact_path(project, env, &artifact.run_id, &artifact.key);
    match artifact.path == own {
        true => lies_at(own, artifact.store.as_deref(), store),
        false => Fate::Row,
    }
}

pub fn of_backup(backup: &PastBackup, store: Option<&str>) -> Fate {
    if let Some(why) = &backup.kept_for {
        return Fate::Kept(why.clone());
    }
    if backup.is_deleted {
        return Fate::Row;
    }
    // Where somebody deleted the run, its name still stands in the path.
    let run = backup.run_id.as_deref().or_else(|| backup.path.split('/').nth(2)).unwrap_or_default();
    let own = artifact_path(Some(&backup.project_id), Some(&backup.env_id), run, DUMP);
    match &*backup.status {
        // One that failed may have stored its dump before.
        "failed" | "cancelled" if backup.run_id.is_some() => match store {
            Some(_) => Fate::Object(own),
            None => lies_at(own, None, store),
        },
        "success" if backup.path == own && run.starts_with("run-") => lies_at(own, backup.store.as_deref(), store),
        _ => Fate::Row,
    }
}

fn lies_at(path: String, its: Option<&str>, ours: Option<&str>) -> Fate {
    match (its, ours) {
        (Some(its), Some(ours)) if its != ours => Fate::Kept(format!("it lies in another store, {its}")),
        (Some(_), Some(_)) => Fate::Object(path),
        (None, Some(_)) => Fate::Found(path),
        (Some(its), None) => Fate::Kept(format!("its store, {its}, is none of this machine's")),
        (None, None) => Fate::Kept("this machine has no store to remove it from".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(path: &str) -> PastArtifact {
        PastArtifact {
            artifact_id: "art-1".to_owned(),
            run_id: "run-1".to_owned(),
            project_id: Some("shop".to_owned()),
            env_id: Some("shop-dev".to_owned()),
            key: "log".to_owned(),
            path: path.to_owned(),
            store: None,
            expires_at: None,
            has_expired: false,
            kept_for: None,
        }
    }

    fn backup(path: &str) -> PastBackup {
        PastBackup {
            backup_id: "bak-1".to_owned(),
            project_id: "shop".to_owned(),
            env_id: "shop-dev".to_owned(),
            run_id: Some("run-1".to_owned()),
            status: "success".to_owned(),
            path: path.to_owned(),
            store: None,
            is_deleted: false,
            kept_for: None,
        }
    }

    #[test]
    fn an_object_is_ours_only_at_the_path_that_its_own_run_and_key_make() {
        let own = "shop/shop-dev/run-1/log";
        assert_eq!(of_artifact(&artifact(own), Some("s")), Fate::Found(own.to_owned()));
        let known = PastArtifact { store: Some("s".to_owned()), ..artifact(own) };
        assert_eq!(of_artifact(&known, Some("s")), Fate::Object(own.to_owned()));
        for other in [
            "shop/shop-dev/run-2/log",
            "shop/shop-dev/run-1/other",
            "bank/bank-dev/run-1/log",
            "s3://bucket/shop/shop-dev/run-1/log",
            "/shop/shop-dev/run-1/log",
            "shop/shop-dev/run-1/../run-2/log",
            "ghcr.io/org/shop@sha256:0",
        ] {
            assert_eq!(of_artifact(&artifact(other), Some("s")), Fate::Row, "{other}");
        }
        let climbing = PastArtifact { key: "../../x".to_owned(), ..artifact("shop/shop-dev/run-1/../../x") };
        assert_eq!(of_artifact(&climbing, Some("s")), Fate::Row);
    }

    #[test]
    fn what_lies_in_another_store_or_in_none_that_can_be_asked_is_kept() {
        let there = PastArtifact { store: Some("folder-a".to_owned()), ..artifact("shop/shop-dev/run-1/log") };
        assert!(matches!(of_artifact(&there, Some("folder-a")), Fate::Object(_)));
        assert!(matches!(of_artifact(&there, Some("folder-b")), Fate::Kept(why) if why.contains("folder-a")));
        assert!(matches!(of_artifact(&there, None), Fate::Kept(_)));
        assert!(matches!(of_artifact(&artifact("shop/shop-dev/run-1/log"), None), Fate::Kept(_)));
        assert_eq!(of_artifact(&artifact("file:///x"), None), Fate::Row, "which needs no store");
    }

    #[test]
    fn of_a_backup_the_dump_of_its_own_run_goes_and_what_a_failed_one_may_have_stored() {
        let own = "shop/shop-dev/run-1/database.dump";
        assert_eq!(of_backup(&backup(own), Some("s")), Fate::Found(own.to_owned()));
        let known = PastBackup { store: Some("s".to_owned()), ..backup(own) };
        assert_eq!(of_backup(&known, Some("s")), Fate::Object(own.to_owned()));
        assert_eq!(of_backup(&backup("shop/shop-dev/run-2/database.dump"), Some("s")), Fate::Row);
        assert_eq!(of_backup(&backup("s3://elsewhere/database.dump"), Some("s")), Fate::Row);
        let orphan = PastBackup { run_id: None, ..backup(own) };
        assert_eq!(of_backup(&orphan, Some("s")), Fate::Found(own.to_owned()));
        let failed = PastBackup { status: "failed".to_owned(), ..backup("pending") };
        assert_eq!(of_backup(&failed, Some("s")), Fate::Object(own.to_owned()));
        assert_eq!(of_backup(&PastBackup { run_id: None, ..failed }, None), Fate::Row);
        assert_eq!(of_backup(&PastBackup { is_deleted: true, ..backup(own) }, None), Fate::Row);
        let newest = PastBackup { kept_for: Some("x".to_owned()), ..backup(own) };
        assert_eq!(of_backup(&newest, Some("s")), Fate::Kept("x".to_owned()));
    }
}
