//! A small systemd for tests: starts a program again whenever it ends, ends it when it does not say that it goes on, and follows it to
//! the process that it names as its successor (sd_notify(3): `WATCHDOG=1`, `MAINPID=`).

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Without a word for this long, a program hangs. Generous: the machine may be busy.
pub const HANGS_AFTER: Duration = Duration::from_secs(10);
const AGAIN_AFTER: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(100);

/// A unit with `Restart=always` and `WatchdogSec=`.
#[derive(Debug)]
pub struct Supervised {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    main: AtomicU32,
    starts: AtomicU32,
}

impl Supervised {
    /// Runs what `make` gives, until it is dropped; `folder` gets its log and socket.
    ///
    /// # Panics
    /// When the socket cannot be made.
    #[must_use]
    pub fn start(name: &str, folder: &Path, make: impl Fn() -> Command + Send + 'static) -> Self {
        let seen = Arc::new(Seen::default());
        let (log, path) =
            (folder.join(format!("{name}.log")), folder.join(format!("{name}.notify")));
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(LOOK)).expect("a timeout");
        let of_thread = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            while !of_thread.stop.load(Ordering::SeqCst) {
                run(make(), &log, (&path, &socket), &of_thread);
                std::thread::sleep(AGAIN_AFTER);
            }
        });
        Self { seen, thread: Some(thread) }
    }

    /// The main process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.seen.main.load(Ordering::SeqCst)
    }

    /// How often it was started.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.seen.starts.load(Ordering::SeqCst)
    }

    /// What the main process runs.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        fs::read_link(format!("/proc/{}/exe", self.pid())).unwrap_or_default()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One life, and those that follow it without an end between.
fn run(mut command: Command, log: &Path, (path, socket): (&PathBuf, &UnixDatagram), seen: &Seen) {
    let out = fs::File::options().create(true).append(true).open(log).expect("a log");
    let err = out.try_clone().expect("a second handle");
    command.env("NOTIFY_SOCKET", path);
    command.env("WATCHDOG_USEC", (HANGS_AFTER / 2).as_micros().to_string());
    command.env("WATCHDOG_PID", "0");
    let mut child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().expect("it runs");
    let first = child.id();
    let (mut main, mut heard, mut bytes) = (first, Instant::now(), [0; 512]);
    seen.main.store(main, Ordering::SeqCst);
    seen.starts.fetch_add(1, Ordering::SeqCst);
    loop {
        if let Ok(length) = socket.recv(&mut bytes) {
            heard = Instant::now();
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let named = text.lines().find_map(|line| line.strip_prefix("MAINPID="));
            if let Some(pid) = named.and_then(|pid| pid.trim().parse().ok()) {
                main = pid;
                seen.main.store(main, Ordering::SeqCst);
            }
        }
        let has_ended = child.try_wait().expect("a child").is_some();
        let is_gone = if main == first { has_ended } else { !is_alive(main) };
        let is_over = seen.stop.load(Ordering::SeqCst) || heard.elapsed() > HANGS_AFTER;
        if is_over && !is_gone {
            let _ = Command::new("kill").args(["-KILL", &main.to_string()]).status();
        }
        if is_gone || is_over {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
    }
}

/// One that has ended and is not yet waited for still has a folder, and a state of Z.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
