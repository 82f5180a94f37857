//! The terminal, the keys, the coordinator and the clock around the model. The terminal is given back as it was, however this ends:
//! by a key, an error, SIGTERM, SIGHUP or a panic.

use std::io::{self, Stdout, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use protocol::id::EnvironmentName;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::{cursor, execute, terminal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::gather::{Answer, EVERY, ask, now_here_ms};
use super::model::{Key, Model, Then};
use super::view::{self, Paint};
use crate::cli::signals::{HUNG_UP, Signals};
use crate::cli::sources::is_away;
use crate::cli::{CliError, Exit};
use crate::client::{Client, ClientError};

/// Keys that were pressed and not taken yet.
const MAX_WAITING: usize = 64;
/// Between an answer and the next question, also where much happens.
const REST: Duration = Duration::from_millis(200);
/// So many times what an answer took: a large fleet costs its coordinator no more for it.
const RESTS: u32 = 4;
/// How long it takes at most until the reader of keys sees that nobody wants any.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Runs until somebody has seen enough.
///
/// # Errors
/// Where there is no such terminal, and what the coordinator refuses; one that is away is waited for.
pub(super) async fn run(
    client: &Client,
    environment: Option<&EnvironmentName>,
    mut model: Model,
) -> Result<Exit, CliError> {
    let failed = |error: io::Error| CliError::failed(format_args!("the terminal: {error}"));
    let mut signals = Signals::new().map_err(failed)?;
    let mut screen = Screen::open().map_err(failed)?;
    let (told, mut keys) = mpsc::channel(MAX_WAITING);
    let reader = Reader::start(told);
    let (answer, mut answers) = mpsc::channel(1);
    let asking = tokio::spawn(follow(client.clone(), environment.cloned(), answer));
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = loop {
        if let Err(error) = screen.draw(&mut model) {
            break Err(failed(error));
        }
        // Cancel-safe: each arm takes a whole event from its queue, or nothing.
        tokio::select! {
            pressed = keys.recv() => match pressed {
                Some(Pressed::Key(key)) => if model.press(key, now_here_ms()) == Then::Quit {
                    break Ok(Exit::Done);
                },
                Some(Pressed::Resized) => {}
                // The terminal is gone.
                None => break Ok(Exit::Of(HUNG_UP)),
            },
            answer = answers.recv() => match answer {
                Some(Ok(answer)) => model.take(answer, now_here_ms()),
                Some(Err(error)) if is_away(&error) => model.miss(),
                Some(Err(error)) => break Err(error.into()),
                None => break Err(CliError::failed("nobody asks the coordinator any more")),
            },
            exit = signals.any() => break Ok(if exit == Exit::Interrupted { Exit::Done } else { exit }),
            _ = second.tick() => {}
        }
    };
    asking.abort();
    drop(reader);
    drop(screen);
    end
}

/// Asks again and again, a coordinator that is away too; ends with the first refusal.
async fn follow(
    client: Client,
    environment: Option<EnvironmentName>,
    tell: mpsc::Sender<Result<Answer, ClientError>>,
) {
    let (mut known, mut took) = (None, Duration::ZERO);
    loop {
        sleep(REST.max(took * RESTS)).await;
        let _ = timeout(EVERY, news(&client, environment.as_ref(), known)).await;
        let began = Instant::now();
        let answer = ask(&client, environment.as_ref()).await;
        took = began.elapsed();
        known = answer.as_ref().ok().map(|answer| answer.services.version);
        if tell.send(answer).await.is_err() {
            return;
        }
    }
}

/// Ends once something in the fleet is another than what is `known`; what is known of nothing ends with the time that it has.
async fn news(client: &Client, environment: Option<&EnvironmentName>, known: Option<u64>) {
    let newer = match known {
        Some(known) => client.services(environment, Some(known)).await.is_ok(),
        None => false,
    };
    if !newer {
        // A coordinator that is away is not asked in a rush.
        std::future::pending().await
    }
}

/// The terminal's other screen, without echo, lines and cursor, for as long as this is there.
struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    paint: Paint,
}

impl Screen {
    fn open() -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |what| {
            give_back();
            before(what);
        }));
        terminal::enable_raw_mode()?;
        let opened = execute!(stdout(), terminal::EnterAlternateScreen, cursor::Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let paint = if is_plain { Paint::Plain } else { Paint::Colours };
        match opened {
            Ok(terminal) => Ok(Self { terminal, paint }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    fn draw(&mut self, model: &mut Model) -> io::Result<()> {
        let size = self.terminal.size()?;
        model.measure(usize::from(size.width), usize::from(size.height.saturating_sub(2)));
        let paint = self.paint;
        self.terminal.draw(|frame| view::draw(frame, model, paint, now_here_ms()))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Does what it can: a terminal that is gone needs nothing back.
fn give_back() {
    let _ = execute!(stdout(), terminal::LeaveAlternateScreen, cursor::Show);
    let _ = terminal::disable_raw_mode();
}

/// What the terminal says.
enum Pressed {
    Key(Key),
    Resized,
}

/// Reads keys on a thread of its own, until this is dropped.
struct Reader {
    is_over: Arc<AtomicBool>,
}

impl Reader {
    fn start(tell: mpsc::Sender<Pressed>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                let event = match event::poll(KEY_WAIT) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(error) => Err(error),
                };
                let Ok(event) = event else { return };
                let Some(pressed) = pressed(&event) else { continue };
                if tell.blocking_send(pressed).is_err() {
                    return;
                }
            }
        });
        Self { is_over }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn pressed(event: &Event) -> Option<Pressed> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => key_of(key).map(Pressed::Key),
        Event::Resize(..) => Some(Pressed::Resized),
        Event::Key(_) | Event::FocusGained | Event::FocusLost => None,
        Event::Mouse(_) | Event::Paste(_) => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the terminal's keys are not ours to list")]
fn key_of(key: &KeyEvent) -> Option<Key> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | 'd') => Some(Key::Interrupt),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Tab | KeyCode::Right => Key::NextPane,
        KeyCode::BackTab | KeyCode::Left => Key::PaneBefore,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Char(c) => Key::Char(c),
        _ => return None,
    })
}
