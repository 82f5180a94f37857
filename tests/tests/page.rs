//! The page in a real browser: what an operator sees while a release moves, what they may press, and who may not look.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tests::browser::{Browser, CHROMIUM};
use tests::client::versions;
use tests::fleet::{Fleet, binaries};
use tests::http::free_port;
use tests::services::Service;
use tests::skip;

const SOON: Duration = Duration::from_secs(60);
/// What a revoked operator has left.
const CUT_WITHIN: Duration = Duration::from_secs(10);
const DESK: (u32, u32) = (1280, 1000);
const PHONE: (u32, u32) = (360, 740);

/// Every text with less than the contrast that WCAG 2.2, 1.4.3 wants (AA), from what the browser computed.
const TOO_FAINT: &str = r"(() => {
  const parse = (text) => { const n = text.match(/[\d.]+/g).map(Number); return { r: n[0], g: n[1], b: n[2], a: n[3] ?? 1 }; };
  const over = (top, below) => ['r', 'g', 'b'].reduce((all, k) => ({ ...all, [k]: top[k] * top.a + below[k] * (1 - top.a) }), { a: 1 });
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      layers.push(color);
      if (color.a === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), { r: 255, g: 255, b: 255, a: 1 });
  };
  const light = (c) => {
    const [r, g, b] = [c.r, c.g, c.b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  let seen = 0;
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join('');
    if (own === '' || !element.checkVisibility() || element.closest('.unseen, noscript')) continue;
    const style = getComputedStyle(element);
    const below = ground(element);
    const [one, other] = [light(over(parse(style.color), below)), light(below)];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    seen += 1;
    if (ratio < (isLarge ? 3 : 4.5)) faint.push(`${ratio.toFixed(2)} ${element.className || element.tagName}: ${own.slice(0, 40)}`);
  }
  return { seen, faint };
})()";

/// Everything that reaches over the edge, but for what lies in a box that scrolls.
const OVER_THE_EDGE: &str = r"(() => {
  const width = document.documentElement.clientWidth;
  const found = document.documentElement.scrollWidth > width ? ['the page scrolls sideways'] : [];
  for (const element of document.querySelectorAll('body *')) {
    const at = element.getBoundingClientRect();
    if (at.width === 0 || element.closest('.unseen, .skip, .scroll table, svg *')) continue;
    if (at.right > width + 0.5 || at.left < -0.5) found.push(`${element.tagName}.${element.className}: ${at.left} to ${at.right}`);
  }
  return found;
})()";

/// `pith page` of somebody; it ends with this value.
struct Served {
    child: Child,
    url: String,
    port: u16,
}

