//! What a deploy would do, step by step and why, in sentences for `pith plan`.

use planner::fleet::{Member, Placed, Wave, canaries, waves};
use protocol::id::{NodeName, ServiceId};
use protocol::spec::{BlueGreen, Canary, Hold, OnFailure, ServiceSpec, Share, Strategy};

use super::State;

impl State {
    /// The steps of rolling `spec` out where it is placed, in their order.
    pub(super) fn explain(
        &self,
        id: &ServiceId,
        spec: &ServiceSpec,
        placed: &Placed,
    ) -> Vec<String> {
        let members = self.members(&self.order_nodes(id, placed));
        let runs = self.services.get(id).is_some_and(|service| service.record.stable.is_some());
        let tries = runs && !spec.is_exclusive();
        let mut steps = Vec::new();
        let hook = |kind: &str, why: &str| {
            let first = members.first().map_or("a node", |member| member.name.as_str());
            format!("{kind} runs once on {first}; {why}")
        };
        if spec.hooks.pre_deploy.is_some() {
            steps.push(hook("pre_deploy", "if it fails, nothing is changed"));
        }
        match &spec.rollout.strategy {
            Strategy::BlueGreen(blue_green) if tries => green(blue_green, &mut steps),
            Strategy::Canary(canary) if tries => {
                trial(canary, &members, &mut steps);
                self.moves(spec, &members, &canaries(&members, &canary.nodes), &mut steps);
            }
            Strategy::Rolling
            | Strategy::Recreate
            | Strategy::BlueGreen(_)
            | Strategy::Canary(_) => {
                self.moves(spec, &members, &[], &mut steps);
            }
        }
        if spec.hooks.post_deploy.is_some() {
            steps.push(hook("post_deploy", "if it fails, every node goes back"));
        }
        if spec.rollout.soak.0 > 0 && runs {
            let soak = spec.rollout.soak;
            steps.push(format!(
                "for {soak} after success the old release stays warm where memory allows, and failing goes back"
            ));
        }
        if runs {
            steps.push(failing(spec, members.len()));
        }
        steps
    }

    fn moves(
        &self,
        spec: &ServiceSpec,
        members: &[Member],
        first: &[NodeName],
        steps: &mut Vec<String>,
    ) {
        let waves = waves(members, first, &spec.rollout);
        for wave in &waves {
            steps.push(wave_line(wave));
        }
        steps.push(manner(spec));
        for member in members.iter().filter(|_| !spec.is_exclusive()) {
            if let Some((free, asked)) = self.lacks_room(spec, &member.name) {
                let (name, free, asked) = (&member.name, free >> 20, asked >> 20);
                steps.push(format!(
                    "{name} has {free} MiB free and one more instance asks for {asked} MiB: it stops one before it starts \
                     the next, requests wait meanwhile (the node decides when it begins)"
                ));
            }
        }
    }

    /// Free and asked bytes, where one more instance does not fit by the node's newest sample.
    fn lacks_room(&self, spec: &ServiceSpec, name: &NodeName) -> Option<(u64, u64)> {
        let asked = spec.resources.requests.memory?.0;
        let load = self.node_named(name)?.load.as_ref()?;
        let free = load.mem_total?.saturating_sub(load.mem_used?);
        (free < asked).then_some((free, asked))
    }
}

fn names(nodes: &[NodeName]) -> String {
    nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
}

fn wave_line(wave: &Wave) -> String {
    let how = match (wave.nodes.len(), wave.at_once) {
        (1, _) => String::new(),
        (_, 1) => ", one after another".to_owned(),
        (all, at_once) if at_once >= all => ", at once".to_owned(),
        (_, at_once) => format!(", {at_once} at once"),
    };
    let gate = match wave.gate {
        None => String::new(),
        Some(Hold::For(span)) => format!("; then {span} of waiting"),
        Some(Hold::Manual) => "; then `pith rollout promote` lets it go on".to_owned(),
    };
    let verb = if wave.nodes.len() == 1 { "takes" } else { "take" };
    format!("{} {verb} it{how}{gate}", names(&wave.nodes))
}

fn manner(spec: &ServiceSpec) -> String {
    let policy = &spec.rollout;
    if spec.is_exclusive() || policy.strategy == Strategy::Recreate {
        return "on each: every old instance stops, then the new ones start; requests wait meanwhile".to_owned();
    }
    let min_ready = match policy.min_ready.0 {
        0 => String::new(),
        _ => format!(" for {}", policy.min_ready),
    };
    let surge = share(policy.max_surge);
    if matches!(policy.max_surge, Share::Count(0) | Share::Percent(0)) {
        return format!(
            "on each: an old instance stops before a new one starts (max_surge = 0); the next once that is ready{min_ready}"
        );
    }
    format!(
        "on each: at most {surge} new beside the old, at most {} fewer; an old one goes when a new one is ready{min_ready}",
        share(policy.max_unavailable)
    )
}

fn share(share: Share) -> String {
    match share {
        Share::Count(count) => count.to_string(),
        Share::Percent(percent) => format!("{percent}%"),
    }
}

fn green(blue_green: &BlueGreen, steps: &mut Vec<String>) {
    let preview = blue_green
        .preview_port
        .map_or(String::new(), |port| format!("; it answers on port {port} until then"));
    steps.push(format!(
        "every node brings up its whole new set beside the old one, without requests{preview}"
    ));
    let when = match blue_green.auto_promote {
        true => "once all are complete",
        false => "at `pith rollout promote`",
    };
    let keep_old = blue_green.keep_old;
    steps.push(format!(
        "{when} every node switches at once; the old set stays warm for {keep_old}, and undo only switches back"
    ));
}

fn trial(canary: &Canary, members: &[Member], steps: &mut Vec<String>) {
    let nodes = names(&canaries(members, &canary.nodes));
    for step in &canary.steps {
        let hold = match step.hold {
            Hold::For(span) => format!("for {span}"),
            Hold::Manual => "until `pith rollout promote`".to_owned(),
        };
        steps.push(format!("a canary on {nodes} gets {}% of its requests {hold}", step.weight));
    }
    let analysis = &canary.analysis;
    let rate = analysis.max_error_rate.map(|rate| {
        format!("more than {}.{:02}% errors over the stable release", rate / 100, rate % 100)
    });
    let p99 =
        analysis.max_p99.map(|p99| format!("a p99 above {p99} and above the stable release's"));
    let causes: Vec<String> =
        rate.into_iter().chain(p99).chain(["crashes or lost readiness".to_owned()]).collect();
    let what = if analysis.dry_run { "is only told (dry run)" } else { "ends it" };
    steps.push(format!(
        "{} measurements of {} with {} {what}; with fewer than {} requests it holds",
        analysis.failure_limit,
        analysis.interval,
        causes.join(", or "),
        analysis.min_requests
    ));
}

fn failing(spec: &ServiceSpec, nodes: usize) -> String {
    let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
    let allowed = match spec.rollout.error_threshold.floor_of(nodes) {
        0 => "the first node that fails".to_owned(),
        allowed => format!("more than {allowed} failing nodes"),
    };
    match spec.rollout.on_failure {
        OnFailure::Rollback => format!("{allowed} ends it, and every node goes back by itself"),
        OnFailure::Pause => format!("{allowed} pauses it, for a person to look"),
    }
}
