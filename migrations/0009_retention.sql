-- Retention: what nobody needs any more goes, in small batches, and everything that is kept says why.
--
-- What may go is decided here, once, for the look (`runs prune --dry-run`), and again under locks for the
-- deed. `*_past` are looks: what is old enough, with the reason why it stays nevertheless, or null. What
-- lies in a store is removed by a runner between `hold_*` and the end of that transaction: the object
-- first, then the row, so that no object is forgotten. Runs that wait, or are under way, are never touched.

-- As that store names itself. Null: who recorded it did not say.
alter table ops.artifacts add column store text;

-- A restore names its backup as long as it is remembered itself; so does then what is left of the backup.
alter table ops.backups add column dump_deleted_at timestamptz;
-- Nobody can make it one that is kept again.
alter table ops.backups add constraint backups_deleted_has_expired check (
    dump_deleted_at is null or coalesce(expires_at <= dump_deleted_at, false)
);
create index backups_good on ops.backups (project_id, env_id, finished_at desc) where status = 'success';

create index runs_by_end on ops.runs (finished_at, run_id) where finished_at is not null;
create index runs_good_builds on ops.runs (project_id, env_id, seq) where kind = 'build' and status = 'success';

-- How many successful builds of an environment are kept for `rollback-from-<run_id>`.
create function ops.builds_kept() returns integer
    language sql immutable
    return 10;

-- Why this run must stay, however old it is; null: it may go.
create function ops.run_kept_for(p_run_id text) returns text
    language plpgsql stable security definer
    set search_path = ''
as $$
declare
    run ops.runs;
begin
    select r.* into run from ops.runs r where r.run_id = p_run_id;
    if run.finished_at is null then
        return 'it is not finished';
    -- Whatever is left of them: who made it, and what came of it, stands with the run.
    elsif exists (select from ops.backups b where b.run_id = p_run_id) then
        return 'a backup names it';
    elsif exists (select from ops.restores s where s.run_id = p_run_id) then
        return 'a restore names it';
    -- A deployment or workflow that is named after its run is a part of that run. What stands by itself
    -- would no longer say who made it, and of an intent without an outcome nobody would look for it.
    elsif exists (
        select from ops.resources s
        where s.run_id = p_run_id and (s.status in ('intended', 'deleting') or (s.status = 'live' and s.name <> p_run_id))
    ) then
        return 'a resource names it';
    -- A phase that waits for it would queue it a second time.
    elsif exists (
        select from ops.runs p
        where p.run_id = split_part(run.idempotency_key, ':', 1) and p.finished_at is null
    ) then
        return 'a run that is not finished waits for it';
    -- As the phase that makes the image leaves it behind, and a rollback finds it.
    elsif run.kind = 'build' and run.status = 'success' and ops.has_image(p_run_id) and (
        select count(*) from (
            select from ops.runs n
            where n.project_id = run.project_id and n.env_id = run.env_id and n.kind = 'build' and n.status = 'success'
              and n.seq > run.seq and ops.has_image(n.run_id)
            limit ops.builds_kept()
        ) as newer
    ) < ops.builds_kept() then
        return 'its image can be gone back to';
    end if;
    return null;
end
$$;

create function ops.has_image(p_run_id text) returns boolean
    language plpgsql stable security definer
    set search_path = ''
as $$
begin
    return exists (
        select from ops.run_phases p
        where p.run_id = p_run_id and p.name = 'build_image' and p.status = 'success'
          and p.output ->> 'image_digest' is not null
    );
end
$$;

-- The end of what is kept for so many days; null: all of it is kept.
create function ops.kept_since(p_days integer) returns timestamptz
    language plpgsql stable
    set search_path = ''
as $$
begin
    if p_days is null or p_days < 0 then
        raise exception 'retention days must not be negative: %', p_days using errcode = 'invalid_parameter_value';
    end if;
    return case when p_days > 0 then now() - make_interval(days => p_days) end;
end
$$;

