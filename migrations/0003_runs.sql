-- Runs: durable pieces of work, their attempts, phases, events and artifacts, and who works on them.
--
--   queued -> claimed -> running -> success | failed | cancelled
--      ^         |          |
--      +---------+----------+        retry, rescue, or handed back
--
-- What a status means is held by constraints, and what may follow on it by a trigger. No constraint
-- depends on the present, so that a dump with leases that ran out can be restored.

-- A UUID of version 7: ordered by time, so that new rows lie together and a list by id is a list by age.
create function ops.new_run_id() returns text
    language sql volatile
    -- Parsed here and now, so it needs no search path, and is no call where it is used: it was half of
    -- what queueing a run costs.
    return 'run-' || encode(
        overlay(
            uuid_send(gen_random_uuid())
            -- 48 bits of milliseconds, the version, and 12 bits of chance before the rest of it.
            placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::int8) from 3)
                || int2send((28672 + floor(random() * 4096))::int2)
            from 1 for 8
        ), 'hex')::uuid;

-- What one column alone must be, as domains: a check of the table is parsed again by each statement, one
-- of a domain is not, and is looked at only when a value comes in.
create domain ops.run_name as text collate "C"
    constraint run_name_is_an_id check (value ~ '^run-[a-z0-9-]+$' and length(value) <= 100);
create domain ops.kind_name as text
    constraint kind_is_a_name check (value ~ '^[a-z][a-z0-9_]{0,62}$');
create domain ops.given_text as text
    constraint text_is_given check (value <> '');
create domain ops.run_priority as smallint
    constraint priority_is_1_to_9 check (value between 1 and 9);
create domain ops.pause_seconds as real
    constraint pause_is_at_most_a_day check (value between 0 and 86400);
create domain ops.requeue_reason as text
    constraint requeued_for_a_reason check (value in ('retry', 'lost', 'handed_back', 'asked'));
create domain ops.json_object as jsonb
    constraint document_is_an_object check (jsonb_typeof(value) = 'object')
    -- What is larger is an artifact. Of 1 MiB or less when taken in, before any compression.
    constraint document_is_small check (pg_column_size(value) <= 1048576);
create domain ops.json_value as jsonb
    constraint document_is_small check (pg_column_size(value) <= 1048576);

create domain ops.event_level as text
    constraint level_is_known check (value in ('debug', 'info', 'warn', 'error'));

-- What a run is, and what its status means. A function, and not the nine constraints that it holds:
-- they were a third of what queueing a run costs, because each is parsed again by each statement.
create function ops.run_is_sound(
    p_kind text, p_project_id text, p_env_id text, p_git_sha text, p_git_ref text,
    p_status text, p_claimed_by text, p_lease_token bigint, p_lease_expires_at timestamptz,
    p_attempt integer, p_max_attempts integer, p_started_at timestamptz, p_finished_at timestamptz, p_error text
) returns boolean
    language plpgsql immutable
as $$
declare
    broken text;
begin
    if p_env_id is not null and p_project_id is null then
        broken := 'an environment is one of a project';
    elsif p_kind = 'build' and num_nulls(p_env_id, p_git_sha, p_git_ref) > 0 then
        broken := 'a build says what is built for which environment';
    elsif p_max_attempts not between 1 and 100 or p_attempt < 0 then
        broken := 'a run has 1 to 100 attempts';
    elsif p_claimed_by = '' or p_lease_token < 0 then
        broken := 'a runner has a name, and lease tokens count';
    elsif p_status = 'queued' then
        if p_claimed_by is null and p_lease_expires_at is null and p_started_at is null and p_finished_at is null
           and p_attempt < p_max_attempts then
            return true;
        end if;
        broken := 'a queued run belongs to nobody, and has an attempt left';
    elsif p_status in ('claimed', 'running') then
        if p_claimed_by is not null and p_lease_expires_at is not null and p_lease_token > 0
           and p_started_at is not null and p_finished_at is null and p_attempt between 1 and p_max_attempts then
            return true;
        end if;
        broken := 'a run under way is leased to somebody';
    elsif p_status in ('success', 'failed', 'cancelled') then
        if p_finished_at is not null and p_lease_expires_at is null and (p_status <> 'failed' or p_error is not null) then
            return true;
        end if;
        broken := 'a finished run has an end and no lease, and a reason if it failed';
    else
        broken := format('there is no status %s', p_status);
    end if;
    raise exception '%', broken using errcode = 'check_violation', constraint = 'runs_are_sound';
