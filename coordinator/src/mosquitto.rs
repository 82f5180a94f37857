//! The files of a Mosquitto (2.0 or newer) that serves a fleet: TLS 1.3, certificates only, each node its own topics.
//!
//! Who a client is comes from its certificate alone: the CN is the user and the client id, so that no node can close another's session
//! by connecting under its id (seen to work on Mosquitto without `use_username_as_clientid`).

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use protocol::id::FleetId;
use protocol::join::COORDINATOR_NAME;

use crate::broker::MAX_PACKET_BYTES;
use crate::ca::{Ca, CaError};

/// Messages that wait for one client, as in the embedded broker.
const MAX_QUEUED: usize = 4_096;

/// Why the files are not written.
#[derive(Debug, thiserror::Error)]
pub enum MosquittoError {
    /// The folder.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Certificates.
    #[error(transparent)]
    Ca(#[from] CaError),
}

/// Writes all files anew: `mosquitto.conf`, `acl`, `ca.crt`, `server.crt`, `server.key` and `revoked.crl`.
///
/// # Errors
/// Where a file cannot be written or a certificate cannot be made.
pub fn write(
    folder: &Path,
    listen: SocketAddr,
    ca: &Ca,
    revoked: &[String],
    now_s: u64,
) -> Result<(), MosquittoError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| MosquittoError::Io { path, source }
    };
    let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(folder);
    made.map_err(failed(folder))?;
    let folder = std::path::absolute(folder).map_err(failed(folder))?;
    let server = ca.broker(now_s)?;
    let files = [
        ("mosquitto.conf", configuration(&folder, listen), 0o640),
        ("acl", rules(ca.fleet()), 0o640),
        ("ca.crt", ca.pem().to_owned(), 0o640),
        ("server.crt", format!("{}{}", server.certificate_pem, ca.pem()), 0o640),
        ("server.key", server.key_pem, 0o600),
        ("revoked.crl", ca.revocations(revoked, now_s)?, 0o640),
    ];
    for (name, text, mode) in files {
        let path = folder.join(name);
        write_file(&path, &text, mode).map_err(failed(&path))?;
    }
    Ok(())
}

fn configuration(folder: &Path, listen: SocketAddr) -> String {
    let (port, folder) = (listen.port(), folder.display());
    // Without an address Mosquitto takes all of them, IPv4 and IPv6.
    let address = match listen.ip() {
        ip if ip.is_unspecified() => String::new(),
        ip => format!(" {ip}"),
    };
    format!(
        "# Written by `pith broker mosquitto`, which overwrites it: what is yours goes into a file of its own.\n\
         per_listener_settings false\n\
         listener {port}{address}\n\
         cafile {folder}/ca.crt\n\
         certfile {folder}/server.crt\n\
         keyfile {folder}/server.key\n\
         crlfile {folder}/revoked.crl\n\
         tls_version tlsv1.3\n\
         # The certificate's CN is the user, and the user is the client id.\n\
         require_certificate true\n\
         use_identity_as_username true\n\
         use_username_as_clientid true\n\
         allow_anonymous false\n\
         acl_file {folder}/acl\n\
         max_packet_size {MAX_PACKET_BYTES}\n\
         max_queued_messages {MAX_QUEUED}\n\
         # What matters is kept by the coordinator and the nodes, and is said again.\n\
         persistence false\n"
    )
}

fn rules(fleet: &FleetId) -> String {
    format!(
        "pattern read pith/v1/{fleet}/n/%u/down/#\npattern write pith/v1/{fleet}/n/%u/up/#\n\n\
         user {COORDINATOR_NAME}\ntopic read pith/v1/{fleet}/n/+/up/#\ntopic write pith/v1/{fleet}/n/+/down/#\n"
    )
}

/// Whole or not at all: Mosquitto may be starting.
fn write_file(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
