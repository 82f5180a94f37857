//! A real Chromium without a window, driven over the DevTools protocol (<https://chromedevtools.github.io/devtools-protocol/>): JSON
//! documents that end with a zero byte, over descriptors 3 and 4 (`--remote-debugging-pipe`). One page at a time.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::wait::until;

/// The program, as `tests/setup/packages.sh` installs it.
pub const CHROMIUM: &str = "chromium";
/// An answer that takes longer will not come; generous, for busy machines.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// What the browser does not do of itself: ask others, save power, show a first run.
const QUIET: [&str; 12] = [
    "--headless=new",
    // Root has no sandbox of its own, and a container often none at all; what is opened here is ours.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--no-first-run",
    "--force-color-profile=srgb",
];

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: mpsc::Receiver<Value>,
    session: String,
    target: String,
    last: u64,
    /// What the page's console and the browser's log said is wrong.
    problems: RefCell<Vec<String>>,
}

impl Browser {
    /// A browser that keeps its profile and log in `folder`, with an empty page.
    ///
    /// # Panics
    /// When it cannot be started; shows its log.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        let log = fs::File::create(folder.join("chromium.log")).expect("a log");
        let profile = format!("--user-data-dir={}", folder.join("profile").display());
        // Its descriptors 3 and 4 are our pipes; a shell hands them on.
        let hand_on = "exec \"$@\" 3<&0 4>&1 0</dev/null 1>&2";
        let mut child = Command::new("sh")
            .args(["-c", hand_on, "sh", CHROMIUM, "--remote-debugging-pipe", &profile])
            .args(QUIET)
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("a shell");
        let to = child.stdin.take().expect("a pipe");
        let out = child.stdout.take().expect("a pipe");
        let (heard, from) = mpsc::channel();
        std::thread::spawn(move || {
            for document in BufReader::new(out).split(0).map_while(Result::ok) {
                if let Ok(value) = serde_json::from_slice(&document)
                    && heard.send(value).is_err()
                {
                    return;
                }
            }
        });
        let (session, target) = (String::new(), String::new());
        let problems = RefCell::default();
        let mut browser = Self { child, to, from, session, target, last: 0, problems };
        let made = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        browser.target = made["targetId"].as_str().expect("a target").to_owned();
        let attach = json!({ "targetId": browser.target, "flatten": true });
        let attached = browser.call("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            let _ = browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// One call of the protocol, and its result.
    ///
    /// # Panics
    /// When it is refused or not answered.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        self.last += 1;
        let mut request = json!({ "id": self.last, "method": method, "params": params });
        if !self.session.is_empty() {
            request["sessionId"] = self.session.clone().into();
        }
        let mut bytes = request.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("the browser runs");
        loop {
            let heard = self.from.recv_timeout(ANSWER_WITHIN);
            let heard = heard.unwrap_or_else(|e| panic!("{method} is not answered: {e}"));
            if heard["id"] == self.last {
                assert!(heard["error"].is_null(), "{method}: {}", heard["error"]);
                return heard["result"].clone();
            }
            self.note(&heard);
        }
    }

    fn note(&self, heard: &Value) {
        let params = &heard["params"];
        let problem = match heard["method"].as_str() {
            Some("Runtime.exceptionThrown") => params["exceptionDetails"].to_string(),
            Some("Runtime.consoleAPICalled")
                if ["error", "warning", "assert"].iter().any(|kind| params["type"] == *kind) =>
            {
                params["args"].to_string()
            }
            Some("Log.entryAdded")
                if ["error", "warning"].iter().any(|level| params["entry"]["level"] == *level) =>
            {
                format!("{} ({})", params["entry"]["text"], params["entry"]["url"])
            }
            Some(_) | None => return,
        };
        self.problems.borrow_mut().push(problem);
    }

    /// Opens an address and waits until it is loaded.
    ///
    /// # Panics
    /// When it is not loaded.
    #[track_caller]
    pub fn open(&mut self, address: &str) {
        let opened = self.call("Page.navigate", &json!({ "url": address }));
        assert!(opened["errorText"].is_null(), "{address}: {opened}");
        self.wait_for("the page is loaded", "document.readyState === 'complete'", ANSWER_WITHIN);
    }

    /// The value of an expression in the page; a promise is waited for.
    ///
    /// # Panics
    /// When it throws.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", &params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// When it is not within `limit`; shows what the page says then.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, expression: &str, limit: Duration) {
        let begun = std::time::Instant::now();
        until(what, limit.saturating_mul(2), || {
            if self.value(expression) == Value::Bool(true) {
                return Some(());
            }
            if begun.elapsed() > limit {
                let text = self.value("document.body.innerText");
                panic!("not within {limit:?}: {what}; the page says:\n{text}");
            }
            None
        });
    }

    /// Clicks the middle of the first element that is meant, as a mouse does.
    ///
    /// # Panics
    /// When there is none, or something else lies over it.
    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        let find = format!(
            "(() => {{ const found = document.querySelector({}); if (!found) return null; \
             found.scrollIntoView({{ block: 'center' }}); const at = found.getBoundingClientRect(); \
             const [x, y] = [at.x + at.width / 2, at.y + at.height / 2]; \
             return {{ x, y, hits: found.contains(document.elementFromPoint(x, y)) }}; }})()",
            json!(selector)
        );
        let found = self.value(&find);
        assert_eq!(found["hits"], true, "{selector} is not there to be clicked: {found}");
        for kind in ["mousePressed", "mouseReleased"] {
            let params = json!({
                "type": kind, "x": found["x"], "y": found["y"], "button": "left", "clickCount": 1
            });
            let _ = self.call("Input.dispatchMouseEvent", &params);
        }
    }

    /// Presses a key such as `Tab` or `Enter`.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            other => panic!("no code is known of the key {other}"),
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code
            });
            if kind == "keyDown" && !text.is_empty() {
                params["text"] = text.into();
            }
            let _ = self.call("Input.dispatchKeyEvent", &params);
        }
    }

    /// The size of the window, and whether the person likes it dark.
    pub fn look(&mut self, (width, height): (u32, u32), scheme: &str) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false
        });
        let _ = self.call("Emulation.setDeviceMetricsOverride", &size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let _ = self.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Writes what is to be seen into a file, a PNG.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn picture(&mut self, file: &Path) {
        let shot = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        let bytes = BASE64.decode(shot["data"].as_str().expect("a picture")).expect("base64");
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(file, bytes).expect("a file");
    }

    /// What the console and the browser's log called wrong so far.
    #[must_use]
    pub fn problems(&mut self) -> Vec<String> {
        // What came before this answer is noted by then.
        let _ = self.value("1");
        self.problems.borrow().clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends with its pipe as well, and its children with it.
        let request = json!({ "id": self.last + 1, "method": "Browser.close" });
        let _ = self.to.write_all(format!("{request}\0").as_bytes());
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
