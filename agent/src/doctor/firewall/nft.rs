//! What `nft -j list ruleset` prints (libnftables-json(5)). Tables that iptables keeps are left to `iptables-save`: what its modules
//! ask is not in here.

use std::collections::BTreeMap;

use serde_json::Value;

use super::packets::{Answer, Chains, Rule, Test, Verdict};
use crate::network::Ipv4Net;

/// Families of tables that IPv4 goes through.
const FAMILIES: [&str; 2] = ["ip", "inet"];
/// What iptables calls its tables; in the family `ip` they are its own.
const OF_IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// Named sets by table and name.
type Sets = BTreeMap<(String, String), Vec<Value>>;

/// All chains but those of iptables where it has some (`has_iptables`); none where this is not what nft prints.
pub(super) fn read(text: &str, has_iptables: bool) -> Option<Chains> {
    let document: Value = serde_json::from_str(text).ok()?;
    let objects = document.get("nftables")?.as_array()?;
    let is_read = |object: &Value| {
        let (family, table) = (string(object, "family"), string(object, "table"));
        let is_iptables = has_iptables && family == "ip" && OF_IPTABLES.contains(&table);
        FAMILIES.contains(&family) && !is_iptables
    };
    let of_kind = |kind: &'static str| {
        objects.iter().filter_map(move |o| o.get(kind)).filter(|object| is_read(object))
    };
    let mut sets = Sets::new();
    for set in of_kind("set").chain(of_kind("map")) {
        let elements = set.get("elem").and_then(Value::as_array).cloned().unwrap_or_default();
        sets.insert((table(set), string(set, "name").to_owned()), elements);
    }
    let mut chains = Chains::new();
    for chain in of_kind("chain") {
        let key = (table(chain), string(chain, "name").to_owned());
        let begins = string(chain, "hook") == "input" && string(chain, "type") == "filter";
        let policy =
            if string(chain, "policy") == "drop" { Verdict::Drop } else { Verdict::Accept };
        chains.entry(key).or_default().policy = begins.then_some(policy);
    }
    for rule in of_kind("rule") {
        let table = table(rule);
        let expressions = rule.get("expr").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let key = (table.clone(), string(rule, "chain").to_owned());
        chains.entry(key).or_default().rules.extend(rules(expressions, &table, &sets));
    }
    Some(chains)
}

fn table(object: &Value) -> String {
    format!("{} {}", string(object, "family"), string(object, "table"))
}

fn string<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// One rule; one for each entry of a map of verdicts.
fn rules(expressions: &[Value], table: &str, sets: &Sets) -> Vec<Rule> {
    let (mut tests, mut texts, mut rules) = (Vec::new(), Vec::new(), Vec::new());
    let mut verdict = None;
    for expression in expressions {
        let Some((kind, value)) = expression.as_object().and_then(|object| object.iter().next())
        else {
            continue;
        };
        let to = || string(value, "target").to_owned();
        match kind.as_str() {
            "match" => {
                texts.push(left(&value["left"]));
                texts.extend(operator(value).map(str::to_owned));
                texts.push(plain(&value["right"]));
                tests.push(matched(value, table, sets));
            }
            "vmap" => {
                let entries = elements(&value["data"], table, sets);
                let entries =
                    entries.iter().filter_map(Value::as_array).filter(|pair| pair.len() == 2);
                for pair in entries {
                    let test = compare(&value["key"], std::slice::from_ref(&pair[0]));
                    let mut tests: Vec<Test> = tests.clone();
                    tests.push(test);
                    let text = format!(
                        "{} {} vmap {}",
                        texts.join(" "),
                        left(&value["key"]),
                        plain(&pair[0])
                    );
                    rules.push(Rule {
                        text: text.trim().to_owned(),
                        tests,
                        verdict: simple(&pair[1]),
                    });
                }
            }
            "accept" | "drop" | "reject" | "return" | "jump" | "goto" => {
                texts.push(kind.clone());
                verdict = match kind.as_str() {
                    "jump" => Some(Verdict::Jump(to())),
                    "goto" => Some(Verdict::Goto(to())),
                    _ => simple(expression),
                };
            }
            "counter" | "log" | "comment" | "notrack" | "mangle" => {}
            // A rate, a quota, a module of iptables: it depends.
            other => {
                texts.push(other.to_owned());
                tests.push(Test::Is(Answer::Perhaps));
            }
        }
    }
    rules.push(Rule { text: texts.join(" "), tests, verdict });
    rules
}

fn simple(verdict: &Value) -> Option<Verdict> {
    let (kind, value) = verdict.as_object()?.iter().next()?;
    match kind.as_str() {
        "accept" => Some(Verdict::Accept),
        "drop" | "reject" => Some(Verdict::Drop),
        "return" => Some(Verdict::Return),
        "jump" => Some(Verdict::Jump(string(value, "target").to_owned())),
        "goto" => Some(Verdict::Goto(string(value, "target").to_owned())),
        _ => None,
    }
}

/// None: what nft does not write.
fn operator(of: &Value) -> Option<&str> {
    Some(string(of, "op")).filter(|op| !["==", "in"].contains(op))
}

