-- Backups, restores, and the approvals that what touches production needs.
--
-- A backup and a restore are each a row and a run: the row says what is wanted and what came of it, the
-- run does it. Who begins and ends one gives the token of the run's claim, as everywhere.

-- Whether a status may follow on another. The trigger's arguments: the column of the id, then all steps
-- that may be taken: 'pending>running', ...
create function ops.status_follows() returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    if not (old.status || '>' || new.status) = any (tg_argv) then
        raise exception '% % is %, and cannot become %',
            tg_table_name, to_jsonb(old) ->> (tg_argv[0]), old.status, new.status
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    return new;
end
$$;

create table ops.backups (
    backup_id      text        primary key default 'bak-' || gen_random_uuid(),
    project_id     text        not null,
    env_id         text        not null,
    backup_type    text        not null default 'manual',
    status         text        not null default 'pending',
    -- Where the dump lies, as the store names it; 'pending' until it lies there.
    db_dump_path   text        not null default 'pending',
    filestore_path text,
    logs_path      text,
    size_bytes     bigint,
    -- sha256:<64 hexadecimal digits>, of the dump.
    digest         text,
    run_id         ops.run_name references ops.runs on delete set null,
    error          text,
    created_at     timestamptz not null default now(),
    started_at     timestamptz,
    finished_at    timestamptz,
    -- Null: kept until somebody deletes it.
    expires_at     timestamptz,
    metadata       ops.json_object not null default '{}',

    constraint backups_environment_of_project foreign key (project_id, env_id)
        references ops.environments (project_id, env_id),
    constraint backups_type_is_known    check (backup_type in ('daily', 'weekly', 'monthly', 'manual')),
    constraint backups_status_is_known  check (status in ('pending', 'running', 'success', 'failed', 'cancelled')),
    -- It has succeeded when it lies somewhere and can be proved to be whole; an empty dump is none.
    constraint backups_success_is_whole check (
        (status = 'success') = (db_dump_path <> 'pending')
        and (status <> 'success' or num_nulls(size_bytes, digest) = 0)
    ),
    constraint backups_path_is_given    check (db_dump_path <> ''),
    constraint backups_size_counts      check (size_bytes > 0),
    constraint backups_digest_is_sha256 check (digest ~ '^sha256:[0-9a-f]{64}$'),
    constraint backups_began            check (status not in ('running', 'success') or started_at is not null),
    constraint backups_ended_has_an_end check (
        (status in ('success', 'failed', 'cancelled')) = (finished_at is not null)
    ),
    constraint backups_failed_says_why  check (status <> 'failed' or error is not null)
);

create index backups_of_an_environment on ops.backups (project_id, env_id, created_at desc);
create index backups_of_a_run on ops.backups (run_id) where run_id is not null;
create index backups_expiring on ops.backups (expires_at) where expires_at is not null;

comment on table ops.backups is 'dumps of environments: what is wanted, where it lies, until when it is kept';

create trigger backup_status_follows before update of status on ops.backups
    for each row when (old.status <> new.status)
    -- Begun again by another attempt of its run.
    execute function ops.status_follows('backup_id', 'pending>running', 'failed>running', 'cancelled>running',
        'running>success', 'pending>failed', 'pending>cancelled', 'running>failed', 'running>cancelled');

create function ops.backup_is_kept() returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    new.expires_at := new.created_at + case new.backup_type
        when 'daily' then interval '7 days' when 'weekly' then interval '28 days' when 'monthly' then interval '90 days'
    end;
    return new;
end
$$;

create trigger backup_is_kept before insert on ops.backups
    for each row when (new.expires_at is null) execute function ops.backup_is_kept();

create table ops.restores (
    restore_id    text        primary key default 'rst-' || gen_random_uuid(),
    backup_id     text        not null references ops.backups,
    target_env_id text        not null references ops.environments,
    status        text        not null default 'pending',
    requested_by  text        not null,
    approved_by   text,
    run_id        ops.run_name references ops.runs on delete set null,
    error         text,
    started_at    timestamptz,
    finished_at   timestamptz,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    metadata      ops.json_object not null default '{}',

    constraint restores_status_is_known  check (
        status in ('pending', 'approved', 'running', 'success', 'failed', 'cancelled')
    ),
    constraint restores_are_asked_for    check (requested_by <> ''),
    constraint restores_began            check (status not in ('running', 'success') or started_at is not null),
    constraint restores_ended_has_an_end check (
        (status in ('success', 'failed', 'cancelled')) = (finished_at is not null)
    ),
    constraint restores_failed_says_why  check (status <> 'failed' or error is not null)
);

