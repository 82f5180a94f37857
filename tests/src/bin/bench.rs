//! `make bench`: figures as ratios in one run, with the targets they are held against.

use std::path::Path;

use tests::bench::{
    footprint, looking, proxies, rolling, sample::Line, starting, swarm, switching,
};
use tests::demo::table::render;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        [proxies::CELL, mode, peer, demo_app] => return proxies::cell(mode, peer, demo_app),
        [swarm::CELL, kind, old] => return swarm::cell(kind, old),
        [] | [_] => {}
        _ => panic!("usage: bench [rolling|switching|starting|footprint|looking|proxies]"),
    }
    let wanted = |section: &str| words.is_empty() || words == [section];
    let target = std::env::var("PITH_STATIC")
        .unwrap_or_else(|_| "target/x86_64-unknown-linux-gnu/agent".to_owned());
    let mut lines: Vec<Line> = Vec::new();
    if wanted("rolling") {
        lines.extend(rolling::measure());
    }
    if wanted("switching") {
        lines.extend(switching::measure());
    }
    if wanted("starting") {
        lines.extend(starting::measure());
    }
    if wanted("footprint") {
        lines.extend(footprint::measure(&Path::new(&target).join("floor")));
    }
    if wanted("looking") {
        lines.extend(looking::measure());
    }
    if wanted("proxies") {
        lines.extend(proxies::measure(&Path::new(&target).join("demo-app")));
    }
    let rows: Vec<Vec<String>> = lines.iter().map(Line::cells).collect();
    println!("{}", render(&["what", "median (least to most)", "target", ""], &rows));
}
