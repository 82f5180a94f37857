//! Why the engine did not do something, in kinds that decisions are made from.

use protocol::reason::Reason;

/// Why a call failed. The text is the engine's own, cut to a bounded size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Nobody listens on the socket, or no answer came in time. Says nothing about any container.
    #[error("the container engine does not answer: {0}")]
    Unavailable(String),
    /// The container, image or network it was about is not there.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken by something that is not ours, or the thing is in use.
    #[error("{0}")]
    Conflict(String),
    /// The address or subnet is used by another container or network.
    #[error("{0}")]
    AddressTaken(String),
    /// A port is used by another program.
    #[error("{0}")]
    PortTaken(String),
    /// The disk is full.
    #[error("{0}")]
    NoSpace(String),
    /// The image is for another processor.
    #[error("{0}")]
    WrongPlatform(String),
    /// The engine will never do this as it was asked.
    #[error("{0}")]
    BadRequest(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl EngineError {
    /// The reason code that a report carries; `otherwise` for kinds without one of their own.
    #[must_use]
    pub fn reason(&self, otherwise: Reason) -> Reason {
        match self {
            Self::Unavailable(_) => Reason::EngineUnavailable,
            Self::PortTaken(_) => Reason::PortTaken,
            Self::NoSpace(_) => Reason::NoSpace,
            Self::WrongPlatform(_) => Reason::WrongPlatform,
            Self::NotFound(_)
            | Self::Conflict(_)
            | Self::AddressTaken(_)
            | Self::BadRequest(_)
            | Self::Other(_) => otherwise,
        }
    }

    /// Whether trying again cannot mend it.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::WrongPlatform(_) | Self::BadRequest(_) | Self::NoSpace(_) => true,
            Self::Unavailable(_)
            | Self::NotFound(_)
            | Self::Conflict(_)
            | Self::AddressTaken(_)
            | Self::PortTaken(_)
            | Self::Other(_) => false,
        }
    }
}

/// Why an image could not be pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullError {
    /// The registry knows no such image.
    NotFound,
    /// The registry refuses the credentials, or wants some.
    Denied,
    /// The image has no variant for this processor.
    WrongPlatform,
    /// The disk has no room.
    NoSpace,
    /// No connection, or no bytes: worth trying again.
    Unreachable,
    /// The registry speaks plain HTTP and the engine was not told that it may.
    HttpRegistry,
    /// The engine itself is away: worth trying again, nobody's fault.
    EngineUnavailable,
    /// Another file stands where the archive should: worth trying again some times.
    Another,
    /// The archive came whole, and is not what was signed.
    Wrong,
    /// Anything else: worth trying again.
    Other,
}

impl PullError {
    /// The reason code that a report carries.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::NotFound => Reason::ImageNotFound,
            Self::Denied => Reason::RegistryDenied,
            Self::WrongPlatform => Reason::WrongPlatform,
            Self::NoSpace => Reason::NoSpace,
            Self::Unreachable => Reason::RegistryUnreachable,
            Self::EngineUnavailable => Reason::EngineUnavailable,
            Self::HttpRegistry | Self::Wrong | Self::Another | Self::Other => Reason::PullFailed,
        }
    }

    /// Whether trying again cannot mend it. [`PullError::Other`] is for the caller to count.
    #[must_use]
    pub fn is_permanent(self) -> bool {
        match self {
            Self::NotFound
            | Self::Denied
            | Self::WrongPlatform
            | Self::NoSpace
            | Self::Wrong
            | Self::HttpRegistry => true,
            Self::Unreachable | Self::EngineUnavailable | Self::Another | Self::Other => false,
        }
    }
}
