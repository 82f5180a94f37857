//! What a node of `pith dev` would get by joining: written straight into its folder, through the same requests.

use std::fs;

use protocol::FORMAT;
use protocol::envelope::Envelope;
use protocol::join::{
    ADDRESSES_FILE, Answer, CA_FILE, CERTIFICATE_FILE, Coordinators, ROOT_FILE, Renew, RenewBody,
    TIMES_FILE, TLS_KEY_FILE, Times, TlsKey,
};
use protocol::keys::SecretKey;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};

use super::DevError;
use crate::data_dir::DataDir;
use crate::event_loop::at;
use crate::local::{Coordinator, LocalError};

/// Admits the node and writes its certificate, the CA, the trust root and where the coordinator is. A certificate of
/// before is used again until it is to be renewed.
pub(super) async fn issue(
    data: &DataDir,
    state_dir: &str,
    key: &SecretKey,
    coordinator: &Coordinator,
) -> Result<(), DevError> {
    let port = coordinator.address().ok_or(LocalError::Ended)?;
    let node = key.public().node_id();
    let admitted = coordinator.fleet().ask({
        let node = node.clone();
        move |state, at| state.admit(&node, at)
    });
    let failed = |reason: String| DevError::Identity { node: node.to_string(), reason };
    admitted.await.map_err(|_| LocalError::Ended)?.map_err(|e| failed(e.to_string()))?;
    data.create_folder(&format!("{state_dir}/tls"))?;
    let write = |name: &str, bytes: &[u8]| data.write(&format!("{state_dir}/{name}"), bytes);
    let coordinators = Coordinators { addresses: vec![port.to_string()], edition: None };
    write(ADDRESSES_FILE, &json(&coordinators))?;
    if is_fresh(data, state_dir, coordinator.ca().pem()) {
        return Ok(());
    }
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| failed(e.to_string()))?;
    let tls_key = TlsKey::from_der(&pair.subject_public_key_info())
        .map_err(|error| failed(error.to_string()))?;
    let renew = Renew {
        format: FORMAT,
        fleet: coordinator.ca().fleet().clone(),
        node: node.clone(),
        public_key: key.public().to_base64(),
        tls_key,
        root_version: 0,
        again: None,
    };
    let body = RenewBody { request: Envelope::sign(&renew, &[key]), manifest: None };
    let desk = coordinator.desk().clone();
    let answer = coordinator.fleet().ask(move |state, at| state.renew(&body, &desk, at)).await;
    let approved = match answer.map_err(|_| LocalError::Ended)? {
        Answer::Approved(approved) => approved,
        Answer::Pending => return Err(failed("its certificate is over".to_owned())),
        Answer::Refused(refused) => return Err(failed(refused.message)),
    };
    write(TLS_KEY_FILE, pair.serialize_pem().as_bytes())?;
    write(CERTIFICATE_FILE, approved.certificate.as_bytes())?;
    write(CA_FILE, approved.ca.as_bytes())?;
    if let Some(root) = approved.roots.last() {
        write(ROOT_FILE, &root.to_bytes())?;
    }
    // Last: with it the others count.
    write(TIMES_FILE, &json(&approved.times))?;
    Ok(())
}

/// Whether the files of an earlier start serve, under the same CA.
fn is_fresh(data: &DataDir, state_dir: &str, ca: &str) -> bool {
    let read = |name: &str| fs::read(data.path().join(state_dir).join(name)).unwrap_or_default();
    let times: Option<Times> = serde_json::from_slice(&read(TIMES_FILE)).ok();
    let in_time = times.is_some_and(|times| at().unix_ms / 1000 < times.renew_at);
    in_time && read(CA_FILE) == ca.as_bytes() && !read(CERTIFICATE_FILE).is_empty()
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data serialises")
}