end
$$;

create table ops.runs (
    run_id              ops.run_name primary key default ops.new_run_id(),
    -- In the order of queueing.
    seq                 bigint      generated always as identity,
    kind                ops.kind_name not null default 'build',
    project_id          text        references ops.projects,
    env_id              text,
    git_sha             text,
    git_ref             text,
    status              text        not null default 'queued',
    -- 1 is the most urgent.
    priority            ops.run_priority not null default 5,
    -- Not before then.
    run_at              timestamptz not null default now(),
    -- Who has it, or had it last.
    claimed_by          text,
    -- Grows with each claim: what an earlier holder is told apart by.
    lease_token         bigint      not null default 0,
    lease_expires_at    timestamptz,
    heartbeat_at        timestamptz,
    -- Attempts begun, the present one included.
    attempt             integer     not null default 0,
    max_attempts        integer     not null default 3,
    -- Before the next attempt: base * 2^(attempt - 1), at most max, and by chance down to half of it.
    backoff_seconds     ops.pause_seconds not null default 1,
    backoff_max_seconds ops.pause_seconds not null default 60,
    -- Of all runs with the same key, one is under way.
    concurrency_key     ops.given_text,
    -- Queued once, however often it is asked for.
    idempotency_key     ops.given_text,
    last_phase          text,
    checkpoint_at       timestamptz,
    cancel_requested_at timestamptz,
    input               ops.json_object not null default '{}',
    output              ops.json_value,
    metadata            ops.json_object not null default '{}',
    -- Why it failed, or why its last attempt did.
    error               text,
    -- Why it is queued again; null: it is new, or somebody put it back by hand.
    requeued_for        ops.requeue_reason,
    queued_at           timestamptz not null default now(),
    -- Of the present attempt, or of the last.
    started_at          timestamptz,
    finished_at         timestamptz,
    created_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now(),

    constraint runs_environment_of_project foreign key (project_id, env_id)
        references ops.environments (project_id, env_id),
    constraint runs_are_sound              check (ops.run_is_sound(
        kind, project_id, env_id, git_sha, git_ref, status, claimed_by, lease_token, lease_expires_at, attempt, max_attempts, started_at, finished_at, error
    ))
)
-- Every run is updated at least twice, and the queue's head is where the dead rows lie.
with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

-- The queue: one range for each kind and priority, so that neither a flood of another kind nor runs
-- that are not due yet stand in a claim's way.
create index runs_ready on ops.runs (kind, priority, run_at, seq) where status = 'queued';
create index runs_leased on ops.runs (lease_expires_at) where status in ('claimed', 'running');
create unique index runs_one_of_a_key on ops.runs (concurrency_key)
    where status in ('claimed', 'running') and concurrency_key is not null;
create unique index runs_queued_once on ops.runs (idempotency_key) where idempotency_key is not null;
create index runs_of_a_project on ops.runs (project_id, env_id, queued_at) where project_id is not null;
create index runs_dead on ops.runs (finished_at) where status = 'failed';

comment on table ops.runs is 'durable pieces of work: who has each, until when, and how it ended';

-- Tries that did not end their run. The present try, and the last, stand in the run itself: most runs
-- need one, and are not written twice. `ops.run_attempts` shows all of them.
create table ops.earlier_attempts (
    run_id      ops.run_name not null,
    attempt     integer     not null,
    runner_id   text        not null,
    -- One for each claim.
    lease_token bigint      not null,
    started_at  timestamptz not null,
    finished_at timestamptz not null,
    -- retry: failed, and another followed. lost: its runner was not heard of in time. handed_back: its
    -- runner went, through no fault of the run. reset: put back by hand. Else: how the run had ended,
    -- until somebody queued it again.
    outcome     text        not null,
    error       text,

    primary key (run_id, lease_token),
    constraint earlier_attempts_outcome_is_known check (
        outcome in ('retry', 'lost', 'handed_back', 'reset', 'failed', 'cancelled')
    ),
    constraint earlier_attempts_count check (attempt >= 1 and lease_token >= 1)
);

comment on table ops.earlier_attempts is 'tries that did not end their run; see the view run_attempts';

-- What has ended stays as it ended; only a dead run may be queued again. And who puts a run back by
-- hand, as the documented statement for stuck runs does, need not know what else belongs to that: the
-- try that is left behind is kept, and idle runners are told.
create function ops.run_changes_status() returns trigger
    language plpgsql security definer
    set search_path = ''
