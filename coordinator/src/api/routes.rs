//! The one table of all requests: path, least role, name in the audit log, bound of the body, who answers. The router is made of
//! it, so that there is no request without a role.

use std::sync::Arc;

use axum::routing::{MethodRouter, delete, get, post};

use super::{
    Api, agents, archives, live, metrics, notices, people, read, replacing, secrets, streams, write,
};
use crate::role::Role;

/// A body without documents.
const SMALL: usize = 16 * 1024;
/// A command line, escaped.
const EXEC: usize = 256 * 1024;
/// A signed envelope, with room.
const ENVELOPE: usize = 512 * 1024;
/// An envelope and its service file, with room.
const LARGE: usize = 1024 * 1024;

/// A copy of the largest secret for each of a thousand nodes.
const COPIES: usize = 32 * 1024 * 1024;

/// One request.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) least: Least,
    /// In the audit log and in refusals.
    pub(super) verb: &'static str,
    /// Of its body.
    pub(super) max_bytes: usize,
    /// Its handler takes the body as it comes, and bounds it.
    pub(super) is_streamed: bool,
    pub(super) handler: fn() -> MethodRouter<Arc<Api>>,
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Looks: is not written down.
    Read,
    /// Changes something: is written down before it is done.
    Change,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Least {
    /// Anyone who reaches the port.
    Anyone,
    /// Whoever has at least this role.
    Role(Role),
}

const fn see(
    path: &'static str,
    verb: &'static str,
    handler: fn() -> MethodRouter<Arc<Api>>,
) -> Route {
    let least = Least::Role(Role::Viewer);
    let is_streamed = false;
    Route { path, kind: Kind::Read, least, verb, max_bytes: SMALL, is_streamed, handler }
}

