//! What boards say all day costs the coordinator's card next to nothing.

use protocol::report::Phase;
use protocol::topic::Up;

use super::super::records::Change;
use super::world::World;

const NAMES: [&str; 6] = ["opi-1", "opi-2", "opi-3", "opi-4", "opi-5", "opi-6"];
const MINUTE_MS: u64 = 60_000;

#[test]
fn a_day_of_six_idle_boards_is_a_few_writes_and_whatever_is_new_is_written_at_once() {
    let mut world = World::with_nodes(&NAMES);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    let written = world.kept.len();
    for minute in 0..24 * 60 {
        world.passes(MINUTE_MS);
        for name in NAMES {
            world.says_load(name);
            if minute % 15 == 0 {
                let _ = world.says_hello(name);
                world.runs(name);
            }
        }
    }
    let idle: Vec<&Change> = world.kept[written..].iter().collect();
    assert!(idle.len() <= NAMES.len() * 4, "{} writes: {:?}", idle.len(), idle.last());

    let written = world.kept.len();
    world.says_hello_from("opi-3", "another boot");
    let bytes = world.report_bytes("opi-2", Phase::Updating);
    let _ = world.hear("opi-2", Up::Report, &bytes);
    world.goes_away("opi-1");
    let nodes = world.kept[written..].iter().filter(|change| matches!(change, Change::Node(_)));
    assert_eq!(nodes.count(), 3, "{:?}", &world.kept[written..]);
}
