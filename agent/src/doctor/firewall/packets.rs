//! What a set of rules does with the first packet of a connection to this machine. A rule may turn on what is not known of
//! the packet (its source, a rate): then the answer is "perhaps", and what is found is as sure as it can be.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::network::Ipv4Net;

/// Chains that call each other deeper than this are not followed.
const MAX_DEPTH: usize = 16;

/// A first TCP packet to a port of this machine.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    /// Where it comes in; none: not known, but for that it is not `lo`.
    pub(super) interface: Option<String>,
    /// Where it comes from; none: anywhere.
    pub(super) source: Option<Ipv4Net>,
    /// To which port.
    pub(super) port: u16,
}

/// Whether something holds of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    /// It does not.
    No,
    /// It depends on what is not known.
    Perhaps,
    /// It does.
    Yes,
}

/// What a rule asks of a packet.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    /// One of these transport protocols, by name.
    Protocol(Vec<String>),
    /// To a port in one of these ranges, of TCP.
    Port(Vec<(u16, u16)>),
    /// Comes in at one of these interfaces; `*` or `+` at the end: any that begin so.
    Interface(Vec<String>),
    /// Comes from one of these.
    Source(Vec<Ipv4Net>),
    /// Goes to one of these.
    Destination(Vec<Ipv4Net>),
    /// Of a connection in one of these states.
    State(Vec<String>),
    /// Known from the beginning.
    Is(Answer),
    /// The contrary.
    Not(Box<Test>),
}

/// What a rule does with what it is meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Lets it in.
    Accept,
    /// Lets it not in, silently or not.
    Drop,
    /// Asks another chain, and goes on here where that says nothing.
    Jump(String),
    /// Asks another chain instead.
    Goto(String),
    /// Goes back to whoever asked.
    Return,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    /// As people read it.
    pub(super) text: String,
    pub(super) tests: Vec<Test>,
    /// None: counts or logs.
    pub(super) verdict: Option<Verdict>,
}

/// One chain of rules.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    /// What becomes of a packet that no rule is meant for, where the kernel begins with this chain for packets to this machine.
    pub(super) policy: Option<Verdict>,
    pub(super) rules: Vec<Rule>,
}

/// Chains by table and name.
pub(super) type Chains = BTreeMap<(String, String), Chain>;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing stops it.
    In,
    /// This stops it.
    Stopped(String),
    /// This stops it, unless another rule before it lets it in by what is not known.
    Perhaps(String),
}

/// Asks every chain that the kernel begins with: one that stops a packet is enough.
pub(super) fn fate(chains: &Chains, packet: &Packet) -> Fate {
    let mut fate = Fate::In;
    for ((table, name), chain) in chains {
        let Some(policy) = &chain.policy else { continue };
        let mut walk = Walk { chains, table, packet, is_doubtful: false };
        let stopped = match walk.through(name, 0) {
            Way::Accepted => None,
            Way::Stopped(text) => Some(text),
            Way::On if *policy == Verdict::Drop => Some(format!("{table} {name}: policy drop")),
            Way::On => None,
        };
        match stopped {
            Some(text) if !walk.is_doubtful => return Fate::Stopped(text),
            Some(text) => fate = Fate::Perhaps(text),
            None => {}
        }
    }
    fate
}

struct Walk<'a> {
    chains: &'a Chains,
    table: &'a str,
    packet: &'a Packet,
    /// A rule may have let it in.
    is_doubtful: bool,
}

enum Way {
    Accepted,
    Stopped(String),
    On,
}

impl Walk<'_> {
    fn through(&mut self, name: &str, depth: usize) -> Way {
        let key = (self.table.to_owned(), name.to_owned());
        let Some(chain) = self.chains.get(&key).filter(|_| depth < MAX_DEPTH) else {
            return Way::On;
        };
        for rule in &chain.rules {
            let Some(verdict) = &rule.verdict else { continue };
            let answer = rule.tests.iter().map(|test| test.of(self.packet)).min();
            let answer = answer.unwrap_or(Answer::Yes);
            match (answer, verdict) {
                (Answer::No, _) => {}
                (Answer::Yes, Verdict::Accept) => return Way::Accepted,
                (Answer::Yes, Verdict::Drop) => {
                    return Way::Stopped(format!("{} {name}: {}", self.table, rule.text));
                }
                (Answer::Yes, Verdict::Return) => return Way::On,
                (Answer::Perhaps, Verdict::Accept | Verdict::Return) => self.is_doubtful = true,
                // Somebody is kept out on purpose, or a rate is: others come in.
                (Answer::Perhaps, Verdict::Drop) => {}
                (Answer::Yes, Verdict::Jump(other)) => match self.through(other, depth + 1) {
                    Way::On => {}
                    way @ (Way::Accepted | Way::Stopped(_)) => return way,
                },
                (Answer::Yes, Verdict::Goto(other)) => return self.through(other, depth + 1),
                (Answer::Perhaps, Verdict::Jump(other) | Verdict::Goto(other)) => {
                    if let Way::Accepted = self.through(other, depth + 1) {
                        self.is_doubtful = true;
                    }
                }
            }
        }
        Way::On
    }
}

impl Test {
    pub(super) fn of(&self, packet: &Packet) -> Answer {
        match self {
            Self::Is(answer) => *answer,
            Self::Not(test) => match test.of(packet) {
                Answer::Yes => Answer::No,
                Answer::Perhaps => Answer::Perhaps,
                Answer::No => Answer::Yes,
            },
            Self::Protocol(names) => {
                is(names.iter().any(|name| ["tcp", "6", "all", "0"].contains(&name.as_str())))
            }
            Self::Port(ranges) => {
                is(ranges.iter().any(|(from, to)| (*from..=*to).contains(&packet.port)))
            }
            Self::State(states) => is(states.iter().any(|state| state.eq_ignore_ascii_case("new"))),
            Self::Interface(patterns) => {
                let Some(interface) = &packet.interface else {
                    return if patterns.iter().all(|one| one == "lo") {
                        Answer::No
                    } else {
                        Answer::Perhaps
                    };
                };
                let fits = |pattern: &String| match pattern.strip_suffix(['*', '+']) {
                    Some(beginning) => interface.starts_with(beginning),
                    None => interface == pattern,
                };
                is(patterns.iter().any(fits))
            }
            Self::Source(nets) => match packet.source {
                Some(source) => among(nets, source),
                None if nets.iter().any(|net| net.prefix() == 0) => Answer::Yes,
                None => Answer::Perhaps,
            },
            // This machine's own address is one of its own; a group of many is none.
            Self::Destination(nets) => {
                let is_group = |net: &Ipv4Net| {
                    net.gateway().is_multicast()
                        || net.contains(Ipv4Addr::BROADCAST) && net.prefix() == 32
                };
                if nets.iter().any(|net| net.prefix() == 0) {
                    Answer::Yes
                } else if nets.iter().all(is_group) {
                    Answer::No
                } else {
                    Answer::Perhaps
                }
            }
        }
    }
}

fn is(holds: bool) -> Answer {
    if holds { Answer::Yes } else { Answer::No }
}

fn among(nets: &[Ipv4Net], source: Ipv4Net) -> Answer {
    let whole = |net: &Ipv4Net| net.prefix() <= source.prefix() && net.overlaps(source);
    if nets.iter().any(whole) {
        Answer::Yes
    } else if nets.iter().any(|net| net.overlaps(source)) {
        Answer::Perhaps
    } else {
        Answer::No
    }
}