create index restores_of_a_backup on ops.restores (backup_id);
create index restores_of_an_environment on ops.restores (target_env_id, created_at desc);
create index restores_of_a_run on ops.restores (run_id) where run_id is not null;

comment on table ops.restores is 'backups that are put back: where to, who asked, who approved, what came of it';

create trigger restore_status_follows before update of status on ops.restores
    for each row when (old.status <> new.status)
    execute function ops.status_follows('restore_id', 'pending>approved', 'pending>cancelled', 'approved>running',
        'approved>cancelled', 'approved>failed', 'running>success', 'running>failed', 'running>cancelled',
        'failed>running');

create table ops.approvals (
    approval_id   text        primary key default 'appr-' || gen_random_uuid(),
    approval_type text        not null,
    -- What waits for it: a restore, a run.
    resource_id   text        not null,
    -- Whose members may see it; null: nobody but runners and the owner.
    project_id    text        references ops.projects on delete cascade,
    requested_by  text        not null,
    status        text        not null default 'pending',
    requested_at  timestamptz not null default now(),
    reviewed_by   text,
    reviewed_at   timestamptz,
    approved_by   text        generated always as (case when status = 'approved' then reviewed_by end) stored,
    reason        text,
    -- Until when it can be given; once given, until when it stands.
    expires_at    timestamptz not null default now() + interval '24 hours',
    metadata      ops.json_object not null default '{}',

    constraint approvals_type_is_known     check (approval_type in ('deploy_prod', 'restore_prod', 'upgrade_prod')),
    constraint approvals_status_is_known   check (status in ('pending', 'approved', 'denied', 'expired')),
    constraint approvals_are_asked_for     check (requested_by <> '' and resource_id <> ''),
    constraint approvals_decided_by_whom   check (
        (status in ('approved', 'denied')) = (num_nulls(reviewed_by, reviewed_at) = 0) and reviewed_by <> ''
    ),
    -- Of two people, however they write their names.
    constraint approvals_are_not_ones_own  check (
        status <> 'approved' or lower(btrim(reviewed_by)) <> lower(btrim(requested_by))
    )
);

create index approvals_of_a_resource on ops.approvals (resource_id);
create index approvals_open on ops.approvals (expires_at) where status = 'pending';

comment on table ops.approvals is 'what must be allowed by a second person before it is done';

create trigger approval_status_follows before update of status on ops.approvals
    for each row when (old.status <> new.status)
    -- An approval is taken back by denying it.
    execute function ops.status_follows('approval_id', 'pending>approved', 'pending>denied', 'pending>expired',
        'approved>denied');

create function ops.queue_restore(p_restore_id text) returns void
    language plpgsql
    set search_path = ''
as $$
declare
    restore ops.restores;
    env     ops.environments;
    run     text;
begin
    select s.* into strict restore from ops.restores s where s.restore_id = p_restore_id;
    select e.* into strict env from ops.environments e where e.env_id = restore.target_env_id;
    select q.run_id into run
    from ops.enqueue(
        'restore', jsonb_build_object('restore_id', p_restore_id), env.project_id, env.env_id,
        p_concurrency_key => 'database:' || env.env_id, p_idempotency_key => 'restore:' || p_restore_id,
        p_event => jsonb_build_object('restore_id', p_restore_id, 'backup_id', restore.backup_id)
    ) as q;
    update ops.restores s set run_id = run, updated_at = now() where s.restore_id = p_restore_id;
end
$$;

-- What waits follows its approval in the same transaction, whoever decided it and by whatever statement.
create function ops.restore_follows_its_approval() returns trigger
    language plpgsql security definer
    set search_path = ''
as $$
declare
    restore ops.restores;
begin
    if new.status = 'approved' then
        update ops.restores s set status = 'approved', approved_by = new.approved_by, updated_at = now()
        where s.restore_id = new.resource_id;
        perform ops.queue_restore(new.resource_id);
        return null;
    end if;
    select s.* into restore from ops.restores s where s.restore_id = new.resource_id;
    if restore.run_id is not null then
        -- What runs already is told; what was not begun never will be.
        perform ops.cancel_run(restore.run_id, new.reviewed_by, 'its approval was taken back')
        from ops.runs r where r.run_id = restore.run_id and r.finished_at is null;
    end if;
    update ops.restores s set status = 'cancelled', finished_at = now(), updated_at = now()
    where s.restore_id = new.resource_id and s.status in ('pending', 'approved');
    return null;
