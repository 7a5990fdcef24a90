-- The documented functions, with their names, arguments, results, errors and side effects; callers in
-- any language use them, and obey the same rules as our own runners.
--
-- They know no lease tokens. A claim holds as long as its holder is heard of: every event extends it.
-- Who wants more gives the token of the claim (ops.runs.lease_token) as the last argument.
--
-- The documented errors keep their SQLSTATE, too: that of a plain `raise`, which gateways answer with
-- 400, where `no_data_found` would be a fault of the server.

-- Who asks needs no right of a project: runners, the owner of these tables, and superusers. As a
-- security definer it runs as that owner; the asking role is what `set role` said, or who logged in.
-- Rights count as they are inherited: who must `set role` first is not trusted before that.
create function ops.is_trusted() returns boolean
    -- Not of SQL, which is planned anew in each transaction.
    language plpgsql stable security definer
    set search_path = ''
as $$
declare
    asking name := coalesce(nullif(current_setting('role', true), 'none'), session_user);
begin
    return pg_has_role(asking, current_user, 'usage')
        -- The role may be missing: not everybody may create roles.
        or coalesce(pg_has_role(asking, to_regrole('ops_runner'), 'usage'), false);
end
$$;

-- Whether who asks may do this in this project.
create function ops.may(p_project_id text, p_permission text) returns boolean
    language sql stable security definer
    set search_path = ''
as $$
    select ops.is_trusted() or ops.user_has_permission(ops.current_user_id(), p_project_id, p_permission)
$$;

-- The same for many rows: asked once for a statement, where a function of each row is called for each.
create function ops.permitted_projects(p_permission text) returns setof text
    language sql stable security definer
    set search_path = ''
as $$
    select m.project_id
    from ops.project_members m
    where m.user_id = ops.current_user_id() and ops.user_has_permission(m.user_id, m.project_id, p_permission)
$$;

create function ops.require(p_project_id text, p_permission text) returns void
    language plpgsql stable security definer
    set search_path = ''
as $$
begin
    if not ops.may(p_project_id, p_permission) then
        raise exception 'permission denied: % for project %', p_permission, p_project_id
            using errcode = 'insufficient_privilege';
    end if;
end
$$;

-- The environment of this type, for who may do this there. What somebody may not see does not exist
-- for them.
create function ops.environment_for(p_project_id text, p_env text, p_permission text) returns ops.environments
    language plpgsql stable security definer
    set search_path = ''
as $$
declare
    env ops.environments;
begin
    if not ops.may(p_project_id, 'project:read')
       or not exists (select from ops.projects p where p.project_id = p_project_id) then
        raise exception 'Project % does not exist', p_project_id;
    end if;
    perform ops.require(p_project_id, p_permission);
    select e.* into env from ops.environments e where e.project_id = p_project_id and e.env_type = p_env;
    if env.env_id is null then
        raise exception 'Environment % not found for project %', p_env, p_project_id;
    end if;
    return env;
end
$$;

create function ops.queue_run(
    p_project_id text, p_env text, p_git_sha text, p_git_ref text,
    p_metadata jsonb default '{}', p_idempotency_key text default null
)
returns table (run_id text, status text, queued_at timestamptz)
    language plpgsql security definer
    set search_path = ''
as $$
#variable_conflict use_column
declare
    env ops.environments := ops.environment_for(p_project_id, p_env, 'run:create');
begin
    return query
    select q.run_id, q.status, q.queued_at
    from ops.enqueue(
        'build', '{}', p_project_id, env.env_id, p_git_sha, p_git_ref, p_metadata,
        p_idempotency_key => p_idempotency_key,
        p_event => jsonb_build_object('git_sha', p_git_sha, 'git_ref', p_git_ref, 'env', p_env)
    ) as q;
end
$$;

-- How long a claim of an external worker holds until its first event, and after each.
create function ops.external_lease() returns interval
    language sql immutable
    return interval '30 minutes';

