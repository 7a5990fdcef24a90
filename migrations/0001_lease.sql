-- The controller's lease: of all controllers of one deployment, on whatever machines, one acts.
--
-- Every time in it is this database's own. No constraint depends on the present: what has run out
-- is judged by the statements that take and renew, each of which is one update of one row.

-- The schema exists already: the table that records these migrations lies in it, too.

create table ops.lease (
    -- What is leased: controller:<identity tag of the deployment>.
    name        text        primary key,
    -- Grows by one whenever the lease is taken, also by the same holder again. 0: never taken.
    epoch       bigint      not null default 0,
    -- Machine and a word that no other process has; null: never taken.
    holder      text,
    -- When the holder took it.
    since       timestamptz,
    renewed_at  timestamptz,
    -- From here on it may be taken. Giving it back sets this to the present.
    expires_at  timestamptz,

    constraint lease_name_is_given     check (name <> ''),
    constraint lease_epoch_counts      check (epoch >= 0),
    constraint lease_holder_is_named   check (holder <> ''),
    -- Taken and all of it is known, or never taken and nothing is.
    constraint lease_is_whole          check (
        num_nulls(holder, since, renewed_at, expires_at) = case when epoch = 0 then 4 else 0 end
    ),
    constraint lease_times_follow      check (since <= renewed_at and renewed_at <= expires_at)
);

comment on table ops.lease is 'which controller of a deployment may act, and until when';

-- The epoch is what a stale holder is told apart by, so it never goes back.
create function ops.lease_epoch_never_falls() returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    if tg_op = 'DELETE' or new.epoch < old.epoch or new.name <> old.name then
        raise exception 'the epoch of lease % never falls', old.name
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end
$$;

create trigger lease_epoch_never_falls
    before update or delete on ops.lease
    for each row execute function ops.lease_epoch_never_falls();