end
$$;

create trigger restore_follows_its_approval after update of status on ops.approvals
    for each row when (new.approval_type = 'restore_prod' and old.status <> new.status)
    execute function ops.restore_follows_its_approval();

-- A run that ends without having ended its backup or restore ends that, too: nothing is under way
-- for good because a runner was killed.
create function ops.work_ends_with_its_run() returns trigger
    language plpgsql security definer
    set search_path = ''
as $$
declare
    ended text := case when new.status = 'cancelled' then 'cancelled' else 'failed' end;
    why   text := coalesce(new.error, 'its run ended without it');
begin
    update ops.backups b set status = ended, error = why, finished_at = now()
    where b.run_id = new.run_id and b.status in ('pending', 'running');
    update ops.restores s set status = ended, error = why, finished_at = now(), updated_at = now()
    where s.run_id = new.run_id and s.status in ('approved', 'running');
    return null;
end
$$;

create trigger work_ends_with_its_run after update of status on ops.runs
    for each row
    when (new.kind in ('backup', 'restore') and new.status in ('success', 'failed', 'cancelled'))
    execute function ops.work_ends_with_its_run();

-- Records a backup and queues the run that makes it.
create function ops.create_backup(
    p_project_id text, p_env text, p_backup_type text default 'manual', p_metadata jsonb default '{}'
)
returns table (backup_id text, created_at timestamptz, expires_at timestamptz)
    language plpgsql security definer
    set search_path = ''
as $$
#variable_conflict use_column
declare
    env ops.environments := ops.environment_for(p_project_id, p_env, 'backup:create');
    made ops.backups;
    run  text;
begin
    if p_backup_type is null or p_backup_type not in ('daily', 'weekly', 'monthly', 'manual') then
        raise exception 'Invalid backup type: %', p_backup_type;
    end if;
    insert into ops.backups (project_id, env_id, backup_type, metadata)
    values (p_project_id, env.env_id, p_backup_type, coalesce(p_metadata, '{}'))
    returning * into made;
    select q.run_id into run
    from ops.enqueue(
        'backup', jsonb_build_object('backup_id', made.backup_id), p_project_id, env.env_id,
        p_concurrency_key => 'database:' || env.env_id, p_idempotency_key => 'backup:' || made.backup_id,
        p_event => jsonb_build_object('backup_id', made.backup_id, 'env', p_env)
    ) as q;
    update ops.backups b set run_id = run where b.backup_id = made.backup_id;
    return query select made.backup_id, made.created_at, made.expires_at;
end
$$;

-- Asks for a backup to be put back: into production once a second person allows it, elsewhere at once.
create function ops.restore_backup(
    p_backup_id text, p_target_env_id text, p_requested_by text, p_metadata jsonb default '{}'
)
returns table (restore_id text, status text, created_at timestamptz)
    language plpgsql security definer
    set search_path = ''
as $$
#variable_conflict use_column
declare
    backup ops.backups;
    env    ops.environments;
    made   ops.restores;
begin
    select b.* into backup from ops.backups b where b.backup_id = p_backup_id;
    if backup.backup_id is null or not ops.may(backup.project_id, 'backup:read') then
        raise exception 'Backup % does not exist', p_backup_id;
    end if;
    select e.* into env from ops.environments e where e.env_id = p_target_env_id;
    if env.env_id is null or not ops.may(env.project_id, 'env:read') then
        raise exception 'Target environment % does not exist', p_target_env_id;
    end if;
    perform ops.require(env.project_id, 'restore:' || env.env_type);
    if not ops.is_trusted() and p_requested_by is distinct from ops.current_user_id() then
        raise exception 'permission denied: p_requested_by must be the caller' using errcode = 'insufficient_privilege';
    elsif coalesce(p_requested_by, '') = '' then
        raise exception 'p_requested_by is empty: say who asks' using errcode = 'invalid_parameter_value';
    -- One that is still being made is waited for by the run.
    elsif backup.status in ('failed', 'cancelled') or backup.expires_at <= now() then
        raise exception 'Backup % cannot be restored: it %', p_backup_id,
            case when backup.expires_at <= now() then 'has expired' else 'was not made: ' || backup.status end
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    insert into ops.restores (backup_id, target_env_id, status, requested_by, metadata)
    values (p_backup_id, p_target_env_id, case env.env_type when 'prod' then 'pending' else 'approved' end,
            p_requested_by, coalesce(p_metadata, '{}'))
    returning * into made;
    if made.status = 'pending' then
        insert into ops.approvals (approval_type, resource_id, project_id, requested_by, metadata)
        values ('restore_prod', made.restore_id, env.project_id, p_requested_by, jsonb_build_object(
            'backup_id', p_backup_id, 'target_env_id', p_target_env_id, 'project_id', env.project_id));
    else
        perform ops.queue_restore(made.restore_id);
    end if;
    insert into ops.audit_log (actor, action, subject, details)
    values (p_requested_by, 'restore.requested', made.restore_id,
            jsonb_build_object('backup_id', p_backup_id, 'target_env_id', p_target_env_id));
    return query select made.restore_id, made.status, made.created_at;
