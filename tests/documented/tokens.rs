//! Tokens: found by their hash while they live, and never kept themselves.

use crate::server::Db;

const FIND: &str = "select name, scopes from ops.find_token(sha256('the secret'))";
const CREATE: &str = "select ops.create_token('ci', sha256('the secret'), '{runs:read,runs:write}', 'olga')";

#[tokio::test]
async fn a_token_is_found_until_it_is_revoked_or_has_expired() {
    let mut db = Db::new().await;
    assert_eq!(db.ask(FIND).await, "");
    let id = db.ask(CREATE).await;
    assert!(id.starts_with("tok-"), "{id}");
    assert_eq!(db.ask(FIND).await, "ci|{runs:read,runs:write}");
    assert_eq!(db.ask("select * from ops.find_token(sha256('another'))").await, "");
    db.ask("update ops.api_tokens set expires_at = now() + interval '1 hour'").await;
    assert_eq!(db.ask(FIND).await, "ci|{runs:read,runs:write}");
    db.ask("update ops.api_tokens set created_at = now() - interval '2 hours', expires_at = now()").await;
    assert_eq!(db.ask(FIND).await, "");
    db.ask("update ops.api_tokens set expires_at = null").await;
    assert_eq!(db.ask(&format!("select ops.revoke_token('{id}', 'olga')")).await, "t");
    assert_eq!(db.ask(&format!("select ops.revoke_token('{id}', 'olga')")).await, "f");
    assert_eq!(db.ask(FIND).await, "");
    assert_eq!(db.refused("select ops.revoke_token('tok-x', 'olga')").await, "P0002: Token tok-x does not exist");
    let audit = db.ask("select actor, action, subject, details ->> 'name' from ops.audit_log order by id").await;
    assert_eq!(audit, format!("olga|token.created|{id}|ci\nolga|token.revoked|{id}|ci"));
}

#[tokio::test]
async fn use_is_noted_at_most_once_a_minute_and_waits_for_nobody() {
    let mut db = Db::new().await;
    db.ask(CREATE).await;
    let used = "select last_used_at, xmin from ops.api_tokens";
    db.ask(FIND).await;
    let first = db.ask(used).await;
    assert!(first.starts_with("20"), "{first}");
    db.ask(FIND).await;
    assert_eq!(db.ask(used).await, first, "not written again");
    db.ask("update ops.api_tokens set last_used_at = now() - interval '61 s'").await;
    let mut other = db.login("worker").await;
    other.ask("begin; select from ops.api_tokens for update").await;
    db.ask("set lock_timeout = '5 s'").await;
    assert_eq!(db.ask(FIND).await, "ci|{runs:read,runs:write}");
    other.ask("commit").await;
    db.ask(FIND).await;
    assert_eq!(db.ask("select last_used_at > now() - interval '30 s' from ops.api_tokens").await, "t");
}

#[tokio::test]
async fn names_are_unique_among_the_living_and_rows_are_whole() {
    let mut db = Db::new().await;
    let id = db.ask(CREATE).await;
    let again = CREATE.replace("the secret", "a second");
    assert_eq!(db.refused(&again).await, "23505: a token named ci is in use: revoke it, or take another name");
    db.ask("update ops.api_tokens set created_at = now() - interval '2 hours', expires_at = now()").await;
    let second = db.ask(&again).await;
    assert_eq!(
        db.ask(&format!("select revoked_at is not null from ops.api_tokens where token_id = '{id}'")).await,
        "t"
    );
    db.ask(&format!("select ops.revoke_token('{second}', 'olga')")).await;
    db.ask(&CREATE.replace("the secret", "a third")).await;
    for (arguments, constraint) in [
        ("'x', sha256('a third'), '{admin}', 'olga'", "token_hash"),
        ("'x', 'short', '{admin}', 'olga'", "api_tokens_hash_is_sha256"),
        ("'x', sha256('x'), '{root}', 'olga'", "api_tokens_scopes_are_known"),
        ("'x', sha256('x'), '{}', 'olga'", "api_tokens_scopes_are_known"),
        ("'x', sha256('x'), '{null}', 'olga'", "api_tokens_scopes_are_known"),
        ("' ', sha256('x'), '{admin}', 'olga'", "api_tokens_name_is_given"),
        ("'x', sha256('x'), '{admin}', ''", "api_tokens_creator_is_given"),
        ("'x', sha256('x'), '{admin}', 'olga', now()", "api_tokens_expire_later"),
    ] {
        let refused = db.refused(&format!("select ops.create_token({arguments})")).await;
        assert!(refused.contains(constraint), "{arguments}: {refused}");
    }
}
