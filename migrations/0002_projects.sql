-- Projects, their environments, and who may do what in them.
--
-- Names, columns and the roles' rights are those of the documented ops schema. A person is whoever
-- the connection says: the claims that an API gateway sets for the request, or `ops.user_id`.

create table ops.projects (
    project_id   text        primary key,
    name         text        not null,
    -- org/repo at GitHub; null where nothing is built from a repository.
    repo_slug    text        unique,
    odoo_version text,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    metadata     jsonb       not null default '{}',

    constraint projects_id_is_a_name      check (project_id ~ '^[a-z0-9][a-z0-9-]*$' and length(project_id) <= 63),
    constraint projects_name_is_given     check (name <> ''),
    constraint projects_repo_has_an_owner check (repo_slug ~ '^[^/\s]+/[^/\s]+$'),
    constraint projects_metadata_is_object check (jsonb_typeof(metadata) = 'object')
);

create table ops.environments (
    env_id         text        primary key,
    project_id     text        not null references ops.projects on delete cascade,
    env_type       text        not null,
    -- Which branches go there, for whoever decides it.
    branch_pattern text,
    db_name        text,
    -- What kinds of work need to know of it: Railway service, hook, checks, ...
    config         jsonb       not null default '{}',
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),

    constraint environments_type_is_known   check (env_type in ('dev', 'staging', 'prod')),
    constraint environments_one_of_a_type   unique (project_id, env_type),
    -- So that a run can be held to an environment of its own project.
    constraint environments_of_a_project    unique (project_id, env_id),
    constraint environments_config_is_object check (jsonb_typeof(config) = 'object')
);

create table ops.roles (
    role_id     text   primary key,
    -- 'run:create', 'run:*', '*'
    permissions text[] not null
);

insert into ops.roles (role_id, permissions) values
    ('owner',     '{*}'),
    ('admin',     '{project:*,env:*,run:*,backup:*,restore:staging}'),
    ('developer', '{project:read,env:read,run:create,run:read,run:logs,backup:read}'),
    ('viewer',    '{project:read,env:read,run:read,backup:read}'),
    ('auditor',   '{project:read,env:read,run:read,run:audit,backup:read,approval:read}');

create table ops.project_members (
    project_id text        not null references ops.projects on delete cascade,
    user_id    text        not null,
    role_id    text        not null references ops.roles,
    created_at timestamptz not null default now(),
    primary key (project_id, user_id),
    constraint project_members_user_is_given check (user_id <> '')
);

create index project_members_by_user on ops.project_members (user_id);

-- Who asks. Null: nobody that anything was told of.
create function ops.current_user_id() returns text
    language sql stable
    set search_path = ''
as $$
    select coalesce(
        nullif(current_setting('ops.user_id', true), ''),
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    )
$$;

-- Whether this person may do this in this project. Reads the members as the owner does: the policies
-- on them ask this very function.
create function ops.user_has_permission(p_user_id text, p_project_id text, p_permission text) returns boolean
    language sql stable security definer
    set search_path = ''
as $$
    select exists (
        select
        from ops.project_members m
        join ops.roles r using (role_id)
        cross join unnest(r.permissions) as granted
        where m.user_id = p_user_id
          and m.project_id = p_project_id
          and (granted in ('*', p_permission)
               or (granted like '%:*' and starts_with(p_permission, left(granted, -1))))
    )
$$;

comment on table ops.projects        is 'what is built, deployed and backed up';
comment on table ops.environments    is 'where a project runs: at most one of each type';
comment on table ops.project_members is 'who belongs to a project, and as what';