end
$$;

-- Returns the status that it has now. What has expired is marked so, whatever was decided; said by the
-- result, because an error would undo the mark. The same decision again changes nothing; an approval
-- is taken back by deciding against it before its restore has begun.
create function ops.decide_approval(
    p_approval_id text, p_decided_by text, p_approve boolean, p_reason text default null
) returns text
    language plpgsql security definer
    set search_path = ''
as $$
declare
    approval ops.approvals;
    decision text := case when p_approve then 'approved' else 'denied' end;
begin
    select a.* into approval from ops.approvals a where a.approval_id = p_approval_id for update;
    if approval.approval_id is null or not ops.may(approval.project_id, 'approval:read') then
        raise exception 'Approval % does not exist', p_approval_id using errcode = 'no_data_found';
    end if;
    perform ops.require(approval.project_id, 'approval:decide');
    if p_approve is null or coalesce(btrim(p_decided_by), '') = '' then
        raise exception 'approval %: say who decides, and what', p_approval_id
            using errcode = 'invalid_parameter_value';
    elsif not ops.is_trusted() and p_decided_by is distinct from ops.current_user_id() then
        raise exception 'permission denied: p_decided_by must be the caller' using errcode = 'insufficient_privilege';
    elsif p_approve and lower(btrim(p_decided_by)) = lower(btrim(approval.requested_by)) then
        raise exception 'approval % was asked for by %: a second person must give it',
            p_approval_id, approval.requested_by
            using errcode = 'insufficient_privilege';
    elsif approval.status in ('expired', decision) then
        return approval.status;
    elsif approval.status = 'pending' and approval.expires_at <= now() then
        decision := 'expired';
    elsif approval.status = 'approved' and exists (
        select from ops.restores s where s.restore_id = approval.resource_id and s.status not in ('pending', 'approved')
    ) then
        raise exception 'approval % cannot be taken back: restore % has begun', p_approval_id, approval.resource_id
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    update ops.approvals a
    set status = decision, reason = coalesce(p_reason, a.reason),
        reviewed_by = case when decision <> 'expired' then p_decided_by end,
        reviewed_at = case when decision <> 'expired' then now() end,
        expires_at = case when decision = 'approved' then now() + interval '24 hours' else a.expires_at end
    where a.approval_id = p_approval_id;
    insert into ops.audit_log (actor, action, subject, details)
    values (p_decided_by, 'approval.' || decision, p_approval_id,
            jsonb_strip_nulls(jsonb_build_object('resource_id', approval.resource_id, 'reason', p_reason)));
    return decision;
end
$$;

-- Marks what nobody decided in time, and cancels what waited for it; returns how many.
create function ops.expire_approvals() returns integer
    language plpgsql security definer
    set search_path = ''
as $$
declare
    expired integer;
begin
    update ops.approvals a set status = 'expired' where a.status = 'pending' and a.expires_at <= now();
    get diagnostics expired = row_count;
    return expired;
end
$$;

-- For the runner. Each returns false when the run is another's by now, and then changes nothing; what a
-- run did not end ends with it as failed or cancelled, so that nobody has to say so.

create function ops.holds_run(p_run_id text, p_lease_token bigint) returns boolean
    language plpgsql
    set search_path = ''
as $$
begin
    perform from ops.runs r
    where r.run_id = p_run_id and r.lease_token = p_lease_token and r.status in ('claimed', 'running')
    for no key update;
    return found;
end
$$;

create function ops.begin_backup(p_backup_id text, p_lease_token bigint) returns boolean
    language plpgsql security definer
    set search_path = ''
as $$
declare
    backup ops.backups;