-- Of builds alone: who knows no other kind is given no other. What `ops.claim_runs` does for many, here
-- for one, which is half the work.
create function ops.claim_next_run(p_worker_id text)
returns table (run_id text, project_id text, env_id text, git_sha text, git_ref text, metadata jsonb)
    language plpgsql security definer
    set search_path = ''
    set plan_cache_mode = force_generic_plan
    set jit = off
    set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    chosen      text;
    key         text;
    the_attempt integer;
begin
    if exists (select from ops.paused_kinds p where p.kind = 'build') then
        return;
    end if;
    select c.run_id, c.concurrency_key into chosen, key
    from unnest('{1,2,3,4,5,6,7,8,9}'::smallint[]) as p
    cross join lateral (
        select r.run_id, r.concurrency_key
        from ops.runs r
        where r.status = 'queued' and r.kind = 'build' and r.priority = p and r.run_at <= now()
          and (r.concurrency_key is null or not exists (
              select from ops.runs b
              where b.concurrency_key = r.concurrency_key and b.status in ('claimed', 'running')
          ))
        order by r.run_at, r.seq
        limit 1
        for update of r skip locked
    ) as c
    limit 1;
    if chosen is null then
        return;
    elsif key is not null then
        -- Who shares a key must be kept from it first.
        return query
        select c.run_id, c.project_id, c.env_id, c.git_sha, c.git_ref, c.metadata
        from ops.claim_runs(p_worker_id, '{build}', 1, ops.external_lease()) as c;
        return;
    end if;
    update ops.runs r
    set status = 'claimed', claimed_by = p_worker_id, attempt = r.attempt + 1, lease_token = r.lease_token + 1,
        lease_expires_at = now() + ops.external_lease(), heartbeat_at = now(), started_at = now(), updated_at = now(),
        requeued_for = null
    where r.run_id = chosen
    returning r.run_id, r.project_id, r.env_id, r.git_sha, r.git_ref, r.metadata, r.attempt
    into run_id, project_id, env_id, git_sha, git_ref, metadata, the_attempt;
    insert into ops.run_events (run_id, level, message, payload, attempt)
    values (chosen, 'info', 'Run claimed by worker', jsonb_build_object('worker_id', p_worker_id), the_attempt);
    return next;
end
$$;

-- Whether who asks is the run's holder: every runner speaks for any, a person for what was claimed in
-- their own name.
create function ops.is_holder(p_claimed_by text) returns boolean
    language sql stable security definer
    set search_path = ''
as $$ select ops.is_trusted() or coalesce(p_claimed_by = ops.current_user_id(), false) $$;

-- The run of an external caller, locked, for its holder and who else may do this; refused when
-- another holds it by now.
create function ops.run_for(p_run_id text, p_lease_token bigint, p_permission text) returns ops.runs
    language plpgsql security definer
    set search_path = ''
as $$
declare
    run ops.runs;
begin
    select r.* into run from ops.runs r where r.run_id = p_run_id for update;
    if run.run_id is null or not (ops.is_holder(run.claimed_by) or ops.may(run.project_id, 'run:read')) then
        raise exception 'Run % does not exist', p_run_id;
    end if;
    if not ops.is_holder(run.claimed_by) then
        perform ops.require(run.project_id, p_permission);
    end if;
    if run.lease_token <> p_lease_token then
        raise exception 'the lease of run % is stale: it was claimed again since', p_run_id
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    return run;
end
$$;

create function ops.append_event(
    p_run_id text, p_level text, p_message text, p_payload jsonb default '{}', p_lease_token bigint default null
) returns text
    language plpgsql security definer
    set search_path = ''
as $$
declare
    run ops.runs := ops.run_for(p_run_id, p_lease_token, 'run:logs');
    id  text;
