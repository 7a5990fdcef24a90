-- Tokens of the HTTP interface. The secret itself is made and shown once by the program that asks for
-- it; here lies its SHA-256 alone. It is as long as a key, so that guessing it is no way in.

create table ops.api_tokens (
    token_id     text        primary key default 'tok-' || gen_random_uuid(),
    name         text        not null,
    token_hash   bytea       not null unique,
    scopes       text[]      not null,
    created_at   timestamptz not null default now(),
    created_by   text        not null,
    -- Null: it stays until it is revoked.
    expires_at   timestamptz,
    -- To the minute.
    last_used_at timestamptz,
    revoked_at   timestamptz,

    constraint api_tokens_name_is_given   check (btrim(name) <> '' and length(name) <= 100),
    constraint api_tokens_hash_is_sha256  check (length(token_hash) = 32),
    constraint api_tokens_scopes_are_known check (
        scopes <@ '{runs:read,runs:write,runner,admin}' and cardinality(scopes) > 0
    ),
    constraint api_tokens_creator_is_given check (created_by <> ''),
    constraint api_tokens_expire_later    check (expires_at > created_at)
);

-- What was revoked leaves its name to others.
create unique index api_tokens_one_of_a_name on ops.api_tokens (name) where revoked_at is null;

comment on table ops.api_tokens is 'tokens of the HTTP interface: their hashes, and what each may do';

-- One that has expired leaves its name to the new one.
create function ops.create_token(
    p_name text, p_token_hash bytea, p_scopes text[], p_created_by text, p_expires_at timestamptz default null
) returns text
    language plpgsql security definer
    set search_path = ''
as $$
declare
    id text;
begin
    update ops.api_tokens t set revoked_at = now()
    where t.name = p_name and t.revoked_at is null and t.expires_at <= now();
    insert into ops.api_tokens (name, token_hash, scopes, created_by, expires_at)
    values (p_name, p_token_hash, p_scopes, p_created_by, p_expires_at)
    on conflict (name) where revoked_at is null do nothing
    returning token_id into id;
    if id is null then
        raise exception 'a token named % is in use: revoke it, or take another name', p_name
            using errcode = 'unique_violation';
    end if;
    insert into ops.audit_log (actor, action, subject, details)
    values (p_created_by, 'token.created', id,
            jsonb_strip_nulls(jsonb_build_object('name', p_name, 'scopes', p_scopes, 'expires_at', p_expires_at)));
    return id;
end
$$;

-- The token with this hash, when it is live.
create function ops.find_token(p_token_hash bytea)
returns table (token_id text, name text, scopes text[])
    language plpgsql security definer
    set search_path = ''
as $$
#variable_conflict use_column
begin
    -- At most once a minute, and never waited for: every request comes by here.
    update ops.api_tokens t set last_used_at = now()
    where t.token_id in (
        select u.token_id from ops.api_tokens u
        where u.token_hash = p_token_hash and u.revoked_at is null and (u.expires_at is null or u.expires_at > now())
          and (u.last_used_at is null or u.last_used_at < now() - interval '1 minute')
        for update skip locked
    );
    return query
    select t.token_id, t.name, t.scopes
    from ops.api_tokens t
    where t.token_hash = p_token_hash and t.revoked_at is null and (t.expires_at is null or t.expires_at > now());
end
$$;

-- False: it was revoked before.
create function ops.revoke_token(p_token_id text, p_actor text) returns boolean
    language plpgsql security definer
    set search_path = ''
as $$
declare
    revoked text;
begin
    update ops.api_tokens t set revoked_at = now()
    where t.token_id = p_token_id and t.revoked_at is null
    returning t.name into revoked;
    if revoked is null then
        if not exists (select from ops.api_tokens t where t.token_id = p_token_id) then
            raise exception 'Token % does not exist', p_token_id using errcode = 'no_data_found';
        end if;
        return false;
    end if;
    insert into ops.audit_log (actor, action, subject, details)
    values (p_actor, 'token.revoked', p_token_id, jsonb_build_object('name', revoked));
    return true;
end
$$;
