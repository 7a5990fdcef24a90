-- Who may read and do what.
--
--   ops_runner  whoever works for the queue: everything.
--   ops_member  the role of a gateway that speaks for people: rows of projects that the person is a
--               member of, and functions that look at the person's rights themselves.
--
-- The gateway says for whom it speaks (`ops.current_user_id`). A role with which somebody can write SQL
-- of their own could name anybody, so such a role must never be a member of ops_member. Nobody is one
-- by these migrations: `grant ops_member to authenticated; grant ops_runner to service_role;`
--
-- Roles belong to the whole server. Where ours may not be made (CREATEROLE is missing), all else is, and
-- is closed; once somebody has made them, `select ops.apply_access()` grants what is theirs. A dump names
-- them, so on another server they are made before it is restored.

do $$
declare
    wanted text;
begin
    foreach wanted in array '{ops_member,ops_runner}'::text[] loop
        continue when to_regrole(wanted) is not null;
        begin
            execute format('create role %I nologin', wanted);
        exception
            when insufficient_privilege then
                raise notice 'role % cannot be made by %: let somebody make it, then `select ops.apply_access()`',
                    wanted, current_user;
            -- Another database of this server was migrated at the same moment.
            when duplicate_object or unique_violation then null;
        end;
    end loop;
end
$$;

-- Policies say what a person sees. They ask for the permitted projects once in a statement, and by a
-- security definer, so that the policy on the members does not ask itself. The owner is not held to
-- them: the functions above read and write as the owner.

create policy members_see on ops.projects for select
    using (project_id in (select ops.permitted_projects('project:read')));
create policy members_see on ops.environments for select
    using (project_id in (select ops.permitted_projects('env:read')));
create policy members_see on ops.project_members for select
    using (project_id in (select ops.permitted_projects('project:read')));
create policy members_see on ops.roles for select
    using (exists (select from ops.permitted_projects('project:read')));

create policy runs_select on ops.runs for select
    using (project_id in (select ops.permitted_projects('run:read')));
-- Builds alone, as `ops.queue_run` makes them: what else a run may be, its kind's functions decide.
create policy runs_insert on ops.runs for insert
    with check (
        project_id in (select ops.permitted_projects('run:create'))
        and kind = 'build' and status = 'queued' and claimed_by is null
    );
create policy runs_update on ops.runs for update
    using (project_id in (select ops.permitted_projects('run:update')) or claimed_by = (select ops.current_user_id()));

-- What hangs on a run is seen by those who see the run.
create policy members_see on ops.run_events for select
    using (exists (select from ops.runs r where r.run_id = run_events.run_id));
create policy run_events_insert on ops.run_events for insert
    with check (exists (
        select from ops.runs r
        where r.run_id = run_events.run_id and r.finished_at is null
          and (r.project_id in (select ops.permitted_projects('run:logs'))
               or r.claimed_by = (select ops.current_user_id()))
    ));
create policy members_see on ops.earlier_attempts for select
    using (exists (select from ops.runs r where r.run_id = earlier_attempts.run_id));
create policy members_see on ops.run_phases for select
    using (exists (select from ops.runs r where r.run_id = run_phases.run_id));
create policy members_see on ops.artifacts for select
    using (exists (select from ops.runs r where r.run_id = artifacts.run_id));

create policy members_see on ops.backups for select
    using (project_id in (select ops.permitted_projects('backup:read')));
create policy members_see on ops.restores for select
    using (exists (select from ops.backups b where b.backup_id = restores.backup_id)
           or exists (select from ops.environments e where e.env_id = restores.target_env_id));
create policy members_see on ops.approvals for select
    using (project_id in (select ops.permitted_projects('approval:read')));
create policy auditors_see on ops.audit_log for select
    using (exists (
        select from ops.runs r
        where r.run_id = audit_log.subject and r.project_id in (select ops.permitted_projects('run:audit'))
    ));

-- Which migrations are in force is no secret to those who may ask. Here, and not below: what is done below
-- is done while this table is written to.
alter table ops._sqlx_migrations enable row level security;
create policy who_may_ask_sees on ops._sqlx_migrations for select using (true);

-- Who queues a run by hand wakes the idle runners, as every insert does.
create policy who_may_ask_sees on ops.idle_runners for select using (true);

-- Closes everything in `ops` to everybody, and opens to our roles what is theirs. Can be repeated. As
-- privileges of functions are granted to everybody where nothing else is said, and default privileges
-- of one schema cannot take that back, it follows on every later migration (the trigger below).
create function ops.apply_access() returns void
    language plpgsql
    set search_path = ''