begin
    if p_level is null or p_level not in ('debug', 'info', 'warn', 'error') then
        raise exception 'Invalid log level: %', p_level;
    end if;
    if run.status in ('success', 'failed', 'cancelled') then
        raise exception 'Run % is finished: %', p_run_id, run.status
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    -- A bystander's words do not keep a dead worker's claim alive.
    if run.status in ('claimed', 'running') and ops.is_holder(run.claimed_by) then
        update ops.runs r
        set status = 'running', heartbeat_at = now(), updated_at = now(),
            -- A runner of ours renews its leases itself, and shorter ones.
            lease_expires_at = case
                when exists (select from ops.runners w where w.runner_id = run.claimed_by) then r.lease_expires_at
                else greatest(r.lease_expires_at, now() + ops.external_lease())
            end
        where r.run_id = p_run_id;
    end if;
    insert into ops.run_events (run_id, level, message, payload, attempt)
    values (p_run_id, p_level, p_message, coalesce(p_payload, '{}'), nullif(run.attempt, 0))
    returning event_id into id;
    return id;
end
$$;

create function ops.finish_run(
    p_run_id text, p_status text, p_metadata jsonb default '{}', p_lease_token bigint default null
) returns boolean
    language plpgsql security definer
    set search_path = ''
    set plan_cache_mode = force_generic_plan
    set jit = off
as $$
declare
    run         ops.runs;
    the_attempt integer;
begin
    if p_status is null or p_status not in ('success', 'failed', 'cancelled') then
        raise exception 'Invalid final status: %', p_status;
    end if;
    -- Who may not is told why; so is whoever comes too late. The usual way needs no look beforehand.
    if not ops.is_trusted() then
        run := ops.run_for(p_run_id, p_lease_token, 'run:update');
    end if;
    update ops.runs r
    set status = p_status, finished_at = now(), updated_at = now(), lease_expires_at = null,
        metadata = r.metadata || coalesce(p_metadata, '{}'),
        error = case p_status
            when 'failed' then coalesce(p_metadata ->> 'error', 'failed, and said nothing')
            when 'cancelled' then coalesce(p_metadata ->> 'error', r.error)
        end
    where r.run_id = p_run_id and (p_lease_token is null or r.lease_token = p_lease_token)
      and (r.lease_expires_at is not null or (r.status = 'queued' and p_status = 'cancelled'))
    returning r.attempt into the_attempt;
    if not found then
        run := ops.run_for(p_run_id, p_lease_token, 'run:update');
        if run.status = p_status then
            return true;
        elsif run.status = 'queued' then
            raise exception 'Run % is queued: it must be claimed first', p_run_id
                using errcode = 'object_not_in_prerequisite_state';
        end if;
        raise exception 'Run % is finished: %', p_run_id, run.status
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    insert into ops.run_events (run_id, level, message, payload, attempt)
    values (p_run_id, case when p_status = 'success' then 'info' else 'error' end, 'Run finished: ' || p_status,
            coalesce(p_metadata, '{}'), nullif(the_attempt, 0));
    return true;
end
$$;

-- The names of the later specification: thin words for the same.

create function ops.start_workflow_run(p_run_id text, p_worker_id text) returns boolean
    language plpgsql security definer
    set search_path = ''
as $$
declare
    run ops.runs := ops.run_for(p_run_id, null, 'run:update');
begin
    if run.status not in ('claimed', 'running') then
        raise exception 'Run % is %: it must be claimed first', p_run_id, run.status
            using errcode = 'object_not_in_prerequisite_state';
    elsif run.claimed_by is distinct from p_worker_id then
        raise exception 'Run % is claimed by %', p_run_id, run.claimed_by
            using errcode = 'object_not_in_prerequisite_state';
    elsif run.status = 'claimed' then
        update ops.runs r set status = 'running' where r.run_id = p_run_id;
        perform ops.append_event(p_run_id, 'info', 'Run started', jsonb_build_object('worker_id', p_worker_id));
    end if;
    return true;
end
$$;

create function ops.complete_workflow_run(p_run_id text, p_exit_code integer, p_error_message text default null)
returns boolean
    language sql security definer
    set search_path = ''
