//! What `iptables-save` prints. ufw's rules are among them.

use super::packets::{Answer, Chains, Rule, Test, Verdict};
use crate::network::Ipv4Net;

/// The table that lets in or not.
const TABLE: &str = "filter";

/// Its chains; an option that is not known here makes a rule one that holds perhaps.
pub(super) fn read(text: &str) -> Chains {
    let mut chains = Chains::new();
    let mut is_filter = false;
    for line in text.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('*') {
            is_filter = table == TABLE;
        } else if !is_filter {
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let (name, policy) = (words.next().unwrap_or_default(), words.next().unwrap_or("-"));
            let policy = (name == "INPUT").then(|| verdict(policy).unwrap_or(Verdict::Accept));
            chains.entry(key(name)).or_default().policy = policy;
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let words = words(rule);
            let Some((chain, options)) = words.split_first() else { continue };
            chains.entry(key(chain)).or_default().rules.push(one(line, options));
        }
    }
    chains
}

fn key(chain: &str) -> (String, String) {
    (TABLE.to_owned(), chain.to_owned())
}

/// Split at spaces, but within quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted, mut is_escaped) =
        (Vec::new(), String::new(), false, false);
    for c in text.chars() {
        match c {
            _ if is_escaped => {
                word.push(c);
                is_escaped = false;
            }
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

fn one(line: &str, options: &[String]) -> Rule {
    let (mut tests, mut target, mut is_not) = (Vec::new(), None, false);
    let mut options = options.iter().map(String::as_str).peekable();
    while let Some(option) = options.next() {
        if option == "!" {
            is_not = true;
            continue;
        }
        let mut values = Vec::new();
        while let Some(value) = options.next_if(|next| !next.starts_with('-') && *next != "!") {
            values.push(value);
        }
        let value = values.first().copied().unwrap_or_default();
        let test = match option {
            "-j" => {
                target = verdict(value).or_else(|| jump(value));
                // What follows says how, not what.
                break;
            }
            "-g" => {
                target = Some(Verdict::Goto(value.to_owned()));
                break;
            }
            // The module's options say what it asks.
            "-m" | "--comment" => None,
            option => Some(test(option, value)),
        };
        if let Some(test) = test {
            tests.push(if is_not { Test::Not(Box::new(test)) } else { test });
        }
        is_not = false;
    }
    Rule { text: line.to_owned(), tests, verdict: target }
}

fn test(option: &str, value: &str) -> Test {
    let list = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
    match option {
        "-p" => Test::Protocol(vec![value.to_owned()]),
        "-i" => Test::Interface(vec![value.to_owned()]),
        "--dport" | "--dports" | "--ports" => {
            Test::Port(value.split(',').filter_map(range).collect())
        }
        "--ctstate" | "--state" => Test::State(list()),
        "-s" => nets(value).map_or(Test::Is(Answer::Perhaps), Test::Source),
        "-d" => nets(value).map_or(Test::Is(Answer::Perhaps), Test::Destination),
        // Of the kinds of addresses a packet to this machine has the first.
        "--dst-type" => Test::Is(if value == "LOCAL" { Answer::Yes } else { Answer::No }),
        "--icmp-type" => Test::Is(Answer::No),
        _ => Test::Is(Answer::Perhaps),
    }
}

fn nets(value: &str) -> Option<Vec<Ipv4Net>> {
    let net = |text: &str| match text.contains('/') {
        true => text.parse().ok(),
        false => format!("{text}/32").parse().ok(),
    };
    value.split(',').map(net).collect()
}

/// `22`, `8000:8010`
fn range(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once(':').unwrap_or((text, text));
    Some((from.parse().ok()?, to.parse().ok()?))
}

fn verdict(target: &str) -> Option<Verdict> {
    match target {
        "ACCEPT" => Some(Verdict::Accept),
        "DROP" | "REJECT" => Some(Verdict::Drop),
        "RETURN" => Some(Verdict::Return),
        _ => None,
    }
}

/// Targets in capitals that go on with the next rule are no chains of anybody's; a chain that is called so is not found and goes on too.
fn jump(target: &str) -> Option<Verdict> {
    let goes_on = ["LOG", "NFLOG", "MARK", "CONNMARK", "TCPMSS", "ULOG", "CT"];
    (!goes_on.contains(&target)).then(|| Verdict::Jump(target.to_owned()))
}