impl Served {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let url = said["url"].as_str().unwrap().to_owned();
        Self { child, url, port: u16::try_from(said["port"].as_u64().unwrap()).unwrap() }
    }

    fn token(&self) -> &str {
        self.url.split_once("token=").unwrap().1
    }

    /// The answer to a request of these lines: status line, headers and body.
    fn ask(&self, lines: &[&str], body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = lines.join("\r\n");
        let length = body.len();
        let rest = format!("Connection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(format!("{head}\r\n{rest}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PAGE: [&str; 4] = ["page", "--no-open", "-o", "json"];

fn can_run() -> bool {
    skip::has("docker") && skip::has(CHROMIUM)
}

fn picture(name: &str) -> PathBuf {
    binaries().parent().unwrap().join("page").join(name)
}

fn canary(service: &Service) -> Service {
    let steps = "[[rollout.steps]]\nweight = 50\nhold = \"manual\"\n[[rollout.steps]]\nweight = 80\nhold = \"manual\"\n";
    let judged = "[rollout.analysis]\nmin_requests = 0";
    service
        .clone()
        .image("pith-demo:v2")
        .rollout("strategy = \"canary\"")
        .extra(steps)
        .extra(judged)
}

/// The state that the page shows of a rollout, as an expression.
fn shows(revision: u32, state: &str) -> String {
    format!(
        "document.querySelector('[data-rollout=\"web\"][data-revision=\"{revision}\"]')?.dataset.state === '{state}'"
    )
}

fn says(browser: &mut Browser, selector: &str) -> String {
    let text = format!("document.querySelector('{selector}')?.innerText ?? 'nothing'");
    browser.value(&text).as_str().unwrap().to_owned()
}

fn open(browser: &mut Browser, served: &Served) {
    browser.open(&served.url);
    browser.wait_for("the page is live", "document.body.dataset.link === 'live'", SOON);
    assert_eq!(browser.value("location.href.includes('token')"), false, "the address lost it");
}

#[track_caller]
fn check_readable(browser: &mut Browser, what: &str) {
    let found = browser.value(TOO_FAINT);
    assert!(found["seen"].as_u64().unwrap() > 20, "{what}: {found}");
    assert_eq!(found["faint"].as_array().unwrap().len(), 0, "{what}: {found}");
}

#[test]
fn a_deploy_moves_on_the_open_page_and_a_canary_is_judged_and_aborted_there() {
    if !can_run() {
        return;
    }
    let fleet = Fleet::start(2);
    let served = Served::start(fleet.command(&PAGE));
    let mut browser = Browser::start(fleet.scratch());
    browser.look(DESK, "light");
    open(&mut browser, &served);
    let cards = "document.querySelectorAll('[data-node].card').length === 2";
    browser.wait_for("both nodes are there", cards, SOON);

    let port = free_port();
    let service = Service::new("web", port);
    watch_states(&mut browser);
    let file = fleet.file("web.toml", &service.toml());
    let cause = "<img src=x onerror=\"document.title='taken'\">";
    let _ = fleet.pith(&["deploy", "-f", &file, "--cause", cause]).expect_code(0);
    browser.wait_for("the rollout has succeeded", &shows(1, "succeeded"), SOON);
    let seen = browser.value("window.seen.join()");
    assert!(seen.as_str().unwrap().contains("in_progress"), "it was seen under way: {seen}");
    let rollout = says(&mut browser, "[data-rollout=web]");
    assert!(rollout.contains("<img src=x"), "what a person wrote is text: {rollout}");
    assert_ne!(browser.value("document.title"), "taken");
    let said = browser.value("document.getElementById('announcer').textContent");
    assert_eq!(said, "web, revision 1: succeeded", "said aloud");

    let file = fleet.file("canary.toml", &canary(&service).toml());
    let _ = fleet.pith(&["deploy", "-f", &file]).expect_code(4);
    browser.wait_for("the canary waits", &shows(2, "awaiting_promotion"), SOON);
    let _ = versions(fleet.address(1, port), 400);
    let compared =
        "document.querySelectorAll('[data-revision=\"2\"] .compare thead th').length === 2";
    browser.wait_for("old and new are beside each other", compared, SOON);
    let table = says(&mut browser, "[data-revision=\"2\"] .compare");
    assert!(table.contains("Revision 1, stands") && table.contains("Revision 2, new"), "{table}");
    look_at_it(&mut browser);
    let _ = fleet.pith(&["rollout", "promote", "web"]).expect_code(4);
    let here = "document.querySelector('[data-step=here]')?.textContent === '80 %'";
    browser.wait_for("it has gone on to its second step", here, SOON);
    browser.wait_for("and waits there", &shows(2, "awaiting_promotion"), SOON);

    abort_by_keyboard(&mut browser);
    browser.wait_for("it is aborted", &shows(2, "aborted"), SOON);
    assert_eq!(fleet.rollout("web")["state"], "aborted");
    history_and_difference(&mut browser);
    undone_with_a_reason(&fleet, &mut browser, &service.image("pith-demo:v2"));
    pieces_are_put_together(&mut browser);
    assert_eq!(browser.problems(), Vec::<String>::new());
}

/// Keeps every state that the page shows of rollouts.
fn watch_states(browser: &mut Browser) {
    let _ = browser.value(
        "window.seen = []; new MutationObserver(() => { for (const one of document.querySelectorAll('[data-rollout]')) \
         window.seen.push(one.dataset.state); }).observe(document.getElementById('rollouts'), \
         { subtree: true, childList: true, attributes: true }); true",
    );
}

fn look_at_it(browser: &mut Browser) {
    let _ = browser.value("document.querySelector('details.service').open = true");
    browser.wait_for("it is unfolded", "!!document.querySelector('.on-nodes li')", SOON);
    let _ = browser.value("scrollTo(0, 0)");
    browser.picture(&picture("fleet-light.png"));
    check_readable(browser, "light");
    browser.look(DESK, "dark");
    browser.picture(&picture("rollout-dark.png"));
    check_readable(browser, "dark");
    for scheme in ["dark", "light"] {
        browser.look(PHONE, scheme);
        let found = browser.value(OVER_THE_EDGE);
        assert_eq!(found.as_array().unwrap().len(), 0, "{found}");
    }
    browser.picture(&picture("phone-light.png"));
    let _ = browser.value("document.getElementById('nodes').scrollIntoView()");
    browser.picture(&picture("phone-nodes.png"));
    browser.look(DESK, "light");
}

/// From the top of the page with the keyboard alone.
fn abort_by_keyboard(browser: &mut Browser) {
    let _ = browser.value("document.activeElement.blur(); scrollTo(0, 0)");
    let mut passed = Vec::new();
    loop {
        browser.press("Tab");
        let at = browser.value(
            "(() => { const at = document.activeElement; const style = getComputedStyle(at); \
             return [at.dataset.verb ?? at.id ?? at.tagName, style.outlineStyle !== 'none']; })()",
        );
        assert_eq!(at[1], true, "what has the focus shows it: {at}");
        if at[0] == "abort" {
            break;
        }
        passed.push(at[0].clone());
        assert!(passed.len() < 60, "Tab does not come to it: {passed:?}");
    }
    browser.press("Enter");
    browser.wait_for("it asks", "document.getElementById('confirm').open", SOON);
    check_readable(browser, "the question");
    browser.press("Escape");
    browser.wait_for("nothing is done", "!document.getElementById('confirm').open", SOON);
    assert_eq!(browser.value(&shows(2, "awaiting_promotion")), true);
    let back = browser.value("document.activeElement.dataset.verb");
    assert_eq!(back, "abort", "the focus comes back to where it was");
    browser.press("Enter");
    browser.wait_for("it asks again", "document.getElementById('confirm').open", SOON);
    let at = browser.value("document.activeElement.id");
    assert_eq!(at, "confirm-no", "what changes nothing is nearer");
    browser.press("Tab");
    browser.press("Enter");
    browser.wait_for("it is asked for", "!document.getElementById('confirm').open", SOON);
}

fn history_and_difference(browser: &mut Browser) {
    browser.click("details.service .inside .buttons button");
    browser.wait_for(
        "two revisions",
        "document.querySelectorAll('.history > li').length === 2",
        SOON,
    );
    browser.click(".history > li .buttons button");
    browser.wait_for("what they say differently", "!!document.querySelector('.changes dt')", SOON);
    let changes = says(browser, ".changes");
    assert!(changes.contains("pith-demo:v2"), "{changes}");
}

fn undone_with_a_reason(fleet: &Fleet, browser: &mut Browser, service: &Service) {
    let _ = fleet.deploy(service).expect_code(0);
    browser.wait_for("it has succeeded", &shows(3, "succeeded"), SOON);
    browser.click("[data-revision=\"3\"] [data-verb=undo]");
    let _ = browser.call("Input.insertText", &serde_json::json!({ "text": "slower than before" }));
    browser.click("#confirm-yes");
    browser.wait_for("it is back", &shows(4, "succeeded"), SOON);
    let rollout = fleet.rollout("web");
    assert_eq!(rollout["cause"], "slower than before");
    assert_eq!(rollout["image"], "pith-demo:v1");
}

/// However the network cuts what comes.
fn pieces_are_put_together(browser: &mut Browser) {
    let told = browser.value(
        r#"import('/stream.js').then(({ reader, pause }) => {
            const told = [];
            const read = reader((name, data) => told.push(`${name}=${data}`));
            for (const piece of ['event: vi', 'ew\ndata: {"a":', '1}\n', '\n: here\n\nevent: end\n', 'data: x\n\nevent: view\n']) read(piece);
            return [told.join(' '), pause(0, 1), pause(2, 1), pause(99, 1), pause(99, 0)].join(' ');
        })"#,
    );
    assert_eq!(told, "view={\"a\":1} end=x 1000 4000 15000 11250");
}

