//! A terminal, as a person has one (a pty, by util-linux's `script`).

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::fleet::binaries;
use crate::wait::until;

const SOON: Duration = Duration::from_secs(40);
/// The other screen of a terminal, back from it, and the cursor (xterm, ctlseqs: DECSET 1049 and 25).
pub const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";
const CURSOR: &str = "\x1b[?25h";

/// A `pith` on a terminal of its own, of 24 lines and 80 columns, and what the terminal gets.
#[derive(Debug)]
pub struct OnTerminal {
    script: Child,
    got: Receiver<Vec<u8>>,
    seen: String,
}

impl OnTerminal {
    /// Runs `pith ARGS` of the fleet in this folder. Its process id is written to the terminal before, its exit code and the terminal's settings
    /// afterwards.
    ///
    /// # Panics
    /// Where `script` (util-linux) cannot be run.
    #[must_use]
    pub fn start(data: &Path, args: &str) -> Self {
        let pith = binaries().join("pith").display().to_string();
        let inside = format!(
            "stty rows 24 cols 80; sh -c 'echo pid=$$.; exec {pith} {args}'; echo code=$?.; stty -a"
        );
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-c", &inside, "/dev/null"]);
        command.env("PITH_DATA", data).env("TERM", "xterm-256color");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut script = command.spawn().expect("a terminal");
        let mut out = script.stdout.take().expect("a terminal");
        let (tell, got) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut bytes) {
                if tell.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { script, got, seen: String::new() }
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn press(&mut self, keys: &str) {
        let stdin = self.script.stdin.as_mut().expect("a terminal");
        stdin.write_all(keys.as_bytes()).and_then(|()| stdin.flush()).expect("a terminal");
    }

    /// Waits until the terminal gets this after what it got before, and gives what stood between. What is there already, letter by
    /// letter, is not sent again.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn sees(&mut self, text: &str) -> String {
        let (between, rest) = until(&format!("{text:?} on the terminal"), SOON, || {
            while let Ok(more) = self.got.try_recv() {
                self.seen.push_str(&String::from_utf8_lossy(&more));
            }
            let (between, rest) = self.seen.split_once(text)?;
            Some((between.to_owned(), rest.to_owned()))
        });
        self.seen = rest;
        between
    }

    /// The terminal is as it was: its first screen, a cursor, lines and an echo.
    ///
    /// # Panics
    /// When it is not, or the program ended with another code.
    #[track_caller]
    pub fn gives_back(mut self, code: i32) {
        let _ = self.sees(LEFT);
        let _ = self.sees(CURSOR);
        self.ends(code);
    }

    /// The program ends, and the terminal has lines and an echo.
    ///
    /// # Panics
    /// When it has not, or the program ended with another code.
    #[track_caller]
    pub fn ends(mut self, code: i32) {
        let _ = self.sees("code=");
        assert_eq!(self.sees("."), code.to_string());
        for setting in [" icanon", " echo "] {
            let _ = self.sees(setting);
        }
        assert!(self.script.wait().expect("a terminal").success());
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
