//! Asking engine and proxy, in one go and off the loop.

use std::net::IpAddr;
use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use planner::Now;
use protocol::release::{Image, Pin};
use proxy::{Client, Snapshot};

use super::Facts;
use crate::engine::{Container, Engine, EngineError, EngineInfo, ImageFacts, Network, Ours};
use crate::network;

/// Images looked at side by side.
const IMAGES_AT_ONCE: usize = 4;

/// What to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// The engine itself.
    pub info: bool,
    /// Containers.
    pub containers: bool,
    /// Networks; the hosts file follows them.
    pub networks: bool,
    /// Images.
    pub images: bool,
    /// The proxy.
    pub proxy: bool,
}

impl Scope {
    /// Nothing.
    pub const NOTHING: Self =
        Self { info: false, containers: false, networks: false, images: false, proxy: false };
    /// Everything but what hardly changes.
    pub const USUAL: Self =
        Self { info: false, containers: true, networks: true, images: false, proxy: true };
    /// Everything.
    pub const ALL: Self =
        Self { info: true, containers: true, networks: true, images: true, proxy: true };

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            info: self.info || other.info,
            containers: self.containers || other.containers,
            networks: self.networks || other.networks,
            images: self.images || other.images,
            proxy: self.proxy || other.proxy,
        }
    }

    /// Whether anything of it concerns the engine.
    #[must_use]
    pub const fn asks_engine(self) -> bool {
        self.info || self.containers || self.networks || self.images
    }

    /// Whether there is anything to ask.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::NOTHING
    }
}

/// Answers; none: not asked.
#[derive(Debug)]
pub struct Gathered {
    /// Counts the gatherings of this process.
    pub number: u64,
    /// When asking began.
    pub began: Now,
    /// From the engine.
    pub engine: Result<FromEngine, EngineError>,
    /// From the proxy, in its own words when it does not answer.
    pub proxy: Option<Result<Snapshot, String>>,
    /// Whether the engine was asked at all.
    pub scope: Scope,
}

/// What the engine said; none: not asked.
#[derive(Debug, Default)]
pub struct FromEngine {
    /// What it is.
    pub info: Option<EngineInfo>,
    /// All containers of ours.
    pub containers: Option<Vec<Container>>,
    /// All networks of ours.
    pub networks: Option<Vec<Network>>,
    /// Of every image asked for.
    pub images: Option<Vec<(Pin, Option<ImageFacts>)>>,
}

/// Whom to ask, and about what.
#[derive(Debug, Clone)]
pub struct Inquiry<'a, E> {
    /// The engine.
    pub engine: &'a E,
    /// The proxy.
    pub proxy: &'a Client,
    /// Whose containers.
    pub ours: &'a Ours,
    /// Which images.
    pub images: &'a [Image],
    /// Where the names of services stand for containers.
    pub hosts_file: &'a Path,
}

/// Asks what `scope` says, all at the same time. The first engine error ends the asking of the engine.
pub async fn gather<E: Engine>(
    inquiry: Inquiry<'_, E>,
    scope: Scope,
    number: u64,
    began: Now,
) -> Gathered {
    let proxy = async {
        match scope.proxy {
            true => Some(inquiry.proxy.get().await.map_err(|error| error.to_string())),
            false => None,
        }
    };
    let (engine, proxy) = tokio::join!(from_engine(&inquiry, scope), proxy);
    Gathered { number, began, engine, proxy, scope }
}

async fn from_engine<E: Engine>(
    inquiry: &Inquiry<'_, E>,
    scope: Scope,
) -> Result<FromEngine, EngineError> {
    let (engine, ours) = (inquiry.engine, inquiry.ours);
    let (info, containers, networks, images) = tokio::try_join!(
        asked(scope.info, || engine.info()),
        asked(scope.containers, || engine.containers(ours)),
        asked(scope.networks, || engine.networks(ours)),
        asked(scope.images, || images(engine, inquiry.images)),
    )?;
    if let Some(networks) = &networks {
        keep_hosts_file(inquiry.hosts_file, networks);
    }
    Ok(FromEngine { info, containers, networks, images })
}

async fn asked<T, F: Future<Output = Result<T, EngineError>>>(
    is_asked: bool,
    ask: impl FnOnce() -> F,
) -> Result<Option<T>, EngineError> {
    match is_asked {
        true => ask().await.map(Some),
        false => Ok(None),
    }
}

async fn images<E: Engine>(
    engine: &E,
    images: &[Image],
) -> Result<Vec<(Pin, Option<ImageFacts>)>, EngineError> {
    let look = |image: &Image| {
        let (engine, image) = (engine.clone(), image.clone());
        async move { Ok((image.pin.clone(), engine.image(&image).await?)) }
    };
    stream::iter(images.iter().map(look)).buffered(IMAGES_AT_ONCE).try_collect().await
}

/// Writes the hosts file where it is not as it should be. In place: containers have the file itself mounted, so a new
/// one under the same name would never reach them.
fn keep_hosts_file(path: &Path, networks: &[Network]) {
    let services =
        networks.iter().map(|network| (network.service.clone(), IpAddr::V4(network.gateway)));
    let text = network::hosts_file(&services.collect());
    if std::fs::read_to_string(path).is_ok_and(|present| present == text) {
        return;
    }
    if let Err(error) = std::fs::write(path, text) {
        tracing::error!(path = %path.display(), %error, "hosts file not written");
    }
}

impl Facts {
    /// Takes over what was gathered; what was not asked stays.
    pub fn apply(&mut self, from: FromEngine) {
        let FromEngine { info, containers, networks, images } = from;
        self.info = info.or_else(|| self.info.take());
        self.containers = containers.or_else(|| self.containers.take());
        self.networks = networks.or_else(|| self.networks.take());
        if let Some(images) = images {
            self.images = images.into_iter().collect();
        }
    }
}
