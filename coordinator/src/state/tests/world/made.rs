//! Files, images and reports that the boards of a test world have.

use protocol::file::parse;
use protocol::id::Template;
use protocol::manifest::Assignment;
use protocol::release::{Image, Pin};
use protocol::report::{CandidateReport, InstanceReport, InstanceState, Phase, ServiceReport};
use protocol::spec::ServiceSpec;

impl super::World {
    pub(in super::super) fn is_online(&self, handle: &str) -> bool {
        self.state.nodes[&self.node_id(handle)].record.online
    }
}

pub(super) fn parts(service: &str, version: &str) -> (Image, ServiceSpec) {
    let text = format!(
        "name = \"{service}\"\nper_node = 1\n[[ports]]\nname = \"http\"\nlisten = 8080\ntarget = 80\n"
    );
    (image(service, version), parse("test.toml", &text).unwrap().spec)
}

pub(super) fn image(service: &str, version: &str) -> Image {
    let digest = protocol::id::sha256_hex(version.as_bytes());
    let pin = Pin::Digest(format!("sha256:{digest}").parse().unwrap());
    Image { reference: format!("r.io/{service}:{version}"), pin }
}

pub(super) fn running(assignment: &Assignment, phase: Phase) -> ServiceReport {
    let template = Template::of(&assignment.release, &"default".parse().unwrap(), 0);
    let instance = |slot| InstanceReport {
        name: format!("{}-{slot}", assignment.service),
        slot,
        release: assignment.release.clone(),
        template: template.clone(),
        state: InstanceState::Ready,
        restarts: 0,
    };
    ServiceReport {
        candidate: assignment.candidate.as_ref().map(|candidate| CandidateReport {
            revision: candidate.revision,
            attempt: candidate.attempt,
            share: candidate.share,
            phase,
            detail: None,
            desired: candidate.count,
            ready: candidate.count,
        }),
        hook: None,
        held: None,
        service: assignment.service.clone(),
        revision: assignment.revision,
        attempt: assignment.attempt,
        phase,
        detail: None,
        desired: assignment.count,
        updated: assignment.count,
        ready: assignment.count,
        instances: (0..assignment.count).map(instance).collect(),
        given_up: None,
    }
}
