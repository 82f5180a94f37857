//! A port of a test's own: each connection gets a thread, until it is closed.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A port of 127.0.0.1 that is listened on; closed when it is dropped.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Listening {
    /// Serves connections to a free port.
    ///
    /// # Panics
    /// Where there is no port.
    #[must_use]
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let is_over = Arc::new(AtomicBool::new(false));
        let (seen, serve) = (Arc::clone(&is_over), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if seen.load(Ordering::Relaxed) {
                    return;
                }
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { address, is_over }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it: nobody listens any more.
    pub fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the one that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop();
    }
}
