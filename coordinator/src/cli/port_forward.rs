//! `pith port-forward`

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::command::{End, MAX_FORWARDS, MAX_PART_BYTES};
use protocol::id::{NodeName, ServiceId};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::MissedTickBehavior;

use super::arguments::PortForwardArgs;
use super::session::Session;
use super::{CliError, Exit};
use crate::api::ForwardWanted;
use crate::client::{ALIVE_EVERY, Client, Keys, Lines};
use crate::render::figures::plain;
use crate::state::shown::StreamShown;

const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A port here, and the one inside an instance that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PortPair {
    /// 0: any that is free.
    local: u16,
    port: NonZeroU16,
}

impl FromStr for PortPair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let port = |text: &str| {
            let port = text.parse::<NonZeroU16>();
            port.map_err(|_| format!("`{text}` is no port; write 8080, 18080:8080 or :8080"))
        };
        match text.split_once(':') {
            None => port(text).map(|port| Self { local: port.get(), port }),
            Some(("", inside)) => Ok(Self { local: 0, port: port(inside)? }),
            Some((local, inside)) => Ok(Self { local: port(local)?.get(), port: port(inside)? }),
        }
    }
}

/// What every connection asks for.
#[derive(Debug, Clone)]
struct Forwards {
    client: Client,
    service: ServiceId,
    wanted: ForwardWanted,
}

/// How a connection ended that did not simply end.
#[derive(Debug)]
enum Trouble {
    /// The next may do better.
    Once(String),
    /// No other will.
    Always(CliError),
}

pub(super) async fn run(session: &Session, args: PortForwardArgs) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let (service, instance) = session.service_or_instance(&client, &args.of).await?;
    let services = client.services(Some(&service.environment), None).await?.services;
    if services.iter().all(|one| one.name != service.name) {
        let message = format!("no service `{service}`; `pith ps` lists them");
        return Err(CliError::usage(message));
    }
    let node = args.node.or_else(|| instance.as_ref().map(|(_, node)| node.clone()));
    let instance = instance.map(|(name, _)| name);
    let mut listeners = Vec::new();
    for pair in &args.ports {
        listeners.push((listen(args.address, *pair).await?, pair.port));
    }
    // A node has so many places; whoever comes beyond them waits.
    let places = Arc::new(Semaphore::new(MAX_FORWARDS));
    let (tell, mut troubles) = mpsc::channel(MAX_FORWARDS);
    for (listener, port) in listeners {
        let at = listener.local_addr().map_err(CliError::failed)?;
        say(session, at, &args.of, port);
        let wanted = ForwardWanted { node: node.clone(), instance: instance.clone(), port };
        let forwards = Forwards { client: client.clone(), service: service.clone(), wanted };
        tokio::spawn(accept(listener, forwards, Arc::clone(&places), tell.clone()));
    }
    loop {
        // Cancel-safe: a receive takes nothing before it is there.
        tokio::select! {
            trouble = troubles.recv() => match trouble {
                Some(Trouble::Once(message)) => eprintln!("{message}"),
                Some(Trouble::Always(error)) => return Err(error),
                None => return Err(CliError::failed("nothing listens any more")),
            },
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
        }
    }
}

fn say(session: &Session, at: SocketAddr, to: &str, port: NonZeroU16) {
    if session.is_json() {
        println!("{}", json!({ "listening": at, "to": to, "port": port }));
    } else {
        println!("{at} -> {} port {port}", plain(to));
    }
}

async fn listen(address: IpAddr, pair: PortPair) -> Result<TcpListener, CliError> {
    let (local, port) = (pair.local, pair.port);
    TcpListener::bind((address, local)).await.map_err(|error| {
        CliError::failed(format_args!(
            "{}: {error}; choose another port here, such as :{port} for any that is free",
            SocketAddr::new(address, local)
        ))
    })
}

async fn accept(
    listener: TcpListener,
    forwards: Forwards,
    places: Arc<Semaphore>,
    tell: mpsc::Sender<Trouble>,
) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                let message = format!("a connection was not taken: {error}");
                let _ = tell.send(Trouble::Once(message)).await;
                // Most often for want of descriptors.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // One waits here, the others where they were about to be taken.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (forwards, tell) = (forwards.clone(), tell.clone());
        tokio::spawn(async move {
            let _place = place;
            if let Err(trouble) = carry(stream, &forwards).await {
                // The program ends: nobody wants to know.
                let _ = tell.send(trouble).await;
            }
        });
    }
}

