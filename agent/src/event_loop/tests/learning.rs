//! The coordinator says where it is: what a node keeps, what it says of it, and from whom it takes nothing.

use planner::Now;
use protocol::envelope::Envelope;
use protocol::hello::Hello;
use protocol::join::Coordinators;
use protocol::keys::{Role, SecretKey};
use protocol::topic::Up;
use protocol::whereabouts::{Edition, Learned, Whereabouts};

use super::super::acts::Act;
use super::super::{Agent, Event, Settings};
use super::beginning::{Around, beginning, settings};
use crate::link::Incoming;
use crate::testing;

const NOW: Now = Now(1_000);

fn agent(own_broker: Option<&str>) -> Agent {
    let settings = Settings {
        coordinators: Coordinators { addresses: vec!["old:8883".to_owned()], edition: None },
        own_broker: own_broker.map(str::to_owned),
        ..settings()
    };
    let mut agent = Agent::new(beginning(settings, NOW), NOW);
    agent.hear(Incoming::Up, NOW);
    agent
}

fn said(number: u64, address: &str, key: &SecretKey) -> Vec<u8> {
    let whereabouts = Whereabouts {
        format: 1,
        fleet: testing::fleet(),
        edition: Edition { epoch: testing::root().epoch, number },
        addresses: vec![address.to_owned()],
        forgotten: Vec::new(),
    };
    Envelope::sign(&whereabouts, &[key]).to_bytes()
}

/// What was to be kept, and what the hellos said, in one turn.
fn turn(agent: &mut Agent, now: Now) -> (Vec<Coordinators>, Vec<Option<Learned>>) {
    let (mut kept, mut hellos) = (Vec::new(), Vec::new());
    let role = Role::single(testing::node_key().public());
    agent.turn(&mut Around::default(), now);
    for act in agent.take_acts() {
        if let Act::Learn(known) = act {
            kept.push(known);
        } else if let Act::Say(said) = act
            && said.subject == Up::Hello
        {
            let envelope = Envelope::from_bytes(&said.payload).unwrap();
            let hello = envelope.open::<Hello>().unwrap().verify(&role).unwrap();
            hellos.push(hello.learned.clone());
        }
    }
    (kept, hellos)
}

#[test]
fn what_the_director_says_is_kept_first_and_said_in_a_hello_only_then() {
    let mut agent = agent(Some("10.0.0.3:8883"));
    let (kept, hellos) = turn(&mut agent, NOW);
    assert_eq!((kept, hellos), (vec![], vec![None]), "an older coordinator never reads the field");
    agent.hear(Incoming::Addresses(said(5, "new:8883", &testing::director_key())), NOW);
    let (kept, hellos) = turn(&mut agent, NOW);
    assert_eq!(kept[0].addresses, ["new:8883", "old:8883"]);
    assert_eq!((kept.len(), hellos.len()), (1, 0), "not before it is durable");

    agent.handle(Event::Learned(Ok(())), &Around::default(), NOW);
    let (kept, hellos) = turn(&mut agent, NOW);
    let edition = Edition { epoch: testing::root().epoch, number: 5 };
    let addresses = vec!["new:8883".to_owned(), "old:8883".to_owned()];
    let learned = Learned { edition, addresses, broker: Some("10.0.0.3:8883".to_owned()) };
    assert_eq!((kept, hellos), (vec![], vec![Some(learned)]));

    // Again, and an older one that a broker kept: nothing to do.
    for number in [5, 4] {
        agent.hear(Incoming::Addresses(said(number, "x:1", &testing::director_key())), NOW);
        assert_eq!(turn(&mut agent, NOW).0, []);
    }
}

#[test]
fn what_somebody_else_signed_is_refused_and_counted_and_what_the_disk_refuses_is_learned_later() {
    let mut agent = agent(None);
    let _ = turn(&mut agent, NOW);
    let forged = said(9, "10.6.6.6:8883", &SecretKey::from_seed([9; 32]));
    agent.hear(Incoming::Addresses(forged), NOW);
    assert_eq!(turn(&mut agent, NOW).0, []);
    assert_eq!(agent.inbox.refused()["addresses_bad_signature"], 1);

    let good = said(5, "new:8883", &testing::director_key());
    agent.hear(Incoming::Addresses(good.clone()), NOW);
    assert_eq!(turn(&mut agent, NOW).0.len(), 1);
    agent.handle(Event::Learned(Err("no space left".to_owned())), &Around::default(), NOW);
    assert_eq!(turn(&mut agent, NOW.plus(3_000)).1, [None], "it has not learned it");
    agent.hear(Incoming::Addresses(good), NOW);
    assert_eq!(turn(&mut agent, NOW.plus(3_000)).0.len(), 1);
}
