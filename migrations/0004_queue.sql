-- The queue: how runs are queued, claimed, kept, ended and rescued. Each step is one short
-- transaction; all times are the database's; who comes with an old lease token changes nothing.
--
-- Functions that take arrays are planned once, without looking at the arguments or believing in the
-- size of a table that was empty a minute ago: each row is looked up by its id. And nothing of it is
-- compiled first, which takes longer than the work.
--
-- What is held is told by its lease here (a constraint makes that the same as by its status): by its
-- status, it would be looked for among all that are held.

create function ops.queue_wakes() returns trigger
    language plpgsql
as $$
begin
    -- Nobody listens: whoever works looks by itself.
    if exists (select from ops.idle_runners) then
        perform pg_catalog.pg_notify('ops_runs', '');
    end if;
    return null;
end
$$;

create trigger runs_are_queued after insert on ops.runs
    for each statement execute function ops.queue_wakes();

-- Queues a run, once for each idempotency key: who asks again gets the run that is there. The same key
-- for something else is refused.
create function ops.enqueue(
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
    made  ops.runs;
    there ops.runs;
begin
    insert into ops.runs (kind, input, project_id, env_id, git_sha, git_ref, metadata, priority, run_at, max_attempts,
                          concurrency_key, idempotency_key)
    values (p_kind, coalesce(p_input, '{}'), p_project_id, p_env_id, p_git_sha, p_git_ref, coalesce(p_metadata, '{}'),
            p_priority, coalesce(p_run_at, now()), p_max_attempts, p_concurrency_key, p_idempotency_key)
    on conflict (idempotency_key) where idempotency_key is not null do nothing
    returning * into made;
    if made.run_id is null then
        select r.* into strict there from ops.runs r where r.idempotency_key = p_idempotency_key;
        if (there.kind, there.input, there.project_id, there.env_id, there.git_sha, there.git_ref)
           is distinct from (p_kind, coalesce(p_input, '{}'), p_project_id, p_env_id, p_git_sha, p_git_ref) then
            raise exception 'idempotency key % was used for another run: %', p_idempotency_key, there.run_id
                using errcode = 'unique_violation';
        end if;
        return query select there.run_id::text, there.status::text, there.queued_at, false;
        return;
    end if;
    insert into ops.run_events (run_id, level, message, payload) values (made.run_id, 'info', 'Run queued', p_event);
    return query select made.run_id::text, made.status::text, made.queued_at, true;
end
$$;

-- Takes up to `p_limit` runs of these kinds, the most urgent first, of a kind the oldest first, and of
-- equally urgent kinds those that are named first; nothing when there is nothing to do. Of runs with the same concurrency key it takes one, and none while one is under way.
create function ops.claim_runs(p_runner_id text, p_kinds text[], p_limit integer, p_lease interval)
returns table (
    run_id text, kind text, project_id text, env_id text, git_sha text, git_ref text, priority smallint,
    attempt integer, max_attempts integer, lease_token bigint, input jsonb, metadata jsonb,
    queued_at timestamptz, waited_seconds double precision, has_phases boolean
)
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
    kinds   text[] := p_kinds;
    payload jsonb := jsonb_build_object('worker_id', p_runner_id);
    chosen  text[];
    keyed   boolean;
begin
    if exists (select from ops.paused_kinds) then
        kinds := array(select k from unnest(p_kinds) as k where not exists (select from ops.paused_kinds p where p.kind = k));
    end if;
    -- One probe of the index for each priority and kind: an urgent flood that is not due yet, or one
    -- of another kind, is never walked through. As an array, so that the limit is no guess to the
    -- planner, who would otherwise read the whole table.
    select array_agg(q.run_id), bool_or(q.concurrency_key is not null) into chosen, keyed
    from (
        select c.run_id, c.concurrency_key
        from unnest('{1,2,3,4,5,6,7,8,9}'::smallint[]) as p
        cross join unnest(kinds) as k
        cross join lateral (
            select r.run_id, r.concurrency_key
            from ops.runs r
            where r.status = 'queued' and r.kind = k and r.priority = p and r.run_at <= now()
              and (r.concurrency_key is null or not exists (
                  select from ops.runs b
                  where b.concurrency_key = r.concurrency_key and b.status in ('claimed', 'running')
              ))
            order by r.run_at, r.seq
            limit p_limit
            for update of r skip locked
        ) as c
        limit p_limit
    ) as q;
    if chosen is null then
        return;
    end if;
    if keyed then
        -- Who else claims the same key at this moment either waits for nothing, because we have it, or
        -- has it. Another statement, so that it sees what was committed before the lock was taken.
        perform pg_catalog.pg_try_advisory_xact_lock(hashtextextended('ops.runs ' || r.concurrency_key, 0))
        from ops.runs r where r.run_id = any(chosen) and r.concurrency_key is not null;
        chosen := array(
            select f.run_id from (
                select r.run_id, r.concurrency_key,
                       row_number() over (partition by coalesce(r.concurrency_key, r.run_id) order by r.run_at, r.seq) as place
                from ops.runs r where r.run_id = any(chosen)
            ) as f
            where f.concurrency_key is null or (
                f.place = 1
                and pg_catalog.pg_try_advisory_xact_lock(hashtextextended('ops.runs ' || f.concurrency_key, 0))
                and not exists (
                    select from ops.runs b
                    where b.concurrency_key = f.concurrency_key and b.status in ('claimed', 'running')
                )
            )
        );
    end if;
    return query
    with claimed as (
        update ops.runs r
        set status = 'claimed', claimed_by = p_runner_id, attempt = r.attempt + 1, lease_token = r.lease_token + 1,
            lease_expires_at = now() + p_lease, heartbeat_at = now(), started_at = now(), updated_at = now(),
            requeued_for = null
        where r.run_id = any(chosen)
        returning r.run_id::text, r.kind::text, r.project_id, r.env_id, r.git_sha, r.git_ref, r.priority::smallint,
                  r.attempt::integer, r.max_attempts::integer, r.lease_token, r.input::jsonb, r.metadata::jsonb, r.queued_at, extract(epoch from now() - r.run_at)::double precision, r.last_phase is not null
    ), told as (
        insert into ops.run_events (run_id, level, message, payload, attempt)
        select c.run_id, 'info', 'Run claimed by worker', payload, c.attempt from claimed c
    )
    select * from claimed;
end
$$;

-- Ends these attempts, each by its own outcome: success, failed, cancelled, or retry (failed when no
-- attempt is left, cancelled when that was asked for). Returns those that were still the caller's; the
-- others are another's by now.
create function ops.finish_runs(
    p_run_ids text[], p_lease_tokens bigint[], p_outcomes text[], p_outputs jsonb[], p_errors text[]
)
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
begin
    return query
    with told as (
        select * from unnest(p_run_ids, p_lease_tokens, p_outcomes, p_outputs, p_errors)
            as t (run_id, lease_token, outcome, output, error)
    ), ended as (
        update ops.runs r
        set status = case
                when t.outcome <> 'retry' then t.outcome
                when r.cancel_requested_at is not null then 'cancelled'
                when r.attempt < r.max_attempts then 'queued'
                else 'failed'
            end,
            requeued_for = case when t.outcome = 'retry' then 'retry' end,
            run_at = case
                when t.outcome = 'retry' then now() + ops.backoff(r.attempt, r.backoff_seconds, r.backoff_max_seconds)
                else r.run_at
            end,
            output = coalesce(t.output, r.output),
            error = case when t.outcome = 'cancelled' then coalesce(t.error, r.error) else t.error end,
            lease_expires_at = null, finished_at = now(), updated_at = now()
        from told t
        where r.run_id = t.run_id and r.lease_token = t.lease_token and r.lease_expires_at is not null
        returning r.run_id::text, r.status::text, r.attempt::integer, r.run_at, t.error
    ), said as (
        insert into ops.run_events (run_id, level, message, payload, attempt)
        select e.run_id,
               case e.status when 'success' then 'info' when 'queued' then 'warn' else 'error' end,
               case when e.status = 'queued' then 'Run failed, another attempt follows' else 'Run finished: ' || e.status end,
               case when e.error is null then '{}'
                    else jsonb_strip_nulls(jsonb_build_object(
                        'error', e.error, 'run_at', case when e.status = 'queued' then e.run_at end)) end,
               e.attempt
        from ended e
    )
    select e.run_id, e.status from ended e;
end
$$;

-- Keeps leases, and says what became of each run: what is not returned is no longer the caller's.
create function ops.renew_runs(p_run_ids text[], p_lease_tokens bigint[], p_lease interval)
returns table (run_id text, cancel_requested boolean)
    language plpgsql
    set search_path = ''
    set plan_cache_mode = force_generic_plan
    set jit = off
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
    return query
    update ops.runs r
    set lease_expires_at = now() + p_lease, heartbeat_at = now()
    from unnest(p_run_ids, p_lease_tokens) as t (run_id, lease_token)
    where r.run_id = t.run_id and r.lease_token = t.lease_token and r.lease_expires_at is not null
    returning r.run_id::text, r.cancel_requested_at is not null;
end
$$;

-- Gives runs back that were not brought to an end through no fault of theirs: the attempt is not spent.
create function ops.hand_back_runs(p_run_ids text[], p_lease_tokens bigint[])
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
begin
    return query
    with held as (
        select r.run_id, r.claimed_by, r.attempt
        from unnest(p_run_ids, p_lease_tokens) as t (run_id, lease_token)
        join ops.runs r on r.run_id = t.run_id and r.lease_token = t.lease_token and r.lease_expires_at is not null
        for update of r
    ), given as (
        update ops.runs r
        set status = case when r.cancel_requested_at is null then 'queued' else 'cancelled' end,
            attempt = case when r.cancel_requested_at is null then r.attempt - 1 else r.attempt end,
            requeued_for = 'handed_back', updated_at = now()
        from held h where r.run_id = h.run_id
        returning r.run_id, r.status
    ), said as (
        insert into ops.run_events (run_id, level, message, payload, attempt)
        select h.run_id, 'info',
               case g.status when 'queued' then 'Run handed back by worker' else 'Run finished: cancelled' end,
               jsonb_build_object('worker_id', h.claimed_by), h.attempt
        from given g join held h using (run_id)
    )
    select g.run_id::text, g.status::text from given g;
end
$$;

-- Frees runs whose holder was not heard of in time: queued again while an attempt is left.
create function ops.rescue_runs(p_limit integer default 100)
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
            requeued_for = 'lost',
            run_at = now() + ops.backoff(r.attempt, r.backoff_seconds, r.backoff_max_seconds),
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

-- min(base * 2^(attempt - 1), max), by chance down to half of it.
create function ops.backoff(p_attempt integer, p_base real, p_max real) returns interval
    language sql volatile
    return make_interval(secs => least(p_base * power(2, least(p_attempt, 30) - 1), p_max) * (0.5 + random() / 2));

-- A queued run is cancelled at once; one that is under way is told, and ends when its runner has heard.
create function ops.cancel_run(p_run_id text, p_actor text, p_reason text default null) returns text
    language plpgsql
    set search_path = ''
as $$
declare
    run ops.runs;
begin
    select r.* into run from ops.runs r where r.run_id = p_run_id for update;
    if run.run_id is null then
        raise exception 'Run % does not exist', p_run_id using errcode = 'no_data_found';
    elsif run.status in ('success', 'failed') then
        raise exception 'run % is finished: %', p_run_id, run.status using errcode = 'object_not_in_prerequisite_state';
    elsif run.status = 'cancelled' or run.cancel_requested_at is not null then
        return run.status;
    end if;
    update ops.runs r
    set cancel_requested_at = now(), updated_at = now(), error = coalesce(p_reason, r.error),
        status = case when r.status = 'queued' then 'cancelled' else r.status end
    where r.run_id = p_run_id
    returning r.* into run;
    insert into ops.run_events (run_id, level, message, payload, attempt)
    values (p_run_id, 'warn', case when run.status = 'cancelled' then 'Run cancelled' else 'Cancellation requested' end,
            jsonb_strip_nulls(jsonb_build_object('actor', p_actor, 'reason', p_reason)), run.attempt);
    insert into ops.audit_log (actor, action, subject, details)
    values (p_actor, 'run.cancelled', p_run_id, jsonb_strip_nulls(jsonb_build_object('reason', p_reason)));
    perform pg_catalog.pg_notify('ops_cancel', p_run_id);
    return run.status;
end
$$;

-- Queues a dead or cancelled run again, with attempts as a new one has; its history and its completed
-- phases stay.
create function ops.requeue_run(p_run_id text, p_actor text, p_attempts integer default 1) returns text
    language plpgsql
    set search_path = ''
as $$
declare
    run ops.runs;
begin
    select r.* into run from ops.runs r where r.run_id = p_run_id for update;
    if run.run_id is null then
        raise exception 'Run % does not exist', p_run_id using errcode = 'no_data_found';
    elsif run.status not in ('failed', 'cancelled') then
        raise exception 'run % is %: only a failed or cancelled run can be queued again', p_run_id, run.status
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    update ops.runs r
    set status = 'queued', max_attempts = greatest(r.max_attempts, r.attempt + p_attempts), run_at = now(),
        requeued_for = 'asked', error = null, updated_at = now()
    where r.run_id = p_run_id;
    insert into ops.run_events (run_id, level, message, payload, attempt)
    values (p_run_id, 'info', 'Run queued again', jsonb_build_object('actor', p_actor), run.attempt);
    insert into ops.audit_log (actor, action, subject) values (p_actor, 'run.requeued', p_run_id);
    return 'queued';
end
$$;

create function ops.pause_kind(p_kind text, p_actor text, p_reason text default null) returns boolean
    language plpgsql
    set search_path = ''
as $$
begin
    insert into ops.paused_kinds (kind, paused_by, reason) values (p_kind, p_actor, p_reason) on conflict do nothing;
    if found then
        insert into ops.audit_log (actor, action, subject, details)
        values (p_actor, 'kind.paused', p_kind, jsonb_strip_nulls(jsonb_build_object('reason', p_reason)));
    end if;
    return found;
end
$$;

create function ops.resume_kind(p_kind text, p_actor text) returns boolean
    language plpgsql
    set search_path = ''
as $$
begin
    delete from ops.paused_kinds where kind = p_kind;
    if found then
        insert into ops.audit_log (actor, action, subject) values (p_actor, 'kind.resumed', p_kind);
        perform pg_catalog.pg_notify('ops_runs', '');
        return true;
    end if;
    return false;
end
$$;

-- A phase begins: the run is running, and says where it is. False: the run is another's by now.
create function ops.begin_phase(p_run_id text, p_lease_token bigint, p_name text, p_ordinal integer) returns boolean
    language plpgsql
    set search_path = ''
as $$
declare
    run ops.runs;
begin
    update ops.runs r
    set status = 'running', last_phase = p_name, updated_at = now()
    where r.run_id = p_run_id and r.lease_token = p_lease_token and r.lease_expires_at is not null
    returning r.* into run;
    if run.run_id is null then
        return false;
    end if;
    insert into ops.run_phases as h (run_id, name, ordinal, status, attempt)
    values (p_run_id, p_name, p_ordinal, 'running', run.attempt)
    on conflict (run_id, name) do update
    set ordinal = p_ordinal, status = 'running', attempt = run.attempt, started_at = now(), finished_at = null,
        output = null, error = null,
        tries = h.tries + 1;
    insert into ops.run_events (run_id, level, message, phase, attempt)
    values (p_run_id, 'info', 'Starting phase: ' || p_name, p_name, run.attempt);
    return true;
end
$$;

-- A phase ends; what it leaves behind is the checkpoint that a later attempt goes on from.
create function ops.end_phase(
    p_run_id text, p_lease_token bigint, p_name text, p_status text, p_output jsonb, p_error text
) returns boolean
    language plpgsql
    set search_path = ''
as $$
declare
    run ops.runs;
begin
    update ops.runs r
    set checkpoint_at = case when p_status = 'success' then now() else r.checkpoint_at end, updated_at = now()
    where r.run_id = p_run_id and r.lease_token = p_lease_token and r.lease_expires_at is not null
    returning r.* into run;
    if run.run_id is null then
        return false;
    end if;
    update ops.run_phases h
    set status = p_status, output = p_output, error = p_error, finished_at = now()
    where h.run_id = p_run_id and h.name = p_name and h.status = 'running';
    insert into ops.run_events (run_id, level, message, payload, phase, attempt)
    values (
        p_run_id, case when p_status = 'success' then 'info' else 'error' end,
        case when p_status = 'success' then 'Completed phase: ' || p_name
             else 'Phase ' || p_name || ' ' || p_status || coalesce(': ' || p_error, '') end,
        case when p_status = 'success' then '{}' else jsonb_strip_nulls(jsonb_build_object('error', p_error, 'phase', p_name)) end,
        p_name, run.attempt
    );
    return true;
end
$$;

-- Words of a run's holder. Null: the run is another's by now, or has ended.
create function ops.note_event(
    p_run_id text, p_lease_token bigint, p_level text, p_message text, p_payload jsonb, p_phase text
) returns text
    language sql
    set search_path = ''
as $$
    insert into ops.run_events (run_id, level, message, payload, phase, attempt)
    select r.run_id, p_level, p_message, p_payload, p_phase, r.attempt
    from ops.runs r
    where r.run_id = p_run_id and r.lease_token = p_lease_token and r.lease_expires_at is not null
    returning event_id
$$;