as $$
begin
    if old.status in ('success', 'failed', 'cancelled') and not (old.status <> 'success' and new.status = 'queued') then
        raise exception 'Run % is finished: %', old.run_id, old.status using errcode = 'object_not_in_prerequisite_state';
    end if;
    if old.status = 'queued' and new.status in ('running', 'success', 'failed') then
        raise exception 'Run % was never claimed', old.run_id using errcode = 'object_not_in_prerequisite_state';
    end if;
    if old.status = 'running' and new.status = 'claimed' then
        raise exception 'Run % is running: it cannot be claimed', old.run_id
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if new.status = 'queued' and old.status <> 'queued' then
        if old.claimed_by is not null then
            insert into ops.earlier_attempts (
                run_id, attempt, runner_id, lease_token, started_at, finished_at, outcome, error
            ) values (
                old.run_id, old.attempt, old.claimed_by, old.lease_token, old.started_at, coalesce(old.finished_at, now()),
                case
                    when old.finished_at is not null then old.status
                    when new.requeued_for in ('retry', 'lost', 'handed_back') then new.requeued_for
                    else 'reset'
                end,
                case when old.status = 'failed' then old.error when new.requeued_for in ('retry', 'lost') then new.error end
            );
        end if;
        if exists (select from ops.idle_runners) then
            perform pg_catalog.pg_notify('ops_runs', '');
        end if;
        new.claimed_by := null;
        new.lease_expires_at := null;
        new.heartbeat_at := null;
        new.started_at := null;
        new.finished_at := null;
        new.cancel_requested_at := null;
        -- Who puts it back wants it to be tried.
        new.max_attempts := greatest(new.max_attempts, new.attempt + 1);
    elsif new.status in ('success', 'failed', 'cancelled') then
        new.lease_expires_at := null;
        new.finished_at := coalesce(new.finished_at, now());
    end if;
    return new;
end
$$;

create trigger run_changes_status
    before update of status on ops.runs
    for each row
    -- The usual ways are spared the call.
    when (old.finished_at is not null or new.status in ('queued', 'cancelled')
          or (old.status = 'queued') <> (new.status = 'claimed'))
    execute function ops.run_changes_status();

create view ops.run_attempts with (security_invoker = true) as
    select run_id, attempt, runner_id, lease_token, started_at, finished_at, outcome, error
    from ops.earlier_attempts
    union all
    -- Null outcome: it is under way.
    select run_id, attempt, claimed_by, lease_token, started_at, finished_at,
           case when finished_at is not null then status end, case when finished_at is not null then error end
    from ops.runs
    where claimed_by is not null;

comment on view ops.run_attempts is 'every try of a run: who, when, and how it ended';

-- What happened in a run, in its own words.
create table ops.run_events (
    run_id     ops.run_name not null,
    seq        bigint      generated always as identity,
    level      ops.event_level not null,
    message    text        not null,
    payload    ops.json_object not null default '{}',
    phase      text,
    attempt    integer,
    created_at timestamptz not null default now(),
    event_id   text        not null default 'evt-' || gen_random_uuid(),

    primary key (run_id, seq)
);

create index run_events_by_age on ops.run_events using brin (created_at);

comment on table ops.run_events is 'what happened in a run, in its own words';

-- History goes with its run. Not by foreign keys: each of their checks would look up and lock the run,
-- which every writer of history has under its hands already; that cost a seventh of a drained queue.
create function ops.history_goes_with_its_run() returns trigger
    language plpgsql security definer
    set search_path = ''
as $$
begin
    delete from ops.run_events       h using gone where h.run_id = gone.run_id;
    delete from ops.earlier_attempts h using gone where h.run_id = gone.run_id;
    return null;
end
$$;

create trigger history_goes_with_its_run after delete on ops.runs
    referencing old table as gone
    for each statement execute function ops.history_goes_with_its_run();

-- A step of a run, and what it left behind: a run that is claimed again goes on after the last
-- phase that succeeded.
create table ops.run_phases (
    run_id      ops.run_name not null references ops.runs on delete cascade,
    name        text        not null,
    ordinal     integer     not null,
    status      text        not null,
    -- Of the run, in which it was last begun.
    attempt     integer     not null,
    -- How often it was begun.
    tries       integer     not null default 1,
    output      ops.json_value,
    error       text,
    started_at  timestamptz not null default now(),
    finished_at timestamptz,

    primary key (run_id, name),
    constraint run_phases_name_is_given     check (name <> '' and length(name) <= 64),
    constraint run_phases_status_is_known   check (status in ('running', 'success', 'failed', 'cancelled', 'skipped')),
    constraint run_phases_ended_has_an_end  check ((status = 'running') = (finished_at is null)),
    constraint run_phases_count             check (ordinal >= 1 and attempt >= 1 and tries >= 1)
);

