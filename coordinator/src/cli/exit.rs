//! Exit codes (DESIGN §8) and the errors that lead to them.

use std::fmt;
use std::process::ExitCode;

use crate::client::{ClientError, chain};
use crate::data_dir::DataDirError;
use crate::key_file::KeyFileError;
use crate::local::LocalError;
use crate::login::ProfileError;
use crate::passphrase::PassphraseError;

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do.
    Done,
    /// Failed.
    Failed,
    /// A mistake in arguments or files.
    Usage,
    /// The release went back.
    RolledBack,
    /// Not finished: timeout, paused, awaiting promotion.
    NotFinished,
    /// Refused by policy or role.
    Refused,
    /// No coordinator.
    Unreachable,
    /// `pith plan`: there are changes.
    Changes,
    /// Ctrl-C.
    Interrupted,
    /// `pith exec`: as the command ended.
    Of(u8),
}

impl Exit {
    /// The code as the shell sees it.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::RolledBack => 3,
            Self::NotFinished => 4,
            Self::Refused => 5,
            Self::Unreachable => 6,
            Self::Changes => 10,
            Self::Interrupted => 130,
            Self::Of(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error and the exit code it leads to.
#[derive(Debug)]
pub struct CliError {
    /// The code.
    pub exit: Exit,
    message: String,
}

impl CliError {
    /// Anything that failed.
    #[must_use]
    pub fn failed(error: impl fmt::Display) -> Self {
        Self { exit: Exit::Failed, message: error.to_string() }
    }

    /// What is printed of it.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// A mistake of the person who typed.
    #[must_use]
    pub fn usage(error: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, message: error.to_string() }
    }

    /// What policy, role or a missing key does not allow.
    #[must_use]
    pub fn refused(error: impl fmt::Display) -> Self {
        Self { exit: Exit::Refused, message: error.to_string() }
    }

    /// No coordinator, from wherever it was asked for.
    #[must_use]
    pub fn unreachable(error: impl fmt::Display) -> Self {
        Self { exit: Exit::Unreachable, message: error.to_string() }
    }

    /// Writes it to stderr. What says `error:` by itself, with place and carets, is left as it is.
    pub fn print(&self) {
        let prefix = if self.message.starts_with("error:") { "" } else { "error: " };
        eprintln!("{prefix}{}", self.message);
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Unreachable { .. } | ClientError::Away { .. } | ClientError::Broken(_) => {
                Exit::Unreachable
            }
            ClientError::Denied { .. } | ClientError::Distrust { .. } => Exit::Refused,
            ClientError::Refused(problem) => match problem.code.as_str() {
                "release_refused" | "release_distrusted" | "root_refused" | "refused_by_policy"
                | "policy_denied" | "retirement_refused" | "retired" | "still_runs" | "role"
                | "no_role" | "no_certificate" | "not_an_operator" | "invitation_unknown"
                | "invitation_used" | "invitation_expired" => Exit::Refused,
                "stopping" => Exit::Unreachable,
                "no_revision" | "no_service" | "no_secret" | "floor_too_high" | "no_node"
                | "not_on_node" | "last_address" | "too_many_addresses" | "several_nodes"
                | "cannot_replace" | "token_life" | "bad_address" | "no_operator"
                | "operator_exists" | "invitation_life" => Exit::Usage,
                "node_revoked" | "conflict" => Exit::Refused,
                _ => Exit::Failed,
            },
        };
        Self { exit, message: error.to_string() }
    }
}

impl From<DataDirError> for CliError {
    fn from(error: DataDirError) -> Self {
        let exit = match &error {
            DataDirError::Exists(_)
            | DataDirError::NotAFolder(_)
            | DataDirError::Missing(_)
            | DataDirError::Unfinished(..)
            | DataDirError::TooFewRootKeys { .. }
            | DataDirError::SocketPath(_) => Exit::Usage,
            DataDirError::Key(_)
            | DataDirError::NoDirectorKey { .. }
            | DataDirError::DirectorWaits { .. }
            | DataDirError::Io { .. }
            | DataDirError::Damaged { .. }
            | DataDirError::Random(_) => Exit::Failed,
        };
        Self { exit, message: error.to_string() }
    }
}

impl From<ProfileError> for CliError {
    fn from(error: ProfileError) -> Self {
        Self::failed(error)
    }
}

impl From<KeyFileError> for CliError {
    fn from(error: KeyFileError) -> Self {
        Self::failed(error)
    }
}

impl From<PassphraseError> for CliError {
    fn from(error: PassphraseError) -> Self {
        Self::failed(error)
    }
}

impl From<LocalError> for CliError {
    fn from(error: LocalError) -> Self {
        match error {
            LocalError::Data(error) => error.into(),
            LocalError::Store(_)
            | LocalError::Broker(_)
            | LocalError::Ca(_)
            | LocalError::Door(_)
            | LocalError::Front(_)
            | LocalError::Tls(_)
            | LocalError::Audit(_)
            | LocalError::Api(_)
            | LocalError::Ended => Self::failed(chain(&error)),
        }
    }
}

/// Runs a verb on a runtime of its own.
pub(super) fn run(verb: impl Future<Output = Result<Exit, CliError>>) -> Result<Exit, CliError> {
    // TLS for registries; a provider that is installed already serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| CliError::failed(format_args!("no threads: {e}")))?;
    runtime.block_on(verb)
}
