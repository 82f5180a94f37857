//! Docker behind [`Engine`]: the only place that knows its client and its answers.
//!
//! Speaks to 20.10 and newer over the unix socket. The client's own timeout ends with the response's head, so every call
//! here runs under a deadline of ours that covers the body too.

mod access;
mod answers;
mod ask;
mod classify;
mod create;
mod events;
mod kills;
mod load;
mod logs;
mod networks;
mod observe;
mod program;
mod pull;
mod stats;
mod survey;
mod transport;
mod volumes;
mod written;

use std::cell::{OnceCell, RefCell};
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker as Client;
use bollard::errors::Error as ClientError;
use bollard::query_parameters as query;
use http::header::HeaderValue;
use protocol::id::ServiceName;
use protocol::release::Image;
use protocol::spec::HostAccess;

use super::container::{Container, ContainerSpec};
use super::error::EngineError;
use super::identity::Ours;
use super::pull::Pull;
use super::{
    Engine, EngineInfo, Events, ExecOutcome, ImageFacts, Network, NetworkSpec, Placement, Program,
    Signal, Source, Survey, Typing, Written,
};
use crate::clock;
use crate::network::Ipv4Net;
use answers::{Info, Version};
use kills::Kills;
use protocol::registries::RegistryLogin;

/// Answers that only read.
const QUERY_DEADLINE_MS: u64 = 10_000;
/// Creating and removing touch the disk, which is slow on cards.
const CHANGE_DEADLINE_MS: u64 = 60_000;
/// A first start on a cold board takes many seconds.
const START_DEADLINE_MS: u64 = 120_000;
/// The client's own, above all of ours.
const CLIENT_TIMEOUT_S: u64 = 180;
/// Docker numbers registry credentials in this header.
const REGISTRY_AUTH: &str = "x-registry-auth";

/// The machine's Docker.
#[derive(Debug, Clone)]
pub struct Docker {
    socket: Arc<str>,
    client: Rc<OnceCell<Client>>,
    host: Rc<OnceCell<Host>>,
    kills: Rc<RefCell<Kills>>,
}

/// What never changes while a machine runs; asked once, since Docker runs a process for each asking.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Host {
    /// As images name it.
    architecture: String,
    cores: u32,
}

impl Docker {
    /// The Docker that listens on this unix socket, with or without `unix://`. Connects when it is asked something.
    #[must_use]
    pub fn at(socket: &str) -> Self {
        let path = socket.strip_prefix("unix://").unwrap_or(socket);
        Self {
            socket: path.into(),
            client: Rc::default(),
            host: Rc::default(),
            kills: Rc::new(RefCell::new(Kills::since(kills::counter()))),
        }
    }

    fn client(&self) -> Result<&Client, EngineError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let socket = Arc::clone(&self.socket);
        let sending = move |request| transport::send(Arc::clone(&socket), request);
        let (address, version) = (Some(transport::ADDRESS), bollard::API_DEFAULT_VERSION);
        let client =
            Client::connect_with_custom_transport(sending, address, CLIENT_TIMEOUT_S, version)
                .map_err(|error| classify::engine_error(&error))?
                .with_request_modifier(make_auth_url_safe);
        Ok(self.client.get_or_init(|| client))
    }

    async fn host(&self) -> Result<&Host, EngineError> {
        if let Some(host) = self.host.get() {
            return Ok(host);
        }
        let info = self.info().await?;
        let host = Host { architecture: info.architecture, cores: info.cores };
        Ok(self.host.get_or_init(|| host))
    }
}

/// Docker reads the credentials header as URL-safe base64; the client writes the plain alphabet, so that a password whose
/// encoding has a `+` or `/` would be taken for none at all.
fn make_auth_url_safe(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    if let Some(value) = request.headers_mut().get_mut(REGISTRY_AUTH) {
        let safe = |byte: &u8| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        };
        let bytes: Vec<u8> = value.as_bytes().iter().map(safe).collect();
        if let Ok(mut replaced) = HeaderValue::from_bytes(&bytes) {
            replaced.set_sensitive(true);
            *value = replaced;
        }
    }
    request
}

/// Runs one call under a deadline.
async fn within<T>(
    deadline_ms: u64,
    call: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(Duration::from_millis(deadline_ms), call).await {
        Ok(result) => result.map_err(|error| classify::engine_error(&error)),
        Err(_) => {
            Err(EngineError::Unavailable(format!("no answer within {} s", deadline_ms / 1000)))
        }
    }
}

/// A call about something that may be gone, which is as good as done.
fn gone_is_done(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(EngineError::NotFound(_)) => Ok(()),
        other => other,
    }
}

/// What the agent needs to know of an engine.
fn info(version: Version, info: Info) -> EngineInfo {
    let architecture = observe::architecture(&version.arch.unwrap_or_default()).to_owned();
    let cores = info.cores.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let security = info.security_options.unwrap_or_default();
    let is_desktop = info.operating_system.as_deref().is_some_and(|s| s.contains("Desktop"));
    let placement = match security.iter().any(|option| option.starts_with("name=rootless")) {
        true => Placement::Rootless,
        false if is_desktop => Placement::Desktop,
        false => Placement::Host,
    };
    EngineInfo {
        version: version.version.unwrap_or_default(),
        api: version.api_version.unwrap_or_default(),
        architecture,
        os: version.os.unwrap_or_default(),
        root_dir: info.docker_root_dir.unwrap_or_default(),
        cores,
        memory_bytes: info.mem_total.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        placement,
        limits_memory: info.memory_limit.unwrap_or(false),
        limits_cpu: info.cpu_cfs_quota.unwrap_or(false),
        live_restore: info.live_restore_enabled.unwrap_or(false),
    }
}