fn matched(of: &Value, table: &str, sets: &Sets) -> Test {
    let values = elements(&of["right"], table, sets);
    let test = compare(&of["left"], &values);
    match string(of, "op") {
        "==" | "in" => test,
        "!=" => Test::Not(Box::new(test)),
        _ => Test::Is(Answer::Perhaps),
    }
}

/// The values of an anonymous or named set, or the one.
fn elements(right: &Value, table: &str, sets: &Sets) -> Vec<Value> {
    let value = match right {
        Value::String(name) if name.starts_with('@') => {
            let key = (table.to_owned(), name.trim_start_matches('@').to_owned());
            return sets.get(&key).cloned().unwrap_or_default();
        }
        Value::Array(values) => return values.clone(),
        Value::String(_) | Value::Object(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {
            right
        }
    };
    match value.get("set").and_then(Value::as_array) {
        Some(values) => values.clone(),
        None => vec![value.clone()],
    }
}

fn compare(left: &Value, values: &[Value]) -> Test {
    let values: Vec<&Value> =
        values.iter().map(|v| v.get("elem").map_or(v, |elem| &elem["val"])).collect();
    let words = || -> Vec<String> { values.iter().map(|value| plain(value)).collect() };
    if let Some(meta) = left.get("meta") {
        return match string(meta, "key") {
            "iifname" | "iif" => Test::Interface(words()),
            "l4proto" => Test::Protocol(words()),
            "nfproto" => {
                Test::Is(if words().iter().any(|w| w == "ipv4") { Answer::Yes } else { Answer::No })
            }
            "protocol" => {
                Test::Is(if words().iter().any(|w| w == "ip") { Answer::Yes } else { Answer::No })
            }
            _ => Test::Is(Answer::Perhaps),
        };
    }
    if let Some(ct) = left.get("ct") {
        return match string(ct, "key") {
            "state" => Test::State(words()),
            // Of its status nothing is set: it is the first packet, and for this machine itself.
            "status" => Test::Is(Answer::No),
            _ => Test::Is(Answer::Perhaps),
        };
    }
    if let Some(fib) = left.get("fib") {
        let is_local =
            string(fib, "result") == "type" && words().iter().any(|word| word == "local");
        return Test::Is(if is_local { Answer::Yes } else { Answer::Perhaps });
    }
    let Some(payload) = left.get("payload") else { return Test::Is(Answer::Perhaps) };
    match (string(payload, "protocol"), string(payload, "field")) {
        ("tcp" | "th", "dport") => {
            Test::Port(values.iter().filter_map(|value| ports(value)).collect())
        }
        ("ip", "saddr") => nets(&values).map_or(Test::Is(Answer::Perhaps), Test::Source),
        ("ip", "daddr") => nets(&values).map_or(Test::Is(Answer::Perhaps), Test::Destination),
        ("ip", "protocol") => Test::Protocol(words()),
        // Another protocol than that of the packet.
        ("udp" | "icmp" | "icmpv6" | "ip6" | "sctp" | "dccp" | "igmp", _) => Test::Is(Answer::No),
        _ => Test::Is(Answer::Perhaps),
    }
}

fn ports(value: &Value) -> Option<(u16, u16)> {
    let number = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    if let Some(range) = value.get("range").and_then(Value::as_array) {
        return Some((number(range.first()?)?, number(range.get(1)?)?));
    }
    number(value).map(|port| (port, port))
}

fn nets(values: &[&Value]) -> Option<Vec<Ipv4Net>> {
    let net = |value: &&Value| {
        let (address, length) = match value.get("prefix") {
            Some(prefix) => (string(prefix, "addr").to_owned(), prefix["len"].as_u64()?),
            None => (value.as_str()?.to_owned(), 32),
        };
        format!("{address}/{length}").parse().ok()
    };
    values.iter().map(net).collect()
}

/// `tcp dport`, `iifname`, `ct state`
fn left(of: &Value) -> String {
    let key = |kind: &str| of.get(kind).map(|value| string(value, "key").to_owned());
    if let Some(payload) = of.get("payload") {
        return format!("{} {}", string(payload, "protocol"), string(payload, "field"));
    }
    let ct = key("ct").map(|key| format!("ct {key}"));
    ct.or(key("meta")).unwrap_or_else(|| "?".to_owned())
}

/// A value as nft writes it.
fn plain(value: &Value) -> String {
    let list = |values: &[Value]| values.iter().map(plain).collect::<Vec<_>>().join(", ");
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("{{ {} }}", list(values)),
        Value::Object(object) => match object.iter().next() {
            Some((kind, Value::Array(values))) if kind == "set" => {
                format!("{{ {} }}", list(values))
            }
            Some((kind, Value::Array(values))) if kind == "range" && values.len() == 2 => {
                format!("{}-{}", plain(&values[0]), plain(&values[1]))
            }
            Some((kind, prefix)) if kind == "prefix" => {
                format!("{}/{}", string(prefix, "addr"), prefix["len"])
            }
            Some((kind, elem)) if kind == "elem" => plain(&elem["val"]),
            Some(_) | None => "?".to_owned(),
        },
        Value::Number(_) | Value::Bool(_) | Value::Null => value.to_string(),
    }
}