-- Runs that finished longer ago, the oldest first, after this one.
create function ops.runs_past(
    p_days integer, p_after_time timestamptz default '-infinity', p_after_id text default '', p_limit integer default 100
)
returns table (run_id text, finished_at timestamptz, kept_for text)
    language plpgsql stable security definer
    set search_path = ''
as $$
#variable_conflict use_column
declare
    since timestamptz := ops.kept_since(p_days);
begin
    return query
    select f.run_id::text, f.finished_at, ops.run_kept_for(f.run_id)
    from (
        select r.run_id, r.finished_at from ops.runs r
        where r.finished_at < since and (r.finished_at, r.run_id) > (p_after_time, p_after_id collate "C")
        order by r.finished_at, r.run_id limit p_limit
    ) as f
    order by f.finished_at, f.run_id;
end
$$;

-- Deletes those of these runs that may go, with all that belongs to them, once nothing of theirs lies in a
-- store any more. First their events, so many at a time: as long as `events` is all of `p_limit`, no run
-- goes, and there is more to do.
create function ops.prune_runs(p_run_ids text[], p_days integer, p_limit integer default 10000)
returns table (runs bigint, events bigint)
    language plpgsql security definer
    set search_path = ''
as $$
#variable_conflict use_column
declare
    since timestamptz := ops.kept_since(p_days);
    going text[] := array(
        select r.run_id from ops.runs r
        where r.run_id = any(p_run_ids) and r.finished_at < since
        -- Who queues it again at this moment is not waited for.
        for update skip locked
    );
begin
    runs := 0;
    -- Another statement, so that it sees what was committed before the locks were taken.
    going := array(
        select id from unnest(going) as id
        where ops.run_kept_for(id) is null and not exists (select from ops.artifacts a where a.run_id = id)
    );
    delete from ops.run_events e
    where e.ctid = any(array(select o.ctid from ops.run_events o where o.run_id = any(going) limit p_limit));
    get diagnostics events = row_count;
    if events < p_limit then
        delete from ops.resources s where s.run_id = any(going);
        delete from ops.runs r where r.run_id = any(going);
        get diagnostics runs = row_count;
    end if;
    return next;
end
$$;

-- Why this artifact must stay; null: it may go.
create function ops.artifact_kept_for(p_artifact_id text, p_days integer) returns text
    language plpgsql stable security definer
    set search_path = ''
as $$
declare
    artifact ops.artifacts;
    run      ops.runs;
begin
    select a.* into artifact from ops.artifacts a where a.artifact_id = p_artifact_id;
    select r.* into run from ops.runs r where r.run_id = artifact.run_id;
    if run.finished_at is null then
        return 'its run is not finished';
    elsif exists (
        select from ops.backups b
        where b.run_id = run.run_id and b.db_dump_path = artifact.storage_path and b.dump_deleted_at is null
    ) then
        return 'a backup is made of it';
    elsif artifact.expires_at <= now() then
        return null;
    elsif run.finished_at < ops.kept_since(p_days) then
        return ops.run_kept_for(run.run_id);
    end if;
    return 'it has not expired';
end
$$;

-- Artifacts that have expired, the first ones first, after this one; or all that are left of these runs.
create function ops.artifacts_past(
    p_days integer, p_run_ids text[] default null, p_after_time timestamptz default '-infinity',
    p_after_id text default '', p_limit integer default 100
)
returns table (
    artifact_id text, run_id text, project_id text, env_id text, artifact_key text, storage_path text, store text,
    expires_at timestamptz, kept_for text
)
    language plpgsql stable security definer
    set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select f.artifact_id, f.run_id::text, r.project_id, r.env_id, f.artifact_key, f.storage_path, f.store,
           f.expires_at, ops.artifact_kept_for(f.artifact_id, p_days)
    from (
        (select a.* from ops.artifacts a
         where p_run_ids is null and a.expires_at <= now() and (a.expires_at, a.artifact_id) > (p_after_time, p_after_id)
         order by a.expires_at, a.artifact_id limit p_limit)
        union all
        (select a.* from ops.artifacts a
         where a.run_id = any(p_run_ids) and a.artifact_id > p_after_id
         order by a.artifact_id limit p_limit)
    ) as f
    join ops.runs r on r.run_id = f.run_id
    order by case when p_run_ids is null then f.expires_at end, f.artifact_id;