impl Engine for Docker {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        Ok(info(self.get("/version").await?, self.get("/info").await?))
    }

    async fn survey(&self) -> Result<Survey, EngineError> {
        survey::survey(self).await
    }

    async fn containers(&self, ours: &Ours) -> Result<Vec<Container>, EngineError> {
        let mut containers = observe::containers(self, ours).await?;
        let ends = containers.iter_mut().filter_map(observe::end);
        self.kills.borrow_mut().explain(ends, kills::counter(), clock::now());
        Ok(containers)
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        create::create(self, spec).await
    }

    async fn access(&self, id: &str) -> Result<Option<(ServiceName, HostAccess)>, EngineError> {
        access::of_container(self, id).await
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        let call = self.client()?.start_container(id, None::<query::StartContainerOptions>);
        within(START_DEADLINE_MS, call).await
    }

    async fn signal(&self, id: &str, signal: Signal) -> Result<(), EngineError> {
        let client = self.client()?;
        let name = match signal {
            Signal::Kill => "SIGKILL".to_owned(),
            Signal::Term => match observe::stop_signal(self, id).await? {
                Some(name) => name,
                None => return Ok(()),
            },
        };
        let options = query::KillContainerOptionsBuilder::new().signal(&name).build();
        let result = within(QUERY_DEADLINE_MS, client.kill_container(id, Some(options))).await;
        match result {
            // "Container … is not running": it ended by itself in the meantime.
            Err(EngineError::Conflict(_)) => Ok(()),
            other => gone_is_done(other),
        }
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let options = query::RemoveContainerOptionsBuilder::new().v(true).force(false).build();
        let call = self.client()?.remove_container(id, Some(options));
        match within(CHANGE_DEADLINE_MS, call).await {
            // Someone (or a call of ours that outlived its deadline) is at it already.
            Err(EngineError::Conflict(text)) if text.contains("already in progress") => Ok(()),
            other => gone_is_done(other),
        }
    }

    async fn image(&self, image: &Image) -> Result<Option<ImageFacts>, EngineError> {
        observe::image(self, image).await
    }

    fn pull(&self, image: &Image, credentials: Option<&RegistryLogin>) -> Pull {
        let (docker, image, credentials) = (self.clone(), image.clone(), credentials.cloned());
        Pull::spawn(move |updates| async move {
            pull::pull(&docker, &image, credentials, &updates).await
        })
    }

    fn load(&self, image: &Image, file: &Path) -> Pull {
        let (docker, image, file) = (self.clone(), image.clone(), file.to_owned());
        Pull::spawn(
            move |updates| async move { load::load(&docker, &image, &file, &updates).await },
        )
    }

    async fn remove_image(&self, image: &Image) -> Result<(), EngineError> {
        let reference = image.pinned_reference();
        let options = None::<query::RemoveImageOptions>;
        let call = self.client()?.remove_image(&reference, options, None);
        gone_is_done(within(CHANGE_DEADLINE_MS, call).await.map(drop))
    }

    async fn discard_image(&self, image: &Image) -> Result<(), EngineError> {
        // By its id: by one of several names, only the name would go.
        let Some(facts) = observe::image(self, image).await? else { return Ok(()) };
        let options = query::RemoveImageOptionsBuilder::new().force(true).build();
        let call = self.client()?.remove_image(&facts.id, Some(options), None);
        gone_is_done(within(CHANGE_DEADLINE_MS, call).await.map(drop))
    }

    async fn programs(&self, id: &str) -> Result<Vec<Program>, EngineError> {
        program::of_container(self, id).await
    }

    async fn networks(&self, ours: &Ours) -> Result<Vec<Network>, EngineError> {
        networks::of_ours(self, ours).await
    }

    async fn all_subnets(&self) -> Result<Vec<Ipv4Net>, EngineError> {
        networks::all_subnets(self).await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<Network, EngineError> {
        networks::create(self, spec).await
    }

    async fn remove_network(&self, id: &str) -> Result<(), EngineError> {
        gone_is_done(within(CHANGE_DEADLINE_MS, self.client()?.remove_network(id)).await)
    }

    async fn logs_tail(&self, id: &str, lines: usize) -> Result<Vec<String>, EngineError> {
        logs::tail(self.client()?, id, lines).await
    }

    async fn memory_percent(&self, id: &str) -> Result<Option<u8>, EngineError> {
        stats::memory_percent(self, id).await
    }

    async fn exec(
        &self,
        id: &str,
        command: &[String],
        deadline_ms: u64,
    ) -> Result<ExecOutcome, EngineError> {
        logs::exec(self, id, command, deadline_ms).await
    }

    fn read(&self, id: &str, source: Source, typing: Option<Typing>) -> Written {
        let (docker, id) = (self.clone(), id.to_owned());
        Written::spawn(move |pieces| async move {
            written::read(&docker, &id, (source, typing), &pieces).await
        })
    }

    fn events(&self, ours: &Ours) -> Events {
        events::subscribe(self.clone(), ours.clone())
    }
}