as $$
    select ops.finish_run(
        p_run_id, case when p_exit_code = 0 then 'success' else 'failed' end,
        jsonb_strip_nulls(jsonb_build_object(
            'exit_code', p_exit_code,
            'error', case when p_exit_code is distinct from 0
                then coalesce(p_error_message, 'exit code ' || p_exit_code, 'no exit code') end
        ))
    )
$$;

create function ops.append_run_log(p_run_id text, p_level text, p_message text, p_metadata jsonb default '{}')
returns text
    language sql security definer
    set search_path = ''
as $$ select ops.append_event(p_run_id, p_level, p_message, p_metadata) $$;

-- Also after the end: what a run left behind may be listed later than it ended.
create function ops.add_run_artifact(
    p_run_id text, p_artifact_key text, p_s3_url text, p_checksum text default null, p_content_type text default null,
    p_size_bytes bigint default null, p_expires_at timestamptz default null, p_artifact_type text default 'other',
    p_metadata jsonb default '{}'
) returns text
    language plpgsql security definer
    set search_path = ''
as $$
declare
    run ops.runs := ops.run_for(p_run_id, null, 'run:update');
    id  text;
begin
    insert into ops.artifacts as a (run_id, artifact_key, artifact_type, storage_path, digest, content_type, size_bytes,
                                    expires_at, metadata)
    values (run.run_id, p_artifact_key, p_artifact_type, p_s3_url,
            -- A checksum comes with or without its algorithm; it is kept with it.
            case when p_checksum ~ '^[0-9A-Fa-f]{64}$' then 'sha256:' || lower(p_checksum) else p_checksum end,
            p_content_type, p_size_bytes, p_expires_at, coalesce(p_metadata, '{}'))
    on conflict (run_id, artifact_key) do update
    set artifact_type = excluded.artifact_type, storage_path = excluded.storage_path, digest = excluded.digest,
        content_type = excluded.content_type, size_bytes = excluded.size_bytes, expires_at = excluded.expires_at,
        metadata = excluded.metadata
    returning a.artifact_id into id;
    return id;
end
$$;

create function ops.list_queued_runs()
returns table (
    run_id text, kind text, project_id text, env_id text, priority smallint, run_at timestamptz, queued_at timestamptz,
    attempt integer, is_paused boolean
)
    language sql stable security definer
    set search_path = ''
as $$
    select r.run_id::text, r.kind::text, r.project_id, r.env_id, r.priority::smallint, r.run_at, r.queued_at,
           r.attempt::integer,
           r.kind::text in (select p.kind from ops.paused_kinds p)
    from ops.runs r
    where r.status = 'queued'
      and ((select ops.is_trusted()) or r.project_id in (select ops.permitted_projects('run:read')))
    order by r.priority, r.run_at, r.seq
$$;

create view ops.run_logs with (security_invoker = true) as
    select event_id as log_id, seq, run_id, created_at as "timestamp", level::text, message, payload as metadata
    from ops.run_events;

create view ops.run_artifacts with (security_invoker = true) as
    select artifact_id, run_id, artifact_key, storage_path as s3_url, substr(digest, 8) as checksum, content_type,
           size_bytes, expires_at, created_at, metadata
    from ops.artifacts;

comment on view ops.run_logs is 'run_events under the names of the later specification';
comment on view ops.run_artifacts is 'artifacts under the names of the later specification; checksum: SHA-256';

-- Some of the old events of finished runs; returns how many went. So much at a time that no statement
-- takes long, however much has gathered.
create function ops.cleanup_some_events(p_retention_days integer, p_limit integer) returns integer
    language plpgsql security definer
    set search_path = ''
as $$
declare
    gone integer;
begin
    if p_retention_days is null or p_retention_days < 0 then
        raise exception 'retention_days must not be negative: %', p_retention_days
            using errcode = 'invalid_parameter_value';
    end if;
    delete from ops.run_events e
    where e.ctid = any(array(
        select o.ctid
        from ops.run_events o
        join ops.runs r on r.run_id = o.run_id
        where r.finished_at is not null and o.created_at < now() - make_interval(days => p_retention_days)
        limit p_limit
    ));
    get diagnostics gone = row_count;
    return gone;
