-- Builds of one environment go one after the other, and what fails is tried again after a time in which
-- a provider may have recovered.

-- A second and two were over before anybody's outage was. An attempt that was lost with its runner
-- need not wait for that: see `ops.rescue_runs`.
alter table ops.runs
    alter column backoff_seconds set default 30,
    alter column backoff_max_seconds set default 600;

-- Of two builds that go side by side, the one that deploys last is what stays, whichever commit is newer.
update ops.runs r set concurrency_key = 'environment:' || r.env_id
where r.kind = 'build' and r.status = 'queued' and r.concurrency_key is null;

-- Queues a run, once for each idempotency key: who asks again gets the run that is there. The same key
-- for something else is refused. Builds of an environment take turns, unless another key is given.
create or replace function ops.enqueue(
    p_kind text, p_input jsonb default '{}', p_project_id text default null, p_env_id text default null,
    p_git_sha text default null, p_git_ref text default null, p_metadata jsonb default '{}',
    p_priority integer default 5, p_run_at timestamptz default null, p_max_attempts integer default 3,
    p_concurrency_key text default null, p_idempotency_key text default null,
    p_event jsonb default '{}'
)
returns table (run_id text, status text, queued_at timestamptz, is_new boolean)
    language plpgsql
    set search_path = ''
as $$
#variable_conflict use_column
declare
    -- Not of the whole row: all of its domains would be checked again.
    there record;
begin
    insert into ops.runs (kind, input, project_id, env_id, git_sha, git_ref, metadata, priority, run_at, max_attempts,
                          concurrency_key, idempotency_key)
    values (p_kind, coalesce(p_input, '{}'), p_project_id, p_env_id, p_git_sha, p_git_ref, coalesce(p_metadata, '{}'),
            p_priority, coalesce(p_run_at, now()), p_max_attempts,
            coalesce(p_concurrency_key, case when p_kind = 'build' then 'environment:' || p_env_id end),
            p_idempotency_key)
    on conflict (idempotency_key) where idempotency_key is not null do nothing
    returning run_id, status, queued_at, true into run_id, status, queued_at, is_new;
    if is_new then
        insert into ops.run_events (run_id, level, message, payload)
        values (enqueue.run_id, 'info', 'Run queued', p_event);
        return next;
        return;
    end if;
    select r.run_id, r.status, r.queued_at, r.kind, r.input, r.project_id, r.env_id, r.git_sha, r.git_ref, r.metadata
    into strict there
    from ops.runs r where r.idempotency_key = p_idempotency_key;
    if (there.kind, there.input, there.project_id, there.env_id, there.git_sha, there.git_ref)
       is distinct from (p_kind, coalesce(p_input, '{}'), p_project_id, p_env_id, p_git_sha, p_git_ref)
       -- A build is its commit; who queues it may note something else each time.
       or (p_kind <> 'build' and there.metadata <> coalesce(p_metadata, '{}')) then
        raise exception 'idempotency key % was used for another run', p_idempotency_key
            using errcode = 'unique_violation';
    end if;
    return query select there.run_id::text, there.status::text, there.queued_at, false;
end
$$;

-- Frees runs whose holder was not heard of in time: queued again while an attempt is left.
create or replace function ops.rescue_runs(p_limit integer default 100)
returns table (run_id text, status text)
    language plpgsql
    set search_path = ''
    set plan_cache_mode = force_generic_plan
    set jit = off
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    lost text[] := array(
        select r.run_id
        from ops.runs r
        where r.status in ('claimed', 'running') and r.lease_expires_at < now()
        order by r.lease_expires_at
        limit p_limit
        for update skip locked
    );
begin
    return query
    with held as (
        select r.run_id, r.claimed_by, r.attempt from ops.runs r where r.run_id = any(lost)
    ), freed as (
        update ops.runs r
        set status = case
                when r.cancel_requested_at is not null then 'cancelled'
                when r.attempt < r.max_attempts then 'queued'
                else 'failed'
            end,
            requeued_for = 'lost', lease_expires_at = null, finished_at = now(),
            -- Its lease was waited for already.
            run_at = now() + ops.backoff(r.attempt, least(r.backoff_seconds, 1), r.backoff_max_seconds),
            error = 'its runner ' || r.claimed_by || ' was not heard of in time', updated_at = now()
        where r.run_id = any(lost)
        returning r.run_id, r.status
    ), said as (
        insert into ops.run_events (run_id, level, message, payload, attempt)
        select h.run_id, 'warn', 'Run rescued: its worker was not heard of in time',
               jsonb_build_object('worker_id', h.claimed_by, 'status', f.status), h.attempt
        from freed f join held h using (run_id)
    )
    select f.run_id::text, f.status::text from freed f;
end
$$;

-- The newest build of the same environment that was queued after this one and has come into service
-- already. Null: there is none, or somebody has asked for this one again since.
create function ops.superseded_by(p_run_id text) returns text
    language sql stable
    set search_path = ''
as $$
    select newer.run_id
    from ops.runs this
    join ops.runs newer on newer.project_id = this.project_id and newer.env_id = this.env_id
                       and newer.kind = 'build' and newer.seq > this.seq
    join ops.run_phases d on d.run_id = newer.run_id and d.name = 'deploy_runtime' and d.status = 'success'
    where this.run_id = p_run_id
      and not exists (
          select from ops.run_events asked
          where asked.run_id = this.run_id and asked.message = 'Run queued again' and asked.created_at > d.finished_at
      )
    order by newer.seq desc
    limit 1
$$;