/// Carries one connection to its end. Where something of it was lost it is reset: what came whole must not look like what did not.
async fn carry(stream: TcpStream, forwards: &Forwards) -> Result<(), Trouble> {
    let Forwards { client, service, wanted } = forwards;
    let _ = stream.set_nodelay(true);
    let opened = client.forward(service, wanted).await;
    let (mut lines, keys) = opened.map_err(|error| {
        let error = CliError::from(error);
        match [Exit::Refused, Exit::Usage].contains(&error.exit) {
            true => Trouble::Always(error),
            false => Trouble::Once(error.to_string()),
        }
    })?;
    let (from, mut to) = stream.into_split();
    let ended = tokio::select! {
        ended = down(&mut lines, &mut to) => ended,
        () = up(from, keys) => Ok(()),
    };
    match &ended {
        Ok(()) => drop(to.shutdown().await),
        Err(_) => {
            let _ = to.as_ref().set_zero_linger();
            to.forget();
        }
    }
    ended
}

/// What whoever connected sends; returns when they are gone. They may have said all and still read.
async fn up(mut from: OwnedReadHalf, mut keys: Keys) {
    let (mut bytes, mut has_more) = (vec![0; MAX_PART_BYTES], true);
    let mut alive = tokio::time::interval(ALIVE_EVERY);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Cancel-safe: nothing is read before it is there.
        let passed = tokio::select! {
            read = from.read(&mut bytes), if has_more => match read {
                Ok(0) => {
                    has_more = false;
                    keys.last().await
                }
                Ok(count) => keys.input(&bytes[..count]).await,
                Err(_) => return,
            },
            _ = alive.tick() => keys.alive().await,
        };
        if passed.is_err() {
            // The answer ends, and says why.
            return std::future::pending().await;
        }
    }
}

/// What comes from the instance, to whoever connected.
async fn down(lines: &mut Lines, to: &mut OwnedWriteHalf) -> Result<(), Trouble> {
    loop {
        let next = lines.next().await.map_err(|error| Trouble::Once(error.to_string()))?;
        match next {
            None => return Err(Trouble::Once("the coordinator broke off a connection".to_owned())),
            Some(StreamShown::Output { bytes, .. }) => {
                let bytes = BASE64.decode(bytes).unwrap_or_default();
                if to.write_all(&bytes).await.is_err() {
                    // Whoever connected is gone.
                    return Ok(());
                }
            }
            Some(StreamShown::End { node, end }) => return ended(&node, &end),
            Some(StreamShown::Away { node, why }) => {
                return Err(Trouble::Once(format!("{node}: {}", plain(&why))));
            }
            Some(StreamShown::Lost { node, parts }) => {
                return Err(Trouble::Once(format!(
                    "{node}: {parts} parts of a connection were lost on their way; it is reset"
                )));
            }
            Some(StreamShown::Alive) => {}
        }
    }
}

fn ended(node: &NodeName, end: &End) -> Result<(), Trouble> {
    let message = match end {
        End::Finished | End::Exited { .. } => return Ok(()),
        End::Unheard => format!("{node}: nobody kept a connection for a while, and it ended"),
        End::Forgotten => {
            format!("{node}: the end of a connection was lost on its way; it is reset")
        }
        End::Failed { message } => format!("{node}: {}", plain(message)),
        End::Refused { code, message } => {
            let message = format!("{node}: refused ({}): {}", plain(code), plain(message));
            if ["command_forward_not_allowed", "role"].contains(&code.as_str()) {
                return Err(Trouble::Always(CliError::refused(message)));
            }
            message
        }
    };
    Err(Trouble::Once(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_written_alone_or_after_the_one_here() {
        let of = |text: &str| text.parse::<PortPair>().map(|pair| (pair.local, pair.port.get()));
        assert_eq!(of("8080"), Ok((8080, 8080)));
        assert_eq!(of("18080:8080"), Ok((18_080, 8080)));
        assert_eq!(of(":8080"), Ok((0, 8080)));
        for bad in ["", ":", "8080:", "0", "8080:0", "0:8080", "65536", "a:1", "1:2:3", "-1"] {
            let problem = of(bad).unwrap_err();
            assert!(problem.contains("is no port; write 8080, 18080:8080 or :8080"), "{problem}");
        }
    }

    /// What is said of an end, and whether the next connection may do better.
    #[test]
    fn a_connection_that_policy_or_role_refuse_is_the_last() {
        let of = |end: End| match ended(&"opi-1".parse().unwrap(), &end) {
            Ok(()) => "ends".to_owned(),
            Err(Trouble::Once(message)) => message,
            Err(Trouble::Always(error)) => format!("{:?}: {}", error.exit, error.message()),
        };
        let refused = |code: &str| End::Refused { code: code.to_owned(), message: "no\x1b".into() };
        assert_eq!(of(End::Finished), "ends");
        assert_eq!(of(refused("command_busy")), "opi-1: refused (command_busy): no ");
        let always = of(refused("command_forward_not_allowed"));
        assert_eq!(always, "Refused: opi-1: refused (command_forward_not_allowed): no ");
    }
}