end
$$;

-- All of them. Returns how many went. Events of runs that are not finished stay.
create function ops.cleanup_old_events(retention_days integer default 90) returns integer
    language plpgsql security definer
    set search_path = ''
as $$
declare
    gone integer := 0;
    batch integer;
begin
    loop
        batch := ops.cleanup_some_events(retention_days, 10000);
        gone := gone + batch;
        exit when batch = 0;
    end loop;
    return gone;
end
$$;

-- What consoles list, newest first: each of those whom the caller may see.

create function ops.list_projects()
returns table (
    project_id text, name text, repo_slug text, odoo_version text, created_at timestamptz, updated_at timestamptz,
    metadata jsonb
)
    language sql stable security definer
    set search_path = ''
as $$
    select p.project_id, p.name, p.repo_slug, p.odoo_version, p.created_at, p.updated_at, p.metadata
    from ops.projects p
    where (select ops.is_trusted()) or p.project_id in (select ops.permitted_projects('project:read'))
    order by p.created_at desc, p.project_id
$$;

create function ops.list_environments(p_project_id text default null)
returns table (
    env_id text, project_id text, env_type text, branch_pattern text, db_name text, config jsonb,
    created_at timestamptz, updated_at timestamptz
)
    language sql stable security definer
    set search_path = ''
as $$
    select e.env_id, e.project_id, e.env_type, e.branch_pattern, e.db_name, e.config, e.created_at, e.updated_at
    from ops.environments e
    where (p_project_id is null or e.project_id = p_project_id)
      and ((select ops.is_trusted()) or e.project_id in (select ops.permitted_projects('env:read')))
    order by e.created_at desc, e.env_id
$$;

-- Runs of projects. Of each environment the newest are read by their index, however many there are.
create function ops.list_runs(p_project_id text default null, p_limit integer default 50)
returns table (
    run_id text, project_id text, env_id text, git_sha text, git_ref text, status text, claimed_by text,
    queued_at timestamptz, started_at timestamptz, finished_at timestamptz, created_at timestamptz,
    updated_at timestamptz, metadata jsonb
)
    language plpgsql stable security definer
    set search_path = ''
as $$
#variable_conflict use_column
declare
    most integer := greatest(coalesce(p_limit, 50), 0);
begin
    return query
    select r.run_id::text, r.project_id, r.env_id, r.git_sha, r.git_ref, r.status::text, r.claimed_by::text,
           r.queued_at, r.started_at, r.finished_at, r.created_at, r.updated_at, r.metadata::jsonb
    from ops.projects p
    cross join lateral (
        (select n.* from ops.runs n
         where n.project_id = p.project_id and n.env_id is null order by n.queued_at desc limit most)
        union all
        select n.* from ops.environments e
        cross join lateral (
            select i.* from ops.runs i
            where i.project_id = p.project_id and i.env_id = e.env_id order by i.queued_at desc limit most
        ) as n
        where e.project_id = p.project_id
    ) as r
    where (p_project_id is null or p.project_id = p_project_id)
      and ((select ops.is_trusted()) or p.project_id in (select ops.permitted_projects('run:read')))
    order by r.queued_at desc, r.seq desc
    limit most;
end
$$;

-- They belong in `public`, where consoles look for them. Who may make nothing there, or finds one of the
-- same name, keeps them here: a missing name must not stand in the way of the queue.
do $$
declare
    list text;
begin
    foreach list in array array['list_projects()', 'list_environments(text)', 'list_runs(text, integer)'] loop
        if to_regprocedure('public.' || list) is not null then
            raise notice 'public has a function of this name: ops.% stays where it is', list;
        elsif not has_schema_privilege('public', 'create') then
            raise notice 'grant create on schema public to %, then: alter function ops.% set schema public',
                current_user, list;
        else
            execute format('alter function ops.%s set schema public', list);
        end if;
    end loop;
end
$$;
