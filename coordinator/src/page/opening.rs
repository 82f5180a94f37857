//! Opens the page in the person's browser, where there is one.
//!
//! The address has the token in it, and what a program is started with can be read by everybody on the machine (proc(5)). So the
//! browser is given a file that only this user can read, and that leads on to the address.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::data_dir::{random, write_whole};

/// What opens things here.
#[cfg(target_os = "macos")]
const OPENER: &str = "open";
#[cfg(not(target_os = "macos"))]
const OPENER: &str = "xdg-open";

/// A file that leads a browser to the page; it goes with this value.
#[derive(Debug)]
pub struct Opened {
    folder: PathBuf,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Whether a browser would show up: by what the environment says of a display.
fn has_display(display: Option<&str>, wayland: Option<&str>) -> bool {
    let is_set = |value: Option<&str>| value.is_some_and(|value| !value.is_empty());
    cfg!(target_os = "macos") || is_set(display) || is_set(wayland)
}

/// Opens this address in the person's browser; none where there is no display. The browser may still fail to show it, which nobody
/// says.
///
/// # Errors
/// Where the file cannot be written or the opener not be started.
pub fn open(address: &str) -> io::Result<Option<Opened>> {
    let of = |name| std::env::var(name).ok();
    if !has_display(of("DISPLAY").as_deref(), of("WAYLAND_DISPLAY").as_deref()) {
        return Ok(None);
    }
    let base = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let opened = write(&base.map_or_else(std::env::temp_dir, PathBuf::from), address)?;
    std::process::Command::new(OPENER)
        .arg(opened.folder.join("page.html"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Some(opened))
}

fn write(base: &Path, address: &str) -> io::Result<Opened> {
    use std::os::unix::fs::DirBuilderExt as _;
    let name: [u8; 8] = random().map_err(io::Error::other)?;
    let folder = base.join(format!("pith-page-{:016x}", u64::from_be_bytes(name)));
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let opened = Opened { folder };
    let text = format!(
        "<!doctype html><meta charset=\"utf-8\"><meta name=\"referrer\" content=\"no-referrer\">\
         <meta http-equiv=\"refresh\" content=\"0;url={address}\"><title>Pith</title>\n"
    );
    write_whole(&opened.folder.join("page.html"), text.as_bytes())?;
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_token_lies_where_nobody_else_can_read_it_and_is_gone_with_the_page() {
        let base = tempfile::tempdir().unwrap();
        let opened = write(base.path(), "http://127.0.0.1:1/?token=abc").unwrap();
        let file = opened.folder.join("page.html");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&opened.folder), mode(&file)), (0o700, 0o600));
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("0;url=http://127.0.0.1:1/?token=abc\""), "{text}");
        drop(opened);
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn a_machine_without_a_display_opens_nothing() {
        assert!(!has_display(None, None) && !has_display(Some(""), None));
        assert!(has_display(Some(":0"), None) && has_display(None, Some("wayland-0")));
    }
}