fn a_broken_stream_is_said_and_mended(browser: &mut Browser, line: &Line) {
    line.is_cut.store(true, Ordering::SeqCst);
    let is_lost = "document.body.dataset.link === 'lost'";
    browser.wait_for("it says that it is not connected", is_lost, SOON);
    let said = says(browser, "#notice");
    assert!(said.contains("trying again in") && said.contains("What is shown is from"), "{said}");
    let greyed = "getComputedStyle(document.getElementById('nodes-section')).opacity < 0.7";
    browser.wait_for("it is greyed", greyed, SOON);
    assert_eq!(
        browser.value("document.querySelectorAll('.card').length"),
        1,
        "the last view stays"
    );
    browser.wait_for("it tries again", "document.body.dataset.link === 'connecting'", SOON);
    line.is_cut.store(false, Ordering::SeqCst);
    browser.wait_for("it comes back", "document.body.dataset.link === 'live'", SOON);
    assert_eq!(browser.value("document.getElementById('notice').hidden"), true);
}

/// A line to the coordinator that somebody can cut.
struct Line {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
}

impl Line {
    fn to(far: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = Self { address: listener.local_addr().unwrap(), is_cut: Arc::default() };
        let is_cut = Arc::clone(&line.is_cut);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(far) else { continue };
                let (up, down) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (one, other) = (Arc::clone(&is_cut), Arc::clone(&is_cut));
                std::thread::spawn(move || pass_on(up, far, &one));
                std::thread::spawn(move || pass_on(down, near, &other));
            }
        });
        line
    }
}

