//! Every document that is ever sent to Railway.

pub const OBSERVE: &str = include_str!("observe.graphql");
pub const DEPLOYMENTS: &str = include_str!("deployments.graphql");
pub const LOGS: &str = include_str!("logs.graphql");
pub const RESTART: &str = include_str!("restart.graphql");
pub const SCOPE: &str = include_str!("scope.graphql");
pub const PROJECT: &str = include_str!("project.graphql");
pub const SERVICES: &str = include_str!("services.graphql");
pub const DEPLOYMENT: &str = include_str!("deployment.graphql");
pub const RECENT: &str = include_str!("recent.graphql");
pub const BUILD_LOGS: &str = include_str!("build_logs.graphql");
pub const SERVICE_CREATE: &str = include_str!("service_create.graphql");
pub const SERVICE_UPDATE: &str = include_str!("service_update.graphql");
pub const VARIABLES_SET: &str = include_str!("variables_set.graphql");
pub const DEPLOY: &str = include_str!("deploy.graphql");

/// Each with its operation's name, for the contract test.
pub const DOCUMENTS: [(&str, &str); 14] = [
    ("Observe", OBSERVE),
    ("Deployments", DEPLOYMENTS),
    ("DeploymentLogs", LOGS),
    ("DeploymentRestart", RESTART),
    ("ProjectTokenScope", SCOPE),
    ("Project", PROJECT),
    ("Services", SERVICES),
    ("Deployment", DEPLOYMENT),
    ("RecentDeployments", RECENT),
    ("BuildLogs", BUILD_LOGS),
    ("ServiceCreate", SERVICE_CREATE),
    ("ServiceInstanceUpdate", SERVICE_UPDATE),
    ("VariableCollectionUpsert", VARIABLES_SET),
    ("ServiceInstanceDeploy", DEPLOY),
];