const fn change(
    (path, least): (&'static str, Role),
    verb: &'static str,
    max_bytes: usize,
    handler: fn() -> MethodRouter<Arc<Api>>,
) -> Route {
    let (kind, is_streamed) = (Kind::Change, false);
    Route { path, kind, least: Least::Role(least), verb, max_bytes, is_streamed, handler }
}

use Role::{Deployer, Operator, Security, Viewer};

/// `{env}` and `{service}` name a service, `{who}` a node or an operator.
pub(super) static ROUTES: [Route; 64] = [
    Route {
        least: Least::Anyone,
        ..see(protocol::join::HEALTH_PATH, "health", || get(|| async { "ok" }))
    },
    see("/metrics", "metrics", || get(metrics::show)),
    see("/v1/fleet", "fleet", || get(read::fleet)),
    see("/v1/root", "root", || get(read::root)),
    see("/v1/root/document", "root", || get(read::root_document)),
    see("/v1/reconciliation", "fleet conflicts", || get(read::reconciliation)),
    see("/v1/coordinator/addresses", "coordinator addresses", || get(read::addresses)),
    see("/v1/nodes", "node ls", || get(read::nodes)),
    see("/v1/nodes/{who}/replacement", "node replacement", || get(replacing::look)),
    see("/v1/revoked-certificates", "revoked certificates", || get(read::revoked_certificates)),
    see("/v1/services", "ps", || get(read::services)),
    see("/v1/environments/{env}/deployed", "deployed", || get(read::deployed)),
    see("/v1/rollouts/{env}/{service}", "rollout status", || get(read::rollout)),
    see("/v1/rollouts/{env}/{service}/history", "rollout history", || get(read::history)),
    see("/v1/rollouts/{env}/{service}/diff", "rollout diff", || get(read::difference)),
    see("/v1/removals/{env}/{service}", "removal", || get(read::removal)),
    see("/v1/services/{env}/{service}/logs", "logs", || get(streams::logs)),
    see("/v1/nodes/{who}/doctor", "node doctor", || get(streams::doctor)),
    see("/v1/events", "events", || get(read::events)),
    see("/v1/notifications", "notify ls", || get(notices::show)),
    change(("/v1/notifications/test", Operator), "notify test", SMALL, || post(notices::test)),
    see("/v1/live", "live", || get(live::look)),
    Route { max_bytes: LARGE, ..see("/v1/plans", "plan", || post(read::plan)) },
    see("/v1/secrets/{env}", "secret ls", || get(secrets::show)),
    see("/v1/secrets/{env}/unsynced", "secret unsynced", || get(secrets::unsynced)),
    change(("/v1/secrets/{env}/unsynced", Deployer), "secret sync", COPIES, || post(secrets::add)),
    change(("/v1/secrets/{env}/secret/{secret}", Deployer), "secret set", COPIES, || {
        post(secrets::set)
    }),
    change(("/v1/secrets/{env}/secret/{secret}", Deployer), "secret rm", SMALL, || {
        delete(secrets::remove)
    }),
    see("/v1/archives", "push ls", || get(archives::list)),
    Route {
        is_streamed: true,
        ..change(("/v1/archives", Deployer), "push", SMALL, || post(archives::push))
    },
    change(("/v1/archives/{sha256}", Deployer), "push rm", SMALL, || delete(archives::remove)),
    change(("/v1/deploys", Deployer), "deploy", LARGE, || post(write::deploy)),
    change(("/v1/promotions", Deployer), "promote", SMALL, || post(write::promote)),
    change(("/v1/rollouts/{env}/{service}/undo", Deployer), "undo", SMALL, || post(write::undo)),
    change(("/v1/rollouts/{env}/{service}/restart", Deployer), "restart", SMALL, || {
        post(write::restart)
    }),
    change(("/v1/rollouts/{env}/{service}/steer", Deployer), "steer", SMALL, || post(write::steer)),
    change(("/v1/services/{env}/{service}/scale", Deployer), "scale", SMALL, || post(write::scale)),
    change(("/v1/services/{env}/{service}", Deployer), "rm", SMALL, || delete(write::remove)),
    change(("/v1/services/{env}/{service}/restart", Deployer), "restart", SMALL, || {
        post(write::restart_on)
    }),
    change(("/v1/services/{env}/{service}/exec", Operator), "exec", EXEC, || post(streams::exec)),
    change(("/v1/services/{env}/{service}/forward", Operator), "port-forward", SMALL, || {
        post(streams::forward)
    }),
    change(("/v1/reconciliation", Operator), "fleet reconcile", SMALL, || post(write::reconcile)),
    change(("/v1/coordinator/addresses", Operator), "coordinator move", SMALL, || {
        post(write::tell_addresses)
    }),
    see("/v1/agent/releases", "agent status", || get(agents::show)),
    Route {
        is_streamed: true,
        ..change(("/v1/agent/programs/{program}", Security), "agent program", SMALL, || {
            post(agents::keep_program)
        })
    },
    change(("/v1/agent/releases", Security), "agent release", ENVELOPE, || post(agents::add)),
    change(("/v1/agent/rollout", Operator), "agent rollout", SMALL, || post(agents::roll)),
    change(("/v1/agent/rollout/steer", Operator), "agent steer", SMALL, || post(agents::steer)),
    change(("/v1/backups", Operator), "backup", SMALL, || post(write::keep_backup)),
    change(("/v1/retirements", Operator), "release retire", ENVELOPE, || post(write::retire)),
    change(("/v1/tokens", Operator), "node token", SMALL, || post(write::token)),
    change(("/v1/nodes/{who}/approve", Operator), "node approve", SMALL, || post(write::approve)),
    change(("/v1/nodes/{who}/revoke", Operator), "node revoke", SMALL, || post(write::revoke)),
    change(("/v1/nodes/{who}/replace", Operator), "node replace", SMALL, || {
        post(replacing::replace)
    }),
    Route { least: Least::Role(Operator), ..see("/v1/audit", "audit", || get(people::audit)) },
    Route {
        least: Least::Role(Operator),
        ..see("/v1/audit/verify", "audit", || get(people::verify_audit))
    },
    // Changes nothing, and takes everything away, if sealed: it is written down.
    change(("/v1/backup", Security), "backup out", SMALL, || get(write::backup)),
    change(("/v1/root", Security), "root change", ENVELOPE, || post(write::succeed)),
    Route {
        least: Least::Role(Operator),
        ..see("/v1/operators", "operator ls", || get(people::operators))
    },
    change(("/v1/operators", Security), "operator invite", SMALL, || post(people::invite)),
    change(("/v1/operators/{who}/revoke", Security), "operator revoke", SMALL, || {
        post(people::revoke)
    }),
    change(("/v1/logout", Viewer), "logout", SMALL, || post(people::logout)),
    change(("/v1/login/renew", Viewer), "login renew", SMALL, || post(people::renew_login)),
    // Whoever has an invitation has nothing else yet.
    Route {
        least: Least::Anyone,
        ..change(("/v1/login", Viewer), "login", SMALL, || post(people::login))
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Who may do what, as the documentation has it (docs/operators.md): a change of either is a change of both.
    #[test]
    fn the_documentation_has_every_request_with_its_role() {
        let page = include_str!("../../../docs/operators.md");
        let (_, rest) = page.split_once("## Who may do what").unwrap();
        let (table, _) = rest.split_once("\n## ").unwrap();
        for route in &ROUTES {
            let Least::Role(least) = route.least else { continue };
            let row = table.lines().find(|row| row.starts_with(&format!("| {least} |"))).unwrap();
            assert!(row.contains(&format!("`{}`", route.verb)), "{}: {row}", route.verb);
            let others = table.lines().filter(|other| *other != row);
            for other in others.filter(|other| other.starts_with("| ")) {
                assert!(!other.contains(&format!("`{}`", route.verb)), "{}: {other}", route.verb);
            }
        }
    }

    #[test]
    fn what_looks_needs_no_more_than_a_viewer_and_what_changes_more_than_that() {
        for route in &ROUTES {
            match (route.kind, route.least) {
                (Kind::Change, Least::Anyone) => assert_eq!(route.path, "/v1/login"),
                (Kind::Change, Least::Role(Viewer)) => {
                    assert!(["logout", "login renew"].contains(&route.verb), "{}", route.path);
                }
                (Kind::Change, Least::Role(_)) => {}
                (Kind::Read, Least::Anyone) => assert_eq!(route.path, "/healthz"),
                (Kind::Read, Least::Role(Viewer)) => {}
                (Kind::Read, Least::Role(_)) => {
                    assert!(["audit", "operator ls"].contains(&route.verb), "{}", route.path);
                }
            }
            assert!(route.max_bytes <= COPIES);
        }
    }
}
