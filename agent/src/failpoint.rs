//! Places where a test may kill the agent: before and after each step it takes. Compiled in only with the feature
//! `failpoints`; without it nothing is read and nothing happens.
//!
//! `PITH_FAILPOINT=step:<n>:before|after` kills with SIGKILL at the n-th step, counted from 1 over all processes that
//! share the file `PITH_FAILPOINT_COUNT`; `PITH_FAILPOINT=@FILE` reads the same from a file each time. `PITH_FAILPOINT_LOG=<file>` gets one line per step.

/// A step is about to be taken; returns its number.
#[cfg(not(feature = "failpoints"))]
#[must_use]
pub fn before(_step: &str) -> u64 {
    0
}

/// Step `number` was taken.
#[cfg(not(feature = "failpoints"))]
pub fn after(_number: u64) {}

/// An agent begins; one that a test has spoilt ends or hangs here.
#[cfg(not(feature = "failpoints"))]
pub const fn begin() {}

#[cfg(feature = "failpoints")]
pub use armed::{after, before, begin};

#[cfg(feature = "failpoints")]
mod armed {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU64, Ordering};

    static STEPS: AtomicU64 = AtomicU64::new(0);

    /// What a test writes over in a copy of the program: `exit`, `fall` or `hang` instead of `none`.
    #[used]
    static FATE: [u8; 21] = *b"pith-agent-fate:none;";

    /// An agent begins; one that a test has spoilt ends or hangs here.
    pub fn begin() {
        let written: &'static [u8; 21] = std::hint::black_box(&FATE);
        match &written[16..20] {
            b"exit" => std::process::exit(1),
            b"fall" => panic!("a test has spoilt this agent"),
            // Until a watchdog ends it.
            b"hang" => loop {
                std::thread::park();
            },
            _ => {}
        }
    }

    /// A step is about to be taken; returns its number.
    #[must_use]
    pub fn before(step: &str) -> u64 {
        let number = count();
        if let Some(path) = std::env::var_os("PITH_FAILPOINT_LOG") {
            append(&PathBuf::from(path), &format!("{number} {step}\n"));
        }
        die_at(number, "before");
        number
    }

    /// Step `number` was taken.
    pub fn after(number: u64) {
        die_at(number, "after");
    }

    fn count() -> u64 {
        let Some(path) = std::env::var_os("PITH_FAILPOINT_COUNT") else {
            return STEPS.fetch_add(1, Ordering::Relaxed) + 1;
        };
        let path = PathBuf::from(path);
        append(&path, ".");
        std::fs::metadata(&path).map_or(0, |metadata| metadata.len())
    }

    fn die_at(number: u64, side: &str) {
        let Ok(wanted) = std::env::var("PITH_FAILPOINT") else { return };
        let wanted = match wanted.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(file).unwrap_or_default(),
            None => wanted,
        };
        if wanted == format!("step:{number}:{side}") {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::SIGKILL);
            // SIGKILL is on its way; nothing more may happen.
            std::process::abort();
        }
    }

    fn append(path: &PathBuf, text: &str) {
        let file = OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(text.as_bytes())) {
            tracing::error!(path = %path.display(), %error, "failpoint file");
        }
    }
}