as $$
declare
    has_runner boolean := to_regrole('ops_runner') is not null;
    has_member boolean := to_regrole('ops_member') is not null;
    -- Of `public`, unless they had to stay here.
    lists      oid[] := array(
        select coalesce(to_regprocedure('ops.' || list), to_regprocedure('public.' || list))::oid
        from unnest(array['list_projects()', 'list_environments(text)', 'list_runs(text, integer)']) as list
    );
    thing      record;
begin
    for thing in
        select c.oid::regclass as name, c.relname, c.relkind, c.relrowsecurity
        from pg_catalog.pg_class c
        where c.relnamespace = 'ops'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
          and pg_has_role(c.relowner, 'usage')
    loop
        -- It locks the table, so only where there is something to do.
        if thing.relkind in ('r', 'p') and not thing.relrowsecurity then
            execute format('alter table %s enable row level security', thing.name);
        end if;
        if has_runner then
            -- What was done is not undone, nor is what was migrated.
            execute format('grant %s on %s to ops_runner', case
                when thing.relkind in ('v', 'm') or thing.relname = '_sqlx_migrations' then 'select'
                when thing.relname = 'audit_log' then 'select, insert'
                else 'select, insert, update, delete' end, thing.name);
            if thing.relkind in ('r', 'p') and thing.relname <> '_sqlx_migrations' and not exists (
                select from pg_catalog.pg_policy p where p.polrelid = thing.name::oid and p.polname = 'runners_do'
            ) then
                execute format('create policy runners_do on %s to ops_runner using (true) with check (true)',
                    thing.name);
            end if;
        end if;
    end loop;

    for thing in
        select p.oid::regprocedure as name, p.oid = any (lists) as is_list
        from pg_catalog.pg_proc p
        where pg_has_role(p.proowner, 'usage') and (p.pronamespace = 'ops'::regnamespace or p.oid = any (lists))
    loop
        execute format('revoke all on function %s from public', thing.name);
        if has_runner then
            execute format('grant execute on function %s to ops_runner', thing.name);
        end if;
        if thing.is_list then
            if has_member then
                execute format('grant execute on function %s to ops_member', thing.name);
            end if;
            -- The roles of a Supabase, whose own default privileges open what lies in `public`.
            if to_regrole('anon') is not null then
                execute format('revoke all on function %s from anon', thing.name);
            end if;
            if to_regrole('authenticated') is not null then
                execute format('grant execute on function %s to authenticated', thing.name);
            end if;
            if to_regrole('service_role') is not null then
                execute format('grant execute on function %s to service_role', thing.name);
            end if;
        end if;
    end loop;

    if has_runner then
        grant usage on schema ops to ops_runner;
    end if;
    if has_member then
        grant usage on schema ops to ops_member;
        grant select on ops.projects, ops.environments, ops.project_members, ops.roles, ops.runs, ops.run_events,
            ops.earlier_attempts, ops.run_attempts, ops.run_phases, ops.artifacts, ops.run_logs, ops.run_artifacts,
            ops.backups, ops.restores, ops.approvals, ops.audit_log to ops_member;
        -- Columns that say nothing of leases, kinds and inputs: those are the queue's.
        grant select on ops.idle_runners to ops_member;
        grant insert (run_id, project_id, env_id, git_sha, git_ref, status, metadata, idempotency_key),
            update (status, claimed_by, metadata, error) on ops.runs to ops_member;
        grant insert (run_id, level, message, payload) on ops.run_events to ops_member;
        grant execute on function
            ops.new_run_id(), ops.run_is_sound, ops.current_user_id(), ops.permitted_projects(text),
            ops.queue_run(text, text, text, text, jsonb, text),
            ops.append_event(text, text, text, jsonb, bigint), ops.finish_run(text, text, jsonb, bigint),
            ops.start_workflow_run(text, text), ops.complete_workflow_run(text, integer, text),
            ops.append_run_log(text, text, text, jsonb),
            ops.add_run_artifact(text, text, text, text, text, bigint, timestamptz, text, jsonb),
            ops.list_queued_runs(),
            ops.create_backup(text, text, text, jsonb), ops.restore_backup(text, text, text, jsonb),
            ops.decide_approval(text, text, boolean, text) to ops_member;
    end if;
end
$$;

create function ops.access_follows_a_migration() returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    perform ops.apply_access();
    return null;
end
$$;

create trigger access_follows_a_migration after insert on ops._sqlx_migrations
    for each statement execute function ops.access_follows_a_migration();