end
$$;

-- Those of these artifacts that may go, held until the end of the transaction, and their runs with them:
-- one that is queued again meanwhile would store them again, beside the removal.
create function ops.hold_artifacts(p_artifact_ids text[], p_days integer) returns setof text
    language plpgsql security definer
    set search_path = ''
as $$
declare
    held text[] := array(
        select a.artifact_id
        from ops.artifacts a join ops.runs r on r.run_id = a.run_id
        where a.artifact_id = any(p_artifact_ids)
        for update of a skip locked for share of r skip locked
    );
begin
    return query select id from unnest(held) as id where ops.artifact_kept_for(id, p_days) is null;
end
$$;

create function ops.prune_artifacts(p_artifact_ids text[]) returns bigint
    language plpgsql security definer
    set search_path = ''
as $$
declare
    gone bigint;
begin
    delete from ops.artifacts a where a.artifact_id = any(p_artifact_ids);
    get diagnostics gone = row_count;
    return gone;
end
$$;

-- Why this backup must stay; null: it may go.
create function ops.backup_kept_for(p_backup_id text, p_days integer) returns text
    language plpgsql stable security definer
    set search_path = ''
as $$
declare
    backup ops.backups;
begin
    select b.* into backup from ops.backups b where b.backup_id = p_backup_id;
    if backup.finished_at is null or exists (
        select from ops.runs r where r.run_id = backup.run_id and r.finished_at is null
    ) then
        return 'it is being made';
    elsif exists (
        select from ops.restores s left join ops.runs r on r.run_id = s.run_id
        where s.backup_id = p_backup_id
          -- A failed one whose run was queued again has not ended.
          and (s.finished_at is null or (r.run_id is not null and r.finished_at is null))
    ) then
        return 'it is being restored';
    elsif backup.dump_deleted_at is not null then
        return case when exists (select from ops.restores s where s.backup_id = p_backup_id)
            then 'a restore names it; its dump is deleted' end;
    elsif backup.status = 'success' and not exists (
        select from ops.backups n
        where n.project_id = backup.project_id and n.env_id = backup.env_id and n.status = 'success'
          and n.dump_deleted_at is null and (n.finished_at, n.backup_id) > (backup.finished_at, backup.backup_id)
    ) then
        return 'it is the newest of its environment';
    elsif backup.expires_at <= now()
          -- Nothing lies anywhere of what was not made.
          or (backup.status <> 'success' and backup.finished_at < ops.kept_since(p_days)) then
        return null;
    end if;
    return 'it has not expired';
end
$$;

-- Backups that have expired, and those that were never made and are as old as a run may become.
create function ops.backups_past(p_days integer, p_after_id text default '', p_limit integer default 100)
returns table (
    backup_id text, project_id text, env_id text, run_id text, status text, db_dump_path text, store text,
    is_deleted boolean, kept_for text
)
    language plpgsql stable security definer
    set search_path = ''
as $$
#variable_conflict use_column
declare
    since timestamptz := ops.kept_since(p_days);
begin
    return query
    select f.backup_id, f.project_id, f.env_id, f.run_id::text, f.status, f.db_dump_path,
           (select a.store from ops.artifacts a where a.run_id = f.run_id and a.storage_path = f.db_dump_path limit 1),
           f.dump_deleted_at is not null, ops.backup_kept_for(f.backup_id, p_days)
    from (
        select b.* from ops.backups b
        where b.backup_id > p_after_id
          and (b.expires_at <= now() or (b.status in ('failed', 'cancelled') and b.finished_at < since))
        order by b.backup_id limit p_limit
    ) as f
    order by f.backup_id;
end
$$;

