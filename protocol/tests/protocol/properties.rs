//! Properties over generated input.

use std::collections::BTreeSet;

use proptest::prelude::*;
use protocol::acceptance::{Acceptance, Known, accept, verify_retirement};
use protocol::envelope::Envelope;
use protocol::id::{FleetId, NodeId};
use protocol::release::Release;
use protocol::retirement::{self, Floors, Retirement};
use protocol::spec::{Listen, PortProtocol, Scheduling, ServiceSpec, Share};
use protocol::topic::{Qos, Retain, Subject, TABLE, Topic};
use protocol::units::{Bytes, MilliCpu, Millis};

use crate::fixture;

proptest! {
    #[test]
    fn flipped_bytes_are_never_accepted_as_something_else(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
    ) {
        let mut bytes = fixture::signed(&fixture::manifest());
        for (index, mask) in flips {
            let index = index.index(bytes.len());
            bytes[index] ^= mask;
        }
        let outcome = accept(&bytes, &fixture::root().into(), &fixture::identity(), Known::NOTHING);
        if let Ok(Acceptance::New(accepted)) = outcome {
            prop_assert_eq!(&*accepted.manifest, &fixture::manifest());
        }
    }

    #[test]
    fn a_retirement_with_flipped_bytes_is_refused_or_the_same(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
    ) {
        let envelope = Envelope::sign(&fixture::retirement(), &[&fixture::release_key()]);
        let mut bytes = envelope.to_bytes();
        for (index, mask) in flips {
            let index = index.index(bytes.len());
            bytes[index] ^= mask;
        }
        let verify = |envelope: Envelope| verify_retirement(&envelope, &fixture::root(), &fixture::fleet());
        if let Ok(retirement) = Envelope::from_bytes(&bytes).and_then(verify) {
            prop_assert_eq!(&*retirement, &fixture::retirement());
        }
    }

    #[test]
    fn what_is_below_a_floor_known_or_carried_is_refused_and_nothing_else(
        counter in 0u64..6, known in prop::option::of(0u64..6), carried in prop::collection::vec(0u64..6, 0..3),
    ) {
        let release = Release { counter, ..fixture::release() };
        let mut manifest = fixture::manifest_of(std::slice::from_ref(&release));
        let service = release.service().clone();
        let retire = |below| Retirement { below, ..fixture::retirement() };
        let retirements = carried.iter().map(|below| retire(*below));
        let sign = |retirement| Envelope::sign(&retirement, &[&fixture::release_key()]);
        manifest.retirements = retirements.map(sign).collect();
        let floors: Floors = known.into_iter().map(|floor| (service.clone(), floor)).collect();
        let known_now = Known { floors: &floors, ..Known::NOTHING };
        let outcome =
            accept(&fixture::signed(&manifest), &fixture::root().into(), &fixture::identity(), known_now);
        let highest = carried.iter().copied().chain(known).max().unwrap_or(0);
        match outcome {
            Ok(Acceptance::New(accepted)) => {
                prop_assert!(counter >= highest);
                prop_assert_eq!(accepted.floors.get(&service), carried.iter().max());
            }
            other => {
                prop_assert!(counter < highest);
                prop_assert_eq!(other.expect_err("below").code(), "retired_release");
            }
        }
    }

    #[test]
    fn a_floor_is_the_highest_it_was_ever_raised_to(raises in prop::collection::vec(any::<u64>(), 1..8)) {
        let (mut floors, web) = (Floors::new(), fixture::service("web"));
        raises.iter().for_each(|below| retirement::raise(&mut floors, &web, *below));
        let highest = raises.iter().copied().max().expect("not empty");
        prop_assert_eq!(floors[&web], highest);
        prop_assert!(!retirement::is_retired(&floors, &web, highest));
        prop_assert!(highest == 0 || retirement::is_retired(&floors, &web, highest - 1));
        prop_assert!(!retirement::is_retired(&floors, &fixture::service("other"), 0));
    }

    #[test]
    fn durations_print_as_they_are_read(ms in any::<u64>()) {
        prop_assert_eq!(Millis(ms).to_string().parse(), Ok(Millis(ms)));
    }

    #[test]
    fn quantities_print_as_they_are_read(number in any::<u64>(), shift in 0u32..40) {
        let bytes = Bytes(number.checked_shl(shift).unwrap_or(number));
        prop_assert_eq!(bytes.to_string().parse(), Ok(bytes));
        let cpu = MilliCpu(number >> 1);
        prop_assert_eq!(cpu.to_string().parse(), Ok(cpu));
    }

    #[test]
    fn a_share_of_a_count_rounds_as_kubernetes_does(count in any::<u32>(), percent in any::<u32>()) {
        let (low, high) = (Share::Percent(percent).floor_of(count), Share::Percent(percent).ceil_of(count));
        let exact = f64::from(count) * f64::from(percent) / 100.0;
        prop_assert!(f64::from(low) <= exact && low <= high && high - low <= 1);
        prop_assert!(f64::from(high) >= exact || high == u32::MAX);
    }

    #[test]
    fn no_text_breaks_the_reading_of_units(text in "\\PC{0,20}") {
        let _ = (text.parse::<Millis>(), text.parse::<Bytes>(), text.parse::<MilliCpu>());
    }

    #[test]
    fn topics_are_read_as_they_are_written(
        fleet in any::<[u8; 16]>(), node in any::<[u8; 32]>(), row in 0..TABLE.len(),
    ) {
        let topic = Topic {
            fleet: FleetId::from_random(fleet),
            node: NodeId::of_key(&node),
            subject: TABLE[row].0,
        };
        prop_assert_eq!(Topic::parse(&topic.to_string()), Some(topic));
    }

    #[test]
    fn what_is_read_as_a_topic_is_written_so(text in "(pith/v1/)?[a-f0-9+#/n]{0,80}(up/load)?") {
        if let Some(topic) = Topic::parse(&text) {
            prop_assert_eq!(topic.to_string(), text);
        }
    }

    #[test]
    fn a_spec_survives_its_journey_as_json(spec in spec()) {
        let json = serde_json::to_vec(&spec).expect("a spec serialises");
        prop_assert_eq!(serde_json::from_slice::<ServiceSpec>(&json).expect("and reads"), spec);
    }

    #[test]
    fn a_mangled_service_file_is_read_or_explained(
        from in any::<prop::sample::Index>(), length in 0usize..40, insert in "\\PC{0,6}",
    ) {
        let text: Vec<char> = fixture::FULL_FILE.chars().collect();
        let start = from.index(text.len());
        let end = (start + length).min(text.len());
        let mangled: String =
            text[..start].iter().chain(insert.chars().collect::<Vec<_>>().iter()).chain(&text[end..]).collect();
        if let Err(error) = protocol::file::parse("web.toml", &mangled) {
            let lines = mangled.lines().count() + 1;
            prop_assert!(!error.problems.is_empty());
            prop_assert!(error.problems.iter().all(|p| (1..=lines).contains(&p.line)));
            prop_assert!(!error.to_string().is_empty());
        }
    }
}