begin
    select b.* into backup from ops.backups b where b.backup_id = p_backup_id;
    if backup.backup_id is null then
        raise exception 'Backup % does not exist', p_backup_id using errcode = 'no_data_found';
    elsif not ops.holds_run(backup.run_id, p_lease_token) then
        return false;
    end if;
    update ops.backups b set status = 'running', error = null, started_at = now(), finished_at = null
    where b.backup_id = p_backup_id;
    return true;
end
$$;

-- The dump lies there, whole: again with the same digest is no-op true.
create function ops.end_backup(
    p_backup_id text, p_lease_token bigint, p_path text, p_size_bytes bigint, p_digest text
) returns boolean
    language plpgsql security definer
    set search_path = ''
as $$
declare
    backup ops.backups;
begin
    select b.* into backup from ops.backups b where b.backup_id = p_backup_id;
    if backup.backup_id is null then
        raise exception 'Backup % does not exist', p_backup_id using errcode = 'no_data_found';
    elsif not ops.holds_run(backup.run_id, p_lease_token) then
        return false;
    end if;
    -- Looked at again: the run is locked now.
    select b.* into backup from ops.backups b where b.backup_id = p_backup_id;
    if (backup.status, backup.db_dump_path, backup.digest) is not distinct from ('success', p_path, p_digest) then
        return true;
    elsif backup.status = 'success' then
        raise exception 'Backup % lies at % already, with another digest or path', p_backup_id, backup.db_dump_path
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    update ops.backups b
    set status = 'success', db_dump_path = p_path, size_bytes = p_size_bytes, digest = p_digest, finished_at = now()
    where b.backup_id = p_backup_id;
    return true;
end
$$;

-- Whether it may still be done is looked at here, however long ago it was queued: the dump is whole and
-- kept, and what needs an approval has one that still stands.
create function ops.begin_restore(p_restore_id text, p_lease_token bigint) returns boolean
    language plpgsql security definer
    set search_path = ''
as $$
declare
    restore  ops.restores;
    backup   ops.backups;
    env_type text;
    approval ops.approvals;
begin
    -- In the order in which a decision locks them.
    select a.* into approval from ops.approvals a
    where a.resource_id = p_restore_id and a.approval_type = 'restore_prod'
    order by a.requested_at desc limit 1 for share;
    select s.* into restore from ops.restores s where s.restore_id = p_restore_id;
    if restore.restore_id is null then
        raise exception 'Restore % does not exist', p_restore_id using errcode = 'no_data_found';
    elsif not ops.holds_run(restore.run_id, p_lease_token) then
        return false;
    end if;
    select b.* into strict backup from ops.backups b where b.backup_id = restore.backup_id for share;
    select e.env_type into strict env_type from ops.environments e where e.env_id = restore.target_env_id;
    -- By the environment as it is now: one that has become production since needs an approval, too.
    if env_type = 'prod' and (approval.status is distinct from 'approved' or approval.expires_at <= now()) then
        raise exception 'Restore % is not approved: its approval %', p_restore_id, case
            when approval.approval_id is null then 'was never asked for'
            when approval.status = 'approved' then 'no longer stands since ' || approval.expires_at
            else 'is ' || approval.status end
            using errcode = 'insufficient_privilege';
    elsif backup.status <> 'success' then
        raise exception 'Backup % is not made yet: it is %', backup.backup_id, backup.status
            using errcode = 'object_not_in_prerequisite_state';
    elsif backup.expires_at <= now() then
        raise exception 'Backup % has expired', backup.backup_id using errcode = 'object_not_in_prerequisite_state';
    end if;
    update ops.restores s
    set status = 'running', error = null, started_at = now(), finished_at = null, updated_at = now()
    where s.restore_id = p_restore_id;
    return true;
end
$$;

create function ops.end_restore(p_restore_id text, p_lease_token bigint) returns boolean
    language plpgsql security definer
    set search_path = ''
as $$
declare
    restore ops.restores;
begin
    select s.* into restore from ops.restores s where s.restore_id = p_restore_id;
    if restore.restore_id is null then
        raise exception 'Restore % does not exist', p_restore_id using errcode = 'no_data_found';
    elsif not ops.holds_run(restore.run_id, p_lease_token) then
        return false;
    end if;
    update ops.restores s set status = 'success', finished_at = now(), updated_at = now()
    where s.restore_id = p_restore_id and s.status <> 'success';
    return true;
end
$$;
