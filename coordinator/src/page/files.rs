//! The files of the page, as they are in this program.

/// One file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) kind: &'static str,
    pub(super) text: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The document itself.
pub(super) static INDEX: File =
    File { path: "/", kind: "text/html; charset=utf-8", text: include_str!("index.html") };

/// What it brings.
pub(super) static FILES: [File; 9] = [
    File { path: "/page.css", kind: "text/css; charset=utf-8", text: include_str!("page.css") },
    File { path: "/page.js", kind: SCRIPT, text: include_str!("page.js") },
    File { path: "/stream.js", kind: SCRIPT, text: include_str!("stream.js") },
    File { path: "/dom.js", kind: SCRIPT, text: include_str!("dom.js") },
    File { path: "/chart.js", kind: SCRIPT, text: include_str!("chart.js") },
    File { path: "/nodes.js", kind: SCRIPT, text: include_str!("nodes.js") },
    File { path: "/services.js", kind: SCRIPT, text: include_str!("services.js") },
    File { path: "/rollouts.js", kind: SCRIPT, text: include_str!("rollouts.js") },
    File { path: "/asking.js", kind: SCRIPT, text: include_str!("asking.js") },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What the browser's policy would refuse is not written in the first place, and what a node says is text, never markup.
    #[test]
    fn the_files_hold_no_script_or_style_in_line_and_write_no_markup() {
        for word in ["<style", " style=", "onclick=", "javascript:", "<script>"] {
            assert!(!INDEX.text.contains(word), "index.html has `{word}`");
        }
        for file in &FILES {
            let banned = [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "setAttribute('style'",
                "DOMParser",
                "createContextualFragment",
                "@import",
            ];
            for word in banned {
                assert!(!file.text.contains(word), "{} has `{word}`", file.path);
            }
        }
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere_and_every_file_is_served() {
        for file in FILES.iter().chain([&INDEX]) {
            let without_names = file.text.replace("http://www.w3.org/2000/svg", "");
            let without_names = without_names.replace("http://127.0.0.1", "");
            for word in ["http://", "https://", "url(", "//cdn"] {
                assert!(!without_names.contains(word), "{} has `{word}`", file.path);
            }
            for line in file.text.lines().filter(|line| line.trim_start().starts_with("import ")) {
                let from = line.split('\'').nth(1).expect("a module in single quotes");
                let path = from.strip_prefix('.').expect("a module beside this one");
                assert!(FILES.iter().any(|other| other.path == path), "{}: {line}", file.path);
            }
        }
    }
}