-- Holds a backup until the end of the transaction. False: it is somebody's, or must stay.
create function ops.hold_backup(p_backup_id text, p_days integer) returns boolean
    language plpgsql security definer
    set search_path = ''
as $$
begin
    perform from ops.backups b where b.backup_id = p_backup_id for update skip locked;
    return found and ops.backup_kept_for(p_backup_id, p_days) is null;
end
$$;

-- Its dump is gone: the row goes, too, unless a restore names it, which then still says what was restored.
create function ops.prune_backup(p_backup_id text) returns void
    language plpgsql security definer
    set search_path = ''
as $$
begin
    delete from ops.artifacts a using ops.backups b
    where b.backup_id = p_backup_id and a.run_id = b.run_id and a.storage_path = b.db_dump_path;
    if exists (select from ops.restores s where s.backup_id = p_backup_id) then
        update ops.backups b set dump_deleted_at = now(), expires_at = least(b.expires_at, now())
        where b.backup_id = p_backup_id;
    else
        delete from ops.backups b where b.backup_id = p_backup_id;
    end if;
end
$$;

-- What else is past its time, at most `p_limit` (null: all) of each sort: the history of what people did,
-- for so many days; and runners that stopped, or were not heard of, for 30 days.
--
-- 'audit' · 'approvals': decided or expired, and what they were for has ended · 'restores': ended ·
-- 'tokens': revoked or expired · 'runners'
create function ops.history_past(p_days integer, p_limit integer default null)
returns table (sort text, id text)
    language plpgsql stable security definer
    set search_path = ''
as $$
declare
    since timestamptz := ops.kept_since(p_days);
begin
    return query
    (select 'audit', a.id::text from ops.audit_log a where a.at < since order by a.at limit p_limit)
    union all
    (select 'approvals', a.approval_id from ops.approvals a
     where a.status <> 'pending' and greatest(a.reviewed_at, a.expires_at) < since
       and not exists (select from ops.restores s where s.restore_id = a.resource_id and s.finished_at is null)
     limit p_limit)
    union all
    (select 'restores', s.restore_id from ops.restores s
     where s.finished_at < since
       and not exists (select from ops.runs r where r.run_id = s.run_id and r.finished_at is null)
     limit p_limit)
    union all
    (select 'tokens', t.token_id from ops.api_tokens t where least(t.revoked_at, t.expires_at) < since limit p_limit)
    union all
    (select 'runners', w.runner_id from ops.runners w where w.last_seen < now() - interval '30 days' limit p_limit);
end
$$;

-- Deletes some of it; returns how many of each sort. A runner may not delete from the audit log, and by
-- this function none that is younger than a month.
create function ops.prune_history(p_days integer, p_limit integer default 1000)
returns table (sort text, gone bigint)
    language plpgsql security definer
    set search_path = ''
as $$
begin
    if p_days between 1 and 29 then
        raise exception 'the audit log is kept for at least 30 days, or 0 for ever: %', p_days
            using errcode = 'invalid_parameter_value';
    end if;
    return query
    with past as materialized (
        select h.sort, h.id from ops.history_past(p_days, p_limit) as h
    ), audit as (
        delete from ops.audit_log t using past p where p.sort = 'audit' and t.id = p.id::bigint returning p.sort
    ), approvals as (
        delete from ops.approvals t using past p where p.sort = 'approvals' and t.approval_id = p.id returning p.sort
    ), restores as (
        delete from ops.restores t using past p where p.sort = 'restores' and t.restore_id = p.id returning p.sort
    ), tokens as (
        delete from ops.api_tokens t using past p where p.sort = 'tokens' and t.token_id = p.id returning p.sort
    ), runners as (
        delete from ops.runners t using past p where p.sort = 'runners' and t.runner_id = p.id returning p.sort
    ), all_of_it as (
        select * from audit union all select * from approvals union all select * from restores
        union all select * from tokens union all select * from runners
    )
    select a.sort, count(*) from all_of_it a group by a.sort;
end
$$;