comment on table ops.run_phases is 'the checkpointed steps of a run';

create table ops.artifacts (
    artifact_id   text        primary key default 'art-' || gen_random_uuid(),
    run_id        ops.run_name not null references ops.runs on delete cascade,
    -- One of a run has one key: what is captured again replaces what was.
    artifact_key  text        not null,
    artifact_type text        not null,
    -- Where it lies, as the store names it.
    storage_path  text        not null,
    -- sha256:<64 hexadecimal digits>
    digest        text,
    size_bytes    bigint,
    content_type  text,
    expires_at    timestamptz,
    created_at    timestamptz not null default now(),
    metadata      jsonb       not null default '{}',

    constraint artifacts_one_of_a_key     unique (run_id, artifact_key),
    constraint artifacts_key_is_given     check (artifact_key <> '' and storage_path <> ''),
    constraint artifacts_type_is_known    check (
        artifact_type in ('image', 'sbom', 'logs', 'evidence', 'manifest', 'backup', 'other')
    ),
    constraint artifacts_digest_is_sha256 check (digest ~ '^sha256:[0-9a-f]{64}$'),
    constraint artifacts_size_counts      check (size_bytes >= 0)
);

create index artifacts_expiring on ops.artifacts (expires_at) where expires_at is not null;

comment on table ops.artifacts is 'what runs left behind, and where it lies';

-- Kinds that a person has stopped from being claimed. What is under way goes on.
create table ops.paused_kinds (
    kind      text        primary key,
    paused_at timestamptz not null default now(),
    paused_by text        not null,
    reason    text
);

create table ops.runners (
    runner_id   text        primary key,
    -- What a person calls it; the id has a word more for each start.
    worker_id   text        not null,
    hostname    text        not null,
    pid         integer     not null,
    kinds       text[]      not null,
    concurrency integer     not null,
    version     text        not null,
    started_at  timestamptz not null default now(),
    last_seen   timestamptz not null default now(),
    stopped_at  timestamptz,
    -- Attempts that it brought to an end.
    processed   bigint      not null default 0,
    constraint runners_are_named check (runner_id <> '' and worker_id <> '')
);

comment on table ops.runners is 'who claims runs, and when it was last heard of';

-- Runners that have nothing to do and listen. Only then is a notification worth its price: at commit
-- it takes a lock that all of the server shares. Unlogged: after a crash nobody listens any more.
create unlogged table ops.idle_runners (
    runner_id text        primary key,
    since     timestamptz not null default now()
);

-- Things outside that are ours: the row is written before the call that makes the thing, so that
-- what a lost answer left behind is found by its name.
create table ops.resources (
    resource_id bigint      generated always as identity primary key,
    provider    text        not null,
    type        text        not null,
    -- By which it is found again.
    name        text        not null,
    -- Known once the provider has answered.
    external_id text,
    run_id      ops.run_name references ops.runs on delete set null,
    status      text        not null default 'intended',
    desired     jsonb       not null default '{}',
    observed    jsonb       not null default '{}',
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    deleted_at  timestamptz,

    constraint resources_status_is_known   check (status in ('intended', 'live', 'failed', 'deleting', 'deleted')),
    constraint resources_deleted_has_a_time check ((status = 'deleted') = (deleted_at is not null)),
    constraint resources_live_is_identified check (status <> 'live' or external_id is not null),
    constraint resources_are_named          check (provider <> '' and type <> '' and name <> '')
);

create unique index resources_once on ops.resources (provider, type, external_id) where external_id is not null;
create unique index resources_one_of_a_name on ops.resources (provider, type, name)
    where status in ('intended', 'live', 'deleting');
create index resources_of_a_run on ops.resources (run_id) where run_id is not null;

comment on table ops.resources is 'things at providers that are ours, from the intent on';

create table ops.audit_log (
    id         bigint      generated always as identity primary key,
    at         timestamptz not null default now(),
    actor      text        not null,
    -- 'run.cancelled', 'token.created', ...
    action     text        not null,
    subject    text,
    details    jsonb       not null default '{}',
    constraint audit_log_says_who check (actor <> '' and action <> '')
);

create index audit_log_by_time on ops.audit_log (at);

comment on table ops.audit_log is 'what people and programs did that others may ask about';
