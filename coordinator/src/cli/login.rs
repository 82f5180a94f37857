//! `pith login` and `pith logout`: a key made here, a certificate for it from there.

use std::io::Read as _;

use protocol::id::{FleetId, sha256_hex};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use super::session::{Place, Session};
use super::{CliError, Exit, LoginArgs};
use crate::client::{Client, ClientError};
use crate::login::{Credentials, OwnKey, Profile, Profiles, read_invitation};
use crate::state::requests::{Login, RenewLogin};

/// A word from stdin; nothing longer is one.
const MAX_TOKEN_BYTES: u64 = 8 * 1024;

pub(super) async fn run(session: &Session, args: LoginArgs) -> Result<Exit, CliError> {
    let text = match args.token.as_str() {
        "-" => from_stdin()?,
        _ => args.token,
    };
    let token = read_invitation(&text).map_err(CliError::usage)?;
    let profiles = Profiles::of_this_user()?;
    let key = OwnKey::make()?;
    let login =
        Login { token: token.id.clone(), secret: token.secret.clone(), tls_key: key.public()? };
    let given = Client::stranger(&token)?.login(&login).await?;
    let ca = CertificateDer::from_pem_slice(given.ca.as_bytes()).map_err(CliError::failed)?;
    if given.fleet != token.fleet || sha256_hex(&ca) != token.ca_sha256 {
        return Err(CliError::refused(
            "the coordinator answers for another fleet than the invitation's",
        ));
    }
    let profile = Profile {
        fleet: given.fleet,
        name: given.name,
        role: given.role,
        addresses: token.addresses,
        ca_sha256: token.ca_sha256,
        expires_at: given.expires_at,
    };
    let (certificate, key) = (given.certificate, key.pem());
    let credentials = Credentials { profile, ca: given.ca, certificate, key };
    let before = profiles.read(&credentials.profile.fleet).ok().map(|old| old.profile.name);
    let folder = profiles.keep(&credentials)?;
    if let Some(old) = before.filter(|old| *old != credentials.profile.name) {
        eprintln!(
            "warning: the login of {old} was here and is replaced; its certificate counts until `pith operator revoke {old}`"
        );
    }
    let Profile { fleet, name, role, expires_at, .. } = &credentials.profile;
    let answer = json!({
        "fleet": fleet, "name": name, "role": role, "folder": folder, "expires_at": expires_at,
    });
    let others = profiles.fleets().len() > 1;
    session.print(&answer, |_| {
        let mut text = format!("logged in to fleet {fleet} as {name}, {role}\n");
        if others {
            text += &format!(
                "there are several logins: choose with --fleet {} or PITH_FLEET\n",
                fleet.short()
            );
        }
        let keys = folder.join("keys");
        text + &format!(
            "to sign releases here, put a release key into {}, or PITH_RELEASE_KEY\n",
            keys.display()
        )
    });
    Ok(Exit::Done)
}

/// The login of a fleet, renewed over its certificate where its time has come, by one process at a time. The key stays: whenever
/// this is cut off, key and certificate belong together. What cannot be renewed yet is used as it is, and tried again by the next
/// verb.
pub(super) async fn renewed(
    profiles: &Profiles,
    fleet: &FleetId,
    now_s: u64,
) -> Result<Credentials, CliError> {
    let own = profiles.read(fleet)?;
    if !own.profile.is_to_be_renewed(now_s) {
        return Ok(own);
    }
    let Some(_only) = profiles.renewing(fleet) else { return Ok(own) };
    let own = profiles.read(fleet)?;
    if !own.profile.is_to_be_renewed(now_s) {
        return Ok(own);
    }
    let renew = RenewLogin { tls_key: OwnKey::of(&own)?.public()? };
    let given = match Client::operator(&own)?.renew_login(&renew).await {
        Ok(given) => given,
        Err(error) => {
            tracing::debug!(%error, "the login is not renewed");
            return Ok(own);
        }
    };
    let profile = Profile { role: given.role, expires_at: given.expires_at, ..own.profile };
    let own = Credentials { profile, certificate: given.certificate, ..own };
    profiles.keep(&own)?;
    Ok(own)
}

/// The certificate is given back where the coordinator answers; here it is gone in any case.
pub(super) async fn out(session: &Session) -> Result<Exit, CliError> {
    let Place::Remote(profiles, fleet) = session.place()? else {
        return Err(CliError::usage(
            "nobody is logged in here: a coordinator on this machine needs no login; `--fleet ID` names one elsewhere",
        ));
    };
    let given_back = match session.client().await {
        Ok(client) => client.logout().await.map(drop).map_err(|error| match error {
            ClientError::Refused(problem) if problem.code == "not_an_operator" => {
                "it was revoked before".to_owned()
            }
            error @ (ClientError::Unreachable { .. }
            | ClientError::Denied { .. }
            | ClientError::Away { .. }
            | ClientError::Distrust { .. }
            | ClientError::Broken(_)
            | ClientError::Refused(_)) => error.to_string(),
        }),
        Err(error) => Err(error.to_string()),
    };
    profiles.forget(&fleet)?;
    let answer = json!({ "fleet": fleet, "given_back": given_back.is_ok() });
    session.print(&answer, |_| format!("logged out of fleet {fleet}\n"));
    if let Err(why) = given_back {
        eprintln!(
            "warning: the coordinator could not take the certificate back ({why}); its key is gone from here"
        );
    }
    Ok(Exit::Done)
}

fn from_stdin() -> Result<String, CliError> {
    let mut text = String::new();
    std::io::stdin().take(MAX_TOKEN_BYTES).read_to_string(&mut text).map_err(CliError::failed)?;
    Ok(text)
}
