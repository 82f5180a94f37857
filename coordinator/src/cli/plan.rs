//! `pith plan`

use super::session::Session;
use super::{CliError, Exit, TargetArgs, sources};
use crate::render;
use crate::state::requests::PlanRequest;

pub(super) async fn run(session: &Session, target: TargetArgs) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let batch = sources::load(session, &client, &target).await?;
    let mut plans = Vec::new();
    for service in batch.services {
        let sizes = batch.sources.sizes(&service.image, &batch.architectures).await;
        let request = PlanRequest {
            environment: batch.environment.clone(),
            image: service.image,
            spec: Box::new(service.spec),
            environments: service.environments,
            sizes,
        };
        plans.push(client.plan(&request).await?);
    }
    let anything = plans.iter().any(|plan| plan.anything);
    match plans.as_slice() {
        [one] => session.print(one, render::plan),
        several => session.print(&several, |plans| plans.iter().map(render::plan).collect()),
    }
    Ok(if anything { Exit::Changes } else { Exit::Done })
}