/// Specs that differ from the fixture's where types have branches.
fn spec() -> impl Strategy<Value = ServiceSpec> {
    let share =
        prop_oneof![any::<u32>().prop_map(Share::Count), (0u32..=100).prop_map(Share::Percent)];
    let scheduling = prop_oneof![
        any::<u32>().prop_map(Scheduling::Replicas),
        any::<u32>().prop_map(Scheduling::PerNode)
    ];
    let listen = prop::option::of((prop::option::of(any::<std::net::IpAddr>()), any::<u16>()));
    let env = prop::collection::btree_map("[A-Z]{1,8}", "\\PC{0,20}", 0..5);
    let protocol = prop_oneof![Just(PortProtocol::Http), Just(PortProtocol::Tcp)];
    (share, scheduling, listen, env, protocol, any::<u64>(), any::<Option<u64>>()).prop_map(
        |(share, scheduling, listen, env, protocol, ms, memory)| {
            let mut spec = fixture::spec();
            spec.rollout.max_surge = share;
            spec.scheduling = scheduling;
            spec.ports[0].listen = listen.map(|(address, port)| Listen { address, port });
            spec.ports[0].protocol = protocol;
            spec.container.env = env;
            spec.stop_grace = Millis(ms);
            spec.resources.limits.memory = memory.map(Bytes);
            spec.health.liveness = memory.and(spec.health.liveness);
            spec
        },
    )
}

#[test]
fn the_table_of_topics_names_each_subject_once() {
    let subjects: BTreeSet<_> = TABLE.iter().map(|(subject, ..)| *subject).collect();
    let parts: BTreeSet<_> = TABLE.iter().map(|(_, part, ..)| *part).collect();
    assert_eq!((subjects.len(), parts.len()), (TABLE.len(), TABLE.len()));
    for (subject, part, qos, retain) in TABLE {
        assert_eq!((subject.qos(), subject.retain()), (qos, retain));
        let direction = match subject {
            Subject::Down(_) => "down/",
            Subject::Up(_) => "up/",
        };
        assert!(part.starts_with(direction), "{part}");
        assert!(retain == Retain::Passing || qos == Qos::AtLeastOnce, "what is kept must arrive");
    }
    let (fleet, node) = (fixture::fleet(), fixture::node());
    assert_eq!(
        Topic::node_subscriptions(&fleet, &node),
        ["root", "manifest", "time", "addresses", "command", "agent-release"]
            .map(|part| format!("pith/v1/{fleet}/n/{node}/down/{part}"))
    );
    let up = Topic::coordinator_subscriptions(&fleet);
    assert_eq!(up.len(), 6);
    assert!(up.iter().all(|topic| topic.contains("/n/+/up/")), "{up:?}");
}