/// Until one side ends or the line is cut; then both are closed.
fn pass_on(mut from: TcpStream, mut to: TcpStream, is_cut: &AtomicBool) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(read) = from.read(&mut bytes) {
        if read == 0 || is_cut.load(Ordering::SeqCst) || to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// `pith …` of somebody with a home of their own.
fn person(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binaries().join("pith"));
    for name in ["PITH_DATA", "PITH_FLEET", "PITH_SOCKET", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    command.args(args).env("HOME", home).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

#[test]
fn a_viewer_sees_the_rollout_without_buttons_over_a_line_that_breaks_and_nothing_once_revoked() {
    if !can_run() {
        return;
    }
    let fleet = Fleet::start(1);
    let service = Service::new("web", free_port());
    let _ = fleet.deploy(&service).expect_code(0);
    let _ = fleet.deploy(&canary(&service)).expect_code(4);
    let probe = fleet.json(&["operator", "invite", "probe", "--role", "viewer"]);
    let line = Line::to(probe["addresses"][0].as_str().unwrap().parse().unwrap());
    let address = line.address.to_string();
    let invite = ["operator", "invite", "vera", "--role", "viewer", "--address", &address];
    let invited = fleet.json(&invite);
    let home = fleet.scratch().join("vera");
    std::fs::create_dir(&home).unwrap();
    let token = invited["token"].as_str().unwrap();
    assert!(person(&home, &["login", token]).output().unwrap().status.success());

    let served = Served::start(person(&home, &PAGE));
    let mut browser = Browser::start(fleet.scratch());
    browser.look(DESK, "light");
    open(&mut browser, &served);
    browser.wait_for("the canary is there", &shows(2, "awaiting_promotion"), SOON);
    assert!(says(&mut browser, "#caller").contains("operator:vera, viewer"));
    browser.click("details.service summary");
    browser.click("details.service .inside .buttons button");
    browser.wait_for(
        "the history",
        "document.querySelectorAll('.history > li').length === 2",
        SOON,
    );
    assert_eq!(browser.value("document.querySelectorAll('.steers').length"), 0, "no buttons");
    assert_eq!(browser.problems(), Vec::<String>::new());
    nobody_else_gets_in(&served);
    assert_eq!(fleet.rollout("web")["state"], "awaiting_promotion");

    a_broken_stream_is_said_and_mended(&mut browser, &line);
    let _ = fleet.pith(&["operator", "revoke", "vera"]).expect_code(0);
    browser.wait_for("it has ended", "document.body.dataset.link === 'ended'", CUT_WITHIN);
    assert!(says(&mut browser, "#notice").contains("may not look any more"));
}

/// What other users and other pages of this machine would try, with as much as they could have.
fn nobody_else_gets_in(served: &Served) {
    let (port, token) = (served.port, served.token());
    let host = format!("Host: 127.0.0.1:{port}");
    let opened = served.ask(&[&format!("GET /?token={token} HTTP/1.1"), &host], "");
    assert!(opened.starts_with("HTTP/1.1 200"), "{opened}");
    for header in [
        "content-security-policy: default-src 'none'",
        "frame-ancestors 'none'",
        "x-frame-options: DENY",
        "httponly",
        "samesite=strict",
    ] {
        assert!(opened.to_lowercase().contains(&header.to_lowercase()), "{header}: {opened}");
    }
    let cookie = opened.lines().find(|line| line.starts_with("set-cookie: ")).unwrap();
    let cookie = cookie.trim_start_matches("set-cookie: ").split(';').next().unwrap();
    let cookie = format!("Cookie: {cookie}");
    let key = format!("x-pith-page: {token}");
    let origin = format!("Origin: http://127.0.0.1:{port}");
    let rebound = format!("Host: evil.example:{port}");
    let look = "GET /v1/rollouts/default/web/history HTTP/1.1";
    let steer = "POST /v1/rollouts/default/web/steer HTTP/1.1";
    let json = "Content-Type: application/json";
    let abort = "{\"verb\":\"abort\"}";
    let status = |lines: &[&str], body: &str| served.ask(lines, body)[9..12].to_owned();
    assert_eq!(status(&[look, &host, &cookie, &key], ""), "200");
    for lines in [
        vec![look, &host],
        vec![look, &host, &cookie],
        vec![look, &host, &key],
        vec![look, &rebound, &cookie, &key],
        vec!["GET / HTTP/1.1", &host],
        vec!["GET /page.js HTTP/1.1", &host],
        vec![look, &host, &cookie, &key, "Origin: http://evil.example"],
    ] {
        assert_eq!(status(&lines, ""), "403", "{lines:?}");
    }
    let refused = served.ask(&[steer, &host, &cookie, &key, &origin, json], abort);
    assert!(refused.contains("403") && refused.contains("needs the role deployer"), "{refused}");
    assert_eq!(status(&[steer, &host, &cookie, &key, json], abort), "403", "no origin");
    // What the page has no button for, nobody does through it.
    let token = "POST /v1/tokens HTTP/1.1";
    assert_eq!(status(&[token, &host, &cookie, &key, &origin, json], "{}"), "404");
}
