//! How what is written becomes parts, on the fake engine.

use std::cell::RefCell;

use super::*;
use crate::engine::Source;
use crate::engine::fake::FakeEngine;
use tokio::task::LocalSet;

/// Runs on one thread to its end.
fn told(sources: &[(&str, Source)], allowed: u64) -> (Vec<Streamed>, Option<End>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let engine = FakeEngine::default();
    let name = |of: &(&str, Source)| (of.0.to_owned(), of.0.to_owned(), of.1.clone());
    let sources = sources.iter().map(name).collect();
    let told = RefCell::new(Vec::new());
    let (_keeper, may) = watch::channel(allowed);
    let end = LocalSet::new().block_on(&runtime, async {
        let tell = async |streamed| told.borrow_mut().push(streamed);
        let read = (written(&engine, sources, None), GATHERED_WITHIN);
        let run = run(&engine, read, (may, None), tell);
        tokio::time::timeout(Duration::from_millis(500), run).await.ok()
    });
    (told.into_inner(), end)
}

#[test]
fn a_container_that_is_gone_is_said_to_be_so() {
    let logs = Source::Logs { lines: 3, since_s: None, follow: false };
    let (told, end) = told(&[("web-0", logs)], 4);
    assert!(told.is_empty());
    let Some(End::Failed { message }) = end else { panic!("{end:?}") };
    assert!(message.starts_with("web-0: "), "{message}");
}

/// Parts by themselves, without an engine.
fn parts(written: &[(&str, usize)], allowed: u64) -> Vec<(String, usize)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_keeper, may) = watch::channel(allowed);
    let mut sizes = Vec::new();
    runtime.block_on(async {
        let mut parts = Parts::new(may, GATHERED_WITHIN);
        let work = async {
            let mut tell = async |streamed: Streamed| {
                let Streamed::Output(output) = streamed else { return };
                sizes.push((output.instance.clone(), output.bytes().unwrap().len()));
            };
            for (instance, bytes) in written {
                let of = ((*instance).to_owned(), Channel::Stdout);
                parts.add(of, vec![b'a'; *bytes], &mut tell).await;
            }
            parts.flush(&mut tell).await;
        };
        let _ = tokio::time::timeout(Duration::from_millis(500), work).await;
    });
    sizes
}

#[test]
fn what_is_written_is_cut_into_parts_and_small_pieces_are_one() {
    let of = |sizes: &[(&str, usize)]| -> Vec<(String, usize)> {
        sizes.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect()
    };
    assert_eq!(parts(&[("a", 10), ("a", 5)], 9), of(&[("a", 15)]));
    assert_eq!(parts(&[("a", 10), ("b", 5)], 9), of(&[("a", 10), ("b", 5)]));
    let whole = MAX_PART_BYTES;
    assert_eq!(parts(&[("a", 2 * whole + 1)], 9), of(&[("a", whole), ("a", whole), ("a", 1)]));
    assert_eq!(parts(&[("a", whole - 1), ("b", 1)], 9), of(&[("a", whole - 1), ("b", 1)]));
}

#[test]
fn no_more_is_told_than_was_allowed() {
    let written = vec![("a", MAX_PART_BYTES); 10];
    assert_eq!(parts(&written, 4).len(), 4);
    assert_eq!(parts(&written, 0).len(), 0);
}

#[test]
fn a_stream_that_follows_ends_where_nothing_of_it_can_be_read() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let engine = FakeEngine::default();
    let (_keeper, may) = watch::channel(9);
    let (_more, coming) = mpsc::channel(1);
    let reading = |name: &str| {
        let source = Source::Logs { lines: 3, since_s: None, follow: true };
        (name.to_owned(), name.to_owned(), source)
    };
    let end = LocalSet::new().block_on(&runtime, async {
        let read = (written(&engine, vec![reading("web-0")], None), GATHERED_WITHIN);
        let run = run(&engine, read, (may, Some(coming)), async |_| {});
        tokio::time::timeout(Duration::from_millis(500), run).await
    });
    let Ok(End::Failed { message }) = end else { panic!("{end:?}") };
    assert!(message.starts_with("web-0: "), "{message}");
}

/// Small pieces without a pause are told in time all the same.
#[test]
fn what_is_written_all_the_time_does_not_wait_for_a_pause() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_keeper, may) = watch::channel(9);
    let (tell, mut told) = mpsc::channel(9);
    LocalSet::new().block_on(&runtime, async {
        let written = Written::spawn(|pieces| async move {
            loop {
                let piece = Wrote::Bytes(Channel::Stdout, b"a".to_vec());
                let _ = pieces.send(piece).await;
                tokio::time::sleep(GATHERED_WITHIN / 10).await;
            }
        });
        let of = ("web-0".to_owned(), "web-0".to_owned());
        let read = (std::iter::once(pieces(of, written)).collect(), GATHERED_WITHIN);
        let engine = FakeEngine::default();
        let say = async |streamed| drop(tell.send(streamed).await);
        let running = run(&engine, read, (may, None), say);
        tokio::select! {
            end = running => panic!("{end:?}"),
            streamed = told.recv() => assert!(matches!(streamed, Some(Streamed::Output(_)))),
            () = tokio::time::sleep(Duration::from_secs(10)) => panic!("it waits for a pause"),
        }
    });
}
