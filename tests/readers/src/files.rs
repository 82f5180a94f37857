//! What people write and paste: it is read or explained, by its line.

use std::path::Path;
use std::str;

use coordinator::resolve::reference::Reference;
use coordinator::serve::ServeConfig;
use mqtt::BrokerAddress;
use protocol::doctor::{Colour, Examination};
use protocol::file::{FileError, check_together, parse, parse_policy};
use protocol::join::Token;
use protocol::policy::NodePolicy;
use protocol::spec::ServiceSpec;

use crate::envelopes::same;
use crate::kind_and_rest;

/// A service file.
pub(crate) fn service_file(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match parse("web.toml", text) {
        Ok(file) => {
            let json = serde_json::to_vec(&file.spec).expect("a spec serialises");
            let read: ServiceSpec = serde_json::from_slice(&json).expect("and reads");
            assert_eq!(read, file.spec);
            for warning in &file.warnings {
                assert!(!warning.to_string().is_empty());
            }
            let _ = check_together(&[&file, &file], &[&file.spec]).map_err(|e| e.to_string());
        }
        Err(error) => explained(&error, text),
    }
}

/// The first line says which file or text follows.
pub(crate) fn files(bytes: &[u8]) {
    let Some((kind, rest)) = kind_and_rest(bytes) else { return };
    let Ok(text) = str::from_utf8(rest) else { return };
    match kind {
        "agent" => match agent::config::Config::parse(Path::new("agent.toml"), text) {
            Ok(config) => {
                let _ = (config.pool(), config.node_name(), config.environment());
            }
            Err(error) => assert!(error.to_string().contains("agent.toml")),
        },
        "coordinator" => match ServeConfig::parse(Path::new("coordinator.toml"), text) {
            Ok(config) => {
                let _ = (config.policy(), config.broker().map_err(|error| error.to_string()));
            }
            Err(error) => assert!(error.to_string().contains("coordinator.toml")),
        },
        "policy" => match parse_policy("policy.toml", text) {
            Ok(policy) => {
                let json = serde_json::to_vec(&policy).expect("a policy serialises");
                same(&serde_json::from_slice::<NodePolicy>(&json));
            }
            Err(error) => explained(&error, text),
        },
        "registries" => match protocol::registries::parse(text) {
            Ok(_) => {}
            Err(why) => assert!(!why.is_empty()),
        },
        "token" => {
            if let Ok(token) = text.parse::<Token>() {
                assert_eq!(token.encode().parse::<Token>().ok(), Some(token));
            }
        }
        "image" => {
            if let Ok(image) = text.parse::<Reference>() {
                assert!(!image.repository().is_empty());
                assert!(
                    image.name().parse::<Reference>().is_ok(),
                    "{:?} of {text:?}",
                    image.name()
                );
            }
        }
        "examination" => {
            if let Ok(found) = serde_json::from_str::<Examination>(text) {
                let shown = found.to_text(Colour::Off);
                assert!(
                    !shown.contains(|c: char| c.is_control() && c != '\n'),
                    "it steers no terminal"
                );
            }
        }
        "broker" => {
            if let Ok(address) = text.parse::<BrokerAddress>() {
                assert_eq!(address.to_string().parse::<BrokerAddress>().ok(), Some(address));
            }
        }
        "agent-record" => {
            if let Ok(record) = agent::update::record::parse(rest) {
                let version = agent::version::own();
                let choice = agent::update::choose::agent(&record, &version, "boot", |_| true);
                // Whatever stands there, it ends: a trial is not begun for ever.
                let next = choice.record.unwrap_or(record);
                let json = serde_json::to_vec(&next).expect("a record serialises");
                assert_eq!(agent::update::record::parse(&json).ok(), Some(next));
            }
        }
        _ => {}
    }
}

fn explained(error: &FileError, text: &str) {
    assert!(!error.problems.is_empty());
    assert!(!error.to_string().is_empty());
    let lines = text.split('\n').count();
    assert!(error.problems.iter().all(|problem| (1..=lines).contains(&problem.line)));
}
