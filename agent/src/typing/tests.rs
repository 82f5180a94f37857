//! What is passed on, over real connections.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::*;
use crate::streaming;

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), test).await.expect("it ends")
    })
}

type Typist = (mpsc::Sender<Typed>, watch::Sender<Option<Terminal>>);

fn keyboard() -> (Typist, Typing) {
    let (typed, coming) = mpsc::channel(4);
    let (size, sizes) = watch::channel(None);
    ((typed, size), Typing { typed: coming, sizes })
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_connection_carries_both_ways_and_ends_where_the_other_side_ends_it() {
    run(async {
        let (listener, address) = listener().await;
        let serving = tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = String::new();
            stream.read_to_string(&mut asked).await.unwrap();
            stream.write_all(b"pong").await.unwrap();
            asked
        });
        let ((typed, sizes_of), typing) = keyboard();
        let mut coming = connect(address, typing);
        typed.send(Typed::Bytes(b"pi".to_vec())).await.unwrap();
        typed.send(Typed::Bytes(b"ng".to_vec())).await.unwrap();
        typed.send(Typed::Last).await.unwrap();
        // Nobody resizes a connection.
        drop(sizes_of);
        let mut came = Vec::new();
        while let Some(wrote) = coming.next().await {
            came.push(wrote);
        }
        assert_eq!(serving.await.unwrap(), "ping", "the end of what is sent is seen");
        let pong = Wrote::Bytes(Channel::Stdout, b"pong".to_vec());
        assert_eq!(came, [Wrote::Took, Wrote::Took, Wrote::Took, pong, Wrote::Ended(None)]);
    });
}

#[test]
fn a_port_where_nobody_listens_is_named() {
    run(async {
        let (listener, address) = listener().await;
        drop(listener);
        let (_typist, typing) = keyboard();
        let mut coming = connect(address, typing);
        let Some(Wrote::Failed(message)) = coming.next().await else { panic!("it fails") };
        let port = format!("port {} inside the instance: ", address.port());
        assert!(message.starts_with(&port) && message.contains("refused"), "{message}");
        assert_eq!(coming.next().await, None);
    });
}

/// Whoever forwards is gone: so is the connection, also where its other side reads nothing of what was sent.
#[test]
fn a_connection_ends_with_whoever_opened_it() {
    run(async {
        let (listener, address) = listener().await;
        let ((typed, sizes_of), typing) = keyboard();
        let coming = streaming::connected("web-0", address, typing);
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..4 {
            typed.try_send(Typed::Bytes(vec![b'a'; 8 * 1024 * 1024])).unwrap();
        }
        tokio::task::yield_now().await;
        drop((coming, typed, sizes_of));
        let mut some = 0;
        let mut bytes = vec![0; 64 * 1024];
        // An end, or a reset where what was sent is thrown away.
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            some += count;
        }
        assert!(some < 32 * 1024 * 1024, "{some}");
    });
}

/// What a terminal gets whose typist is gone without a word.
#[test]
fn a_terminal_is_hung_up_and_a_pipe_is_closed() {
    for (other, last) in [(Other::Terminal, &b"\x03\x04"[..]), (Other::Pipe, &[][..])] {
        let got = run(async {
            let (mut there, here) = tokio::io::duplex(1024);
            let ((typed, sizes_of), typing) = keyboard();
            let (pieces, mut told) = mpsc::channel(4);
            typed.send(Typed::Bytes(b"ls\n".to_vec())).await.unwrap();
            let weak = pieces.downgrade();
            let passing = pass_on((here, other), typing, weak, async |_| {});
            let passing = tokio::task::spawn_local(passing);
            assert_eq!(told.recv().await, Some(Wrote::Took));
            drop((typed, sizes_of));
            let mut got = Vec::new();
            there.read_to_end(&mut got).await.unwrap();
            passing.await.unwrap();
            got
        });
        assert_eq!(got, [b"ls\n", last].concat());
    }
}

#[test]
fn the_end_of_input_and_sizes_reach_a_terminal_as_a_terminal_knows_them() {
    run(async {
        let (mut there, here) = tokio::io::duplex(1024);
        let ((typed, sizes_of), typing) = keyboard();
        let (pieces, mut told) = mpsc::channel(4);
        let (sized, mut sizes) = mpsc::channel(4);
        let weak = pieces.downgrade();
        tokio::task::spawn_local(pass_on(
            (here, Other::Terminal),
            typing,
            weak,
            async move |size| {
                sized.send(size).await.unwrap();
            },
        ));
        let size = Terminal { rows: 50, columns: 132 };
        sizes_of.send_replace(Some(Terminal { rows: 1, columns: 1 }));
        sizes_of.send_replace(Some(size));
        typed.send(Typed::Last).await.unwrap();
        assert_eq!(sizes.recv().await, Some(size), "the newest");
        assert_eq!(told.recv().await, Some(Wrote::Took), "a size is not answered");
        let mut got = [0];
        there.read_exact(&mut got).await.unwrap();
        assert_eq!(got, *END_OF_INPUT);
    });
}
